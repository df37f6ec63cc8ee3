//! Answers to the opening handshake: sound ones in odd shapes, wrong ones, and none.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sockeye::{
    Config, ConnectError, HandshakeError, HandshakeFault, Result, WebSocket, axum::http::StatusCode,
};

use super::{PING, Seen, TEXT, bytes, close_frame, frame, receives_all};
use crate::{
    checks::{Checks, ensure, equal},
    stranger::Plan,
};

/// How long a server that says nothing is given.
const PATIENCE: Duration = Duration::from_millis(400);
/// A deadline may be missed by so much.
const SLACK: Duration = Duration::from_secs(1);
/// So much of the body of a refusal is kept.
const KEPT_BODY: usize = 8 * 1024;

pub(super) async fn check(checks: &mut Checks) {
    shapes(checks).await;
    early_frames(checks).await;
    faults(checks).await;
    bodies(checks).await;
    no_answer(checks).await;
}

async fn shapes(checks: &mut Checks) {
    for (what, answer) in [
        (
            "names and values in other case",
            json!({ "headers": {
                "Upgrade": null, "Connection": null, "upgrade": "WebSocket", "CONNECTION": "UPGRADE",
            } }),
        ),
        (
            "Connection: keep-alive, Upgrade",
            json!({ "headers": { "Connection": "keep-alive, Upgrade" } }),
        ),
        ("Content-Length: 0", json!({ "headers": { "Content-Length": 0 } })),
        ("another reason phrase", json!({ "status": "101 Web Socket Protocol Handshake" })),
        ("no reason phrase", json!({ "status": "101 " })),
        ("103 before it", json!({ "before": "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" })),
    ] {
        checks
            .check(&format!("answer: {what}"), move |stranger| async move {
                let plan = stranger.plan(json!([frame(TEXT, "hello"), close_frame(1000, "")]));
                let mut ws = plan.told("answer", answer.to_string()).connect().await?;
                receives_all(&mut ws, &["hello"]).await
            })
            .await;
    }

    checks
        .check("answer: byte by byte", |stranger| async move {
            let steps = [frame(TEXT, "héllo"), close_frame(1000, ""), json!({ "slowly": true })];
            let plan = stranger.plan(steps.into_iter().collect());
            let mut ws = plan.connect().await?;
            receives_all(&mut ws, &["héllo"]).await?;
            Seen::of(&plan).await?.closed(1000).map(drop)
        })
        .await;
}

/// The answer and what follows it leave the server in one write.
async fn early_frames(checks: &mut Checks) {
    checks
        .check("early: messages, a ping and a close in one write with it", |stranger| async move {
            let frames = [frame(TEXT, "one"), frame(PING, "p"), frame(TEXT, "two")];
            let steps = frames.into_iter().chain([close_frame(4000, "bye")]);
            let plan = stranger.plan(steps.collect());
            let mut ws = plan.connect().await?;
            receives_all(&mut ws, &["one", "two"]).await?;
            Seen::of(&plan).await?.closed(4000).map(drop)
        })
        .await;

    checks
        .check("early: half a frame in one write with it", |stranger| async move {
            let pause = json!({ "pause": 0.1 });
            let steps = [bytes(b"\x81\x05he"), pause, bytes(b"llo"), close_frame(1000, "")];
            let plan = stranger.plan(steps.into_iter().collect());
            let mut ws = plan.connect().await?;
            receives_all(&mut ws, &["hello"]).await?;
            Seen::of(&plan).await?.closed(1000).map(drop)
        })
        .await;

    checks
        .check("early: 1000 messages in one write with it", |stranger| async move {
            let mut many = frame(TEXT, "again");
            many["times"] = json!(1000);
            let plan = stranger.plan(json!([many, close_frame(1000, "")]));
            let mut ws = plan.connect().await?;
            receives_all(&mut ws, &["again"; 1000]).await?;
            Seen::of(&plan).await?.closed(1000).map(drop)
        })
        .await;
}

async fn faults(checks: &mut Checks) {
    let offered = ["chat", "superchat"];
    for (what, headers, fault) in [
        (
            "a wrong Sec-WebSocket-Accept",
            json!({ "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" }),
            HandshakeFault::WrongAccept,
        ),
        (
            "no Sec-WebSocket-Accept",
            json!({ "Sec-WebSocket-Accept": null }),
            HandshakeFault::WrongAccept,
        ),
        ("no Upgrade", json!({ "Upgrade": null }), HandshakeFault::NotAnUpgrade),
        ("another Upgrade", json!({ "Upgrade": "h2c" }), HandshakeFault::NotAnUpgrade),
        ("no Connection", json!({ "Connection": null }), HandshakeFault::NotAnUpgrade),
        ("another Connection", json!({ "Connection": "keep-alive" }), HandshakeFault::NotAnUpgrade),
        (
            "an extension that was not offered",
            json!({ "Sec-WebSocket-Extensions": "x-webkit-deflate-frame" }),
            HandshakeFault::Extension("x-webkit-deflate-frame".to_owned()),
        ),
        (
            "a subprotocol that was not offered",
            json!({ "Sec-WebSocket-Protocol": "gossip" }),
            HandshakeFault::Protocol("gossip".to_owned()),
        ),
        (
            "two subprotocols",
            json!({ "Sec-WebSocket-Protocol": "chat, superchat" }),
            HandshakeFault::Protocol("chat, superchat".to_owned()),
        ),
    ] {
        checks
            .check(&format!("answer: {what} is an error"), move |stranger| async move {
                let answer = json!({ "headers": headers });
                let plan = stranger.plan(json!([frame(TEXT, "anyone?")]));
                let plan = plan.told("answer", answer.to_string());
                let error = refusal(plan.client().protocols(offered).await)?;
                equal(error.reason, fault, "reason")?;
                equal(error.response.status(), StatusCode::SWITCHING_PROTOCOLS, "status")?;
                Seen::of(&plan).await?.silent()
            })
            .await;
    }

    checks
        .check("answer: 200 with all of the headers is an error", |stranger| async move {
            let answer = json!({ "status": "200 OK" });
            let plan = stranger.plan(json!([])).told("answer", answer.to_string());
            let error = refusal(plan.client().config(impatient()).await)?;
            equal(error.reason, HandshakeFault::Status(StatusCode::OK), "reason")?;
            Seen::of(&plan).await?.silent()
        })
        .await;
}

