//! What an open connection of a client sends and takes: masked frames in one direction, plain ones in
//! the other, within limits (RFC 6455 sections 5.1 and 5.3).

use std::{collections::BTreeSet, time::Duration};

use sockeye::{
    Bytes, Client, CloseCode, ClosedBy, Config, Disconnected, DropReason, Limits, Message,
    SendStatus, WebSocket, testing,
};
use tokio::{
    io::DuplexStream,
    time::{Instant, sleep},
};

use crate::server::{
    self, Connection, Frame, Server, assert_at, frame, open, text, to_example, within,
};

fn with(config: Config) -> Client {
    to_example().config(config)
}

async fn recv_text(ws: &mut WebSocket) -> String {
    let message = within(ws.recv()).await.unwrap().expect("a message and not the end");
    message.as_text().expect("a text").to_owned()
}

/// The connection of the client has ended, and not as it should.
async fn lost(ws: &mut WebSocket) -> Disconnected {
    within(ws.recv()).await.expect_err("an error and no message or orderly end")
}

// ---- masks

/// "The masking key needs to be unpredictable" (section 5.3).
#[tokio::test]
async fn each_frame_has_a_key_of_its_own_that_nobody_foresees() {
    let mut all = Vec::new();
    for _ in 0..4 {
        let (mut ws, mut server) = open(to_example()).await;
        for _ in 0..200 {
            ws.send("the same").await.unwrap();
            ws.socket().ping("the same");
            for _ in 0..2 {
                let frame = server.recv().await.unwrap();
                assert_eq!(frame.payload, b"the same");
                all.push(frame.key);
            }
        }
    }
    assert_eq!(all.len(), 1600);
    // By chance, two of them are the same once in 3000 runs, and two pairs once in ten million.
    let different: BTreeSet<_> = all.iter().copied().collect();
    assert!(different.len() >= all.len() - 1, "{} of {} keys", different.len(), all.len());
    // Neither a bit of the keys nor of what changes between one and the next tells the others.
    let keys: Vec<_> = all.into_iter().map(u32::from_be_bytes).collect();
    let steps = keys.windows(2).map(|two| two[1].wrapping_sub(two[0]));
    let changes = keys.windows(2).map(|two| two[1] ^ two[0]);
    for values in [keys.clone(), steps.collect(), changes.collect()] {
        for bit in 0..32 {
            let ones = values.iter().filter(|value| *value >> bit & 1 == 1).count();
            assert!((600..1000).contains(&ones), "bit {bit} is set {ones} times of 1600");
        }
    }
}

#[tokio::test]
async fn messages_of_every_length_arrive_as_they_were_sent() {
    let (mut ws, mut server) = open(to_example()).await;
    for size in [0, 1, 2, 3, 4, 5, 7, 8, 125, 126, 127, 65_535, 65_536, 65_537] {
        let data: Vec<u8> = (0..size).map(|n: usize| n.wrapping_mul(31) as u8).collect();
        let sent = async {
            ws.send(&data[..]).await.unwrap();
            ws.socket().flushed().await.unwrap();
        };
        let (frame, ()) = within(async { tokio::join!(server.recv(), sent) }).await;
        let Frame { fin, opcode, payload, .. } = frame.unwrap();
        assert!((fin, opcode) == (true, 2) && payload == data, "{size} bytes");
    }
    ws.send("é".repeat(100)).await.unwrap();
    assert_eq!(server.recv_text().await, "é".repeat(100));
}

