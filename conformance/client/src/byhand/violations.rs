//! What a server must not send: each is answered with a close frame of its code, then EOF.
//!
//! Unread input is always pending behind the violation. A client that just drops its socket then resets
//! the connection, and the reset can destroy the close frame before the server has read it.

use serde_json::{Value, json};
use sockeye::ClosedBy;

use super::{BINARY, CLOSE, CONTINUATION, PING, PONG, Seen, TEXT, close_frame, frame, frame_but};
use crate::checks::{Checks, ensure, equal};

const KIB: usize = 1 << 10;
/// The longest message that a client takes unless told otherwise.
const MAX_MESSAGE: usize = 1 << 20;

pub(super) async fn check(checks: &mut Checks) {
    for (what, code, steps) in violations() {
        violated(checks, &what, code, steps, "{}").await;
    }
}

/// With this answer to the handshake, the last of these steps is against the rules.
pub(super) async fn violated(
    checks: &mut Checks,
    what: &str,
    code: u16,
    steps: Vec<Value>,
    answer: &str,
) {
    let answer = answer.to_owned();
    checks
        .check(&format!("violation: {what} is closed with {code}"), move |stranger| async move {
            // Sound by itself: a client that overlooks the violation takes this as a message.
            let pending = frame_but(BINARY, "", json!({ "zeros": 256 * KIB }));
            let plan = stranger.plan(steps.into_iter().chain([pending]).collect());
            let plan = plan.told("answer", answer);
            let mut ws = plan.connect().await?;
            let close = match ws.recv().await {
                Err(error) => error.close,
                Ok(message) => {
                    let length = message.map(|message| message.len());
                    return Err(format!("instead came a message of {length:?} bytes").into());
                }
            };
            equal((close.by, close.code.0), (ClosedBy::Local, code), "end")?;
            let seen = Seen::of(&plan).await?;
            let before = seen.closed(code)?;
            // A ping that was sound may have been answered.
            let others = before.iter().filter(|frame| frame.opcode != PONG).count();
            equal(others, 0, "number of frames before the close frame")?;
            let reason = seen.frames.last().map_or(0, |frame| frame.length);
            ensure(reason > 2, || "the server was told no reason".to_owned())
        })
        .await;
}

fn violations() -> Vec<(String, u16, Vec<Value>)> {
    let one = |what: &str, code, step| (what.to_owned(), code, vec![step]);
    let mut all = vec![
        one("a masked frame", 1002, frame_but(TEXT, "x", json!({ "masked": true }))),
        one(
            "a masked close frame",
            1002,
            frame_but(CLOSE, 1000_u16.to_be_bytes(), json!({ "masked": true })),
        ),
        one("a reserved data opcode", 1002, frame(0x3, "x")),
        one("a reserved control opcode", 1002, frame(0xb, "")),
        one("invalid UTF-8", 1007, frame(TEXT, b"\xc0\xaf")),
        one("a surrogate in UTF-8", 1007, frame(TEXT, b"\xed\xa0\x80")),
        one("a character cut short at the end of a text", 1007, frame(TEXT, b"\xe2\x82")),
        (
            "invalid UTF-8 in a later fragment".to_owned(),
            1007,
            vec![
                frame_but(TEXT, b"\xe2\x82", json!({ "fin": false })),
                frame(CONTINUATION, b"\x28"),
            ],
        ),
        one("a close payload of one byte", 1002, frame(CLOSE, b"\x03")),
        one("invalid UTF-8 in a close reason", 1007, close_frame(1000, b"\xff")),
        one("a fragmented ping", 1002, frame_but(PING, "x", json!({ "fin": false }))),
        one("a fragmented close", 1002, frame_but(CLOSE, "", json!({ "fin": false }))),
        one("a ping of 126 bytes", 1002, frame(PING, [0; 126])),
        one("a pong of 126 bytes", 1002, frame(PONG, [0; 126])),
        one("a continuation of nothing", 1002, frame(CONTINUATION, "x")),
        (
            "a new message inside a fragmented one".to_owned(),
            1002,
            vec![frame_but(TEXT, "one", json!({ "fin": false })), frame(TEXT, "two")],
        ),
        one("a length of 125 in 16 bits", 1002, sized(125, 2)),
        one("a length of 65535 in 64 bits", 1002, sized(65535, 8)),
        one("a 64-bit length with its top bit set", 1002, announced(1 << 63)),
        one("an announced message of one byte too many", 1009, announced(MAX_MESSAGE as u64 + 1)),
        one("an announced message of 4 EiB", 1009, announced(1 << 62)),
        (
            "fragments that add up to more than the maximum".to_owned(),
            1009,
            vec![
                frame_but(BINARY, "", json!({ "zeros": 600 * KIB, "fin": false })),
                frame_but(CONTINUATION, "", json!({ "zeros": 600 * KIB })),
            ],
        ),
        one("a flood of pings", 1008, {
            let mut flood = frame(PING, "");
            flood["times"] = json!(5000);
            flood
        }),
    ];
    for (bit, rsv) in [("RSV1", 4), ("RSV2", 2), ("RSV3", 1)] {
        all.push(one(bit, 1002, frame_but(TEXT, "x", json!({ "rsv": rsv }))));
        all.push(one(
            &format!("{bit} of a ping"),
            1002,
            frame_but(PING, "x", json!({ "rsv": rsv })),
        ));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        all.push(one(&format!("close code {code}"), 1002, close_frame(code, "")));
    }
    all
}

/// A sound message, but for the way in which its length is written.
fn sized(length: usize, length_bytes: u8) -> Value {
    frame_but(BINARY, "", json!({ "zeros": length, "length_bytes": length_bytes }))
}

/// The header of a frame that is to be so long.
fn announced(length: u64) -> Value {
    frame_but(BINARY, "", json!({ "length_bytes": 8, "announced": length }))
}
