//! What happens when a peer takes less than is sent to it?

use std::{panic::Location, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;
use sockeye::{
    Close, CloseCode, Closed, ClosedBy, Config, DropReason, Handler, Message, OpCode, Result,
    SendStatus, Session, Socket, State,
    testing::{self, Frame, Peer, frame},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{sleep, timeout},
};

const OVERFLOW: SendStatus = SendStatus::Dropped(DropReason::Overflow);
const CLOSED: SendStatus = SendStatus::Dropped(DropReason::Closed);

#[derive(Debug)]
enum Call {
    Open(Socket),
    Drain {
        buffered: usize,
    },
    /// The status of what the handler has sent because of a message.
    Sent(SendStatus),
    Close(Close),
}

/// Echoes binary messages. A text is a command.
struct Echo(UnboundedSender<Call>);

impl Handler for Echo {
    type Data = ();

    async fn open(&self, session: &mut Session<()>) -> Result {
        Ok(self.0.send(Call::Open(session.socket.clone()))?)
    }

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        let Some(command) = message.as_text() else {
            session.send(message);
            return Ok(());
        };
        for _ in 0..3 {
            self.0.send(Call::Sent(session.send(vec![1; 600_000])))?;
        }
        match command {
            "overflow and close" => session.close(CloseCode::NORMAL, "all is well"),
            "overflow and fail" => return Err("the message was refused".into()),
            _ => {}
        }
        Ok(())
    }

    async fn drain(&self, session: &mut Session<()>) -> Result {
        Ok(self.0.send(Call::Drain { buffered: session.buffered() })?)
    }

    async fn close(&self, _: &mut Session<()>, close: &Close) -> Result {
        Ok(self.0.send(Call::Close(close.clone()))?)
    }
}

async fn connect_with(config: Config, pipe: usize) -> (Peer, UnboundedReceiver<Call>, Socket) {
    let (sender, mut calls) = unbounded_channel();
    let peer = testing::connect_with(Echo(sender), config).pipe(pipe).await;
    let Some(Call::Open(socket)) = calls.recv().await else { panic!("`open` comes first") };
    (peer, calls, socket)
}

async fn connect(pipe: usize) -> (Peer, UnboundedReceiver<Call>, Socket) {
    connect_with(Config::default(), pipe).await
}

/// Lets all tasks run until they wait.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Waits for what has to come without further ado.
#[track_caller]
fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let result = timeout(Duration::from_secs(1), future).await;
        result.unwrap_or_else(|_| panic!("what {caller} waits for does not come"))
    }
}

fn assert_idle(calls: &UnboundedReceiver<Call>) {
    assert!(calls.is_empty(), "no further call");
}

async fn close_of(calls: &mut UnboundedReceiver<Call>) -> Close {
    loop {
        match calls.recv().await.expect("`close` is called") {
            Call::Close(close) => return close,
            Call::Open(_) | Call::Drain { .. } | Call::Sent(_) => {}
        }
    }
}

// ---- what a send says

#[tokio::test(start_paused = true)]
async fn a_send_says_how_much_waits_once_that_is_more_than_the_high_water_mark() {
    let config = Config::default().water_marks(1000, 4000);
    let (mut peer, mut calls, socket) = connect_with(config, 100).await;
    assert_eq!(socket.buffered(), 0);
    // A header of four bytes each.
    for n in 1..=4 {
        assert_eq!(socket.send(vec![n; 996]), SendStatus::Queued);
        assert_eq!(socket.buffered(), 1000 * usize::from(n));
    }
    assert_eq!(socket.send("x"), SendStatus::Backpressure { buffered: 4003 });
    settle().await;
    assert_eq!(socket.buffered(), 3903, "the pipe has taken 100 bytes");
    assert_eq!(socket.send("y"), SendStatus::Queued);
    for n in 1..=4 {
        assert_eq!(peer.recv_binary().await, vec![n; 996]);
    }
    assert_eq!(peer.recv_text().await, "x");
    assert_eq!(peer.recv_text().await, "y");
    settle().await;
    assert_eq!(socket.buffered(), 0);
    assert!(matches!(calls.recv().await, Some(Call::Drain { buffered: ..=1000 })));
    assert_idle(&calls);
}

