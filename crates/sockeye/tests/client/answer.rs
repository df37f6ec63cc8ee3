//! Which answers open a connection, and what is told of the others (RFC 6455 section 4.1).

use sockeye::{
    Client, CloseCode, ClosedBy, ConnectError, HandshakeError, HandshakeFault, WebSocket,
};

use crate::server::{
    Connection, Server, UPGRADE, answered, close, frame, lead, text, to_example, within,
};

/// The client says no to this answer, and hangs up.
async fn refused(client: Client, answer: impl AsRef<[u8]>) -> HandshakeError {
    let (result, mut server) = answered(client, &answer).await;
    let shown = String::from_utf8_lossy(answer.as_ref()).into_owned();
    match result {
        Err(ConnectError::Refused(error)) => {
            server.recv_end().await;
            error
        }
        other => panic!("{shown:?} is refused, and not: {other:?}"),
    }
}

async fn accepted(client: Client, answer: impl AsRef<[u8]>) -> WebSocket {
    answered(client, answer).await.0.expect("the answer is right")
}

// ---- a right answer

#[tokio::test]
async fn names_and_tokens_have_any_case_and_stand_in_lists() {
    for answer in [
        format!("{UPGRADE}\r\n"),
        UPGRADE.to_lowercase().replace("http/1.1", "HTTP/1.1") + "\r\n",
        UPGRADE.replace("websocket", "WebSocket") + "\r\n",
        UPGRADE.replace("Connection: Upgrade", "Connection: keep-alive, UPGRADE") + "\r\n",
        UPGRADE.replace("Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade")
            + "\r\n",
        UPGRADE.replace("Accept: {accept}", "Accept:   {accept}  ") + "\r\n",
        UPGRADE.replace("Switching Protocols", "Go on") + "\r\n",
        UPGRADE.replace(" Switching Protocols", "") + "\r\n",
        format!("{UPGRADE}Server: x\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n"),
    ] {
        let (result, mut server) = answered(to_example(), &answer).await;
        let mut ws = result.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
        ws.send("hello").await.unwrap();
        assert_eq!(server.recv_text().await, "hello");
    }
}

/// RFC 9110 section 15.2: "A client MUST be able to parse one or more 1xx responses received prior to
/// a final response".
#[tokio::test]
async fn a_hint_may_come_before_the_answer() {
    let hints = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let ws = accepted(to_example(), format!("{hints}{UPGRADE}\r\n")).await;
    assert_eq!(ws.response().unwrap().headers().get("link"), None);
}

#[tokio::test]
async fn the_answer_that_opened_the_connection_can_be_looked_at() {
    let more = "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Node: eu-3\r\n";
    let ws = accepted(to_example(), format!("{UPGRADE}{more}\r\n")).await;
    let response = ws.response().unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["x-node"], "eu-3");
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
}

#[tokio::test]
async fn the_subprotocol_that_the_server_chose_is_the_socket_s() {
    let client = || to_example().protocols(["v2.chat", "v1.chat"]);
    let chosen = format!("{UPGRADE}Sec-WebSocket-Protocol: v1.chat\r\n\r\n");
    assert_eq!(accepted(client(), chosen).await.socket().protocol(), Some("v1.chat"));
    assert_eq!(accepted(client(), format!("{UPGRADE}\r\n")).await.socket().protocol(), None);
}

// ---- what comes together with it

/// What the client of a server that sends all this at once receives, and how it ends.
async fn early(bytes: &[u8]) -> (Vec<String>, Option<(CloseCode, String)>) {
    let serve = |mut server: Connection<_>| async move {
        let request = server.request().await;
        let head = UPGRADE.replace("{accept}", &request.accept()) + "\r\n";
        server.send([head.as_bytes(), bytes].concat()).await;
        server
    };
    let (client, server) = lead(to_example());
    let (ws, mut server) = within(async { tokio::join!(client, serve(server)) }).await;
    let mut ws = ws.unwrap();
    let mut texts = Vec::new();
    while let Ok(Some(message)) = within(ws.recv()).await {
        texts.push(message.as_text().unwrap().to_owned());
        if texts.last().unwrap() == "last" {
            return (texts, None);
        }
    }
    let end = within(ws.socket().closed()).await;
    assert_eq!((end.by, end.clean), (ClosedBy::Peer, true));
    assert_eq!(server.recv_close().await, end.code);
    (texts, Some((end.code, end.reason)))
}

#[tokio::test]
async fn frames_in_the_segment_of_the_answer_are_not_lost() {
    let many: Vec<_> = (0..2000).map(|n| n.to_string()).chain(["last".into()]).collect();
    let long = vec!["é".repeat(20_000), "last".into()];
    for texts in [vec!["last".to_owned()], many, long] {
        let bytes: Vec<_> = texts.iter().flat_map(|line| text(line)).collect();
        assert_eq!(within(early(&bytes)).await, (texts, None));
    }
}

