//! Compression with a server that speaks it by hand: odd answers, odd messages, broken rules.

use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use sockeye::{CloseCode, Compress, Config, ConnectError, HandshakeFault, Limits, Message};

use super::{
    BINARY, CLOSE, CONTINUATION, PING, PONG, Seen, TEXT, close_frame, frame, frame_but,
    receives_all, violations::violated,
};
use crate::{
    checks::{Checks, ensure, equal},
    stranger::Plan,
    texts::{digits, prose},
};

const NAME: &str = "permessage-deflate";
/// The message is compressed (RFC 7692 section 6).
const RSV1: u8 = 4;
/// The examples of RFC 7692 section 7.2.3: "Hello", and once more by reference to the first.
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
const REFERENCE: [u8; 5] = [0xf2, 0x00, 0x11, 0x00, 0x00];
/// The longest message that a client takes unless told otherwise.
const MAX_MESSAGE: usize = 1 << 20;

pub(super) async fn check(checks: &mut Checks) {
    offers(checks).await;
    answers(checks).await;
    wrong_answers(checks).await;
    sent(checks).await;
    received(checks).await;
    limits(checks).await;
    broken_rules(checks).await;
}

/// The server agrees to compression with these parameters.
fn agreeing(plan: Plan, parameters: &str) -> Plan {
    plan.told("answer", agreement(parameters))
}

fn agreement(parameters: &str) -> String {
    answer(&format!("{NAME}{parameters}"))
}

fn answer(extensions: &str) -> String {
    json!({ "headers": { "Sec-WebSocket-Extensions": extensions } }).to_string()
}

/// The step that sends the first frame of a compressed message.
fn compressed(opcode: u8, payload: impl AsRef<[u8]>) -> Value {
    frame_but(opcode, payload, json!({ "rsv": RSV1 }))
}

async fn offers(checks: &mut Checks) {
    checks
        .check("offer: what browsers offer, or nothing", |stranger| async move {
            for (offers, expected) in
                [(true, Some("permessage-deflate; client_max_window_bits")), (false, None)]
            {
                let plan = stranger.plan(json!([frame(TEXT, "hello"), close_frame(1000, "")]));
                let client = plan.client();
                let client = if offers { client } else { client.no_compression() };
                let mut ws = client.await?;
                equal(ws.socket().compression(), None, "what was agreed on")?;
                receives_all(&mut ws, &["hello"]).await?;
                let seen = Seen::of(&plan).await?;
                equal(seen.header("sec-websocket-extensions"), expected, "offer")?;
            }
            Ok(())
        })
        .await;
}

async fn answers(checks: &mut Checks) {
    for parameters in [
        "",
        "; server_no_context_takeover",
        "; client_no_context_takeover",
        "; server_no_context_takeover; client_no_context_takeover",
        "; server_max_window_bits=8",
        "; client_max_window_bits=8",
        "; server_max_window_bits=15; client_max_window_bits=15",
        "; server_no_context_takeover; server_max_window_bits=10; client_max_window_bits=9",
    ] {
        checks
            .check(
                &format!("answer: {NAME}{parameters} is agreed to"),
                move |stranger| async move {
                    let plan = agreeing(stranger.plan(json!([])), parameters);
                    let ws = plan.connect().await?;
                    let agreed = ws.socket().compression().ok_or("nothing was agreed on")?;
                    equal(agreed.to_string(), format!("{NAME}{parameters}"), "what was agreed on")
                },
            )
            .await;
    }
}

