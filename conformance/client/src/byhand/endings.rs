//! The end of a connection, down to TCP.

use std::time::{Duration, Instant};

use serde_json::json;
use sockeye::{Close, CloseCode, ClosedBy, Config, Message};

use super::{BINARY, Seen, TEXT, bytes, close_frame, frame, frame_but, hex, receives_all};
use crate::checks::{Checks, ensure, equal};

/// How long the closing may take where the server does not do its part.
const PATIENCE: Duration = Duration::from_millis(500);
/// A deadline may be missed by so much.
const SLACK: Duration = Duration::from_secs(1);
/// All codes that may be on the wire, but for those between 3000 and 4999.
const CODES: [u16; 15] =
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4000, 4999];

pub(super) async fn check(checks: &mut Checks) {
    closing_handshake(checks).await;
    negligent_servers(checks).await;
    broken_off(checks).await;
}

async fn closing_handshake(checks: &mut Checks) {
    checks
        .check("close: every code comes back", |stranger| async move {
            for code in CODES {
                let plan = stranger.plan(json!([close_frame(code, "because")]));
                let mut ws = plan.connect().await?;
                receives_all(&mut ws, &[]).await?;
                let Close { by, code: actual, reason, clean, .. } = ws.socket().closed().await;
                equal((by, actual.0, clean), (ClosedBy::Peer, code, true), "end")?;
                equal(reason, "because", "reason")?;
                Seen::of(&plan).await?.closed(code)?;
            }
            Ok(())
        })
        .await;

    checks
        .check("close: after the server's, TCP is left for it to end", |stranger| async move {
            let plan = stranger.plan(json!([close_frame(1000, "")])).told("closing", "tempting");
            let mut ws = plan.connect().await?;
            receives_all(&mut ws, &[]).await?;
            let seen = Seen::of(&plan).await?;
            seen.closed(1000)?;
            equal(seen.first.as_deref(), Some("server"), "who ended TCP first")
        })
        .await;

    checks
        .check(
            "close: after this side's, TCP is left for the server to end",
            |stranger| async move {
                let plan = stranger.plan(json!([])).told("closing", "tempting");
                let mut ws = plan.connect().await?;
                let close = ws.close(CloseCode::NORMAL, "").await;
                ensure(close.clean, || format!("the end is {close:?}"))?;
                let seen = Seen::of(&plan).await?;
                seen.closed(1000)?;
                equal(seen.first.as_deref(), Some("server"), "who ended TCP first")
            },
        )
        .await;

    checks
        .check(
            "close: what came before the server's can still be answered",
            |stranger| async move {
                let question = frame(TEXT, "question");
                let plan = stranger.plan(json!([question, close_frame(1000, "")]));
                let mut ws = plan.connect().await?;
                equal(ws.recv().await?, Some(Message::from("question")), "message")?;
                ws.send("answer").await?;
                receives_all(&mut ws, &[]).await?;
                let seen = Seen::of(&plan).await?;
                let before: Vec<_> =
                    seen.closed(1000)?.iter().map(|f| (f.opcode, &*f.payload)).collect();
                equal(before, [(TEXT, &*hex("answer"))], "frames before the close frame")
            },
        )
        .await;

    checks
        .check("close: what comes behind it is not heard", |stranger| async move {
            let late = [frame(TEXT, "too late"), bytes(b"\xff\xff\xff")];
            let steps = [frame(TEXT, "in time"), close_frame(1000, "")].into_iter().chain(late);
            let plan = stranger.plan(steps.collect());
            let mut ws = plan.connect().await?;
            receives_all(&mut ws, &["in time"]).await?;
            Seen::of(&plan).await?.closed(1000).map(drop)
        })
        .await;

    checks
        .check("close: what comes after this side's is not heard", |stranger| async move {
            let steps = json!([{ "await": super::CLOSE }, frame(TEXT, "too late")]);
            let plan = stranger.plan(steps);
            let mut ws = plan.connect().await?;
            ws.socket().close(CloseCode(4000), "bye");
            receives_all(&mut ws, &[]).await?;
            Seen::of(&plan).await?.closed(4000).map(drop)
        })
        .await;
}

async fn negligent_servers(checks: &mut Checks) {
    checks
        .check(
            "close: a server that does not answer it is waited for, not for long",
            |stranger| async move {
                let plan = stranger.plan(json!([])).told("closing", "unanswered");
                let mut ws = plan.client().config(impatient()).await?;
                let begin = Instant::now();
                let Close { by, code, clean, .. } = ws.close(CloseCode(4000), "").await;
                let took = begin.elapsed();
                equal((by, code.0, clean), (ClosedBy::Local, 4000, false), "end")?;
                let in_time = PATIENCE <= took && took < PATIENCE + SLACK;
                ensure(in_time, || format!("it took {took:?} instead of {PATIENCE:?}"))?;
                let seen = Seen::of(&plan).await?;
                seen.closed(4000)?;
                equal(seen.first.as_deref(), Some("client"), "who ended TCP first")
            },
        )
        .await;

    checks
        .check("close: nor is one that keeps TCP open behind its answer", |stranger| async move {
            let plan = stranger.plan(json!([])).told("closing", "kept");
            let mut ws = plan.client().config(impatient()).await?;
            let begin = Instant::now();
            let close = ws.close(CloseCode(4000), "").await;
            ensure(close.clean, || format!("the end is {close:?}"))?;
            let seen = Seen::of(&plan).await?;
            let took = begin.elapsed();
            ensure(took < PATIENCE + SLACK, || format!("TCP was open for {took:?}"))?;
            seen.closed(4000)?;
            equal(seen.first.as_deref(), Some("client"), "who ended TCP first")
        })
        .await;

    checks
        .check("close: a dropped connection does not wait for ever either", |stranger| async move {
            let plan = stranger.plan(json!([])).told("closing", "unanswered");
            drop(plan.client().config(impatient()).await?);
            let begin = Instant::now();
            let seen = Seen::of(&plan).await?;
            let took = begin.elapsed();
            ensure(took < PATIENCE + SLACK, || format!("TCP was open for {took:?}"))?;
            seen.closed(1001).map(drop)
        })
        .await;
}

async fn broken_off(checks: &mut Checks) {
    for (what, last) in [
        ("between two messages", json!([])),
        ("within a header", json!([bytes(b"\x82\x7e\x01")])),
        ("within a message", json!([bytes(b"\x82\x05abc")])),
        ("within a fragmented message", json!([frame_but(BINARY, "abc", json!({ "fin": false }))])),
    ] {
        checks
            .check(&format!("break: the end of TCP {what}"), move |stranger| async move {
                let first = [frame(TEXT, "first")];
                let last = last.as_array().cloned().unwrap_or_default();
                let steps = first.into_iter().chain(last).chain([json!({ "vanish": "eof" })]);
                let plan = stranger.plan(steps.collect());
                let mut ws = plan.connect().await?;
                equal(ws.recv().await?, Some(Message::from("first")), "message")?;
                let close = ws.recv().await.err().ok_or("the end is clean")?.close;
                let Close { by, code, clean, .. } = close;
                equal((by, code.0, clean), (ClosedBy::Network, 1006, false), "end")?;
                Seen::of(&plan).await?.silent()
            })
            .await;
    }
}

fn impatient() -> Config {
    Config::default().close_timeout(PATIENCE)
}
