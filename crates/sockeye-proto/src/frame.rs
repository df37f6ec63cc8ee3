//! Frame headers: 2 to 14 bytes, parsed and written, nothing else (RFC 6455 section 5.2).

use crate::ProtocolError;

/// The longest header: two bytes, a 64-bit length and a masking key.
pub const MAX_HEADER: usize = 14;

/// The longest payload of a control frame, in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// What a frame is (RFC 6455 section 5.2); the reserved values are errors and have no variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpCode {
    /// A further fragment of the message begun before it.
    Continuation,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// The closing handshake.
    Close,
    /// A question for a sign of life.
    Ping,
    /// The answer to it.
    Pong,
}

impl OpCode {
    /// Control frames may stand between the fragments of a message (RFC 6455 section 5.4).
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn from_bits(bits: u8) -> Result<Self, ProtocolError> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xa => Ok(Self::Pong),
            reserved => Err(ProtocolError::ReservedOpCode(reserved)),
        }
    }

    pub(crate) fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }
}

/// The header of one frame.
///
/// ```
/// use sockeye_proto::{Header, OpCode};
///
/// let (header, length) = Header::parse(&[0x81, 0x05])?.expect("two bytes are a whole header");
/// assert_eq!((header.opcode, header.payload_len, length), (OpCode::Text, 5, 2));
/// # Ok::<(), sockeye_proto::ProtocolError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// This is the last fragment of its message.
    pub fin: bool,
    /// The first reserved bit, which belongs to the negotiated extension.
    pub rsv1: bool,
    /// What the frame is.
    pub opcode: OpCode,
    /// The masking key; frames of a client have one, frames of a server have none.
    pub mask: Option<[u8; 4]>,
    /// Length of the payload in bytes, below 2^63.
    pub payload_len: u64,
}

impl Header {
    /// A header of a whole, unmasked message or control frame.
    pub fn new(opcode: OpCode, payload_len: usize) -> Self {
        Self { fin: true, rsv1: false, opcode, mask: None, payload_len: payload_len as u64 }
    }

    /// Reads a header from the start of `bytes`, and says how long it was; `None` asks for more
    /// bytes.
    ///
    /// # Errors
    ///
    /// What is wrong about a header by itself: reserved bits 2 and 3, a reserved opcode, a length
    /// that is not in its shortest form, and the rules for control frames.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & RSV2_AND_3 != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        let opcode = OpCode::from_bits(first & OPCODE)?;
        let fin = first & FIN != 0;
        let short = second & LENGTH;
        if opcode.is_control() {
            if !fin {
                return Err(ProtocolError::FragmentedControl);
            }
            if usize::from(short) > MAX_CONTROL_PAYLOAD {
                return Err(ProtocolError::ControlTooLong);
            }
        }
        let Some((payload_len, rest)) = parse_length(short, rest)? else { return Ok(None) };
        let (mask, rest) = if second & MASKED == 0 {
            (None, rest)
        } else {
            let Some((key, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            (Some(*key), rest)
        };
        let header = Self { fin, rsv1: first & RSV1 != 0, opcode, mask, payload_len };
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// Writes the header, its length in the shortest form, and returns the bytes used of `out`.
    #[inline]
    pub fn write<'a>(&self, out: &'a mut [u8; MAX_HEADER]) -> &'a [u8] {
        let fin = if self.fin { FIN } else { 0 };
        let rsv1 = if self.rsv1 { RSV1 } else { 0 };
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        out[0] = fin | rsv1 | self.opcode.bits();
        let mut length = 2;
        match self.payload_len {
            short @ 0..=125 => out[1] = masked | short as u8,
            medium @ 126..=0xffff => {
                out[1] = masked | 126;
                out[2..4].copy_from_slice(&(medium as u16).to_be_bytes());
                length = 4;
            }
            long => {
                out[1] = masked | 127;
                out[2..10].copy_from_slice(&long.to_be_bytes());
                length = 10;
            }
        }
        if let Some(key) = self.mask {
            out[length..length + 4].copy_from_slice(&key);
            length += 4;
        }
        &out[..length]
    }
}

/// "The minimal number of bytes MUST be used to encode the length", and the top bit of the 64-bit
/// form is zero (RFC 6455 section 5.2).
#[inline]
fn parse_length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, ProtocolError> {
    match short {
        126 => {
            let Some((bytes, rest)) = rest.split_first_chunk() else { return Ok(None) };
            match u16::from_be_bytes(*bytes) {
                0..=125 => Err(ProtocolError::NonMinimalLength),
                length => Ok(Some((u64::from(length), rest))),
            }
        }
        127 => {
            let Some((bytes, rest)) = rest.split_first_chunk() else { return Ok(None) };
            match u64::from_be_bytes(*bytes) {
                0..=0xffff => Err(ProtocolError::NonMinimalLength),
                length if length >> 63 != 0 => Err(ProtocolError::LengthTopBit),
                length => Ok(Some((length, rest))),
            }
        }
        short => Ok(Some((u64::from(short), rest))),
    }
}
