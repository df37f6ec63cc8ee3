//! What this side writes, frame by frame.

use std::{collections::HashSet, time::Duration};

use serde_json::json;
use sockeye::{CloseCode, ClosedBy, Config};

use super::{
    BINARY, CONTINUATION, PING, PONG, Seen, TEXT, close_frame, frame, frame_but, hex, receives_all,
};
use crate::checks::{Checks, ensure, equal};

/// Each way to write a length, at its first and last.
const LENGTHS: [(usize, usize); 6] =
    [(0, 0), (125, 0), (126, 2), (65535, 2), (65536, 8), (1 << 20, 8)];
const KEYS: usize = 100;
const INTERVAL: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_millis(400);

pub(super) async fn check(checks: &mut Checks) {
    checks
        .check("request: its line, and a new key of 16 bytes each time", |stranger| async move {
            let mut keys = HashSet::new();
            for _ in 0..3 {
                let plan = stranger.plan(json!([]));
                plan.connect().await?.close(CloseCode::NORMAL, "").await;
                let seen = Seen::of(&plan).await?;
                let expected = format!("GET {} HTTP/1.1", plan.target());
                equal(&seen.request_line, &expected, "request line")?;
                let key = seen.header("sec-websocket-key").ok_or("there is no key")?;
                // 16 bytes are 22 digits of base64 and two of padding.
                let digits = key.strip_suffix("==").unwrap_or_default();
                let is_digit = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
                ensure(digits.len() == 22 && digits.chars().all(is_digit), || {
                    format!("key {key}")
                })?;
                ensure(keys.insert(key.to_owned()), || format!("key {key} twice"))?;
            }
            Ok(())
        })
        .await;

    checks
        .check("frames: each is masked, with a key of its own", |stranger| async move {
            let plan = stranger.plan(json!([]));
            let mut ws = plan.connect().await?;
            for _ in 0..KEYS {
                ws.send("the same").await?;
            }
            ws.close(CloseCode::NORMAL, "").await;
            let seen = Seen::of(&plan).await?;
            let messages = seen.closed(1000)?;
            equal(messages.len(), KEYS, "number of frames")?;
            let mut keys = HashSet::new();
            for frame in &seen.frames {
                let key = frame.key.as_ref().ok_or("a frame is not masked")?;
                ensure(keys.insert(key), || format!("masking key {key} twice"))?;
            }
            for frame in messages {
                equal(&frame.payload, &hex("the same"), "payload")?;
            }
            Ok(())
        })
        .await;

    checks
        .check("frames: whole, with the shortest form of their length", |stranger| async move {
            let plan = stranger.plan(json!([]));
            let mut ws = plan.connect().await?;
            for (length, _) in LENGTHS {
                ws.send(vec![0x2a; length]).await?;
                ws.send("x".repeat(length)).await?;
            }
            ws.close(CloseCode::NORMAL, "").await;
            let seen = Seen::of(&plan).await?;
            let frames = seen.closed(1000)?.iter();
            let actual = frames.map(|f| (f.opcode, f.fin, f.rsv, f.length, f.length_bytes));
            let expected = LENGTHS.iter().flat_map(|&(length, length_bytes)| {
                [BINARY, TEXT].map(|opcode| (opcode, true, 0, length, length_bytes))
            });
            equal(actual.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "frames")
        })
        .await;

    checks
        .check("pongs: with their pings' payloads, between fragments too", |stranger| async move {
            let all: Vec<u8> = (0..125).collect();
            let steps = [
                frame_but(TEXT, "one", json!({ "fin": false })),
                frame(PING, &all),
                json!({ "await": PONG }),
                frame_but(CONTINUATION, "", json!({ "fin": false })),
                frame(PING, ""),
                json!({ "await": PONG }),
                frame(CONTINUATION, " two"),
                close_frame(1000, ""),
            ];
            let plan = stranger.plan(steps.into_iter().collect());
            let mut ws = plan.connect().await?;
            receives_all(&mut ws, &["one two"]).await?;
            let seen = Seen::of(&plan).await?;
            let pongs: Vec<_> =
                seen.closed(1000)?.iter().map(|f| (f.opcode, f.fin, &*f.payload)).collect();
            equal(pongs, [(PONG, true, &*hex(&all)), (PONG, true, "")], "frames")
        })
        .await;

    checks
        .check("pongs: one that nobody asked for gets no answer", |stranger| async move {
            let steps = [frame(PONG, "unasked"), frame(TEXT, "and on"), close_frame(1000, "")];
            let plan = stranger.plan(steps.into_iter().collect());
            let mut ws = plan.connect().await?;
            receives_all(&mut ws, &["and on"]).await?;
            let seen = Seen::of(&plan).await?;
            equal(seen.closed(1000)?.len(), 0, "number of frames before the close frame")
        })
        .await;

    keep_alive(checks).await;
}

async fn keep_alive(checks: &mut Checks) {
    checks
        .check(
            "keep-alive: a silent server is asked, and its pong is enough",
            |stranger| async move {
                let once = [json!({ "await": PING }), frame(PONG, "")];
                let steps =
                    [once.clone(), once].concat().into_iter().chain([frame(TEXT, "still here")]);
                let plan = stranger.plan(steps.chain([close_frame(1000, "")]).collect());
                let config = Config::default().keep_alive(INTERVAL, DEADLINE);
                let mut ws = plan.client().config(config).await?;
                receives_all(&mut ws, &["still here"]).await?;
                Seen::of(&plan).await?.closed(1000).map(drop)
            },
        )
        .await;

    checks
        .check("keep-alive: a server that does not answer is given up", |stranger| async move {
            let plan = stranger.plan(json!([]));
            let config = Config::default().keep_alive(INTERVAL, DEADLINE);
            let mut ws = plan.client().config(config).await?;
            let close = ws.recv().await.err().ok_or("the end is clean")?.close;
            equal((close.by, close.code.0), (ClosedBy::Network, 1006), "end")?;
            let seen = Seen::of(&plan).await?;
            let opcodes: Vec<_> = seen.frames.iter().map(|frame| frame.opcode).collect();
            equal(opcodes, [PING], "frames")
        })
        .await;
}