#[tokio::test]
async fn a_close_frame_in_the_segment_of_the_answer_is_answered() {
    let away = close(CloseCode::AWAY, "later");
    let told = Some((CloseCode::AWAY, "later".to_owned()));
    assert_eq!(early(&away).await, (vec![], told.clone()));
    let bytes = [text("bye"), away].concat();
    assert_eq!(early(&bytes).await, (vec!["bye".to_owned()], told));
}

#[tokio::test]
async fn a_frame_may_be_cut_anywhere_between_the_segment_of_the_answer_and_the_next() {
    let whole = text(&"é".repeat(100));
    for split in [1, 2, 3, 4, 5, 100, whole.len() - 1] {
        let (client, mut server) = lead(to_example());
        let serve = async {
            let request = server.request().await;
            let head = UPGRADE.replace("{accept}", &request.accept()) + "\r\n";
            server.send([head.as_bytes(), &whole[..split]].concat()).await;
        };
        let (ws, ()) = within(async { tokio::join!(client, serve) }).await;
        let mut ws = ws.unwrap();
        server.send(&whole[split..]).await;
        let message = within(ws.recv()).await.unwrap().unwrap();
        assert_eq!(message.as_text(), Some(&*"é".repeat(100)), "split at {split}");
    }
}

#[tokio::test]
async fn what_came_before_the_end_is_not_lost_over_tcp() {
    let server = Server::new().await;
    let serve = async {
        let mut connection = server.accept().await;
        let request = connection.request().await;
        let head = UPGRADE.replace("{accept}", &request.accept()) + "\r\n";
        connection.send([head.into_bytes(), text("one"), frame(9, "two")].concat()).await;
        connection.finish().await;
        connection
    };
    let client = Client::connect(server.url());
    let (ws, _connection) = within(async { tokio::join!(client, serve) }).await;
    let mut ws = ws.unwrap();
    assert_eq!(within(ws.recv()).await.unwrap().unwrap().as_text(), Some("one"));
    let lost = within(ws.recv()).await.unwrap_err();
    assert_eq!((lost.close.by, lost.close.code), (ClosedBy::Network, CloseCode::ABNORMAL));
}

// ---- a wrong 101

#[tokio::test]
async fn an_answer_that_does_not_belong_to_the_key_is_refused() {
    let line = "Sec-WebSocket-Accept: {accept}\r\n";
    let wrong = [
        // The example of section 1.3, for a key that was not sent.
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n".to_owned(),
        String::new(),
        "Sec-WebSocket-Accept:\r\n".to_owned(),
        line.replace("{accept}", "\"{accept}\""),
        line.replace("{accept}", "{accept}=, x"),
        format!("{line}Sec-WebSocket-Accept: x\r\n"),
        format!("Sec-WebSocket-Accept: x\r\n{line}"),
    ];
    for lines in wrong {
        let answer = UPGRADE.replace(line, &lines) + "\r\n";
        let error = refused(to_example(), &answer).await;
        assert_eq!(error.reason, HandshakeFault::WrongAccept, "{answer}");
        assert_eq!(error.response.status(), 101);
    }
}

#[tokio::test]
async fn a_101_that_is_no_upgrade_to_websocket_is_refused() {
    for (from, to) in [
        ("Upgrade: websocket\r\n", ""),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade: websocket2\r\n"),
        ("Connection: Upgrade\r\n", ""),
        ("Connection: Upgrade\r\n", "Connection: keep-alive\r\n"),
    ] {
        let answer = UPGRADE.replace(from, to) + "\r\n";
        let error = refused(to_example(), &answer).await;
        assert_eq!(error.reason, HandshakeFault::NotAnUpgrade, "{answer}");
    }
}

#[tokio::test]
async fn an_extension_that_was_not_offered_is_refused() {
    let deflate = "permessage-deflate; server_max_window_bits=10";
    for (client, extension) in
        [(to_example(), "x-other; a=b"), (to_example().no_compression(), deflate)]
    {
        let answer = format!("{UPGRADE}Sec-WebSocket-Extensions: {extension}\r\n\r\n");
        let error = refused(client, answer).await;
        assert_eq!(error.reason, HandshakeFault::Extension(extension.to_owned()));
    }
}

#[tokio::test]
async fn an_answer_about_compression_that_the_rfc_does_not_allow_is_refused_by_its_parameter() {
    for (parameters, named) in [
        ("; a=b", "`a`"),
        ("; server_max_window_bits", "`server_max_window_bits`"),
        ("; server_max_window_bits=7", "`server_max_window_bits`"),
        ("; client_max_window_bits=16", "`client_max_window_bits`"),
        ("; client_max_window_bits", "`client_max_window_bits`"),
        ("; server_no_context_takeover=1", "`server_no_context_takeover`"),
        (
            "; client_no_context_takeover; client_no_context_takeover",
            "`client_no_context_takeover`",
        ),
        (", permessage-deflate", "twice"),
    ] {
        let extension = format!("permessage-deflate{parameters}");
        let answer = format!("{UPGRADE}Sec-WebSocket-Extensions: {extension}\r\n\r\n");
        let error = refused(to_example(), answer).await;
        assert!(matches!(error.reason, HandshakeFault::Deflate(_)), "{extension}: {error}");
        assert!(error.to_string().contains(named), "{extension}: {error}");
    }
}

