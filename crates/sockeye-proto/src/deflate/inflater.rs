//! Inflating messages (RFC 7692 section 7.2.2), within limits.

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::{Context, WindowBits, deflater::TAIL};
use crate::{
    Limits, Memory, Message, OpCode, ProtocolError,
    memory::{self, Heap},
    utf8,
};

/// Inflates messages, for any connection.
///
/// It takes 47 KB, whatever the window, and keeps them. After an error it is as good as new.
///
/// ```
/// use sockeye_proto::{Limits, Role, deflate::{Inflater, Parameters}};
///
/// let mut context = Parameters::default().receiving(&Role::Server);
/// let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]; // section 7.2.3.1
/// let mut inflated = Vec::new();
/// Inflater::new().inflate(&hello, &mut context, &Limits::default(), &mut inflated)?;
/// assert_eq!(inflated, b"Hello");
/// # Ok::<(), sockeye_proto::ProtocolError>(())
/// ```
pub struct Inflater {
    zlib: Inflate,
}

/// A final block without contents, behind the tail: only a message that ends as it should leaves
/// the decompressor where this ends the stream.
const END: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

/// Final blocks of a message that are free, and the length in bytes that pays for each further one.
/// After a final block the window has to be copied anew, up to 32 KiB in about a microsecond, so a
/// message of 1 MiB that is nothing else would take half a second; with this, it takes 17 ms.
const FREE_FINAL_BLOCKS: usize = 256;
const BYTES_PER_FINAL_BLOCK: usize = 64;

/// Output is made in steps from the one to the other, in bytes: each is zeroed first, and moves up
/// to 32 KiB into the decompressor's window behind it.
const FIRST_STEP: usize = 256;
const LONGEST_STEP: usize = 64 * 1024;

/// Up to this length [`Limits::inflation`] does not matter, in bytes.
const ALWAYS_INFLATED: usize = 4096;

impl Inflater {
    /// Takes the memory for one.
    pub fn new() -> Self {
        // The largest window always: zlib-rs takes no less memory for a smaller one, and the peer's
        // window is bounded by what its context holds.
        Self { zlib: Inflate::new(false, WindowBits::MAX.bits()) }
    }

    /// Inflates the payload of an [`Event::Extended`](crate::Event::Extended), all of it, and moves
    /// its context on. What was in `inflated` is dropped. Then [`message`] or [`owned_message`]
    /// makes a message of it.
    ///
    /// Payloads come whole, though one in fragments could be inflated as they arrive: then a peer
    /// that sends half a message would hold a decompressor for as long as it likes, 47 KB, and so
    /// it holds what it has sent. Both the payload and what it inflates to are bounded by the limit
    /// for messages.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::InvalidDeflate`], or the limit that was exceeded. `inflated` then holds
    /// something of the message, within the limit, and the connection has to be failed.
    pub fn inflate(
        &mut self,
        payload: &[u8],
        context: &mut Context,
        limits: &Limits,
        inflated: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        self.inflate_with::<Heap>(payload, context, limits, inflated)
    }

    /// The same, where `inflated` takes the memory of long messages from `M`, and gives back what it
    /// has outgrown.
    ///
    /// # Errors
    ///
    /// See [`inflate`](Self::inflate).
    pub fn inflate_with<M: Memory>(
        &mut self,
        payload: &[u8],
        context: &mut Context,
        limits: &Limits,
        inflated: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        inflated.clear();
        let limit = Limit::new(limits, payload.len());
        let mut output = Output { bytes: inflated, filled: 0, limit };
        let result = self.inflate_all::<M>(payload, context, &mut output);
        let filled = output.filled;
        inflated.truncate(filled);
        if result.is_ok() {
            context.push(inflated);
        }
        result
    }

    fn inflate_all<M: Memory>(
        &mut self,
        payload: &[u8],
        context: &Context,
        output: &mut Output<'_>,
    ) -> Result<(), ProtocolError> {
        let mut final_blocks = 0;
        let mut rest = payload;
        // A message should end with the beginning of the tail's block. Some do not, behind a final
        // block or where there is nothing to say at all, and nothing is missing from them.
        while !rest.is_empty() {
            self.restart(context, output.message());
            match self.feed::<M>(&mut rest, output)? {
                Fed::All => self.finish::<M>(output)?,
                // "An endpoint MAY use both DEFLATE blocks with the "BFINAL" bit set to 0 and
                // DEFLATE blocks with the "BFINAL" bit set to 1" (section 7.2.1), and behind these
                // the next block begins with the next byte.
                Fed::Final => {
                    final_blocks += 1;
                    if final_blocks > FREE_FINAL_BLOCKS + payload.len() / BYTES_PER_FINAL_BLOCK {
                        return Err(ProtocolError::TooManyFinalBlocks);
                    }
                }
            }
        }
        Ok(())
    }

    /// Begins a stream behind what is in the window: what the context has, and then what the message
    /// has added to it so far. Also without takeover a message may refer to all of itself.
    fn restart(&mut self, context: &Context, message: &[u8]) {
        self.zlib.reset(false);
        let size = context.window_bits().size();
        let added = &message[message.len().saturating_sub(size)..];
        let before = context.window();
        let before = &before[(before.len() + added.len()).saturating_sub(size).min(before.len())..];
        for part in [before, added] {
            if !part.is_empty() {
                self.zlib.set_dictionary(part).expect("a raw stream takes one at its start");
            }
        }
    }

