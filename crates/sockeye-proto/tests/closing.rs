//! Who sends a close frame, when, and with what in it (RFC 6455 sections 5.5.1 and 7)?

mod common;

use std::time::Duration;

use common::*;
use sockeye_proto::{
    CloseCode, CloseFrame, Closing, Connection, Event, ProtocolError as E, Role, outbound,
};

const STATES: [Closing; 5] =
    [Closing::Open, Closing::Sent, Closing::Answered, Closing::Done, Closing::Failed];

fn away() -> CloseFrame {
    CloseFrame::new(CloseCode::AWAY, "the server restarts")
}

/// A connection that has got to this state, what it wrote on the way forgotten.
fn reach(state: Closing, role: Role) -> Connection {
    let mut connection = Connection::new(role);
    let mut wire = Vec::new();
    match state {
        Closing::Open => {}
        Closing::Sent => assert!(connection.close(None, &mut wire)),
        Closing::Answered => connection.on_close(None, &mut wire),
        Closing::Done => {
            connection.close(None, &mut wire);
            connection.on_close(None, &mut wire);
        }
        Closing::Failed => connection.fail(&E::Unmasked, &mut wire),
    }
    assert_eq!(connection.closing(), state, "{role:?}");
    connection
}

/// Does something in every state; each has to lead to the state named, and to write the close frame
/// with this payload in the state `Open` and nothing at all in the others.
fn check_all(
    act: impl Fn(&mut Connection, &mut Vec<u8>),
    next: [Closing; 5],
    payload_if_open: &[u8],
) {
    for role in ROLES {
        for (state, next) in STATES.into_iter().zip(next) {
            let mut connection = reach(state, role);
            let mut wire = Vec::new();
            act(&mut connection, &mut wire);
            assert_eq!(connection.closing(), next, "from {state:?}, {role:?}");
            let close = (FIN | CLOSE, payload_if_open.to_vec());
            let expected = if state == Closing::Open { vec![close] } else { vec![] };
            assert_eq!(written(&role, &wire), expected, "from {state:?}");
            assert!(
                connection.control().is_empty(),
                "a close frame is not a waiting control frame"
            );
        }
    }
}

#[test]
fn closing_sends_one_frame_with_code_and_reason_and_only_from_open() {
    use Closing::{Answered, Done, Failed, Sent};
    check_all(
        |connection, wire| {
            let open = connection.closing() == Closing::Open;
            assert_eq!(connection.close(Some(&away()), wire), open);
            assert!(!connection.close(Some(&away()), wire), "never twice");
        },
        [Sent, Sent, Answered, Done, Failed],
        b"\x03\xe9the server restarts",
    );
}

#[test]
fn a_close_frame_is_answered_with_its_code_and_reason_and_only_from_open() {
    use Closing::{Answered, Done, Failed};
    check_all(
        |connection, wire| connection.on_close(Some(&away()), wire),
        [Answered, Done, Answered, Done, Failed],
        b"\x03\xe9the server restarts",
    );
}

#[test]
fn a_close_frame_without_a_code_is_answered_without_one() {
    use Closing::{Answered, Done, Failed};
    check_all(
        |connection, wire| connection.on_close(None, wire),
        [Answered, Done, Answered, Done, Failed],
        b"",
    );
}

#[test]
fn an_error_is_told_to_the_peer_once_and_ends_the_waiting_for_its_answer() {
    use Closing::{Answered, Done, Failed};
    check_all(
        |connection, wire| {
            connection.fail(&E::InvalidUtf8, wire);
            connection.fail(&E::Unmasked, wire);
        },
        [Failed, Failed, Answered, Done, Failed],
        b"\x03\xeftext is not valid UTF-8 (RFC 6455 section 8.1)",
    );
}