/// A client masks a copy: what its user holds is not changed.
#[tokio::test]
async fn what_is_sent_by_reference_is_not_masked_in_place() {
    let (mut ws, mut server) = open(to_example()).await;
    let data = Bytes::from(vec![7; 100_000]);
    for _ in 0..2 {
        let sent = ws.send(data.clone());
        let (frame, sent) = within(async { tokio::join!(server.recv(), sent) }).await;
        sent.unwrap();
        assert!(frame.unwrap().payload == [7; 100_000]);
    }
    assert!(data.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn long_messages_go_both_ways_over_tcp() {
    let server = Server::new().await;
    let limits = Limits::default().message_size(5_000_000);
    let client = Client::connect(server.url()).config(Config::default().limits(limits));
    let data: Vec<u8> = (0..5_000_000).map(|n: u32| n.wrapping_mul(31) as u8).collect();
    let serve = async {
        let mut connection = server.accept().await;
        connection.upgrade("").await;
        let frame = connection.recv().await.unwrap();
        assert!(frame.payload == data, "{} bytes", frame.payload.len());
        connection.send(server::frame(2, &frame.payload)).await;
        connection
    };
    let talk = async {
        let mut ws = client.await.unwrap();
        ws.send(data.clone()).await.unwrap();
        let answer = ws.recv().await.unwrap().unwrap();
        assert!(answer.as_bytes() == data, "{} bytes", answer.len());
        ws
    };
    within(async { tokio::join!(serve, talk) }).await;
}

/// Each has more to send than the pipe takes, and neither waits for the other to be done.
#[tokio::test(start_paused = true)]
async fn both_sides_may_send_a_megabyte_at_the_same_time() {
    let data = vec![7; 1_000_000];
    let theirs = data.clone();
    let handler = sockeye::on().on_open(move |session| session.send(theirs.clone()));
    let stream = testing::connect(handler).pipe(1000).stream();
    let mut ws = within(to_example().transport(stream)).await.unwrap();
    ws.socket().send(&data);
    let message = within(ws.recv()).await.unwrap().unwrap();
    assert!(message.as_bytes() == data, "{} bytes", message.len());
    within(ws.socket().flushed()).await.unwrap();
}

// ---- what comes in

#[tokio::test]
async fn a_message_may_come_in_fragments_with_control_frames_between() {
    let (mut ws, mut server) = open(to_example()).await;
    let mut bytes = frame(1, "Hel");
    bytes[0] &= 0x7f;
    bytes.extend(frame(9, "between"));
    bytes.extend(frame(0, "lo"));
    server.send(bytes).await;
    assert_eq!(recv_text(&mut ws).await, "Hello");
    let pong = server.recv().await.unwrap();
    assert_eq!((pong.opcode, &pong.payload[..]), (10, &b"between"[..]));
}

#[tokio::test]
async fn a_ping_is_answered_though_nobody_receives() {
    let (ws, mut server) = open(to_example()).await;
    server.send([text("nobody takes this"), frame(9, "there?")].concat()).await;
    // It stands behind the message, but one message fits into the place where it is handed over.
    let pong = server.recv().await.unwrap();
    assert_eq!((pong.opcode, &pong.payload[..]), (10, &b"there?"[..]));
    drop(ws);
}

/// What the client does with these bytes: the code it closes with, and what its user is told.
async fn failed(client: Client, bytes: &[u8]) -> (CloseCode, Disconnected) {
    let (mut ws, mut server) = open(client).await;
    server.send(bytes).await;
    let code = server.recv_close().await;
    let lost = lost(&mut ws).await;
    assert_eq!((lost.close.by, lost.close.code, lost.close.clean), (ClosedBy::Local, code, false));
    assert_eq!(ws.socket().send("more"), SendStatus::Dropped(DropReason::Closed));
    (code, lost)
}

/// "A client MUST close a connection if it detects a masked frame" (section 5.1).
#[tokio::test]
async fn a_masked_frame_from_a_server_is_answered_with_1002() {
    for opcode in [1, 2, 8, 9, 10] {
        let masked = [0x80 | opcode, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2];
        let (code, lost) = failed(to_example(), &masked).await;
        assert_eq!(code, CloseCode::PROTOCOL);
        assert_eq!(lost.close.reason, "masked frame from a server (RFC 6455 section 5.1)");
        assert_eq!(
            lost.to_string(),
            format!("the connection ended with 1002: {}", lost.close.reason)
        );
    }
}

#[tokio::test]
async fn what_breaks_a_rule_is_answered_with_its_code() {
    for (bytes, code) in [
        // RSV1, as of an extension that was not negotiated.
        (&b"\xc1\x01x"[..], CloseCode::PROTOCOL),
        (b"\x83\x00", CloseCode::PROTOCOL),
        (b"\x80\x00", CloseCode::PROTOCOL),
        (b"\x09\x00", CloseCode::PROTOCOL),
        (b"\x88\x01\x03", CloseCode::PROTOCOL),
        (b"\x81\x02\xc3\x28", CloseCode::INVALID_DATA),
    ] {
        assert_eq!(failed(to_example(), bytes).await.0, code, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_answered_with_1009() {
    let limited = || with(Config::default().limits(Limits::default().message_size(1000)));
    let (mut ws, mut server) = open(limited()).await;
    server.send(frame(2, [7; 1000])).await;
    assert_eq!(within(ws.recv()).await.unwrap(), Some(Message::from(vec![7; 1000])));
    server.send(&frame(2, [7; 1001])[..4]).await;
    assert_eq!(server.recv_close().await, CloseCode::TOO_BIG, "as soon as its length is known");
    assert_eq!(lost(&mut ws).await.close.code, CloseCode::TOO_BIG);

    let mut fragments = frame(2, [7; 600]);
    fragments[0] &= 0x7f;
    fragments.extend(frame(0, [7; 401]));
    assert_eq!(failed(limited(), &fragments).await.0, CloseCode::TOO_BIG);
    // The default is 1 MiB.
    assert_eq!(failed(to_example(), b"\x82\x7f\0\0\0\0\0\x10\0\x01").await.0, CloseCode::TOO_BIG);
}

#[tokio::test]
async fn what_came_before_a_broken_rule_is_handed_over_first() {
    let (mut ws, mut server) = open(to_example()).await;
    server.send([text("one"), text("two"), b"\x83\x00".to_vec()].concat()).await;
    assert_eq!(recv_text(&mut ws).await, "one");
    assert_eq!(recv_text(&mut ws).await, "two");
    assert_eq!(lost(&mut ws).await.close.code, CloseCode::PROTOCOL);
    assert_eq!(server.recv_close().await, CloseCode::PROTOCOL);
}

// ---- a server that says nothing

/// The server gets a ping of the client at this second, or up to one later.
async fn recv_ping(server: &mut Connection<DuplexStream>, start: Instant, seconds: u64) {
    let Frame { opcode, payload, .. } = server.recv().await.expect("a ping");
    assert_eq!((opcode, &payload[..]), (9, &b""[..]));
    assert_at(start, seconds);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_is_noticed_after_40_s() {
    let (mut ws, mut server) = open(to_example()).await;
    let start = Instant::now();
    recv_ping(&mut server, start, 30).await;
    let lost = lost(&mut ws).await;
    assert_at(start, 40);
    assert_eq!(lost.to_string(), "the connection ended with 1006: no answer to a ping");
    assert_eq!(lost.close.by, ClosedBy::Network);
    server.recv_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_pings_lives() {
    let config = Config::default().keep_alive(Duration::from_secs(5), Duration::from_secs(2));
    let (mut ws, mut server) = open(with(config)).await;
    let mut heard = Instant::now();
    for _ in 0..100 {
        recv_ping(&mut server, heard, 5).await;
        sleep(Duration::from_millis(1900)).await;
        server.send(frame(10, "")).await;
        heard = Instant::now();
    }
    server.send(text("still here")).await;
    assert_eq!(recv_text(&mut ws).await, "still here");
}