#[tokio::test]
async fn a_subprotocol_that_was_not_offered_is_refused() {
    let offered = || to_example().protocols(["v2.chat", "v1.chat"]);
    for (client, chosen) in [
        (offered(), "soap"),
        (offered(), "V1.chat"),
        (offered(), "v2.chat, v1.chat"),
        (to_example(), "v1.chat"),
    ] {
        let answer = format!("{UPGRADE}Sec-WebSocket-Protocol: {chosen}\r\n\r\n");
        let error = refused(client, answer).await;
        assert_eq!(error.reason, HandshakeFault::Protocol(chosen.to_owned()));
    }
}

// ---- another status

#[tokio::test]
async fn another_status_is_told_with_its_headers_and_its_body() {
    for (status, header, value) in [
        ("200 OK", "content-type", "text/html"),
        ("301 Moved Permanently", "location", "ws://other.example/"),
        ("401 Unauthorized", "www-authenticate", "Basic realm=\"x\""),
        ("403 Forbidden", "x-reason", "origin"),
        ("404 Not Found", "content-type", "text/plain"),
        ("426 Upgrade Required", "sec-websocket-version", "13"),
        ("500 Internal Server Error", "retry-after", "120"),
        ("503 Service Unavailable", "retry-after", "1"),
    ] {
        let answer =
            format!("HTTP/1.1 {status}\r\n{header}: {value}\r\nContent-Length: 4\r\n\r\nno.\n");
        let error = refused(to_example(), answer).await;
        assert_eq!(error.to_string(), format!("the server answered {status} instead of 101"));
        assert_eq!(error.response.status().as_str(), &status[..3]);
        assert_eq!(error.response.headers()[header], value);
        assert_eq!(&error.response.body()[..], b"no.\n");
        assert_eq!(error.reason, HandshakeFault::Status(error.response.status()));
    }
}

#[tokio::test]
async fn a_status_of_its_own_is_told_as_a_number() {
    let answer = "HTTP/1.1 599 Whatever\r\nContent-Length: 0\r\n\r\n";
    let error = refused(to_example(), answer).await;
    assert!(error.to_string().starts_with("the server answered 599"), "{error}");
}

/// The same body in all the forms that HTTP has for one.
fn bodies(head: &str, body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let chunks = body
        .chunks(1000)
        .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    let chunked: Vec<u8> = chunks.chain(*b"0\r\n\r\n").collect();
    let of_length = format!("{head}Content-Length: {}\r\n\r\n", body.len());
    vec![
        ("with its length", [of_length.as_bytes(), body].concat()),
        (
            "in chunks",
            [format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), &chunked].concat(),
        ),
        ("to the end", [format!("{head}\r\n").as_bytes(), body].concat()),
    ]
}

#[tokio::test]
async fn a_body_is_told_in_whatever_form_it_comes_and_up_to_8_kib() {
    for size in [0, 1, 8191, 8192, 8193, 200_000] {
        let body: Vec<u8> = (0..size).map(|n: usize| n.wrapping_mul(31) as u8).collect();
        for (form, answer) in bodies("HTTP/1.1 403 Forbidden\r\n", &body) {
            let (client, mut server) = lead(to_example());
            let serve = async {
                server.request().await;
                // The client hangs up once it has enough.
                let _ = server.try_send(&answer).await;
                server.finish().await;
            };
            let (result, ()) = within(async { tokio::join!(client, serve) }).await;
            let Err(ConnectError::Refused(error)) = result else { panic!("{form}: {result:?}") };
            assert_eq!(error.response.body()[..], body[..size.min(8192)], "{size} bytes {form}");
        }
    }
}

#[tokio::test]
async fn an_answer_whose_body_breaks_off_is_told_as_far_as_it_came() {
    for head in ["Content-Length: 100\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n64\r\n"] {
        let (client, mut server) = lead(to_example());
        let serve = async {
            server.request().await;
            server.send(format!("HTTP/1.1 404 Not Found\r\n{head}half")).await;
            drop(server);
        };
        let (result, ()) = within(async { tokio::join!(client, serve) }).await;
        let Err(ConnectError::Refused(error)) = result else { panic!("{head:?}: {result:?}") };
        assert_eq!(error.response.status(), 404);
        assert_eq!(&error.response.body()[..], b"half");
    }
}

#[tokio::test]
async fn an_answer_without_a_body_is_not_waited_for() {
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    ] {
        let error = refused(to_example(), answer).await;
        assert!(error.response.body().is_empty());
    }
}
