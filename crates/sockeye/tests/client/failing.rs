//! What a client says of a server that is none, of one that is silent, and of what it was asked for
//! itself: in one sentence each, and within the deadline.

use std::{error::Error, future::pending, time::Duration};

use sockeye::{Client, Config, ConnectError};
use tokio::{
    io::DuplexStream,
    time::{Instant, sleep},
};

use crate::server::{Connection, Server, UPGRADE, answered, lead, to_example, within};

/// What comes of a client whose server does this.
async fn against<F: Future>(
    client: Client,
    serve: impl FnOnce(Connection<DuplexStream>) -> F,
) -> ConnectError {
    let (client, server) = lead(client);
    let serve = serve(server);
    within(async {
        tokio::select! {
            biased;
            result = client.into_future() => result.expect_err("it is no server"),
            () = for_ever(serve) => unreachable!(),
        }
    })
    .await
}

/// Keeps what it gives.
async fn for_ever<F: Future>(what: F) {
    let _kept = what.await;
    pending().await
}

/// What a person reads, and what a log or the end of `main` shows.
#[track_caller]
fn assert_sentence(error: &ConnectError, sentence: &str) {
    assert_eq!(error.to_string(), sentence);
    let first = sentence.chars().next().unwrap();
    assert!(!first.is_uppercase() && !sentence.ends_with('.'), "{sentence}");
    assert!(!sentence.contains('\n') && sentence.len() < 160, "{sentence}");
    // Each cause is told once, behind the sentence.
    let mut shown = sentence.to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        assert!(!shown.contains(&error.to_string()), "`{error}` for a second time");
        shown += &format!(": {error}");
        cause = error.source();
    }
    assert_eq!(format!("{error:?}"), shown);
}

// ---- deadlines