#[tokio::test(start_paused = true)]
async fn buffered_counts_payloads_by_reference_and_control_frames_and_comes_back_to_nothing() {
    let (mut peer, _calls, socket) = connect(100).await;
    socket.send(Bytes::from(vec![0; 100_000]));
    assert!((100_000..100_200).contains(&socket.buffered()), "{}", socket.buffered());
    settle().await;
    let before = socket.buffered();
    socket.ping("12345");
    assert_eq!(socket.buffered(), before + 7);
    settle().await;
    assert_eq!(socket.buffered(), before + 7);
    assert_eq!(peer.recv_binary().await.len(), 100_000);
    assert_eq!(peer.recv().await.unwrap().opcode, OpCode::Ping);
    settle().await;
    assert_eq!(socket.buffered(), 0);
}

#[tokio::test(start_paused = true)]
async fn drain_is_called_once_for_each_time_that_backpressure_was_reported() {
    let config = Config::default().water_marks(2000, 10_000);
    let (mut peer, mut calls, socket) = connect_with(config, 500).await;
    for _ in 0..5 {
        for n in 0..30 {
            let status = socket.send(vec![0; 996]);
            assert_eq!(status == SendStatus::Queued, n < 10, "{n}: {status:?}");
        }
        for n in 0..30 {
            // The pipe holds another 500 bytes, and the peer reads ahead.
            assert!(n > 25 || calls.is_empty(), "too early, after {n}");
            assert_eq!(peer.recv_binary().await.len(), 996);
            settle().await;
        }
        let Some(Call::Drain { buffered }) = calls.recv().await else { panic!("`drain`") };
        assert!(buffered <= 2000, "{buffered}");
        assert_idle(&calls);
    }
    // Below the high-water mark, nobody was told to wait.
    for _ in 0..9 {
        assert_eq!(socket.send(vec![0; 996]), SendStatus::Queued);
    }
    for _ in 0..9 {
        peer.recv_binary().await;
    }
    settle().await;
    assert_idle(&calls);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_sends_until_told_to_wait_and_again_in_drain_keeps_a_slow_peer_busy() {
    fn fill(session: &mut Session<()>) {
        while session.send(vec![0; 5000]) == SendStatus::Queued {}
        assert!(session.buffered() < 70_100, "{}", session.buffered());
    }
    let handler = sockeye::on().on_open(fill).on_drain(fill);
    let mut peer = testing::connect(handler).pipe(1000).await;
    for _ in 0..1000 {
        assert_eq!(soon(peer.recv_binary()).await.len(), 5000);
    }
}

// ---- waiting

#[tokio::test(start_paused = true)]
async fn flushed_returns_once_what_was_sent_before_is_taken_and_not_earlier() {
    for (first, second) in [(996, 3000), (50_000, 1000), (3000, 50_000), (50_000, 50_000)] {
        let (mut peer, _calls, socket) = connect(500).await;
        soon(socket.flushed()).await.unwrap();
        socket.send(vec![1; first]);
        let waiting = socket.clone();
        let waiting = tokio::spawn(async move { waiting.flushed().await });
        settle().await;
        socket.send(vec![2; second]);
        // Both are in one queue, or the second comes while the first is being written.
        assert!(!waiting.is_finished());
        let later = socket.clone();
        let later = tokio::spawn(async move { later.flushed().await });
        assert_eq!(peer.recv_binary().await.len(), first);
        soon(waiting).await.unwrap().unwrap();
        assert!(!later.is_finished(), "{first}, {second}");
        assert_eq!(peer.recv_binary().await.len(), second);
        soon(later).await.unwrap().unwrap();
    }
}

/// The pipe is filled exactly by the first message: the kernel has it, and not a byte more.
#[tokio::test(start_paused = true)]
async fn flushed_waits_for_no_byte_that_was_sent_after_it() {
    for by_reference in [false, true] {
        let (peer, _calls, socket) = connect(20_004).await;
        let payload = Bytes::from(vec![1; 20_000]);
        if by_reference {
            socket.send(payload.clone())
        } else {
            socket.send(&payload[..])
        };
        let mut waiting = pin!(socket.flushed());
        assert!((&mut waiting).now_or_never().is_none());
        socket.send(vec![2; 20_000]);
        let done = timeout(Duration::from_secs(1), waiting).await;
        assert!(done.is_ok(), "by reference: {by_reference}");
        drop(peer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_in_between_does_not_make_flushed_come_early() {
    let (mut peer, _calls, socket) = connect(500).await;
    socket.send(vec![1; 5000]);
    settle().await;
    for n in 0..20 {
        socket.ping([n; 100]);
        settle().await;
    }
    socket.send(vec![2; 5000]);
    let waiting = socket.clone();
    let waiting = tokio::spawn(async move { waiting.flushed().await });
    let mut taken = 0;
    while taken < 2 {
        settle().await;
        assert!(!waiting.is_finished() || taken == 1, "4500 bytes are still here");
        if peer.recv().await.unwrap().opcode == OpCode::Binary {
            taken += 1;
        }
    }
    soon(waiting).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn writable_returns_once_no_more_than_the_low_water_mark_waits() {
    let config = Config::default().water_marks(2000, 4000);
    let (mut peer, _calls, socket) = connect_with(config, 100).await;
    soon(socket.writable()).await.unwrap();
    for _ in 0..10 {
        socket.send(vec![0; 996]);
    }
    let waiting = socket.clone();
    let waiting = tokio::spawn(async move {
        waiting.writable().await.unwrap();
        waiting.buffered()
    });
    for _ in 0..7 {
        peer.recv_binary().await;
        settle().await;
        assert!(!waiting.is_finished());
    }
    peer.recv_binary().await;
    let buffered = soon(waiting).await.unwrap();
    assert!((1000..=2000).contains(&buffered), "{buffered}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_peer_that_takes_nothing_learns_of_a_close_at_once() {
    let (_peer, _calls, socket) = connect(100).await;
    socket.send(vec![0; 100_000]);
    settle().await;
    let waiting = socket.clone();
    let writable = tokio::spawn(async move { waiting.writable().await });
    settle().await;
    assert!(!writable.is_finished());
    socket.close(CloseCode::NORMAL, "");
    assert_eq!(soon(writable).await.unwrap().map_err(|_| ()), Err(()));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_peer_that_takes_nothing_learns_of_the_end() {
    for end in ["terminate", "timeout", "leave", "overflow"] {
        let (peer, _calls, socket) = connect(100).await;
        socket.send(vec![0; 600_000]);
        settle().await;
        let (first, second) = (socket.clone(), socket.clone());
        let flushed = tokio::spawn(async move { first.flushed().await });
        let writable = tokio::spawn(async move { second.writable().await });
        settle().await;
        assert!(!flushed.is_finished() && !writable.is_finished());
        match end {
            "terminate" => socket.terminate(),
            "leave" => drop(peer),
            "overflow" => assert_eq!(socket.send(vec![0; 600_000]), OVERFLOW),
            _ => sleep(Duration::from_secs(30)).await,
        }
        let limit = Duration::from_secs(10);
        let flushed: Result<(), Closed> = timeout(limit, flushed).await.expect(end).unwrap();
        let writable: Result<(), Closed> = timeout(limit, writable).await.expect(end).unwrap();
        assert!(flushed.is_err() && writable.is_err(), "{end}");
    }
}

/// The peer leaves, or takes nothing for too long; the handler must not wait for ever.
#[tokio::test(start_paused = true)]
async fn a_handler_that_waits_for_its_peer_learns_of_the_end() {
    for end in ["leave", "timeout"] {
        for wait in ["flushed", "writable"] {
            let (sender, mut done) = unbounded_channel();
            let handler = sockeye::on().on_text_async(async move |session, text| {
                session.send(vec![0; 600_000]);
                let outcome = match text {
                    "flushed" => session.flushed().await,
                    _ => session.writable().await,
                };
                let _ = sender.send(outcome);
            });
            let mut peer = testing::connect(handler).pipe(100).await;
            peer.send(wait).await;
            settle().await;
            let _peer = (end == "timeout").then_some(peer);
            let outcome = timeout(Duration::from_secs(600), done.recv()).await;
            let outcome = outcome.unwrap_or_else(|_| panic!("{wait} waits for ever after {end}"));
            assert!(outcome.unwrap().is_err());
        }
    }
}

// ---- slow, not fatal

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_ten_mebibytes_before_it_reads_gets_all_of_it_back_in_order() {
    let (mut peer, mut calls, socket) = connect(8 * 1024).await;
    let messages = 1024_u32;
    let payload = |n: u32| {
        let mut payload = vec![n as u8; 10 * 1024];
        payload[..4].copy_from_slice(&n.to_be_bytes());
        payload
    };
    let (mut sent, mut most, mut taken, mut stalled) = (0, 0, 0, false);
    // It reads only when nothing more can be written, and then as little as it can.
    'send: for n in 0..messages {
        for piece in frame(OpCode::Binary, true, &payload(n)).chunks(512) {
            if timeout(Duration::from_millis(10), peer.send_raw(piece)).await.is_err() {
                stalled = true;
                break 'send;
            }
        }
        sent += 1;
        most = most.max(socket.buffered());
    }
    assert!(stalled, "the server takes no more than it can hold");
    assert!(most < 200_000, "{most} bytes wait");
    while taken < sent {
        assert_eq!(peer.recv_binary().await, payload(taken));
        taken += 1;
    }
    assert!(taken > 5, "{taken}");
    assert_eq!(socket.state(), State::Open);
    assert!(matches!(calls.recv().await, Some(Call::Drain { .. })));
}

/// The same over TCP, where one half of the peer reads only after the other has written all.
#[tokio::test]
async fn a_slow_echo_of_ten_mebibytes_over_tcp_is_whole() {
    let (sender, _calls) = unbounded_channel();
    let server = sockeye::Server::new().ws("/", Echo(sender)).bind("127.0.0.1:0").await.unwrap();
    let mut tcp = TcpStream::connect(server.local_addr()).await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    tcp.write_all(request.as_bytes()).await.unwrap();
    let (mut read, mut write) = tcp.into_split();
    let writer = tokio::spawn(async move {
        for n in 0..160u8 {
            write.write_all(&frame(OpCode::Binary, true, &vec![n; 65_000])).await.unwrap();
        }
        write
    });
    sleep(Duration::from_millis(300)).await;
    assert!(!writer.is_finished(), "the server takes no more than it can hold");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(read.read_u8().await.unwrap());
    }
    let mut payload = vec![0; 65_004];
    for n in 0..160u8 {
        read.read_exact(&mut payload).await.unwrap();
        assert_eq!(payload[..4], [0x82, 126, 0xfd, 0xe8]);
        assert!(payload[4..].iter().all(|byte| *byte == n), "message {n}");
    }
    writer.await.unwrap();
}

// ---- too slow

/// What the peer gets: the lengths of whole messages, and the close frame behind them.
async fn drain_peer(peer: &mut Peer) -> (Vec<usize>, Option<CloseCode>) {
    let mut lengths = Vec::new();
    while let Some(Frame { opcode, payload, .. }) = soon(peer.recv()).await {
        if opcode == OpCode::Close {
            let code = CloseCode(u16::from_be_bytes([payload[0], payload[1]]));
            peer.send_raw(&frame(OpCode::Close, true, &payload)).await;
            soon(peer.recv_end()).await;
            return (lengths, Some(code));
        }
        lengths.push(payload.len());
    }
    (lengths, None)
}

#[tokio::test(start_paused = true)]
async fn a_peer_for_which_too_much_waits_gets_the_frame_on_the_wire_and_1013_and_nothing_else() {
    let (mut peer, mut calls, socket) = connect(1000).await;
    for _ in 0..10 {
        socket.send(vec![0; 90_000]);
    }
    settle().await;
    assert_eq!(socket.send(vec![0; 400_000]), OVERFLOW);
    assert_eq!(socket.state(), State::Closing);
    assert_eq!(socket.send("small enough to fit"), CLOSED);
    settle().await;
    assert_eq!(socket.send("small enough to fit"), CLOSED);
    assert!(socket.buffered() < 100_000, "the rest was given up: {}", socket.buffered());
    assert_eq!(drain_peer(&mut peer).await, (vec![90_000], Some(CloseCode::TRY_AGAIN)));
    let close = close_of(&mut calls).await;
    assert_eq!((close.by, close.code, close.clean), (ClosedBy::Local, CloseCode::TRY_AGAIN, true));
}

#[tokio::test(start_paused = true)]
async fn overflow_by_small_messages_ends_at_a_frame_boundary_too() {
    let config = Config::default().outbox_limit(10_000);
    let (mut peer, _calls, socket) = connect_with(config, 1234).await;
    let mut taken = 0;
    loop {
        match socket.send(vec![0; 95]) {
            SendStatus::Dropped(reason) => break assert_eq!(reason, DropReason::Overflow),
            _ => taken += 1,
        }
        settle().await;
    }
    assert!((100..120).contains(&taken), "{taken}");
    let (lengths, code) = drain_peer(&mut peer).await;
    // 1234 bytes of frames of 97: the thirteenth is on the wire.
    assert_eq!((lengths, code), (vec![95; 13], Some(CloseCode::TRY_AGAIN)));
}

/// There is no frame to finish when the pipe is full to the end of one, or nothing was written.
#[tokio::test(start_paused = true)]
async fn overflow_between_two_frames_still_ends_with_1013() {
    let config = Config::default().outbox_limit(10_000);
    for (pipe, by_reference) in [(1000, false), (1000, true), (20_004 * 3, true)] {
        let (mut peer, mut calls, socket) = connect_with(config.clone(), pipe).await;
        // With a header of two or four bytes, the pipe holds a whole number of frames.
        let (size, whole) = if pipe == 1000 { (98, 10) } else { (20_000, 3) };
        loop {
            let status = match by_reference {
                true => socket.send(Bytes::from(vec![0; size])),
                false => socket.send(&vec![0; size][..]),
            };
            settle().await;
            if status == OVERFLOW {
                break;
            }
        }
        settle().await;
        let (lengths, code) = drain_peer(&mut peer).await;
        assert_eq!(code, Some(CloseCode::TRY_AGAIN), "pipe of {pipe}, {} messages", lengths.len());
        assert_eq!(lengths, vec![size; whole]);
        assert_eq!(close_of(&mut calls).await.code, CloseCode::TRY_AGAIN);
    }
}

#[tokio::test(start_paused = true)]
async fn overflow_before_anything_was_written_still_ends_with_1013() {
    let (mut peer, mut calls, socket) = connect(1000).await;
    assert_ne!(socket.send(vec![0; 900_000]), OVERFLOW);
    assert_eq!(socket.send(vec![0; 900_000]), OVERFLOW);
    let (lengths, code) = drain_peer(&mut peer).await;
    assert_eq!(code, Some(CloseCode::TRY_AGAIN), "after {lengths:?}");
    let close = close_of(&mut calls).await;
    assert_eq!((close.code, close.clean), (CloseCode::TRY_AGAIN, true));
}

/// Else the stream would look whole although a message is missing.
#[tokio::test(start_paused = true)]
async fn no_other_close_code_hides_an_overflow() {
    for command in ["overflow", "overflow and close", "overflow and fail"] {
        let (mut peer, mut calls, _) = connect(1000).await;
        peer.send(command).await;
        let (_, code) = drain_peer(&mut peer).await;
        assert_eq!(code, Some(CloseCode::TRY_AGAIN), "{command}");
        assert!(matches!(calls.recv().await, Some(Call::Sent(SendStatus::Backpressure { .. }))));
        assert!(matches!(calls.recv().await, Some(Call::Sent(OVERFLOW))));
        assert!(matches!(calls.recv().await, Some(Call::Sent(CLOSED))));
        assert_eq!(close_of(&mut calls).await.code, CloseCode::TRY_AGAIN, "{command}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_too_slow_for_the_rest_as_well_is_cut_after_the_close_timeout() {
    let (_peer, mut calls, socket) = connect(1000).await;
    socket.send(vec![0; 900_000]);
    settle().await;
    let start = tokio::time::Instant::now();
    assert_eq!(socket.send(vec![0; 900_000]), OVERFLOW);
    let close = close_of(&mut calls).await;
    assert_eq!((close.code, close.clean), (CloseCode::TRY_AGAIN, false));
    let took = start.elapsed().as_secs_f32();
    assert!((4.9..=6.0).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn an_empty_outbox_takes_one_message_of_any_size() {
    let config = Config::default().outbox_limit(1000);
    let (mut peer, _calls, socket) = connect_with(config, 1000).await;
    for size in [1000, 5000, 3_000_000] {
        assert!(matches!(
            socket.send(vec![0; size]),
            SendStatus::Queued | SendStatus::Backpressure { .. }
        ));
        assert_eq!(peer.recv_binary().await.len(), size);
        settle().await;
    }
    socket.send(vec![0; 5000]);
    assert_eq!(socket.send(vec![0; 1]), OVERFLOW);
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_waits_does_not_make_an_outbox_less_empty() {
    let config = Config::default().outbox_limit(1000);
    let (mut peer, _calls, socket) = connect_with(config, 1000).await;
    socket.ping([0; 100]);
    assert!(matches!(
        socket.send(vec![0; 5000]),
        SendStatus::Queued | SendStatus::Backpressure { .. }
    ));
    assert_eq!(peer.recv().await.unwrap().opcode, OpCode::Ping);
    assert_eq!(peer.recv_binary().await.len(), 5000);
}

// ---- control frames

#[tokio::test(start_paused = true)]
async fn a_pong_and_a_ping_leave_behind_the_frame_on_the_wire_ahead_of_all_that_waits() {
    for size in [500, 40_000] {
        let (mut peer, _calls, socket) = connect(1000).await;
        // Little enough that the peer is still read from.
        let count = if size == 500 { 50 } else { 1 };
        for _ in 0..count {
            socket.send(vec![1; size]);
        }
        settle().await;
        for _ in 0..count {
            socket.send(vec![2; size.min(400)]);
        }
        settle().await;
        peer.send_frame(OpCode::Ping, true, b"theirs").await;
        settle().await;
        socket.ping("ours");
        settle().await;
        let mut opcodes = Vec::new();
        for _ in 0..2 * count + 2 {
            opcodes.push(soon(peer.recv()).await.unwrap().opcode);
        }
        // A pipe of 1000 bytes holds the first message of 500 and a part of the second.
        let before = if size == 500 { 2 } else { 1 };
        assert!(opcodes[..before].iter().all(|opcode| *opcode == OpCode::Binary));
        assert_eq!(opcodes[before], OpCode::Pong, "{opcodes:?}");
        // One control frame may have to leave before the next takes its place.
        let ping = opcodes.iter().position(|opcode| *opcode == OpCode::Ping);
        assert!((before + 1..=before + 3).contains(&ping.unwrap()), "{opcodes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pongs_keep_the_order_of_their_pings_while_the_peer_takes_nothing() {
    let (mut peer, _calls, socket) = connect(1000).await;
    socket.send(vec![1; 50_000]);
    settle().await;
    for n in 0..20 {
        peer.send_frame(OpCode::Ping, true, &[n]).await;
        settle().await;
    }
    assert_eq!(peer.recv_binary().await.len(), 50_000);
    let mut pongs = Vec::new();
    while let Ok(Some(frame)) = timeout(Duration::from_secs(1), peer.recv()).await {
        assert_eq!(frame.opcode, OpCode::Pong);
        pongs.push(frame.payload[0]);
    }
    assert!(pongs.is_sorted(), "{pongs:?}");
    assert_eq!(pongs.last(), Some(&19));
}

// ---- what arrives

/// A message to be sent: its length, whether it is handed over, and whether the tasks run then.
type Step = (usize, bool, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![0..200usize, 0..3000usize, 15_000..70_000usize];
    prop::collection::vec((length, any::<bool>(), any::<bool>()), 1..25)
}

fn payload(n: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| (n * 31 + i * 7 + i / 256) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sent_arrives_whole_and_in_order_over_any_pipe(
        steps in steps(),
        pipe in prop_oneof![1..200usize, 200..5000usize, 5000..100_000usize],
        pings in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let config = Config::default().outbox_limit(10_000_000);
            let (mut peer, _calls, socket) = connect_with(config, pipe).await;
            for (n, (length, owned, run)) in steps.iter().enumerate() {
                let payload = payload(n, *length);
                if *owned { socket.send(payload) } else { socket.send(&payload) };
                if pings {
                    socket.ping(n.to_string());
                }
                if *run {
                    settle().await;
                }
            }
            socket.close(CloseCode::NORMAL, "");
            let mut n = 0;
            loop {
                let frame = soon(peer.recv()).await.expect("the connection lives");
                match frame.opcode {
                    OpCode::Binary => {
                        prop_assert_eq!(&frame.payload[..], &payload(n, steps[n].0)[..]);
                        n += 1;
                    }
                    OpCode::Ping => prop_assert!(pings),
                    _ => break,
                }
            }
            prop_assert_eq!(n, steps.len());
            peer.send_close(CloseCode::NORMAL, "").await;
            soon(peer.recv_end()).await;
            prop_assert_eq!(socket.buffered(), 0);
            Ok(())
        })?;
    }
}

/// Runs a scene whose time stands still while a task spins, and bounds that from outside.
fn without_spinning<F: Future<Output = ()>>(scene: impl FnOnce() -> F + Send + 'static) {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(scene());
        let _ = sender.send(());
    });
    let ended = receiver.recv_timeout(Duration::from_secs(30));
    ended.expect("time goes on, as all tasks wait, and the scene ends well");
}

#[test]
fn a_peer_that_sends_while_the_close_frame_waits_for_it_keeps_nobody_busy() {
    without_spinning(|| async {
        let (mut peer, mut calls, socket) = connect(1024).await;
        socket.send(vec![7; 128 * 1024]);
        socket.close(CloseCode::NORMAL, "");
        settle().await;
        peer.send("hello").await;
        let close = close_of(&mut calls).await;
        assert_eq!((close.by, close.clean), (ClosedBy::Local, false));
    });
}

#[test]
fn a_peer_that_sends_after_an_overflow_keeps_nobody_busy() {
    without_spinning(|| async {
        let (mut peer, mut calls, socket) = connect(1024).await;
        socket.send(vec![7; 128 * 1024]);
        settle().await; // so that this frame is on the wire, and stays
        assert_eq!(socket.send(vec![7; 1024 * 1024]), OVERFLOW);
        settle().await;
        peer.send("hello").await;
        assert_eq!(close_of(&mut calls).await.code, CloseCode::TRY_AGAIN);
    });
}
