//! Does what is said about waiting messages hold where they are compressed before they are written?

use futures_util::FutureExt;
use proptest::prelude::*;
use sockeye::{CloseCode, Compress, Config, DropReason, Limits, SendStatus, Socket};

use crate::{
    content::{Content, contents, json, noise},
    paused, settle,
    side::{self, Call, Side},
    soon,
    wire::{BINARY, CLOSE, PING, PONG, TEXT, Wire},
};

fn sides() -> [Side; 3] {
    [Side::dedicated(), Side::client(), Side::shared()]
}

/// Takes what is there and counts the messages in it.
async fn messages(wire: &mut Wire, most: usize) -> usize {
    wire.read_at_most(most).await;
    let mut count = 0;
    while let Some(taken) = wire.next() {
        count += usize::from([TEXT, BINARY].contains(&taken.opcode));
    }
    count
}

/// A message, how it is sent, whether there is a ping too, and how much is read then; none at all if
/// the tasks do not run.
type Step = (Content, Compress, bool, Option<usize>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let compress = prop_oneof![
        2 => Just(Compress::Auto),
        2 => Just(Compress::Always),
        1 => Just(Compress::Never),
    ];
    let read = prop::option::of(0usize..3000);
    prop::collection::vec((contents(), compress, any::<bool>(), read), 1..20)
}

