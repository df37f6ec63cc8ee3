//! Does every rule that a peer can break give its own error and close code, to both roles?

mod common;

use std::time::Duration;

use common::*;
use sockeye_proto::{CloseCode, CloseFrame, Event, Fault, ProtocolError as E, Role};

/// What the peer sends, and the error at its end.
type Case = (String, Vec<u8>, E);

fn check(role: &Role, (name, bytes, error): Case, code: u16) {
    // At once and byte by byte: a rule does not depend on how much is there.
    for sizes in [vec![bytes.len()], vec![1]] {
        let mut inbound = plain(role);
        let (events, got) = feed_in_chunks(&mut inbound, &bytes, &sizes);
        assert_eq!(got, Some(error.clone()), "{name} to {role:?} in chunks of {sizes:?}");
        assert_eq!(events, [], "{name} to {role:?}");
        let valid = frame(role, FIN | TEXT, b"as if nothing had happened");
        assert_eq!(feed(&mut inbound, &valid), (vec![], None), "after {name}");
        assert!(!inbound.is_incomplete());
    }
    assert_eq!(error.close_code(), CloseCode(code), "{name}");
    assert_eq!(error.fault(), Fault::PeerMisbehaved, "{name}");
}

fn check_all(code: u16, cases: impl Fn(&Role) -> Vec<Case>) {
    for role in ROLES {
        for case in cases(&role) {
            check(&role, case, code);
        }
    }
}

#[test]
fn reserved_bits_without_an_extension_end_with_1002() {
    check_all(1002, |role| {
        let mut cases = Vec::new();
        for bits in [RSV1, RSV2, RSV3, RSV1 | RSV2 | RSV3] {
            for opcode in [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] {
                let bytes = frame(role, FIN | bits | opcode, b"");
                cases.push((format!("{bits:#x} on {opcode:#x}"), bytes, E::ReservedBits));
            }
        }
        cases
    });
}

#[test]
fn reserved_opcodes_end_with_1002() {
    check_all(1002, |role| {
        let case = |opcode| {
            let bytes = frame(role, FIN | opcode, b"what?");
            (format!("opcode {opcode:#x}"), bytes, E::ReservedOpCode(opcode))
        };
        (0x3..=0x7).chain(0xb..=0xf).map(case).collect()
    });
}

#[test]
fn a_mask_that_is_missing_or_too_much_ends_with_1002() {
    check_all(1002, |role| {
        let error = if is_server(role) { E::Unmasked } else { E::Masked };
        let case = |first| {
            (format!("first byte {first:#x}"), frame(&peer_of(role), first, b""), error.clone())
        };
        [TEXT, FIN | TEXT, FIN | BINARY, FIN | PING, FIN | PONG, FIN | CLOSE].map(case).to_vec()
    });
}

#[test]
fn lengths_that_are_too_long_written_or_above_63_bits_end_with_1002() {
    check_all(1002, |role| {
        let medium = |length: u16| header_with(role, FIN | BINARY, 126, &length.to_be_bytes());
        let long = |length: u64| header_with(role, FIN | BINARY, 127, &length.to_be_bytes());
        let mut cases = Vec::new();
        for length in [0, 1, 125] {
            cases.push((format!("{length} in 16 bits"), medium(length), E::NonMinimalLength));
        }
        for length in [0, 125, 126, 65_535] {
            cases.push((format!("{length} in 64 bits"), long(length), E::NonMinimalLength));
        }
        for length in [1 << 63, u64::MAX] {
            cases.push((format!("{length:#x}"), long(length), E::LengthTopBit));
        }
        cases
    });
}

#[test]
fn control_frames_in_fragments_or_of_more_than_125_bytes_end_with_1002() {
    check_all(1002, |role| {
        let mut cases = Vec::new();
        for opcode in [CLOSE, PING, PONG] {
            let name = format!("opcode {opcode:#x}");
            let long = header_with(role, FIN | opcode, 127, &65_536u64.to_be_bytes());
            cases.push((name.clone(), frame(role, opcode, b""), E::FragmentedControl));
            cases.push((name.clone(), frame(role, FIN | opcode, &[0; 126]), E::ControlTooLong));
            cases.push((name, long, E::ControlTooLong));
        }
        cases
    });
}

#[test]
fn fragments_out_of_order_end_with_1002() {
    check_all(1002, |role| {
        let start = || frame(role, TEXT, b"start");
        let after_start = |first| [start(), frame(role, first, b"")].concat();
        let lone = |first| frame(role, first, b"");
        vec![
            ("lone end".into(), lone(FIN | CONTINUATION), E::UnexpectedContinuation),
            ("lone middle".into(), lone(CONTINUATION), E::UnexpectedContinuation),
            ("text in text".into(), after_start(FIN | TEXT), E::ExpectedContinuation),
            ("start in start".into(), after_start(TEXT), E::ExpectedContinuation),
            ("binary in text".into(), after_start(FIN | BINARY), E::ExpectedContinuation),
        ]
    });
}

