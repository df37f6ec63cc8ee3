//! What can be wrong about received bytes, whose fault it is, and the close code that answers it.

use crate::CloseCode;

/// Why a connection has to be failed (RFC 6455 section 7.1.7).
///
/// [`close_code`](Self::close_code) gives the code to close with, and the text is fit to be sent
/// as the reason: it names the rule and contains nothing of this side's state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit was set that no extension has given a meaning.
    #[error("reserved bit set (RFC 6455 section 5.2)")]
    ReservedBits,
    /// An opcode that the RFC reserves.
    #[error("reserved opcode {0:#x} (RFC 6455 section 5.2)")]
    ReservedOpCode(u8),
    /// A frame from a client without a mask.
    #[error("unmasked frame from a client (RFC 6455 section 5.1)")]
    Unmasked,
    /// A frame from a server with a mask.
    #[error("masked frame from a server (RFC 6455 section 5.1)")]
    Masked,
    /// A length that was not written in its shortest form.
    #[error("payload length not in its shortest form (RFC 6455 section 5.2)")]
    NonMinimalLength,
    /// A 64-bit length of 2^63 or more.
    #[error("top bit of the payload length set (RFC 6455 section 5.2)")]
    LengthTopBit,
    /// A control frame without the FIN bit.
    #[error("fragmented control frame (RFC 6455 section 5.5)")]
    FragmentedControl,
    /// A control frame with a payload of more than 125 bytes.
    #[error("control frame of more than 125 bytes (RFC 6455 section 5.5)")]
    ControlTooLong,
    /// A continuation with no message to continue.
    #[error("continuation without a message (RFC 6455 section 5.4)")]
    UnexpectedContinuation,
    /// A new message before the last fragment of the one before it.
    #[error("new message within a fragmented one (RFC 6455 section 5.4)")]
    ExpectedContinuation,
    /// A close frame with a payload of one byte.
    #[error("close frame with a payload of one byte (RFC 6455 section 5.5.1)")]
    CloseTooShort,
    /// A close code that must not be on the wire.
    #[error("close code {0} must not be sent (RFC 6455 section 7.4)")]
    InvalidCloseCode(u16),
    /// Text that is not UTF-8, in a message or in the reason of a close frame.
    #[error("text is not valid UTF-8 (RFC 6455 section 8.1)")]
    InvalidUtf8,
    /// A frame longer than [`Limits::frame_size`](crate::Limits::frame_size).
    #[error("frame of {size} bytes, at most {limit} are taken")]
    FrameTooLarge {
        /// What the frame's header announced, in bytes.
        size: u64,
        /// What the limit allows, in bytes.
        limit: usize,
    },
    /// A message longer than [`Limits::message_size`](crate::Limits::message_size).
    #[error("message of at least {size} bytes, at most {limit} are taken")]
    MessageTooLarge {
        /// What has come and what the last header announced, or what has been inflated so far, in
        /// bytes.
        size: u64,
        /// What the limit allows, in bytes.
        limit: usize,
    },
    /// A compressed message that is not in the format of DEFLATE, or ends within it.
    #[error("compressed message does not inflate (RFC 7692 section 7.2.2)")]
    InvalidDeflate,
    /// A compressed message of so many final blocks, for its length, that they are there for the
    /// work they make.
    #[error("compressed message of too many final blocks")]
    TooManyFinalBlocks,
    /// A compressed message that inflates to more than
    /// [`Limits::inflation`](crate::Limits::inflation) allows.
    #[error("compressed message grows more than {0} times")]
    InflatesTooMuch(u32),
    /// More fragments than [`Limits::fragments`](crate::Limits::fragments).
    #[error("message of more than {0} fragments")]
    TooManyFragments(u32),
    /// A message that took longer than [`Limits::message_time`](crate::Limits::message_time).
    #[error("message not complete after {0:?}")]
    MessageTooSlow(std::time::Duration),
    /// More control frames than [`Limits::control_rate`](crate::Limits::control_rate).
    #[error("more than {0} control frames in a second")]
    TooManyControlFrames(u32),
}

/// Whose fault an error is, for logs and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer broke a rule of RFC 6455 or RFC 7692.
    PeerMisbehaved,
    /// The peer kept the rules and wanted more than this side gives.
    LimitExceeded,
}

impl ProtocolError {
    /// The close code that answers it (RFC 6455 section 7.4.1).
    pub fn close_code(&self) -> CloseCode {
        self.judge().1
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.judge().0
    }

    /// The one map from error to fault and close code.
    fn judge(&self) -> (Fault, CloseCode) {
        match self {
            Self::ReservedBits
            | Self::ReservedOpCode(_)
            | Self::Unmasked
            | Self::Masked
            | Self::NonMinimalLength
            | Self::LengthTopBit
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::CloseTooShort
            | Self::InvalidCloseCode(_) => (Fault::PeerMisbehaved, CloseCode::PROTOCOL),
            Self::InvalidUtf8 | Self::InvalidDeflate => {
                (Fault::PeerMisbehaved, CloseCode::INVALID_DATA)
            }
            Self::FrameTooLarge { .. }
            | Self::MessageTooLarge { .. }
            | Self::InflatesTooMuch(_) => (Fault::LimitExceeded, CloseCode::TOO_BIG),
            Self::TooManyFragments(_)
            | Self::TooManyFinalBlocks
            | Self::MessageTooSlow(_)
            | Self::TooManyControlFrames(_) => (Fault::LimitExceeded, CloseCode::POLICY),
        }
    }
}
