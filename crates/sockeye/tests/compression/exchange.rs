//! Do messages arrive whole and in order in both directions, compressed as was agreed and not
//! otherwise, for every combination of parameters and at both ends?

use proptest::prelude::*;
use sockeye::{
    CloseCode, Compress, Compression, Config, Encoded, Limits, Message, Socket, deflate::Level,
};

use crate::{
    bits,
    content::{Content, PLAIN_STYLE, contents, json, noise, styles},
    deflate::Style,
    paused, settle,
    side::{self, Side},
    soon,
    wire::{Agreed, BINARY, CLOSE, PING, PONG, TEXT, Taken},
};

const THRESHOLD: usize = 256;

#[derive(Clone, Debug)]
enum Step {
    /// This end sends.
    Send(Content, How, Compress),
    /// The peer does, in fragments of these lengths.
    Take(Content, Option<Style>, Vec<usize>),
    /// A ping of either.
    Ping,
    Pinged,
    /// All tasks run, and the peer reads so many frames.
    Read(usize),
}

#[derive(Clone, Copy, Debug)]
enum How {
    Borrowed,
    Owned,
    Encoded,
}

fn sides() -> impl Strategy<Value = Side> {
    prop_oneof![3 => servers(), 2 => clients()]
}

fn window() -> impl Strategy<Value = Option<u8>> {
    prop::option::of(8u8..=15)
}

fn servers() -> impl Strategy<Value = Side> {
    let compression = prop_oneof![
        1 => Just(Compression::Shared),
        3 => (8u8..=15).prop_map(|window| Compression::Dedicated { window_bits: bits(window) }),
    ];
    let client = prop_oneof![
        Just(String::new()),
        Just("; client_max_window_bits".to_owned()),
        (8..=15).prop_map(|bits| format!("; client_max_window_bits={bits}")),
    ];
    (compression, any::<(bool, bool)>(), window(), client).prop_map(
        |(compression, no_takeover, server, client)| {
            let offer = element(no_takeover, server, None) + &client;
            Side::Server(compression, offer)
        },
    )
}

/// A server may answer each of the four to what browsers offer.
fn clients() -> impl Strategy<Value = Side> {
    (any::<(bool, bool)>(), window(), window()).prop_map(|(no_takeover, server, client)| {
        Side::Client(element(no_takeover, server, client))
    })
}

fn element(no_takeover: (bool, bool), server: Option<u8>, client: Option<u8>) -> String {
    let mut element = "permessage-deflate".to_owned();
    if no_takeover.0 {
        element += "; server_no_context_takeover";
    }
    if no_takeover.1 {
        element += "; client_no_context_takeover";
    }
    for (side, bits) in [("server", server), ("client", client)] {
        if let Some(bits) = bits {
            element += &format!("; {side}_max_window_bits={bits}");
        }
    }
    element
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = prop_oneof![Just(How::Borrowed), Just(How::Owned), Just(How::Encoded)];
    let compress = prop_oneof![3 => Just(Compress::Auto), 3 => Just(Compress::Always), 1 => Just(Compress::Never)];
    let cuts = prop::collection::vec(0usize..300, 0..4);
    let step = prop_oneof![
        8 => (contents(), how, compress).prop_map(|(content, how, compress)| Step::Send(content, how, compress)),
        4 => (contents(), styles(), cuts).prop_map(|(content, style, cuts)| Step::Take(content, style, cuts)),
        1 => Just(Step::Ping),
        1 => Just(Step::Pinged),
        3 => (0usize..4).prop_map(Step::Read),
    ];
    prop::collection::vec(step, 1..25)
}

fn message(content: &Content) -> Message<'_> {
    match content.opcode {
        TEXT => str::from_utf8(&content.payload).expect("a text").into(),
        _ => content.payload[..].into(),
    }
}

fn send(socket: &Socket, content: &Content, how: How, compress: Compress) {
    let borrowed = message(content);
    let status = match how {
        How::Borrowed => socket.send_with(borrowed, compress),
        How::Owned => socket.send_with(borrowed.into_owned(), compress),
        How::Encoded => socket.send_encoded(&Encoded::with(borrowed, compress)),
    };
    assert_eq!(status, sockeye::SendStatus::Queued);
}

/// Checks a frame that came against the next message that was sent.
fn check(
    taken: &Taken,
    (content, how, compress): &(Content, How, Compress),
    is_encoded_plain: bool,
) -> bool {
    let got = (taken.opcode, &taken.payload);
    assert!(
        got == (content.opcode, &content.payload),
        "another message: {} bytes of {}",
        taken.payload.len(),
        taken.opcode
    );
    let is_short = content.payload.len() < THRESHOLD;
    let is_wanted = match compress {
        Compress::Auto => !(is_short || is_encoded_plain && matches!(how, How::Encoded)),
        Compress::Always => true,
        Compress::Never => false,
    };
    assert!(is_wanted || !taken.was_compressed, "{how:?}, {compress:?}: {content:?}");
    // A long text gets shorter in any case.
    let has_to_be = is_wanted && content.opcode == TEXT && !is_short;
    assert!(taken.was_compressed || !has_to_be, "{how:?}, {compress:?}: {content:?}");
    taken.before > 0
}