async fn wrong_answers(checks: &mut Checks) {
    for extensions in [
        "permessage-deflate; unknown",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=08",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_max_window_bits=10; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate, permessage-deflate",
        "permessage-deflate;",
        "permessage-deflate; =10",
        "permessage-deflate; server_max_window_bits=\"10",
    ] {
        checks
            .check(&format!("answer: {extensions} is an error"), move |stranger| async move {
                let plan = stranger.plan(json!([frame(TEXT, "anyone?")]));
                let plan = plan.told("answer", answer(extensions));
                match plan.client().await {
                    Err(ConnectError::Refused(error)) => {
                        let is_told = matches!(error.reason, HandshakeFault::Deflate(_));
                        ensure(is_told, || format!("the reason is {:?}", error.reason))?;
                    }
                    other => return Err(format!("expected a refusal, got {other:?}").into()),
                }
                Seen::of(&plan).await?.silent()
            })
            .await;
    }

    for (what, extensions, offers) in [
        ("compression that was not offered", NAME, false),
        ("another extension beside compression", "permessage-deflate, x-other", true),
    ] {
        checks
            .check(&format!("answer: {what} is an error"), move |stranger| async move {
                let plan = stranger.plan(json!([frame(TEXT, "anyone?")]));
                let plan = plan.told("answer", answer(extensions));
                let client = plan.client();
                let outcome = if offers { client.await } else { client.no_compression().await };
                match outcome {
                    Err(ConnectError::Refused(error)) => {
                        let is_told = matches!(error.reason, HandshakeFault::Extension(_));
                        ensure(is_told, || format!("the reason is {:?}", error.reason))?;
                    }
                    other => return Err(format!("expected a refusal, got {other:?}").into()),
                }
                Seen::of(&plan).await?.silent()
            })
            .await;
    }
}

/// What the client sends. The server inflates it in no more than the window agreed on.
async fn sent(checks: &mut Checks) {
    for (parameters, takes_over) in [
        ("", true),
        ("; client_no_context_takeover", false),
        // Windows that do not reach back over a whole message of this length.
        ("; client_max_window_bits=8", false),
        ("; client_max_window_bits=9", false),
        ("; client_max_window_bits=12", true),
        ("; client_max_window_bits=15; server_no_context_takeover", true),
    ] {
        checks
            .check(
                &format!("sent: messages under {NAME}{parameters}"),
                move |stranger| async move {
                    let plan = agreeing(stranger.plan(json!([])), parameters);
                    let mut ws = plan.connect().await?;
                    let mut messages = vec![digits(2000, 0), digits(2000, 0)];
                    messages.extend((0..30).map(|n| prose(n * 50, n % 3)));
                    // What was before recurs within the window, around its end, and beyond it.
                    let distances = [100, 200, 250, 300, 500, 1000, 3000, 4000, 5000, 20_000];
                    messages.extend(distances.map(|distance| digits(distance, distance).repeat(3)));
                    for message in &messages {
                        ws.send(message).await?;
                    }
                    ws.close(CloseCode::NORMAL, "").await;
                    let seen = Seen::of(&plan).await?;
                    let frames = seen.closed(1000)?;
                    equal(frames.len(), messages.len(), "number of frames")?;
                    for (frame, message) in frames.iter().zip(&messages) {
                        equal((frame.opcode, frame.fin), (TEXT, true), "opcode and FIN")?;
                        if frame.rsv == 0 {
                            equal(frame.length, message.len(), "length")?;
                            continue;
                        }
                        equal(frame.rsv, RSV1, "RSV")?;
                        ensure(frame.length < message.len(), || "it got no shorter".to_owned())?;
                        equal(frame.inflated.as_ref(), Some(&sha1(message)), "what was inflated")?;
                    }
                    let lengths: Vec<_> = frames.iter().map(|frame| frame.length).collect();
                    equal(lengths[1] < lengths[0] / 2, takes_over, "the second is shorter")?;
                    let long = frames.last().ok_or("there are no frames")?;
                    equal(long.rsv, RSV1, "RSV of the longest")
                },
            )
            .await;
    }

    checks
        .check("sent: only messages of 256 bytes and more are compressed", |stranger| async move {
            let plan = agreeing(stranger.plan(json!([])), "");
            let mut ws = plan.connect().await?;
            for length in [0, 1, 255, 256] {
                ws.send("a".repeat(length)).await?;
            }
            ws.close(CloseCode::NORMAL, "").await;
            let seen = Seen::of(&plan).await?;
            let rsv: Vec<_> = seen.closed(1000)?.iter().map(|frame| frame.rsv).collect();
            equal(rsv, [0, 0, 0, RSV1], "RSV")
        })
        .await;

    checks
        .check("sent: Never and Always are obeyed", |stranger| async move {
            let plan = agreeing(stranger.plan(json!([])), "");
            let mut ws = plan.connect().await?;
            ws.send_with(prose(1000, 0), Compress::Never).await?;
            ws.send_with("a".repeat(50), Compress::Always).await?;
            ws.send_with(prose(1000, 0), Compress::Auto).await?;
            ws.close(CloseCode::NORMAL, "").await;
            let seen = Seen::of(&plan).await?;
            let rsv: Vec<_> = seen.closed(1000)?.iter().map(|frame| frame.rsv).collect();
            equal(rsv, [0, RSV1, RSV1], "RSV")
        })
        .await;
}

