//! Does a function with a connection get along with real servers: `Server`, and `axum::serve`?

#[allow(dead_code, reason = "each test file uses its own part")]
#[path = "../util/tcp.rs"]
mod tcp;

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::MethodRouter};
use sockeye::{
    Client, CloseCode, ClosedBy, Handshake, OpCode, Result, Running, Server, WebSocket, accept,
    testing::frame,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc::unbounded_channel},
    time::Instant,
};

use self::tcp::{handshake, until, within};
use crate::{assert_close, text};

/// Greets with the peer's address, and echoes.
fn greeting() -> MethodRouter {
    accept(|mut ws: WebSocket, handshake: Handshake| async move {
        assert_eq!(ws.socket().peer_addr(), handshake.peer_addr());
        let address = handshake.peer_addr().map_or("nobody".into(), |address| address.to_string());
        ws.send(address).await?;
        while let Some(message) = ws.recv().await? {
            ws.send(message).await?;
        }
        Ok(())
    })
}

async fn bind(route: MethodRouter) -> Running {
    Server::new().route("/", route).bind("127.0.0.1:0").await.expect("a free port")
}

async fn connect(address: SocketAddr) -> WebSocket {
    within(Client::connect(format!("ws://{address}/"))).await.expect("the server listens")
}

async fn assert_echoes(mut ws: WebSocket) -> WebSocket {
    for n in 0..100 {
        ws.send(n.to_string()).await.unwrap();
    }
    for n in 0..100 {
        let message = within(ws.recv()).await.unwrap().expect("it is open");
        assert_eq!(text(&message), n.to_string());
    }
    ws
}

async fn assert_closes(mut ws: WebSocket) {
    let close = within(ws.close(CloseCode(4000), "enough")).await;
    assert_close(&close, ClosedBy::Local, 4000, "enough", true);
}

#[tokio::test]
async fn a_server_serves_it() {
    let server = bind(greeting()).await;
    let mut ws = connect(server.local_addr()).await;
    let greeting = within(ws.recv()).await.unwrap().unwrap();
    assert!(text(&greeting).starts_with("127.0.0.1:"), "{greeting:?}");
    assert_closes(assert_echoes(ws).await).await;
    until(|| server.connections() == 0).await;
}

#[tokio::test]
async fn axum_serves_it_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", greeting());
    tokio::spawn(axum::serve(listener, router).into_future());
    let mut ws = connect(address).await;
    assert_eq!(text(&within(ws.recv()).await.unwrap().unwrap()), "nobody");
    assert_closes(assert_echoes(ws).await).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", greeting());
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, router).into_future());
    let mut ws = connect(address).await;
    let greeting = text(&within(ws.recv()).await.unwrap().unwrap());
    assert!(greeting.starts_with("127.0.0.1:"), "{greeting}");
    assert_closes(assert_echoes(ws).await).await;
}

#[tokio::test]
async fn messages_in_the_segment_of_the_handshake_are_given_first() {
    let server = bind(greeting()).await;
    let mut client = tcp::Client::connect(server.local_addr()).await;
    let mut wire = handshake("/", "").into_bytes();
    for n in 0..50 {
        wire.extend(frame(OpCode::Text, true, n.to_string().as_bytes()));
    }
    client.send(&wire).await;
    client.answer().await.assert_101();
    assert!(client.recv_text().await.starts_with("127.0.0.1:"));
    for n in 0..50 {
        assert_eq!(client.recv_text().await, n.to_string());
    }
    client.close().await;
}

// ---- shutdown

#[tokio::test]
async fn shutdown_ends_a_loop_and_waits_for_what_the_function_does_after_it() {
    let (sender, mut notes) = unbounded_channel();
    let tidied = Arc::new(Notify::new());
    let server = {
        let tidied = tidied.clone();
        bind(accept(move |mut ws, _| {
            let (sender, tidied) = (sender.clone(), tidied.clone());
            async move {
                sender.send("begins")?;
                while ws.recv().await?.is_some() {}
                sender.send("tidies up")?;
                tidied.notified().await;
                Ok(sender.send("has tidied up")?)
            }
        }))
        .await
    };
    let ws = connect(server.local_addr()).await;
    assert_eq!(within(notes.recv()).await, Some("begins"));
    let stopping = tokio::spawn(async move {
        let outcome = server.shutdown(Duration::from_secs(20)).await;
        (server, outcome)
    });
    let close = within(ws.socket().closed()).await;
    assert_close(&close, ClosedBy::Peer, 1001, "the server is shutting down", true);
    assert_eq!(within(notes.recv()).await, Some("tidies up"));
    assert!(!stopping.is_finished());
    tidied.notify_one();
    let (server, outcome) = within(stopping).await.unwrap();
    outcome.expect("it was in time");
    assert_eq!(notes.try_recv(), Ok("has tidied up"));
    assert_eq!(server.connections(), 0);
}

struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a function does, and nothing ends it.
#[derive(Clone, Copy, Debug)]
enum Stuck {
    BesideItsHandle,
    WithAMessageUntaken,
    WithoutItsHandle,
}

async fn be_stuck(mut ws: WebSocket, stuck: Stuck) -> Result {
    ws.send("stuck").await?;
    match stuck {
        Stuck::BesideItsHandle => {
            while ws.recv().await?.is_some() {}
            pending().await
        }
        Stuck::WithAMessageUntaken => pending().await,
        Stuck::WithoutItsHandle => {
            drop(ws);
            pending().await
        }
    }
}

#[tokio::test]
async fn shutdown_drops_a_function_that_has_not_ended_by_the_deadline() {
    for stuck in [Stuck::BesideItsHandle, Stuck::WithAMessageUntaken, Stuck::WithoutItsHandle] {
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = dropped.clone();
        let server = bind(accept(move |ws, _| {
            let guard = OnDrop(count.clone());
            async move {
                let _guard = guard;
                be_stuck(ws, stuck).await
            }
        }))
        .await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = tcp::Client::open(server.local_addr(), "/").await;
            assert_eq!(client.recv_text().await, "stuck");
            if matches!(stuck, Stuck::WithAMessageUntaken) {
                client.send_text("not taken").await;
            }
            clients.push(client);
        }
        let start = Instant::now();
        let deadline = Duration::from_millis(200);
        let stopping = within(server.shutdown(deadline));
        let closing = async {
            for mut client in clients {
                assert_eq!(client.recv_close().await, CloseCode::AWAY);
                client.send_close(CloseCode::AWAY).await;
                let _ = client.rest().await; // cut, so perhaps with a reset
            }
        };
        let (stopped, ()) = tokio::join!(stopping, closing);
        assert_eq!(stopped.expect_err("the functions are stuck").cut, 3, "{stuck:?}");
        assert!(start.elapsed() >= deadline);
        until(|| dropped.load(Ordering::SeqCst) == 3).await;
        until(|| server.connections() == 0).await;
    }
}
