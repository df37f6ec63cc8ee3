//! How much memory is in the peer's hands, and how much does a message cost?

#[path = "../common/mod.rs"]
mod common;
mod counting;
mod deflate;

use bytes::Bytes;
use common::*;
use counting::{Usage, measured};
use http::{Response, StatusCode};
use sockeye_proto::{
    Event, Extension, Inbound, Limits, Message, Role,
    handshake::client::{MAX_REFUSAL_BODY, Offer},
    outbound,
};

/// Beside the payload: the box around a message that is being collected, the shared count of what
/// is handed over.
const SMALL: isize = 256;

/// No power of two, so that a buffer that just doubles overshoots.
const LIMIT: usize = 300_001;

fn limited(role: &Role) -> Inbound {
    Inbound::new(role, &Limits::default().message_size(LIMIT), Extension::None)
}

/// Feeds `bytes` in place, in pieces of `size`, and drops each event at once; the events' count.
fn feed_in_place(inbound: &mut Inbound, bytes: &mut [u8], size: usize) -> usize {
    let mut events = 0;
    for mut input in bytes.chunks_mut(size) {
        while let Some(event) = inbound.next(&mut input).expect("a valid stream") {
            drop(event);
            events += 1;
        }
    }
    events
}

/// Messages of the kind and length, whole or in fragments of `fragment` bytes.
fn message(role: &Role, kind: u8, length: usize, fragment: usize) -> Vec<u8> {
    let payload = vec![b'x'; length];
    let last = length.div_ceil(fragment).max(1) - 1;
    let mut bytes = Vec::new();
    for (n, piece) in payload.chunks(fragment).enumerate() {
        let opcode = if n == 0 { kind } else { CONTINUATION };
        bytes.extend(frame(role, if n == last { FIN | opcode } else { opcode }, piece));
    }
    bytes
}

#[test]
fn a_message_in_pieces_holds_no_more_than_the_limit_and_leaves_nothing_behind() {
    for role in ROLES {
        for kind in [TEXT, BINARY] {
            for fragment in [LIMIT, 100_000, 1000, 7] {
                for piece in [1, 100, 65_536] {
                    let mut bytes = message(&role, kind, LIMIT, fragment);
                    let mut inbound = limited(&role);
                    let (events, Usage { held, peak, total }) =
                        measured(|| feed_in_place(&mut inbound, &mut bytes, piece));
                    let case = format!("{role:?} {kind} in {fragment} and {piece}");
                    assert_eq!(events, 1, "{case}");
                    assert!(peak <= LIMIT as isize + SMALL, "{peak} held, {case}");
                    assert!(total <= 3 * LIMIT + SMALL as usize, "{total} allocated, {case}");
                    assert_eq!(held, 0, "{case}");
                }
            }
        }
    }
}

#[test]
fn memory_grows_with_what_has_arrived_and_not_with_what_was_announced() {
    for role in ROLES {
        for first in [FIN | TEXT, FIN | BINARY, TEXT, BINARY] {
            let mut bytes = frame(&role, first, &[b'x'; LIMIT]);
            let mut inbound = limited(&role);
            for arrived in [0, 1, 10, 1000, 10_000] {
                let mut inbound = limited(&role);
                let bytes = &mut bytes.clone()[..14 + arrived];
                let (_, used) = measured(|| feed_in_place(&mut inbound, bytes, 100));
                let most = 2 * arrived as isize + SMALL;
                assert!(used.peak <= most, "{} held of {arrived}, {role:?}", used.peak);
            }
            let (_, idle) = measured(|| feed_in_place(&mut inbound, &mut bytes[..2], 1));
            assert_eq!(idle.peak, 0, "a header that is not complete");
        }
    }
}

#[test]
fn a_message_far_below_the_limit_costs_in_proportion_to_itself() {
    for role in ROLES {
        for fragment in [1, 10, 1000] {
            let mut bytes = message(&role, BINARY, 1025, fragment);
            let mut inbound = limited(&role);
            let (_, used) = measured(|| feed_in_place(&mut inbound, &mut bytes, 1));
            // Doubling to the next power of two holds at most twice the length, and has asked for
            // as much again on the way.
            assert!(used.peak <= 2 * 1025 + SMALL, "{} held", used.peak);
            assert!(used.total <= 4 * 1025 + SMALL as usize, "{} allocated", used.total);
        }
    }
}

