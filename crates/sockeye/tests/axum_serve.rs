//! A route of this crate under plain `axum::serve`, over TCP and over other streams.

#[allow(dead_code, reason = "each test file uses its own part")]
#[path = "util/tcp.rs"]
mod tcp;

use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, routing::get, serve::ListenerExt};
use sockeye::{
    Accept, CloseCode, ClosedBy, Config, Handler, Limits, Message, OpCode, Result, Session, Socket,
    testing::frame, ws, ws_with,
};
use tcp::{Client, handshake, request, until, within};
use tokio::net::{TcpListener, TcpStream};

/// Sends every message back as it came.
struct Echo;

impl Handler for Echo {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        session.send(message);
        Ok(())
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn serve(router: Router) -> SocketAddr {
    let (listener, addr) = listener().await;
    tokio::spawn(axum::serve(listener, router).into_future());
    addr
}

fn echo() -> Router {
    Router::new().route("/echo", ws(Echo))
}

async fn echoes<S>(client: &mut Client<S>, text: &str)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    client.send_text(text).await;
    assert_eq!(client.recv_text().await, text);
}

#[tokio::test]
async fn messages_are_echoed_and_the_close_is_answered() {
    let addr = serve(echo()).await;
    let mut client = Client::open(addr, "/echo").await;
    for text in ["hello", "", "ünïcödé"] {
        echoes(&mut client, text).await;
    }
    client.send(frame(OpCode::Binary, true, &[0, 255])).await;
    assert_eq!(
        client.recv().await.map(|frame| (frame.opcode, frame.payload)),
        Some((2, vec![0, 255]))
    );
    client.close().await;
}

#[tokio::test]
async fn early_bytes_are_not_lost() {
    let addr = serve(echo()).await;
    for (count, size) in [(1, 5), (100, 3), (1, 9000), (20, 1000), (1, 100_000), (300, 1000)] {
        let payloads: Vec<_> = (0..count).map(|n| vec![n as u8; size]).collect();
        let mut bytes = handshake("/echo", "").into_bytes();
        payloads.iter().for_each(|payload| bytes.extend(frame(OpCode::Binary, true, payload)));
        let mut client = Client::connect(addr).await;
        let (answer, frames) = client.exchange(&bytes, count).await;
        answer.assert_101();
        assert!(frames.iter().map(|frame| &frame.payload).eq(&payloads), "{count} of {size} bytes");
        echoes(&mut client, "later").await;
    }
}

#[tokio::test]
async fn a_connection_may_upgrade_after_a_request_of_its_own() {
    let addr = serve(echo().route("/", get(|| async { "page" }))).await;
    let mut client = Client::connect(addr).await;
    client.send(request("/", "")).await;
    assert_eq!(client.answer().await.body, "page");
    client.upgrade("/echo").await;
    echoes(&mut client, "hello").await;
}

fn tells_the_address() -> Router {
    let handler = sockeye::on()
        .attach(|handshake| Ok(Accept::new(handshake.peer_addr())))
        .on_open(|session| session.send(format!("{:?} {:?}", session.data, session.peer_addr())));
    Router::new().route("/", ws(handler))
}

#[tokio::test]
async fn connect_info_gives_the_peers_address() {
    let (listener, addr) = listener().await;
    let service = tells_the_address().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, service).into_future());
    let stream = within(TcpStream::connect(addr)).await.unwrap();
    let own = Some(stream.local_addr().unwrap());
    let mut client = Client::over(stream);
    client.upgrade("/").await;
    assert_eq!(client.recv_text().await, format!("{own:?} {own:?}"));
}

#[tokio::test]
async fn without_connect_info_there_is_no_address() {
    let addr = serve(tells_the_address()).await;
    let mut client = Client::open(addr, "/").await;
    assert_eq!(client.recv_text().await, "None None");
}

