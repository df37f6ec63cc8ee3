//! What a server on a real port does beyond its routes: early bytes, deadlines, limits, its errors,
//! and its end.

#[allow(dead_code, reason = "each test file uses its own part")]
#[path = "util/tcp.rs"]
mod tcp;

use std::{
    error::Error,
    future::pending,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    routing::get,
};
use http::StatusCode;
use sockeye::{
    Accept, Close, CloseCode, ClosedBy, Config, Handler, Handshake, Limits, Message, OpCode,
    Rejection, Result, Running, Server, Session, testing::frame,
};
use tcp::{Client, Frame, handshake, request, until, within};
use tokio::{
    net::TcpStream,
    sync::{Notify, Semaphore, mpsc},
};

/// Long enough for any shutdown here that is not meant to run into its deadline.
const ENOUGH: Duration = Duration::from_secs(20);

/// Sends every message back as it came.
struct Echo;

impl Handler for Echo {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        session.send(message);
        Ok(())
    }
}

async fn bind(server: Server) -> Running {
    within(server.bind("127.0.0.1:0")).await.expect("a free port")
}

async fn echo_server() -> Running {
    bind(Server::new().ws("/echo", Echo)).await
}

async fn echoes(client: &mut Client, text: &str) {
    client.send_text(text).await;
    assert_eq!(client.recv_text().await, text);
}

async fn shut_down(server: &Running) {
    within(server.shutdown(ENOUGH)).await.expect("everything ends before the deadline");
    assert_eq!(server.connections(), 0);
}

/// A handshake on `/echo`, and what follows it without waiting for the answer.
fn early(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = handshake("/echo", "").into_bytes();
    frames.into_iter().for_each(|frame| bytes.extend(frame));
    bytes
}

fn binary(payload: &[u8]) -> Vec<u8> {
    frame(OpCode::Binary, true, payload)
}

// ---- bytes that come with the handshake

#[tokio::test]
async fn a_frame_in_the_segment_of_the_handshake_is_not_lost() {
    let server = echo_server().await;
    let mut client = Client::connect(server.local_addr()).await;
    client.send(early([frame(OpCode::Text, true, b"early")])).await;
    client.answer().await.assert_101();
    assert_eq!(client.recv_text().await, "early");
    echoes(&mut client, "later").await;
    client.close().await;
}

#[tokio::test]
async fn a_frame_that_begins_in_the_segment_of_the_handshake_may_end_in_the_next() {
    let server = echo_server().await;
    let whole = frame(OpCode::Text, true, "é".repeat(100).as_bytes());
    for split in [1, 2, 3, 5, 8, 9, 100] {
        let mut client = Client::connect(server.local_addr()).await;
        client.send(early([whole[..split].to_vec()])).await;
        client.answer().await.assert_101();
        client.send(&whole[split..]).await;
        assert_eq!(client.recv_text().await, "é".repeat(100), "split at {split}");
    }
}

#[tokio::test]
async fn many_early_frames_are_answered_in_their_order() {
    let server = echo_server().await;
    for count in [100, 1000] {
        let payloads: Vec<_> = (0..count).map(|n: u32| n.to_be_bytes()).collect();
        let bytes = early(payloads.iter().map(|payload| binary(payload)));
        let mut client = Client::connect(server.local_addr()).await;
        let (answer, frames) = client.exchange(&bytes, count as usize).await;
        answer.assert_101();
        let expected: Vec<_> =
            payloads.iter().map(|payload| Frame { opcode: 2, payload: payload.to_vec() }).collect();
        assert_eq!(frames, expected);
    }
}

#[tokio::test]
async fn early_bytes_beyond_the_buffer_of_the_handshake_are_not_lost() {
    let server = echo_server().await;
    // hyper reads 8 KiB at first, the connection up to 64 KiB at once.
    for size in [8 * 1024 - 100, 9 * 1024, 64 * 1024, 65 * 1024, 300 * 1024] {
        let payload: Vec<u8> = (0..size).map(|n: usize| n.wrapping_mul(31) as u8).collect();
        let one = vec![payload.clone()];
        let many: Vec<_> = payload.chunks(1000).map(<[u8]>::to_vec).collect();
        for payloads in [one, many] {
            let bytes = early(payloads.iter().map(|payload| binary(payload)));
            let mut client = Client::connect(server.local_addr()).await;
            let (answer, frames) = client.exchange(&bytes, payloads.len()).await;
            answer.assert_101();
            let frames: Vec<_> = frames.into_iter().map(|frame| frame.payload).collect();
            assert!(frames == payloads, "{size} bytes in {} frames", payloads.len());
        }
    }
}

