//! Random offers, policies and messages against the peer by hand, and against miniz_oxide.

use std::sync::LazyLock;

use super::{bits, level, peer};
use crate::common::*;
use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, compress_to_output, create_comp_flags_from_zip_params,
};
use proptest::prelude::*;
use sockeye_proto::{
    Event, Extension, Inbound, Limits, OpCode, Role,
    deflate::{
        ClientWindow, Context, Deflater, Inflater, Level, Offer, Parameters, Policy, WindowBits,
        check,
    },
    outbound,
};

fn window_bits() -> impl Strategy<Value = WindowBits> {
    (8u8..=15).prop_map(bits)
}

fn offers() -> impl Strategy<Value = Offer> {
    let client = prop_oneof![
        Just(ClientWindow::Unbounded),
        Just(ClientWindow::Any),
        window_bits().prop_map(ClientWindow::AtMost),
    ];
    (any::<bool>(), any::<bool>(), prop::option::of(window_bits()), client).prop_map(
        |(server_no, client_no, server_max, client)| Offer {
            server_no_context_takeover: server_no,
            client_no_context_takeover: client_no,
            server_max_window_bits: server_max,
            client_max_window_bits: client,
        },
    )
}

fn policies() -> impl Strategy<Value = Policy> {
    let dedicated = window_bits().prop_map(|window_bits| Policy::Dedicated { window_bits });
    prop_oneof![1 => Just(Policy::Shared), 3 => dedicated]
}

/// Messages that refer to one another, do not, or have nothing in them.
fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let noise = prop::collection::vec(any::<u8>(), 0..400);
    let words = prop::collection::vec(0usize..40, 0..120).prop_map(|words| {
        words.iter().flat_map(|n| format!("{{\"key{n}\":{}}}", n * n).into_bytes()).collect()
    });
    let same = (any::<u8>(), 0usize..3000).prop_map(|(byte, length)| vec![byte; length]);
    // More than a window, of what lies just within and just beyond it.
    let far = (240usize..1100, 1usize..4).prop_map(|(period, times)| {
        let one: Vec<u8> = NOISE.iter().copied().take(period).collect();
        one.repeat(times)
    });
    let message = prop_oneof![2 => noise, 4 => words, 1 => same, 2 => far];
    prop::collection::vec(message, 1..10)
}

pub(crate) static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mix = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    (0..40_000u64).map(|n| (mix(n * n + 12_345) >> 7) as u8).collect()
});

/// How one message is sent by us.
#[derive(Clone, Copy, Debug)]
enum Send {
    Always,
    IfShorter,
    Plain,
    ForMany,
}

fn sends() -> impl Strategy<Value = Vec<Send>> {
    let send = prop_oneof![
        3 => Just(Send::Always),
        2 => Just(Send::IfShorter),
        1 => Just(Send::Plain),
        1 => Just(Send::ForMany),
    ];
    prop::collection::vec(send, 10)
}

fn styles() -> impl Strategy<Value = peer::Style> {
    let block = prop_oneof![
        1 => Just(peer::Block::Stored),
        1 => Just(peer::Block::Literals),
        4 => Just(peer::Block::References),
    ];
    let size = prop_oneof![1 => 1usize..20, 4 => 20usize..5000];
    (block, any::<bool>(), size).prop_map(|(block, is_final, size)| {
        // More final blocks than any message of ours may have, if they are shorter.
        let block_size = size.max(if is_final { 20 } else { 1 });
        peer::Style { block, is_final, block_size }
    })
}

/// What the RFC says of the direction in which `role` sends: the window in bytes, and whether it is
/// taken over.
fn of_sender(agreed: &Parameters, role: &Role) -> (usize, bool) {
    let (bits, no_takeover) = if is_server(role) {
        (agreed.server_max_window_bits, agreed.server_no_context_takeover)
    } else {
        (agreed.client_max_window_bits, agreed.client_no_context_takeover)
    };
    (1 << bits.map_or(15, WindowBits::bits), !no_takeover)
}

