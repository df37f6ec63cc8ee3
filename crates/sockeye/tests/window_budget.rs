//! Is what connections with windows of their own take together bounded, and given back, however they
//! end?
//!
//! One test, as the budget is the whole process's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, middleware, response::IntoResponse};
use sockeye::{
    Accept, Client, CloseCode, Compression, Config, Handler, Handshake, Message, Rejection, Result,
    Session, Socket, WebSocket, accept_with,
    testing::{self, Connect, Faults, Peer},
    ws_with,
};
use tokio::{
    io::AsyncWriteExt,
    sync::{
        Notify,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    time::{sleep, timeout},
};

const OFFER: &str = "permessage-deflate; client_max_window_bits";
/// Two windows of 12 bits.
const EACH: usize = 2 * 4096;
const SHARED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Gives its socket away, and does what a text says.
struct Route {
    sockets: UnboundedSender<Socket>,
    attached: Arc<AtomicUsize>,
    /// Whom `attach` waits for.
    go: Option<Arc<Notify>>,
}

impl Handler for Route {
    type Data = ();

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<()>, Rejection> {
        self.attached.fetch_add(1, Relaxed);
        if let Some(go) = &self.go {
            go.notified().await;
        }
        match handshake.query("fail").as_deref() {
            Some("protocol") => Ok(Accept::new(()).protocol("not offered")),
            Some("refuse") => Err(StatusCode::FORBIDDEN.into()),
            _ => Ok(Accept::new(())),
        }
    }

    async fn open(&self, session: &mut Session<()>) -> Result {
        Ok(self.sockets.send(session.socket.clone())?)
    }

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        match message.as_text() {
            Some("panic") => panic!("as the test wants it"),
            Some("fail") => Err("as the test wants it".into()),
            Some("wait") => std::future::pending().await,
            _ => {
                session.send(message);
                Ok(())
            }
        }
    }
}

type Sockets = UnboundedReceiver<Socket>;

fn config() -> Config {
    Config::default().compression(Compression::dedicated())
}

fn router(go: Option<Arc<Notify>>) -> (Router, Sockets, Arc<AtomicUsize>) {
    let (sockets, received) = unbounded_channel();
    let attached = Arc::new(AtomicUsize::new(0));
    let route = Route { sockets, attached: attached.clone(), go };
    (Router::new().route("/", ws_with(route, config())), received, attached)
}

fn connect() -> (Connect, Sockets) {
    let (router, sockets, _) = router(None);
    (offering(testing::connect_to(router, "/")), sockets)
}

fn offering(connect: Connect) -> Connect {
    connect.header("sec-websocket-extensions", OFFER)
}

fn answer(peer: &Peer) -> Option<&str> {
    peer.response().headers().get("sec-websocket-extensions").map(|value| value.to_str().unwrap())
}

/// The kept socket of an open connection, whose windows count.
async fn open() -> (Peer, Socket) {
    let (connect, mut sockets) = connect();
    let mut peer = connect.await;
    let socket = sockets.recv().await.expect("it is open");
    peer.send("hello").await;
    assert_eq!(peer.recv_text().await, "hello");
    assert_eq!(Compression::window_budget_used(), EACH);
    (peer, socket)
}