async fn account(side: Side, steps: Vec<Step>, pipe: usize) {
    let config = Config::default().water_marks(1 << 30, 1 << 30).outbox_limit(1 << 30);
    let (socket, _calls, mut wire) = side.connect(config, pipe, None).await;
    let mut waiting = Vec::new();
    let mut arrived = 0;
    let mut check = async |waiting: &[tokio::task::JoinHandle<_>], wire: &mut Wire, most| {
        settle().await;
        let flushed = waiting.iter().take_while(|task| task.is_finished()).count();
        assert_eq!(flushed, waiting.iter().filter(|task| task.is_finished()).count());
        let is_idle = socket.buffered() == 0;
        // What has left is in the pipe, or was read before.
        let read = messages(wire, most).await;
        let behind = messages(wire, 100_000).await;
        arrived += read + behind;
        assert!(arrived >= flushed, "{flushed} are flushed, and {arrived} have left");
        assert!(!is_idle || arrived == waiting.len(), "nothing waits, and {arrived} have left");
        arrived
    };
    for (Content { opcode, payload }, compress, ping, read) in steps {
        let message = match opcode {
            TEXT => sockeye::Message::from(String::from_utf8(payload).expect("a text")),
            _ => payload.into(),
        };
        assert_eq!(socket.send_with(message, compress), SendStatus::Queued);
        let flushed = socket.clone();
        waiting.push(tokio::spawn(async move { flushed.flushed().await }));
        if ping {
            socket.ping("");
        }
        if let Some(most) = read {
            check(&waiting, &mut wire, most).await;
        }
    }
    // A message after the other leaves, as the peer takes them.
    let mut rounds = 0;
    while check(&waiting, &mut wire, 0).await < waiting.len() {
        rounds += 1;
        assert!(rounds < 2_000_000 / pipe, "it stands still");
    }
    check(&waiting, &mut wire, 0).await;
    assert_eq!(socket.buffered(), 0);
    for task in waiting {
        assert_eq!(soon(task).await.expect("no panic"), Ok(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flushed_is_neither_early_nor_late_and_in_the_end_nothing_waits(
        side in (0usize..3).prop_map(|n| sides()[n].clone()),
        steps in steps(),
        pipe in prop_oneof![20usize..500, 500usize..20_000],
    ) {
        paused(account(side, steps, pipe));
    }
}

/// A client's mask makes what could not be compressed longer than what was queued.
#[tokio::test(start_paused = true)]
async fn a_message_is_not_flushed_as_long_as_a_byte_of_it_waits() {
    for side in sides() {
        let (socket, _calls, mut wire) = side.connect(Config::default(), 300, None).await;
        // All of these go at once, and nothing of the last one fits.
        for _ in 0..30 {
            socket.send_with(noise(10), Compress::Always);
        }
        settle().await;
        socket.send_with(noise(40), Compress::Always);
        let waiting = socket.clone();
        let waiting = tokio::spawn(async move { waiting.flushed().await });
        let mut arrived = 0;
        while arrived < 31 {
            settle().await;
            let is_flushed = waiting.is_finished();
            arrived += messages(&mut wire, if is_flushed { 1000 } else { 10 }).await;
            assert!(!is_flushed || arrived == 31, "{side:?}: {arrived} messages have left");
        }
        settle().await;
        assert_eq!(socket.buffered(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn drain_is_called_once_for_each_time_that_backpressure_was_reported() {
    for side in sides() {
        let config = Config::default().water_marks(500, 4000);
        let (socket, mut calls, mut wire) = side.connect(config, 200, None).await;
        for round in 0..4 {
            let mut reported = 0;
            let is_pressed = |status| match status {
                SendStatus::Queued => 0,
                SendStatus::Backpressure { buffered } => {
                    assert!(buffered > 4000);
                    1
                }
                SendStatus::Dropped(reason) => panic!("{reason}"),
            };
            for n in 0..30 {
                // Such that are hardly shorter, too.
                reported += is_pressed(socket.send(json(n + round, 900)));
                reported += is_pressed(socket.send(noise(400)));
            }
            assert!(reported > 0 && reported < 60, "{side:?}: {reported}");
            assert!(socket.writable().now_or_never().is_none());
            let writable = socket.clone();
            let writable = tokio::spawn(async move { writable.writable().await });
            for _ in 0..60 {
                soon(wire.recv()).await.expect("a message");
                settle().await;
                if let Ok(call) = calls.try_recv() {
                    assert!(matches!(call, Call::Drain(..=500)), "{call:?}");
                    reported = 0;
                }
            }
            assert_eq!(reported, 0, "{side:?}: `drain` was called");
            assert!(calls.try_recv().is_err(), "{side:?}: and but once");
            assert_eq!(soon(writable).await.expect("no panic"), Ok(()));
            assert_eq!(socket.buffered(), 0);
        }
    }
}

/// What the peer gets in the end: whole messages from the first one on, then a close frame.
async fn rest(socket: &Socket, wire: &mut Wire, sent: &[Vec<u8>]) -> (usize, u16) {
    let mut arrived = 0;
    loop {
        let taken = soon(wire.recv()).await.expect("a close frame is last");
        match taken.opcode {
            CLOSE => {
                settle().await;
                assert_eq!(socket.buffered(), 0, "all has left that will");
                wire.send_control(CLOSE, &taken.payload).await;
                return (arrived, u16::from_be_bytes([taken.payload[0], taken.payload[1]]));
            }
            PING | PONG => {}
            _ => {
                assert!(taken.payload == sent[arrived], "message {arrived} is another one");
                arrived += 1;
            }
        }
    }
}

/// What is on its way into the pipe is whole, what waits behind it is not sent: neither such that is
/// compressed already nor such that is not yet.
#[tokio::test(start_paused = true)]
async fn a_peer_for_which_too_much_waits_gets_whole_messages_and_1013() {
    for side in sides() {
        for (pipe, first, together) in
            [(300, 1, false), (300, 10, false), (5, 20, false), (300, 10, true), (100_000, 3, true)]
        {
            for length in [700, 20_000] {
                let limit = 30 * length;
                let config = Config::default().outbox_limit(limit);
                let (socket, mut calls, mut wire) = side.connect(config, pipe, None).await;
                let mut sent = Vec::new();
                let status = loop {
                    let message = match sent.len() % 3 {
                        2 => noise(length),
                        n => json(sent.len() + n, length).into_bytes(),
                    };
                    sent.push(message.clone());
                    let status = socket.send_with(message, Compress::Always);
                    if matches!(status, SendStatus::Dropped(_)) {
                        break status;
                    }
                    if sent.len() == first || !together {
                        settle().await;
                    }
                    assert!(sent.len() < 2000, "{side:?}: the pipe takes all");
                    if sent.len() == first {
                        // Such that are taken from now on wait in another queue.
                        socket.ping("");
                    }
                };
                assert_eq!(status, SendStatus::Dropped(DropReason::Overflow));
                assert_eq!(
                    socket.send("no more"),
                    SendStatus::Dropped(DropReason::Closed),
                    "a hole in the stream"
                );
                settle().await;
                let (arrived, code) = rest(&socket, &mut wire, &sent).await;
                assert_eq!(code, 1013, "{side:?}");
                assert!(arrived < sent.len(), "{side:?}: the last one was refused");
                let close = side::close(&mut calls).await;
                assert_eq!((close.code, close.clean), (CloseCode::TRY_AGAIN, true), "{side:?}");
                assert_eq!(socket.buffered(), 0);
            }
        }
    }
}

/// Where the pipe is full at the end of a frame, too, and nothing of it is left to be written.
#[tokio::test(start_paused = true)]
async fn an_overflow_at_any_byte_of_a_batch_gives_up_all_that_waited() {
    for side in [Side::dedicated(), Side::client()] {
        for pipe in 1..300 {
            let config = Config::default().outbox_limit(3000);
            let (socket, _calls, mut wire) = side.connect(config, pipe, None).await;
            let mut sent: Vec<_> = (0..9).map(|n| json(n, 300).into_bytes()).collect();
            for message in &sent {
                socket.send(&message[..]);
            }
            settle().await;
            sent.push(noise(3000));
            let status = socket.send(noise(3000));
            assert_eq!(status, SendStatus::Dropped(DropReason::Overflow), "{pipe}");
            settle().await;
            let (arrived, code) = rest(&socket, &mut wire, &sent).await;
            assert_eq!(code, 1013);
            assert!(arrived < 9, "{side:?}, {pipe}: the pipe took all");
        }
    }
}

/// Over a pipe that takes little at a time, wherever the batch is cut.
#[tokio::test(start_paused = true)]
async fn control_frames_overtake_a_compressed_batch_between_two_messages() {
    for side in sides() {
        for (pipe, split, lengths) in
            [(64, None, 900), (64, Some(7), 900), (700, Some(100), 900), (1000, None, 20_000)]
        {
            // Beyond it a server does not read what its peer sends.
            let config = Config::default()
                .water_marks(1 << 30, 1 << 30)
                .limits(Limits::default().control_rate(u32::MAX));
            let (socket, _calls, mut wire) = side.connect(config, pipe, split).await;
            let sent: Vec<_> = (0..30)
                .map(|n| match n % 3 {
                    0 => noise(lengths),
                    _ => json(n, lengths).into_bytes(),
                })
                .collect();
            for message in &sent {
                socket.send_with(message.clone(), Compress::Always);
            }
            settle().await;
            let (mut arrived, mut pongs, mut pings) = (0, 0, 0);
            while arrived < sent.len() {
                let taken = soon(wire.recv()).await.expect("the connection lives");
                match taken.opcode {
                    PONG => pongs += 1,
                    PING => pings += 1,
                    _ => {
                        assert!(taken.payload == sent[arrived], "message {arrived}");
                        arrived += 1;
                        wire.send_control(PING, b"theirs").await;
                        settle().await;
                        socket.ping("ours");
                    }
                }
            }
            assert!(
                pongs > 20 && pings > 20,
                "{side:?}: {pongs} pongs, {pings} pings came between"
            );
            // What is left are control frames.
            while let Some(taken) = soon(wire.recv()).now_or_never().flatten() {
                assert!([PING, PONG].contains(&taken.opcode));
            }
            settle().await;
            wire.read_at_most(100_000).await;
            settle().await;
            assert_eq!(socket.buffered(), 0, "{side:?}");
        }
    }
}
