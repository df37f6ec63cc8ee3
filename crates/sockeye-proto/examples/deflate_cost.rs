//! What compression costs: memory of the parts, and time and length of messages.
//!
//! The figures in `src/deflate/deflater.rs` come from here; run it with `--release`.

#[path = "../tests/memory/counting.rs"]
mod counting;

use std::{hint::black_box, time::Instant};

use counting::measured;
use sockeye_proto::{
    Limits, Role,
    deflate::{Context, Deflater, Inflater, Level, Parameters, WindowBits},
};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

fn main() {
    memory();
    for length in [64, 200, 1000, 16_384] {
        println!("\nmessages of {length} bytes: us each, and per cent of the length");
        println!("level bits | kept by zlib-rs | from a context | no takeover | inflated");
        for level in [1, 3, 6] {
            for bits in [9, 11, 12, 13, 15] {
                compress(length, level, bits);
            }
        }
    }
}

fn memory() {
    println!("bytes of a compressor in zlib-rs, by window bits and mem_level");
    for bits in [9, 12, 15] {
        for mem_level in [1, 8] {
            let config =
                DeflateConfig { window_bits: -bits, mem_level, ..DeflateConfig::default() };
            let (_zlib, used) = measured(|| Deflate::new_with_config(config));
            println!("{bits:2} bits, mem_level {mem_level}: {}", used.held);
        }
    }
    let (_inflater, used) = measured(Inflater::new);
    println!("a decompressor: {}", used.held);
    for bits in [9, 12, 15] {
        let mut context = context(bits, false);
        let ((), used) = measured(|| context.on_sent(&text(65_536, 1)));
        println!("a context of {bits} bits: {} and {}", size_of::<Context>(), used.held);
    }
}

fn compress(length: usize, at: u8, bits: u8) {
    let messages: Vec<_> = (0..500).map(|n| text(length, n)).collect();
    let before = text(1 << bits, 1000);
    let rounds = 1_000_000 / (length + 500);
    let level = Level::new(at).expect("1 to 9");
    let mut output = vec![0; 2 * length + 100];

    let mut zlib = Deflate::new(at.into(), false, bits);
    let kept = time(rounds, |n| {
        let start = zlib.total_out();
        let message = &messages[n % messages.len()];
        zlib.compress(message, &mut output, DeflateFlush::SyncFlush).expect("a good stream");
        (zlib.total_out() - start) as usize
    });
    let mut deflater = Deflater::new();
    let mut from = |mut context: Context| {
        context.on_sent(&before);
        time(rounds, |n| {
            deflater.compress(&messages[n % messages.len()], level, &mut context, &mut output);
            output.len()
        })
    };
    let (taken_over, alone) = (from(context(bits, false)), from(context(bits, true)));
    let (mut inflater, mut inflated) = (Inflater::new(), Vec::new());
    let (mut sending, mut payloads) = (context(bits, false), Vec::new());
    for message in &messages {
        let mut payload = Vec::new();
        deflater.compress(message, level, &mut sending, &mut payload);
        payloads.push(payload);
    }
    let mut receiving = context(bits, false);
    for payload in &payloads {
        let limits = Limits::default();
        inflater.inflate(payload, &mut receiving, &limits, &mut inflated).expect("ours");
    }
    // Over and over: what comes out is nonsense, and takes as long.
    let (inflating, _) = time(rounds, |n| {
        let limits = Limits::default();
        let payload = &payloads[n % payloads.len()];
        inflater.inflate(payload, &mut receiving, &limits, &mut inflated).expect("in the window");
        0
    });
    let per_cent = |bytes: f64| 100.0 * bytes / length as f64;
    println!(
        "{at:5} {bits:4} | {:8.2} {:4.0} % | {:7.2} {:4.0} % | {:5.2} {:3.0} % | {inflating:.2}",
        kept.0,
        per_cent(kept.1),
        taken_over.0,
        per_cent(taken_over.1),
        alone.0,
        per_cent(alone.1),
    );
}

fn context(bits: u8, no_takeover: bool) -> Context {
    let parameters = Parameters {
        server_max_window_bits: WindowBits::new(bits),
        server_no_context_takeover: no_takeover,
        ..Parameters::default()
    };
    parameters.sending(&Role::Server)
}

/// The best of five in microseconds, and the mean length.
fn time(rounds: usize, mut work: impl FnMut(usize) -> usize) -> (f64, f64) {
    let mut best = f64::MAX;
    let mut bytes = 0;
    for _ in 0..5 {
        let started = Instant::now();
        bytes = (0..rounds).map(|n| black_box(work(n))).sum::<usize>();
        best = best.min(started.elapsed().as_secs_f64() * 1e6 / rounds as f64);
    }
    (best, bytes as f64 / rounds as f64)
}

/// Something like JSON, different for each seed.
fn text(length: usize, seed: u64) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "\"user\":",
        "\"text\":\"",
        "hello",
        "price",
        "update\",",
        "true,",
        "false,",
        "{\"id\":",
        "},",
        "\"time\":1732",
        "anna",
        "room",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = Vec::new();
    while text.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.extend_from_slice(WORDS[(state % 12) as usize].as_bytes());
        if state.is_multiple_of(5) {
            text.extend_from_slice((state % 100_000).to_string().as_bytes());
        }
    }
    text.truncate(length);
    text
}