fn last(bytes: &[u8], size: usize) -> &[u8] {
    &bytes[bytes.len().saturating_sub(size)..]
}

/// Compresses one message in this way; `None` if it goes as it is.
fn sent(
    send: Send,
    message: &[u8],
    level: Level,
    context: &mut Context,
    deflater: &mut Deflater,
) -> Option<Vec<u8>> {
    let mut compressed = Vec::new();
    match send {
        Send::Plain => return None,
        Send::Always => deflater.compress(message, level, context, &mut compressed),
        Send::IfShorter => {
            deflater.compress_if_shorter(message, level, context, &mut compressed)?;
        }
        Send::ForMany => {
            let shared = Parameters {
                server_no_context_takeover: true,
                server_max_window_bits: Some(WindowBits::MIN),
                ..Parameters::default()
            };
            let mut for_many = shared.sending(&SERVER);
            deflater.compress(message, level, &mut for_many, &mut compressed);
            context.on_sent(message);
        }
    }
    Some(compressed)
}

/// A message with its first frame as given, cut into frames.
fn frames(role: &Role, first: u8, payload: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = payload;
    let mut opcode = first;
    for size in sizes {
        let (piece, behind) = rest.split_at(rest.len().min(*size));
        rest = behind;
        bytes.extend(frame(role, opcode, piece));
        opcode = CONTINUATION;
    }
    bytes.extend(frame(role, FIN | opcode, rest));
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn both_ends_read_the_same_from_every_offer_and_policy(
        offer in offers(),
        policy in policies(),
    ) {
        let answer = policy.answer(&offer);
        prop_assert_eq!(offer.to_string().parse(), Ok(offer));
        prop_assert_eq!(answer.to_string().parse(), Ok(answer));
        let taken = check(&answer.to_string(), &[offer]).expect("the server keeps to the offer");
        for role in ROLES {
            let (ours, theirs) = (answer.sending(&role), taken.receiving(&peer_of(&role)));
            let (size, takes_over) = of_sender(&answer, &role);
            prop_assert_eq!(ours.takes_over(), takes_over);
            prop_assert_eq!(ours.window_bits().size(), size);
            prop_assert!(!theirs.takes_over() || ours.takes_over() || !is_server(&role));
            // The receiver's window is as large as the sender's, or nothing is kept there.
            let window = taken.sending(&role).window_bits();
            prop_assert!(window <= ours.window_bits());
        }
        if let Policy::Dedicated { window_bits } = policy {
            for context in [answer.sending(&SERVER), answer.receiving(&SERVER)] {
                let held = if context.takes_over() { context.window_bits() } else { window_bits };
                prop_assert!(held <= window_bits, "more is held than the policy says");
            }
        } else {
            prop_assert!(!answer.sending(&SERVER).takes_over());
            prop_assert!(!answer.receiving(&SERVER).takes_over());
        }
    }

    #[test]
    fn what_is_sent_inflates_at_the_peer_and_refers_no_further_back_than_agreed(
        (offer, policy) in (offers(), policies()),
        messages in messages(),
        sends in sends(),
        at in (1u8..=9).prop_map(level),
    ) {
        for role in ROLES {
            let agreed = policy.answer(&offer);
            let (size, takes_over) = of_sender(&agreed, &role);
            let mut context = agreed.sending(&role);
            let mut deflater = Deflater::new();
            let mut window = Vec::new();
            for (message, send) in messages.iter().zip(&sends) {
                let Some(payload) = sent(*send, message, at, &mut context, &mut deflater) else {
                    continue;
                };
                let mut wire = Vec::new();
                outbound::compressed(&role, OpCode::Binary, &payload, &mut wire);
                let [(first, payload)] = &written(&role, &wire)[..] else {
                    panic!("a compressed message is one frame");
                };
                prop_assert_eq!(*first, FIN | RSV1 | BINARY);
                let got = peer::inflate(last(&window, size), payload);
                let got = got.map_err(TestCaseError::fail)?;
                prop_assert_eq!(&got.message, message);
                prop_assert!(got.farthest <= size, "{} in {size}", got.farthest);
                if takes_over {
                    window.extend_from_slice(message);
                }
                let most = if takes_over { size } else { 0 };
                prop_assert!(context.held() <= most);
            }
        }
    }

    #[test]
    fn what_the_peer_sends_inflates_however_it_is_compressed_and_cut(
        (offer, policy) in (offers(), policies()),
        messages in messages(),
        styles in prop::collection::vec(prop::option::weighted(0.8, styles()), 10),
        sizes in prop::collection::vec(0usize..300, 0..4),
        chunks in prop::collection::vec(1usize..3000, 1..4),
    ) {
        for role in ROLES {
            let agreed = policy.answer(&offer);
            let (size, takes_over) = of_sender(&agreed, &peer_of(&role));
            let longest = messages.iter().map(Vec::len).max().unwrap_or_default();
            let exactly = Limits::default().message_size(longest);
            let (mut context, mut inflater) = (agreed.receiving(&role), Inflater::new());
            let mut inbound = Inbound::new(&role, &Limits::default(), Extension::Rsv1);
            let mut window = Vec::new();
            for (message, style) in messages.iter().zip(&styles) {
                let Some(style) = style else {
                    let bytes = frames(&role, BINARY, message, &sizes);
                    let got = feed_in_chunks(&mut inbound, &bytes, &chunks);
                    prop_assert_eq!(got, (vec![binary(message)], None));
                    continue;
                };
                let payload = peer::deflate(last(&window, size), size, message, *style);
                let bytes = frames(&role, RSV1 | BINARY, &payload, &sizes);
                let (events, error) = feed_in_chunks(&mut inbound, &bytes, &chunks);
                prop_assert_eq!(error, None);
                let [Event::Extended(OpCode::Binary, payload)] = &events[..] else {
                    panic!("one compressed message was sent: {events:?}");
                };
                let mut inflated = Vec::new();
                prop_assert_eq!(
                    inflater.inflate(payload, &mut context, &exactly, &mut inflated),
                    Ok(())
                );
                prop_assert_eq!(&inflated, message);
                if takes_over {
                    window.extend_from_slice(message);
                }
                let most = if takes_over { size } else { 0 };
                prop_assert!(context.held() <= most);
            }
        }
    }

    /// One compressor for the whole connection, with dynamic codes and the largest window.
    #[test]
    fn what_miniz_oxide_compresses_inflates(
        messages in messages(),
        at in 0u8..=10,
        takes_over in any::<bool>(),
    ) {
        let agreed = Parameters { client_no_context_takeover: !takes_over, ..super::unbounded() };
        let (mut context, mut inflater) = (agreed.receiving(&SERVER), Inflater::new());
        let flags = create_comp_flags_from_zip_params(at.into(), -15, 0);
        let mut compressor = CompressorOxide::new(flags);
        for message in &messages {
            if !takes_over {
                compressor = CompressorOxide::new(flags);
            }
            let mut payload = Vec::new();
            let mut all = |bytes: &[u8]| {
                payload.extend_from_slice(bytes);
                true
            };
            compress_to_output(&mut compressor, message, TDEFLFlush::Sync, &mut all);
            if payload.ends_with(&[0x00, 0x00, 0xff, 0xff]) {
                payload.truncate(payload.len() - 4);
            }
            let mut inflated = Vec::new();
            let limits = Limits::default();
            prop_assert_eq!(
                inflater.inflate(&payload, &mut context, &limits, &mut inflated),
                Ok(())
            );
            prop_assert_eq!(&inflated, message);
        }
    }

    /// Neither a panic nor a loop, nor more than the limit; and what passes is what the peer by
    /// hand reads.
    #[test]
    fn noise_and_spoilt_messages_inflate_as_they_do_by_hand_or_not_at_all(
        message in messages().prop_map(|messages| messages.concat()),
        style in styles(),
        noise in prop::collection::vec(any::<u8>(), 0..60),
        at in any::<prop::sample::Index>(),
        spoil in 0u8..4,
    ) {
        let mut payload = peer::deflate(b"", 32_768, &message, style);
        let at = at.index(payload.len());
        match spoil {
            0 => payload = noise,
            1 => payload.truncate(at),
            2 => payload[at] ^= noise.first().copied().unwrap_or(1),
            _ => payload.extend(noise),
        }
        let limits = Limits::default().message_size(2000);
        let mut inflated = Vec::new();
        let mut context = super::unbounded().receiving(&SERVER);
        let result = Inflater::new().inflate(&payload, &mut context, &limits, &mut inflated);
        prop_assert!(inflated.len() <= 2000);
        if result == Ok(())
            && let Ok(by_hand) = peer::inflate(b"", &payload)
        {
            prop_assert_eq!(inflated, by_hand.message);
        }
    }
}