/// The deadline is met to the millisecond.
fn assert_timeout(error: &ConnectError, start: Instant, seconds: u64) {
    let time = Duration::from_secs(seconds);
    assert!(matches!(error, ConnectError::HandshakeTimeout(told) if *told == time), "{error:?}");
    let within = format!("the server did not answer the opening handshake within {seconds}s");
    assert_sentence(error, &within);
    let late = start.elapsed().checked_sub(time).expect("not before its time");
    assert!(late < Duration::from_millis(10), "{late:?} late");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_has_10_s() {
    let start = Instant::now();
    let error = against(to_example(), async |mut server| {
        server.request().await;
        server
    })
    .await;
    assert_timeout(&error, start, 10);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_even_read_has_as_long_as_was_said() {
    let config = Config::default().handshake_timeout(Duration::from_secs(3));
    let (near, _far) = tokio::io::duplex(10);
    let start = Instant::now();
    let result = within(to_example().config(config).transport(near)).await;
    assert_timeout(&result.unwrap_err(), start, 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_byte_by_byte_for_ever_has_no_longer() {
    let hint = "HTTP/1.1 103 Early Hints\r\n\r\n";
    for (head, tail) in [
        ("HTTP/1.1 101 Switching Protocols\r\n", "X-Long: x\r\n"),
        ("HTTP/1.1 403 Forbidden\r\nX-Long: ", "x"),
        ("HTTP/1.1 200 OK", "K"),
        ("", hint),
    ] {
        let start = Instant::now();
        let error = against(to_example(), async |mut server| {
            server.request().await;
            for byte in head.bytes().chain(tail.bytes().cycle()) {
                server.send([byte]).await;
                sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        assert_timeout(&error, start, 10);
    }
}

#[tokio::test(start_paused = true)]
async fn hints_without_an_end_are_no_answer() {
    let start = Instant::now();
    let error = against(to_example(), async |mut server| {
        server.request().await;
        loop {
            server.send("HTTP/1.1 103 Early Hints\r\n\r\n").await;
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_timeout(&error, start, 10);
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_body_stands_still_has_no_longer_and_is_told_as_far_as_it_came() {
    for end in ["", "way"] {
        let start = Instant::now();
        let error = against(to_example(), async |mut server| {
            server.request().await;
            server.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nhalf").await;
            sleep(Duration::from_secs(9)).await;
            server.send(end).await;
            server
        })
        .await;
        let ConnectError::Refused(error) = error else { panic!("it answered: {error:?}") };
        assert_eq!(error.response.status(), 403);
        assert_eq!(error.response.body()[..], *format!("half{end}").as_bytes());
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn of_an_answer_without_an_end_no_more_is_read_than_is_told() {
    let mut sent = 0;
    let start = Instant::now();
    let error = against(to_example(), async |mut server| {
        server.request().await;
        server.send("HTTP/1.1 403 Forbidden\r\n\r\n").await;
        loop {
            server.send([b'x'; 1024]).await;
            sent += 1024;
            sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let ConnectError::Refused(error) = error else { panic!("it answered: {error:?}") };
    assert_eq!(error.response.body().len(), 8192);
    assert_eq!((sent, start.elapsed().as_millis()), (8192, 700));
}

#[tokio::test(start_paused = true)]
async fn a_longest_time_is_none() {
    let config = Config::default().handshake_timeout(Duration::MAX);
    let client = to_example().config(config).dns_timeout(Duration::MAX);
    let (client, mut server) = lead(client.connect_timeout(Duration::MAX));
    let serve = async {
        let request = server.request().await;
        sleep(Duration::from_secs(50)).await;
        server.send(UPGRADE.replace("{accept}", &request.accept()) + "\r\n").await;
    };
    let (ws, ()) = within(async { tokio::join!(client, serve) }).await;
    assert!(ws.is_ok(), "{ws:?}");
}

// ---- servers that are none

const NOT_HTTP: &str = "the server did not answer the opening handshake as HTTP has it";

#[tokio::test]
async fn a_server_that_does_not_speak_http_is_told() {
    for answer in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"220 mail.example.com ESMTP\r\n",
        b"-ERR unknown command\r\n",
        // The alert of TLS that a server has for a client without.
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
    ] {
        let (result, mut server) = answered(to_example(), answer).await;
        let Err(error @ ConnectError::Http(_)) = result else { panic!("{answer:?}: {result:?}") };
        assert_sentence(&error, NOT_HTTP);
        assert!(error.source().is_some(), "hyper says what was wrong");
        server.recv_end().await;
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_told_apart_too() {
    let server = Server::new().await;
    let serve = async {
        let mut connection = server.accept().await;
        connection.send("220 mail.example.com ESMTP\r\n").await;
        connection
    };
    let client = Client::connect(server.url());
    let (result, _connection) = within(async { tokio::join!(client, serve) }).await;
    assert!(matches!(result, Err(ConnectError::Http(_))), "{result:?}");
}

#[tokio::test]
async fn a_head_without_measure_is_not_read_to_its_end() {
    let error = against(to_example(), async |mut server| {
        server.request().await;
        server.send("HTTP/1.1 101 Switching Protocols\r\n").await;
        for n in 0.. {
            if server.try_send(format!("X-{n}: {}\r\n", "x".repeat(1000))).await.is_err() {
                return;
            }
            assert!(n < 1000, "a megabyte of headers");
        }
    })
    .await;
    assert_sentence(&error, NOT_HTTP);
}

#[tokio::test]
async fn a_server_that_leaves_during_the_handshake_is_told_wherever_that_is() {
    for part in ["", "HTTP", "HTTP/1.1 101 Switching", &UPGRADE[..100]] {
        let (client, mut server) = lead(to_example());
        let serve = async {
            server.request().await;
            server.send(part).await;
            drop(server);
        };
        let (result, ()) = within(async { tokio::join!(client, serve) }).await;
        let Err(error @ ConnectError::Http(_)) = result else { panic!("{part:?}: {result:?}") };
        assert_sentence(&error, NOT_HTTP);
        assert_eq!(
            error.source().unwrap().to_string(),
            "connection closed before message completed"
        );
    }
}

// ---- what was asked for

#[tokio::test]
async fn a_url_that_cannot_be_connected_to_is_told_why() {
    let why = |url: &str| match url {
        _ if url.contains('#') => "a WebSocket URL has no fragment, `#...` (RFC 6455 section 3)",
        _ if url.starts_with("wss") || url.starts_with("https") => "there is no TLS yet; use ws://",
        _ if url.starts_with("ftp") || url.starts_with("ws") || url == "/chat" => {
            "the scheme has to be ws or http, as in ws://example.com"
        }
        _ => "not a URL; write it like ws://example.com:8080/chat",
    };
    for url in [
        "ws://example.com/#top",
        "ws://example.com/chat#",
        "wss://example.com/",
        "https://example.com/",
        "ftp://example.com/",
        "wsx://example.com/",
        "/chat",
        "",
        " ",
        "\0",
        "example.com:80/chat",
        "http//example.com",
        "http://",
        "http:///chat",
        "http://example.com/a b",
        "http://[::1",
        "http://exa mple.com/",
    ] {
        let (client, mut server) = lead(Client::connect(url));
        let error = within(client).await.expect_err(url);
        assert_sentence(&error, &format!("cannot connect to `{url}`: {}", why(url)));
        server.recv_end().await;
    }
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_is_told_by_name_and_not_by_value() {
    let error = within(to_example().header("Sec-WebSocket-Key", "secret")).await.unwrap_err();
    assert_sentence(&error, "`Sec-WebSocket-Key` cannot be a header of the request");
}

#[tokio::test]
async fn a_subprotocol_that_cannot_be_offered_is_told() {
    let error = within(to_example().protocols(["a b"])).await.unwrap_err();
    let why = "is not a token: use letters, digits and `-._~` (RFC 6455 section 4.1)";
    assert_sentence(&error, &format!("subprotocol `a b` {why}"));
}

#[tokio::test]
async fn what_the_system_said_is_told_behind_the_sentence() {
    let port = Server::new().await.port();
    let error = within(Client::connect(format!("ws://127.0.0.1:{port}/"))).await.unwrap_err();
    assert_sentence(&error, &format!("cannot connect to 127.0.0.1:{port}: nothing listens there"));
    assert!(format!("{error:?}").contains("os error"), "{error:?}");

    let error = within(Client::connect("ws://something.invalid/")).await.unwrap_err();
    assert_sentence(&error, "cannot find the address of `something.invalid`; check the name");
    assert!(error.source().is_some());
}

#[tokio::test]
async fn a_refusal_is_a_sentence_too() {
    let refusals = [
        ("HTTP/1.1 404 Not Found\r\n", "the server answered 404 Not Found instead of 101"),
        (
            "HTTP/1.1 101 Switching Protocols\r\n",
            "the answer is no upgrade to WebSocket (RFC 6455 section 4.1)",
        ),
    ];
    for (head, sentence) in refusals {
        let answer = format!("{head}Content-Length: 0\r\n\r\n");
        assert_sentence(&answered(to_example(), answer).await.0.unwrap_err(), sentence);
    }
}

#[tokio::test]
async fn neither_an_error_nor_a_client_shows_a_password() {
    let port = Server::new().await.port();
    let local = format!("ws://ana:secret@127.0.0.1:{port}/");
    let example = "ws://ana:secret@example.com/";
    let over = |client: Client| lead(client).0;
    for client in [
        Client::connect(local),
        Client::connect("ws://ana:secret@something.invalid/"),
        over(Client::connect("wss://ana:secret@example.com/")),
        over(Client::connect("wss://ana:secret@example.com")),
        over(Client::connect("ws://ana:secret@example.com/#top")),
        over(Client::connect("ws://ana:secret@example.com:/ /")),
        over(Client::connect("ws://ana:se%zzcret@exa mple.com/")),
        over(Client::connect("ana:secret@example.com")),
        over(Client::connect(example).header("a b", "secret")),
        over(Client::connect(example).protocols([""])),
        over(Client::connect(example)),
    ] {
        let error = within(client).await.unwrap_err();
        let mut shown = format!("{error} {error:?}");
        let mut cause = error.source();
        while let Some(error) = cause {
            shown += &format!(" {error} {error:?}");
            cause = error.source();
        }
        assert!(!shown.contains("cret"), "{shown}");
    }
    let client = format!("{:?}", Client::connect(example));
    assert!(client.contains("example.com") && !client.contains("secret"), "{client}");
}