async fn bodies(checks: &mut Checks) {
    let endless = json!({ "bytes": "78", "times": 100_000 });
    let chunk = "5\r\nwhy, \r\n9\r\nin chunks\r\n0\r\n\r\n";
    for (what, headers, steps, body) in [
        (
            "in chunks",
            json!({ "Transfer-Encoding": "chunked" }),
            json!([bytes(chunk)]),
            "why, in chunks".to_owned(),
        ),
        (
            "that is large is cut off",
            json!({ "Content-Length": 100_000 }),
            json!([endless]),
            "x".repeat(KEPT_BODY),
        ),
        (
            "that breaks off is as long as it came",
            json!({ "Content-Length": 100 }),
            json!([bytes("this far"), { "vanish": "eof" }]),
            "this far".to_owned(),
        ),
        (
            "that never comes to its end does not hide the status",
            json!({ "Content-Length": 100 }),
            json!([bytes("this far")]),
            "this far".to_owned(),
        ),
    ] {
        checks
            .check(&format!("refusal: a body {what}"), move |stranger| async move {
                let plan = stranger.plan(steps).told("answer", forbidden(headers));
                let error = refusal(plan.client().config(impatient()).await)?;
                equal(error.response.status(), StatusCode::FORBIDDEN, "status")?;
                equal(String::from_utf8_lossy(error.response.body()), body, "body")?;
                // How TCP ends is nobody's concern: what is not read of a body resets it.
                equal(Seen::of(&plan).await?.frames.len(), 0, "number of frames")
            })
            .await;
    }
}

async fn no_answer(checks: &mut Checks) {
    for (what, raw, steps) in [
        ("something else than HTTP", "SSH-2.0-OpenSSH_9.6\r\n\r\n", json!([])),
        ("the end of TCP", "", json!([{ "vanish": "eof" }])),
        ("a reset", "", json!([{ "vanish": "reset" }])),
        ("half of it, then the end of TCP", "HTTP/1.1 101 Swi", json!([{ "vanish": "eof" }])),
        (
            "headers without end",
            "HTTP/1.1 101 S\r\n",
            json!([{ "bytes": hex_line(), "times": 40_000 }]),
        ),
    ] {
        checks
            .check(&format!("answer: {what} is an error"), move |stranger| async move {
                let plan = stranger.plan(steps).told("answer", json!({ "raw": raw }).to_string());
                match plan.connect_error().await? {
                    ConnectError::Http(_) => Seen::of(&plan).await.map(drop),
                    other => Err(format!("expected an error of HTTP, got: {other}").into()),
                }
            })
            .await;
    }

    for (what, raw) in [("silence", ""), ("half of it", "HTTP/1.1 101 Switching Protocols\r\nUpg")]
    {
        checks
            .check(
                &format!("answer: {what} is waited for, but not for long"),
                move |stranger| async move {
                    let plan =
                        stranger.plan(json!([])).told("answer", json!({ "raw": raw }).to_string());
                    let begin = Instant::now();
                    let error = plan.client().config(impatient()).await.err();
                    match error.ok_or("it connected")? {
                        ConnectError::HandshakeTimeout(time) => equal(time, PATIENCE, "time")?,
                        other => return Err(format!("expected a timeout, got: {other}").into()),
                    }
                    let took = begin.elapsed();
                    let in_time = PATIENCE <= took && took < PATIENCE + SLACK;
                    ensure(in_time, || format!("it took {took:?} instead of {PATIENCE:?}"))?;
                    Seen::of(&plan).await?.silent()
                },
            )
            .await;
    }
}

impl Plan {
    async fn connect_error(&self) -> Result<ConnectError> {
        Ok(self.client().await.err().ok_or("it connected")?)
    }
}

fn refusal(outcome: Result<WebSocket, ConnectError>) -> Result<HandshakeError> {
    match outcome {
        Err(ConnectError::Refused(error)) => Ok(error),
        other => Err(format!("expected a refusal, got {other:?}").into()),
    }
}

/// An answer of 403 with these headers, and nothing of an upgrade.
fn forbidden(mut headers: Value) -> String {
    for name in ["Upgrade", "Connection", "Sec-WebSocket-Accept"] {
        headers[name] = Value::Null;
    }
    json!({ "status": "403 Forbidden", "headers": headers }).to_string()
}

fn hex_line() -> String {
    super::hex("X-Header: and another one\r\n")
}

fn impatient() -> Config {
    Config::default().handshake_timeout(PATIENCE)
}
