//! What a client asks for (RFC 6455 section 4.1).

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderName, HeaderValue, header};
use sockeye::{Client, ConnectError, OfferError};

use crate::server::{Request, Server, lead, text, to_example, within};

/// What this client sends first. It gets no answer.
async fn request_of(client: Client) -> Request {
    let (client, mut server) = lead(client);
    let request = server.request();
    within(async {
        tokio::select! {
            request = request => request,
            result = client.into_future() => panic!("nothing was answered: {result:?}"),
        }
    })
    .await
}

async fn error_of(client: Client) -> ConnectError {
    let (client, mut server) = lead(client);
    let error = within(client).await.expect_err("it is not even asked");
    server.recv_end().await;
    error
}

#[tokio::test]
async fn the_request_is_that_of_the_rfc_and_nothing_else() {
    let server = Server::new().await;
    let client = Client::connect(format!("{}chat?room=7", server.url()));
    let serve = async {
        let mut connection = server.accept().await;
        let request = connection.upgrade("").await;
        connection.send(text("welcome")).await;
        // A body would come before it.
        assert_eq!(connection.recv_text().await, "hello");
        request
    };
    let talk = async {
        let mut ws = client.await.unwrap();
        assert_eq!(ws.recv().await.unwrap().unwrap().as_text(), Some("welcome"));
        ws.send("hello").await.unwrap();
        ws
    };
    let (request, _ws) = within(async { tokio::join!(serve, talk) }).await;
    assert_eq!(request.line, "GET /chat?room=7 HTTP/1.1");
    let host = format!("127.0.0.1:{}", server.port());
    let mut headers = request.headers.clone();
    headers.sort();
    let expected = [
        ("connection", "Upgrade"),
        ("host", &host),
        // What browsers offer.
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
        ("sec-websocket-key", request.key()),
        ("sec-websocket-version", "13"),
        ("upgrade", "websocket"),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn the_key_is_16_bytes_in_base64_and_another_one_each_time() {
    let mut keys = BTreeSet::new();
    let (mut ones, mut zeros) = ([0; 16], [0; 16]);
    for _ in 0..200 {
        let request = request_of(to_example()).await;
        let nonce: [u8; 16] = BASE64.decode(request.key()).unwrap().try_into().unwrap();
        for (i, byte) in nonce.into_iter().enumerate() {
            ones[i] |= byte;
            zeros[i] |= !byte;
        }
        assert!(keys.insert(nonce), "{nonce:?} for a second time");
    }
    // Each bit is sometimes set and sometimes not.
    assert_eq!((ones, zeros), ([0xff; 16], [0xff; 16]));
}

#[tokio::test]
async fn the_target_is_path_and_query_as_the_url_has_them() {
    for (url, target) in [
        ("ws://example.com", "/"),
        ("ws://example.com/", "/"),
        ("ws://example.com?room=7", "/?room=7"),
        ("ws://example.com/chat", "/chat"),
        ("ws://example.com/chat/?a=b&c=%20d&e", "/chat/?a=b&c=%20d&e"),
        ("ws://example.com/a%2Fb//c/../d", "/a%2Fb//c/../d"),
        ("ws://example.com/?next=ws://other/&at=a@b:1", "/?next=ws://other/&at=a@b:1"),
        ("http://ana:secret@example.com/chat", "/chat"),
    ] {
        let request = request_of(Client::connect(url)).await;
        assert_eq!(request.line, format!("GET {target} HTTP/1.1"), "{url}");
    }
}

#[tokio::test]
async fn the_host_is_named_with_its_port_unless_that_is_80() {
    for (url, host) in [
        ("ws://example.com/", "example.com"),
        ("ws://example.com:80/", "example.com"),
        ("ws://example.com:8080/", "example.com:8080"),
        ("ws://example.com:443/", "example.com:443"),
        ("http://example.com:80/", "example.com"),
        ("HTTP://example.com:80/", "example.com"),
        ("ws://127.0.0.1:9000/", "127.0.0.1:9000"),
        ("ws://[::1]/", "[::1]"),
        ("ws://[2001:db8::7]:9000/", "[2001:db8::7]:9000"),
        ("ws://ana:secret@example.com:9000/", "example.com:9000"),
    ] {
        let request = request_of(Client::connect(url)).await;
        assert_eq!(request.header("host"), Some(host), "{url}");
    }
}

#[tokio::test]
async fn headers_are_added_in_order_and_the_host_is_replaced() {
    let client = to_example()
        .header("X-Team", "red")
        .header(header::COOKIE, "a=1")
        .header("host", "first.example")
        .header(HeaderName::from_static("cookie"), String::from("b=2"))
        .header(String::from("origin"), HeaderValue::from_static("https://example.com"))
        .header("Host", "second.example:81");
    let request = request_of(client).await;
    assert_eq!(request.header("x-team"), Some("red"));
    assert_eq!(request.all("cookie"), ["a=1", "b=2"]);
    assert_eq!(request.header("origin"), Some("https://example.com"));
    assert_eq!(request.header("host"), Some("second.example:81"));
    assert_eq!(request.headers.len(), 10);
}

#[tokio::test]
async fn what_is_no_header_or_the_handshake_s_own_is_refused_by_name() {
    for (name, value) in [
        ("a b", "c"),
        ("", "c"),
        ("caf\u{e9}", "c"),
        ("x-team:", "c"),
        ("x-team", "a\r\nx-evil: b"),
        ("x-team", "a\0"),
        ("Connection", "close"),
        ("upgrade", "h2c"),
        ("Content-Length", "5"),
        ("transfer-encoding", "chunked"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("sec-websocket-version", "8"),
        ("sec-websocket-protocol", "chat"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ("sec-websocket-accept", "x"),
    ] {
        let client = to_example().header("x-good", "1").header(name, value).header("x/bad", "2");
        match error_of(client).await {
            ConnectError::Header(told) => assert_eq!(told, name, "the first one that is wrong"),
            other => panic!("{name}: {value} is refused, and not with {other:?}"),
        }
    }
}

#[tokio::test]
async fn subprotocols_are_offered_in_one_header_in_their_order() {
    let client = to_example().protocols(["v2.chat", "v1.chat"]).protocols([String::from("soap")]);
    let request = request_of(client).await;
    assert_eq!(request.header("sec-websocket-protocol"), Some("v2.chat, v1.chat, soap"));
    for none in [to_example(), to_example().protocols([""; 0])] {
        assert_eq!(request_of(none).await.header("sec-websocket-protocol"), None);
    }
}

#[tokio::test]
async fn a_subprotocol_is_a_token_and_is_offered_once() {
    for bad in ["", "a b", "a,b", "a\r\nx-evil: b", "caf\u{e9}"] {
        match error_of(to_example().protocols(["chat", bad])).await {
            ConnectError::Offer(OfferError::Protocol(told)) => assert_eq!(told, bad),
            other => panic!("`{bad}` is refused, and not with {other:?}"),
        }
    }
    let twice = to_example().protocols(["chat"]).protocols(["soap", "chat"]);
    match error_of(twice).await {
        ConnectError::Offer(OfferError::DuplicateProtocol(told)) => assert_eq!(told, "chat"),
        other => panic!("it is refused, and not with {other:?}"),
    }
}

/// RFC 7617 section 2: base64 of the name, a colon, and the password; what is percent-encoded in a URL
/// is meant decoded.
#[tokio::test]
async fn the_user_of_a_url_is_authorized() {
    for (user, plain) in [
        ("Aladdin:open%20sesame", &b"Aladdin:open sesame"[..]),
        ("ana", b"ana:"),
        ("ana:", b"ana:"),
        (":secret", b":secret"),
        ("ana:a:b", b"ana:a:b"),
        ("a%40b%3ac:%2F%3f%23%5B%5d%25", b"a@b:c:/?#[]%"),
        ("%c3%a9:%ff", b"\xc3\xa9:\xff"),
    ] {
        let request = request_of(Client::connect(format!("ws://{user}@example.com/"))).await;
        let basic = format!("Basic {}", BASE64.encode(plain));
        assert_eq!(request.header("authorization"), Some(&*basic), "{user}");
        assert_eq!(request.header("host"), Some("example.com"));
    }
    assert_eq!(request_of(to_example()).await.header("authorization"), None);
}

#[tokio::test]
async fn an_authorization_that_is_set_takes_the_place_of_that_in_the_url() {
    let client = Client::connect("ws://ana:secret@example.com/");
    let request = request_of(client.header("Authorization", "Bearer token")).await;
    assert_eq!(request.header("authorization"), Some("Bearer token"));
}
