//! Compressing messages (RFC 7692 section 7.2.1).
//!
//! **Why zlib-rs.** It is pure Rust and kept by people whose work it is, and it bounds its window,
//! which miniz_oxide does not. It is used directly and not through flate2: there another crate of
//! the program may turn on a feature that puts a C library in its place.
//!
//! **Why contexts are not kept in it.** A compressor of zlib-rs takes 265 KB with a window of 4 KiB
//! and 251 KB with one of 512 bytes, as its hash table alone has 128 KiB; the least that
//! `mem_level` makes of that is 137 KB. A decompressor takes 47 KB, whatever its window. So what a
//! connection keeps is a [`Context`], the bytes of its windows, and each message is given them as
//! its dictionary: 8 KiB at 12 bits, and not 312 KB.
//!
//! That costs time, which grows with the window. In microseconds for each message of 200 bytes of
//! something like JSON, sent, on a shared two-core virtual machine where figures differ by a half
//! between runs (`cargo run --release -p sockeye-proto --example deflate_cost`):
//!
//! | level | bits | kept in zlib-rs | from a context | no takeover |
//! |---|---|---|---|---|
//! | 1 | 9 | 1.3 | 4 | 2.6 |
//! | 1 | 12 | 0.8 | 6 | 2.8 |
//! | 1 | 13 | 0.7 | 15 | 2.6 |
//! | 1 | 15 | 0.7 | 57 | 2.6 |
//! | 6 | 12 | 7 | 15 | 8.5 |
//! | 6 | 15 | 12 | 77 | 9.5 |
//!
//! Receiving costs 0.7 microseconds then, and 1.7 with 15 bits. The length was 64 % of the
//! original's without takeover at level 1, 41 % with 12 bits, 39 % with 15; at level 6, 60, 33 and
//! 30 %. So 11 to 12 bits is where a window pays, and one above 13 does not.
//!
//! Two more things follow. A message that was not sent compressed after all has never been in the
//! window, since nothing but success puts it there. And whatever one message did to a compressor or
//! decompressor, the next one does not meet it.

use std::fmt;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

use super::{Context, WindowBits};

/// Compresses messages, for any connection.
///
/// Memory is taken at the first message, some 250 to 400 KB, and again for a message of a
/// connection with another size of window or level than the one before: so it pays to have one for
/// each pair of these.
///
/// ```
/// use sockeye_proto::{Role, deflate::{Deflater, Level, Parameters}};
///
/// let mut context = Parameters::default().sending(&Role::Server);
/// let mut compressed = Vec::new();
/// let mut deflater = Deflater::new();
/// deflater.compress(b"Hello", Level::FASTEST, &mut context, &mut compressed);
/// assert_eq!(compressed, [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]); // section 7.2.3.1
/// ```
#[derive(Default)]
pub struct Deflater {
    /// Made for this size of window and level.
    zlib: Option<(WindowBits, Level, Deflate)>,
}

/// How hard to compress, 1 to 9: time for space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Level(u8);

/// How a flush ends, which is not sent (section 7.2.1), and is put back before a message is inflated
/// (section 7.2.2).
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

impl Deflater {
    /// One without memory as yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses a message that will be sent, and moves its context on. What was in `compressed`
    /// is dropped; what it is left with is the payload for [`outbound::compressed`].
    ///
    /// [`outbound::compressed`]: crate::outbound::compressed
    pub fn compress(
        &mut self,
        message: &[u8],
        level: Level,
        context: &mut Context,
        compressed: &mut Vec<u8>,
    ) {
        self.deflate(message, level, context, compressed);
        context.push(message);
    }

    /// The same if the message gets shorter by it. If not, gives `None`: the message has to be sent
    /// as it is, and no later one will refer to it.
    pub fn compress_if_shorter<'c>(
        &mut self,
        message: &[u8],
        level: Level,
        context: &mut Context,
        compressed: &'c mut Vec<u8>,
    ) -> Option<&'c [u8]> {
        self.deflate(message, level, context, compressed);
        if compressed.len() >= message.len() {
            return None;
        }
        context.push(message);
        Some(compressed)
    }

    fn deflate(
        &mut self,
        message: &[u8],
        level: Level,
        context: &Context,
        compressed: &mut Vec<u8>,
    ) {
        compressed.clear();
        if message.is_empty() {
            // The header of a block without contents, of which the rest is cut off (section
            // 7.2.3.6). zlib comes to the same, behind a reset that costs microseconds.
            compressed.push(0x00);
            return;
        }
        let zlib = self.prepared(level, context.window_bits());
        if !context.window().is_empty() {
            zlib.set_dictionary(context.window()).expect("a raw stream takes one at its start");
        }
        let mut rest = message;
        let room = message.len() / 2 + 64;
        loop {
            let start = compressed.len();
            compressed.resize(start + room, 0);
            let (read, written) = (zlib.total_in(), zlib.total_out());
            // "An empty DEFLATE block with no compression" ends the message (section 7.2.1), and
            // flushing is how zlib writes one (section 7.3).
            zlib.compress(rest, &mut compressed[start..], DeflateFlush::SyncFlush)
                .expect("a stream that was reset fails at nothing");
            rest = &rest[(zlib.total_in() - read) as usize..];
            let written = (zlib.total_out() - written) as usize;
            compressed.truncate(start + written);
            // zlib takes 4 GiB at a time, and with room to spare it has nothing left to write.
            if written < room && rest.is_empty() {
                break;
            }
        }
        debug_assert!(compressed.ends_with(&TAIL));
        compressed.truncate(compressed.len().saturating_sub(TAIL.len()));
    }

    /// A compressor at the start of a stream.
    fn prepared(&mut self, level: Level, window_bits: WindowBits) -> &mut Deflate {
        if !matches!(self.zlib, Some((bits, l, _)) if (bits, l) == (window_bits, level)) {
            // zlib has no window of 8 bits: with 512 bytes, it refers back over 250 of them at most
            // (the window less the 262 that it wants to see ahead), so 9 bits keep within 8.
            let bits = window_bits.bits().max(9);
            // Freed first: one of them is large enough.
            self.zlib = None;
            let zlib = Deflate::new_with_config(DeflateConfig {
                level: i32::from(level.0),
                window_bits: -i32::from(bits),
                ..DeflateConfig::default()
            });
            self.zlib = Some((window_bits, level, zlib));
        }
        let (_, _, zlib) = self.zlib.as_mut().expect("it was made above");
        zlib.reset();
        zlib
    }
}

impl Level {
    /// 1: several times as fast as 6, and the result is longer by some ten per cent of the
    /// original; the default.
    pub const FASTEST: Self = Self(1);
    /// 9: as short as it gets.
    pub const SHORTEST: Self = Self(9);

    /// A level from 1 to 9.
    pub const fn new(level: u8) -> Option<Self> {
        if level >= 1 && level <= 9 { Some(Self(level)) } else { None }
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::FASTEST
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made_for = self.zlib.as_ref().map(|(bits, level, _)| (bits, level));
        f.debug_struct("Deflater").field("made_for", &made_for).finish_non_exhaustive()
    }
}
