//! Which calls does a handler get in the life of a connection, and what do all sides learn of its
//! end?

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, middleware::map_response};
use futures_util::FutureExt;
use sockeye::{
    Accept, Close, CloseCode, ClosedBy, Config, DropReason, Handler, Handshake, Message, OpCode,
    Rejection, Result, SendStatus, Server, Session, Socket, State,
    testing::{self, Peer, frame},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout},
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A call of the handler, or the end of its data.
#[derive(Clone, Debug, PartialEq)]
enum Call {
    Open(Socket),
    Text(String),
    Close(Close),
    DataDropped,
}

/// Notes each call; does what a message says: `close`, `terminate`, `fail`, `wait`, `wait for end`.
struct Probe(UnboundedSender<Call>);

struct Data(UnboundedSender<Call>);

impl Drop for Data {
    fn drop(&mut self) {
        let _ = self.0.send(Call::DataDropped);
    }
}

impl Handler for Probe {
    type Data = Data;

    async fn attach(&self, _: &mut Handshake) -> Result<Accept<Data>, Rejection> {
        Ok(Accept::new(Data(self.0.clone())))
    }

    async fn open(&self, session: &mut Session<Data>) -> Result {
        // Nothing may overtake it, however long it takes.
        sleep(Duration::from_millis(10)).await;
        self.note(Call::Open(session.socket.clone()))
    }

    async fn message(&self, session: &mut Session<Data>, message: Message<'_>) -> Result {
        let text = message.as_text().unwrap_or("binary").to_owned();
        self.note(Call::Text(text.clone()))?;
        match &*text {
            "close" => session.close(CloseCode(4000), "enough"),
            "terminate" => session.terminate(),
            "fail" => return Err("it failed".into()),
            "panic" => panic!("it panicked"),
            "wait" => sleep(Duration::from_secs(60)).await,
            "wait for end" => drop(session.closed().await),
            _ => drop(session.send(text)),
        }
        Ok(())
    }

    async fn close(&self, _: &mut Session<Data>, close: &Close) -> Result {
        self.note(Call::Close(close.clone()))
    }
}

impl Probe {
    fn new() -> (Self, UnboundedReceiver<Call>) {
        let (sender, calls) = unbounded_channel();
        (Self(sender), calls)
    }

    fn note(&self, call: Call) -> Result {
        Ok(self.0.send(call)?)
    }
}

/// A peer, the calls from behind `open`, and the socket.
async fn connect_with(config: Config) -> (Peer, UnboundedReceiver<Call>, Socket) {
    let (probe, mut calls) = Probe::new();
    let peer = testing::connect_with(probe, config).await;
    let Some(Call::Open(socket)) = calls.recv().await else { panic!("`open` comes first") };
    (peer, calls, socket)
}

async fn connect() -> (Peer, UnboundedReceiver<Call>, Socket) {
    connect_with(Config::default()).await
}

/// All calls until the handler itself is dropped.
async fn all(mut calls: UnboundedReceiver<Call>) -> Vec<Call> {
    let mut list = Vec::new();
    while let Some(call) = calls.recv().await {
        list.push(call);
    }
    list
}

fn texts(texts: &[&str]) -> Vec<Call> {
    texts.iter().map(|text| Call::Text((*text).to_owned())).collect()
}

/// How the connection ended, which is the last call, and said once.
async fn end_of(calls: UnboundedReceiver<Call>) -> Close {
    let mut calls = all(calls).await;
    assert_eq!(calls.pop(), Some(Call::DataDropped));
    let Some(Call::Close(close)) = calls.pop() else { panic!("`close` comes last: {calls:?}") };
    assert!(!calls.iter().any(|call| !matches!(call, Call::Text(_))), "once: {calls:?}");
    close
}

#[track_caller]
fn assert_close(close: &Close, by: ClosedBy, code: u16, reason: &str, clean: bool) {
    let is = (close.by, close.code, &*close.reason, close.clean);
    assert_eq!(is, (by, CloseCode(code), reason, clean));
}

// ---- the calls

#[tokio::test(start_paused = true)]
async fn open_comes_once_before_the_messages_and_close_once_after_them() {
    let (probe, calls) = Probe::new();
    let mut peer = testing::connect(probe).await;
    for text in ["1", "2", "3", "4"] {
        peer.send(text).await;
    }
    for text in ["1", "2", "3", "4"] {
        assert_eq!(peer.recv_text().await, text);
    }
    peer.send_close(CloseCode::NORMAL, "").await;
    peer.recv_close().await;
    peer.recv_end().await;
    drop(peer);
    let calls = all(calls).await;
    assert!(matches!(calls[0], Call::Open(_)));
    assert_eq!(calls[1..5], texts(&["1", "2", "3", "4"]));
    assert!(matches!(calls[5], Call::Close(_)));
    assert_eq!(calls[6..], [Call::DataDropped]);
}

