//! Received bytes become events, in place.

use std::{marker::PhantomData, mem};

use bytes::Bytes;

use crate::{
    Binary, CloseCode, CloseFrame, Header, Limits, MAX_HEADER, Mask, Message, OpCode,
    ProtocolError, Role, Text,
    memory::{self, Heap, Memory},
    utf8::{self, GrowingText},
};

/// Something the peer sent, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message.
    Message(Message<'a>),
    /// A message with RSV1 set, which the negotiated extension has to undo before it means
    /// anything: its kind, and the payload as it came. Never without an extension.
    Extended(OpCode, Binary<'a>),
    /// A ping; [`Connection::on_ping`](crate::Connection::on_ping) answers it.
    Ping(Binary<'a>),
    /// A pong, asked for or not.
    Pong(Binary<'a>),
    /// The last frame of the peer, without a payload or with one;
    /// [`Connection::on_close`](crate::Connection::on_close) answers it. Bytes behind it are dropped.
    Close(Option<CloseFrame>),
}

/// What the opening handshake has negotiated (RFC 6455 section 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extension {
    /// Nothing: every reserved bit is an error.
    #[default]
    None,
    /// An extension that gives RSV1 on the first frame of a message a meaning, as
    /// permessage-deflate does: such messages come as [`Event::Extended`].
    Rsv1,
}

/// Turns the bytes of one direction into events, whatever pieces they come in.
///
/// A message that lies in the input whole is unmasked and checked there, and the event borrows it.
/// Everything else is moved into a buffer of its own that exists until the message is complete, and
/// then belongs to the event.
///
/// The memory of that buffer, once it is long, comes from `M`.
#[derive(Debug)]
pub struct Inbound<M = Heap> {
    message_size: usize,
    frame_size: usize,
    fragments: u32,
    from_client: bool,
    extension: Extension,
    state: State,
    /// What has come in part. There rarely is anything, so it is kept out of the way.
    partial: Option<Box<Partial>>,
    memory: PhantomData<fn() -> M>,
}

#[derive(Debug)]
enum State {
    /// Before a header, or within one: `bytes[..length]` are here.
    Header { bytes: [u8; MAX_HEADER - 1], length: u8 },
    /// Within the payload of a frame.
    Payload(Payload),
    /// Behind a close frame or an error.
    Closed,
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    opcode: OpCode,
    fin: bool,
    /// RSV1 was set.
    extended: bool,
    mask: Option<Mask>,
    remaining: u64,
}

#[derive(Debug, Default)]
struct Partial {
    /// The message whose fragments are being collected.
    message: Option<Assembly>,
    /// The payload of a control frame that was cut off.
    control: Vec<u8>,
}

#[derive(Debug)]
struct Assembly {
    kind: OpCode,
    extended: bool,
    fragments: u32,
    buffer: Buffer,
}

#[derive(Debug)]
enum Buffer {
    Text(GrowingText),
    Bytes(Vec<u8>),
}

const START: State = State::Header { bytes: [0; MAX_HEADER - 1], length: 0 };

impl Inbound {
    /// Before the first byte behind the opening handshake; `role` is the role of this side.
    pub fn new(role: &Role, limits: &Limits, extension: Extension) -> Self {
        Self::with_memory(role, limits, extension)
    }
}

impl<M: Memory> Inbound<M> {
    /// The same with a source of memory of its own for long messages.
    pub fn with_memory(role: &Role, limits: &Limits, extension: Extension) -> Self {
        Self {
            message_size: limits.message_size,
            frame_size: limits.frame_size,
            fragments: limits.fragments,
            from_client: matches!(role, Role::Server),
            extension,
            state: START,
            partial: None,
            memory: PhantomData,
        }
    }

    /// The next event in `input`, which is moved behind what was used. `None` means that all of it
    /// was used, and that more is needed.
    ///
    /// # Errors
    ///
    /// The connection has to be failed with the error's
    /// [`close_code`](ProtocolError::close_code). From then on every byte is dropped unread.
    pub fn next<'b>(
        &mut self,
        input: &mut &'b mut [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let result = self.advance(input);
        if let Err(_) | Ok(Some(Event::Close(_))) = &result {
            self.state = State::Closed;
            self.partial = None;
        }
        result
    }

    /// Whether a message has begun and not ended, for a deadline on its completion.
    pub fn is_incomplete(&self) -> bool {
        self.message().is_some()
            || !matches!(self.state, State::Header { length: 0, .. } | State::Closed)
    }

    /// Whether the frame that `input` goes on with, or begins, is a control frame; `None` where
    /// not even its first byte is here. Looks only.
    pub fn at_control_frame(&self, input: &[u8]) -> Option<bool> {
        Some(self.opcode_bits(input)? & 0x08 != 0)
    }

    /// Whether that frame is a close frame. Looks only.
    pub fn at_close_frame(&self, input: &[u8]) -> bool {
        self.opcode_bits(input) == Some(OpCode::Close.bits())
    }

    /// The opcode of the frame that `input` goes on with, or begins, be it a reserved one.
    fn opcode_bits(&self, input: &[u8]) -> Option<u8> {
        Some(match &self.state {
            State::Header { length: 0, .. } => input.first()? & 0x0f,
            State::Header { bytes, .. } => bytes[0] & 0x0f,
            State::Payload(frame) => frame.opcode.bits(),
            State::Closed => OpCode::Close.bits(),
        })
    }

    #[inline]
    fn message(&self) -> Option<&Assembly> {
        self.partial.as_ref()?.message.as_ref()
    }

    #[inline]
    fn message_mut(&mut self) -> Option<&mut Assembly> {
        self.partial.as_mut()?.message.as_mut()
    }

    fn advance<'b>(
        &mut self,
        input: &mut &'b mut [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        loop {
            let event = match &mut self.state {
                State::Header { .. } => {
                    let Some(header) = self.header(input)? else { return Ok(None) };
                    self.begin(&header)?;
                    continue;
                }
                State::Payload(frame) if frame.opcode.is_control() => self.control(input)?,
                State::Payload(_) => self.data(input)?,
                State::Closed => {
                    *input = &mut [];
                    return Ok(None);
                }
            };
            // A fragment that was not the last one leaves no event, and perhaps a further frame.
            if event.is_some() || input.is_empty() {
                return Ok(event);
            }
        }
    }

    #[inline]
    fn header(&mut self, input: &mut &mut [u8]) -> Result<Option<Header>, ProtocolError> {
        let State::Header { bytes, length } = &mut self.state else { return Ok(None) };
        if *length == 0
            && let Some((header, used)) = Header::parse(input)?
        {
            take(input, used);
            return Ok(Some(header));
        }
        // The header is cut off: byte by byte, so that not one is taken beyond its end.
        let mut whole = [0; MAX_HEADER];
        let mut have = usize::from(*length);
        whole[..have].copy_from_slice(&bytes[..have]);
        while have < MAX_HEADER && !input.is_empty() {
            whole[have] = take(input, 1)[0];
            have += 1;
            if let Some((header, _)) = Header::parse(&whole[..have])? {
                return Ok(Some(header));
            }
        }
        bytes[..have].copy_from_slice(&whole[..have]);
        *length = have as u8;
        Ok(None)
    }

    /// Checks what a header means here, and enters its payload.
    #[inline]
    fn begin(&mut self, header: &Header) -> Result<(), ProtocolError> {
        match (self.from_client, header.mask) {
            (true, None) => return Err(ProtocolError::Unmasked),
            (false, Some(_)) => return Err(ProtocolError::Masked),
            _ => {}
        }
        let starts_message = matches!(header.opcode, OpCode::Text | OpCode::Binary);
        if header.rsv1 && (self.extension == Extension::None || !starts_message) {
            return Err(ProtocolError::ReservedBits);
        }
        let frame = Payload {
            opcode: header.opcode,
            fin: header.fin,
            extended: header.rsv1,
            mask: header.mask.map(Mask::new),
            remaining: header.payload_len,
        };
        if !header.opcode.is_control() {
            self.check_sequence_and_size(header, starts_message)?;
        }
        self.state = State::Payload(frame);
        Ok(())
    }

    #[inline]
    fn check_sequence_and_size(
        &mut self,
        header: &Header,
        starts_message: bool,
    ) -> Result<(), ProtocolError> {
        let size = header.payload_len;
        if exceeds(size, self.frame_size) {
            return Err(ProtocolError::FrameTooLarge { size, limit: self.frame_size });
        }
        let (fragments, extended) = (self.fragments, header.rsv1);
        let (held, extended) = match (self.message_mut(), starts_message) {
            (None, false) => return Err(ProtocolError::UnexpectedContinuation),
            (Some(_), true) => return Err(ProtocolError::ExpectedContinuation),
            (Some(assembly), false) => {
                assembly.fragments += 1;
                if assembly.fragments > fragments {
                    return Err(ProtocolError::TooManyFragments(fragments));
                }
                (assembly.buffer.len(), assembly.extended)
            }
            (None, true) => (0, extended),
        };
        let size = size.saturating_add(held as u64);
        if exceeds(size, most(self.message_size, extended)) {
            return Err(ProtocolError::MessageTooLarge { size, limit: self.message_size });
        }
        // A fragmented message needs a place to grow in.
        if starts_message && !header.fin {
            let assembly = Assembly::new(header.opcode, header.rsv1);
            self.partial.get_or_insert_default().message = Some(assembly);
        }
        Ok(())
    }

    #[inline]
    fn data<'b>(&mut self, input: &mut &'b mut [u8]) -> Result<Option<Event<'b>>, ProtocolError> {
        let is_assembling = self.message().is_some();
        let State::Payload(frame) = &mut self.state else { return Ok(None) };
        let whole = !is_assembling && input.len() as u64 >= frame.remaining;
        let payload = frame.unmask_next(input);
        if whole {
            let Payload { opcode, extended, .. } = *frame;
            self.state = START;
            return in_place(opcode, extended, payload).map(Some);
        }
        let partial = self.partial.get_or_insert_default();
        let new = || Assembly::new(frame.opcode, frame.extended);
        let assembly = partial.message.get_or_insert_with(new);
        let most = most(self.message_size, assembly.extended);
        assembly.push::<M>(payload, frame, most)?;
        if frame.remaining > 0 {
            return Ok(None);
        }
        let fin = frame.fin;
        self.state = START;
        // Control frames are whole by now, so nothing else is left in part.
        match fin.then(|| self.partial.take()).flatten().and_then(|partial| partial.message) {
            Some(assembly) => assembly.finish::<M>().map(Some),
            None => Ok(None),
        }
    }

    fn control<'b>(
        &mut self,
        input: &mut &'b mut [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let State::Payload(frame) = &mut self.state else { return Ok(None) };
        let payload = frame.unmask_next(input);
        let opcode = frame.opcode;
        if frame.remaining > 0 {
            self.partial.get_or_insert_default().control.extend_from_slice(payload);
            return Ok(None);
        }
        let mut received =
            self.partial.as_mut().map_or_else(Vec::new, |p| mem::take(&mut p.control));
        let payload = if received.is_empty() {
            Binary::from(&*payload)
        } else {
            received.extend_from_slice(payload);
            Binary::from(Bytes::from(received))
        };
        self.partial.take_if(|partial| partial.message.is_none());
        self.state = START;
        match opcode {
            OpCode::Ping => Ok(Some(Event::Ping(payload))),
            OpCode::Pong => Ok(Some(Event::Pong(payload))),
            _ => close_frame(&payload).map(|frame| Some(Event::Close(frame))),
        }
    }
}

