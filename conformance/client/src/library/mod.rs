//! What a server made of a library sends, gets and sees; the same for every library.

mod closing;
mod compressed;
mod control;
mod flow;
mod handlers;
mod handshakes;
mod messages;

use serde::Deserialize;
use sha1::{Digest, Sha1};
use sockeye::{Close, CloseCode, ClosedBy, Message, Result, WebSocket};

use crate::{
    checks::{Checks, equal},
    stranger::Plan,
};

pub(crate) async fn check(checks: &mut Checks) {
    handshakes::check(checks).await;
    messages::check(checks).await;
    compressed::check(checks).await;
    control::check(checks).await;
    closing::check(checks).await;
    handlers::check(checks).await;
    flow::check(checks).await;
}

/// What the server saw of a connection.
#[derive(Debug, Deserialize)]
struct Seen {
    /// The path and the query of the request.
    target: String,
    /// The headers of the request, as they came.
    headers: Vec<(String, String)>,
    received: Vec<Summary>,
    /// The payloads of its pings that were answered with the right pong.
    pongs: Vec<String>,
    close: Option<SeenClose>,
}

/// A message, but for its length and hash instead of its payload.
#[derive(Debug, PartialEq, Deserialize)]
struct Summary {
    kind: String,
    length: usize,
    sha1: String,
}

/// How the end looks to the users of the library.
#[derive(Debug, PartialEq, Deserialize)]
struct SeenClose {
    code: u16,
    reason: String,
    /// What went wrong with the connection.
    error: Option<String>,
}

impl Seen {
    async fn of(plan: &Plan) -> Result<Self> {
        plan.seen().await
    }

    /// All values of a header.
    fn header(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// Exactly these messages came, in this order.
    fn received<'a>(&self, messages: impl IntoIterator<Item = Message<'a>>) -> Result {
        let expected: Vec<_> = messages.into_iter().map(|message| Summary::of(&message)).collect();
        equal(self.received.len(), expected.len(), "number of messages that the server got")?;
        for (number, (actual, expected)) in self.received.iter().zip(&expected).enumerate() {
            equal(actual, expected, &format!("message {number} at the server"))?;
        }
        Ok(())
    }

    /// The server saw this close frame, and an orderly end.
    fn closed(&self, code: u16, reason: &str) -> Result {
        let expected = SeenClose { code, reason: reason.to_owned(), error: None };
        equal(&self.close, &Some(expected), "the end, as the server saw it")
    }
}

impl Summary {
    fn of(message: &Message<'_>) -> Self {
        let kind = match message {
            Message::Text(_) => "text",
            Message::Binary(_) => "binary",
        };
        let hash = Sha1::digest(message.as_bytes());
        let sha1 = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { kind: kind.to_owned(), length: message.len(), sha1 }
    }
}

/// The next message is this one.
async fn receives<'a>(ws: &mut WebSocket, expected: impl Into<Message<'a>>) -> Result {
    equal(ws.recv().await?, Some(expected.into()), "message")
}

/// The message comes back as it was sent.
async fn echoes<'a>(ws: &mut WebSocket, message: impl Into<Message<'a>>) -> Result {
    let message = message.into();
    ws.send(message.clone()).await?;
    receives(ws, message).await
}

/// Closes the connection in order, and gives what the server saw.
async fn finish(plan: &Plan, mut ws: WebSocket) -> Result<Seen> {
    let close = ws.close(CloseCode::NORMAL, "").await;
    ended(&close, ClosedBy::Local, 1000, "")?;
    let seen = Seen::of(plan).await?;
    seen.closed(1000, "")?;
    Ok(seen)
}

/// The connection ended in order, and so.
fn ended(close: &Close, by: ClosedBy, code: u16, reason: &str) -> Result {
    equal(close.by, by, "who closed first")?;
    equal(close.code, CloseCode(code), "close code")?;
    equal(&close.reason, reason, "reason")?;
    equal(close.clean, true, "a clean end")
}

/// Bytes without a pattern that a mistake could repeat, the same on every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}
