//! Does what a peer makes of compression end with the right code, within the limits?

use sockeye::{Close, CloseCode, ClosedBy, Compression, Config, Limits};

use crate::{
    content::PLAIN_STYLE,
    side::{self, Call, OFFER, Side},
    soon,
    wire::{BINARY, TEXT},
};

fn sides() -> [Side; 3] {
    [Side::shared(), Side::dedicated(), Side::client()]
}

/// What comes of these frames: how many messages, and the code of the close frame, if there is one.
async fn outcome(side: &Side, limits: Limits, frames: &[(u8, Vec<u8>)]) -> (usize, Option<u16>) {
    let config = Config::default().limits(limits);
    let (socket, mut calls, mut wire) = side.connect(config, 1 << 22, None).await;
    for (opcode, payload) in frames {
        let frame = wire.compressed(*opcode, payload);
        wire.write(&frame).await;
    }
    crate::settle().await;
    let mut messages = 0;
    let mut close = None;
    while let Ok(call) = calls.try_recv() {
        match call {
            Call::Message(_) => messages += 1,
            Call::Close(Close { code, by, .. }) => {
                assert_eq!(by, ClosedBy::Local);
                close = Some(code);
            }
            Call::Open(_) | Call::Drain(_) => {}
        }
    }
    let code = match close {
        Some(CloseCode(code)) => {
            assert_eq!(soon(wire.recv_close()).await, code);
            Some(code)
        }
        None => None,
    };
    assert_eq!(code.is_some(), socket.state() != sockeye::State::Open);
    (messages, code)
}

/// So many zeros, as short as DEFLATE gets: a reference of 258 bytes takes two bits.
pub(crate) fn zeros(length: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    let flags = miniz_oxide::deflate::core::create_comp_flags_from_zip_params(9, -15, 0);
    let mut compressor = miniz_oxide::deflate::core::CompressorOxide::new(flags);
    let sync = miniz_oxide::deflate::core::TDEFLFlush::Sync;
    miniz_oxide::deflate::core::compress_to_output(
        &mut compressor,
        &vec![0; length],
        sync,
        |bytes| {
            payload.extend_from_slice(bytes);
            true
        },
    );
    assert!(payload.ends_with(&[0x00, 0x00, 0xff, 0xff]));
    payload.truncate(payload.len() - 4);
    payload
}

#[tokio::test(start_paused = true)]
async fn a_bomb_is_1009_and_a_million_zeros_are_not_too_much() {
    let bomb = zeros(50_000_000);
    assert!(bomb.len() < 51_000, "{} bytes are a thousandth", bomb.len());
    for side in sides() {
        let limits = Limits::default();
        let million = (BINARY, zeros(1_000_000));
        let outcome = async |frames: &[_]| outcome(&side, limits.clone(), frames).await;
        assert_eq!(outcome(&[million.clone(), million.clone()]).await, (2, None));
        assert_eq!(outcome(&[million, (BINARY, bomb.clone())]).await, (1, Some(1009)));
        assert_eq!(outcome(&[(BINARY, zeros(1 << 20))]).await, (1, None), "exactly the limit");
        assert_eq!(outcome(&[(BINARY, zeros((1 << 20) + 1))]).await, (0, Some(1009)));
    }
}

