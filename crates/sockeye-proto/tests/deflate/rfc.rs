//! The examples of RFC 7692 section 7.2.3, and what follows from the rules around them.

use super::{compress, peer, streams::NOISE, unbounded};
use crate::common::*;
use sockeye_proto::{
    Event, Extension, Heap, Inbound, Limits, Message, OpCode, ProtocolError as E,
    deflate::{self, Context, Deflater, Inflater, Level},
    outbound,
};

const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

fn receiving() -> Context {
    unbounded().receiving(&SERVER)
}

fn inflate(context: &mut Context, payload: &[u8]) -> Result<Vec<u8>, E> {
    let mut inflated = b"what was there before".to_vec();
    Inflater::new().inflate(payload, context, &Limits::default(), &mut inflated)?;
    Ok(inflated)
}

#[test]
fn the_examples_of_section_7_2_3_inflate_to_hello() {
    for (section, payloads) in [
        ("7.2.3.1", &[&HELLO[..]][..]),
        ("7.2.3.2, the window is kept", &[&HELLO[..], &[0xf2, 0x00, 0x11, 0x00, 0x00]]),
        ("7.2.3.2, the window is not used", &[&HELLO[..], &HELLO[..]]),
        ("7.2.3.3, not compressed", &[&[0, 5, 0, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0]]),
        ("7.2.3.4, BFINAL", &[&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]]),
        (
            "7.2.3.5, two blocks",
            &[&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00]],
        ),
    ] {
        let mut context = receiving();
        for payload in payloads {
            assert_eq!(inflate(&mut context, payload), Ok(b"Hello".to_vec()), "{section}");
        }
    }
}

#[test]
fn an_empty_message_is_one_byte_and_so_it_is_taken() {
    let mut context = unbounded().sending(&SERVER);
    assert_eq!(compress(&mut context, b""), [0x00]); // section 7.2.3.6
    assert_eq!(compress(&mut context, b"Hello"), HELLO);
    assert_eq!(compress(&mut context, b""), [0x00]);
    for payload in [&[0x00][..], &[0x02, 0x00], &[0x03, 0x00, 0x00], &[0x03, 0x00], &[]] {
        assert_eq!(inflate(&mut receiving(), payload), Ok(vec![]), "{payload:x?}");
    }
}

/// A flush writes it, so cutting off the tail has to leave its header (section 7.2.1).
#[test]
fn no_message_ends_with_the_tail_that_is_to_be_cut_off() {
    let mut context = unbounded().sending(&SERVER);
    for message in [&b"Hello"[..], &[0, 0, 0xff, 0xff], &[0; 10_000], b""] {
        let compressed = compress(&mut context, message);
        assert!(!compressed.ends_with(&[0x00, 0x00, 0xff, 0xff]), "{compressed:x?}");
    }
}

#[test]
fn the_window_goes_on_over_final_blocks_and_messages() {
    let window = b"a window that is long enough to be worth a reference".to_vec();
    for is_final in [false, true] {
        for block_size in [3, 7, 1000] {
            let style = peer::Style { block: peer::Block::References, is_final, block_size };
            let mut context = receiving();
            let mut before = Vec::new();
            for _ in 0..3 {
                let payload = peer::deflate(&before, 32_768, &window, style);
                assert_eq!(inflate(&mut context, &payload), Ok(window.clone()), "{style:?}");
                before.extend_from_slice(&window);
            }
        }
    }
}

/// What no sender does, and every receiver takes: no block behind the final one.
#[test]
fn a_message_may_end_with_its_final_block() {
    let hello = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let mut context = receiving();
    assert_eq!(inflate(&mut context, hello), Ok(b"Hello".to_vec()));
    assert_eq!(inflate(&mut context, &[0xf2, 0x00, 0x11, 0x00, 0x00]), Ok(b"Hello".to_vec()));
}

#[test]
fn what_is_not_deflate_ends_with_1007() {
    for (name, payload) in [
        ("block type 3", &[0x06][..]),
        ("a length without its complement", &[0x00, 0x05, 0x00, 0x00, 0x00]),
        ("a reference to nothing", &[0xf2, 0x00, 0x11, 0x00, 0x00]),
        ("the end of the last block is missing", &HELLO[..6]),
        ("the end is in the middle of a code", &HELLO[..3]),
        ("the end is in the middle of a stored block", &[0, 5, 0, 0xfa, 0xff, 0x48, 0x65]),
        ("the rest of a stored block is missing", &[0, 100, 0, 0x9b, 0xff, 0x48, 0x65]),
        ("the tail was not cut off", &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0, 0, 0xff, 0xff]),
        ("noise behind the last block", &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 7]),
        ("noise behind a final block", &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 7]),
    ] {
        assert_eq!(inflate(&mut receiving(), payload), Err(E::InvalidDeflate), "{name}");
        assert!(peer::inflate(b"", payload).is_err(), "{name}");
    }
}

#[test]
fn an_inflater_is_as_good_as_new_after_an_error() {
    let mut inflater = Inflater::new();
    let mut inflated = Vec::new();
    for payload in [&[0x06][..], &HELLO[..3], &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 7]] {
        let mut spoilt = receiving();
        let error = inflater.inflate(payload, &mut spoilt, &Limits::default(), &mut inflated);
        assert_eq!(error, Err(E::InvalidDeflate));
        let mut context = receiving();
        inflater
            .inflate(&HELLO, &mut context, &Limits::default(), &mut inflated)
            .expect("a valid message");
        assert_eq!(inflated, b"Hello");
    }
}

