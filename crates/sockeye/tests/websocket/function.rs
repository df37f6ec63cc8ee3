//! What does a function get along with its connection, and what is left of it afterwards?

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, Query},
    http::StatusCode,
    routing::MethodRouter,
};
use sockeye::{
    CloseCode, Config, Handshake, Limits, Message, OpCode, Origins, Socket, WebSocket, accept,
    accept_with, testing,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout},
};

use crate::{
    accept::{assert_echo, connect, echo},
    secs, settle, soon, tasks, tasks_end, text, within,
};

// ---- what it gets

#[tokio::test(start_paused = true)]
async fn the_handshake_is_there_with_all_that_the_request_said() {
    let route = accept(|mut ws, mut handshake: Handshake| async move {
        let Path(room) = handshake.extract::<Path<String>>().await.map_err(|_| "no room")?;
        let Query(query) =
            handshake.extract::<Query<Vec<(String, String)>>>().await.map_err(|_| "no query")?;
        let parts = [
            handshake.param("room"),
            handshake.query("name").as_deref(),
            handshake.cookie("session").as_deref(),
            handshake.header("x-team"),
            Some(handshake.uri().path()),
            Some(handshake.method().as_str()),
            Some(&*room),
            Some(&*query[0].1),
            handshake.param("none"),
            ws.socket().protocol(),
        ]
        .map(|part| part.unwrap_or("-").to_owned());
        ws.send(parts.join(" ")).await?;
        echo(&mut ws).await
    });
    let router = Router::new().nest("/v1", Router::new().route("/room/{room}", route));
    let connect = testing::connect_to(router, "/v1/room/caf%C3%A9?name=J%C3%BCrgen+K")
        .header("cookie", "a=b; session=s%201")
        .header("x-team", "red")
        .header("sec-websocket-protocol", "chat");
    let mut peer = connect.await;
    let expected = "café Jürgen K s 1 red /v1/room/caf%C3%A9 GET café Jürgen K - -";
    assert_eq!(soon(peer.recv_text()).await, expected);
    assert!(!peer.response().headers().contains_key("sec-websocket-protocol"));
    assert_echo(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_foreign_page_is_refused_and_the_function_not_called() {
    let calls = Arc::new(AtomicUsize::new(0));
    let route = |config| {
        let calls = calls.clone();
        let function = move |mut ws: WebSocket, _| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move { echo(&mut ws).await }
        };
        accept_with(function, config)
    };
    let foreign = |config| connect(route(config)).header("origin", "https://example.com");
    let refused = foreign(Config::default()).try_connect().await.expect_err("it is foreign");
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    let origins = Origins::list(["https://example.com"]);
    assert_echo(&mut foreign(Config::default().origins(origins)).await).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_settings_of_its_route_hold() {
    let config = Config::default()
        .limits(Limits::default().message_size(10))
        .keep_alive(secs(3), secs(2))
        .close_timeout(secs(1));
    let route = accept_with(|mut ws, _| async move { echo(&mut ws).await }, config);
    let mut peer = connect(route.clone()).await;
    peer.send("0123456789").await;
    assert_eq!(soon(peer.recv_text()).await, "0123456789");
    peer.send("0123456789+").await;
    assert_eq!(soon(peer.recv_close()).await.0, CloseCode::TOO_BIG);

    let mut peer = connect(route).await;
    let start = Instant::now();
    let ping = within(4, peer.recv()).await.expect("a ping");
    assert_eq!(ping.opcode, OpCode::Ping);
    within(3, peer.recv_end()).await;
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn functions_of_one_route_run_side_by_side_each_with_its_own_connection() {
    let (sender, mut sockets) = unbounded_channel::<Socket>();
    let route = accept(move |mut ws, handshake: Handshake| {
        let sender = sender.clone();
        async move {
            let name = handshake.header("x-name").ok_or("no name")?.to_owned();
            sender.send(ws.socket())?;
            while let Some(message) = ws.recv().await? {
                ws.send(format!("{name}: {}", text(&message))).await?;
            }
            Ok(())
        }
    });
    let names: Vec<_> = (0..20).map(|n| format!("peer {n}")).collect();
    let mut peers = Vec::new();
    for name in &names {
        peers.push(connect(route.clone()).header("x-name", name).await);
    }
    for _ in 0..3 {
        for (peer, name) in peers.iter_mut().zip(&names) {
            peer.send("hello").await;
            assert_eq!(soon(peer.recv_text()).await, format!("{name}: hello"));
        }
    }
    for (peer, name) in peers.iter_mut().zip(&names) {
        sockets.recv().await.unwrap().send(&**name);
        assert_eq!(soon(peer.recv_text()).await, *name);
    }
}

// ---- what is left of it

/// Says when it is dropped.
struct Guard(UnboundedSender<&'static str>, &'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

/// A function that holds a guard for ever, or until its connection ends.
fn guarded(stays: bool) -> (MethodRouter, UnboundedReceiver<&'static str>) {
    let (sender, dropped) = unbounded_channel();
    let route = accept(move |mut ws, handshake: Handshake| {
        let captured = Guard(sender.clone(), "captured");
        let local = Guard(sender.clone(), "local");
        async move {
            let (_captured, _handshake) = (captured, handshake);
            let _local = local;
            while let Ok(Some(_)) = ws.recv().await {}
            if stays { pending().await } else { Ok(()) }
        }
    });
    (route, dropped)
}

async fn assert_nothing_left(dropped: &mut UnboundedReceiver<&'static str>) {
    let mut names = [dropped.recv().await, dropped.recv().await].map(Option::unwrap);
    names.sort_unstable();
    assert_eq!(names, ["captured", "local"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_function_is_left_whatever_way_its_connection_ends() {
    let (route, mut dropped) = guarded(false);
    for end in 0..4 {
        let before = tasks();
        let mut peer = connect(route.clone()).await;
        peer.send("hello").await;
        settle().await;
        match end {
            0 => {
                peer.send_close(CloseCode::NORMAL, "").await;
                soon(peer.recv_close()).await;
            }
            1 => {}
            2 => peer.send_raw(&[0xff]).await,
            // Nothing is answered any more, until it counts as dead.
            _ => {
                let silence = timeout(secs(100), pending::<()>()).await;
                assert!(silence.is_err());
            }
        }
        drop(peer);
        soon(assert_nothing_left(&mut dropped)).await;
        tasks_end(before).await;
        assert!(dropped.is_empty());
    }
}

/// Not after its connection, which nothing is said about, but with all that there is.
#[test]
fn a_function_is_dropped_with_its_runtime() {
    for stays in [false, true] {
        let (route, mut dropped) = guarded(stays);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let peer = runtime.block_on(within(30, async {
            let mut peer = connect(route).await;
            peer.send("hello").await;
            if stays {
                peer.send_close(CloseCode::NORMAL, "").await;
                peer.recv_close().await;
                peer.recv_end().await;
            } else {
                peer.send_frame(OpCode::Ping, true, b"").await;
                assert_eq!(peer.recv().await.map(|frame| frame.opcode), Some(OpCode::Pong));
            }
            peer
        }));
        assert!(dropped.is_empty());
        drop(runtime);
        let mut names = [dropped.try_recv().unwrap(), dropped.try_recv().unwrap()];
        names.sort_unstable();
        assert_eq!(names, ["captured", "local"]);
        drop(peer);
    }
}

/// A function whose connection has ended is not cut off: it may have to tidy up.
#[tokio::test(start_paused = true)]
async fn a_function_that_never_ends_is_left_alone() {
    let (route, mut dropped) = guarded(true);
    let peer = connect(route).await;
    settle().await;
    drop(peer);
    let left = timeout(Duration::from_secs(100_000), dropped.recv()).await;
    assert!(left.is_err(), "{left:?}");
}

/// The message that was handed over, and those behind it.
#[tokio::test(start_paused = true)]
async fn messages_that_were_sent_before_the_end_are_given_however_late_they_are_taken() {
    let (sender, mut texts) = unbounded_channel();
    let route = accept(move |mut ws, _| {
        let sender = sender.clone();
        async move {
            loop {
                sleep(secs(100)).await;
                let Some(message) = ws.recv().await? else { return Ok(()) };
                sender.send(Message::into_owned(message))?;
            }
        }
    });
    let mut peer = connect(route).await;
    for n in 0..10 {
        peer.send(&*n.to_string()).await;
    }
    peer.send_close(CloseCode::NORMAL, "").await;
    for n in 0..10 {
        let message = within(101, texts.recv()).await.expect("the function goes on");
        assert_eq!(text(&message), n.to_string());
    }
    assert_eq!(within(101, peer.recv_close()).await.0, CloseCode::NORMAL);
    assert_eq!(within(101, texts.recv()).await, None);
}