/// Says whether what this end sent may refer to what it sent before, and whether it did.
async fn exchange(
    side: Side,
    steps: Vec<Step>,
    pipe: usize,
    split: Option<u64>,
    level: u8,
) -> (bool, bool) {
    let taken_lengths = steps.iter().filter_map(|step| match step {
        Step::Take(content, ..) => Some(content.payload.len()),
        _ => None,
    });
    // Stored blocks are longer than what is in them.
    let longest = taken_lengths.max().unwrap_or_default();
    let config = Config::default()
        .limits(Limits::default().message_size(longest + longest / 8 + 16))
        .compression_level(Level::new(level).expect("1 to 9"))
        .compression_threshold(THRESHOLD)
        .water_marks(1 << 30, 1 << 30)
        .outbox_limit(1 << 30);
    let (socket, mut calls, mut wire) = side.connect(config, pipe, split).await;
    let agreed = socket.compression().expect("it was agreed to").to_string();
    let agreed = Agreed::parse(&agreed);
    let takes_over = match side {
        Side::Server(..) => agreed.of_server.takes_over,
        Side::Client(..) => agreed.of_client.takes_over,
    };
    // A client masks each frame by itself, so nothing is encoded once.
    let is_encoded_plain = takes_over && matches!(side, Side::Server(..));
    let (mut sent, mut received, mut pings) = (Vec::new(), Vec::new(), 0);
    let (mut arrived, mut refers) = (0, false);
    for step in steps {
        match step {
            Step::Send(content, how, compress) => {
                send(&socket, &content, how, compress);
                sent.push((content, how, compress));
            }
            Step::Take(content, style, cuts) => {
                let frames = wire.message(content.opcode, &content.payload, style, &cuts);
                soon(wire.write(&frames)).await;
                received.push(content);
            }
            Step::Ping => {
                socket.ping("ours");
            }
            Step::Pinged => {
                soon(wire.send_control(PING, b"theirs")).await;
                pings += 1;
            }
            Step::Read(count) => {
                settle().await;
                for _ in 0..count.min(sent.len() - arrived) {
                    let taken = soon(wire.recv()).await.expect("the connection lives");
                    match taken.opcode {
                        PING | PONG => {}
                        _ => {
                            refers |= check(&taken, &sent[arrived], is_encoded_plain);
                            arrived += 1;
                        }
                    }
                }
            }
        }
    }
    settle().await;
    socket.close(CloseCode::NORMAL, "");
    let mut pongs = 0;
    loop {
        let taken = soon(wire.recv()).await.expect("the connection lives");
        match taken.opcode {
            PING => assert_eq!(taken.payload, b"ours"),
            PONG => pongs += 1,
            CLOSE => break,
            _ => {
                refers |= check(&taken, &sent[arrived], is_encoded_plain);
                arrived += 1;
            }
        }
    }
    assert!(pongs <= pings);
    assert_eq!(arrived, sent.len(), "all that was sent arrives before the close frame");
    settle().await;
    assert_eq!(socket.buffered(), 0);
    wire.send_control(CLOSE, &1000_u16.to_be_bytes()).await;
    for content in received {
        let got = side::message(&mut calls).await;
        assert!(got == message(&content), "another message came in");
    }
    assert!(side::close(&mut calls).await.clean);
    (takes_over, refers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_sent_arrives_whole_and_in_order_and_compressed_as_was_agreed(
        side in sides(),
        steps in steps(),
        pipe in prop_oneof![1usize..200, 200usize..5000, 5000usize..200_000],
        split in prop::option::weighted(0.3, 1u64..3000),
        level in prop_oneof![2 => Just(1u8), 1 => 2u8..=9],
    ) {
        paused(exchange(side, steps, pipe, split, level));
    }
}

#[test]
fn every_combination_of_parameters_carries_messages_both_ways() {
    let content = |opcode, payload: Vec<u8>| Content { opcode, payload };
    let text = |length| content(TEXT, json(3, length).into_bytes());
    let send = |content| Step::Send(content, How::Owned, Compress::Always);
    let take = |content| Step::Take(content, Some(PLAIN_STYLE), vec![10, 0]);
    let steps = [
        send(text(100)),
        send(text(100)),
        Step::Read(2),
        take(text(100)),
        take(text(20_000)),
        send(content(BINARY, noise(300))),
        send(text(20_000)),
        take(content(BINARY, noise(300))),
        send(content(TEXT, Vec::new())),
        take(content(TEXT, Vec::new())),
        send(text(100)),
        take(text(100)),
    ];
    let no_takeovers = [(false, false), (false, true), (true, false), (true, true)];
    let mut sides = Vec::new();
    for no_takeover in no_takeovers {
        for server in [None, Some(8), Some(12)] {
            for client in ["", "; client_max_window_bits", "; client_max_window_bits=8"] {
                let offer = element(no_takeover, server, None) + client;
                let dedicated = |window| Compression::Dedicated { window_bits: bits(window) };
                for compression in [Compression::Shared, dedicated(9), dedicated(15)] {
                    sides.push(Side::Server(compression, offer.clone()));
                }
            }
            for client in [None, Some(8), Some(15)] {
                sides.push(Side::Client(element(no_takeover, server, client)));
            }
        }
    }
    for side in sides {
        let (takes_over, refers) = paused(exchange(side.clone(), steps.to_vec(), 10_000, None, 1));
        assert_eq!(refers, takes_over, "{side:?}");
    }
}
