//! Messages of both kinds, sizes and shapes.

use serde_json::json;
use sockeye::{CloseCode, ClosedBy, Config, Limits, Message};

use super::{Seen, echoes, ended, finish, noise, receives};
use crate::checks::{Checks, ensure, equal};

const MIB: usize = 1 << 20;
/// The last size of each way to write a frame's length, and its neighbours.
const SIZES: [usize; 8] = [0, 1, 125, 126, 127, 65535, 65536, MIB];
const ACCENTS: &str = "Grüße, здравствуй, 你好, שלום, \0 and \u{1f9a6}\u{1f44d}\u{1f3fd}";
const BURST: usize = 2000;
const CONNECTIONS: usize = 100;
const MESSAGES: usize = 50;

pub(super) async fn check(checks: &mut Checks) {
    one_at_a_time(checks).await;
    bursts(checks).await;
    fragments(checks).await;
    limits(checks).await;
}

async fn one_at_a_time(checks: &mut Checks) {
    checks
        .check("text: empty, beyond ASCII, again", |stranger| async move {
            let plan = stranger.plan(json!([]));
            let mut ws = plan.connect().await?;
            for text in ["", ACCENTS, "again"] {
                echoes(&mut ws, text).await?;
            }
            finish(&plan, ws).await?.received(["", ACCENTS, "again"].map(Message::from))
        })
        .await;

    for size in SIZES {
        checks
            .check(&format!("binary: {size} bytes"), move |stranger| async move {
                let plan = stranger.plan(json!([]));
                let mut ws = plan.connect().await?;
                echoes(&mut ws, noise(size)).await?;
                finish(&plan, ws).await?.received([noise(size).into()])
            })
            .await;
    }

    for (kind, message) in [
        ("binary", Message::from(noise(10 * MIB))),
        ("text", Message::from("aé€\u{1f9a6}".repeat(MIB))),
    ] {
        checks
            .check(&format!("{kind}: 10 MiB"), move |stranger| async move {
                let plan = stranger.plan(json!([]));
                let mut ws = plan.client().config(up_to(10 * MIB)).await?;
                echoes(&mut ws, message.clone()).await?;
                finish(&plan, ws).await?.received([message])
            })
            .await;
    }
}

async fn bursts(checks: &mut Checks) {
    checks
        .check(&format!("burst: {BURST} messages at once, in order"), |stranger| async move {
            let plan = stranger.plan(json!([]));
            let mut ws = plan.connect().await?;
            let messages: Vec<_> = (0..BURST).map(|number| format!("message {number}")).collect();
            let socket = ws.socket();
            for message in &messages {
                socket.send(message);
            }
            for message in &messages {
                receives(&mut ws, message).await?;
            }
            finish(&plan, ws).await?.received(messages.iter().map(Message::from))
        })
        .await;

    checks
        .check("burst: from the server, right behind the handshake", |stranger| async move {
            let plan = stranger.plan(json!([{ "numbers": BURST }]));
            let mut ws = plan.connect().await?;
            for number in 0..BURST {
                receives(&mut ws, number.to_string()).await?;
            }
            finish(&plan, ws).await?.received([])
        })
        .await;

    let what =
        format!("load: {CONNECTIONS} connections at once, {MESSAGES} messages each, in order");
    checks
        .check(&what, |stranger| async move {
            let mut connections = tokio::task::JoinSet::new();
            for connection in 0..CONNECTIONS {
                let plan = stranger.plan(json!([]));
                connections.spawn(async move {
                    let mut ws = plan.connect().await?;
                    let text = |number| format!("connection {connection}, message {number}");
                    let socket = ws.socket();
                    for number in 0..MESSAGES {
                        socket.send(text(number));
                    }
                    for number in 0..MESSAGES {
                        receives(&mut ws, text(number)).await?;
                    }
                    finish(&plan, ws).await?.received((0..MESSAGES).map(|n| text(n).into()))
                });
            }
            while let Some(outcome) = connections.join_next().await {
                outcome??;
            }
            Ok(())
        })
        .await;
}

async fn fragments(checks: &mut Checks) {
    for size in [1, 7] {
        checks
            .check(&format!("fragments: text in pieces of {size}"), move |stranger| async move {
                let step = json!({ "fragments": ACCENTS, "size": size, "kind": "text" });
                let plan = stranger.plan(json!([step]));
                let mut ws = plan.connect().await?;
                receives(&mut ws, ACCENTS).await?;
                echoes(&mut ws, "and on").await?;
                finish(&plan, ws).await.map(drop)
            })
            .await;
    }

    checks
        .check("fragments: binary", |stranger| async move {
            let text = "0123456789".repeat(100);
            let step = json!({ "fragments": &text, "size": 300, "kind": "binary" });
            let plan = stranger.plan(json!([step]));
            let mut ws = plan.connect().await?;
            receives(&mut ws, text.as_bytes()).await?;
            finish(&plan, ws).await.map(drop)
        })
        .await;

    checks
        .check("fragments: pings between them are answered at once", |stranger| async move {
            let step =
                json!({ "fragments": ACCENTS, "size": 16, "kind": "text", "ping": "between" });
            let plan = stranger.plan(json!([step]));
            let mut ws = plan.connect().await?;
            receives(&mut ws, ACCENTS).await?;
            // The server goes on only when the pong has come.
            let seen = finish(&plan, ws).await?;
            let pieces = ACCENTS.len().div_ceil(16);
            equal(seen.pongs, vec!["between"; pieces], "pongs that the server got")
        })
        .await;
}

async fn limits(checks: &mut Checks) {
    checks
        .check("limit: a message of exactly the default maximum passes", |stranger| async move {
            let plan = stranger.plan(json!([{ "zeros": MIB }]));
            let mut ws = plan.connect().await?;
            receives(&mut ws, vec![0; MIB]).await?;
            finish(&plan, ws).await.map(drop)
        })
        .await;

    checks
        .check("limit: one byte more is closed with 1009", |stranger| async move {
            let plan = stranger.plan(json!([{ "text": "before" }, { "zeros": MIB + 1 }]));
            let mut ws = plan.connect().await?;
            receives(&mut ws, "before").await?;
            let error = ws.recv().await.err().ok_or("the message came")?;
            equal(error.close.code, CloseCode::TOO_BIG, "close code")?;
            let seen = Seen::of(&plan).await?.close.ok_or("the server saw no end")?;
            equal(seen.code, 1009, "close code at the server")?;
            ensure(!seen.reason.is_empty(), || "the server got no reason".to_owned())
        })
        .await;

    checks
        .check("limit: raised, larger messages pass", |stranger| async move {
            let plan = stranger.plan(json!([{ "zeros": 3 * MIB }, { "close": [1000, ""] }]));
            let mut ws = plan.client().config(up_to(3 * MIB)).await?;
            receives(&mut ws, vec![0; 3 * MIB]).await?;
            equal(ws.recv().await?, None, "message")?;
            ended(&ws.socket().closed().await, ClosedBy::Peer, 1000, "")
        })
        .await;
}

fn up_to(bytes: usize) -> Config {
    Config::default().limits(Limits::default().message_size(bytes))
}
