//! Which requests become connections, what a handler learns of them, and what the others are told.

#[allow(dead_code, reason = "each test file uses its own part")]
#[path = "util/tcp.rs"]
mod tcp;

use std::{
    collections::HashMap,
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{ConnectInfo, FromRequestParts, MatchedPath, Path, Query, Request, State},
    middleware::{Next, from_fn},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, request::Parts};
use sockeye::{
    Accept, Config, Handler, Handshake, Message, On, Origins, Rejection, Result, Running, Server,
    Session,
    testing::{self, connect, connect_to, connect_with},
};
use tcp::{Client, handshake, request, within};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};
use tower::ServiceExt;

/// How often a handler was asked what: tells a refusal before `attach` from one after it.
#[derive(Clone, Default)]
struct Calls {
    attached: Arc<AtomicUsize>,
    opened: Arc<AtomicUsize>,
}

impl Calls {
    /// A handler that counts, accepts everything, and sends back every text.
    fn handler(&self) -> On<()> {
        self.accepting(|| Accept::new(()))
    }

    fn accepting(&self, accept: impl Fn() -> Accept<()> + Send + Sync + 'static) -> On<()> {
        let Self { attached, opened } = self.clone();
        sockeye::on()
            .attach(move |_| {
                attached.fetch_add(1, Ordering::SeqCst);
                Ok(accept())
            })
            .on_open(move |_| {
                opened.fetch_add(1, Ordering::SeqCst);
            })
            .on_text(|session, text| session.send(text))
    }

    fn attached(&self) -> usize {
        self.attached.load(Ordering::SeqCst)
    }

    /// Asked after a connection that did open has answered: any other `open` would have come first.
    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

/// A handler whose first message says what `tell` learnt in `attach`.
fn tells(tell: impl Fn(&mut Handshake) -> String + Send + Sync + 'static) -> On<String> {
    sockeye::on()
        .attach(move |handshake| Ok(Accept::new(tell(handshake))))
        .on_open(|session| session.send(&session.data))
}

/// What such a handler told.
async fn told(connect: testing::Connect) -> String {
    within(async { connect.await.recv_text().await }).await
}

async fn refused(connect: testing::Connect) -> http::Response<Bytes> {
    within(connect.try_connect()).await.expect_err("the request is refused")
}

async fn echoes(connect: testing::Connect) {
    let mut peer = within(connect).await;
    peer.send("hello").await;
    assert_eq!(within(peer.recv_text()).await, "hello");
}

async fn serve(calls: &Calls) -> Running {
    Server::new().ws("/ws", calls.handler()).bind("127.0.0.1:0").await.expect("a free port")
}

/// Sends a request as it is, and gives the answer.
async fn ask(server: &Running, request: &str) -> tcp::Answer {
    let mut client = Client::connect(server.local_addr()).await;
    client.send(request).await;
    client.answer().await
}

// ---- requests that are no handshake

#[tokio::test]
async fn a_wrong_version_is_told_the_right_one() {
    let calls = Calls::default();
    for version in ["8", "0", "14", "013", "", "13, 8", "thirteen"] {
        let response = refused(connect(calls.handler()).header("sec-websocket-version", version));
        let response = response.await;
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED, "{version}");
        assert_eq!(response.headers()["sec-websocket-version"], "13");
        assert_eq!(response.headers()["upgrade"], "websocket");
        assert!(response.body().ends_with(b"(RFC 6455 section 4.4)\n"), "{:?}", response.body());
    }
    assert_eq!(calls.attached(), 0);
}