#[tokio::test]
async fn early_bytes_do_not_count_as_headers() {
    let server = bind(Server::new().header_limits(10, 1024).ws("/echo", Echo)).await;
    let payload = [7; 4000];
    let mut client = Client::connect(server.local_addr()).await;
    let (answer, frames) = client.exchange(&early([binary(&payload)]), 1).await;
    answer.assert_101();
    assert_eq!(frames[0].payload, payload);
}

#[tokio::test]
async fn an_early_close_frame_is_answered() {
    let server = echo_server().await;
    let mut client = Client::connect(server.local_addr()).await;
    let close = frame(OpCode::Close, true, &CloseCode::AWAY.0.to_be_bytes());
    client.send(early([frame(OpCode::Text, true, b"hello"), close])).await;
    client.answer().await.assert_101();
    assert_eq!(client.recv_text().await, "hello");
    assert_eq!(client.recv_close().await, CloseCode::AWAY);
    client.recv_end().await;
}

/// A handler whose `attach` waits until it is let go on.
#[derive(Clone)]
struct Gate {
    reached: Arc<Notify>,
    permits: Arc<Semaphore>,
    log: Log,
}

type Log = Arc<Mutex<Vec<&'static str>>>;

impl Gate {
    fn new() -> Self {
        let (reached, log) = (Arc::new(Notify::new()), Log::default());
        Self { reached, permits: Arc::new(Semaphore::new(0)), log }
    }

    /// Waits until somebody is held up.
    async fn reached(&self) {
        within(self.reached.notified()).await;
    }

    fn open(&self) {
        self.permits.add_permits(1);
    }

    async fn pass(&self) {
        self.reached.notify_one();
        self.permits.acquire().await.expect("a semaphore that is never closed").forget();
    }

    fn note(&self, what: &'static str) {
        self.log.lock().unwrap().push(what);
    }

    fn log(&self) -> Vec<&'static str> {
        self.log.lock().unwrap().clone()
    }
}

struct SlowAttach(Gate);

impl Handler for SlowAttach {
    type Data = ();

    async fn attach(&self, _: &mut Handshake) -> Result<Accept<()>, Rejection> {
        self.0.pass().await;
        Ok(Accept::new(()))
    }

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        session.send(message);
        Ok(())
    }

    async fn close(&self, _: &mut Session<()>, _: &Close) -> Result {
        self.0.note("close");
        Ok(())
    }
}

#[tokio::test]
async fn what_comes_while_attach_waits_is_not_lost() {
    let gate = Gate::new();
    let server = bind(Server::new().ws("/echo", SlowAttach(gate.clone()))).await;
    let mut client = Client::connect(server.local_addr()).await;
    client.send(handshake("/echo", "")).await;
    gate.reached().await;
    let (small, large) = (vec![1; 10], vec![2; 100 * 1024]);
    let later = async {
        gate.open();
        // On one thread this runs only once the client below has written.
        tokio::task::yield_now().await;
    };
    let bytes = [binary(&small), binary(&large)].concat();
    let ((answer, frames), ()) =
        within(async { tokio::join!(client.exchange(&bytes, 2), later) }).await;
    answer.assert_101();
    assert!(frames.iter().map(|frame| &frame.payload).eq([&small, &large]));
}

// ---- the handshake's deadline and limits

fn impatient() -> Config {
    Config::default().handshake_timeout(Duration::from_millis(500))
}

