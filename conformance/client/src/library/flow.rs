//! What happens when one side is slower than the other.

use std::{sync::LazyLock, time::Duration};

use serde_json::json;
use sockeye::{CloseCode, Closed, Config, Message, Result, WebSocket};
use tokio::time::{sleep, timeout};

use super::{Seen, echoes, finish, noise, receives};
use crate::{
    checks::{Checks, ensure},
    stranger::Plan,
};

/// More than all buffers between the two ends together take.
const MESSAGES: usize = 512;
const SIZE: usize = 64 * 1024;
/// A send that has not returned by then waits for the server.
const STALL: Duration = Duration::from_millis(500);
/// How long a slow reader does something else: enough for a server to fill what there is to fill.
const NAP: Duration = Duration::from_millis(500);
const LATE: usize = 20_000;

pub(super) async fn check(checks: &mut Checks) {
    checks
        .check("slow server: sending waits for it, and nothing is lost", |stranger| async move {
            let plan = stranger.plan(json!([{ "hold": true }, { "listen": true }]));
            let mut ws = plan.connect().await?;
            let stalled = send_until_stalled(&mut ws).await?;
            ensure(stalled < MESSAGES, || "sending did not wait".to_owned())?;
            // While the server holds, no more can be waiting than the settings allow.
            let buffered = ws.socket().buffered();
            let limit = Config::default().outbox_limit;
            ensure(buffered <= limit, || format!("{buffered} bytes wait, more than {limit}"))?;
            plan.release().await?;
            for number in stalled..MESSAGES {
                ws.send(numbered(number)).await?;
            }
            finish(&plan, ws).await?.received((0..MESSAGES).map(numbered))
        })
        .await;

    checks
        .check(
            "both ways: echoes that wait for a sender reach it, in order",
            |stranger| async move {
                let plan = stranger.plan(json!([]));
                let mut ws = plan.connect().await?;
                // A server that echoes stops reading once nobody takes its echoes.
                let stalled = send_until_stalled(&mut ws).await?;
                let socket = ws.socket();
                let rest = tokio::spawn(async move {
                    for number in stalled..MESSAGES {
                        socket.writable().await?;
                        socket.send(numbered(number));
                    }
                    Ok::<_, Closed>(())
                });
                for number in 0..MESSAGES {
                    receives(&mut ws, numbered(number)).await?;
                }
                rest.await??;
                finish(&plan, ws).await?.received((0..MESSAGES).map(numbered))
            },
        )
        .await;

    checks
        .check("slow reader: what came long ago is all there, in order", |stranger| async move {
            let plan = stranger.plan(json!([{ "numbers": LATE }]));
            let mut ws = plan.connect().await?;
            sleep(NAP).await;
            for number in 0..LATE {
                receives(&mut ws, number.to_string()).await?;
            }
            echoes(&mut ws, "and on").await?;
            finish(&plan, ws).await.map(drop)
        })
        .await;

    checks
        .check("slow reader: closing does not need the rest to be read", |stranger| async move {
            let plan = stranger.plan(json!([{ "numbers": LATE }]));
            let mut ws = plan.connect().await?;
            receives(&mut ws, "0").await?;
            close_unread(&plan, ws).await
        })
        .await;
}

/// Sends until a send has to wait, as nothing is read any more; gives how many were sent.
async fn send_until_stalled(ws: &mut WebSocket) -> Result<usize> {
    for number in 0..MESSAGES {
        // It is queued in any case; only the waiting is given up.
        match timeout(STALL, ws.send(numbered(number))).await {
            Ok(sent) => sent?,
            Err(_) => return Ok(number + 1),
        }
    }
    Ok(MESSAGES)
}

/// A message that no other equals, and that does not compress away.
fn numbered(number: usize) -> Message<'static> {
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| noise(SIZE));
    let mut data = NOISE.clone();
    data[..8].copy_from_slice(&number.to_le_bytes());
    data.into()
}

async fn close_unread(plan: &Plan, mut ws: WebSocket) -> Result {
    let close = ws.close(CloseCode::NORMAL, "enough").await;
    ensure(close.clean, || format!("the end was {close:?}"))?;
    Seen::of(plan).await?.closed(1000, "enough")
}
