//! In which order do messages pass through a loop, a `Stream` and a `Sink`?

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::Router;
use futures_util::{FutureExt, Sink, SinkExt, StreamExt, TryStreamExt, stream};
use sockeye::{
    Client, CloseCode, Closed, ClosedBy, Disconnected, Message, OpCode, Result, SendStatus, Server,
    WebSocket, accept, testing,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::{Semaphore, mpsc::unbounded_channel},
    task::yield_now,
    time::timeout,
};

use crate::{
    assert_close,
    peer::{Peer, SIDES, Setup, Side},
    secs, settle, soon, text, within,
};

/// A loop as its users write it.
async fn echo(mut ws: WebSocket) -> Result {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}

fn echo_route() -> Router {
    Router::new().route("/", accept(|ws, _| echo(ws)))
}

/// Of all kinds and lengths; the number is in its length, too.
fn message(n: usize) -> Message<'static> {
    let fill = match n % 100 {
        99 => 20_000,
        50 => 3000,
        few => few % 7,
    };
    match n % 11 {
        0 => Message::from(Vec::new()),
        odd if odd % 2 == 1 => Message::from(format!("{n}{}", "ü".repeat(fill))),
        _ => Message::from([&n.to_be_bytes()[..], &vec![n as u8; fill]].concat()),
    }
}

/// Sends so many messages, and receives them meanwhile. Up to 50 are under way.
async fn exchange(ws: &mut WebSocket, count: usize) {
    let socket = ws.socket();
    let under_way = Semaphore::new(50);
    let send = async {
        for n in 0..count {
            under_way.acquire().await.expect("it is open").forget();
            assert_eq!(socket.send(message(n)), SendStatus::Queued);
        }
    };
    let receive = async {
        for n in 0..count {
            let got = ws.recv().await.expect("the connection lives").expect("it is open");
            assert_eq!(got, message(n), "message {n}");
            under_way.add_permits(1);
        }
    };
    within(60, async { tokio::join!(send, receive) }).await;
}

#[tokio::test(start_paused = true)]
async fn loops_on_both_ends_keep_the_order_of_thousands_of_messages() {
    let mut ws = testing::connect_to(echo_route(), "/").websocket().await;
    exchange(&mut ws, 5000).await;
    let close = soon(ws.close(CloseCode(4000), "enough")).await;
    assert_close(&close, ClosedBy::Local, 4000, "enough", true);
    assert_eq!(ws.recv().await, Ok(None));
}

/// One message more than a turn handles: it waits until the turn's last message is taken, perhaps at
/// the very moment at which the connection's task goes to sleep over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_behind_those_of_a_turn_is_never_slept_over() {
    const TURN: usize = 128;
    let server = Server::new().routes(echo_route()).bind("127.0.0.1:0").await.unwrap();
    let client = Client::connect(format!("ws://{}/", server.local_addr()));
    let mut ws = within(30, client).await.expect("the server listens");
    for round in 0..1000 {
        for _ in 0..=TURN {
            ws.socket().send("x");
        }
        for n in 0..=TURN {
            let got = timeout(secs(30), ws.recv()).await;
            assert!(got.is_ok(), "message {n} of round {round} does not come");
        }
    }
}

