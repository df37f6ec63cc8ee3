//! What the server by hand sends, gets and sees: single bytes and frames, right and wrong.

mod answers;
mod compressed;
mod endings;
mod violations;
mod wire;

use serde::Deserialize;
use serde_json::{Value, json};
use sockeye::{Message, Result, WebSocket};

use crate::{
    checks::{Checks, ensure, equal},
    stranger::Plan,
};

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

pub(crate) async fn check(checks: &mut Checks) {
    answers::check(checks).await;
    wire::check(checks).await;
    compressed::check(checks).await;
    endings::check(checks).await;
    violations::check(checks).await;
}

/// What the server saw of a connection.
#[derive(Debug, Deserialize)]
struct Seen {
    request_line: String,
    headers: Vec<(String, String)>,
    frames: Vec<SeenFrame>,
    /// How the client ended its direction of TCP: `eof` is how it should.
    end: String,
    /// Who ended TCP first, once the server had the client's close frame.
    first: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SeenFrame {
    fin: bool,
    rsv: u8,
    opcode: u8,
    length: usize,
    /// How many bytes the length took beside the seven bits of every frame.
    length_bytes: usize,
    /// The masking key, in hexadecimal.
    key: Option<String>,
    /// The begin of the payload, in hexadecimal; all of it in a control frame.
    payload: String,
    /// Of a compressed message, the SHA-1 of what was inflated, in hexadecimal, or what went wrong.
    inflated: Option<String>,
}

impl Seen {
    async fn of(plan: &Plan) -> Result<Self> {
        plan.seen().await
    }

    fn header(&self, name: &str) -> Option<&str> {
        let named = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// The client sent one close frame of this code (1005: of none), as the last thing, and ended TCP
    /// with EOF. Gives the frames before it.
    fn closed(&self, code: u16) -> Result<&[SeenFrame]> {
        let (last, before) = self.frames.split_last().ok_or("the client sent no frame")?;
        equal((last.opcode, last.fin, last.rsv), (CLOSE, true, 0), "opcode, FIN, RSV at the end")?;
        equal(last.code(), code, "close code at the server")?;
        ensure(last.key.is_some(), || "the close frame is not masked".to_owned())?;
        equal(&self.end, "eof", "the end of TCP")?;
        Ok(before)
    }

    /// The client sent nothing, and ended TCP with EOF.
    fn silent(&self) -> Result {
        ensure(self.frames.is_empty(), || format!("the client sent {:?}", self.frames))?;
        equal(&self.end, "eof", "the end of TCP")
    }
}

impl SeenFrame {
    fn code(&self) -> u16 {
        let code = self.payload.get(..4).and_then(|code| u16::from_str_radix(code, 16).ok());
        code.unwrap_or(1005)
    }
}

/// The step that sends a frame.
fn frame(opcode: u8, payload: impl AsRef<[u8]>) -> Value {
    frame_but(opcode, payload, json!({}))
}

/// The step that sends a frame which differs from a sound one in this.
fn frame_but(opcode: u8, payload: impl AsRef<[u8]>, changes: Value) -> Value {
    let mut frame = changes;
    frame["opcode"] = opcode.into();
    frame["payload"] = hex(payload).into();
    json!({ "frame": frame })
}

/// The step that sends a close frame.
fn close_frame(code: u16, reason: impl AsRef<[u8]>) -> Value {
    frame(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

/// The step that sends bytes.
fn bytes(data: impl AsRef<[u8]>) -> Value {
    json!({ "bytes": hex(data) })
}

fn hex(data: impl AsRef<[u8]>) -> String {
    data.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The next messages are these, and after them both sides have closed.
async fn receives_all(ws: &mut WebSocket, messages: &[&str]) -> Result {
    for message in messages {
        equal(ws.recv().await?, Some(Message::from(*message)), "message")?;
    }
    equal(ws.recv().await?, None, "message")
}