#[tokio::test(start_paused = true)]
async fn messages_in_one_write_are_delivered_in_order_one_at_a_time() {
    let (mut peer, calls, _) = connect().await;
    let sent: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    let wire: Vec<_> =
        sent.iter().flat_map(|text| frame(OpCode::Text, true, text.as_bytes())).collect();
    peer.send_raw(&wire).await;
    for text in &sent {
        assert_eq!(peer.recv_text().await, *text);
    }
    drop(peer);
    let sent: Vec<_> = sent.iter().map(|text| &**text).collect();
    assert_eq!(all(calls).await[..1000], texts(&sent));
}

#[tokio::test]
async fn messages_that_come_in_one_write_with_the_handshake_are_delivered_after_open() {
    let (probe, mut calls) = Probe::new();
    let server = Server::new().ws("/", probe).bind("127.0.0.1:0").await.unwrap();
    let mut tcp = TcpStream::connect(server.local_addr()).await.unwrap();
    let mut wire =
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\
        \r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            .to_vec();
    wire.extend(frame(OpCode::Text, true, b"first"));
    wire.extend(frame(OpCode::Text, true, &[b'x'; 5000]));
    let last = frame(OpCode::Text, true, b"in two pieces");
    let (begin, end) = last.split_at(8);
    wire.extend(begin);
    tcp.write_all(&wire).await.unwrap();
    assert!(matches!(calls.recv().await, Some(Call::Open(_))));
    assert_eq!(calls.recv().await, Some(Call::Text("first".into())));
    assert_eq!(calls.recv().await, Some(Call::Text("x".repeat(5000))));
    tcp.write_all(end).await.unwrap();
    assert_eq!(calls.recv().await, Some(Call::Text("in two pieces".into())));
}