#[test]
fn empty_fragments_hold_nothing_but_their_count() {
    for role in ROLES {
        let mut bytes = frame(&role, TEXT, b"");
        bytes.extend(frame(&role, CONTINUATION, b"").repeat(60_000));
        let mut inbound = limited(&role);
        let (_, used) = measured(|| feed_in_place(&mut inbound, &mut bytes, 1000));
        assert!(used.peak <= SMALL, "{} held", used.peak);
        assert!(used.total <= SMALL as usize, "{} allocated", used.total);
    }
}

#[test]
fn an_unfinished_message_is_let_go_by_an_error_and_by_a_close_frame() {
    for role in ROLES {
        for end in [frame(&role, FIN | CLOSE, b""), frame(&role, FIN | TEXT, b"")] {
            let mut bytes = [frame(&role, TEXT, &[b'x'; 1000]), end].concat();
            let mut inbound = limited(&role);
            let ((), used) = measured(|| {
                let mut input = &mut bytes[..];
                while let Ok(Some(_)) = inbound.next(&mut input) {}
            });
            assert!(used.peak >= 1000);
            assert_eq!(used.held, 0);
        }
    }
}

#[test]
fn whole_messages_and_control_frames_in_the_buffer_allocate_nothing() {
    for role in ROLES {
        let mut frames = Vec::new();
        for length in [0, 1, 20, 125, 126, 1000, 65_536] {
            frames.push(frame(&role, FIN | TEXT, &vec![b'x'; length]));
            frames.push(frame(&role, FIN | BINARY, &vec![0xff; length]));
            frames.push(frame(&role, FIN | RSV1 | TEXT, &vec![0xff; length]));
            frames.push(frame(&role, FIN | PING, &vec![0; length.min(125)]));
            frames.push(frame(&role, FIN | PONG, &vec![0; length.min(125)]));
        }
        let mut together = frames.concat();
        let whole = together.len();
        let mut inbound = Inbound::new(&role, &Limits::default(), Extension::Rsv1);
        let (events, used) = measured(|| {
            let each = |bytes: &mut Vec<u8>| feed_in_place(&mut inbound, bytes, whole);
            let alone: usize = frames.iter_mut().map(each).sum();
            (alone, feed_in_place(&mut inbound, &mut together, whole))
        });
        assert_eq!(events, (35, 35));
        assert_eq!((used.total, used.peak), (0, 0));
    }
}

#[test]
fn a_message_that_arrived_in_pieces_is_kept_without_a_copy() {
    for role in ROLES {
        for kind in [TEXT, BINARY] {
            let mut bytes = message(&role, kind, LIMIT, 1000);
            let mut inbound = limited(&role);
            let mut event = None;
            for mut input in bytes.chunks_mut(100) {
                event = inbound.next(&mut input).expect("a valid stream");
            }
            let Some(Event::Message(message)) = event else { panic!("no message: {event:?}") };
            let (message, used) = measured(|| message.into_owned());
            assert_eq!(message.len(), LIMIT);
            assert!(used.total <= SMALL as usize, "{} allocated", used.total);
        }
    }
}

#[test]
fn encoding_into_room_that_is_there_allocates_nothing() {
    for role in ROLES {
        let data = vec![0xff; 70_000];
        let letters = "x".repeat(70_000);
        let mut wire = Vec::with_capacity(200_000);
        let ((), used) = measured(|| {
            for length in [0, 1, 125, 126, 65_536] {
                outbound::message(&role, &Message::from(&data[..length]), &mut wire);
                outbound::message(&role, &Message::from(&letters[..length]), &mut wire);
                wire.clear();
            }
            outbound::server_header(&Message::from(&data), &mut wire);
        });
        assert_eq!((used.total, used.peak), (0, 0));
    }
}

/// A slice of a large buffer keeps all of it: cutting off is not enough to let go.
#[test]
fn of_the_body_of_a_refusal_no_more_than_8_kib_are_kept_in_memory() {
    let offer = Offer::new([7; 16], None::<String>).expect("nothing to refuse");
    let (error, used) = measured(|| {
        let mut response = Response::new(Bytes::from(vec![b'x'; 1024 * 1024]));
        *response.status_mut() = StatusCode::FORBIDDEN;
        offer.check(response).expect_err("403 opens nothing")
    });
    assert_eq!(error.response.body().len(), MAX_REFUSAL_BODY);
    let most = (MAX_REFUSAL_BODY + 2048) as isize;
    assert!(used.held <= most, "{} bytes held for a body of {MAX_REFUSAL_BODY}", used.held);
}
