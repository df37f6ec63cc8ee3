//! What becomes of a connection, and of all others, when a handler fails or panics?

use std::{future::Future, time::Duration};

use axum::{Router, http::StatusCode};
use sockeye::{
    Accept, Close, CloseCode, ClosedBy, Config, Error, Handler, Handshake, Message, OpCode,
    Panicked, Rejection, Result, Session, testing, testing::Peer,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::yield_now,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Method {
    Attach,
    Open,
    Message,
    Ping,
    Pong,
    Drain,
    Error,
    Close,
}

/// The way in which a method fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Error,
    /// An error, after the method has waited.
    LateError,
    Panic,
    LatePanic,
    /// The method panics before there is a future to await.
    PanicInCall,
    /// A panic whose payload is not a text.
    OddPanic,
}

const WAYS: [Way; 6] =
    [Way::Error, Way::LateError, Way::Panic, Way::LatePanic, Way::PanicInCall, Way::OddPanic];

impl Way {
    fn message(self) -> &'static str {
        match self {
            Self::Error | Self::LateError => "invalid digit found in string",
            Self::OddPanic => "the handler panicked: no message",
            Self::Panic | Self::LatePanic => "the handler panicked: it broke at 7",
            Self::PanicInCall => "the handler panicked: it broke at once",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Call {
    Error { text: String, panicked: bool },
    Close(Close),
    DataDropped,
}

/// Fails in one method, on connections that ask for it; echoes texts.
struct Faulty {
    method: Method,
    way: Way,
    calls: UnboundedSender<Call>,
}

/// Whether this connection is to fail.
struct Data {
    fails: bool,
    calls: UnboundedSender<Call>,
}

impl Drop for Data {
    fn drop(&mut self) {
        if self.fails {
            let _ = self.calls.send(Call::DataDropped);
        }
    }
}

impl Faulty {
    fn fail(&self, method: Method, fails: bool) -> impl Future<Output = Result> + Send + use<> {
        let way = if fails && method == self.method { Some(self.way) } else { None };
        if way == Some(Way::PanicInCall) {
            panic!("it broke at once");
        }
        async move {
            if matches!(way, Some(Way::LateError | Way::LatePanic)) {
                yield_now().await;
            }
            match way {
                None | Some(Way::PanicInCall) => {}
                Some(Way::Error | Way::LateError) => drop("x".parse::<u8>()?),
                Some(Way::Panic | Way::LatePanic) => panic!("it broke at {}", 7),
                Some(Way::OddPanic) => std::panic::panic_any(7),
            }
            Ok(())
        }
    }
}

impl Handler for Faulty {
    type Data = Data;

    fn attach(
        &self,
        handshake: &mut Handshake,
    ) -> impl Future<Output = Result<Accept<Data>, Rejection>> + Send {
        let fails = handshake.query("fails").is_some();
        let outcome = self.fail(Method::Attach, fails);
        let data = Data { fails, calls: self.calls.clone() };
        async move {
            outcome.await.map_err(|_| StatusCode::IM_A_TEAPOT)?;
            Ok(Accept::new(data))
        }
    }

    fn open(&self, session: &mut Session<Data>) -> impl Future<Output = Result> + Send {
        self.fail(Method::Open, session.data.fails)
    }

    fn message(
        &self,
        session: &mut Session<Data>,
        message: Message<'_>,
    ) -> impl Future<Output = Result> + Send {
        session.send(message);
        let fails = session.data.fails;
        // `error` has nothing to do unless something else has failed before.
        let before = fails && self.method == Method::Error;
        let outcome = self.fail(Method::Message, fails);
        async move { if before { Err("the first".into()) } else { outcome.await } }
    }

    fn ping(&self, session: &mut Session<Data>, _: &[u8]) -> impl Future<Output = Result> + Send {
        self.fail(Method::Ping, session.data.fails)
    }

    fn pong(&self, session: &mut Session<Data>, _: &[u8]) -> impl Future<Output = Result> + Send {
        self.fail(Method::Pong, session.data.fails)
    }

    fn drain(&self, session: &mut Session<Data>) -> impl Future<Output = Result> + Send {
        self.fail(Method::Drain, session.data.fails)
    }

    fn error(
        &self,
        session: &mut Session<Data>,
        error: &Error,
    ) -> impl Future<Output = Result> + Send {
        let panicked = error.downcast_ref::<Panicked>().is_some();
        let _ = self.calls.send(Call::Error { text: error.to_string(), panicked });
        self.fail(Method::Error, session.data.fails)
    }

    fn close(
        &self,
        session: &mut Session<Data>,
        close: &Close,
    ) -> impl Future<Output = Result> + Send {
        let _ = session.data.fails.then(|| self.calls.send(Call::Close(close.clone())));
        self.fail(Method::Close, session.data.fails)
    }
}

struct Scene {
    /// The connection that fails.
    faulty: Peer,
    /// Another one of the same route, opened before.
    other: Peer,
    router: Router,
    calls: UnboundedReceiver<Call>,
}

/// Two connections to one handler, of which one has come to the point where `method` is called.
async fn scene(method: Method, way: Way) -> Scene {
    let (sender, calls) = unbounded_channel();
    let config = Config::default().water_marks(1000, 2000);
    let handler = Faulty { method, way, calls: sender };
    let router = Router::new().route("/", sockeye::ws_with(handler, config));
    let mut other = testing::connect_to(router.clone(), "/").await;
    assert_echo(&mut other).await;
    let mut faulty = testing::connect_to(router.clone(), "/?fails=1").pipe(1024).await;
    match method {
        Method::Attach | Method::Open => {}
        Method::Message | Method::Error => {
            faulty.send("a").await;
            assert_eq!(faulty.recv_text().await, "a", "what was sent before it failed arrives");
        }
        Method::Ping => {
            faulty.send_frame(OpCode::Ping, true, b"p").await;
            assert_eq!(faulty.recv().await.unwrap().opcode, OpCode::Pong);
        }
        Method::Pong => faulty.send_frame(OpCode::Pong, true, b"").await,
        Method::Drain => {
            let long = "x".repeat(5000);
            faulty.send(&long).await;
            assert_eq!(faulty.recv_text().await, long);
        }
        Method::Close => faulty.send_close(CloseCode::NORMAL, "bye").await,
    }
    Scene { faulty, other, router, calls }
}

async fn assert_echo(peer: &mut Peer) {
    peer.send("alive?").await;
    assert_eq!(peer.recv_text().await, "alive?");
}

/// The others, old and new, notice nothing.
async fn assert_others_live(scene: &mut Scene) {
    assert_echo(&mut scene.other).await;
    assert_echo(&mut testing::connect_to(scene.router.clone(), "/").await).await;
}

fn error(text: &str, panicked: bool) -> Call {
    Call::Error { text: text.to_owned(), panicked }
}

async fn next(calls: &mut UnboundedReceiver<Call>) -> Call {
    let next = tokio::time::timeout(Duration::from_secs(60), calls.recv()).await;
    next.expect("a further call").expect("the handler lives")
}

/// After the calls that were expected: the end, once, and nothing more.
async fn assert_end(scene: &mut Scene, by: ClosedBy, code: CloseCode) {
    let Call::Close(close) = next(&mut scene.calls).await else { panic!("`close` was expected") };
    assert_eq!((close.by, close.code, close.clean), (by, code, true));
    assert_eq!(next(&mut scene.calls).await, Call::DataDropped);
    assert_others_live(scene).await;
    assert!(scene.calls.is_empty());
}

async fn assert_failure_of(method: Method) {
    for way in WAYS {
        println!("{method:?}, {way:?}");
        let mut scene = scene(method, way).await;
        assert_eq!(scene.faulty.recv_close().await, (CloseCode::INTERNAL_ERROR, String::new()));
        scene.faulty.send("not delivered").await;
        scene.faulty.send_close(CloseCode::INTERNAL_ERROR, "").await;
        scene.faulty.recv_end().await;
        let panicked = !matches!(way, Way::Error | Way::LateError);
        assert_eq!(next(&mut scene.calls).await, error(way.message(), panicked));
        assert_end(&mut scene, ClosedBy::Local, CloseCode::INTERNAL_ERROR).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_open_closes_this_connection_alone_with_1011() {
    assert_failure_of(Method::Open).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_message_closes_this_connection_alone_with_1011() {
    assert_failure_of(Method::Message).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_ping_closes_this_connection_alone_with_1011() {
    assert_failure_of(Method::Ping).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_pong_closes_this_connection_alone_with_1011() {
    assert_failure_of(Method::Pong).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_drain_closes_this_connection_alone_with_1011() {
    assert_failure_of(Method::Drain).await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_error_itself_changes_nothing_about_the_1011() {
    for way in WAYS {
        println!("{way:?}");
        let mut scene = scene(Method::Error, way).await;
        assert_eq!(scene.faulty.recv_close().await.0, CloseCode::INTERNAL_ERROR);
        scene.faulty.send_close(CloseCode::INTERNAL_ERROR, "").await;
        scene.faulty.recv_end().await;
        assert_eq!(next(&mut scene.calls).await, error("the first", false));
        assert_end(&mut scene, ClosedBy::Local, CloseCode::INTERNAL_ERROR).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_close_comes_too_late_to_matter() {
    for way in WAYS {
        println!("{way:?}");
        let mut scene = scene(Method::Close, way).await;
        assert_eq!(scene.faulty.recv_close().await, (CloseCode::NORMAL, "bye".into()));
        scene.faulty.recv_end().await;
        assert_end(&mut scene, ClosedBy::Peer, CloseCode::NORMAL).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_attach_is_answered_with_500() {
    for way in WAYS {
        let (sender, _calls) = unbounded_channel();
        let handler = Faulty { method: Method::Attach, way, calls: sender };
        let router = Router::new().route("/", sockeye::ws(handler));
        let mut other = testing::connect_to(router.clone(), "/").await;
        let refused = testing::connect_to(router.clone(), "/?fails=1").try_connect().await;
        let status = refused.expect_err("attach has failed").status();
        let is_error = matches!(way, Way::Error | Way::LateError);
        let expected =
            if is_error { StatusCode::IM_A_TEAPOT } else { StatusCode::INTERNAL_SERVER_ERROR };
        assert_eq!(status, expected, "{way:?}");
        assert_echo(&mut other).await;
        assert_echo(&mut testing::connect_to(router, "/").await).await;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_behind_the_one_that_failed_are_not_delivered() {
    let (sender, mut seen) = unbounded_channel();
    let handler = sockeye::on().on_text(move |_, text| {
        sender.send(text.to_owned()).unwrap();
        if text == "2" { Err("no") } else { Ok(()) }
    });
    let mut peer = testing::connect(handler).await;
    let wire: Vec<_> = [b"1", b"2", b"3"]
        .into_iter()
        .flat_map(|text| testing::frame(OpCode::Text, true, text))
        .collect();
    peer.send_raw(&wire).await;
    assert_eq!(peer.recv_close().await.0, CloseCode::INTERNAL_ERROR);
    peer.send_close(CloseCode::INTERNAL_ERROR, "").await;
    peer.recv_end().await;
    drop(peer);
    assert_eq!(seen.recv().await.unwrap(), "1");
    assert_eq!(seen.recv().await.unwrap(), "2");
    assert_eq!(seen.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn error_may_send_a_last_message_and_choose_the_code() {
    let handler =
        sockeye::on().on_text(|_, _| Err::<(), _>("a reason")).on_error(|session, error| {
            session.send(error.to_string());
            session.close(CloseCode(4011), "sorry");
        });
    let mut peer = testing::connect(handler).await;
    peer.send("a").await;
    assert_eq!(peer.recv_text().await, "a reason");
    assert_eq!(peer.recv_close().await, (CloseCode(4011), "sorry".into()));
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_a_long_wait_is_one_all_the_same() {
    let handler = sockeye::on().on_text_async(async |_, text| {
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(text != "panic", "it broke late");
        Err::<(), _>("late")
    });
    let router = Router::new().route("/", sockeye::ws(handler));
    for text in ["panic", "error"] {
        let mut peer = testing::connect_to(router.clone(), "/").await;
        peer.send(text).await;
        peer.send_frame(OpCode::Ping, true, b"p").await;
        assert_eq!(peer.recv().await.unwrap().opcode, OpCode::Pong);
        assert_eq!(peer.recv_close().await.0, CloseCode::INTERNAL_ERROR, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_while_much_waits_for_the_peer_still_ends_in_1011() {
    let handler = sockeye::on().on_text(|session, _| {
        session.send(vec![0; 500_000]);
        Err::<(), _>("no")
    });
    let mut peer = testing::connect(handler).pipe(1000).await;
    peer.send("a").await;
    assert_eq!(peer.recv_binary().await.len(), 500_000);
    assert_eq!(peer.recv_close().await.0, CloseCode::INTERNAL_ERROR);
}
