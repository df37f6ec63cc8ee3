//! Messages that travel compressed, with a tap that sees what is on the wire.

use serde_json::{Value, json};
use sockeye::{Message, Result};

use super::{echoes, finish, noise, receives};
use crate::{
    checks::{Checks, ensure, equal},
    stranger::{Plan, Stranger},
    tap::Tap,
    texts::{digits, prose},
};

/// The message is compressed (RFC 7692 section 6).
const RSV1: u8 = 4;
const OFFER: &str = "permessage-deflate; client_max_window_bits";
/// Of a message on the wire, one of these was in it.
const FEW: usize = 4;

pub(super) async fn check(checks: &mut Checks) {
    not_offered(checks).await;
    if checks.offers_compression() {
        on_the_wire(checks).await;
        parameters(checks).await;
    }
}

/// A plan whose connection goes through a tap.
async fn tapped(stranger: &Stranger, steps: Value) -> Result<(Plan, Tap)> {
    let tap = Tap::before(stranger.address()).await?;
    Ok((stranger.plan(steps).at(tap.authority()), tap))
}

async fn not_offered(checks: &mut Checks) {
    checks
        .check("wire: without an offer nothing is compressed", |stranger| async move {
            let text = prose(20_000, 0);
            let (plan, tap) = tapped(&stranger, json!([])).await?;
            let mut ws = plan.client().no_compression().await?;
            equal(ws.socket().compression(), None, "what was agreed on")?;
            echoes(&mut ws, &text).await?;
            let seen = finish(&plan, ws).await?;
            equal(seen.header("sec-websocket-extensions"), [""; 0], "offers")?;
            for frames in [tap.sent(), tap.received()] {
                let frames: Vec<_> = frames.iter().map(|f| (f.rsv, f.length)).collect();
                equal(frames, [(0, text.len())], "RSV and length of the frames")?;
            }
            Ok(())
        })
        .await;
}

async fn on_the_wire(checks: &mut Checks) {
    checks
        .check("wire: 20,000 characters are compressed, both ways", |stranger| async move {
            let text = prose(20_000, 0);
            let (plan, tap) = tapped(&stranger, json!([])).await?;
            let mut ws = plan.connect().await?;
            ensure(ws.socket().compression().is_some(), || "nothing was agreed on".to_owned())?;
            echoes(&mut ws, &text).await?;
            echoes(&mut ws, text.as_bytes()).await?;
            let seen = finish(&plan, ws).await?;
            equal(seen.header("sec-websocket-extensions"), [OFFER], "offers")?;
            for frames in [tap.sent(), tap.received()] {
                let kinds: Vec<_> = frames.iter().map(|f| (f.opcode, f.rsv)).collect();
                equal(kinds, [(1, RSV1), (2, RSV1)], "opcodes and RSV")?;
                for frame in frames {
                    ensure(frame.length < text.len() / FEW, || format!("{frame:?} is not short"))?;
                }
            }
            ensure(tap.sent().iter().all(|frame| frame.fin), || "there are fragments".to_owned())
        })
        .await;

    checks
        .check("wire: short messages and noise are sent as they are", |stranger| async move {
            let (plan, tap) = tapped(&stranger, json!([])).await?;
            let mut ws = plan.connect().await?;
            for length in [0, 1, 255] {
                echoes(&mut ws, "a".repeat(length)).await?;
            }
            echoes(&mut ws, noise(5000)).await?;
            // What was sent as it is must not be referred to.
            echoes(&mut ws, prose(5000, 0)).await?;
            finish(&plan, ws).await?;
            let sent: Vec<_> = tap.sent().iter().map(|f| (f.rsv, f.length)).collect();
            equal(&sent[..4], [(0, 0), (0, 1), (0, 255), (0, 5000)], "RSV and length")?;
            equal(sent[4].0, RSV1, "RSV of the last message")
        })
        .await;

    checks
        .check("wire: the second time a message is much shorter", |stranger| async move {
            let text = digits(2000, 0);
            let (plan, tap) = tapped(&stranger, json!([])).await?;
            let mut ws = plan.connect().await?;
            for _ in 0..2 {
                echoes(&mut ws, &text).await?;
            }
            finish(&plan, ws).await?;
            for frames in [tap.sent(), tap.received()] {
                let [first, second] = frames[..] else { return Err("not two messages".into()) };
                equal((first.rsv, second.rsv), (RSV1, RSV1), "RSV")?;
                ensure(second.length < first.length / 10, || {
                    format!("{second:?} after {first:?}")
                })?;
            }
            Ok(())
        })
        .await;

    checks
        .check("compressed: fragments, and pings between them", |stranger| async move {
            let text = prose(3000, 0);
            let step =
                json!({ "fragments": &text, "size": 500, "kind": "text", "ping": "between" });
            let plan = stranger.plan(json!([step, step]));
            let mut ws = plan.connect().await?;
            for _ in 0..2 {
                receives(&mut ws, &text).await?;
            }
            let seen = finish(&plan, ws).await?;
            equal(seen.pongs, vec!["between"; 12], "pongs that the server got")
        })
        .await;
}

async fn parameters(checks: &mut Checks) {
    for (deflate, twice) in [
        (json!({}), true),
        // Its window does not reach back over a whole message of this length.
        (json!({ "server_max_window_bits": 9, "client_max_window_bits": 9 }), false),
        (json!({ "server_max_window_bits": 15, "client_max_window_bits": 15 }), true),
        (json!({ "server_no_context_takeover": true }), true),
        (json!({ "client_no_context_takeover": true }), false),
        (json!({ "server_no_context_takeover": true, "client_no_context_takeover": true }), false),
    ] {
        let what = format!("compressed: 300 messages with {deflate}");
        checks
            .check(&what, move |stranger| async move {
                let (plan, tap) = tapped(&stranger, json!([])).await?;
                let plan = plan.told("deflate", deflate.to_string());
                let mut ws = plan.connect().await?;
                let agreed = ws.socket().compression().ok_or("nothing was agreed on")?;
                let agreed = agreed.to_string();
                for name in deflate.as_object().into_iter().flat_map(|told| told.keys()) {
                    ensure(agreed.contains(name), || format!("agreed on {agreed}"))?;
                }
                // Twice, to see whether the second refers to the first.
                for _ in 0..2 {
                    echoes(&mut ws, digits(2000, 0)).await?;
                }
                let lengths: Vec<_> = tap.sent().iter().map(|frame| frame.length).collect();
                let [first, second] = lengths[..] else { return Err("not two messages".into()) };
                equal(second < first / 2, twice, "the second is shorter")?;

                let messages: Vec<_> = (0..300).map(talk).collect();
                let socket = ws.socket();
                for message in &messages {
                    socket.send(message.clone());
                    receives(&mut ws, message.clone()).await?;
                }
                let sent: Vec<Message<'_>> = [digits(2000, 0), digits(2000, 0)]
                    .map(Message::from)
                    .into_iter()
                    .chain(messages)
                    .collect();
                finish(&plan, ws).await?.received(sent)
            })
            .await;
    }
}

/// Texts and noise of many lengths, some of which have been before.
fn talk(number: usize) -> Message<'static> {
    let length = [0, 1, 255, 256, 300, 1000, 2000, 20_000, 70_000][number * 7 % 9];
    match number % 5 {
        0 => noise(length).into(),
        1 => digits(length, number % 3).into(),
        _ => prose(length, number % 4).into(),
    }
}
