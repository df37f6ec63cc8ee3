//! The end of a connection, from either side and in any way.

use serde_json::{Value, json};
use sockeye::{Close, CloseCode, ClosedBy, Message};

use super::{Seen, ended, receives};
use crate::checks::{Checks, ensure, equal};

/// The longest reason that fits into a close frame.
const LONGEST: &str = "A reason of the most bytes that a close frame can take beside its code, which is \
                       one hundred and twenty-three: so many ends";
const _: () = assert!(LONGEST.len() == 123);

pub(super) async fn check(checks: &mut Checks) {
    from_the_server(checks).await;
    from_this_side(checks).await;
    without_a_handshake(checks).await;
}

async fn from_the_server(checks: &mut Checks) {
    for (code, reason) in [
        (1000, ""),
        (1001, "going away"),
        (1011, "Grüße \u{1f9a6}"),
        (3000, "library"),
        (4999, LONGEST),
    ] {
        let what = format!("close: the server's {code}, a reason of {} bytes", reason.len());
        checks
            .check(&what, move |stranger| async move {
                let close = json!({ "close": [code, reason] });
                let plan = stranger.plan(json!([{ "text": "last words" }, close]));
                let mut ws = plan.connect().await?;
                receives(&mut ws, "last words").await?;
                equal(ws.recv().await?, None, "message")?;
                ended(&ws.socket().closed().await, ClosedBy::Peer, code, reason)?;
                ensure(ws.send("too late").await.is_err(), || "a message was sent".to_owned())?;
                let seen = Seen::of(&plan).await?;
                let close = seen.close.as_ref().ok_or("the server saw no end")?;
                // An answer may leave out the reason.
                seen.closed(code, if close.reason.is_empty() { "" } else { reason })
            })
            .await;
    }

    checks
        .check("close: the server's without a code", |stranger| async move {
            let plan = stranger.plan(json!([{ "close": [] }]));
            let mut ws = plan.connect().await?;
            equal(ws.recv().await?, None, "message")?;
            ended(&ws.socket().closed().await, ClosedBy::Peer, 1005, "")?;
            Seen::of(&plan).await?.closed(1005, "")
        })
        .await;
}

async fn from_this_side(checks: &mut Checks) {
    for (code, reason) in
        [(1000, ""), (1001, "page left"), (3000, "Grüße \u{1f9a6}"), (4999, LONGEST)]
    {
        let what = format!("close: this side's {code}, a reason of {} bytes", reason.len());
        checks
            .check(&what, move |stranger| async move {
                let plan = stranger.plan(json!([]));
                let mut ws = plan.connect().await?;
                let close = ws.close(CloseCode(code), reason).await;
                ended(&close, ClosedBy::Local, code, reason)?;
                Seen::of(&plan).await?.closed(code, reason)
            })
            .await;
    }

    checks
        .check("close: this side's without a code", |stranger| async move {
            let plan = stranger.plan(json!([]));
            let mut ws = plan.connect().await?;
            let close = ws.close(CloseCode::NO_STATUS, "").await;
            ended(&close, ClosedBy::Local, 1005, "")?;
            Seen::of(&plan).await?.closed(1005, "")
        })
        .await;

    checks
        .check("close: a reason that is too long is cut at a character", |stranger| async move {
            let plan = stranger.plan(json!([]));
            let mut ws = plan.connect().await?;
            // The 62nd would end at byte 124.
            ws.close(CloseCode::NORMAL, "é".repeat(100)).await;
            Seen::of(&plan).await?.closed(1000, &"é".repeat(61))
        })
        .await;

    checks
        .check("close: what was sent before it arrives", |stranger| async move {
            let plan = stranger.plan(json!([{ "listen": true }]));
            let mut ws = plan.connect().await?;
            let messages: Vec<_> = (0..100).map(|n| format!("{n} {}", "x".repeat(5000))).collect();
            for message in &messages {
                ws.socket().send(message);
            }
            let close = ws.close(CloseCode::NORMAL, "that was all").await;
            ended(&close, ClosedBy::Local, 1000, "that was all")?;
            let seen = Seen::of(&plan).await?;
            seen.closed(1000, "that was all")?;
            seen.received(messages.iter().map(Message::from))
        })
        .await;

    checks
        .check("close: a connection that is dropped is closed with 1001", |stranger| async move {
            let plan = stranger.plan(json!([]));
            let mut ws = plan.connect().await?;
            ws.send("left behind").await?;
            drop(ws);
            let seen = Seen::of(&plan).await?;
            seen.closed(1001, "")?;
            seen.received(["left behind".into()])
        })
        .await;
}

async fn without_a_handshake(checks: &mut Checks) {
    for how in ["eof", "reset"] {
        checks
            .check(&format!("break: the server vanishes ({how})"), move |stranger| async move {
                let plan = stranger.plan(json!([{ "text": "last words" }, { "vanish": how }]));
                let mut ws = plan.connect().await?;
                // A reset may overtake what was sent before it.
                let mut end = ws.recv().await;
                if let Ok(Some(message)) = &end {
                    equal(message, &Message::from("last words"), "message")?;
                    end = ws.recv().await;
                } else {
                    equal(how, "reset", "the way of an end that loses messages")?;
                }
                let Close { by, code, clean, .. } = end.err().ok_or("the end is clean")?.close;
                equal((by, code.0, clean), (ClosedBy::Network, 1006, false), "end")
            })
            .await;
    }

    checks
        .check("break: this side cuts, and the server sees no close frame", |stranger| async move {
            let plan = stranger.plan(Value::Array(Vec::new()));
            let ws = plan.connect().await?;
            ws.socket().terminate();
            let Close { by, code, clean, .. } = ws.socket().closed().await;
            equal((by, code.0, clean), (ClosedBy::Network, 1006, false), "end")?;
            let seen = Seen::of(&plan).await?.close.ok_or("the server saw no end")?;
            equal(seen.code, 1006, "close code at the server")
        })
        .await;
}
