//! A handler in place of a loop: the same connection, told in calls.

use serde_json::json;
use sockeye::{Client, Close, CloseCode, ClosedBy, Handler, Message, Result, Session};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{Seen, ended};
use crate::checks::{Checks, equal};

pub(super) async fn check(checks: &mut Checks) {
    checks
        .check("handler: every call in its place", |stranger| async move {
            let steps = json!([{ "ping": "from the server" }, { "text": "hello" }]);
            let plan = stranger.plan(steps);
            let (sender, mut calls) = unbounded_channel();
            let close = plan.client().drive(Diary, sender).await?;
            ended(&close, ClosedBy::Local, 4001, "done")?;
            let mut told = Vec::new();
            while let Some(call) = calls.recv().await {
                told.push(call);
            }
            let expected =
                ["open", "ping from the server", "message hello", "message echo me", "close 4001"];
            equal(told, expected, "calls")?;
            let seen = Seen::of(&plan).await?;
            seen.received(["echo me".into()])?;
            seen.closed(4001, "done")
        })
        .await;

    checks
        .check("handler: run returns how the server closed", |stranger| async move {
            let plan = stranger.plan(json!([{ "text": "bye" }, { "close": [4002, "enough"] }]));
            let handler = sockeye::on().on_text(|_, _| {});
            let close = Client::run(plan.url(), handler).await?;
            ended(&close, ClosedBy::Peer, 4002, "enough")?;
            let seen = Seen::of(&plan).await?.close.ok_or("the server saw no end")?;
            equal(seen.code, 4002, "close code at the server")
        })
        .await;

    checks
        .check("handler: an error closes with 1011", |stranger| async move {
            let plan = stranger.plan(json!([{ "text": "what?" }]));
            let close = Client::run(plan.url(), Failing).await?;
            equal((close.by, close.code.0, close.clean), (ClosedBy::Local, 1011, true), "end")?;
            let seen = Seen::of(&plan).await?.close.ok_or("the server saw no end")?;
            equal(seen.code, 1011, "close code at the server")
        })
        .await;

    checks
        .check("handler: dropped with its future, it closes with 1001", |stranger| async move {
            let plan = stranger.plan(json!([{ "text": "hello" }]));
            let (sender, mut calls) = unbounded_channel();
            let run = plan.client().drive(Mute, sender);
            tokio::select! {
                close = run => return Err(format!("it ended by itself: {close:?}").into()),
                call = calls.recv() => equal(call, Some("message hello".to_owned()), "call")?,
            }
            Seen::of(&plan).await?.closed(1001, "")
        })
        .await;
}

type Calls = UnboundedSender<String>;

/// Tells each call, answers the first message and closes at the second.
struct Diary;

impl Handler for Diary {
    type Data = Calls;

    async fn open(&self, session: &mut Session<Calls>) -> Result {
        Ok(session.data.send("open".to_owned())?)
    }

    async fn message(&self, session: &mut Session<Calls>, message: Message<'_>) -> Result {
        let text = message.as_text().ok_or("a binary message")?;
        session.data.send(format!("message {text}"))?;
        match text {
            "hello" => drop(session.send("echo me")),
            _ => session.close(CloseCode(4001), "done"),
        }
        Ok(())
    }

    async fn ping(&self, session: &mut Session<Calls>, payload: &[u8]) -> Result {
        Ok(session.data.send(format!("ping {}", String::from_utf8_lossy(payload)))?)
    }

    async fn close(&self, session: &mut Session<Calls>, close: &Close) -> Result {
        Ok(session.data.send(format!("close {}", close.code))?)
    }
}

/// Fails at the first message.
struct Failing;

impl Handler for Failing {
    type Data = ();

    async fn message(&self, _: &mut Session<()>, _: Message<'_>) -> Result {
        Err("no idea what that means".into())
    }
}

/// Tells of messages, and does nothing.
struct Mute;

impl Handler for Mute {
    type Data = Calls;

    async fn message(&self, session: &mut Session<Calls>, message: Message<'_>) -> Result {
        Ok(session.data.send(format!("message {}", message.as_text().unwrap_or_default()))?)
    }
}