#[tokio::test]
async fn a_client_that_drips_its_headers_is_cut_off() {
    let server = bind(Server::new().config(impatient()).ws("/echo", Echo)).await;
    let mut client = Client::connect(server.local_addr()).await;
    client.send("GET /echo HTTP/1.1\r\nHost: localhost\r\nX-Drip: ").await;
    // Each byte would put off a deadline that counts from the last read; there is no last byte.
    within(async {
        while client.try_send("a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_off() {
    let server = bind(Server::new().config(impatient()).ws("/echo", Echo)).await;
    for begin in ["", "GET /echo HTTP/1.1\r\n"] {
        let mut client = Client::connect(server.local_addr()).await;
        client.send(begin).await;
        // Reset or orderly, with an answer or without: what matters is that it ends.
        let _ = client.rest().await;
    }
}

#[tokio::test]
async fn an_attach_that_never_returns_is_answered_with_503() {
    let config = impatient();
    let server = bind(Server::new().config(config).ws("/echo", SlowAttach(Gate::new()))).await;
    let mut client = Client::connect(server.local_addr()).await;
    client.send(handshake("/echo", "")).await;
    assert_eq!(client.answer().await.status, 503);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn headers_and_attach_share_one_deadline() {
    let timeout = Duration::from_secs(3);
    let config = Config::default().handshake_timeout(timeout);
    let gate = Gate::new();
    let server = bind(Server::new().config(config).ws("/echo", SlowAttach(gate.clone()))).await;
    let mut client = Client::connect(server.local_addr()).await;
    client.send("GET /echo HTTP/1.1\r\n").await;
    tokio::time::sleep(timeout * 5 / 6).await;
    client.send(handshake("/echo", "").replace("GET /echo HTTP/1.1\r\n", "")).await;
    gate.reached().await;
    let attaching = Instant::now();
    assert_eq!(client.answer().await.status, 503);
    // A sixth of the time was left; with a deadline of its own, attach would have had all of it.
    assert!(attaching.elapsed() < timeout * 4 / 6, "{:?}", attaching.elapsed());
}

#[tokio::test]
async fn a_second_request_on_a_connection_has_its_own_time_for_attach() {
    let config = Config::default().handshake_timeout(Duration::from_secs(2));
    let router = Router::new().route("/", get(|| async { "page" }));
    let server = bind(Server::new().config(config).routes(router).ws("/echo", Echo)).await;
    let mut client = Client::connect(server.local_addr()).await;
    for _ in 0..3 {
        client.send(request("/", "")).await;
        assert_eq!(client.answer().await.body, "page");
        tokio::time::sleep(Duration::from_millis(800)).await;
    }
    client.upgrade("/echo").await;
    echoes(&mut client, "hello").await;
}

#[tokio::test]
async fn more_headers_than_allowed_are_refused_with_431() {
    // The handshake has 5 headers of its own.
    for (limit, extra, expected) in
        [(Some(10), 5, 101), (Some(10), 6, 431), (None, 95, 101), (None, 96, 431)]
    {
        let server = Server::new().ws("/echo", Echo);
        let server = bind(match limit {
            Some(limit) => server.header_limits(limit, 32 * 1024),
            None => server,
        });
        let server = server.await;
        let headers: String = (0..extra).map(|n| format!("X-{n}: a\r\n")).collect();
        let mut client = Client::connect(server.local_addr()).await;
        client.send(handshake("/echo", &headers)).await;
        assert_eq!(client.answer().await.status, expected, "{extra} beside limit {limit:?}");
    }
}

#[tokio::test]
async fn larger_headers_than_allowed_are_refused_with_431() {
    for (limit, size, expected) in [
        (Some(2048), 1500, 101),
        (Some(2048), 2048, 431),
        (None, 31 * 1024, 101),
        (None, 32 * 1024, 431),
    ] {
        let server = Server::new().ws("/echo", Echo);
        let server = bind(match limit {
            Some(limit) => server.header_limits(100, limit),
            None => server,
        });
        let server = server.await;
        let header = format!("X-Large: {}\r\n", "a".repeat(size));
        let mut client = Client::connect(server.local_addr()).await;
        client.send(handshake("/echo", &header)).await;
        assert_eq!(client.answer().await.status, expected, "{size} beside limit {limit:?}");
    }
}

#[tokio::test]
async fn headers_without_end_are_refused_with_431() {
    let server = echo_server().await;
    let mut client = Client::connect(server.local_addr()).await;
    client.send("GET /echo HTTP/1.1\r\nX-Endless: ").await;
    client.send("a".repeat(33 * 1024)).await;
    assert_eq!(client.answer().await.status, 431);
}

// ---- routes

#[tokio::test]
async fn pages_and_websockets_live_side_by_side() {
    let router = Router::new().route("/", get(|| async { "page" }));
    let server = bind(Server::new().ws("/echo", Echo).routes(router)).await;
    let mut socket = Client::open(server.local_addr(), "/echo").await;
    for (path, status, body) in [("/", 200, "page"), ("/missing", 404, "")] {
        let mut client = Client::connect(server.local_addr()).await;
        client.send(request(path, "")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, &*answer.body), (status, body), "{path}");
    }
    echoes(&mut socket, "still here").await;
}

#[tokio::test]
async fn a_connection_may_upgrade_after_requests_of_its_own() {
    let router = Router::new().route("/", get(|| async { "page" }));
    let server = bind(Server::new().ws("/echo", Echo).routes(router)).await;
    let mut client = Client::connect(server.local_addr()).await;
    for _ in 0..3 {
        client.send(request("/", "")).await;
        assert_eq!(client.answer().await.body, "page");
    }
    client.upgrade("/echo").await;
    echoes(&mut client, "hello").await;
    client.close().await;
}

#[tokio::test]
async fn a_request_a_handshake_and_a_frame_may_come_in_one_segment() {
    let router = Router::new().route("/", get(|| async { "page" }));
    let server = bind(Server::new().ws("/echo", Echo).routes(router)).await;
    let mut client = Client::connect(server.local_addr()).await;
    let bytes = [request("/", "").into_bytes(), early([frame(OpCode::Text, true, b"hello")])];
    client.send(bytes.concat()).await;
    assert_eq!(client.answer().await.body, "page");
    client.answer().await.assert_101();
    assert_eq!(client.recv_text().await, "hello");
}

#[tokio::test]
async fn settings_hold_for_the_routes_after_them() {
    let small = Config::default().limits(Limits::default().message_size(10));
    let server = Server::new().ws("/before", Echo).config(small.clone()).ws("/after", Echo);
    let server = bind(server.ws_with("/own", Echo, Config::default())).await;
    for (path, fits) in [("/before", true), ("/after", false), ("/own", true)] {
        let mut client = Client::open(server.local_addr(), path).await;
        client.send_text("eleven long").await;
        match fits {
            true => assert_eq!(client.recv_text().await, "eleven long", "{path}"),
            false => assert_eq!(client.recv_close().await, CloseCode::TOO_BIG, "{path}"),
        }
    }
}

#[tokio::test]
async fn the_peers_address_is_known_to_handler_and_socket() {
    let handler = sockeye::on()
        .attach(|handshake| Ok(Accept::new(handshake.peer_addr())))
        .on_open(|session| session.send(format!("{:?} {:?}", session.data, session.peer_addr())));
    let server = bind(Server::new().ws("/", handler)).await;
    let stream = within(TcpStream::connect(server.local_addr())).await.unwrap();
    let addr = Some(stream.local_addr().unwrap());
    let mut client = Client::over(stream);
    client.upgrade("/").await;
    assert_eq!(client.recv_text().await, format!("{addr:?} {addr:?}"));
}

// ---- counting connections

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_connections_come_and_leave_nothing_behind() {
    let server = echo_server().await;
    let addr = server.local_addr();
    // In waves, as both ends of all at once would be near the usual limit of 1024 open files.
    for _ in 0..5 {
        let mut clients = Vec::new();
        for _ in 0..100 {
            clients.push(Client::open(addr, "/echo").await);
        }
        until(|| server.connections() == 100).await;
        for (number, client) in clients.iter_mut().enumerate() {
            echoes(client, &number.to_string()).await;
        }
        for (number, mut client) in clients.into_iter().enumerate() {
            match number % 4 {
                0 => client.close().await,
                1 => drop(client),
                // Left unread, so that the kernel resets the connection.
                2 => client.send_text("goodbye").await,
                _ => {
                    client.finish().await;
                    client.recv_end().await;
                }
            }
        }
        until(|| server.connections() == 0).await;
    }
    let mut client = Client::open(addr, "/echo").await;
    echoes(&mut client, "and the next is welcome").await;
}

#[tokio::test]
async fn a_peer_that_leaves_without_a_word_is_missed_at_once() {
    // Keep-alive would find it too, half a minute later.
    let (closed, mut closes) = mpsc::unbounded_channel();
    let handler = sockeye::on().on_close(move |_, close| {
        let _ = closed.send(close.clone());
    });
    let config = Config::default().no_keep_alive();
    let server = bind(Server::new().config(config).ws("/", handler)).await;
    drop(Client::open(server.local_addr(), "/").await);
    let close = within(closes.recv()).await.expect("close is called");
    assert_eq!(
        (close.by, close.code, close.clean),
        (ClosedBy::Network, CloseCode::ABNORMAL, false)
    );
    until(|| server.connections() == 0).await;
}

#[tokio::test]
async fn a_connection_that_never_got_its_101_is_not_counted() {
    let replace = from_fn(async |request: Request, next: Next| {
        next.run(request).await;
        StatusCode::IM_A_TEAPOT
    });
    let router = Router::new().route("/", sockeye::ws(Echo)).layer(replace);
    let server = bind(Server::new().routes(router)).await;
    for _ in 0..10 {
        let mut client = Client::connect(server.local_addr()).await;
        client.send(handshake("/", "")).await;
        assert_eq!(client.answer().await.status, 418);
    }
    until(|| server.connections() == 0).await;
    shut_down(&server).await;
}

// ---- the end

#[tokio::test]
async fn shutdown_sends_everybody_away_with_1001() {
    let (closed, mut closes) = mpsc::unbounded_channel();
    let handler = sockeye::on().on_close(move |_, close| {
        let _ = closed.send(close.clone());
    });
    let server = Arc::new(bind(Server::new().ws("/echo", Echo).ws("/other", handler)).await);
    let addr = server.local_addr();
    let mut clients = Vec::new();
    for path in ["/echo", "/other", "/echo", "/other"] {
        clients.push(Client::open(addr, path).await);
    }
    until(|| server.connections() == 4).await;
    let shutdown = tokio::spawn({
        let server = server.clone();
        async move { shut_down(&server).await }
    });
    for client in clients {
        client.sees_1001().await;
    }
    within(shutdown).await.unwrap();
    for _ in 0..2 {
        let close = within(closes.recv()).await.unwrap();
        assert_eq!((close.by, close.code, close.clean), (ClosedBy::Local, CloseCode::AWAY, true));
        assert_eq!(close.reason, "the server is shutting down");
    }
    refuses(addr).await;
}

async fn refuses(addr: SocketAddr) {
    let error = within(TcpStream::connect(addr)).await.expect_err("nobody listens");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn shutdown_of_a_server_without_connections_is_immediate() {
    let server = echo_server().await;
    within(server.shutdown(Duration::from_secs(3600))).await.unwrap();
    refuses(server.local_addr()).await;
}

#[tokio::test]
async fn what_was_sent_before_the_shutdown_arrives_before_the_1001() {
    let handler = sockeye::on().on_text(|session, _| {
        for _ in 0..100 {
            session.send(vec![7; 10_000]);
        }
    });
    let config = Config::default().outbox_limit(usize::MAX);
    let server = Arc::new(bind(Server::new().config(config).ws("/", handler)).await);
    let mut client = Client::open(server.local_addr(), "/").await;
    client.send_text("all of it").await;
    // The first byte is proof that the handler has run.
    let first = client.recv().await.unwrap();
    assert_eq!(first.payload.len(), 10_000);
    let shutdown = tokio::spawn({
        let server = server.clone();
        async move { shut_down(&server).await }
    });
    for _ in 1..100 {
        assert_eq!(client.recv().await, Some(first.clone()));
    }
    client.sees_1001().await;
    within(shutdown).await.unwrap();
}

/// A handler whose `message` waits until it is let go on.
struct SlowMessage(Gate);

impl Handler for SlowMessage {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, _: Message<'_>) -> Result {
        self.0.pass().await;
        self.0.note("message");
        session.send("too late to be sent");
        Ok(())
    }

    async fn close(&self, _: &mut Session<()>, _: &Close) -> Result {
        self.0.note("close");
        Ok(())
    }
}

/// Shuts down in the background, notes when that is over, and waits until it has begun.
async fn shutting_down(
    server: &Arc<Running>,
    gate: &Gate,
) -> tokio::task::JoinHandle<Result<(), sockeye::ShutdownError>> {
    let (task_server, task_gate) = (server.clone(), gate.clone());
    let shutdown = tokio::spawn(async move {
        let outcome = task_server.shutdown(ENOUGH).await;
        task_gate.note("shutdown");
        outcome
    });
    // A port that refuses is the first thing that shutdown brings about.
    let addr = server.local_addr();
    within(async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    shutdown
}

#[tokio::test]
async fn shutdown_waits_for_handlers_that_run() {
    let gate = Gate::new();
    let server = Arc::new(bind(Server::new().ws("/", SlowMessage(gate.clone()))).await);
    let mut client = Client::open(server.local_addr(), "/").await;
    client.send_text("hello").await;
    gate.reached().await;
    let shutdown = shutting_down(&server, &gate).await;
    // The peer has its close frame, although the handler is still busy.
    assert_eq!(client.recv_close().await, CloseCode::AWAY);
    client.send_close(CloseCode::AWAY).await;
    gate.open();
    client.recv_end().await;
    drop(client);
    within(shutdown).await.unwrap().unwrap();
    assert_eq!(gate.log(), ["message", "close", "shutdown"]);
}

#[tokio::test]
async fn a_peer_that_was_sent_away_sees_the_end_although_the_handler_is_busy() {
    let gate = Gate::new();
    let server = Arc::new(bind(Server::new().ws("/", SlowMessage(gate.clone()))).await);
    let mut client = Client::open(server.local_addr(), "/").await;
    client.send_text("hello").await;
    gate.reached().await;
    let shutdown = shutting_down(&server, &gate).await;
    client.sees_1001().await;
    assert_eq!(gate.log(), [""; 0], "the handler still runs, and the server with it");
    gate.open();
    within(shutdown).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_waits_for_plain_requests_that_were_begun() {
    let gate = Gate::new();
    let page = {
        let gate = gate.clone();
        get(move || async move {
            gate.pass().await;
            gate.note("page");
            "page"
        })
    };
    let server = Arc::new(bind(Server::new().routes(Router::new().route("/", page))).await);
    let mut client = Client::connect(server.local_addr()).await;
    client.send(request("/", "")).await;
    gate.reached().await;
    let shutdown = shutting_down(&server, &gate).await;
    gate.open();
    let answer = client.answer().await;
    assert_eq!((answer.status, &*answer.body), (200, "page"));
    within(shutdown).await.unwrap().unwrap();
    assert_eq!(gate.log(), ["page", "shutdown"]);
}

#[tokio::test]
async fn a_handshake_that_shutdown_overtakes_is_closed_with_1001_and_waited_for() {
    let gate = Gate::new();
    let server = Arc::new(bind(Server::new().ws("/", SlowAttach(gate.clone()))).await);
    let mut client = Client::connect(server.local_addr()).await;
    client.send(handshake("/", "")).await;
    gate.reached().await;
    let shutdown = shutting_down(&server, &gate).await;
    gate.open();
    client.answer().await.assert_101();
    assert_eq!(client.recv_close().await, CloseCode::AWAY);
    // Until the client has answered, the connection is there and so is the server. This cannot
    // fail for a server that waits, however long it takes.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!shutdown.is_finished());
    client.send_close(CloseCode::AWAY).await;
    client.recv_end().await;
    drop(client);
    within(shutdown).await.unwrap().unwrap();
    assert_eq!(gate.log(), ["close", "shutdown"]);
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn idle_http_connections_do_not_hold_up_shutdown() {
    let router = Router::new().route("/", get(|| async { "page" }));
    let config = Config::default().handshake_timeout(Duration::from_secs(3600));
    let server = bind(Server::new().config(config).routes(router)).await;
    let mut kept = Client::connect(server.local_addr()).await;
    kept.send(request("/", "")).await;
    assert_eq!(kept.answer().await.body, "page");
    let mut silent = Client::connect(server.local_addr()).await;
    // Accepted in order, so that its answer shows the silent one to be accepted too.
    let mut third = Client::connect(server.local_addr()).await;
    third.send(request("/", "")).await;
    assert_eq!(third.answer().await.status, 200);
    shut_down(&server).await;
    for mut client in [kept, third] {
        client.recv_end().await;
    }
    assert_eq!(silent.rest().await.unwrap_or_default(), b"");
}

/// A handler that never comes to an end, and data that says when it is dropped.
struct Stuck(Arc<AtomicUsize>);

struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Handler for Stuck {
    type Data = OnDrop;

    async fn attach(&self, _: &mut Handshake) -> Result<Accept<OnDrop>, Rejection> {
        Ok(Accept::new(OnDrop(self.0.clone())))
    }

    async fn message(&self, session: &mut Session<OnDrop>, _: Message<'_>) -> Result {
        session.send("stuck");
        pending().await
    }

    async fn close(&self, _: &mut Session<OnDrop>, _: &Close) -> Result {
        pending().await
    }
}

#[tokio::test]
async fn what_has_not_ended_by_the_deadline_is_cut_and_counted() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let server = bind(Server::new().ws("/", Stuck(dropped.clone())).ws("/echo", Echo)).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::open(server.local_addr(), "/").await;
        client.send_text("hello").await;
        assert_eq!(client.recv_text().await, "stuck");
        clients.push(client);
    }
    let deadline = Duration::from_millis(200);
    let error = within(server.shutdown(deadline)).await.expect_err("the handlers are stuck");
    assert_eq!((error.cut, error.deadline), (3, deadline));
    assert_eq!(error.to_string(), "3 connections had not closed within 200ms and were cut");
    for mut client in clients {
        assert_eq!(client.recv_close().await, CloseCode::AWAY);
        let _ = client.rest().await; // cut, so perhaps with a reset
    }
    until(|| dropped.load(Ordering::SeqCst) == 3).await;
    until(|| server.connections() == 0).await;
    within(server.stopped()).await;
    refuses(server.local_addr()).await;
}

#[tokio::test]
async fn peers_that_do_not_answer_the_1001_are_cut_at_the_deadline() {
    let server = echo_server().await;
    let _client = Client::open(server.local_addr(), "/echo").await;
    until(|| server.connections() == 1).await;
    let error =
        within(server.shutdown(Duration::from_millis(200))).await.expect_err("it is silent");
    assert_eq!(error.cut, 1);
    until(|| server.connections() == 0).await;
}

#[tokio::test]
async fn a_plain_request_that_is_cut_is_counted_too() {
    let gate = Gate::new();
    let page = {
        let gate = gate.clone();
        get(move || async move { gate.pass().await })
    };
    let server = bind(Server::new().routes(Router::new().route("/", page))).await;
    let mut client = Client::connect(server.local_addr()).await;
    client.send(request("/", "")).await;
    gate.reached().await;
    let error = within(server.shutdown(Duration::from_millis(100))).await.expect_err("it waits");
    let _ = client.rest().await;
    assert_eq!(error.cut, 1, "{error}");
}

#[tokio::test]
async fn who_waits_for_the_end_does_not_put_it_off() {
    let server = Arc::new(echo_server().await);
    let client = Client::open(server.local_addr(), "/echo").await;
    let waiting = tokio::spawn({
        let server = server.clone();
        async move { server.stopped().await }
    });
    tokio::task::yield_now().await; // so that it waits already
    assert!(!waiting.is_finished());
    let shutdown = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown(Duration::from_secs(5)).await }
    });
    client.sees_1001().await;
    within(shutdown).await.unwrap().expect("there is nothing left to wait for");
    within(waiting).await.unwrap();
    within(server.stopped()).await; // and who asks later is told at once
}

#[tokio::test]
async fn a_second_shutdown_has_nothing_left_to_do() {
    let server = echo_server().await;
    shut_down(&server).await;
    within(server.shutdown(Duration::ZERO)).await.unwrap();
    within(server.shutdown(ENOUGH)).await.unwrap();
}

#[tokio::test]
async fn a_second_shutdown_may_be_less_patient_than_the_first() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let server = Arc::new(bind(Server::new().ws("/", Stuck(dropped.clone()))).await);
    let mut client = Client::open(server.local_addr(), "/").await;
    client.send_text("hello").await;
    assert_eq!(client.recv_text().await, "stuck");
    let patient = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown(Duration::from_secs(3600)).await }
    });
    assert_eq!(client.recv_close().await, CloseCode::AWAY);
    let error = within(server.shutdown(Duration::from_millis(50))).await.expect_err("it is stuck");
    assert_eq!(error.cut, 1);
    // The other finds that all are gone.
    within(patient).await.unwrap().unwrap();
    until(|| dropped.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_shutdown_that_is_given_up_goes_on_and_may_be_awaited_again() {
    let server = echo_server().await;
    let client = Client::open(server.local_addr(), "/echo").await;
    until(|| server.connections() == 1).await;
    let given_up = tokio::time::timeout(Duration::ZERO, server.shutdown(ENOUGH)).await;
    assert!(given_up.is_err());
    client.sees_1001().await;
    shut_down(&server).await;
    within(server.stopped()).await;
}

#[tokio::test]
async fn a_server_whose_handle_is_dropped_goes_on() {
    let server = echo_server().await;
    let addr = server.local_addr();
    let mut old = Client::open(addr, "/echo").await;
    drop(server);
    echoes(&mut old, "old").await;
    let mut new = Client::open(addr, "/echo").await;
    echoes(&mut new, "new").await;
}

// ---- addresses

async fn listen_error(addr: &str) -> (String, io::ErrorKind) {
    let error = within(Server::new().bind(addr)).await.expect_err("nobody can listen there");
    assert_eq!(error.address, addr);
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    (error.to_string(), source.expect("what the system said").kind())
}

#[tokio::test]
async fn a_port_in_use_is_said_in_one_sentence() {
    let server = echo_server().await;
    let addr = server.local_addr().to_string();
    let (text, kind) = listen_error(&addr).await;
    assert_eq!(
        text,
        format!("cannot listen on {addr}: the port is in use; choose another, or 0 for a free one")
    );
    assert_eq!(kind, io::ErrorKind::AddrInUse);
    let error = within(Server::new().listen(&addr)).await.expect_err("listen says the same");
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn what_is_no_address_is_said_in_one_sentence() {
    for addr in ["nonsense", "", "127.0.0.1", "localhost:99999", "localhost:http", "127.0.0.1:"] {
        let (text, kind) = listen_error(addr).await;
        let expected = "not an address; write it like 127.0.0.1:8080";
        assert_eq!(text, format!("cannot listen on {addr}: {expected}"));
        assert_eq!(kind, io::ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn a_name_that_means_nothing_is_said_in_one_sentence() {
    // Too long for a label of DNS, so that nobody has to be asked.
    let addr = format!("{}:80", "a".repeat(64));
    let (text, _) = listen_error(&addr).await;
    let expected = "the system refused, or the name does not resolve";
    assert_eq!(text, format!("cannot listen on {addr}: {expected}"));
}

#[tokio::test]
async fn an_address_of_another_machine_is_said_in_one_sentence() {
    // Reserved for documentation by RFC 5737, so nobody has it.
    let (text, kind) = listen_error("192.0.2.1:8080").await;
    assert_eq!(text, "cannot listen on 192.0.2.1:8080: this machine has no such address");
    assert_eq!(kind, io::ErrorKind::AddrNotAvailable);
}

#[tokio::test]
async fn a_port_for_the_privileged_is_said_in_one_sentence() {
    // Whoever is root, or on a system without such ports, may listen and has nothing to be told.
    if std::net::TcpListener::bind("127.0.0.1:1").is_ok() {
        return;
    }
    let (text, kind) = listen_error("127.0.0.1:1").await;
    assert_eq!(text, "cannot listen on 127.0.0.1:1: not permitted; choose a port from 1024 on");
    assert_eq!(kind, io::ErrorKind::PermissionDenied);
}
