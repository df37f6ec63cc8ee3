//! Pings and pongs.

use serde_json::json;
use sockeye::{CloseCode, ClosedBy, Handler, Result, Session};

use super::{Seen, echoes, ended, finish, receives};
use crate::checks::{Checks, equal};

pub(super) async fn check(checks: &mut Checks) {
    checks
        .check("ping: the server's is answered with its payload", |stranger| async move {
            let payloads = [String::new(), "payload".to_owned(), "x".repeat(125)];
            let pings = payloads.iter().map(|payload| json!({ "ping": payload }));
            let steps = pings.chain([json!({ "text": "all answered" })]);
            let plan = stranger.plan(steps.collect());
            let mut ws = plan.connect().await?;
            receives(&mut ws, "all answered").await?;
            equal(finish(&plan, ws).await?.pongs, payloads, "pongs that the server got")
        })
        .await;

    checks
        .check("ping: answered while nobody receives", |stranger| async move {
            let plan = stranger.plan(json!([{ "ping": "anyone?" }, { "close": [1000, ""] }]));
            let ws = plan.connect().await?;
            ended(&ws.socket().closed().await, ClosedBy::Peer, 1000, "")?;
            equal(Seen::of(&plan).await?.pongs, ["anyone?"], "pongs that the server got")
        })
        .await;

    checks
        .check("ping: this side's is answered with its payload", |stranger| async move {
            let plan = stranger.plan(json!([]));
            let close = plan.client().drive(Pinger, Vec::new()).await?;
            // The handler closes with the number of pongs when they are as they should be.
            ended(&close, ClosedBy::Local, 4003, "all answered")?;
            Seen::of(&plan).await?.closed(4003, "all answered")
        })
        .await;

    checks
        .check("ping: unasked ones among messages disturb nothing", |stranger| async move {
            let plan = stranger.plan(json!([]));
            let mut ws = plan.connect().await?;
            for number in 0..100 {
                ws.socket().ping(format!("ping {number}"));
                echoes(&mut ws, format!("message {number}")).await?;
            }
            finish(&plan, ws).await.map(drop)
        })
        .await;
}

/// Sends pings and collects the pongs.
struct Pinger;

const PAYLOADS: [&[u8]; 3] = [b"", b"\x00\xff payload", &[7; 125]];

impl Handler for Pinger {
    type Data = Vec<Vec<u8>>;

    async fn open(&self, session: &mut Session<Self::Data>) -> Result {
        for payload in PAYLOADS {
            session.ping(payload);
        }
        Ok(())
    }

    async fn pong(&self, session: &mut Session<Self::Data>, payload: &[u8]) -> Result {
        session.data.push(payload.to_vec());
        if session.data.len() == PAYLOADS.len() {
            equal(session.data.clone(), PAYLOADS, "pongs")?;
            session.close(CloseCode(4003), "all answered");
        }
        Ok(())
    }
}