/// The peer's largest message is as long as may be, one more byte is too much, however it is cut.
#[tokio::test(start_paused = true)]
async fn exactly_the_limit_passes_and_one_byte_more_is_1009() {
    for side in sides() {
        for length in [500, 16_384, 100_000, 128 * 1024 + 1] {
            for more in [0, 1] {
                let config = Config::default().limits(Limits::default().message_size(length));
                let (_socket, mut calls, mut wire) = side.connect(config, 65_536, None).await;
                let message = vec![7; length + more];
                let frames = wire.message(BINARY, &message, Some(PLAIN_STYLE), &[5, 0]);
                soon(wire.write(&frames)).await;
                if more == 0 {
                    assert!(side::message(&mut calls).await.as_bytes() == message);
                } else {
                    assert_eq!(soon(wire.recv_close()).await, 1009, "{side:?}, {length}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_for_inflation_is_kept_to_beyond_4_kib() {
    for side in sides() {
        for (ratio, length, code) in [
            (100, 4096, None),
            (100, 20_000, Some(1009)),
            (500, 500_000, Some(1009)),
            (2000, 500_000, None),
        ] {
            let limits = Limits::default().inflation(ratio);
            let frames = [(BINARY, zeros(length))];
            let outcome = outcome(&side, limits, &frames).await;
            assert_eq!(outcome, (usize::from(code.is_none()), code), "{side:?}, {length}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_inflate_or_is_no_text_is_1007() {
    for side in sides() {
        // "Hello" of RFC 7692 section 7.2.3.1, and the same without its last two bytes.
        let hello = vec![0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let cut = hello[..5].to_vec();
        let outcome = async |frames: &[_]| outcome(&side, Limits::default(), frames).await;
        assert_eq!(outcome(&[(TEXT, hello.clone()), (TEXT, vec![0])]).await, (2, None));
        assert_eq!(outcome(&[(TEXT, hello.clone()), (TEXT, cut)]).await, (1, Some(1007)));
        assert_eq!(outcome(&[(BINARY, vec![0xff; 20])]).await, (0, Some(1007)));
        // A stored block of one byte, which no text has.
        let stored = vec![0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00];
        assert_eq!(outcome(&[(BINARY, stored.clone())]).await, (1, None));
        assert_eq!(outcome(&[(TEXT, stored)]).await, (0, Some(1007)));
    }
}

/// What refers to the message before it, or beyond the window, is an error where that was not agreed.
#[tokio::test(start_paused = true)]
async fn a_reference_beyond_what_was_agreed_is_1007() {
    let window = |bits| Compression::Dedicated { window_bits: crate::bits(bits) };
    let none = "permessage-deflate; client_no_context_takeover";
    for (side, code) in [
        (Side::dedicated(), None),
        (Side::Server(window(12), OFFER.into()), None),
        (Side::Server(window(9), OFFER.into()), Some(1007)),
        (Side::Server(window(12), none.into()), Some(1007)),
        (Side::shared(), Some(1007)),
        (Side::client(), None),
        (Side::Client("permessage-deflate; server_max_window_bits=10".into()), None),
        (Side::Client("permessage-deflate; server_max_window_bits=9".into()), Some(1007)),
        (Side::Client("permessage-deflate; server_no_context_takeover".into()), Some(1007)),
    ] {
        let first = crate::content::noise(600);
        let again = crate::deflate::deflate(&first, 1024, &first[..50], PLAIN_STYLE);
        let alone = crate::deflate::deflate(b"", 1024, &first, PLAIN_STYLE);
        let frames = [(BINARY, alone), (BINARY, again)];
        let outcome = outcome(&side, Limits::default(), &frames).await;
        assert_eq!(outcome, (2 - usize::from(code.is_some()), code), "{side:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rsv1_is_1002_where_it_means_nothing() {
    for (side, first) in [
        (Side::Server(Compression::Off, OFFER.into()), 0xc1),
        (Side::Server(Compression::Shared, "x-other".into()), 0xc2),
        (Side::shared(), 0xc9),
        (Side::dedicated(), 0xc8),
        (Side::client(), 0xca),
        (Side::client(), 0xa1),
        (Side::shared(), 0x91),
    ] {
        let (_socket, _calls, mut wire) = side.connect(Config::default(), 1000, None).await;
        let frame = wire.raw(first, b"");
        wire.write(&frame).await;
        assert_eq!(soon(wire.recv_close()).await, 1002, "{side:?}");
    }
    // On a continuation.
    let (_socket, _calls, mut wire) = Side::shared().connect(Config::default(), 1000, None).await;
    for first in [0x41, 0xc0] {
        let frame = wire.raw(first, b"");
        wire.write(&frame).await;
    }
    assert_eq!(soon(wire.recv_close()).await, 1002);
}