#[test]
fn a_window_of_every_size_is_used_and_kept_to() {
    for window in 8..=15 {
        for at in [1, 2, 3, 5, 9] {
            let agreed =
                Parameters { server_max_window_bits: Some(bits(window)), ..Parameters::default() };
            let mut context = agreed.sending(&SERVER);
            let size = 1 << window;
            let (mut deflater, mut before) = (Deflater::new(), Vec::new());
            let mut farthest = 0;
            // The same noise comes again after a little less than a window, and a little more.
            for period in [size - 400, size - 280, size, size + 200].map(|n: i32| n.max(180)) {
                for _ in 0..2 {
                    let message = &NOISE[..period as usize];
                    let mut payload = Vec::new();
                    deflater.compress(message, level(at), &mut context, &mut payload);
                    let got = peer::inflate(last(&before, size as usize), &payload)
                        .expect("a valid message");
                    assert_eq!(got.message, message, "{window} bits, level {at}");
                    farthest = farthest.max(got.farthest);
                    before.extend_from_slice(message);
                }
            }
            assert!(farthest <= size as usize, "{farthest} in {window} bits, level {at}");
            let least = if window == 8 { 180 } else { size as usize - 400 };
            assert!(farthest >= least, "{farthest} in {window} bits, level {at}");
        }
    }
}