impl Payload {
    /// Takes what `input` has of this payload, unmasked.
    #[inline]
    fn unmask_next<'b>(&mut self, input: &mut &'b mut [u8]) -> &'b mut [u8] {
        let available = usize::try_from(self.remaining).map_or(input.len(), |n| n.min(input.len()));
        let payload = take(input, available);
        if let Some(mask) = &mut self.mask {
            mask.apply(payload);
        }
        self.remaining -= available as u64;
        payload
    }
}

impl Assembly {
    fn new(kind: OpCode, extended: bool) -> Self {
        // What an extension has transformed is text only once the extension has undone it.
        let buffer = match kind {
            OpCode::Text if !extended => Buffer::Text(GrowingText::default()),
            _ => Buffer::Bytes(Vec::new()),
        };
        Self { kind, extended, fragments: 1, buffer }
    }

    /// Appends a piece. The buffer doubles, so the time is linear, but never beyond what this frame
    /// can still fill if it is the last, nor beyond the limit: spare capacity is memory too.
    fn push<M: Memory>(
        &mut self,
        piece: &[u8],
        frame: &Payload,
        message_size: usize,
    ) -> Result<(), ProtocolError> {
        let length = self.buffer.len();
        let needed = length + piece.len();
        if needed > self.buffer.capacity() {
            let of_message =
                needed.saturating_add(usize::try_from(frame.remaining).unwrap_or(usize::MAX));
            let most = if frame.fin { of_message } else { message_size };
            let most = most.max(needed);
            let target = (2 * self.buffer.capacity()).clamp(needed, most);
            self.buffer.grow::<M>(target, message_size.max(needed));
        }
        match &mut self.buffer {
            Buffer::Text(text) => text.push(piece),
            Buffer::Bytes(bytes) => {
                bytes.extend_from_slice(piece);
                Ok(())
            }
        }
    }

