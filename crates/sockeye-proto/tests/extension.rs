//! What does RSV1 mean once an extension has been negotiated (RFC 6455 sections 5.2 and 5.8)?

mod common;

use bytes::Bytes;
use common::*;
use sockeye_proto::{Event, Extension, Inbound, Limits, OpCode, ProtocolError, Role};

const NOT_UTF_8: &[u8] = b"\xff\xfe\x00";

fn extended(role: &Role) -> Inbound {
    Inbound::new(role, &Limits::default(), Extension::Rsv1)
}

#[test]
fn a_message_with_rsv1_comes_raw_and_is_not_checked_to_be_text() {
    for role in ROLES {
        for (bits, kind) in [(TEXT, OpCode::Text), (BINARY, OpCode::Binary)] {
            for payload in [NOT_UTF_8, b""] {
                let bytes = frame(&role, FIN | RSV1 | bits, payload);
                let event = Event::Extended(kind, payload.into());
                assert_eq!(feed(&mut extended(&role), &bytes), (vec![event], None));
            }
        }
    }
}

#[test]
fn a_fragmented_message_has_rsv1_on_its_first_frame_alone() {
    for role in ROLES {
        let bytes = [
            frame(&role, RSV1 | TEXT, &NOT_UTF_8[..1]),
            frame(&role, FIN | PING, b""),
            frame(&role, CONTINUATION, &NOT_UTF_8[1..2]),
            frame(&role, FIN | CONTINUATION, &NOT_UTF_8[2..]),
        ]
        .concat();
        let events = vec![ping(b""), Event::Extended(OpCode::Text, NOT_UTF_8.into())];
        assert_eq!(feed(&mut extended(&role), &bytes), (events, None));
    }
}

#[test]
fn a_message_without_rsv1_is_still_a_plain_one_and_checked() {
    for role in ROLES {
        let mut inbound = extended(&role);
        let raw = frame(&role, FIN | RSV1 | TEXT, NOT_UTF_8);
        let bytes = [raw, frame(&role, FIN | TEXT, b"plain")].concat();
        let events = vec![Event::Extended(OpCode::Text, NOT_UTF_8.into()), text("plain")];
        assert_eq!(feed(&mut inbound, &bytes), (events, None));
        let bad = frame(&role, FIN | TEXT, NOT_UTF_8);
        assert_eq!(feed(&mut inbound, &bad), (vec![], Some(ProtocolError::InvalidUtf8)));
    }
}

#[test]
fn rsv1_on_a_continuation_or_a_control_frame_is_an_error() {
    for role in ROLES {
        let after_start =
            |start, first| [frame(&role, start, b""), frame(&role, first, b"")].concat();
        for bytes in [
            after_start(RSV1 | TEXT, FIN | RSV1 | CONTINUATION),
            after_start(TEXT, RSV1 | CONTINUATION),
            frame(&role, FIN | RSV1 | CONTINUATION, b""),
            frame(&role, FIN | RSV1 | PING, b""),
            frame(&role, FIN | RSV1 | PONG, b""),
            frame(&role, FIN | RSV1 | CLOSE, b""),
        ] {
            let error = Some(ProtocolError::ReservedBits);
            assert_eq!(feed(&mut extended(&role), &bytes), (vec![], error), "{bytes:x?}");
        }
    }
}

#[test]
fn the_extension_gives_no_meaning_to_rsv2_and_rsv3() {
    for role in ROLES {
        for bits in [RSV2, RSV3, RSV1 | RSV2, RSV1 | RSV3] {
            let bytes = frame(&role, FIN | bits | TEXT, b"");
            let error = Some(ProtocolError::ReservedBits);
            assert_eq!(feed(&mut extended(&role), &bytes), (vec![], error), "{bits:#x}");
        }
    }
}

/// Noise of exactly the limit gets longer when it is compressed, and has to pass.
#[test]
fn what_the_extension_is_to_undo_may_be_longer_than_the_limit_by_an_eighth() {
    let limits = Limits::default().message_size(1000);
    let most = 1000 + 125 + 64;
    for role in ROLES {
        let payload = vec![7; most];
        let exact = frame(&role, FIN | RSV1 | BINARY, &payload);
        let (first, second) = payload.split_at(600);
        let in_fragments =
            [frame(&role, RSV1 | BINARY, first), frame(&role, FIN | CONTINUATION, second)].concat();
        for bytes in [exact, in_fragments] {
            let mut inbound = Inbound::new(&role, &limits, Extension::Rsv1);
            let event = Event::Extended(OpCode::Binary, Bytes::from(payload.clone()).into());
            assert_eq!(feed(&mut inbound, &bytes), (vec![event], None));
        }
        for (bits, size) in [(RSV1, most + 1), (0, 1001)] {
            let mut inbound = Inbound::new(&role, &limits, Extension::Rsv1);
            let longer = header(&role, FIN | bits | BINARY, size as u64);
            let error = ProtocolError::MessageTooLarge { size: size as u64, limit: 1000 };
            assert_eq!(feed(&mut inbound, &longer), (vec![], Some(error)));
        }
    }
}
