//! What one side owes the other: answers to control frames, and the closing handshake.

use std::ops::Range;

use crate::{CloseFrame, OpCode, ProtocolError, outbound};

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Takes masked frames and sends plain ones.
    Server,
    /// Takes plain frames and masks its own.
    Client {
        /// Gives a new masking key for each frame, from a source that the peer cannot foresee
        /// (RFC 6455 section 5.3).
        masking_key: fn() -> [u8; 4],
    },
}

/// The closing handshake (RFC 6455 section 7.1).
///
/// ```text
///          close              on_close
///   Open ─────────▶ Sent ──────────────▶ Done
///    │  on_close (and the answer)
///    ├─────────────────────────────────▶ Answered
///    │  fail (also from Sent)
///    └─────────────────────────────────▶ Failed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Neither side has sent a close frame.
    Open,
    /// This side has, and waits for the peer's.
    Sent,
    /// The peer had sent one first, and has its answer.
    Answered,
    /// This side had sent one first, and has the peer's answer.
    Done,
    /// This side gave up over an error; the peer's answer is not waited for.
    Failed,
}

/// The state of a connection that is not about received bytes: role, closing handshake, and the
/// control frames that wait to be sent.
///
/// ```
/// use sockeye_proto::{CloseCode, CloseFrame, Closing, Connection, Role};
///
/// let mut connection = Connection::new(Role::Server);
/// let mut wire = Vec::new();
/// connection.on_close(Some(&CloseFrame::new(CloseCode::AWAY, "")), &mut wire);
/// assert_eq!(wire, [0x88, 0x02, 0x03, 0xe9]); // answered with the same code
/// assert_eq!(connection.closing(), Closing::Answered);
/// ```
#[derive(Debug)]
pub struct Connection {
    role: Role,
    closing: Closing,
    control: ControlFrames,
}

impl Connection {
    /// A connection that has just been opened.
    pub fn new(role: Role) -> Self {
        Self { role, closing: Closing::Open, control: ControlFrames::default() }
    }

    /// The role of this side.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Where the closing handshake stands.
    pub fn closing(&self) -> Closing {
        self.closing
    }

    /// The pings and pongs that wait to be sent.
    pub fn control(&mut self) -> &mut ControlFrames {
        &mut self.control
    }

    /// Queues a ping; false if the connection is closing or no place is left. A payload of more
    /// than 125 bytes is cut off there.
    pub fn ping(&mut self, payload: &[u8]) -> bool {
        self.closing == Closing::Open && self.control.push_ping(&self.role, payload)
    }

    /// A ping came: queues its pong, as long as the connection is open ("unless it already received
    /// a Close frame", RFC 6455 section 5.5.2).
    pub fn on_ping(&mut self, payload: &[u8]) {
        if matches!(self.closing, Closing::Open | Closing::Sent) {
            self.control.push_pong(&self.role, payload);
        }
    }

    /// Begins the closing handshake: appends the close frame to `wire`, unless one was sent before.
    pub fn close(&mut self, frame: Option<&CloseFrame>, wire: &mut Vec<u8>) -> bool {
        if self.closing != Closing::Open {
            return false;
        }
        self.closing = Closing::Sent;
        outbound::close(&self.role, frame, wire);
        true
    }

    /// The peer's close frame came: appends the answer to `wire` if one is owed, "typically echoing
    /// the status code it received" (RFC 6455 section 5.5.1); the reason is echoed too, as that is
    /// what a browser shows its page.
    pub fn on_close(&mut self, frame: Option<&CloseFrame>, wire: &mut Vec<u8>) {
        match self.closing {
            Closing::Open => {
                self.closing = Closing::Answered;
                outbound::close(&self.role, frame, wire);
            }
            Closing::Sent => self.closing = Closing::Done,
            Closing::Answered | Closing::Done | Closing::Failed => {}
        }
    }

    /// The peer broke a rule or a limit: appends a close frame that says so to `wire`, unless one
    /// was sent before (RFC 6455 section 7.1.7).
    pub fn fail(&mut self, error: &ProtocolError, wire: &mut Vec<u8>) {
        if self.closing == Closing::Open {
            let frame = CloseFrame::new(error.close_code(), error.to_string());
            outbound::close(&self.role, Some(&frame), wire);
        }
        if matches!(self.closing, Closing::Open | Closing::Sent) {
            self.closing = Closing::Failed;
        }
    }
}

/// Pings and pongs that wait for the next frame boundary, ready for the wire, in a place of their
/// own that data cannot take away.
///
/// The place is bounded. Once it is full a new pong replaces the last one: "MAY elect to send a Pong
/// frame for only the most recently processed Ping" (RFC 6455 section 5.5.3).
#[derive(Debug, Default)]
pub struct ControlFrames(Option<Box<Waiting>>);

/// There rarely are any, and every idle connection has a place for them.
#[derive(Debug, Default)]
struct Waiting {
    wire: Vec<u8>,
    /// Where the last pong lies in `wire`; empty if there is none. [`ControlFrames::LIMIT`] fits.
    last_pong: Range<u16>,
}

impl ControlFrames {
    /// What waits at most, in bytes.
    pub const LIMIT: usize = 4096;

    /// Length of what waits, in bytes.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.wire.len())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Takes all that waits, as whole frames.
    pub fn take(&mut self) -> Vec<u8> {
        self.0.take().map_or_else(Vec::new, |waiting| waiting.wire)
    }

    /// Leaves the place for one pong free.
    fn push_ping(&mut self, role: &Role, payload: &[u8]) -> bool {
        let fits = self.len() + 2 * outbound::MAX_CONTROL_FRAME <= Self::LIMIT;
        if fits {
            let Waiting { wire, .. } = &mut **self.0.get_or_insert_default();
            outbound::control(role, OpCode::Ping, payload, wire);
        }
        fits
    }

    fn push_pong(&mut self, role: &Role, payload: &[u8]) {
        let Waiting { wire, last_pong } = &mut **self.0.get_or_insert_default();
        if wire.len() + outbound::MAX_CONTROL_FRAME > Self::LIMIT {
            wire.drain(usize::from(last_pong.start)..usize::from(last_pong.end));
        }
        let start = wire.len();
        outbound::control(role, OpCode::Pong, payload, wire);
        *last_pong = start as u16..wire.len() as u16;
    }
}