    fn finish<M: Memory>(self) -> Result<Event<'static>, ProtocolError> {
        Ok(match self.buffer {
            Buffer::Text(text) => Event::Message(Text::from(text.finish::<M>()?).into()),
            Buffer::Bytes(bytes) => {
                let bytes = memory::share::<M>(bytes);
                if self.extended {
                    Event::Extended(self.kind, bytes.into())
                } else {
                    Event::Message(bytes.into())
                }
            }
        })
    }
}

impl Buffer {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Text(text) => text.capacity(),
            Self::Bytes(bytes) => bytes.capacity(),
        }
    }

    fn grow<M: Memory>(&mut self, capacity: usize, most: usize) {
        match self {
            Self::Text(text) => text.grow::<M>(capacity, most),
            Self::Bytes(bytes) => memory::grow::<M>(bytes, capacity, most),
        }
    }
}

/// A whole message where it lies.
#[inline]
fn in_place(
    opcode: OpCode,
    extended: bool,
    payload: &mut [u8],
) -> Result<Event<'_>, ProtocolError> {
    let payload = &*payload;
    if extended {
        return Ok(Event::Extended(opcode, payload.into()));
    }
    Ok(Event::Message(match opcode {
        OpCode::Text => utf8::check(payload)?.into(),
        _ => payload.into(),
    }))
}