#[tokio::test(start_paused = true)]
async fn no_message_is_delivered_once_this_side_has_closed() {
    let (mut peer, calls, socket) = connect().await;
    let wire =
        [frame(OpCode::Text, true, b"close"), frame(OpCode::Text, true, b"in the same read")];
    peer.send_raw(&wire.concat()).await;
    assert_eq!(peer.recv_close().await, (CloseCode(4000), "enough".into()));
    peer.send("later").await;
    peer.send_frame(OpCode::Binary, false, b"a begin").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(socket.state(), State::Closing);
    peer.send_frame(OpCode::Continuation, true, b"an end").await;
    peer.send_close(CloseCode(4000), "").await;
    peer.recv_end().await;
    drop(peer);
    let calls = all(calls).await;
    assert_eq!(calls[0], Call::Text("close".into()));
    assert!(matches!(calls[1], Call::Close(_)), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn no_message_is_delivered_once_another_task_has_closed() {
    let (mut peer, calls, socket) = connect().await;
    peer.send("wait").await;
    peer.send("waits for the one before it").await;
    sleep(Duration::from_secs(1)).await;
    socket.close(CloseCode::AWAY, "");
    assert_eq!(peer.recv_close().await.0, CloseCode::AWAY);
    peer.send_close(CloseCode::AWAY, "").await;
    assert_close(&end_of(calls).await, ClosedBy::Local, 1001, "", true);
}

#[tokio::test(start_paused = true)]
async fn what_was_queued_before_the_close_leaves_before_it_and_nothing_after() {
    let (mut peer, calls, socket) = connect().await;
    for n in 0..100 {
        socket.send(n.to_string());
    }
    socket.send(vec![7; 100_000]);
    socket.close(CloseCode::NORMAL, "done");
    assert_eq!(socket.send("too late"), SendStatus::Dropped(DropReason::Closed));
    for n in 0..100 {
        assert_eq!(peer.recv_text().await, n.to_string());
    }
    assert_eq!(peer.recv_binary().await, vec![7; 100_000]);
    assert_eq!(peer.recv_close().await, (CloseCode::NORMAL, "done".into()));
    peer.send_close(CloseCode::NORMAL, "done").await;
    peer.recv_end().await;
    assert_close(&end_of(calls).await, ClosedBy::Local, 1000, "done", true);
}

// ---- how it ended

#[tokio::test(start_paused = true)]
async fn a_close_frame_of_the_peer_comes_back_with_its_code_and_reason() {
    for (code, reason) in
        [(1000, "bye"), (1001, ""), (1011, "ü"), (3000, "x"), (4999, &*"r".repeat(123))]
    {
        let (mut peer, calls, socket) = connect().await;
        peer.send_close(CloseCode(code), reason).await;
        assert_eq!(peer.recv_close().await, (CloseCode(code), reason.to_owned()));
        peer.recv_end().await;
        assert_close(&end_of(calls).await, ClosedBy::Peer, code, reason, true);
        assert_close(&socket.closed().await, ClosedBy::Peer, code, reason, true);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_frame_without_a_code_comes_back_without_one() {
    let (mut peer, calls, _) = connect().await;
    peer.send_frame(OpCode::Close, true, b"").await;
    assert_eq!(peer.recv_close().await, (CloseCode::NO_STATUS, String::new()));
    peer.recv_end().await;
    assert_close(&end_of(calls).await, ClosedBy::Peer, 1005, "", true);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_the_peer_closed_still_arrives() {
    let (mut peer, calls, socket) = connect().await;
    socket.send(vec![1; 200_000]);
    peer.send_close(CloseCode::NORMAL, "").await;
    assert_eq!(peer.recv_binary().await.len(), 200_000);
    assert_eq!(peer.recv_close().await.0, CloseCode::NORMAL);
    peer.recv_end().await;
    assert_close(&end_of(calls).await, ClosedBy::Peer, 1000, "", true);
}

#[tokio::test(start_paused = true)]
async fn a_local_close_that_is_answered_is_clean() {
    let (mut peer, calls, socket) = connect().await;
    socket.close(CloseCode(4001), "first");
    socket.close(CloseCode(4002), "second");
    assert_eq!(peer.recv_close().await, (CloseCode(4001), "first".into()));
    peer.send_close(CloseCode(4001), "first").await;
    peer.recv_end().await;
    assert_close(&end_of(calls).await, ClosedBy::Local, 4001, "first", true);
}

#[tokio::test(start_paused = true)]
async fn two_close_frames_that_cross_are_clean_and_no_third_one_follows() {
    let (mut peer, calls, socket) = connect().await;
    socket.close(CloseCode(4001), "ours");
    peer.send_close(CloseCode(4002), "theirs").await;
    assert_eq!(peer.recv_close().await, (CloseCode(4001), "ours".into()));
    peer.recv_end().await;
    assert_close(&end_of(calls).await, ClosedBy::Local, 4001, "ours", true);
}

#[tokio::test(start_paused = true)]
async fn a_local_close_that_is_not_answered_ends_unclean_after_the_close_timeout() {
    let (mut peer, calls, socket) = connect().await;
    let asked = Instant::now();
    socket.close(CloseCode(4001), "hello?");
    peer.recv_close().await;
    peer.recv_end().await;
    let waited = asked.elapsed().as_secs_f32();
    assert!((5.0..=6.0).contains(&waited), "{waited} s");
    assert_close(&end_of(calls).await, ClosedBy::Local, 4001, "hello?", false);
}

#[tokio::test(start_paused = true)]
async fn a_local_close_that_is_answered_with_the_end_of_the_stream_is_not_clean() {
    let (mut peer, calls, socket) = connect().await;
    socket.close(CloseCode(4001), "");
    peer.recv_close().await;
    drop(peer);
    assert_close(&end_of(calls).await, ClosedBy::Local, 4001, "", false);
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_close_frame_is_1006() {
    let (peer, calls, _) = connect().await;
    drop(peer);
    let reason = "the peer ended the connection without a close frame";
    assert_close(&end_of(calls).await, ClosedBy::Network, 1006, reason, false);
}

#[tokio::test(start_paused = true)]
async fn messages_right_before_the_end_of_the_stream_are_delivered() {
    let (mut peer, calls, _) = connect().await;
    for text in ["wait", "1"] {
        peer.send(text).await;
    }
    drop(peer);
    assert_eq!(all(calls).await[..2], texts(&["wait", "1"]));
}

#[tokio::test(start_paused = true)]
async fn terminate_ends_without_a_close_frame() {
    let (mut peer, calls, socket) = connect().await;
    socket.terminate();
    assert_eq!(socket.send("too late"), SendStatus::Dropped(DropReason::Closed));
    peer.recv_end().await;
    let reason = "the connection was terminated";
    assert_close(&end_of(calls).await, ClosedBy::Network, 1006, reason, false);

    let (mut peer, calls, _) = connect().await;
    peer.send("terminate").await;
    peer.recv_end().await;
    assert_close(&end_of(calls).await, ClosedBy::Network, 1006, reason, false);
}

#[tokio::test(start_paused = true)]
async fn a_protocol_error_closes_with_its_code_and_says_which_rule() {
    let (mut peer, calls, _) = connect().await;
    peer.send_raw(b"\x81\x02hi").await;
    let (code, reason) = peer.recv_close().await;
    assert_eq!(code, CloseCode::PROTOCOL);
    assert!(reason.contains("section 5.1"), "{reason}");
    peer.recv_end().await;
    drop(peer);
    assert_close(&end_of(calls).await, ClosedBy::Local, 1002, &reason, false);
}

#[tokio::test(start_paused = true)]
async fn a_message_before_a_protocol_error_is_delivered() {
    let (mut peer, calls, _) = connect().await;
    let wire = [&frame(OpCode::Text, true, b"fine")[..], b"\x83\x80\0\0\0\0"].concat();
    peer.send_raw(&wire).await;
    assert_eq!(peer.recv_text().await, "fine");
    assert_eq!(peer.recv_close().await.0, CloseCode::PROTOCOL);
    assert_eq!(all(calls).await[..1], texts(&["fine"]));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_1006() {
    let (mut peer, calls, _) = connect().await;
    assert_eq!(peer.recv().await.unwrap().opcode, OpCode::Ping);
    peer.recv_end().await;
    assert_close(&end_of(calls).await, ClosedBy::Network, 1006, "no answer to a ping", false);
}

// ---- who holds a socket

#[tokio::test(start_paused = true)]
async fn the_state_goes_from_open_over_closing_to_closed() {
    let (mut peer, _calls, socket) = connect().await;
    assert_eq!(socket.state(), State::Open);
    socket.close(CloseCode::NORMAL, "");
    assert_eq!(socket.state(), State::Closing);
    peer.recv_close().await;
    assert_eq!(socket.state(), State::Closing);
    peer.send_close(CloseCode::NORMAL, "").await;
    socket.closed().await;
    assert_eq!(socket.state(), State::Closed);

    let (peer, _calls, socket) = connect().await;
    socket.terminate();
    assert_eq!(socket.state(), State::Closing);
    socket.closed().await;
    assert_eq!(socket.state(), State::Closed);
    drop(peer);

    let (peer, _calls, socket) = connect().await;
    drop(peer);
    socket.closed().await;
    assert_eq!(socket.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn nothing_can_be_sent_once_a_close_was_asked_for() {
    let closed = SendStatus::Dropped(DropReason::Closed);
    let (mut peer, _calls, socket) = connect().await;
    socket.close(CloseCode::NORMAL, "");
    assert_eq!(socket.send("too late"), closed);
    assert!(!socket.ping("too late"));
    assert!(socket.writable().await.is_err());
    peer.recv_close().await;
    peer.send_close(CloseCode::NORMAL, "").await;
    peer.recv_end().await;

    let (mut peer, _calls, socket) = connect().await;
    peer.send_close(CloseCode::NORMAL, "").await;
    peer.recv_close().await;
    assert_eq!(socket.send("too late"), closed);
    assert!(!socket.ping("too late"));
    peer.recv_end().await;

    let (peer, _calls, socket) = connect().await;
    drop(peer);
    socket.closed().await;
    assert_eq!(socket.send("too late"), closed);
    assert_eq!(socket.send_json(&1).unwrap(), closed);
    assert!(!socket.ping("too late"));
    assert!(socket.flushed().await.is_err());
    socket.close(CloseCode::NORMAL, "");
    socket.terminate();
    assert_eq!(socket.closed().await.code, CloseCode::ABNORMAL, "it has ended before");
    assert_eq!(socket.buffered(), 0);
}

#[tokio::test(start_paused = true)]
async fn all_who_hold_the_socket_learn_the_end_whenever_they_ask() {
    let (mut peer, calls, socket) = connect().await;
    let early: Vec<_> = (0..10)
        .map(|_| {
            let socket = socket.clone();
            tokio::spawn(async move { socket.closed().await })
        })
        .collect();
    let mut given_up = Box::pin(socket.closed());
    assert!((&mut given_up).now_or_never().is_none());
    drop(given_up);
    tokio::task::yield_now().await;
    peer.send_close(CloseCode(4000), "over").await;
    peer.recv_close().await;
    drop(peer);
    for waiter in early {
        assert_close(&waiter.await.unwrap(), ClosedBy::Peer, 4000, "over", true);
    }
    all(calls).await;
    sleep(Duration::from_secs(60)).await;
    assert_close(&socket.closed().await, ClosedBy::Peer, 4000, "over", true);
    assert_close(&socket.clone().closed().await, ClosedBy::Peer, 4000, "over", true);
}

/// One waiter is told of progress, and before it looks again a second one begins to wait.
#[tokio::test(start_paused = true)]
async fn a_task_that_begins_to_wait_between_two_changes_is_told_of_the_end_too() {
    let (probe, mut calls) = Probe::new();
    let mut peer = testing::connect(probe).pipe(1024).await;
    let Some(Call::Open(socket)) = calls.recv().await else { panic!("`open` comes first") };
    socket.send(vec![0; 1500]);
    socket.send(vec![0; 20_000]);
    sleep(Duration::from_secs(1)).await;

    let (told, mut is_told) = unbounded_channel();
    let waker = futures_util::task::noop_waker();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut first = Box::pin(socket.flushed());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    peer.recv_binary().await;
    sleep(Duration::from_secs(1)).await;
    let waiting = socket.clone();
    tokio::spawn(async move {
        waiting.closed().await;
        told.send(()).unwrap();
    });
    sleep(Duration::from_secs(1)).await;
    assert!(first.as_mut().poll(&mut cx).is_pending());
    drop(first);

    peer.recv_binary().await;
    peer.send_close(CloseCode::NORMAL, "").await;
    peer.recv_close().await;
    drop(peer);
    let told = timeout(Duration::from_secs(60), is_told.recv()).await;
    assert_eq!(told, Ok(Some(())), "the second one waits for ever");
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_at_once_though_the_handler_is_busy() {
    let (mut peer, mut calls, socket) = connect().await;
    peer.send("wait").await;
    calls.recv().await;
    drop(peer);
    let closed = timeout(Duration::from_secs(1), socket.closed()).await;
    assert!(closed.is_ok(), "nobody is told before the handler has finished");
    assert_eq!(socket.state(), State::Closed);
    assert_eq!(socket.send("nobody is there"), SendStatus::Dropped(DropReason::Closed));
    end_of(calls).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_wait_for_the_end_of_its_own_connection() {
    for how in ["drop", "close"] {
        let (mut peer, calls, _) = connect().await;
        peer.send("wait for end").await;
        if how == "close" {
            peer.send_close(CloseCode::NORMAL, "").await;
            peer.recv_close().await;
        }
        drop(peer);
        let end = timeout(Duration::from_secs(600), end_of(calls)).await;
        assert!(
            end.is_ok(),
            "{how}: the handler waits for its connection, and the other way round"
        );
    }
}

// ---- what the connection holds

#[tokio::test(start_paused = true)]
async fn the_data_is_dropped_whatever_way_the_connection_ends() {
    for way in ["end", "close", "terminate", "fail", "panic", "error", "silence"] {
        let (mut peer, calls, _) = connect().await;
        match way {
            "end" => drop(peer),
            "error" => peer.send_raw(&[0xff; 10]).await,
            "silence" => while peer.recv().await.is_some() {},
            _ => peer.send(way).await,
        }
        assert_eq!(all(calls).await.last(), Some(&Call::DataDropped), "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_data_is_given_up_before_a_peer_that_lingers() {
    let (mut peer, mut calls, _) = connect().await;
    peer.send_raw(&[0xff; 10]).await;
    let begun = Instant::now();
    while calls.recv().await != Some(Call::DataDropped) {}
    assert!(begun.elapsed() < Duration::from_secs(1));
    peer.recv_close().await;
}

#[test]
fn a_dropped_runtime_leaves_no_data_and_nobody_waiting() {
    for text in ["", "wait"] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (peer, mut calls, socket) = runtime.block_on(async {
            let (mut peer, mut calls, socket) = connect().await;
            if !text.is_empty() {
                peer.send(text).await;
                assert_eq!(calls.recv().await, Some(Call::Text(text.to_owned())));
            }
            (peer, calls, socket)
        });
        let mut waiting = pin!(socket.closed());
        assert!((&mut waiting).now_or_never().is_none());
        drop(runtime);
        assert_eq!(calls.try_recv(), Ok(Call::DataDropped));
        let close = waiting.now_or_never().expect("the connection has ended");
        assert_eq!((close.by, close.code), (ClosedBy::Network, CloseCode::ABNORMAL));
        assert_eq!(socket.state(), State::Closed);
        assert_eq!(socket.send("nobody"), SendStatus::Dropped(DropReason::Closed));
        drop(peer);
    }
}

#[tokio::test]
async fn a_server_forgets_a_connection_whose_answer_never_left() {
    let (probe, mut calls) = Probe::new();
    let (answered, mut is_answered) = unbounded_channel();
    let hold_back = map_response(move |response: axum::response::Response| {
        let answered = answered.clone();
        async move {
            answered.send(()).unwrap();
            sleep(Duration::from_secs(30)).await;
            response
        }
    });
    let routes = Router::new().route("/", sockeye::ws(probe)).layer(hold_back);
    let server = Server::new().routes(routes).bind("127.0.0.1:0").await.unwrap();
    let mut tcp = TcpStream::connect(server.local_addr()).await.unwrap();
    tcp.write_all(REQUEST).await.unwrap();
    is_answered.recv().await;
    drop(tcp);
    assert_eq!(calls.recv().await, Some(Call::DataDropped), "it was never opened");
    let shutdown = server.shutdown(Duration::from_secs(2)).await;
    assert_eq!(shutdown, Ok(()), "{} connections", server.connections());
}

#[tokio::test(start_paused = true)]
async fn closing_twice_is_closing_once() {
    let (mut peer, calls, socket) = connect().await;
    socket.close(CloseCode(4000), "enough");
    assert_eq!(peer.recv_close().await.0, CloseCode(4000));
    socket.close(CloseCode(4001), "again");
    peer.send("still on its way").await;
    sleep(Duration::from_secs(1)).await;
    peer.send_close(CloseCode(4000), "").await;
    peer.recv_end().await;
    drop(peer);
    assert_close(&end_of(calls).await, ClosedBy::Local, 4000, "enough", true);
}

/// Over TCP, as a reset is not to be told from the end in memory.
#[tokio::test]
async fn a_local_close_that_is_answered_ends_in_order_and_not_with_a_reset() {
    let (probe, mut calls) = Probe::new();
    let server = Server::new().ws("/", probe).bind("127.0.0.1:0").await.expect("a port");
    let mut tcp = TcpStream::connect(server.local_addr()).await.expect("a connection");
    tcp.write_all(REQUEST).await.expect("a live socket");
    let Some(Call::Open(socket)) = calls.recv().await else { panic!("`open` comes first") };
    socket.close(CloseCode(4000), "enough");
    let mut received = Vec::new();
    while !received.ends_with(b"enough") {
        assert_ne!(tcp.read_buf(&mut received).await.expect("a close frame"), 0);
    }
    let answer = testing::frame(OpCode::Close, true, &4000u16.to_be_bytes());
    // Input behind the answer is what makes a socket that is closed too early reset the connection.
    tcp.write_all(&[&answer[..], &[0; 1000]].concat()).await.expect("a live socket");
    assert_eq!(tcp.read(&mut [0; 16]).await.expect("the end, not a reset"), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_end_is_not_woken_by_messages() {
    let (mut peer, _calls, socket) = connect().await;
    let polls = Arc::new(AtomicUsize::new(0));
    let counter = polls.clone();
    tokio::spawn(async move {
        let mut closed = pin!(socket.closed());
        std::future::poll_fn(|cx| {
            counter.fetch_add(1, Ordering::SeqCst);
            closed.as_mut().poll(cx)
        })
        .await;
    });
    for _ in 0..100 {
        peer.send("hello").await;
        peer.recv_text().await;
    }
    assert_eq!(polls.load(Ordering::SeqCst), 1);
}

/// A waker is other people's code; it may ask the socket that wakes it.
#[tokio::test(start_paused = true)]
async fn a_waker_may_use_the_socket() {
    struct Asks(Socket, AtomicUsize);

    impl std::task::Wake for Asks {
        fn wake(self: Arc<Self>) {
            assert_eq!(self.0.buffered(), 0);
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    let (mut peer, _calls, socket) = connect().await;
    let asks = Arc::new(Asks(socket.clone(), AtomicUsize::new(0)));
    let waker = std::task::Waker::from(asks.clone());
    let mut closed = Box::pin(socket.closed());
    let poll = closed.as_mut().poll(&mut std::task::Context::from_waker(&waker));
    assert!(poll.is_pending());
    socket.terminate();
    peer.recv_end().await;
    assert_eq!(asks.1.load(Ordering::SeqCst), 1);
}