#[test]
fn every_error_goes_to_the_peer_with_its_code_and_its_whole_text() {
    let errors = [
        E::ReservedBits,
        E::ReservedOpCode(0xf),
        E::Unmasked,
        E::Masked,
        E::NonMinimalLength,
        E::LengthTopBit,
        E::FragmentedControl,
        E::ControlTooLong,
        E::UnexpectedContinuation,
        E::ExpectedContinuation,
        E::CloseTooShort,
        E::InvalidCloseCode(65_535),
        E::InvalidUtf8,
        E::FrameTooLarge { size: u64::MAX, limit: usize::MAX },
        E::MessageTooLarge { size: u64::MAX, limit: usize::MAX },
        E::TooManyFragments(u32::MAX),
        E::MessageTooSlow(Duration::from_nanos(u64::MAX)),
        E::TooManyControlFrames(u32::MAX),
    ];
    for role in ROLES {
        for error in &errors {
            let mut wire = Vec::new();
            Connection::new(role).fail(error, &mut wire);
            let payload =
                [&error.close_code().0.to_be_bytes(), error.to_string().as_bytes()].concat();
            assert_eq!(written(&role, &wire), [(FIN | CLOSE, payload)], "{error:?}");
        }
    }
}

#[test]
fn no_ping_is_sent_once_the_connection_is_closing() {
    for role in ROLES {
        for state in STATES {
            let mut connection = reach(state, role);
            let open = state == Closing::Open;
            assert_eq!(connection.ping(b"hello?"), open, "{state:?}");
            assert_eq!(connection.control().is_empty(), !open, "{state:?}");
        }
    }
}

#[test]
fn a_ping_is_answered_until_the_peer_has_sent_its_close_frame() {
    for role in ROLES {
        for state in STATES {
            let mut connection = reach(state, role);
            connection.on_ping(b"hello?");
            let answered = matches!(state, Closing::Open | Closing::Sent);
            let expected =
                if answered { vec![(FIN | PONG, b"hello?".to_vec())] } else { Vec::new() };
            assert_eq!(written(&role, &connection.control().take()), expected, "{state:?}");
        }
    }
}

#[test]
fn a_reason_is_cut_off_at_123_bytes_between_two_characters() {
    let euros = "\u{20ac}".repeat(50);
    for (reason, kept) in [
        ("x".repeat(123), 123),
        ("x".repeat(124), 123),
        (euros.clone(), 123),
        (format!("x{euros}"), 121),
        (format!("xx{euros}"), 122),
        (format!("{}\u{1f980}", "x".repeat(119)), 123),
        (format!("{}\u{1f980}", "x".repeat(120)), 120),
    ] {
        for role in ROLES {
            let mut wire = Vec::new();
            let frame = CloseFrame::new(CloseCode::POLICY, reason.clone());
            assert!(Connection::new(role).close(Some(&frame), &mut wire));
            let payload = [b"\x03\xf0", &reason.as_bytes()[..kept]].concat();
            assert_eq!(written(&role, &wire), [(FIN | CLOSE, payload)], "{reason}");
        }
    }
}

#[test]
fn a_code_that_must_not_be_sent_leaves_the_close_frame_empty() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535].map(CloseCode) {
        assert!(!code.may_be_sent(), "{code}");
        for role in ROLES {
            let frame = CloseFrame::new(code, "with a reason");
            let mut closed = Vec::new();
            assert!(Connection::new(role).close(Some(&frame), &mut closed));
            let mut answered = Vec::new();
            Connection::new(role).on_close(Some(&frame), &mut answered);
            for wire in [closed, answered] {
                assert_eq!(written(&role, &wire), [(FIN | CLOSE, vec![])], "{code}");
            }
        }
    }
}

#[test]
fn each_role_understands_the_other_ones_closing_handshake() {
    for role in ROLES {
        let (mut first, mut second) = (Connection::new(role), Connection::new(peer_of(&role)));
        let said = Event::Close(Some(away()));
        let mut wire = Vec::new();
        first.close(Some(&away()), &mut wire);
        assert_eq!(feed(&mut plain(&second.role()), &wire), (vec![said.clone()], None));
        wire.clear();
        second.on_close(Some(&away()), &mut wire);
        assert_eq!(feed(&mut plain(&first.role()), &wire), (vec![said], None));
        wire.clear();
        first.on_close(Some(&away()), &mut wire);
        assert_eq!((first.closing(), second.closing()), (Closing::Done, Closing::Answered));
        assert!(wire.is_empty(), "an answer is not answered");
    }
}

#[test]
fn the_longest_close_frame_fits_the_bound_on_control_frames() {
    for role in ROLES {
        let mut wire = Vec::new();
        outbound::close(&role, Some(&CloseFrame::new(CloseCode(4999), "x".repeat(500))), &mut wire);
        assert_eq!(wire.len(), outbound::MAX_CONTROL_FRAME - if is_server(&role) { 4 } else { 0 });
    }
}