    fn feed<M: Memory>(
        &mut self,
        input: &mut &[u8],
        output: &mut Output<'_>,
    ) -> Result<Fed, ProtocolError> {
        loop {
            let (status, consumed, full) = output.step::<M>(&mut self.zlib, input)?;
            *input = &input[consumed..];
            match status {
                Status::StreamEnd => return Ok(Fed::Final),
                // There may be more to come out without more to go in.
                Status::Ok | Status::BufError if full => {}
                Status::Ok | Status::BufError if input.is_empty() => return Ok(Fed::All),
                Status::Ok | Status::BufError if consumed > 0 => {}
                Status::Ok | Status::BufError => return Err(ProtocolError::InvalidDeflate),
            }
        }
    }

    /// The end of a message: what the sender has cut off, and whether it fits there.
    fn finish<M: Memory>(&mut self, output: &mut Output<'_>) -> Result<(), ProtocolError> {
        let [a, b, c, d] = TAIL;
        let [e, f, g, h, i] = END;
        let tail = [a, b, c, d, e, f, g, h, i];
        let mut rest = &tail[..];
        let length = output.filled;
        match self.feed::<M>(&mut rest, output)? {
            Fed::Final if rest.is_empty() && output.filled == length => Ok(()),
            _ => Err(ProtocolError::InvalidDeflate),
        }
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

/// An inflated payload as a message where it lies; a text is checked to be one.
///
/// # Errors
///
/// [`ProtocolError::InvalidUtf8`].
pub fn message(opcode: OpCode, inflated: &[u8]) -> Result<Message<'_>, ProtocolError> {
    Ok(match opcode {
        OpCode::Text => utf8::check(inflated)?.into(),
        _ => inflated.into(),
    })
}

/// The same for a message that is to be kept. Nothing is copied, unless much of a long buffer is
/// unused; that of a long message goes back to `M` in the end.
///
/// # Errors
///
/// [`ProtocolError::InvalidUtf8`].
pub fn owned_message<M: Memory>(
    opcode: OpCode,
    inflated: Vec<u8>,
) -> Result<Message<'static>, ProtocolError> {
    Ok(match opcode {
        OpCode::Text => utf8::check_owned::<M>(inflated)?.into(),
        _ => memory::share::<M>(inflated).into(),
    })
}

/// How far some input has led.
enum Fed {
    /// All of it is used.
    All,
    /// To the end of a final block.
    Final,
}

/// The message as far as it is inflated: so many bytes, and zeros behind them.
struct Output<'o> {
    bytes: &'o mut Vec<u8>,
    filled: usize,
    limit: Limit,
}

/// The length beyond which a message is refused, in bytes, and how.
struct Limit {
    most: usize,
    error: ProtocolError,
}

impl Output<'_> {
    fn message(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Inflates some of `input`; says how much of it is used, and whether there was room for more.
    fn step<M: Memory>(
        &mut self,
        zlib: &mut Inflate,
        input: &[u8],
    ) -> Result<(Status, usize, bool), ProtocolError> {
        if self.filled == self.limit.most {
            // Exactly the limit is here. A message that ends here passes.
            let (status, consumed, written) = decompress(zlib, input, &mut [0])?;
            return if written == 0 {
                Ok((status, consumed, false))
            } else {
                Err(self.limit.error.clone())
            };
        }
        if self.filled == self.bytes.len() {
            self.grow::<M>(input.len());
        }
        let room = &mut self.bytes[self.filled..];
        let (status, consumed, written) = decompress(zlib, input, room)?;
        let is_full = written == room.len();
        self.filled += written;
        Ok((status, consumed, is_full))
    }

    /// Adds zeros, to be written over: no more than the input is likely to need or than are filled
    /// already, so that short messages pay for little and long ones for each byte once.
    fn grow<M: Memory>(&mut self, input: usize) {
        let start = self.filled;
        let wanted = start.max(input.saturating_mul(4)).clamp(FIRST_STEP, LONGEST_STEP);
        let needed = start.saturating_add(wanted).min(self.limit.most);
        if needed > self.bytes.capacity() {
            let target = (2 * self.bytes.capacity()).clamp(needed, self.limit.most);
            memory::grow::<M>(self.bytes, target, self.limit.most);
        }
        self.bytes.resize(needed, 0);
    }
}

impl Limit {
    fn new(limits: &Limits, payload: usize) -> Self {
        let ratio = limits.inflation;
        let by_ratio = payload.saturating_mul(ratio as usize).max(ALWAYS_INFLATED);
        let limit = limits.message_size;
        if by_ratio < limit {
            return Self { most: by_ratio, error: ProtocolError::InflatesTooMuch(ratio) };
        }
        let size = (limit as u64).saturating_add(1);
        Self { most: limit, error: ProtocolError::MessageTooLarge { size, limit } }
    }
}

/// One call of zlib: how it ended, and how many bytes it has read and written.
fn decompress(
    zlib: &mut Inflate,
    input: &[u8],
    output: &mut [u8],
) -> Result<(Status, usize, usize), ProtocolError> {
    let (read, written) = (zlib.total_in(), zlib.total_out());
    let status = zlib
        .decompress(input, output, InflateFlush::NoFlush)
        .map_err(|_| ProtocolError::InvalidDeflate)?;
    Ok((status, (zlib.total_in() - read) as usize, (zlib.total_out() - written) as usize))
}
