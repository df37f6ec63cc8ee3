//! Does exactly the limit pass, and one more fail, as soon as it is announced?

mod common;

use common::*;
use sockeye_proto::{Extension, Inbound, Limits, ProtocolError, Role};

fn with(role: &Role, limits: Limits) -> Inbound {
    Inbound::new(role, &limits, Extension::None)
}

fn too_large(size: u64, limit: usize) -> Option<ProtocolError> {
    Some(ProtocolError::MessageTooLarge { size, limit })
}

/// Feeds a header and no payload: the error comes with its last byte, neither before nor after.
fn assert_fails_at_the_header(inbound: &mut Inbound, header: &[u8], error: Option<ProtocolError>) {
    assert_ne!(error, None);
    let (last, before) = header.split_last().expect("a header");
    assert_eq!(feed(inbound, before), (vec![], None));
    assert_eq!(feed(inbound, &[*last]), (vec![], error));
}

#[test]
fn a_single_frame_of_the_message_limit_passes_and_one_byte_more_fails_at_the_header() {
    for role in ROLES {
        for limit in [0, 1, 125, 126, 65_535, 65_536] {
            let mut inbound = with(&role, Limits::default().message_size(limit));
            let data = vec![b'x'; limit];
            let bytes =
                [frame(&role, FIN | BINARY, &data), frame(&role, FIN | TEXT, &data)].concat();
            let events = vec![binary(&data), text(&"x".repeat(limit))];
            assert_eq!(feed(&mut inbound, &bytes), (events.clone(), None));
            assert_eq!(feed_in_chunks(&mut inbound, &bytes, &[7]), (events, None));

            let size = limit as u64 + 1;
            let header = header(&role, FIN | TEXT, size);
            assert_fails_at_the_header(&mut inbound, &header, too_large(size, limit));
        }
    }
}

#[test]
fn fragments_of_the_message_limit_pass_and_one_byte_more_fails_at_the_header() {
    for role in ROLES {
        let limits = Limits::default().message_size(10);
        let start = [frame(&role, TEXT, b"four"), frame(&role, CONTINUATION, b"four")].concat();
        let mut inbound = with(&role, limits);
        for end in [&b"ab"[..], b"", b"a"] {
            let bytes = [&start[..], &frame(&role, FIN | CONTINUATION, end)].concat();
            let whole = format!("fourfour{}", String::from_utf8_lossy(end));
            assert_eq!(feed(&mut inbound, &bytes), (vec![text(&whole)], None));
        }
        assert_eq!(feed(&mut inbound, &start), (vec![], None));
        // The ping between the fragments does not count, nor do the messages before.
        assert_eq!(feed(&mut inbound, &frame(&role, FIN | PING, &[0; 125])).1, None);
        let header = header(&role, CONTINUATION, 3);
        assert_fails_at_the_header(&mut inbound, &header, too_large(11, 10));
    }
}

#[test]
fn the_largest_length_there_is_fails_at_the_header_first_or_continued() {
    const LARGEST: u64 = u64::MAX >> 1;
    let limit = Limits::default().message_size;
    for role in ROLES {
        let first = header(&role, FIN | BINARY, LARGEST);
        assert_fails_at_the_header(&mut plain(&role), &first, too_large(LARGEST, limit));

        let mut inbound = plain(&role);
        assert_eq!(feed(&mut inbound, &frame(&role, BINARY, &[0; 1000])), (vec![], None));
        let next = header(&role, FIN | CONTINUATION, LARGEST);
        assert_fails_at_the_header(&mut inbound, &next, too_large(LARGEST + 1000, limit));
    }
}

#[test]
fn without_a_bound_of_its_own_the_largest_length_is_waited_for_and_not_reserved() {
    for role in ROLES {
        let limits = Limits::default().message_size(usize::MAX);
        let mut inbound = with(&role, limits);
        let bytes = [header(&role, FIN | BINARY, u64::MAX >> 1), vec![0; 100]].concat();
        assert_eq!(feed_in_chunks(&mut inbound, &bytes, &[1]), (vec![], None));
        assert!(inbound.is_incomplete());
    }
}