/// A compressor made for a large window would refer too far back, and the wrong level would go
/// unseen for ever.
#[test]
fn one_compressor_serves_windows_and_levels_in_any_order() {
    let mut deflater = Deflater::new();
    let mut lengths = std::collections::HashMap::new();
    let message =
        [&NOISE[..600], &NOISE[..600], b"to and fro, to and fro, and fro".repeat(9).as_slice()]
            .concat();
    for (window, at) in [(15, 1), (9, 1), (15, 1), (15, 9), (8, 9), (15, 9), (9, 1), (8, 9)] {
        let agreed =
            Parameters { server_max_window_bits: Some(bits(window)), ..Parameters::default() };
        let mut payload = Vec::new();
        deflater.compress(&message, level(at), &mut agreed.sending(&SERVER), &mut payload);
        let got = peer::inflate(b"", &payload).expect("a valid message");
        assert_eq!(got.message, message);
        assert!(got.farthest <= 1 << window, "{} in {window} bits", got.farthest);
        let mut fresh = Vec::new();
        Deflater::new().compress(&message, level(at), &mut agreed.sending(&SERVER), &mut fresh);
        assert_eq!(payload, fresh, "{window} bits, level {at}");
        lengths.insert((window, at), payload.len());
    }
    assert_ne!(lengths[&(15, 1)], lengths[&(15, 9)], "or the level makes no difference");
}