#[tokio::test]
async fn a_client_that_was_told_the_version_may_ask_again_on_the_same_connection() {
    let calls = Calls::default();
    let server = serve(&calls).await;
    let mut client = Client::connect(server.local_addr()).await;
    client.send(handshake("/ws", "").replace("Version: 13", "Version: 8")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")));
    client.upgrade("/ws").await;
    client.send_text("hello").await;
    assert_eq!(client.recv_text().await, "hello");
}

#[tokio::test]
async fn a_request_that_asks_for_no_upgrade_is_told_to() {
    let calls = Calls::default();
    let server = serve(&calls).await;
    let complete = handshake("/ws", "");
    for headers in [
        request("/ws", ""),
        complete.replace("Connection: Upgrade", "Connection: keep-alive"),
        complete.replace("Connection: Upgrade", "Connection: upgraded"),
        complete.replace("Connection: Upgrade\r\n", ""),
        complete.replace("Upgrade: websocket", "Upgrade: h2c"),
        complete.replace("Upgrade: websocket\r\n", ""),
    ] {
        let answer = ask(&server, &headers).await;
        assert_eq!(answer.status, 426, "{headers}");
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        assert!(answer.body.starts_with("this address speaks WebSocket"), "{}", answer.body);
    }
    assert_eq!(calls.attached(), 0);
}

#[tokio::test]
async fn tokens_are_found_in_lists_whatever_their_case() {
    let calls = Calls::default();
    let server = serve(&calls).await;
    let complete = handshake("/ws", "");
    for headers in [
        complete.replace("Connection: Upgrade", "Connection: keep-alive, uPgRaDe"),
        complete.replace("Connection: Upgrade", "Connection: keep-alive\r\nConnection: UPGRADE"),
        complete.replace("Upgrade: websocket", "Upgrade: h2c, WebSocket"),
    ] {
        ask(&server, &headers).await.assert_101();
    }
}

#[tokio::test]
async fn a_key_that_is_not_sixteen_bytes_of_base64_is_a_bad_request() {
    let calls = Calls::default();
    for key in
        ["", "x", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25j", "AAAAAAAAAAAAAAAAAAAAAAA="]
    {
        let response = refused(connect(calls.handler()).header("sec-websocket-key", key)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{key}");
        assert!(response.body().starts_with(b"`Sec-WebSocket-Key`"), "{:?}", response.body());
    }
    let server = serve(&calls).await;
    let line = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for keys in ["", &line.repeat(2)] {
        let answer = ask(&server, &handshake("/ws", "").replace(line, keys)).await;
        assert_eq!(answer.status, 400, "{keys}");
    }
    assert_eq!(calls.attached(), 0);
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let calls = Calls::default();
    let server = serve(&calls).await;
    let line = "Host: localhost\r\n";
    for hosts in ["", &line.repeat(2)] {
        let answer = ask(&server, &handshake("/ws", "").replace(line, hosts)).await;
        assert_eq!(answer.status, 400, "{hosts}");
    }
    assert_eq!(calls.attached(), 0);
}

#[tokio::test]
async fn other_methods_than_get_are_not_allowed_even_as_a_perfect_handshake() {
    let calls = Calls::default();
    let server = serve(&calls).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"] {
        let answer = ask_head(&server, &handshake("/ws", "").replacen("GET", method, 1)).await;
        assert_eq!(answer.0, 405, "{method}");
        assert!(answer.1, "{method}: the answer says what is allowed");
    }
    assert_eq!(calls.attached(), 0);
}

/// Status, and whether GET is allowed. An answer to HEAD announces a body that does not come.
async fn ask_head(server: &Running, request: &str) -> (u16, bool) {
    let mut client = Client::connect(server.local_addr()).await;
    client.send(request.replace("Host:", "Connection: close\r\nHost:")).await;
    let answer = String::from_utf8(client.rest().await.expect("an orderly end")).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let head = answer.to_ascii_lowercase();
    let allow = head.lines().find_map(|line| line.strip_prefix("allow: "));
    (status.expect("a status line"), allow.is_some_and(|allow| allow.contains("get")))
}

#[tokio::test]
async fn http_1_0_cannot_upgrade() {
    let calls = Calls::default();
    let server = serve(&calls).await;
    let answer = ask(&server, &handshake("/ws", "").replace("HTTP/1.1", "HTTP/1.0")).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("needs HTTP/1.1"), "{}", answer.body);
    assert_eq!(calls.attached(), 0);
}

#[tokio::test]
async fn a_server_that_cannot_upgrade_is_an_error_of_this_side() {
    let calls = Calls::default();
    let router = Router::new().route("/", sockeye::ws(calls.handler()));
    // No HTTP connection is under this request.
    let request = Request::get("/")
        .header("host", "localhost")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Body::empty())
        .unwrap();
    let response = within(router.oneshot(request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(calls.attached(), 0);
}

// ---- origins

#[tokio::test]
async fn a_page_of_another_origin_is_refused_before_the_handler_is_asked() {
    let calls = Calls::default();
    for origin in [
        "https://evil.example",
        "http://localhost.evil.example",
        "http://localhost:8080",
        "http://localhost@evil.example",
        "null",
        "",
        "file://",
    ] {
        let response = refused(connect(calls.handler()).header("origin", origin)).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{origin}");
        assert!(response.body().ends_with(b"(RFC 6455 section 10.2)\n"), "{:?}", response.body());
    }
    assert_eq!(calls.attached(), 0);

    for origin in ["http://localhost", "http://localhost:80", "https://localhost"] {
        echoes(connect(calls.handler()).header("origin", origin)).await;
    }
    echoes(connect(calls.handler())).await; // programs other than browsers have no origin
    assert_eq!((calls.attached(), calls.opened()), (4, 4));
}

#[tokio::test]
async fn two_origins_are_none_that_may_connect() {
    let calls = Calls::default();
    let server = serve(&calls).await;
    let twice = "Origin: http://localhost\r\n".repeat(2);
    assert_eq!(ask(&server, &handshake("/ws", &twice)).await.status, 403);
    assert_eq!(calls.attached(), 0);
}

#[tokio::test]
async fn a_list_of_origins_lets_those_in_and_not_the_servers_own() {
    let calls = Calls::default();
    let list = Origins::list(["https://app.example", "http://localhost:3000"]);
    let config = Config::default().origins(list);
    for (origin, expected) in [
        ("https://app.example", None),
        ("https://app.example:443", None),
        ("http://localhost:3000", None),
        ("http://app.example", Some(StatusCode::FORBIDDEN)),
        ("https://sub.app.example", Some(StatusCode::FORBIDDEN)),
        ("http://localhost", Some(StatusCode::FORBIDDEN)),
        ("null", Some(StatusCode::FORBIDDEN)),
    ] {
        let connect = connect_with(calls.handler(), config.clone()).header("origin", origin);
        let status = within(connect.try_connect()).await.err().map(|response| response.status());
        assert_eq!(status, expected, "{origin}");
    }
    assert_eq!(calls.attached(), 3);
}

#[tokio::test]
async fn any_origin_is_any_at_all() {
    let calls = Calls::default();
    let config = Config::default().origins(Origins::Any);
    for origin in ["https://evil.example", "null", "not an origin"] {
        echoes(connect_with(calls.handler(), config.clone()).header("origin", origin)).await;
    }
}

// ---- the handler's answer

#[tokio::test]
async fn a_refusal_arrives_with_its_status_headers_and_body() {
    let handler = sockeye::on().attach(|_| -> Result<Accept<()>, Rejection> {
        let headers = [("x-reason", "full"), ("retry-after", "7")];
        Err((StatusCode::TOO_MANY_REQUESTS, headers, "no seat is free").into())
    });
    let response = refused(connect(handler)).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["x-reason"], "full");
    assert_eq!(response.headers()["retry-after"], "7");
    assert_eq!(&response.body()[..], b"no seat is free");
}

#[tokio::test]
async fn whatever_axum_can_answer_can_refuse() {
    let handler = sockeye::on().attach(|handshake| -> Result<Accept<()>, Rejection> {
        Err(match handshake.query("how").as_deref() {
            Some("json") => (StatusCode::PAYMENT_REQUIRED, Json([1, 2, 3])).into(),
            Some("redirect") => Redirect::to("/login").into(),
            _ => StatusCode::IM_A_TEAPOT.into(),
        })
    });
    let router = Router::new().route("/", sockeye::ws(handler));
    let json = refused(connect_to(router.clone(), "/?how=json")).await;
    assert_eq!((json.status(), &json.body()[..]), (StatusCode::PAYMENT_REQUIRED, &b"[1,2,3]"[..]));
    let redirect = refused(connect_to(router.clone(), "/?how=redirect")).await;
    assert_eq!(redirect.status(), StatusCode::SEE_OTHER);
    assert_eq!(redirect.headers()["location"], "/login");
    assert_eq!(refused(connect_to(router, "/")).await.status(), StatusCode::IM_A_TEAPOT);
}

#[tokio::test]
async fn a_refused_request_is_never_opened() {
    let calls = Calls::default();
    let handler = {
        let (attached, opened) = (calls.attached.clone(), calls.opened.clone());
        sockeye::on()
            .attach(move |handshake| {
                attached.fetch_add(1, Ordering::SeqCst);
                match handshake.query("let-me-in") {
                    Some(_) => Ok(Accept::new(())),
                    None => Err(StatusCode::FORBIDDEN.into()),
                }
            })
            .on_open(move |_| {
                opened.fetch_add(1, Ordering::SeqCst);
            })
            .on_text(|session, text| session.send(text))
    };
    let router = Router::new().route("/", sockeye::ws(handler));
    for _ in 0..10 {
        refused(connect_to(router.clone(), "/")).await;
    }
    echoes(connect_to(router, "/?let-me-in")).await;
    assert_eq!((calls.attached(), calls.opened()), (11, 1));
}

#[tokio::test]
async fn headers_of_the_handler_are_added_to_the_101() {
    let handler = sockeye::on().attach(|_| {
        Ok(Accept::new(())
            .header("x-served-by", "sockeye")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2".to_owned()))
    });
    let peer = within(connect(handler)).await;
    let headers = peer.response().headers();
    assert_eq!(headers["x-served-by"], "sockeye");
    assert_eq!(headers.get_all("set-cookie").into_iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(headers["upgrade"], "websocket");
}

#[tokio::test]
async fn a_handler_cannot_break_the_handshake_with_its_headers() {
    let calls = Calls::default();
    for (name, value) in [
        ("connection", "close"),
        ("Upgrade", "h2c"),
        ("content-length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("sec-websocket-accept", "x"),
        ("Sec-WebSocket-Protocol", "chat"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("sec-websocket-version", "13"),
        ("not a name", "x"),
        ("", "x"),
        ("x-split", "a\r\nx-injected: b"),
    ] {
        let handler = calls.accepting(move || Accept::new(()).header(name, value));
        let response = refused(connect(handler).header("sec-websocket-protocol", "chat")).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{name}: {value}");
        assert!(response.headers().get("x-injected").is_none());
        assert!(response.body().is_empty(), "what is wrong here is nothing for the peer");
    }
    echoes(connect(calls.handler())).await;
    assert_eq!((calls.attached(), calls.opened()), (12, 1));
}

#[tokio::test]
async fn the_subprotocol_is_the_one_that_the_handler_chose_from_the_offer() {
    let handler = sockeye::on()
        .attach(|handshake| {
            let offer: Vec<_> = handshake.protocols().map(str::to_owned).collect();
            let accept = Accept::new(offer.join(" "));
            Ok(if offer.iter().any(|offered| offered == "v2.chat") {
                accept.protocol("v2.chat")
            } else {
                accept
            })
        })
        .on_open(|session| {
            session.send(&session.data);
            session.send(session.protocol().unwrap_or("none"))
        });
    let router = Router::new().route("/", sockeye::ws(handler));
    for (offer, seen, chosen) in [
        ("chat, v2.chat,superchat", "chat v2.chat superchat", Some("v2.chat")),
        ("v2.chat", "v2.chat", Some("v2.chat")),
        ("chat, bearer.secret-token", "chat bearer.secret-token", None),
    ] {
        let connect = connect_to(router.clone(), "/").header("sec-websocket-protocol", offer);
        let mut peer = within(connect).await;
        let answered = peer.response().headers().get("sec-websocket-protocol");
        assert_eq!(answered.map(|value| value.to_str().unwrap()), chosen, "{offer}");
        assert_eq!(within(peer.recv_text()).await, seen);
        assert_eq!(within(peer.recv_text()).await, chosen.unwrap_or("none"));
    }
    let peer = within(connect_to(router, "/")).await;
    assert!(peer.response().headers().get("sec-websocket-protocol").is_none());
}

#[tokio::test]
async fn a_subprotocol_that_was_not_offered_is_an_error_of_this_side() {
    let calls = Calls::default();
    let handler = || calls.accepting(|| Accept::new(()).protocol("chat"));
    for offer in ["superchat", "Chat", "chat2, chat 3"] {
        let response = refused(connect(handler()).header("sec-websocket-protocol", offer)).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{offer}");
        assert!(response.headers().get("sec-websocket-protocol").is_none());
    }
    assert_eq!(refused(connect(handler())).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    echoes(connect(handler()).header("sec-websocket-protocol", "chat")).await;
    assert_eq!((calls.attached(), calls.opened()), (5, 1));
}

#[tokio::test]
async fn a_panic_in_attach_is_a_500_and_the_next_request_is_served() {
    let handler = sockeye::on()
        .attach(|handshake| match handshake.query("panic") {
            Some(text) => panic!("{text}"),
            None => Ok(Accept::new(())),
        })
        .on_text(|session, text| session.send(text));
    let router = Router::new().route("/", sockeye::ws(handler));
    let response = refused(connect_to(router.clone(), "/?panic=secret")).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!response.body().windows(6).any(|part| part == b"secret"));
    echoes(connect_to(router, "/")).await;
}

/// Runs `attach` with what the test gives it.
struct Attach<F>(F);

impl<F, Fut> Handler for Attach<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Accept<()>, Rejection>> + Send,
{
    type Data = ();

    async fn attach(&self, _: &mut Handshake) -> Result<Accept<()>, Rejection> {
        (self.0)().await
    }

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        session.send(message);
        Ok(())
    }
}

#[tokio::test]
async fn attach_may_wait_for_another_task() {
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (asked, answer) = (asked.clone(), answer.clone());
        Attach(move || {
            let (asked, answer) = (asked.clone(), answer.clone());
            async move {
                asked.notify_one();
                answer.notified().await;
                Ok(Accept::new(()))
            }
        })
    };
    let peer = tokio::spawn(echoes(connect(handler)));
    within(asked.notified()).await;
    answer.notify_one();
    within(peer).await.unwrap();
}

/// Says when it is dropped.
struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_never_returns_is_given_up_with_503() {
    for timeout in [None, Some(Duration::from_secs(3))] {
        let config = Config::default();
        let config = timeout.into_iter().fold(config, Config::handshake_timeout);
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = dropped.clone();
        let handler = Attach(move || {
            let guard = OnDrop(guard.clone());
            async move {
                let _guard = guard;
                pending().await
            }
        });
        let begin = Instant::now();
        let response = refused(connect_with(handler, config)).await;
        let (waited, expected) = (begin.elapsed(), timeout.unwrap_or(Duration::from_secs(10)));
        assert!(waited >= expected && waited < expected + Duration::from_secs(1), "{waited:?}");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(&response.body()[..], b"the handshake took too long; try again\n");
        assert!(dropped.load(Ordering::SeqCst), "what attach held is given up");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_during_attach_ends_it() {
    let (sender, dropped) = oneshot::channel::<()>();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let asked = Arc::new(Notify::new());
    let handler = {
        let asked = asked.clone();
        Attach(move || {
            let guard = sender.lock().unwrap().take();
            let asked = asked.clone();
            async move {
                let _guard = guard;
                asked.notify_one();
                pending().await
            }
        })
    };
    let config = Config::default().handshake_timeout(Duration::from_secs(3600));
    let client = tokio::spawn(connect_with(handler, config).try_connect());
    within(asked.notified()).await;
    client.abort();
    let _ = client.await;
    within(dropped).await.expect_err("the future of attach was dropped");
}

#[tokio::test]
async fn without_an_attach_of_its_own_a_handler_of_no_data_accepts() {
    struct Plain;
    impl Handler for Plain {
        type Data = ();

        async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
            session.send(message);
            Ok(())
        }
    }
    echoes(connect(Plain)).await;
}

#[tokio::test]
async fn data_that_nobody_makes_is_an_error_of_this_side_even_if_it_has_no_size() {
    struct Marker;
    struct Forgetful;
    impl Handler for Forgetful {
        type Data = Marker;
    }
    let response = refused(connect(Forgetful)).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

// ---- what the handler learns

#[tokio::test]
async fn parameters_of_the_path_are_decoded() {
    let handler =
        tells(|handshake| format!("{:?} {:?}", handshake.param("room"), handshake.param("chair")));
    let router = Router::new().route("/room/{room}", sockeye::ws(handler));
    assert_eq!(told(connect_to(router.clone(), "/room/7")).await, r#"Some("7") None"#);
    let path = "/room/caf%C3%A9%20%2F%2B+";
    assert_eq!(told(connect_to(router, path)).await, r#"Some("café /++") None"#);
}

#[tokio::test]
async fn the_query_is_decoded_and_the_first_of_a_name_counts() {
    let handler = tells(|handshake| {
        let names = ["a", "b", "sp ace", "missing"];
        names.map(|name| format!("{:?}", handshake.query(name))).join(" ")
    });
    let router = Router::new().route("/", sockeye::ws(handler));
    for (path, expected) in [
        ("/?a=1&b=x%20y%26&a=2", r#"Some("1") Some("x y&") None None"#),
        ("/?b=x+y%2B&sp+ace=%C3%A9&a", r#"Some("") Some("x y+") Some("é") None"#),
        ("/?a=%FF%", "Some(\"\u{fffd}%\") None None None"),
        ("/?", "None None None None"),
        ("/", "None None None None"),
    ] {
        assert_eq!(told(connect_to(router.clone(), path)).await, expected, "{path}");
    }
}

#[tokio::test]
async fn cookies_are_found_by_name_and_decoded() {
    let handler = tells(|handshake| {
        let names = ["a", "b", "c", "missing"];
        names.map(|name| format!("{:?}", handshake.cookie(name))).join(" ")
    });
    let router = Router::new().route("/", sockeye::ws(handler));
    for (cookies, expected) in [
        ("a=1; b=2", r#"Some("1") Some("2") None None"#),
        ("b=x%20y%3B; xa=0; a=1=2", r#"Some("1=2") Some("x y;") None None"#),
        ("broken; a=1; =; ;b=", r#"Some("1") Some("") None None"#),
        ("", "None None None None"),
    ] {
        let connect = connect_to(router.clone(), "/").header("cookie", cookies);
        assert_eq!(told(connect).await, expected, "{cookies}");
    }
}

#[tokio::test]
async fn cookies_of_several_headers_are_all_seen() {
    let handler =
        tells(|handshake| format!("{:?} {:?}", handshake.cookie("a"), handshake.cookie("b")));
    let server = Server::new().ws("/ws", handler).bind("127.0.0.1:0").await.unwrap();
    let mut client = Client::connect(server.local_addr()).await;
    client.send(handshake("/ws", "Cookie: a=1\r\nCookie: b=2\r\n")).await;
    client.answer().await.assert_101();
    assert_eq!(client.recv_text().await, r#"Some("1") Some("2")"#);
}

#[tokio::test]
async fn headers_method_and_uri_are_those_of_the_request() {
    let handler = tells(|handshake| {
        format!(
            "{} {} {:?} {:?} {}",
            handshake.method(),
            handshake.uri(),
            handshake.header("X-Token"),
            handshake.header("x-missing"),
            handshake.headers()["host"].to_str().unwrap(),
        )
    });
    let router = Router::new().route("/ws", sockeye::ws(handler));
    let connect = connect_to(router, "/ws?a=%20b").header("x-token", "secret");
    assert_eq!(told(connect).await, r#"GET /ws?a=%20b Some("secret") None localhost"#);
}

#[tokio::test]
async fn the_peers_address_is_known_where_connect_info_is() {
    let handler = || tells(|handshake| format!("{:?}", handshake.peer_addr()));
    let router = Router::new().route("/", sockeye::ws(handler()));
    assert_eq!(told(connect_to(router.clone(), "/")).await, "None");
    let addr: SocketAddr = "192.0.2.7:4321".parse().unwrap();
    let router = router.layer(Extension(ConnectInfo(addr)));
    assert_eq!(told(connect_to(router, "/")).await, "Some(192.0.2.7:4321)");
}

/// Takes what it is told out of the request with axum's extractors.
struct Extracting;

impl Handler for Extracting {
    type Data = String;

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<String>, Rejection> {
        let Path((room, seat)) = handshake.extract::<Path<(String, u32)>>().await?;
        let Query(query) = handshake.extract::<Query<HashMap<String, u8>>>().await?;
        let route = handshake.extract::<MatchedPath>().await?;
        let headers = handshake.extract::<HeaderMap>().await?;
        // The same again: an extractor takes nothing away from the next.
        let Path(path) = handshake.extract::<Path<HashMap<String, String>>>().await?;
        assert_eq!(path["room"], room);
        assert_eq!(handshake.param("room"), Some(&*room));
        let route = route.as_str();
        Ok(Accept::new(format!("{room} {seat} {query:?} {route} {}", headers.len() > 3)))
    }

    async fn open(&self, session: &mut Session<String>) -> Result {
        session.send(&session.data);
        Ok(())
    }
}

#[tokio::test]
async fn extractors_of_axum_work_in_attach() {
    let router = Router::new().route("/room/{room}/{seat}", sockeye::ws(Extracting));
    let connect = connect_to(router, "/room/caf%C3%A9/7?level=3");
    assert_eq!(told(connect).await, r#"café 7 {"level": 3} /room/{room}/{seat} true"#);
}

#[tokio::test]
async fn the_rejection_of_an_extractor_is_the_answer() {
    let router = Router::new().route("/room/{room}/{seat}", sockeye::ws(Extracting));
    let path = refused(connect_to(router.clone(), "/room/a/seven")).await;
    assert_eq!(path.status(), StatusCode::BAD_REQUEST);
    assert!(path.body().starts_with(b"Invalid URL"), "{:?}", path.body());
    let query = refused(connect_to(router, "/room/a/7?level=high")).await;
    assert_eq!(query.status(), StatusCode::BAD_REQUEST);
    assert!(query.body().starts_with(b"Failed to deserialize query string"), "{:?}", query.body());
}

/// An extractor of the user's own, with state and an answer of its own.
struct Member(String);

#[derive(Clone)]
struct Members(&'static [&'static str]);

impl FromRequestParts<Members> for Member {
    type Rejection = (StatusCode, [(&'static str, &'static str); 1], &'static str);

    async fn from_request_parts(
        parts: &mut Parts,
        members: &Members,
    ) -> Result<Self, Self::Rejection> {
        let name = parts.headers.get("x-name").and_then(|name| name.to_str().ok());
        match name {
            Some(name) if members.0.contains(&name) => Ok(Self(name.to_owned())),
            _ => Err((StatusCode::UNAUTHORIZED, [("www-authenticate", "Name")], "who are you?")),
        }
    }
}

struct Club(Members);

impl Handler for Club {
    type Data = String;

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<String>, Rejection> {
        let Member(name) = handshake.extract_with_state(&self.0).await?;
        Ok(Accept::new(name))
    }

    async fn open(&self, session: &mut Session<String>) -> Result {
        session.send(format!("welcome {}", session.data));
        Ok(())
    }
}

#[tokio::test]
async fn an_extractor_with_state_and_a_rejection_of_its_own_works_too() {
    let members = Members(&["ana", "bo"]);
    let router = Router::new().route("/", sockeye::ws(Club(members)));
    let welcome = told(connect_to(router.clone(), "/").header("x-name", "bo")).await;
    assert_eq!(welcome, "welcome bo");
    let response = refused(connect_to(router, "/").header("x-name", "eve")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["www-authenticate"], "Name");
    assert_eq!(&response.body()[..], b"who are you?");
}

// ---- routers

#[tokio::test]
async fn a_route_fits_into_a_router_with_state() {
    let members = Members(&["ana"]);
    let handler = tells(|_| "inside".to_owned());
    let router = Router::<Members>::new()
        .route("/ws", sockeye::ws(handler))
        .route("/members", get(async |State(members): State<Members>| members.0.join(" ")))
        .route("/club", sockeye::ws(Club(members.clone())))
        .with_state(members);
    assert_eq!(told(connect_to(router.clone(), "/ws")).await, "inside");
    let club = connect_to(router.clone(), "/club").header("x-name", "ana");
    assert_eq!(told(club).await, "welcome ana");
    let page = refused(connect_to(router, "/members")).await;
    assert_eq!((page.status(), &page.body()[..]), (StatusCode::OK, &b"ana"[..]));
}

fn nested(handler: impl Handler) -> Router {
    let rooms = Router::new().route("/room/{room}", sockeye::ws(handler));
    Router::new().nest("/api/{tenant}", Router::new().nest("/v1", rooms))
}

#[tokio::test]
async fn a_nested_route_has_the_parameters_of_all_levels() {
    let handler =
        tells(|handshake| format!("{:?} {:?}", handshake.param("tenant"), handshake.param("room")));
    let told = told(connect_to(nested(handler), "/api/acme/v1/room/7")).await;
    assert_eq!(told, r#"Some("acme") Some("7")"#);
}

#[tokio::test]
async fn a_nested_route_sees_the_uri_as_it_was_requested() {
    let handler = tells(|handshake| handshake.uri().to_string());
    let told = told(connect_to(nested(handler), "/api/acme/v1/room/7?a=1")).await;
    assert_eq!(told, "/api/acme/v1/room/7?a=1");
}

#[tokio::test]
async fn a_path_without_a_route_is_not_found() {
    let calls = Calls::default();
    let response = refused(connect_to(nested(calls.handler()), "/api/acme/v1/room")).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(calls.attached(), 0);
}

#[derive(Clone)]
struct User(&'static str);

/// Lets in who has a token, and says who that is to those further in.
async fn authenticate(mut request: Request, next: Next) -> Response {
    if request.headers().get("x-token").is_none_or(|token| token != "secret") {
        return (StatusCode::UNAUTHORIZED, "no token").into_response();
    }
    request.extensions_mut().insert(User("ana"));
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-seen", "yes".parse().unwrap());
    response
}

struct Greeter;

impl Handler for Greeter {
    type Data = &'static str;

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<Self::Data>, Rejection> {
        let Extension(User(name)) = handshake.extract::<Extension<User>>().await?;
        Ok(Accept::new(name))
    }

    async fn open(&self, session: &mut Session<Self::Data>) -> Result {
        session.send(session.data);
        Ok(())
    }
}

#[tokio::test]
async fn middleware_sees_the_request_before_the_handler_and_the_101_after_it() {
    let router = Router::new().route("/", sockeye::ws(Greeter)).layer(from_fn(authenticate));
    let mut peer = within(connect_to(router, "/").header("x-token", "secret")).await;
    assert_eq!(peer.response().headers()["x-seen"], "yes");
    assert_eq!(within(peer.recv_text()).await, "ana");
}

#[tokio::test]
async fn middleware_can_refuse_before_the_handler_is_asked() {
    let calls = Calls::default();
    let router =
        Router::new().route("/", sockeye::ws(calls.handler())).layer(from_fn(authenticate));
    let response = refused(connect_to(router.clone(), "/")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(&response.body()[..], b"no token");
    assert_eq!(calls.attached(), 0);
    echoes(connect_to(router, "/").header("x-token", "secret")).await;
}

#[tokio::test]
async fn a_connection_whose_101_a_middleware_replaced_is_never_opened() {
    let dropped = Arc::new(AtomicBool::new(false));
    let opened = Arc::new(AtomicBool::new(false));
    let handler = {
        let (dropped, opened) = (dropped.clone(), opened.clone());
        sockeye::on()
            .attach(move |_| Ok(Accept::new(OnDrop(dropped.clone()))))
            .on_open(move |_| opened.store(true, Ordering::SeqCst))
    };
    let replace = from_fn(async |request: Request, next: Next| {
        assert_eq!(next.run(request).await.status(), StatusCode::SWITCHING_PROTOCOLS);
        StatusCode::IM_A_TEAPOT
    });
    let router = Router::new().route("/", sockeye::ws(handler)).layer(replace);
    let response = refused(connect_to(router, "/")).await;
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    let (dropped, opened) = (|| dropped.load(Ordering::SeqCst), || opened.load(Ordering::SeqCst));
    tcp::until(|| dropped() || opened()).await;
    assert!(!opened(), "the peer was told 418");
}

#[tokio::test]
async fn a_handshake_timeout_of_for_ever_is_one() {
    let config = Config::default().handshake_timeout(Duration::MAX);
    let handler = sockeye::on().on_text(|session, text| session.send(text));
    echoes(testing::connect_with(handler, config)).await;
    let server = Server::new()
        .config(Config::default().handshake_timeout(Duration::MAX))
        .ws("/ws", sockeye::on())
        .bind("127.0.0.1:0")
        .await
        .expect("a port");
    let answer = ask(&server, &handshake("/ws", "")).await;
    assert_eq!(answer.status, 101);
}

#[tokio::test]
async fn an_async_closure_may_decide_about_the_request() {
    let handler = sockeye::on()
        .attach_async(async |handshake: &mut Handshake| {
            tokio::task::yield_now().await; // as if a database was asked
            match handshake.query("token").as_deref() {
                Some("good") => Ok(Accept::new(7)),
                _ => Err(StatusCode::UNAUTHORIZED.into()),
            }
        })
        .on_text(|session, _| session.send(session.data.to_string()));
    let router = Router::new().route("/", sockeye::ws(handler));
    let mut peer = within(connect_to(router.clone(), "/?token=good")).await;
    peer.send("which?").await;
    assert_eq!(peer.recv_text().await, "7");
    let refused = refused(connect_to(router, "/?token=bad")).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}