#[test]
fn a_frame_of_the_frame_limit_passes_and_one_byte_more_fails_at_the_header() {
    for role in ROLES {
        let limits = Limits::default().frame_size(5);
        let error = Some(ProtocolError::FrameTooLarge { size: 6, limit: 5 });
        let mut inbound = with(&role, limits.clone());
        let bytes = [
            frame(&role, BINARY, b"12345"),
            // The limit is one of data; a control frame has 125 bytes of its own.
            frame(&role, FIN | PING, b"a ping of more"),
            frame(&role, CONTINUATION, b"67890"),
            frame(&role, FIN | CONTINUATION, b"12345"),
        ]
        .concat();
        let events = vec![ping(b"a ping of more"), binary(b"123456789012345")];
        assert_eq!(feed(&mut inbound, &bytes), (events, None));

        assert_eq!(feed(&mut inbound, &frame(&role, BINARY, b"")), (vec![], None));
        let continued = header(&role, FIN | CONTINUATION, 6);
        assert_fails_at_the_header(&mut inbound, &continued, error.clone());
        let first = header(&role, FIN | TEXT, 6);
        assert_fails_at_the_header(&mut with(&role, limits), &first, error);
    }
}

#[test]
fn as_many_fragments_as_the_limit_pass_and_one_more_fails_at_the_header() {
    for role in ROLES {
        let limits = Limits::default().fragments(3);
        let error = Some(ProtocolError::TooManyFragments(3));
        let start = [frame(&role, TEXT, b""), frame(&role, CONTINUATION, b"")].concat();
        let mut inbound = with(&role, limits);
        // Twice, as the count is one of each message and not of the connection.
        for _ in 0..2 {
            let whole = [&start[..], &frame(&role, FIN | CONTINUATION, b"x")].concat();
            assert_eq!(feed(&mut inbound, &whole), (vec![text("x")], None));
        }
        let third = [&start[..], &frame(&role, CONTINUATION, b"")].concat();
        assert_eq!(feed(&mut inbound, &third), (vec![], None));
        // A control frame is no fragment.
        assert_eq!(feed(&mut inbound, &frame(&role, FIN | PONG, b"")), (vec![pong(b"")], None));
        let fourth = header(&role, FIN | CONTINUATION, 1);
        assert_fails_at_the_header(&mut inbound, &fourth, error);
    }
}

#[test]
fn a_limit_of_one_fragment_takes_whole_messages_alone() {
    for role in ROLES {
        let mut inbound = with(&role, Limits::default().fragments(1));
        let whole = frame(&role, FIN | TEXT, b"whole").repeat(3);
        assert_eq!(feed(&mut inbound, &whole), (vec![text("whole"); 3], None));
        let two = [frame(&role, TEXT, b"a"), frame(&role, FIN | CONTINUATION, b"b")].concat();
        let error = Some(ProtocolError::TooManyFragments(1));
        assert_eq!(feed(&mut inbound, &two), (vec![], error));
    }
}

#[test]
fn endless_empty_fragments_end_with_the_default_limits() {
    let limit = Limits::default().fragments;
    for role in ROLES {
        let mut inbound = plain(&role);
        assert_eq!(feed(&mut inbound, &frame(&role, TEXT, b"")), (vec![], None));
        let empty = frame(&role, CONTINUATION, b"").repeat(limit as usize - 1);
        assert_eq!(feed(&mut inbound, &empty), (vec![], None));
        let error = Some(ProtocolError::TooManyFragments(limit));
        assert_eq!(feed(&mut inbound, &frame(&role, CONTINUATION, b"")), (vec![], error));
    }
}

#[test]
fn no_bound_is_missing_by_default() {
    let limits = Limits::default();
    assert_eq!(limits.message_size, 1024 * 1024);
    assert_eq!(limits.fragments, 131_072);
    assert_eq!(limits.message_time.as_secs(), 60);
    assert_eq!(limits.control_rate, 1000);
}
