//! How a connection of a client ends: by either side, over TCP's own end, and by being dropped
//! (RFC 6455 section 7).

use std::time::Duration;

use sockeye::{Client, Close, CloseCode, ClosedBy, Config, SendStatus, State};
use tokio::time::{Instant, timeout};

use crate::server::{Server, assert_at, close, frame, open, text, to_example, within};

#[track_caller]
fn assert_is(close: &Close, by: ClosedBy, code: CloseCode, reason: &str, clean: bool) {
    let is = (close.by, close.code, &*close.reason, close.clean);
    assert_eq!(is, (by, code, reason, clean));
}

// ---- by this side

#[tokio::test]
async fn closing_sends_what_waits_and_the_close_frame_and_awaits_the_answer() {
    let (mut ws, mut server) = open(to_example()).await;
    ws.send("last").await.unwrap();
    let serve = async {
        assert_eq!(server.recv_text().await, "last");
        let frame = server.recv().await.unwrap();
        assert_eq!((frame.opcode, &frame.payload[..]), (8, &b"\x0f\xa0done"[..]));
        server.send(text("too late")).await;
        server.send(close(CloseCode(4000), "")).await;
        server.finish().await;
        server.recv_end().await;
    };
    let closing = ws.close(CloseCode(4000), "done");
    let (end, ()) = within(async { tokio::join!(closing, serve) }).await;
    assert_is(&end, ClosedBy::Local, CloseCode(4000), "done", true);
    assert_eq!(ws.socket().state(), State::Closed);
    assert_eq!(within(ws.recv()).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_the_close_frame_is_awaited_for_5_s() {
    let (mut ws, mut server) = open(to_example()).await;
    let start = Instant::now();
    let end = within(ws.close(CloseCode::NORMAL, "")).await;
    assert_is(&end, ClosedBy::Local, CloseCode::NORMAL, "", false);
    assert_at(start, 5);
    assert_eq!(server.recv_close().await, CloseCode::NORMAL);
    server.recv_end().await;
    assert!(within(ws.recv()).await.is_err(), "it did not end in order");
}

/// An end of the stream is all the answer there will be.
#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_instead_of_answering_is_not_waited_for() {
    let (mut ws, mut server) = open(to_example()).await;
    let start = Instant::now();
    let serve = async {
        assert_eq!(server.recv_close().await, CloseCode::NORMAL);
        server.finish().await;
        server.recv_end().await;
    };
    let closing = ws.close(CloseCode::NORMAL, "bye");
    let (end, ()) = within(async { tokio::join!(closing, serve) }).await;
    assert_is(&end, ClosedBy::Local, CloseCode::NORMAL, "bye", false);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_handle_that_is_dropped_says_1001() {
    let (ws, server) = open(to_example()).await;
    let socket = ws.socket();
    drop(ws);
    server.closes(CloseCode::AWAY).await;
    assert_is(&within(socket.closed()).await, ClosedBy::Local, CloseCode::AWAY, "", true);
}

#[tokio::test]
async fn what_was_sent_before_the_handle_was_dropped_arrives() {
    let (mut ws, mut server) = open(to_example()).await;
    for n in 0..100 {
        ws.send(n.to_string()).await.unwrap();
    }
    drop(ws);
    for n in 0..100 {
        assert_eq!(server.recv_text().await, n.to_string());
    }
    server.closes(CloseCode::AWAY).await;
}

#[tokio::test]
async fn a_connection_that_is_terminated_ends_without_a_word() {
    let (mut ws, mut server) = open(to_example()).await;
    ws.socket().terminate();
    server.recv_end().await;
    let lost = within(ws.recv()).await.unwrap_err();
    let reason = "the connection was terminated";
    assert_is(&lost.close, ClosedBy::Network, CloseCode::ABNORMAL, reason, false);
}

// ---- by the server

#[tokio::test]
async fn the_server_s_close_frame_is_answered_with_its_code() {
    for code in [1000, 1001, 1011, 1013, 3000, 4999].map(CloseCode) {
        let (mut ws, mut server) = open(to_example()).await;
        server.send([text("last"), close(code, "why")].concat()).await;
        assert_eq!(within(ws.recv()).await.unwrap().unwrap().as_text(), Some("last"));
        assert_eq!(within(ws.recv()).await.unwrap(), None);
        assert_is(&within(ws.socket().closed()).await, ClosedBy::Peer, code, "why", true);
        assert_eq!(server.recv_close().await, code);
        assert!(matches!(ws.socket().send("more"), SendStatus::Dropped(_)));
    }
}

#[tokio::test]
async fn a_close_frame_without_a_code_is_answered_without_one() {
    let (mut ws, mut server) = open(to_example()).await;
    server.send(frame(8, "")).await;
    assert_eq!(server.recv_close().await, CloseCode::NO_STATUS);
    assert_eq!(within(ws.recv()).await.unwrap(), None);
    let end = within(ws.socket().closed()).await;
    assert_is(&end, ClosedBy::Peer, CloseCode::NO_STATUS, "", true);
}

#[tokio::test]
async fn close_frames_that_cross_are_each_other_s_answer() {
    let (ws, mut server) = open(to_example()).await;
    let socket = ws.socket();
    socket.close(CloseCode::NORMAL, "mine");
    server.send(close(CloseCode::AWAY, "theirs")).await;
    assert_is(&within(socket.closed()).await, ClosedBy::Local, CloseCode::NORMAL, "mine", true);
    assert_eq!(server.recv_close().await, CloseCode::NORMAL);
    server.finish().await;
    server.recv_end().await;
}

#[tokio::test]
async fn an_end_without_a_close_frame_is_an_error() {
    let (mut ws, mut server) = open(to_example()).await;
    server.send(text("last")).await;
    drop(server);
    assert_eq!(within(ws.recv()).await.unwrap().unwrap().as_text(), Some("last"));
    let lost = within(ws.recv()).await.unwrap_err();
    let reason = "the peer ended the connection without a close frame";
    assert_is(&lost.close, ClosedBy::Network, CloseCode::ABNORMAL, reason, false);
}

#[tokio::test]
async fn an_end_within_a_message_is_an_error_and_no_message() {
    let (mut ws, mut server) = open(to_example()).await;
    server.send(&text("hello")[..5]).await;
    server.finish().await;
    assert!(within(ws.recv()).await.is_err());
    server.recv_end().await;
}

#[tokio::test]
async fn a_reset_is_an_error() {
    let server = Server::new().await;
    let serve = async {
        let mut connection = server.accept().await;
        connection.upgrade("").await;
        connection.into_inner()
    };
    let client = Client::connect(server.url());
    let (ws, tcp) = within(async { tokio::join!(client, serve) }).await;
    tcp.set_zero_linger().unwrap();
    drop(tcp);
    let mut ws = ws.unwrap();
    let lost = within(ws.recv()).await.unwrap_err();
    let reason = "the connection was reset";
    assert_is(&lost.close, ClosedBy::Network, CloseCode::ABNORMAL, reason, false);
}

// ---- the end of TCP

/// "The underlying TCP connection, in most normal cases, SHOULD be closed first by the server. [..] A
/// client SHOULD wait for the server to close the connection" (section 7.1.1).
#[tokio::test(start_paused = true)]
async fn the_server_ends_the_stream_first_whoever_began_to_close() {
    for by_server in [true, false] {
        let (ws, mut server) = open(to_example()).await;
        let socket = ws.socket();
        match by_server {
            true => {
                server.send(close(CloseCode::NORMAL, "")).await;
                assert_eq!(server.recv_close().await, CloseCode::NORMAL);
            }
            false => {
                socket.close(CloseCode::NORMAL, "");
                assert_eq!(server.recv_close().await, CloseCode::NORMAL);
                server.send(close(CloseCode::NORMAL, "")).await;
            }
        }
        assert!(within(socket.closed()).await.clean);
        let waited = timeout(Duration::from_secs(4), server.recv()).await;
        assert!(waited.is_err(), "nothing comes, and no end: {waited:?}");
        let start = Instant::now();
        server.finish().await;
        server.recv_end().await;
        assert_eq!(start.elapsed(), Duration::ZERO, "now it is the client's turn");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_end_the_stream_is_not_waited_for_beyond_the_deadline() {
    for seconds in [5, 20] {
        let config = Config::default().close_timeout(Duration::from_secs(seconds));
        let (ws, mut server) = open(to_example().config(config)).await;
        let start = Instant::now();
        server.send(close(CloseCode::NORMAL, "")).await;
        assert_eq!(server.recv_close().await, CloseCode::NORMAL);
        assert!(within(ws.socket().closed()).await.clean, "that is known at once");
        assert_eq!(start.elapsed(), Duration::ZERO);
        server.recv_end().await;
        assert_at(start, seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_on_talking_behind_its_close_frame_is_cut_off_too() {
    let (ws, mut server) = open(to_example()).await;
    let start = Instant::now();
    server.send(close(CloseCode::NORMAL, "")).await;
    while server.try_send(text("and another thing")).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_at(start, 5);
    assert!(ws.socket().closed().await.clean);
}

#[tokio::test(start_paused = true)]
async fn after_a_broken_rule_the_server_ends_the_stream_first_too() {
    let (mut ws, mut server) = open(to_example()).await;
    server.send(b"\x83\x00").await;
    assert_eq!(server.recv_close().await, CloseCode::PROTOCOL);
    assert!(within(ws.recv()).await.is_err());
    let waited = timeout(Duration::from_secs(4), server.recv()).await;
    assert!(waited.is_err(), "nothing comes, and no end: {waited:?}");
    server.send(close(CloseCode::PROTOCOL, "")).await;
    server.finish().await;
    server.recv_end().await;
}

/// Over TCP the client would have to wait before it may use its port again (TIME_WAIT); here it is the
/// server that is first to end the stream, so the client reads the end and not a reset.
#[tokio::test]
async fn over_tcp_the_end_is_orderly_for_both() {
    let server = Server::new().await;
    let client = Client::connect(server.url());
    let serve = async {
        let mut connection = server.accept().await;
        connection.upgrade("").await;
        connection
    };
    let (ws, connection) = within(async { tokio::join!(client, serve) }).await;
    let mut ws = ws.unwrap();
    let closing = ws.close(CloseCode::NORMAL, "");
    let closes = connection.closes(CloseCode::NORMAL);
    let (end, ()) = within(async { tokio::join!(closing, closes) }).await;
    assert_is(&end, ClosedBy::Local, CloseCode::NORMAL, "", true);
}
