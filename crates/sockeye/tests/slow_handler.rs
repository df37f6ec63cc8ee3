//! What does a peer notice of a handler that takes a minute? Nothing but that its messages wait.

use std::time::Duration;

use sockeye::{
    Close, CloseCode, ClosedBy, Handler, Message, OpCode, Result, Session, Socket,
    testing::{self, Frame, Peer, frame},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout},
};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[derive(Clone, Debug, PartialEq)]
enum Call {
    Open(Socket),
    Begin(String),
    End(String),
    Ping(String),
    Pong(String),
    Close(Close),
}

/// Waits a minute in each message that begins with `slow`.
struct Slow(UnboundedSender<Call>);

impl Slow {
    fn note(&self, call: Call) -> Result {
        Ok(self.0.send(call)?)
    }
}

impl Handler for Slow {
    type Data = ();

    async fn open(&self, session: &mut Session<()>) -> Result {
        self.note(Call::Open(session.socket.clone()))
    }

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        let name: String = message.as_text().unwrap_or("binary").chars().take(10).collect();
        self.note(Call::Begin(name.clone()))?;
        if name.starts_with("slow") {
            sleep(secs(60)).await;
        }
        session.send(&name);
        self.note(Call::End(name))
    }

    async fn ping(&self, _: &mut Session<()>, payload: &[u8]) -> Result {
        self.note(Call::Ping(String::from_utf8_lossy(payload).into_owned()))
    }

    async fn pong(&self, _: &mut Session<()>, payload: &[u8]) -> Result {
        self.note(Call::Pong(String::from_utf8_lossy(payload).into_owned()))
    }

    async fn close(&self, _: &mut Session<()>, close: &Close) -> Result {
        self.note(Call::Close(close.clone()))
    }
}

async fn connect(pipe: usize) -> (Peer, UnboundedReceiver<Call>, Socket) {
    let (sender, mut calls) = unbounded_channel();
    let peer = testing::connect(Slow(sender)).pipe(pipe).await;
    let Some(Call::Open(socket)) = calls.recv().await else { panic!("`open` comes first") };
    (peer, calls, socket)
}

/// The same, with the handler already waiting in its first message.
async fn connect_busy() -> (Peer, UnboundedReceiver<Call>, Socket) {
    let (mut peer, mut calls, socket) = connect(64 * 1024).await;
    peer.send("slow").await;
    assert_eq!(calls.recv().await, Some(begin("slow")));
    (peer, calls, socket)
}

fn begin(text: &str) -> Call {
    Call::Begin(text.to_owned())
}

fn end(text: &str) -> Call {
    Call::End(text.to_owned())
}

/// Sends a ping, whose pong has to come at once.
async fn assert_pong(peer: &mut Peer, payload: &str) {
    peer.send_frame(OpCode::Ping, true, payload.as_bytes()).await;
    let pong = timeout(Duration::from_millis(10), peer.recv()).await.expect("a pong at once");
    let Frame { opcode, payload: got, .. } = pong.expect("the connection lives");
    assert_eq!((opcode, &*got), (OpCode::Pong, payload.as_bytes()));
}

async fn next(calls: &mut UnboundedReceiver<Call>) -> Call {
    timeout(secs(600), calls.recv()).await.expect("a further call").expect("the handler lives")
}

#[tokio::test(start_paused = true)]
async fn each_ping_is_answered_at_once_and_reported_afterwards_in_order() {
    let (mut peer, mut calls, _) = connect_busy().await;
    let start = Instant::now();
    let names: Vec<_> = (1..12).map(|n| format!("ping {n}")).collect();
    for name in &names {
        sleep(secs(5)).await;
        assert_pong(&mut peer, name).await;
        assert!(calls.is_empty(), "the handler has still to do");
    }
    peer.send("after").await;
    assert_eq!(peer.recv_text().await, "slow");
    assert!(start.elapsed() >= secs(60));
    assert_eq!(peer.recv_text().await, "after");
    assert_eq!(next(&mut calls).await, end("slow"));
    for name in names {
        assert_eq!(next(&mut calls).await, Call::Ping(name));
    }
    assert_eq!(next(&mut calls).await, begin("after"));
    assert_eq!(next(&mut calls).await, end("after"));
}