#[tokio::test]
async fn a_router_with_state_takes_the_route() {
    #[derive(Clone)]
    struct Name(&'static str);
    let router = Router::<Name>::new()
        .route("/echo", ws(Echo))
        .route("/name", get(async |State(Name(name)): State<Name>| name))
        .with_state(Name("ana"));
    let addr = serve(router).await;
    let mut client = Client::connect(addr).await;
    client.send(request("/name", "")).await;
    assert_eq!(client.answer().await.body, "ana");
    client.upgrade("/echo").await;
    echoes(&mut client, "hello").await;
}

#[tokio::test]
async fn a_listener_that_sets_nodelay_itself_works() {
    let (listener, addr) = listener().await;
    let listener = listener.tap_io(|tcp| tcp.set_nodelay(true).expect("a fresh connection"));
    tokio::spawn(axum::serve(listener, echo()).into_future());
    let mut client = Client::open(addr, "/echo").await;
    echoes(&mut client, "hello").await;
    client.close().await;
}

/// With Nagle's algorithm, the second of two small writes waits for the acknowledgement of the
/// first, which a peer that has nothing to send delays by 40 ms.
#[tokio::test]
async fn small_messages_one_after_the_other_are_not_held_back() {
    let handler =
        sockeye::on().on_text_async(async |session: &mut Session<()>, _: &str| -> Result {
            for _ in 0..50 {
                session.send("tick");
                session.flushed().await?;
            }
            Ok(())
        });
    let addr = serve(Router::new().route("/", ws(handler))).await;
    let mut client = Client::open(addr, "/").await;
    let mut best = Duration::MAX;
    // The best of several, as a busy machine is slow at times but Nagle is slow each time.
    for _ in 0..5 {
        let begin = std::time::Instant::now();
        client.send_text("go").await;
        for _ in 0..50 {
            assert_eq!(client.recv_text().await, "tick");
        }
        best = best.min(begin.elapsed());
    }
    assert!(best < Duration::from_millis(20), "{best:?}");
}

#[tokio::test]
async fn large_messages_pass_both_ways() {
    let size = 16 * 1024 * 1024;
    let config = Config::default().limits(Limits::default().message_size(size));
    let addr = serve(Router::new().route("/echo", ws_with(Echo, config))).await;
    let payload: Vec<u8> = (0..size).map(|n| (n.wrapping_mul(31) >> 3) as u8).collect();
    let mut client = Client::open(addr, "/echo").await;
    for _ in 0..2 {
        client.send(frame(OpCode::Binary, true, &payload)).await;
        assert!(client.recv().await.is_some_and(|frame| frame.payload == payload));
    }
    client.send(frame(OpCode::Binary, true, &[&payload[..], &[0]].concat()[..1 + size])).await;
    assert_eq!(client.recv_close().await, CloseCode::TOO_BIG);
}

#[cfg(unix)]
#[tokio::test]
async fn over_another_stream_than_tcp_it_is_the_same() {
    let path = std::env::temp_dir().join(format!("sockeye-axum-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).expect("a path that is free");
    tokio::spawn(axum::serve(listener, echo()).into_future());
    let stream = within(tokio::net::UnixStream::connect(&path)).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut client = Client::over(stream);
    let payload = vec![7; 100_000];
    let early = [frame(OpCode::Text, true, b"early"), frame(OpCode::Binary, true, &payload)];
    let bytes = [handshake("/echo", "").into_bytes(), early.concat()].concat();
    let (answer, frames) = client.exchange(&bytes, 2).await;
    answer.assert_101();
    assert_eq!((&frames[0].payload[..], &frames[1].payload), (&b"early"[..], &payload));
    echoes(&mut client, "later").await;
    client.close().await;
}

/// Counts what was dropped.
struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_runtime_that_is_dropped_leaves_nothing_behind() {
    for busy in [false, true] {
        let dropped = Arc::new(AtomicUsize::new(0));
        let socket = Arc::new(Mutex::new(None::<Socket>));
        let handler = {
            let (dropped, socket) = (dropped.clone(), socket.clone());
            sockeye::on()
                .attach(move |_| Ok(Accept::new(OnDrop(dropped.clone()))))
                .on_open(move |session| *socket.lock().unwrap() = Some(session.socket.clone()))
                .on_text_async(async move |_: &mut Session<OnDrop>, _: &str| {
                    if busy {
                        std::future::pending::<()>().await;
                    }
                })
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let addr = runtime.block_on(serve(Router::new().route("/", ws(handler))));
        let mut client = std::net::TcpStream::connect(addr).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.write_all(handshake("/", "").as_bytes()).unwrap();
        client.write_all(&frame(OpCode::Text, true, b"hello")).unwrap();
        client.write_all(&frame(OpCode::Ping, true, b"")).unwrap();
        let mut received = Vec::new();
        // The pong shows that the message before it has reached the handler.
        while !received.ends_with(&[0x8a, 0]) {
            let mut byte = [0];
            client.read_exact(&mut byte).expect("a 101 and a pong");
            received.push(byte[0]);
        }
        drop(runtime);

        assert_eq!(dropped.load(Ordering::SeqCst), 1, "the data is given up");
        let rest = client.read_to_end(&mut Vec::new());
        let hung = rest.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!hung, "the connection has ended for the peer");
        let socket = socket.lock().unwrap().take().expect("open was called");
        assert_eq!(socket.state(), sockeye::State::Closed);
        // Whoever waits elsewhere is told.
        let elsewhere = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let close = elsewhere.block_on(within(socket.closed()));
        assert_eq!((close.by, close.code), (ClosedBy::Network, CloseCode::ABNORMAL));
    }
}

/// As the docs of `ws` say, axum's own shutdown does not know of upgraded connections: they live on
/// and are neither cut nor waited for.
#[tokio::test]
async fn graceful_shutdown_of_axum_leaves_open_connections_alone() {
    let (listener, addr) = listener().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, echo()).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let server = tokio::spawn(server.into_future());
    let mut client = Client::open(addr, "/echo").await;
    echoes(&mut client, "before").await;
    stop.send(()).unwrap();
    within(server).await.unwrap().unwrap();
    echoes(&mut client, "after").await;
    until(|| std::net::TcpStream::connect(addr).is_err()).await;
}
