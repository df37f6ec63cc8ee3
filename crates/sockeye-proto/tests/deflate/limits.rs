//! What a peer can make this side do with a compressed message.

use std::time::{Duration, Instant};

use super::{compress, peer, unbounded};
use crate::common::*;
use sockeye_proto::{
    CloseCode, Limits, ProtocolError as E,
    deflate::{Deflater, Inflater, Level},
};

const MIB: usize = 1024 * 1024;

fn inflate(payload: &[u8], limits: &Limits) -> (Result<(), E>, Vec<u8>) {
    let mut inflated = Vec::new();
    let mut context = unbounded().receiving(&SERVER);
    let result = Inflater::new().inflate(payload, &mut context, limits, &mut inflated);
    (result, inflated)
}

fn compressed(message: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    let mut context = unbounded().sending(&SERVER);
    Deflater::new().compress(message, Level::SHORTEST, &mut context, &mut compressed);
    compressed
}

#[test]
fn exactly_the_limit_passes_and_one_byte_more_ends_with_1009() {
    for limit in [0, 1, 2, 100, 255, 256, 257, 1000, 65_535, 65_536, 65_537, 300_001, MIB] {
        let limits = Limits::default().message_size(limit);
        for style in [
            peer::Style { block: peer::Block::Stored, is_final: false, block_size: 60_000 },
            peer::Style { block: peer::Block::Literals, is_final: true, block_size: 5000 },
        ] {
            let message: Vec<u8> = (0..=limit).map(|n| (n * n % 251) as u8).collect();
            let exact = peer::deflate(b"", 0, &message[..limit], style);
            assert_eq!(inflate(&exact, &limits), (Ok(()), message[..limit].to_vec()), "{limit}");
            let (result, inflated) = inflate(&peer::deflate(b"", 0, &message, style), &limits);
            let error = E::MessageTooLarge { size: limit as u64 + 1, limit };
            assert_eq!(error.close_code(), CloseCode::TOO_BIG);
            assert_eq!(result, Err(error), "{limit}");
            assert!(inflated.len() <= limit);
        }
    }
}

#[test]
fn a_million_zeros_pass_and_a_bomb_ends_with_1009() {
    let zeros = vec![0; 1_000_000];
    let limits = Limits::default();
    let payload = compressed(&zeros);
    assert!(payload.len() < 1100, "{}", payload.len());
    assert_eq!(inflate(&payload, &limits), (Ok(()), zeros));
    let bomb = compressed(&vec![0; 64 * MIB]);
    let (result, inflated) = inflate(&bomb, &limits);
    assert_eq!(result, Err(E::MessageTooLarge { size: MIB as u64 + 1, limit: MIB }));
    assert!(inflated.capacity() <= MIB, "{}", inflated.capacity());
}

#[test]
fn a_ratio_ends_a_bomb_long_before_the_limit_and_lets_short_messages_pass() {
    let limits = Limits::default().inflation(20);
    let payload = compressed(&[0; 500_000]);
    let most = 20 * payload.len();
    let (result, inflated) = inflate(&payload, &limits);
    assert_eq!(result, Err(E::InflatesTooMuch(20)));
    assert!(inflated.capacity() <= most, "{} of {most}", inflated.capacity());
    for length in [4095, 4096] {
        let zeros = vec![0; length];
        assert_eq!(inflate(&compressed(&zeros), &limits), (Ok(()), zeros));
    }
    assert!(inflate(&compressed(&[0; 4097]), &limits).0.is_err());
    // A smaller limit for messages is still the one that counts.
    let (result, _) = inflate(&payload, &limits.message_size(3000));
    assert_eq!(result, Err(E::MessageTooLarge { size: 3001, limit: 3000 }));
}

#[test]
fn the_ratio_itself_passes() {
    let message = vec![7; 200_000];
    let payload = compressed(&message);
    let exact = message.len().div_ceil(payload.len()) as u32;
    assert_eq!(inflate(&payload, &Limits::default().inflation(exact)).0, Ok(()));
    let less = Limits::default().inflation(exact - 1);
    assert_eq!(inflate(&payload, &less).0, Err(E::InflatesTooMuch(exact - 1)));
}

#[test]
fn final_blocks_for_the_sake_of_their_work_end_with_1008() {
    for (length, most) in [(0, 256), (64_000, 1256)] {
        // A final block without contents, and stored bytes to pay for more of them.
        let stored =
            peer::Style { block: peer::Block::Stored, is_final: false, block_size: 65_000 };
        let paid = peer::deflate(b"", 0, &vec![7; length], stored);
        let paid = &paid[..paid.len() - 1];
        let payload = |blocks: usize| [paid, &[0x03, 0x00].repeat(blocks), &[0x00]].concat();
        assert_eq!(inflate(&payload(most), &Limits::default()), (Ok(()), vec![7; length]));
        let (result, _) = inflate(&payload(2 * most), &Limits::default());
        assert_eq!(result, Err(E::TooManyFinalBlocks));
    }
}

/// The worst that 1 MiB can ask for, each a kind of block that makes work and nothing else. None
/// takes more than a tenth of a second; the limit here is for slow machines.
#[test]
fn a_megabyte_of_the_most_expensive_blocks_is_done_in_linear_time() {
    let mut start = compress(&mut unbounded().sending(&SERVER), &[b'x'; 40_000]);
    start.extend([0x00, 0x00, 0xff, 0xff]);
    for (name, block) in [
        ("empty and stored", &[0x00, 0x00, 0x00, 0xff, 0xff][..]),
        ("empty and final", &[0x03, 0x00]),
        ("empty and dynamic", &peer::empty_dynamic_block()),
        ("a byte each", &[0x4a, 0x04, 0x00, 0x00, 0x00, 0xff, 0xff]),
    ] {
        let started = Instant::now();
        let payload = [&start, &block.repeat(MIB / block.len())[..]].concat();
        let (result, inflated) = inflate(&payload, &Limits::default());
        let is_refused = matches!(result, Err(E::TooManyFinalBlocks));
        assert_eq!((is_refused, inflated.len() >= 40_000), (block == [3, 0], true), "{name}");
        assert!(started.elapsed() < Duration::from_secs(3), "{name}: {:?}", started.elapsed());
    }
}
