//! Messages and close frames: what the two ends say to each other, without how it travels.

use std::{fmt, ops::Deref};

use bytes::Bytes;

use crate::{OpCode, Utf8Bytes};

/// A message, received or to be sent; the only message type of the project.
///
/// A received message borrows the buffer it was read into where it can, so keeping one means
/// [`into_owned`](Self::into_owned). Anything with a `From` below can be sent: `"text"`, `String`,
/// `&[u8]`, `Vec<u8>`, `Bytes`. Owned payloads are passed on without a copy.
///
/// ```
/// use sockeye_proto::Message;
///
/// fn answer(message: Message<'_>) -> String {
///     match message {
///         Message::Text(text) if text == "ping" => "pong".to_owned(),
///         Message::Text(text) => format!("you said {text}"),
///         Message::Binary(data) => format!("{} bytes", data.len()),
///     }
/// }
/// assert_eq!(answer("ping".into()), "pong");
/// assert_eq!(answer(vec![1, 2, 3].into()), "3 bytes");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// UTF-8 text, checked on arrival.
    Text(Text<'a>),
    /// Bytes that mean what the two ends have agreed on.
    Binary(Binary<'a>),
}

impl Message<'_> {
    /// The text of a text message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The opcode of its first frame (RFC 6455 section 5.6).
    pub fn opcode(&self) -> OpCode {
        match self {
            Self::Text(_) => OpCode::Text,
            Self::Binary(_) => OpCode::Binary,
        }
    }

    /// The payload as bytes, whichever kind it is.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(data) => data,
        }
    }

    /// Length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The same message for as long as you like; copies what was borrowed.
    pub fn into_owned(self) -> Message<'static> {
        match self {
            Self::Text(text) => Message::Text(text.into_owned()),
            Self::Binary(data) => Message::Binary(data.into_owned()),
        }
    }
}

/// The payload of a text message; behaves as a [`str`].
#[derive(Clone)]
pub struct Text<'a>(Payload<&'a str, Utf8Bytes>);

/// The payload of a binary message; behaves as a `[u8]`.
#[derive(Clone)]
pub struct Binary<'a>(Payload<&'a [u8], Bytes>);

#[derive(Clone)]
enum Payload<Borrowed, Owned> {
    Borrowed(Borrowed),
    Owned(Owned),
}

impl Text<'_> {
    /// The text as shared bytes if it is owned already.
    pub fn as_shared(&self) -> Option<&Utf8Bytes> {
        match &self.0 {
            Payload::Borrowed(_) => None,
            Payload::Owned(text) => Some(text),
        }
    }

    /// The same text for as long as you like; copies what was borrowed.
    pub fn into_owned(self) -> Text<'static> {
        Text(Payload::Owned(self.into_shared()))
    }

    /// The text as shared bytes; copies what was borrowed.
    pub fn into_shared(self) -> Utf8Bytes {
        match self.0 {
            Payload::Borrowed(text) => Utf8Bytes::from(text),
            Payload::Owned(text) => text,
        }
    }
}

impl Binary<'_> {
    /// The data as shared bytes if it is owned already.
    pub fn as_shared(&self) -> Option<&Bytes> {
        match &self.0 {
            Payload::Borrowed(_) => None,
            Payload::Owned(data) => Some(data),
        }
    }

    /// The same data for as long as you like; copies what was borrowed.
    pub fn into_owned(self) -> Binary<'static> {
        Binary(Payload::Owned(self.into_shared()))
    }

    /// The data as shared bytes; copies what was borrowed.
    pub fn into_shared(self) -> Bytes {
        match self.0 {
            Payload::Borrowed(data) => Bytes::copy_from_slice(data),
            Payload::Owned(data) => data,
        }
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Payload::Borrowed(text) => text,
            Payload::Owned(text) => text,
        }
    }
}

impl Deref for Binary<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Payload::Borrowed(data) => data,
            Payload::Owned(data) => data,
        }
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Debug for Binary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text<'_> {}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl PartialEq for Binary<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Binary<'_> {}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Payload::Borrowed(text))
    }
}

impl From<Utf8Bytes> for Text<'_> {
    fn from(text: Utf8Bytes) -> Self {
        Self(Payload::Owned(text))
    }
}

impl<'a> From<&'a [u8]> for Binary<'a> {
    fn from(data: &'a [u8]) -> Self {
        Self(Payload::Borrowed(data))
    }
}

impl From<Bytes> for Binary<'_> {
    fn from(data: Bytes) -> Self {
        Self(Payload::Owned(data))
    }
}

impl<'a> From<Text<'a>> for Message<'a> {
    fn from(text: Text<'a>) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<Binary<'a>> for Message<'a> {
    fn from(data: Binary<'a>) -> Self {
        Self::Binary(data)
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text.as_str().into())
    }
}

impl From<String> for Message<'_> {
    fn from(text: String) -> Self {
        Self::Text(Utf8Bytes::from(text).into())
    }
}

impl From<Utf8Bytes> for Message<'_> {
    fn from(text: Utf8Bytes) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    fn from(data: &'a [u8]) -> Self {
        Self::Binary(data.into())
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Message<'a> {
    fn from(data: &'a [u8; N]) -> Self {
        Self::Binary(data.as_slice().into())
    }
}

impl<'a> From<&'a Vec<u8>> for Message<'a> {
    fn from(data: &'a Vec<u8>) -> Self {
        Self::Binary(data.as_slice().into())
    }
}

impl From<Vec<u8>> for Message<'_> {
    fn from(data: Vec<u8>) -> Self {
        Self::Binary(Bytes::from(data).into())
    }
}

impl From<Bytes> for Message<'_> {
    fn from(data: Bytes) -> Self {
        Self::Binary(data.into())
    }
}

/// Why a connection was closed, as a number (RFC 6455 section 7.4 and its IANA registry).
///
/// ```
/// use sockeye_proto::CloseCode;
///
/// assert!(CloseCode(4000).may_be_sent()); // 3000 to 4999 are for libraries and applications
/// assert!(!CloseCode::ABNORMAL.may_be_sent());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// 1000: what the connection was for is done.
    pub const NORMAL: Self = Self(1000);
    /// 1001: this end goes away, such as a server that shuts down or a page that is left.
    pub const AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// 1003: a kind of message that this end does not take.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1005: the close frame had no code. Never on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a close frame. Never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: a message whose contents do not fit its kind, such as text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// 1008: a rule of this end was broken.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message too big to process.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: the server did not negotiate an extension that the client needs.
    pub const EXTENSION: Self = Self(1010);
    /// 1011: the server met something that it did not expect.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts.
    pub const RESTART: Self = Self(1012);
    /// 1013: try again later; sent to a peer that does not keep up.
    pub const TRY_AGAIN: Self = Self(1013);
    /// 1014: a gateway got no good answer from behind it.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 1015: the TLS handshake failed. Never on the wire.
    pub const TLS: Self = Self(1015);

    /// Whether the code may be in a close frame: the registered ones except 1004, 1005, 1006 and
    /// 1015, and 3000 to 4999 (RFC 6455 section 7.4.2).
    pub fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

/// The payload of a close frame that has one (RFC 6455 section 5.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The reason as a number.
    pub code: CloseCode,
    /// The reason in words, for people and logs; 123 bytes at most go onto the wire.
    pub reason: String,
}

impl CloseFrame {
    /// A close frame of these two.
    pub fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}