#[test]
fn a_message_that_has_ended_cannot_be_continued() {
    for role in ROLES {
        for bytes in [
            frame(&role, FIN | TEXT, b"all"),
            [frame(&role, TEXT, b"a"), frame(&role, FIN | CONTINUATION, b"ll")].concat(),
        ] {
            let more = frame(&role, FIN | CONTINUATION, b"more");
            let outcome = feed(&mut plain(&role), &[bytes, more].concat());
            assert_eq!(outcome, (vec![text("all")], Some(E::UnexpectedContinuation)));
        }
    }
}

#[test]
fn a_close_frame_of_one_byte_ends_with_1002() {
    check_all(1002, |role| {
        vec![("one byte".into(), frame(role, FIN | CLOSE, &[3]), E::CloseTooShort)]
    });
}

#[test]
fn close_codes_that_must_not_be_on_the_wire_end_with_1002() {
    check_all(1002, |role| {
        let case = |code: u16| {
            let bytes = frame(role, FIN | CLOSE, &code.to_be_bytes());
            (format!("close code {code}"), bytes, E::InvalidCloseCode(code))
        };
        [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535].map(case).to_vec()
    });
}

#[test]
fn close_codes_of_the_registry_and_of_applications_are_taken() {
    for role in ROLES {
        for code in (1000u16..=1003).chain(1007..=1014).chain([3000, 4000, 4999]) {
            let mut payload = code.to_be_bytes().to_vec();
            payload.extend_from_slice("gr\u{fc}\u{df}e".as_bytes());
            let close = Event::Close(Some(CloseFrame::new(CloseCode(code), "gr\u{fc}\u{df}e")));
            let bytes = frame(&role, FIN | CLOSE, &payload);
            assert_eq!(feed(&mut plain(&role), &bytes), (vec![close], None));
        }
    }
}

#[test]
fn text_that_is_not_utf_8_ends_with_1007_in_messages_fragments_and_close_reasons() {
    let not_utf_8: [(&str, &[u8]); 8] = [
        ("lone continuation byte", b"a\x80"),
        ("overlong slash", b"\xc0\xaf"),
        ("overlong NUL in three bytes", b"\xe0\x80\x80"),
        ("surrogate", b"\xed\xa0\x80"),
        ("above U+10FFFF", b"\xf4\x90\x80\x80"),
        ("byte that is never used", b"abc\xff"),
        ("character broken off", b"\xe2\x82"),
        ("the case of Autobahn 6.3.1", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"),
    ];
    check_all(1007, |role| {
        let mut cases = Vec::new();
        for (name, bytes) in not_utf_8 {
            let whole = frame(role, FIN | TEXT, bytes);
            let (head, tail) = bytes.split_at(1);
            let fragmented = [
                frame(role, TEXT, head),
                frame(role, CONTINUATION, tail),
                frame(role, FIN | CONTINUATION, b""),
            ];
            let close = frame(role, FIN | CLOSE, &[b"\x03\xe8", bytes].concat());
            cases.push((format!("{name} in a message"), whole, E::InvalidUtf8));
            cases.push((format!("{name} in fragments"), fragmented.concat(), E::InvalidUtf8));
            cases.push((format!("{name} in a reason"), close, E::InvalidUtf8));
        }
        cases
    });
}

#[test]
fn bad_text_is_refused_before_its_message_is_complete() {
    for role in ROLES {
        let mut bytes = frame(&role, FIN | TEXT, &[b"bad \xff".as_slice(), &[b'x'; 100]].concat());
        bytes.truncate(bytes.len() - 100);
        assert_eq!(feed(&mut plain(&role), &bytes), (vec![], Some(E::InvalidUtf8)));
    }
}

#[test]
fn exceeded_limits_have_the_codes_1009_and_1008_and_are_not_misbehaviour() {
    for (error, code) in [
        (E::FrameTooLarge { size: 2, limit: 1 }, 1009),
        (E::MessageTooLarge { size: 2, limit: 1 }, 1009),
        (E::InflatesTooMuch(20), 1009),
        (E::TooManyFragments(1), 1008),
        (E::TooManyFinalBlocks, 1008),
        (E::MessageTooSlow(Duration::from_secs(1)), 1008),
        (E::TooManyControlFrames(1), 1008),
    ] {
        assert_eq!(error.close_code(), CloseCode(code), "{error}");
        assert_eq!(error.fault(), Fault::LimitExceeded, "{error}");
    }
}

#[test]
fn what_does_not_inflate_is_misbehaviour_and_has_the_code_1007() {
    assert_eq!(E::InvalidDeflate.close_code(), CloseCode(1007));
    assert_eq!(E::InvalidDeflate.fault(), Fault::PeerMisbehaved);
}
