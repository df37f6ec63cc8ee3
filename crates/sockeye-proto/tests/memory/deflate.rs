//! What compression holds, and what a peer can make it hold.

use crate::{
    common::*,
    counting::{Usage, measured},
};
use sockeye_proto::{
    Event, Extension, Inbound, Limits, OpCode, ProtocolError, Role,
    deflate::{self, Deflater, Inflater, Level, Parameters, WindowBits},
    outbound,
};

const LIMIT: usize = 300_001;

fn agreed(element: &str) -> Parameters {
    element.parse().expect("a valid answer")
}

/// A message as a frame of the peer of `role`.
fn sent(role: &Role, message: &[u8]) -> Vec<u8> {
    let mut context = Parameters::default().sending(&peer_of(role));
    let (mut payload, mut wire) = (Vec::new(), Vec::new());
    Deflater::new().compress(message, Level::SHORTEST, &mut context, &mut payload);
    outbound::compressed(&peer_of(role), OpCode::Binary, &payload, &mut wire);
    wire
}

/// Takes one compressed message from `wire`, in pieces.
fn receive(
    wire: &mut [u8],
    piece: usize,
    inbound: &mut Inbound,
    inflater: &mut Inflater,
    context: &mut deflate::Context,
    inflated: &mut Vec<u8>,
) -> Result<(), ProtocolError> {
    for mut input in wire.chunks_mut(piece) {
        if let Some(Event::Extended(_, payload)) = inbound.next(&mut input)? {
            let limits = Limits::default().message_size(LIMIT);
            return inflater.inflate(&payload, context, &limits, inflated);
        }
    }
    panic!("a compressed message was sent");
}

#[test]
fn a_bomb_holds_less_than_twice_the_limit_and_leaves_nothing_behind() {
    let limits = Limits::default().message_size(LIMIT);
    for role in ROLES {
        for (length, passes) in [(LIMIT, true), (LIMIT + 1, false), (200 * LIMIT, false)] {
            let mut wire = sent(&role, &vec![0; length]);
            let (result, Usage { held, peak, .. }) = measured(|| {
                let mut inbound = Inbound::new(&role, &limits, Extension::Rsv1);
                let mut context = Parameters::default().receiving(&role);
                let (mut inflater, mut inflated) = (Inflater::new(), Vec::new());
                let all = (&mut inbound, &mut inflater, &mut context, &mut inflated);
                receive(&mut wire, 100, all.0, all.1, all.2, all.3)
            });
            assert_eq!(result.is_ok(), passes, "{length}");
            assert!(peak < 2 * LIMIT as isize, "{peak} held for {length}");
            assert_eq!(held, 0);
        }
    }
}

#[test]
fn the_inflated_message_holds_no_more_than_the_limit() {
    let mut inflater = Inflater::new();
    for length in [LIMIT, 100 * LIMIT] {
        let message = vec![0; length];
        let mut payload = Vec::new();
        let mut sending = agreed("permessage-deflate; server_no_context_takeover").sending(&SERVER);
        Deflater::new().compress(&message, Level::SHORTEST, &mut sending, &mut payload);
        let mut context =
            agreed("permessage-deflate; server_no_context_takeover").receiving(&CLIENT);
        let limits = Limits::default().message_size(LIMIT);
        let mut inflated = Vec::new();
        let (_, used) =
            measured(|| inflater.inflate(&payload, &mut context, &limits, &mut inflated));
        assert!(used.peak <= LIMIT as isize, "{} held", used.peak);
        // Doubling asks for as much again on the way.
        assert!(used.total <= 3 * LIMIT, "{} allocated", used.total);
    }
}

#[test]
fn short_messages_allocate_nothing_once_the_buffers_are_there() {
    for element in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits=9; server_max_window_bits=9",
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    ] {
        for role in ROLES {
            let (mut sending, mut receiving) =
                (agreed(element).sending(&peer_of(&role)), agreed(element).receiving(&role));
            let mut inbound = Inbound::new(&role, &Limits::default(), Extension::Rsv1);
            let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
            let (mut payload, mut inflated, mut wire) = (vec![], vec![], vec![]);
            let message = b"a message of some length that is not long".repeat(20);
            let mut echo = || {
                deflater.compress(&message, Level::FASTEST, &mut sending, &mut payload);
                wire.clear();
                outbound::compressed(&peer_of(&role), OpCode::Text, &payload, &mut wire);
                let whole = wire.len();
                let all = (&mut inbound, &mut inflater, &mut receiving, &mut inflated);
                receive(&mut wire, whole, all.0, all.1, all.2, all.3).expect("a valid message");
                assert_eq!(inflated, message);
            };
            // Until the windows are full.
            (0..100).for_each(|_| echo());
            let ((), used) = measured(|| (0..100).for_each(|_| echo()));
            assert_eq!((used.total, used.peak), (0, 0), "{element}");
        }
    }
}

#[test]
fn a_connection_holds_its_windows_as_far_as_they_are_used_and_nothing_without_takeover() {
    let message = b"some hundred bytes, of which no one is like the next: 0123456789 abcdefghijklm";
    for bits in 8..=15 {
        for no_takeover in [true, false] {
            let parameters = Parameters {
                server_max_window_bits: WindowBits::new(bits),
                server_no_context_takeover: no_takeover,
                ..Parameters::default()
            };
            let mut context = parameters.sending(&SERVER);
            let mut sent = 0;
            let (_, used) = measured(|| {
                for _ in 0..1000 {
                    context.on_sent(message);
                    sent += message.len();
                    let most = if no_takeover { 0 } else { (2 * sent).min(1 << bits) };
                    assert!(context.held() <= most, "{} held", context.held());
                }
            });
            let expected = if no_takeover { 0 } else { 1 << bits };
            assert_eq!((used.held, used.peak), (expected, expected), "{bits} bits");
        }
    }
}
