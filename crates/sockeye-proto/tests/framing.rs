//! Are frames read and written as RFC 6455 section 5 has them, by both roles?

mod common;

use std::sync::atomic::{AtomicU8, Ordering};

use common::*;
use sockeye_proto::{
    CloseCode, CloseFrame, Event, Header, MAX_HEADER, Message, OpCode, Role, outbound,
};

const HELLO: &[u8] = b"\x81\x05Hello";
const MASKED_HELLO: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";

#[test]
fn a_header_is_written_in_its_shortest_form_and_read_back_at_every_length_boundary() {
    let lengths: &[(u64, &[u8])] = &[
        (0, &[0]),
        (1, &[1]),
        (125, &[125]),
        (126, &[126, 0, 126]),
        (127, &[126, 0, 127]),
        (65_535, &[126, 0xff, 0xff]),
        (65_536, &[127, 0, 0, 0, 0, 0, 1, 0, 0]),
        (u64::MAX >> 1, &[127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ];
    let opcodes = [
        (OpCode::Continuation, CONTINUATION),
        (OpCode::Text, TEXT),
        (OpCode::Binary, BINARY),
        (OpCode::Close, CLOSE),
        (OpCode::Ping, PING),
        (OpCode::Pong, PONG),
    ];
    for (payload_len, length_bytes) in lengths {
        for (opcode, bits) in opcodes {
            if opcode.is_control() && *payload_len > 125 {
                continue;
            }
            for (fin, rsv1, mask) in [
                (true, false, None),
                (true, true, None),
                (true, false, Some(KEY)),
                (opcode.is_control(), false, Some(KEY)),
            ] {
                let header = Header { fin, rsv1, opcode, mask, payload_len: *payload_len };
                let mut expected = vec![bits];
                expected[0] |= if fin { FIN } else { 0 } | if rsv1 { RSV1 } else { 0 };
                expected.extend_from_slice(length_bytes);
                if let Some(key) = mask {
                    expected[1] |= 0x80;
                    expected.extend_from_slice(&key);
                }
                let mut out = [0xee; MAX_HEADER];
                assert_eq!(header.write(&mut out), expected);
                let with_payload = [&expected[..], b"payload"].concat();
                assert_eq!(Header::parse(&with_payload), Ok(Some((header, expected.len()))));
                for end in 0..expected.len() {
                    assert_eq!(Header::parse(&expected[..end]), Ok(None), "{end} of {expected:x?}");
                }
            }
        }
    }
}

#[test]
fn the_examples_of_section_5_7_are_read() {
    let payload: Vec<u8> = (0..=255).collect();
    let large = payload.repeat(256);
    let medium_frame = [b"\x82\x7e\x01\x00", &payload[..]].concat();
    let large_frame = [b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", &large[..]].concat();
    let masked_pong = [b"\x8a", &MASKED_HELLO[1..]].concat();
    let table: &[(Role, &[u8], Event<'_>)] = &[
        (CLIENT, HELLO, text("Hello")),
        (SERVER, MASKED_HELLO, text("Hello")),
        (CLIENT, b"\x01\x03Hel\x80\x02lo", text("Hello")),
        (CLIENT, b"\x89\x05Hello", ping(b"Hello")),
        (SERVER, &masked_pong, pong(b"Hello")),
        (CLIENT, &medium_frame, binary(&payload)),
        (CLIENT, &large_frame, binary(&large)),
    ];
    for (role, bytes, event) in table {
        assert_eq!(feed(&mut plain(role), bytes), (vec![event.clone()], None));
    }
}

#[test]
fn the_examples_of_section_5_7_are_written() {
    let message = |role: &Role, message: Message<'_>| {
        let mut wire = Vec::new();
        outbound::message(role, &message, &mut wire);
        wire
    };
    let control = |role: &Role, opcode| {
        let mut wire = Vec::new();
        outbound::control(role, opcode, b"Hello", &mut wire);
        wire
    };
    let payload: Vec<u8> = (0..=255).collect();
    let large = payload.repeat(256);
    assert_eq!(message(&SERVER, "Hello".into()), HELLO);
    assert_eq!(message(&CLIENT, "Hello".into()), MASKED_HELLO);
    assert_eq!(control(&SERVER, OpCode::Ping), b"\x89\x05Hello");
    assert_eq!(control(&CLIENT, OpCode::Pong), [b"\x8a", &MASKED_HELLO[1..]].concat());
    for (data, header) in [
        (&payload, &b"\x82\x7e\x01\x00"[..]),
        (&large, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ] {
        assert_eq!(message(&SERVER, data.into()), [header, data].concat());
        let mut header_alone = Vec::new();
        outbound::server_header(&data.into(), &mut header_alone);
        assert_eq!(header_alone, header);
    }
}

#[test]
fn messages_of_every_length_form_arrive_at_the_other_role_as_they_were_sent() {
    for role in ROLES {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let (data, letters) = (vec![0xa5; length], "x".repeat(length));
            let mut wire = Vec::new();
            outbound::message(&role, &Message::from(&data), &mut wire);
            outbound::message(&role, &Message::from(&letters), &mut wire);
            assert_eq!(
                written(&role, &wire),
                [(FIN | BINARY, data.clone()), (FIN | TEXT, letters.clone().into_bytes())]
            );
            let events = vec![binary(&data), text(&letters)];
            assert_eq!(feed(&mut plain(&peer_of(&role)), &wire), (events, None));
        }
    }
}

#[test]
fn a_client_masks_every_frame_with_a_key_of_its_own() {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let role = Role::Client { masking_key: || [NEXT.fetch_add(1, Ordering::Relaxed); 4] };
    let mut wire = Vec::new();
    outbound::message(&role, &"".into(), &mut wire);
    outbound::control(&role, OpCode::Ping, b"", &mut wire);
    outbound::close(&role, None, &mut wire);
    assert_eq!(wire, b"\x81\x80\x01\x01\x01\x01\x89\x80\x02\x02\x02\x02\x88\x80\x03\x03\x03\x03");
}

#[test]
fn the_payload_of_a_ping_is_cut_off_at_125_bytes() {
    for role in ROLES {
        let mut wire = Vec::new();
        outbound::control(&role, OpCode::Ping, &[7; 126], &mut wire);
        assert_eq!(written(&role, &wire), [(FIN | PING, vec![7; 125])]);
        assert!(wire.len() <= outbound::MAX_CONTROL_FRAME);
    }
}

#[test]
fn control_frames_between_fragments_come_first_and_leave_the_message_whole() {
    for role in ROLES {
        let bytes = [
            frame(&role, TEXT, b"on"),
            frame(&role, FIN | PING, b"p"),
            frame(&role, CONTINUATION, b""),
            frame(&role, FIN | PONG, &[]),
            frame(&role, FIN | PING, &[b'q'; 125]),
            frame(&role, FIN | CONTINUATION, b"e"),
            frame(&role, FIN | BINARY, b"two"),
        ]
        .concat();
        let events = vec![ping(b"p"), pong(b""), ping(&[b'q'; 125]), text("one"), binary(b"two")];
        assert_eq!(feed(&mut plain(&role), &bytes), (events, None));
    }
}

#[test]
fn a_character_may_be_cut_in_two_by_fragments() {
    for role in ROLES {
        let euro = "\u{20ac}".as_bytes();
        let mut bytes = frame(&role, TEXT, &euro[..1]);
        bytes.extend(frame(&role, CONTINUATION, &euro[1..2]));
        bytes.extend(frame(&role, FIN | CONTINUATION, &euro[2..]));
        assert_eq!(feed(&mut plain(&role), &bytes), (vec![text("\u{20ac}")], None));
    }
}

#[test]
fn a_close_frame_in_the_middle_of_a_message_is_heard() {
    for role in ROLES {
        let mut bytes = frame(&role, TEXT, b"unfinished");
        bytes.extend(frame(&role, FIN | CLOSE, b"\x03\xe9bye"));
        let close = Event::Close(Some(CloseFrame::new(CloseCode::AWAY, "bye")));
        let mut inbound = plain(&role);
        assert_eq!(feed(&mut inbound, &bytes), (vec![close], None));
        assert!(!inbound.is_incomplete(), "no deadline runs for what will never be finished");
    }
}

#[test]
fn bytes_behind_a_close_frame_are_dropped_even_if_they_are_nonsense() {
    for role in ROLES {
        let mut bytes = frame(&role, FIN | CLOSE, b"");
        bytes.extend(frame(&role, FIN | TEXT, b"too late"));
        bytes.extend([0xff; 100]);
        let mut inbound = plain(&role);
        assert_eq!(feed(&mut inbound, &bytes), (vec![Event::Close(None)], None));
        assert_eq!(feed(&mut inbound, &frame(&role, FIN | TEXT, b"later")), (vec![], None));
        assert_eq!(feed(&mut inbound, &[0xff; 100]), (vec![], None));
    }
}
