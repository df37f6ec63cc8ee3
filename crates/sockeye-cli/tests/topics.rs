//! Do topics pass on what comes, by WebSocket and by POST, and refuse what they must?

#![cfg(unix)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod util;

use serde_json::{Value, json};
use sockeye::{OpCode, testing::frame};
use util::{
    Program,
    tcp::{Answer, Client},
};

async fn post(program: &Program, headers: &str, body: &[u8]) -> Answer {
    let mut client = Client::connect(program.addr).await;
    let length = body.len();
    client
        .send(format!(
            "POST /topics/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
             {headers}\r\n"
        ))
        .await;
    client.send(body).await;
    client.answer().await
}

/// Posts until so many are subscribed, and all of them have it.
async fn all_subscribed(program: &Program, clients: &mut [&mut Client]) {
    loop {
        let answer = post(program, "", b"are you there?").await;
        let report: Value = serde_json::from_str(&answer.body).expect("a report");
        if report["queued"] == clients.len() {
            break;
        }
    }
    for client in clients {
        // Who was there earlier may have it more than once.
        while client.recv_text().await != "are you there?" {}
    }
}

/// What comes next but for questions whether somebody is there.
async fn recv(client: &mut Client) -> (u8, Vec<u8>) {
    loop {
        let frame = client.recv().await.expect("a message");
        if frame.payload != b"are you there?" {
            return (frame.opcode, frame.payload);
        }
    }
}

#[tokio::test]
async fn what_one_sends_goes_to_the_others_as_it_came() {
    let program = Program::serve(&[]).await;
    let mut first = Client::open(program.addr, "/topics/news").await;
    let mut second = Client::open(program.addr, "/topics/news").await;
    let mut stranger = Client::open(program.addr, "/topics/new%73%2F2").await;
    all_subscribed(&program, &mut [&mut first, &mut second]).await;
    first.send_text("text").await;
    first.send(frame(OpCode::Binary, true, &[0, 255])).await;
    assert_eq!(recv(&mut second).await, (1, b"text".to_vec()));
    assert_eq!(recv(&mut second).await, (2, vec![0, 255]));
    second.send_text("back").await;
    // The first that comes to it: its own do not.
    assert_eq!(recv(&mut first).await, (1, b"back".to_vec()));
    // Nothing has come to another topic.
    stranger.send(frame(OpCode::Ping, true, b"?")).await;
    assert_eq!(recv(&mut stranger).await, (10, b"?".to_vec()));
}

#[tokio::test]
async fn a_post_is_published_and_answered_with_the_report() {
    let program = Program::serve(&[]).await;
    let answer = post(&program, "", b"nobody is there").await;
    let nobody = json!({"queued": 0, "backpressured": 0, "dropped": 0});
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap(), nobody);

    let mut client = Client::open(program.addr, "/topics/news").await;
    all_subscribed(&program, &mut [&mut client]).await;
    for (headers, body, opcode) in [
        ("", &b"plain"[..], 1),
        ("", b"", 1),
        ("Content-Type: application/x-www-form-urlencoded\r\n", b"as curl -d sends", 1),
        ("Content-Type: application/json\r\n", b"{}", 1),
        ("", &[0xc3, 0x28], 2),
        ("Content-Type: text/plain\r\n", &[0xff], 2),
        ("Content-Type: application/octet-stream\r\n", b"bytes", 2),
        ("Origin: http://localhost\r\n", b"from a page of its own", 1),
    ] {
        let answer = post(&program, headers, body).await;
        assert_eq!(answer.status, 200, "{headers}");
        let report: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(report, json!({"queued": 1, "backpressured": 0, "dropped": 0}), "{headers}");
        assert_eq!(recv(&mut client).await, (opcode, body.to_vec()), "{headers}");
    }
}

#[tokio::test]
async fn a_post_from_a_page_of_another_origin_is_refused_with_403() {
    let program = Program::serve(&[]).await;
    let mut client = Client::open(program.addr, "/topics/news").await;
    all_subscribed(&program, &mut [&mut client]).await;
    for origin in ["https://evil.example", "http://localhost:8080", "null", ""] {
        let answer = post(&program, &format!("Origin: {origin}\r\n"), b"foreign").await;
        assert_eq!(answer.status, 403, "{origin}");
    }
    let twice = "Origin: http://localhost\r\nOrigin: http://localhost\r\n";
    assert_eq!(post(&program, twice, b"foreign").await.status, 403);
    assert_eq!(post(&program, "", b"own").await.status, 200);
    assert_eq!(recv(&mut client).await, (1, b"own".to_vec()));
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_published_and_a_byte_more_is_413() {
    let program = Program::serve(&["--max-message", "3MiB"]).await;
    let mut client = Client::open(program.addr, "/topics/news").await;
    all_subscribed(&program, &mut [&mut client]).await;
    let body = vec![b'x'; 3 << 20];
    assert_eq!(post(&program, "", &body).await.status, 200);
    assert_eq!(recv(&mut client).await, (1, body));

    let program = Program::serve(&["--max-message", "10"]).await;
    assert_eq!(post(&program, "", b"0123456789").await.status, 200);
    assert_eq!(post(&program, "", b"0123456789x").await.status, 413);
    // Nor without a length that says so before.
    let mut client = Client::connect(program.addr).await;
    let head =
        "POST /topics/news HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{head}6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n")).await;
    assert_eq!(client.answer().await.status, 413);
}