/// "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer" and the
/// rest is UTF-8 (RFC 6455 section 5.5.1).
fn close_frame(payload: &[u8]) -> Result<Option<CloseFrame>, ProtocolError> {
    match payload {
        [] => Ok(None),
        [_] => Err(ProtocolError::CloseTooShort),
        [high, low, reason @ ..] => {
            let code = CloseCode(u16::from_be_bytes([*high, *low]));
            if !code.may_be_sent() {
                return Err(ProtocolError::InvalidCloseCode(code.0));
            }
            Ok(Some(CloseFrame::new(code, utf8::check(reason)?)))
        }
    }
}

#[inline]
fn take<'b>(input: &mut &'b mut [u8], count: usize) -> &'b mut [u8] {
    let (taken, rest) = mem::take(input).split_at_mut(count);
    *input = rest;
    taken
}

/// The longest payload of a message. DEFLATE makes longer what it cannot make shorter, by as much as
/// this if the compressor has little memory, and a message of exactly the limit is to pass; what it
/// inflates to is bounded by the limit itself.
fn most(message_size: usize, extended: bool) -> usize {
    if extended { message_size.saturating_add(message_size / 8 + 64) } else { message_size }
}

fn exceeds(size: u64, limit: usize) -> bool {
    usize::try_from(size).map_or(true, |size| size > limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is part of what an idle connection holds.
    #[test]
    fn a_direction_at_rest_is_48_bytes() {
        assert_eq!(size_of::<Inbound>(), 48);
    }
}