/// Each has more to send than fits into the pipe and what it may hold back.
#[tokio::test(start_paused = true)]
async fn two_ends_that_send_at_the_same_time_both_receive() {
    let (sender, mut handles) = unbounded_channel();
    let route = accept(move |ws, _| {
        let _ = sender.send(ws);
        async { Ok(()) }
    });
    let router = Router::new().route("/", route);
    let mut client = testing::connect_to(router, "/").websocket().await;
    let mut server = handles.recv().await.expect("the function gets a handle");
    client.socket().send(vec![1; 500_000]);
    server.socket().send(vec![2; 500_000]);
    let both = async { tokio::join!(client.recv(), server.recv()) };
    let (at_client, at_server) = soon(both).await;
    assert_eq!(at_client, Ok(Some(Message::from(vec![2; 500_000]))));
    assert_eq!(at_server, Ok(Some(Message::from(vec![1; 500_000]))));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_without_a_pause_gets_its_echo_meanwhile() {
    let mut ws = testing::connect_to(echo_route(), "/").websocket().await;
    let socket = ws.socket();
    let send = async {
        for n in 0..2000 {
            socket.send(message(n));
            socket.writable().await.expect("the connection lives");
        }
    };
    let receive = async {
        for n in 0..2000 {
            let got = ws.recv().await.expect("the connection lives").expect("it is open");
            assert_eq!(got, message(n), "message {n}");
        }
    };
    within(10, async { tokio::join!(send, receive) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loops_on_both_ends_keep_the_order_over_tcp_and_several_threads() {
    let server = Server::new().routes(echo_route()).bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", server.local_addr());
    let clients = (0..4).map(|_| {
        let url = url.clone();
        tokio::spawn(async move {
            let mut ws = within(30, Client::connect(url)).await.expect("the server listens");
            exchange(&mut ws, 1000).await;
            let close = within(30, ws.close(CloseCode::NORMAL, "")).await;
            assert_close(&close, ClosedBy::Local, 1000, "", true);
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_come_in_one_write_or_byte_by_byte_are_given_one_by_one() {
    for side in SIDES {
        for (piece, pings) in [usize::MAX, 1, 7].into_iter().flat_map(|n| [(n, false), (n, true)]) {
            let (mut ws, mut peer) = Setup::new(side).connect().await;
            let mut wire = Vec::new();
            for n in 0..300 {
                let half = n.to_string();
                wire.extend(peer.frame(OpCode::Text, false, half.as_bytes()));
                if pings {
                    wire.extend(peer.frame(OpCode::Ping, true, half.as_bytes()));
                }
                wire.extend(peer.frame(OpCode::Continuation, true, half.as_bytes()));
            }
            let send = async {
                for piece in wire.chunks(piece.min(wire.len())) {
                    peer.send_raw(piece).await;
                    yield_now().await;
                }
            };
            let receive = async {
                for n in 0..300 {
                    let got = ws.recv().await.unwrap().expect("it is open");
                    assert_eq!(text(&got), format!("{n}{n}"));
                }
            };
            soon(async { tokio::join!(send, receive) }).await;
        }
    }
}

// ---- a stream

#[tokio::test(start_paused = true)]
async fn a_stream_gives_all_messages_and_ends_with_an_orderly_connection() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).connect().await;
        for n in 0..100 {
            peer.send_text(&n.to_string()).await;
        }
        peer.send_close(1000, "").await;
        let messages: Vec<_> = soon((&mut ws).try_collect()).await.expect("no error");
        let numbers: Vec<_> = messages.iter().map(|message| text(message)).collect();
        assert_eq!(numbers, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        for _ in 0..3 {
            assert_eq!(soon(ws.next()).await, None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_an_error_once_and_stays_ended() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).connect().await;
        peer.send_text("last words").await;
        drop(peer);
        assert_eq!(soon(ws.next()).await, Some(Ok(Message::from("last words"))));
        let Some(Err(Disconnected { close, .. })) = soon(ws.next()).await else {
            panic!("the connection broke off")
        };
        assert_eq!(close.code, CloseCode::ABNORMAL);
        for _ in 0..3 {
            assert_eq!(soon(ws.next()).await, None);
        }
        // A loop may ask as often as it likes.
        for _ in 0..3 {
            assert_eq!(soon(ws.recv()).await.unwrap_err().close, close);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_and_a_loop_may_take_turns() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).connect().await;
        for n in 0..100 {
            peer.send_text(&n.to_string()).await;
        }
        for n in 0..100 {
            let got = match n % 3 {
                0 => soon(ws.next()).await.expect("it is open"),
                1 => soon(ws.recv()).await.transpose().expect("it is open"),
                _ => soon(ws.try_next()).await.transpose().expect("it is open"),
            };
            assert_eq!(text(&got.unwrap()), n.to_string());
        }
    }
}

// ---- a sink

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_forwarded_arrives_whole_and_is_closed_with_1000() {
    for side in SIDES {
        // Far more than may wait: a sink waits for room instead.
        let count = 3000;
        let (ws, mut peer) = Setup::new(side).pipe(1000).connect().await;
        let messages = stream::iter((0..count).map(message).map(Ok));
        let receive = async {
            for n in 0..count {
                let frame = peer.recv().await.expect("the connection lives");
                assert_eq!(frame.payload, message(n).as_bytes(), "message {n}");
            }
            peer.answer_close(1000).await;
        };
        let (sent, ()) = within(60, async { tokio::join!(messages.forward(ws), receive) }).await;
        assert_eq!(sent, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn all_that_was_sent_as_a_stream_is_written_and_the_connection_goes_on() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).pipe(50).connect().await;
        let mut messages = stream::iter((0..30).map(|n| Ok(Message::from(n.to_string()))));
        let receive = async {
            for n in 0..30 {
                assert_eq!(peer.recv_text().await, n.to_string());
            }
        };
        let (sent, ()) = soon(async { tokio::join!(ws.send_all(&mut messages), receive) }).await;
        assert_eq!(sent, Ok(()));
        assert_eq!(ws.socket().buffered(), 0);
        ws.send("more").await.unwrap();
        assert_eq!(soon(peer.recv_text()).await, "more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_of_a_sink_waits_until_the_message_is_written_and_that_of_the_handle_does_not() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).pipe(10).connect().await;
        assert_eq!(ws.send("a longer message than the pipe takes").now_or_never(), Some(Ok(())));
        let mut sending = Box::pin(SinkExt::send(&mut ws, Message::from("and another one")));
        settle().await;
        assert_eq!((&mut sending).now_or_never(), None);
        assert_eq!(soon(peer.recv_text()).await, "a longer message than the pipe takes");
        settle().await;
        assert_eq!((&mut sending).now_or_never(), None);
        let (sent, received) = soon(async { tokio::join!(sending, peer.recv_text()) }).await;
        assert_eq!((sent, &*received), (Ok(()), "and another one"));
    }
}

#[tokio::test(start_paused = true)]
async fn closing_a_sink_sends_what_was_fed_and_1000_and_waits_for_the_end() {
    for side in SIDES {
        let (mut ws, mut peer) = Setup::new(side).connect().await;
        ws.feed(Message::from("first")).await.unwrap();
        ws.feed(Message::from("second")).await.unwrap();
        peer.send_text("is not taken, and dropped").await;
        settle().await;
        let mut closing = Box::pin(SinkExt::close(&mut ws));
        assert_eq!((&mut closing).now_or_never(), None);
        assert_eq!(soon(peer.recv_text()).await, "first");
        assert_eq!(soon(peer.recv_text()).await, "second");
        assert_eq!(soon(peer.recv_close()).await, CloseCode::NORMAL);
        settle().await;
        assert_eq!((&mut closing).now_or_never(), None, "the peer has not answered");
        peer.send_text("comes too late").await;
        peer.send_close(1000, "").await;
        assert_eq!(soon(closing).await, Ok(()));
        assert_close(&ws.socket().closed().await, ClosedBy::Local, 1000, "", true);
        assert_eq!(soon(ws.recv()).await, Ok(None));
        assert_eq!(SinkExt::close(&mut ws).await, Ok(()), "once more does no harm");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_of_an_ended_connection_takes_nothing() {
    for side in SIDES {
        let (mut ws, peer) = Setup::new(side).connect().await;
        drop(peer);
        soon(ws.socket().closed()).await;
        assert!(SinkExt::send(&mut ws, Message::from("x")).await.is_err());
        assert!(ws.feed(Message::from("x")).await.is_err());
        assert!(ws.flush().await.is_err());
        assert!(ws.send("x").await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn the_two_halves_of_a_split_handle_make_an_echo() {
    let route = accept(|ws, _| async {
        let (sink, messages) = ws.split();
        let sink = sink.sink_map_err(sockeye::Error::from);
        messages.map_err(sockeye::Error::from).forward(sink).await
    });
    let mut ws = testing::connect_to(Router::new().route("/", route), "/").websocket().await;
    exchange(&mut ws, 500).await;
    ws.close(CloseCode(4000), "").await;
    assert_eq!(ws.socket().closed().await.code, CloseCode(4000));
}

#[tokio::test(start_paused = true)]
async fn the_halves_of_a_split_handle_wake_the_tasks_that_wait_in_them() {
    for side in SIDES {
        let (ws, mut peer) = Setup::new(side).pipe(10).connect().await;
        let (mut sink, mut messages) = ws.split();
        let send =
            tokio::spawn(async move { sink.send(Message::from("for the pipe too long")).await });
        let receive = tokio::spawn(async move { messages.next().await });
        settle().await;
        assert!(!send.is_finished() && !receive.is_finished());
        assert_eq!(soon(peer.recv_text()).await, "for the pipe too long");
        assert_eq!(soon(send).await.unwrap(), Ok(()));
        peer.send_text("hello").await;
        assert_eq!(soon(receive).await.unwrap(), Some(Ok(Message::from("hello"))));
    }
}

/// The parts of a handle fit where these traits are asked for, and it goes to other tasks.
#[test]
fn a_handle_is_a_stream_and_a_sink_that_can_be_sent_anywhere() {
    fn check<T>()
    where
        T: futures_util::Stream<Item = Result<Message<'static>, Disconnected>>,
        T: for<'a> Sink<Message<'a>, Error = Closed> + Send + Sync + Unpin + 'static,
    {
    }
    check::<WebSocket>();
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_the_handshake_is_there_at_the_clients_end() {
    let (ws, _peer) = Setup::new(Side::Client).connect().await;
    let response = ws.response().expect("this is the client's end");
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["x-served-by"], "hand");
    let (ws, _peer) = Setup::new(Side::Server).connect().await;
    assert!(ws.response().is_none());
}

// ---- what it costs

/// Counts the writes.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn the_answers_of_a_loop_to_messages_that_came_together_leave_in_one_write() {
    let (near, far) = duplex(64 * 1024);
    let writes = Arc::new(AtomicUsize::new(0));
    let client = Client::connect("ws://localhost/").transport(Counted(near, writes.clone()));
    let mut peer = Peer::new(Side::Client, far);
    let (ws, ()) = tokio::join!(client, peer.answer_handshake());
    tokio::spawn(echo(ws.unwrap()));
    settle().await;
    let before = writes.load(Ordering::Relaxed);
    let texts: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    let wire: Vec<_> =
        texts.iter().flat_map(|text| peer.frame(OpCode::Text, true, text.as_bytes())).collect();
    peer.send_raw(&wire).await;
    for text in &texts {
        assert_eq!(soon(peer.recv_text()).await, *text);
    }
    assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
}

/// Saving writes does not go so far that a peer which never pauses gets no answer.
#[tokio::test(start_paused = true)]
async fn the_answers_of_a_loop_do_not_wait_for_the_peer_to_pause() {
    for side in SIDES {
        let (ws, mut peer) = Setup::new(side).pipe(100).connect().await;
        tokio::spawn(echo(ws));
        let mut sent = 0;
        let sending = peer.frame(OpCode::Text, true, b"one of many").repeat(10);
        loop {
            assert!(sent < 1000, "{sent} messages, and no answer");
            peer.send_raw(&sending).await;
            sent += 10;
            if let Some(answer) = peer.recv_text().now_or_never() {
                assert_eq!(answer, "one of many");
                break;
            }
        }
    }
}