#[tokio::test(start_paused = true)]
async fn a_ping_cut_anywhere_is_answered_as_soon_as_it_is_whole() {
    let ping = frame(OpCode::Ping, true, b"in pieces");
    for cut in 1..ping.len() {
        let (mut peer, mut calls, _) = connect_busy().await;
        peer.send_raw(&ping[..cut]).await;
        sleep(secs(1)).await;
        peer.send_raw(&ping[cut..]).await;
        let pong = timeout(secs(1), peer.recv()).await.expect("a pong at once").unwrap();
        assert_eq!((pong.opcode, &*pong.payload), (OpCode::Pong, &b"in pieces"[..]));
        peer.send("after").await;
        assert_eq!(peer.recv_text().await, "slow");
        assert_eq!(peer.recv_text().await, "after");
        assert_eq!(next(&mut calls).await, end("slow"));
        assert_eq!(next(&mut calls).await, Call::Ping("in pieces".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn pings_in_the_same_write_as_the_message_are_answered_too() {
    let (mut peer, mut calls, _) = connect(64 * 1024).await;
    let wire = [
        frame(OpCode::Text, true, b"slow"),
        frame(OpCode::Ping, true, b"1"),
        frame(OpCode::Ping, true, b"2"),
        frame(OpCode::Text, true, b"after"),
        frame(OpCode::Ping, true, b"3"),
    ];
    peer.send_raw(&wire.concat()).await;
    for payload in [b"1", b"2"] {
        let pong = timeout(secs(1), peer.recv()).await.expect("a pong at once").unwrap();
        assert_eq!((pong.opcode, &*pong.payload), (OpCode::Pong, &payload[..]));
    }
    assert_eq!(peer.recv_text().await, "slow");
    // The last pong may overtake the text that was sent in the same turn.
    let mut last = [peer.recv().await.unwrap(), peer.recv().await.unwrap()];
    last.sort_by_key(|frame| frame.opcode == OpCode::Pong);
    assert_eq!((last[0].opcode, &*last[0].payload), (OpCode::Text, &b"after"[..]));
    assert_eq!((last[1].opcode, &*last[1].payload), (OpCode::Pong, &b"3"[..]));
    let expected = [
        begin("slow"),
        end("slow"),
        Call::Ping("1".into()),
        Call::Ping("2".into()),
        begin("after"),
        end("after"),
        Call::Ping("3".into()),
    ];
    for call in expected {
        assert_eq!(next(&mut calls).await, call);
    }
}

#[tokio::test(start_paused = true)]
async fn the_keep_alive_goes_on_and_its_pong_is_read() {
    let (mut peer, mut calls, _) = connect_busy().await;
    let ping = timeout(secs(31), peer.recv()).await.expect("a ping").unwrap();
    assert_eq!(ping.opcode, OpCode::Ping);
    peer.send_frame(OpCode::Pong, true, &ping.payload).await;
    assert_eq!(peer.recv_text().await, "slow");
    assert_eq!(next(&mut calls).await, end("slow"));
    assert_eq!(next(&mut calls).await, Call::Pong(String::new()));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_died_meanwhile_is_found_out() {
    let (mut peer, mut calls, socket) = connect_busy().await;
    assert_eq!(peer.recv().await.unwrap().opcode, OpCode::Ping);
    peer.recv_end().await;
    assert_eq!(next(&mut calls).await, end("slow"));
    let Call::Close(close) = next(&mut calls).await else { panic!("`close` was expected") };
    assert_eq!((close.by, &*close.reason), (ClosedBy::Network, "no answer to a ping"));
    assert_eq!(socket.closed().await, close);
}

/// The pong would be behind the message, which nobody reads.
#[tokio::test(start_paused = true)]
async fn the_keep_alive_stands_still_while_a_message_waits_unread() {
    let (mut peer, mut calls, _) = connect_busy().await;
    for n in 1..=10 {
        peer.send(&*format!("slow {n}")).await;
    }
    let start = Instant::now();
    for n in 0..=10 {
        let Frame { opcode, payload, .. } = peer.recv().await.expect("the connection lives");
        let expected = if n == 0 { "slow".to_owned() } else { format!("slow {n}") };
        assert_eq!((opcode, &*payload), (OpCode::Text, expected.as_bytes()));
    }
    assert!(start.elapsed() >= secs(11 * 60));
    for n in 1..=10 {
        next(&mut calls).await;
        assert_eq!(next(&mut calls).await, begin(&format!("slow {n}")));
    }
    // It goes on as soon as there is nothing more to read.
    let start = Instant::now();
    assert_eq!(peer.recv().await.unwrap().opcode, OpCode::Ping);
    assert!((secs(29)..secs(32)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_another_task_sends_leaves_at_once() {
    let (mut peer, mut calls, socket) = connect_busy().await;
    for n in 0..5 {
        sleep(secs(5)).await;
        let text = n.to_string();
        socket.send(&text);
        let got = timeout(Duration::from_millis(10), peer.recv_text()).await;
        assert_eq!(got, Ok(text));
    }
    assert!(socket.ping("p"));
    let ping = timeout(Duration::from_millis(10), peer.recv()).await.unwrap().unwrap();
    assert_eq!((ping.opcode, &*ping.payload), (OpCode::Ping, &b"p"[..]));
    assert_eq!(next(&mut calls).await, end("slow"));
}

#[tokio::test(start_paused = true)]
async fn what_the_handler_sends_leaves_when_it_begins_to_wait() {
    let handler = sockeye::on().on_text_async(async |session, _| {
        session.send("working on it");
        sleep(secs(10)).await;
        session.send("half way");
        session.flushed().await?;
        sleep(secs(10)).await;
        session.send("done");
        Ok::<_, sockeye::Closed>(())
    });
    let mut peer = testing::connect(handler).await;
    let start = Instant::now();
    peer.send("go").await;
    for (text, at) in [("working on it", 0), ("half way", 10), ("done", 20)] {
        assert_eq!(peer.recv_text().await, text);
        assert_eq!(start.elapsed().as_secs(), at);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_meanwhile_is_answered_at_once() {
    let (mut peer, mut calls, _) = connect_busy().await;
    peer.send_close(CloseCode(4000), "bye").await;
    let answer = timeout(secs(1), peer.recv_close()).await;
    assert_eq!(answer, Ok((CloseCode(4000), "bye".into())));
    let ended = timeout(secs(1), peer.recv_end()).await;
    assert!(ended.is_ok(), "the stream ends with the answer");
    assert!(calls.is_empty());
    assert_eq!(next(&mut calls).await, end("slow"));
    let Call::Close(close) = next(&mut calls).await else { panic!("`close` was expected") };
    assert_eq!((close.by, close.code, close.clean), (ClosedBy::Peer, CloseCode(4000), true));
}

#[tokio::test(start_paused = true)]
async fn a_message_before_the_close_frame_is_delivered_first() {
    let (mut peer, mut calls, _) = connect_busy().await;
    peer.send("last words").await;
    peer.send_close(CloseCode::NORMAL, "").await;
    assert_eq!(peer.recv_text().await, "slow");
    assert_eq!(peer.recv_text().await, "last words");
    assert_eq!(peer.recv_close().await.0, CloseCode::NORMAL);
    assert_eq!(next(&mut calls).await, end("slow"));
    assert_eq!(next(&mut calls).await, begin("last words"));
    assert_eq!(next(&mut calls).await, end("last words"));
    assert!(matches!(next(&mut calls).await, Call::Close(_)));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_terminated_meanwhile_is_cut_at_once() {
    let (mut peer, mut calls, socket) = connect_busy().await;
    socket.terminate();
    let cut = timeout(secs(1), peer.recv_end()).await;
    assert!(cut.is_ok(), "the peer is still connected");
    assert_eq!(next(&mut calls).await, end("slow"));
    assert!(matches!(next(&mut calls).await, Call::Close(_)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_breaks_a_rule_meanwhile_is_told_at_once() {
    let (mut peer, mut calls, _) = connect_busy().await;
    peer.send_raw(&[0x89, 0x01, 0x00]).await;
    let close = timeout(secs(1), peer.recv_close()).await.expect("at once");
    assert_eq!(close.0, CloseCode::PROTOCOL);
    assert_eq!(next(&mut calls).await, end("slow"));
    assert!(matches!(next(&mut calls).await, Call::Close(_)));
}

/// Of an unmasked data frame, whose header alone is wrong.
#[tokio::test(start_paused = true)]
async fn a_peer_that_breaks_a_rule_behind_a_message_is_told_after_it() {
    let (mut peer, _calls, _) = connect_busy().await;
    let wire = [&frame(OpCode::Text, true, b"fine")[..], &[0x81, 0x01, 0x00]].concat();
    peer.send_raw(&wire).await;
    assert_eq!(peer.recv_text().await, "slow");
    assert_eq!(peer.recv_text().await, "fine");
    assert_eq!(peer.recv_close().await.0, CloseCode::PROTOCOL);
}

/// How much a peer can send, in writes of `piece`, until they stall.
async fn sent_until_stalled(peer: &mut Peer, piece: &[u8]) -> usize {
    let mut sent = 0;
    while sent < 10_000_000 {
        if timeout(secs(1), peer.send_raw(piece)).await.is_err() {
            return sent;
        }
        sent += piece.len();
    }
    panic!("{sent} bytes were taken, and more would be");
}

#[tokio::test(start_paused = true)]
async fn a_busy_handler_slows_down_a_peer_that_sends_on() {
    for size in [10, 1000, 30_000, 1_000_000] {
        let (mut peer, mut calls, _) = connect(4096).await;
        peer.send("slow").await;
        assert_eq!(calls.recv().await, Some(begin("slow")));
        let wire = frame(OpCode::Text, true, &vec![b'x'; size]);
        // In small pieces, so that how much was taken is known well enough.
        let mut taken = 0;
        'stalled: loop {
            for piece in wire.chunks(500) {
                if timeout(Duration::from_millis(1), peer.send_raw(piece)).await.is_err() {
                    break 'stalled;
                }
                taken += piece.len();
            }
        }
        // The pipe, what is read ahead, and pieces.
        assert!(taken <= 4096 + 16 * 1024 + 500, "{taken} bytes of messages of {size} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn pings_do_not_open_the_way_for_what_is_behind_a_message() {
    let (mut peer, mut calls, _) = connect(4096).await;
    peer.send("slow").await;
    assert_eq!(calls.recv().await, Some(begin("slow")));
    peer.send("waits").await;
    let taken = sent_until_stalled(&mut peer, &frame(OpCode::Ping, true, &[0; 100])).await;
    assert!(taken <= 4096 + 16 * 1024 + 200, "{taken} bytes");
}

#[tokio::test(start_paused = true)]
async fn messages_never_overtake_one_another() {
    let (mut peer, mut calls, _) = connect(1 << 20).await;
    let texts: Vec<_> = (0..500)
        .map(|n| if n % 7 == 0 { format!("slow {n}") } else { format!("quick {n}") })
        .collect();
    let mut wire = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        let (begin, end) = text.split_at(n % text.len());
        wire.extend(frame(OpCode::Text, false, begin.as_bytes()));
        if n % 3 == 0 {
            wire.extend(frame(OpCode::Ping, true, text.as_bytes()));
        }
        wire.extend(frame(OpCode::Continuation, true, end.as_bytes()));
    }
    for piece in wire.chunks(97) {
        peer.send_raw(piece).await;
        sleep(secs(1)).await;
    }
    let mut pings = texts.iter().step_by(3);
    let mut answered = Vec::new();
    for text in &texts {
        loop {
            let frame = peer.recv().await.expect("the connection lives");
            let payload = String::from_utf8(frame.payload.to_vec()).unwrap();
            match frame.opcode {
                OpCode::Text => break assert_eq!(payload, *text),
                OpCode::Pong => answered.push(payload),
                _ => peer.send_frame(OpCode::Pong, true, b"keep-alive").await,
            }
        }
    }
    assert!(answered.iter().eq(pings.by_ref()), "each ping was answered, in order");
    let (mut messages, mut pings) = (texts.iter(), texts.iter().step_by(3));
    while messages.len() > 0 {
        match next(&mut calls).await {
            Call::Begin(text) => {
                assert_eq!(Some(&text), messages.next());
                // Nothing comes in between, not even a ping.
                assert_eq!(next(&mut calls).await, Call::End(text));
            }
            Call::Ping(text) => assert_eq!(Some(&text), pings.next()),
            Call::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
