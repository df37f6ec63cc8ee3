//! UTF-8 that is checked as it arrives, no byte twice, and then trusted (RFC 6455 section 8.1).
#![allow(unsafe_code, reason = "text that was checked on arrival is not checked again")]

use std::{fmt, ops::Deref};

use bytes::Bytes;

use crate::{
    ProtocolError,
    memory::{self, Memory},
};

/// Shared bytes that are known to be UTF-8; a clone shares them.
///
/// ```
/// use sockeye_proto::Utf8Bytes;
///
/// let text = Utf8Bytes::from(String::from("smørrebrød"));
/// assert_eq!(text.as_str(), "smørrebrød");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Utf8Bytes(Bytes);

impl Utf8Bytes {
    /// Text that lives as long as the program; nothing is copied.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // SAFETY: every constructor takes a `str`, or bytes that `check` or, to the end, `Validator`
        // has accepted.
        unsafe { std::str::from_utf8_unchecked(&self.0) }
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Utf8Bytes {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for Utf8Bytes {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&str> for Utf8Bytes {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl fmt::Debug for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The text of a whole message that lies in one piece.
#[inline]
pub(crate) fn check(bytes: &[u8]) -> Result<&str, ProtocolError> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| ProtocolError::InvalidUtf8)
}

/// The same for a message that is to be kept.
pub(crate) fn check_owned<M: Memory>(bytes: Vec<u8>) -> Result<Utf8Bytes, ProtocolError> {
    check(&bytes)?;
    Ok(Utf8Bytes(memory::share::<M>(bytes)))
}

/// A text that grows fragment by fragment and fails at the first bad one.
#[derive(Debug, Default)]
pub(crate) struct GrowingText {
    bytes: Vec<u8>,
    validator: Validator,
}

impl GrowingText {
    /// The memory under the text; for its capacity to be steered, not for its contents.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn grow<M: Memory>(&mut self, capacity: usize, most: usize) {
        memory::grow::<M>(&mut self.bytes, capacity, most);
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.validator.feed(bytes)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The text, unless it breaks off within a character or something in it was refused.
    pub(crate) fn finish<M: Memory>(self) -> Result<Utf8Bytes, ProtocolError> {
        match self.validator {
            Validator::Boundary => Ok(Utf8Bytes(memory::share::<M>(self.bytes))),
            Validator::Within { .. } | Validator::Failed => Err(ProtocolError::InvalidUtf8),
        }
    }
}

/// Where in the text the next byte stands.
#[derive(Clone, Copy, Debug, Default)]
enum Validator {
    /// Between two characters.
    #[default]
    Boundary,
    /// Within a character: so many continuation bytes are missing, the next one in this range.
    Within { missing: u8, low: u8, high: u8 },
    /// Behind something that is not UTF-8.
    Failed,
}

impl Validator {
    /// Checks the next bytes of the text, each once.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let result = self.try_feed(bytes);
        if result.is_err() {
            *self = Self::Failed;
        }
        result
    }

    fn try_feed(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let mut rest = bytes;
        while !matches!(self, Self::Boundary) {
            let [byte, behind @ ..] = rest else { return Ok(()) };
            *self = self.step(*byte)?;
            rest = behind;
        }
        let (whole, broken_off) = rest.split_at(rest.len() - broken_off(rest));
        check(whole)?;
        for byte in broken_off {
            *self = self.step(*byte)?;
        }
        Ok(())
    }

    /// Well-formed byte sequences, Table 3-7 of the Unicode Standard (the same as the grammar of
    /// RFC 3629 section 4).
    fn step(self, byte: u8) -> Result<Self, ProtocolError> {
        let within = |missing, low, high| Ok(Self::Within { missing, low, high });
        match (self, byte) {
            (Self::Boundary, 0x00..=0x7f) => Ok(Self::Boundary),
            (Self::Boundary, 0xc2..=0xdf) => within(1, 0x80, 0xbf),
            (Self::Boundary, 0xe0) => within(2, 0xa0, 0xbf),
            (Self::Boundary, 0xe1..=0xec | 0xee..=0xef) => within(2, 0x80, 0xbf),
            (Self::Boundary, 0xed) => within(2, 0x80, 0x9f),
            (Self::Boundary, 0xf0) => within(3, 0x90, 0xbf),
            (Self::Boundary, 0xf1..=0xf3) => within(3, 0x80, 0xbf),
            (Self::Boundary, 0xf4) => within(3, 0x80, 0x8f),
            (Self::Within { missing, low, high }, _) if (low..=high).contains(&byte) => {
                if missing == 1 { Ok(Self::Boundary) } else { within(missing - 1, 0x80, 0xbf) }
            }
            _ => Err(ProtocolError::InvalidUtf8),
        }
    }
}

/// How many bytes at the end begin a character that the bytes do not finish.
fn broken_off(bytes: &[u8]) -> usize {
    for (behind, byte) in bytes.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            _ => 1,
        };
        return if length > behind + 1 { behind + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Heap;
    use proptest::prelude::*;

    /// Text, or text with a few bytes spoilt, or plain noise.
    fn almost_text() -> impl Strategy<Value = Vec<u8>> {
        let spoilt = ("\\PC{0,40}", prop::collection::vec((0usize..120, any::<u8>()), 0..3));
        prop_oneof![
            spoilt.prop_map(|(text, changes)| {
                let mut bytes = text.into_bytes();
                for (at, byte) in changes {
                    if let Some(old) = bytes.get_mut(at) {
                        *old = byte;
                    }
                }
                bytes
            }),
            prop::collection::vec(any::<u8>(), 0..12),
        ]
    }

    /// Whether these bytes can still become UTF-8, by the standard library.
    fn can_become_text(bytes: &[u8]) -> bool {
        std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
    }

    proptest! {
        #[test]
        fn every_chunking_fails_at_the_chunk_that_spoils_the_text(
            bytes in almost_text(),
            sizes in prop::collection::vec(1usize..9, 1..20),
        ) {
            let mut text = GrowingText::default();
            let mut rest = &bytes[..];
            let mut fed = 0;
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, behind) = rest.split_at(rest.len().min(*size));
                rest = behind;
                fed += chunk.len();
                let accepted = text.push(chunk).is_ok();
                prop_assert_eq!(accepted, can_become_text(&bytes[..fed]));
                if !accepted {
                    prop_assert!(text.finish::<Heap>().is_err());
                    return Ok(());
                }
            }
            let whole = std::str::from_utf8(&bytes);
            match (text.finish::<Heap>(), whole) {
                (Ok(text), Ok(expected)) => prop_assert_eq!(text.as_str(), expected),
                (Err(_), Err(_)) => {}
                (got, expected) => prop_assert!(false, "{got:?} against {expected:?}"),
            }
        }
    }

    #[test]
    fn every_pair_and_triple_of_lead_bytes_is_judged_as_the_standard_library_does() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let bytes = [first, second, 0x80];
                let mut validator = Validator::default();
                let mut accepted = true;
                for byte in bytes {
                    accepted = accepted && validator.feed(&[byte]).is_ok();
                }
                assert_eq!(accepted, can_become_text(&bytes), "{bytes:x?}");
            }
        }
    }
}