async fn received(checks: &mut Checks) {
    let first = |payload: &[u8]| frame_but(TEXT, payload, json!({ "rsv": RSV1, "fin": false }));
    let final_hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let stored = [b"\x00\x05\x00\xfa\xff", &b"Hello\x00"[..]].concat();
    let two_blocks = [0xf2, 0x48, 0x05, 0, 0, 0, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    for (what, steps, messages) in [
        ("one block", vec![compressed(TEXT, HELLO)], vec!["Hello"]),
        ("a stored block", vec![compressed(TEXT, stored)], vec!["Hello"]),
        ("a final block", vec![compressed(TEXT, final_hello)], vec!["Hello"]),
        (
            "final blocks one behind the other",
            vec![compressed(TEXT, [&final_hello[..7], &final_hello[..]].concat())],
            vec!["HelloHello"],
        ),
        ("two blocks", vec![compressed(TEXT, two_blocks)], vec!["Hello"]),
        ("an empty message of one byte 0x00", vec![compressed(TEXT, [0])], vec![""]),
        (
            "a reference to the message before",
            vec![compressed(TEXT, HELLO), compressed(TEXT, REFERENCE)],
            vec!["Hello", "Hello"],
        ),
        (
            "a reference over an uncompressed, an empty and a final one",
            vec![
                compressed(TEXT, HELLO),
                frame(TEXT, "plain"),
                compressed(TEXT, [0]),
                compressed(TEXT, [0x03, 0x00, 0x00]),
                compressed(TEXT, REFERENCE),
            ],
            vec!["Hello", "plain", "", "", "Hello"],
        ),
        (
            "fragments with pings between them",
            vec![
                first(&HELLO[..3]),
                frame(PING, "one"),
                json!({ "await": PONG }),
                frame_but(CONTINUATION, "", json!({ "fin": false })),
                frame(PING, "two"),
                json!({ "await": PONG }),
                frame(CONTINUATION, &HELLO[3..]),
                compressed(TEXT, REFERENCE),
            ],
            vec!["Hello", "Hello"],
        ),
        ("byte by byte", vec![compressed(TEXT, HELLO), json!({ "slowly": true })], vec!["Hello"]),
    ] {
        let what = format!("received: {what}");
        checks
            .check(&what, move |stranger| async move {
                let steps = steps.into_iter().chain([close_frame(1000, "")]);
                let plan = agreeing(stranger.plan(steps.collect()), "");
                let mut ws = plan.connect().await?;
                receives_all(&mut ws, &messages).await?;
                Seen::of(&plan).await?.closed(1000).map(drop)
            })
            .await;
    }
}

/// The step that sends a compressed message of so many zeros.
fn zeros(size: usize) -> Value {
    frame_but(BINARY, "", json!({ "zeros": size, "compressed": true }))
}

async fn limits(checks: &mut Checks) {
    checks
        .check("limit: a message of exactly the maximum passes", |stranger| async move {
            let steps = json!([zeros(MAX_MESSAGE), close_frame(1000, "")]);
            let plan = agreeing(stranger.plan(steps), "");
            let mut ws = plan.connect().await?;
            equal(ws.recv().await?, Some(Message::from(vec![0; MAX_MESSAGE])), "message")?;
            receives_all(&mut ws, &[]).await
        })
        .await;

    checks
        .check("limit: how much a message may grow", |stranger| async move {
            let plan = agreeing(stranger.plan(json!([zeros(4096), zeros(100_000)])), "");
            let config = Config::default().limits(Limits::default().inflation(100));
            let mut ws = plan.client().config(config).await?;
            equal(ws.recv().await?, Some(Message::from(vec![0; 4096])), "message")?;
            let error = ws.recv().await.err().ok_or("the message came")?;
            equal(error.close.code.0, 1009, "close code")
        })
        .await;
}

async fn broken_rules(checks: &mut Checks) {
    let first = frame_but(TEXT, &HELLO[..3], json!({ "rsv": RSV1, "fin": false }));
    let many_final = [&[0x03, 0x00].repeat(3000)[..], &[0x00]].concat();
    for (what, code, steps) in [
        (
            "RSV1 on a continuation",
            1002,
            vec![first, frame_but(CONTINUATION, &HELLO[3..], json!({ "rsv": RSV1 }))],
        ),
        (
            "RSV1 only on a continuation",
            1002,
            vec![
                frame_but(TEXT, "Hel", json!({ "fin": false })),
                frame_but(CONTINUATION, HELLO, json!({ "rsv": RSV1 })),
            ],
        ),
        ("RSV1 on a ping", 1002, vec![compressed(PING, HELLO)]),
        ("RSV1 on a close frame", 1002, vec![compressed(CLOSE, 1000_u16.to_be_bytes())]),
        ("RSV2 beside RSV1", 1002, vec![frame_but(TEXT, HELLO, json!({ "rsv": 6 }))]),
        ("RSV3 without RSV1", 1002, vec![frame_but(TEXT, "x", json!({ "rsv": 1 }))]),
        ("a block of the reserved type", 1007, vec![compressed(TEXT, [0xff; 4])]),
        ("a message that breaks off", 1007, vec![compressed(TEXT, &HELLO[..4])]),
        ("a reference to before the first message", 1007, vec![compressed(TEXT, REFERENCE)]),
        (
            "text that is not UTF-8",
            1007,
            vec![frame_but(TEXT, b"\xc0\xaf", json!({ "compressed": true }))],
        ),
        ("a flood of final blocks", 1008, vec![compressed(TEXT, many_final)]),
        ("one byte more than the maximum", 1009, vec![zeros(MAX_MESSAGE + 1)]),
        ("a bomb of 100 MiB", 1009, vec![zeros(100 * MAX_MESSAGE)]),
    ] {
        violated(checks, &format!("compressed: {what}"), code, steps, &agreement("")).await;
    }

    checks
        .check(
            "violation: a reference that server_no_context_takeover forbids",
            |stranger| async move {
                let steps = json!([compressed(TEXT, HELLO), compressed(TEXT, REFERENCE)]);
                let plan = agreeing(stranger.plan(steps), "; server_no_context_takeover");
                let mut ws = plan.connect().await?;
                equal(ws.recv().await?, Some(Message::from("Hello")), "message")?;
                let error = ws.recv().await.err().ok_or("the second came, too")?;
                equal(error.close.code.0, 1007, "close code")?;
                Seen::of(&plan).await?.closed(1007).map(drop)
            },
        )
        .await;
}

fn sha1(message: &str) -> String {
    Sha1::digest(message).iter().map(|byte| format!("{byte:02x}")).collect()
}