#[test]
fn without_takeover_nothing_is_kept_and_a_reference_to_an_earlier_message_is_an_error() {
    let parameters = super::parameters(
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    );
    for role in ROLES {
        let mut context = parameters.receiving(&role);
        assert_eq!(inflate(&mut context, &HELLO), Ok(b"Hello".to_vec()));
        let reference = &[0xf2, 0x00, 0x11, 0x00, 0x00];
        assert_eq!(inflate(&mut context, reference), Err(E::InvalidDeflate));
        let mut context = parameters.sending(&role);
        assert_eq!(compress(&mut context, b"Hello"), HELLO);
        assert_eq!(compress(&mut context, b"Hello"), HELLO);
        assert_eq!(context.held(), 0);
    }
}

#[test]
fn a_compressed_message_is_one_frame_with_rsv1_and_a_client_masks_it() {
    for role in ROLES {
        for (opcode, bits) in [(OpCode::Text, TEXT), (OpCode::Binary, BINARY)] {
            for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
                let payload = vec![0xaa; length];
                let mut wire = b"what waits already".to_vec();
                outbound::compressed(&role, opcode, &payload, &mut wire);
                assert!(wire.starts_with(b"what waits already"));
                assert_eq!(written(&role, &wire[18..]), [(FIN | RSV1 | bits, payload)]);
            }
        }
    }
}

#[test]
fn text_is_checked_once_it_is_inflated_and_data_is_not() {
    for (payload, is_text) in [("smørrebrød".as_bytes(), true), (b"\xff\xfe\xfd", false)] {
        let mut sending = unbounded().sending(&SERVER);
        let compressed = compress(&mut sending, payload);
        let inflated = inflate(&mut receiving(), &compressed).expect("a valid message");
        let binary = Message::from(payload.to_vec());
        assert_eq!(deflate::message(OpCode::Binary, &inflated), Ok(binary.clone()));
        assert_eq!(deflate::owned_message::<Heap>(OpCode::Binary, inflated.clone()), Ok(binary));
        let expected = std::str::from_utf8(payload).map_err(|_| E::InvalidUtf8);
        assert_eq!(expected.is_ok(), is_text);
        let expected = expected.map(|text| Message::from(text.to_owned()));
        assert_eq!(deflate::message(OpCode::Text, &inflated), expected.clone());
        assert_eq!(deflate::owned_message::<Heap>(OpCode::Text, inflated), expected);
    }
}

/// Defects of others: skipped after it had entered the window (sockudo-ws#14), and compressed for
/// many and sent to one with a window (Bun#25673).
#[test]
fn what_was_not_sent_compressed_is_not_in_the_window_and_what_was_sent_for_many_is() {
    let noise = &NOISE[..2000];
    let text = b"a text that comes again and again, and so refers to the one before".repeat(3);
    let mut deflater = Deflater::new();
    let mut compressed = Vec::new();
    let mut own = unbounded().sending(&SERVER);
    let mut shared = super::parameters("permessage-deflate; server_no_context_takeover");
    shared.server_max_window_bits = Some(super::bits(9));
    let mut window = Vec::new();
    for round in 0..4 {
        let skipped =
            deflater.compress_if_shorter(noise, Level::FASTEST, &mut own, &mut compressed);
        assert_eq!(skipped, None, "noise does not get shorter");

        let sent = deflater.compress_if_shorter(&text, Level::FASTEST, &mut own, &mut compressed);
        let sent = peer::inflate(&window, sent.expect("it gets shorter")).expect("valid");
        assert_eq!(sent.message, text);
        assert_eq!(sent.before > 0, round > 0, "it refers to the round before");
        window.extend_from_slice(&text);

        let mut for_many = shared.sending(&SERVER);
        deflater.compress(b"for all of you", Level::FASTEST, &mut for_many, &mut compressed);
        let sent = peer::inflate(&window, &compressed).expect("valid");
        assert_eq!((&sent.message[..], sent.before), (&b"for all of you"[..], 0));
        own.on_sent(b"for all of you");
        window.extend_from_slice(b"for all of you");
    }
}

#[test]
fn a_client_may_use_less_than_was_agreed_on() {
    let parameters = super::parameters("permessage-deflate; client_max_window_bits=14");
    let mut context = parameters.sending(&CLIENT).at_most(super::bits(10));
    assert_eq!(context.window_bits(), super::bits(10));
    assert_eq!(parameters.sending(&CLIENT).at_most(super::bits(15)).window_bits().bits(), 14);
    let mut window = Vec::new();
    for n in 0..50u8 {
        let message = [n / 7; 100];
        let sent = peer::inflate(&window, &compress(&mut context, &message)).expect("valid");
        assert!(sent.farthest <= 1024);
        window.extend_from_slice(&message);
        assert!(context.held() <= 1024);
    }
}

/// From the bytes of one end to the message of the other.
#[test]
fn a_message_goes_through_a_frame_and_comes_out() {
    for role in ROLES {
        let mut sending = unbounded().sending(&peer_of(&role));
        let mut context = unbounded().receiving(&role);
        let mut inbound = Inbound::new(&role, &Limits::default(), Extension::Rsv1);
        for text in ["", "Hello", "Hello", &"ä".repeat(40_000)] {
            let mut wire = Vec::new();
            let payload = compress(&mut sending, text.as_bytes());
            outbound::compressed(&peer_of(&role), OpCode::Text, &payload, &mut wire);
            let mut input = &mut wire[..];
            let Ok(Some(Event::Extended(opcode, payload))) = inbound.next(&mut input) else {
                panic!("a compressed message was sent");
            };
            let inflated = inflate(&mut context, &payload).expect("a valid message");
            assert_eq!(deflate::message(opcode, &inflated), Ok(Message::from(text)));
        }
    }
}