/// Waits until so much of it is used.
async fn used(bytes: usize, what: &str) {
    let used = async {
        while Compression::window_budget_used() != bytes {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let now = Compression::window_budget_used;
    timeout(Duration::from_secs(100), used).await.unwrap_or_else(|_| panic!("{what}: {}", now()));
}

#[test]
fn windows_are_bounded_and_given_back_however_a_connection_ends() {
    assert_eq!(Compression::window_budget_used(), 0);
    in_runtime(async {
        beyond_it_connections_are_shared().await;
        parts_of_it().await;
        the_ways_to_end().await;
        handshakes_that_lead_nowhere().await;
        functions_and_clients().await;
    });
    a_dropped_runtime();
    many_at_once();
    assert_eq!(Compression::window_budget_used(), 0);
}

fn in_runtime(scene: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    let scene = async { timeout(Duration::from_secs(10_000), scene).await };
    runtime.block_on(scene).expect("nothing waits for ever");
    drop(runtime);
    assert_eq!(Compression::window_budget_used(), 0);
}

async fn beyond_it_connections_are_shared() {
    Compression::set_window_budget(3 * EACH + EACH / 2);
    let mut open = Vec::new();
    for n in 0..6 {
        let (connect, mut sockets) = connect();
        let mut peer = connect.await;
        let is_dedicated = n < 3;
        let expected = "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12";
        assert_eq!(answer(&peer), Some(if is_dedicated { expected } else { SHARED }), "{n}");
        let socket = sockets.recv().await.expect("it is open");
        assert_eq!(socket.compression().map(|agreed| agreed.to_string()).as_deref(), answer(&peer));
        peer.send("hello").await;
        assert_eq!(peer.recv_text().await, "hello");
        open.push((peer, socket));
        assert_eq!(Compression::window_budget_used(), open.len().min(3) * EACH);
    }
    // Those that are there keep what they have, and one that goes makes room for one.
    Compression::set_window_budget(0);
    assert_eq!(Compression::window_budget_used(), 3 * EACH);
    let refused = connect();
    assert_eq!(answer(&refused.0.await), Some(SHARED));
    Compression::set_window_budget(3 * EACH);
    let refused = connect();
    assert_eq!(answer(&refused.0.await), Some(SHARED));
    let (first, socket) = open.remove(0);
    drop(first);
    socket.closed().await;
    used(2 * EACH, "one has gone").await;
    let (again, mut sockets) = connect();
    let again = again.await;
    assert_ne!(answer(&again), Some(SHARED));
    let socket = sockets.recv().await;
    used(3 * EACH, "another has come").await;
    drop((again, open, socket));
    used(0, "all have gone").await;
    Compression::set_window_budget(64 * 1024 * 1024);
}

/// What an offer rules out is not counted.
async fn parts_of_it() {
    for (offer, bytes) in [
        ("permessage-deflate; server_no_context_takeover; client_max_window_bits", EACH / 2),
        ("permessage-deflate; client_no_context_takeover", EACH / 2),
        ("permessage-deflate", EACH / 2),
        ("permessage-deflate; server_max_window_bits=8; client_max_window_bits=9", 256 + 512),
        ("permessage-deflate; server_no_context_takeover", 0),
        ("x-other", 0),
    ] {
        let (connect, _sockets) = connect();
        let peer = connect.header("sec-websocket-extensions", offer).await;
        assert_eq!(Compression::window_budget_used(), bytes, "{offer}");
        drop(peer);
        used(0, offer).await;
    }
}

async fn the_ways_to_end() {
    // In each case the socket is kept, and the budget comes back nevertheless.
    let (mut peer, closed_by_peer) = open().await;
    peer.send_close(CloseCode::NORMAL, "").await;
    peer.recv_close().await;
    drop(peer);
    used(0, "closed by the peer").await;

    let (mut peer, closed) = open().await;
    closed.close(CloseCode::NORMAL, "");
    peer.recv_close().await;
    peer.send_close(CloseCode::NORMAL, "").await;
    peer.recv_end().await;
    drop(peer);
    used(0, "closed").await;

    let (peer, unanswered) = open().await;
    unanswered.close(CloseCode::NORMAL, "");
    used(0, "closed, and not answered").await;
    drop(peer);

    let (_peer, terminated) = open().await;
    terminated.terminate();
    used(0, "terminated").await;

    let (peer, left) = open().await;
    drop(peer);
    used(0, "left").await;

    let (connect, mut sockets) = connect();
    let reads = Faults::new().reset_at(3).behind_handshake();
    let mut peer = connect.faults(reads, Faults::new()).await;
    let reset = sockets.recv().await;
    peer.send_raw(b"more than three").await;
    used(0, "reset").await;

    for command in ["panic", "fail"] {
        let (mut peer, failed) = open().await;
        peer.send(command).await;
        assert_eq!(peer.recv_close().await.0, CloseCode::INTERNAL_ERROR);
        used(0, command).await;
        drop(failed);
    }

    let (mut peer, waiting) = open().await;
    peer.send("wait").await;
    sleep(Duration::from_millis(10)).await;
    waiting.terminate();
    drop(peer);
    // The handler has not ended, so neither has the connection.
    sleep(Duration::from_millis(10)).await;
    drop(waiting);

    // A message that does not inflate.
    let (mut peer, broken) = open_behind(EACH).await;
    peer.send_raw(&[0xc2, 0x81, 0, 0, 0, 0, 0x07]).await;
    assert_eq!(peer.recv_close().await.0, CloseCode(1007));
    drop(peer);
    used(EACH, "broken").await;

    let (_peer, idle) = open_behind(EACH).await;
    used(EACH, "dead: it answers no ping").await;

    for socket in [closed_by_peer, closed, unanswered, terminated, left, broken, idle] {
        assert_eq!(socket.state(), sockeye::State::Closed);
        assert!(socket.compression().is_some());
    }
    drop(reset);
}

/// An open connection beside others.
async fn open_behind(others: usize) -> (Peer, Socket) {
    let (connect, mut sockets) = connect();
    let peer = connect.await;
    let socket = sockets.recv().await.expect("it is open");
    assert_eq!(Compression::window_budget_used(), others + EACH);
    (peer, socket)
}

async fn handshakes_that_lead_nowhere() {
    let others = Compression::window_budget_used();
    for fail in ["protocol", "refuse"] {
        let (router, _sockets, _) = router(None);
        let connect = testing::connect_to(router, &format!("/?fail={fail}"));
        assert!(offering(connect).try_connect().await.is_err());
        used(others, fail).await;
    }
    // The client leaves while `attach` decides, or with the request just sent.
    for in_attach in [true, false] {
        let go = Arc::new(Notify::new());
        let (router, mut sockets, attached) = router(Some(go.clone()));
        let mut stream = testing::connect_to(router, "/").stream();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
            Sec-WebSocket-Extensions: {OFFER}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        while attached.load(Relaxed) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        if in_attach {
            drop(stream);
            go.notify_one();
        } else {
            go.notify_one();
            drop(stream);
        }
        used(others, "left before the 101").await;
        assert!(sockets.try_recv().is_err(), "`open` was not called");
    }
    // A pipe that cannot take the 101.
    let (router, _sockets, _) = router(None);
    let connect = testing::connect_to(router, "/").pipe(16);
    let writes = Faults::new().reset_at(0);
    let stream = connect.faults(Faults::new(), writes).stream();
    let client = Client::connect("ws://localhost/").transport(stream);
    assert!(client.await.is_err());
    used(others, "the 101 was not written").await;
    // A middleware that puts another answer in the place of the 101.
    let (router, _sockets, _) = self::router(None);
    let replace = middleware::map_response(async |_: axum::response::Response| {
        StatusCode::IM_A_TEAPOT.into_response()
    });
    let connect = testing::connect_to(router.layer(replace), "/");
    assert!(offering(connect).try_connect().await.is_err());
    used(others, "the 101 was replaced").await;
}

async fn functions_and_clients() {
    let others = Compression::window_budget_used();
    let (sender, mut handles) = unbounded_channel();
    let keep = move |ws: WebSocket, _| {
        let _ = sender.send(ws);
        async { Ok(()) }
    };
    let router = Router::new().route("/", accept_with(keep, config()));
    // A client's own windows are not of the budget.
    let mut client = testing::connect_to(router, "/").websocket().await;
    let mut server = handles.recv().await.expect("the function gets a handle");
    assert_eq!(Compression::window_budget_used(), others + EACH);
    client.send("hello").await.expect("it is open");
    server.recv().await.expect("it is open").expect("a message");
    client.close(CloseCode::NORMAL, "").await;
    assert_eq!(server.recv().await.expect("a clean end"), None);
    used(others, "a handle is kept").await;
    assert!(server.socket().compression().is_some());
}

fn a_dropped_runtime() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
    let kept: Vec<_> = runtime.block_on(async {
        let mut kept = Vec::new();
        for _ in 0..10 {
            let (connect, mut sockets) = connect();
            let peer = connect.await;
            kept.push((peer, sockets.recv().await.expect("it is open")));
        }
        kept
    });
    assert_eq!(Compression::window_budget_used(), 10 * EACH);
    drop(runtime);
    assert_eq!(Compression::window_budget_used(), 0, "the tasks are gone, the sockets are not");
    drop(kept);
}

/// No more than the budget, also where all come in the same moment.
fn many_at_once() {
    Compression::set_window_budget(10 * EACH);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let peers = (0..50).map(|_| {
            tokio::spawn(async {
                let (connect, sockets) = connect();
                (connect.await, sockets)
            })
        });
        let mut dedicated = 0;
        let mut kept = Vec::new();
        for peer in peers.collect::<Vec<_>>() {
            let peer = peer.await.expect("no panic");
            dedicated += usize::from(answer(&peer.0) != Some(SHARED));
            kept.push(peer);
        }
        assert_eq!((dedicated, Compression::window_budget_used()), (10, 10 * EACH));
    });
    drop(runtime);
    Compression::set_window_budget(64 * 1024 * 1024);
}
