//! Frames in the order of writing, and how far they are written.

use std::{collections::VecDeque, io::IoSlice, iter};

use bytes::Bytes;
use sockeye_proto::{
    Header, MAX_HEADER, Message, Role,
    deflate::{Context, Level},
    outbound,
};

use crate::{
    codec,
    pool::{return_queue, take_queue},
};

/// What an entry by reference costs beside its payload, in bytes.
pub(crate) const ENTRY_OVERHEAD: usize = 64;

/// What is compressed in one turn: a message takes 1, and 1 for each [`COMPRESSED_UNIT`] of its bytes. So
/// it is 128 messages or 128 KiB at most, or one message, and about a millisecond at level 1 with a
/// window of 12 bits.
const COMPRESSED_TURN: usize = 128;
const COMPRESSED_UNIT: usize = 1024;

/// A buffer that has grown beyond this is not kept for reuse.
const KEPT_CAPACITY: usize = 64 * 1024;

/// Whole frames, small ones copied behind one another, large payloads by reference.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// What stands before `tail`; no header is ever split over two of them.
    sealed: VecDeque<Bytes>,
    tail: Vec<u8>,
    overhead: usize,
    /// Frames are among these that are to be compressed: they have RSV1 set, and no mask but zeros.
    has_raw: bool,
    /// By how many bytes it has become shorter since it was queued.
    saved: usize,
    /// What comes behind it and is to be compressed in a later turn.
    rest: Option<Box<Queue>>,
    /// Positions, counted from the first byte of the first chunk that is still here: up to where
    /// bytes are written, and the start of a frame at or before there.
    written: usize,
    frame_start: usize,
    /// The end of the control frames that were put in between last.
    control_end: usize,
}

/// A frame that waits, and its payload also as what others have, if they do.
struct Frame<'q> {
    header: Header,
    head: &'q [u8],
    payload: &'q [u8],
    shared: Option<&'q Bytes>,
}

impl Queue {
    /// The buffer that small frames are appended to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends the payload of the frame whose header was appended before.
    pub(crate) fn push_shared(&mut self, payload: Bytes) {
        self.seal();
        self.sealed.push_back(payload);
        self.overhead += ENTRY_OVERHEAD;
    }

    /// Appends a message that the connection's task is to compress before it writes, or its header
    /// alone, for a payload that is appended next.
    pub(crate) fn push_raw(&mut self, role: &Role, message: &Message<'_>, with_payload: bool) {
        self.has_raw = true;
        // A client's has a mask that changes nothing: its place is counted as waiting, or a message
        // that does not get shorter would take more than was counted.
        let mask = matches!(role, Role::Client { .. }).then_some([0; 4]);
        let header = Header { rsv1: true, mask, ..Header::new(message.opcode(), message.len()) };
        self.tail.extend_from_slice(header.write(&mut [0; MAX_HEADER]));
        if with_payload {
            self.tail.extend_from_slice(message.as_bytes());
        }
    }

    /// Whether anything is to be compressed.
    pub(crate) fn has_raw(&self) -> bool {
        self.has_raw
    }

    /// The next frames in the same order, as many as one turn can bear, those compressed that are to be
    /// and get shorter by it; and how many bytes of this they were. [`followed_by`](Self::followed_by)
    /// comes next.
    pub(crate) fn compressed(
        &self,
        role: &Role,
        level: Level,
        context: &mut Context,
    ) -> (Box<Self>, usize) {
        let mut wire = take_queue();
        let (mut count, mut used) = (0, 0);
        for Frame { header, head, payload, shared } in self.frames() {
            if header.rsv1 && used >= COMPRESSED_TURN {
                break;
            }
            count += head.len() + payload.len();
            if !header.rsv1 {
                wire.push_frame(head, payload, shared);
                continue;
            }
            used += 1 + payload.len() / COMPRESSED_UNIT;
            let opcode = header.opcode;
            codec::compress_if_shorter(payload, level, context, |compressed| {
                match (compressed, role) {
                    (Some(payload), _) => {
                        outbound::compressed(role, opcode, payload, &mut wire.tail);
                    }
                    (None, Role::Server) => {
                        let header = Header::new(opcode, payload.len());
                        wire.push_frame(header.write(&mut [0; MAX_HEADER]), payload, shared);
                    }
                    (None, Role::Client { .. }) => {
                        outbound::frame(role, opcode, payload, &mut wire.tail);
                    }
                }
            });
        }
        wire.saved = count.saturating_sub(wire.len());
        // Control frames that were put in between stand in front of all others.
        wire.control_end = self.control_end.saturating_sub(self.written);
        (wire, count)
    }

    /// Puts what it was compressed from behind it, but for these first bytes. What the entries cost
    /// counts as long as any of them waits.
    pub(crate) fn followed_by(mut self: Box<Self>, mut rest: Box<Self>, count: usize) -> Box<Self> {
        if rest.advance(count) {
            self.overhead = rest.overhead;
            return_queue(rest);
        } else {
            self.overhead = 0;
            self.rest = Some(rest);
        }
        self
    }

    /// What comes next, once all of this is written.
    pub(crate) fn take_rest(&mut self) -> Option<Box<Self>> {
        self.rest.take()
    }

    /// All frames that are not written; none is written in part.
    fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let sealed = self.sealed.iter().map(|chunk| (&chunk[..], Some(chunk)));
        let mut chunks = sealed.chain([(&self.tail[..], None)]);
        let mut rest = chunks.next().map_or(&[][..], |(chunk, _)| &chunk[self.written..]);
        iter::from_fn(move || {
            while rest.is_empty() {
                (rest, _) = chunks.next()?;
            }
            let (header, length) = Header::parse(rest).ok()??;
            let (head, behind) = rest.split_at(length);
            let Some((payload, behind)) = behind.split_at_checked(header.payload_len as usize)
            else {
                // It is the next chunk.
                rest = &[];
                let (payload, shared) = chunks.next()?;
                return Some(Frame { header, head, payload, shared });
            };
            rest = behind;
            Some(Frame { header, head, payload, shared: None })
        })
    }

    fn push_frame(&mut self, head: &[u8], payload: &[u8], shared: Option<&Bytes>) {
        self.tail.extend_from_slice(head);
        match shared {
            Some(shared) => self.push_shared(shared.clone()),
            None => self.tail.extend_from_slice(payload),
        }
    }

    fn len(&self) -> usize {
        self.chunks().map(<[u8]>::len).sum()
    }

    /// The most slices that are written at once.
    pub(crate) const MAX_SLICES: usize = 64;

    /// What is to be written next; returns how many slices were set.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; Self::MAX_SLICES]) -> usize {
        let mut skip = self.written;
        let mut count = 0;
        for chunk in self.chunks() {
            if count == slices.len() {
                break;
            }
            let unwritten = &chunk[skip..];
            skip = 0;
            if !unwritten.is_empty() {
                slices[count] = IoSlice::new(unwritten);
                count += 1;
            }
        }
        count
    }

    /// The one chunk, if there is but one.
    pub(crate) fn single(&self) -> Option<&[u8]> {
        self.sealed.is_empty().then(|| &self.tail[self.written..])
    }

    /// Notes that so many bytes were written; true once that is all of them.
    pub(crate) fn advance(&mut self, count: usize) -> bool {
        self.written += count;
        while let Some(first) = self.sealed.front()
            && self.written >= first.len()
        {
            let length = first.len();
            self.find_frame_start(length);
            self.written -= length;
            self.frame_start -= length;
            self.control_end = self.control_end.saturating_sub(length);
            self.sealed.pop_front();
        }
        self.is_written()
    }

    /// Whether nothing is left to write.
    pub(crate) fn is_written(&self) -> bool {
        self.sealed.is_empty() && self.written == self.tail.len()
    }

    /// By how many bytes compression has made it shorter than what was queued.
    pub(crate) fn saved(&self) -> usize {
        self.saved
    }

    /// What the entries cost beside their bytes.
    pub(crate) fn overhead(&self) -> usize {
        self.overhead
    }

    /// Puts frames behind the one that is being written, before all others.
    pub(crate) fn insert_next(&mut self, frames: Vec<u8>) {
        self.seal();
        let mut place = 0;
        let mut left = self.next_boundary();
        self.control_end = left + frames.len();
        while let Some(chunk) = self.sealed.get_mut(place)
            && left > 0
        {
            place += 1;
            if chunk.len() > left {
                let behind = chunk.split_off(left);
                self.sealed.insert(place, behind);
                break;
            }
            left -= chunk.len();
        }
        self.sealed.insert(place, Bytes::from(frames));
    }

    /// Whether control frames that were put in between are not all written.
    pub(crate) fn has_control(&self) -> bool {
        self.written < self.control_end
    }

    /// Drops everything behind the frame that is being written; returns how many bytes that was.
    pub(crate) fn discard_rest(&mut self) -> usize {
        self.seal();
        self.control_end = 0;
        let mut left = self.next_boundary();
        let mut dropped = 0;
        for chunk in &mut self.sealed {
            let kept = chunk.len().min(left);
            dropped += chunk.len() - kept;
            chunk.truncate(kept);
            left -= kept;
        }
        self.sealed.retain(|chunk| !chunk.is_empty());
        self.advance(0);
        if let Some(rest) = self.rest.take() {
            dropped += rest.len() - rest.written;
            self.overhead += rest.overhead;
        }
        dropped
    }

    /// Empties it for reuse.
    pub(crate) fn reset(&mut self) {
        self.sealed.clear();
        self.tail.clear();
        if self.tail.capacity() > KEPT_CAPACITY {
            self.tail = Vec::new();
        }
        (self.overhead, self.has_raw, self.saved, self.rest) = (0, false, 0, None);
        (self.written, self.frame_start, self.control_end) = (0, 0, 0);
    }

    /// The memory it takes while empty.
    pub(crate) fn footprint(&self) -> usize {
        size_of::<Self>() + self.tail.capacity() + self.sealed.capacity() * size_of::<Bytes>()
    }

    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.sealed.iter().map(|chunk| &chunk[..]).chain([&self.tail[..]])
    }

    /// Ends the tail. It is copied: its buffer is made for reuse, and the headers that are sealed
    /// this way are short.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.sealed.push_back(Bytes::copy_from_slice(&self.tail));
            self.tail.clear();
        }
    }

    /// Where the frame ends that is being written; `written` itself between two frames.
    fn next_boundary(&mut self) -> usize {
        let written = self.written;
        self.find_frame_start(written);
        self.frame_start
    }

    /// Moves `frame_start` to the first start of a frame at or behind `position`, from header to
    /// header. Only a write that the peer did not take whole makes this necessary.
    fn find_frame_start(&mut self, position: usize) {
        while self.frame_start < position {
            let Some(length) = self.frame_length_at(self.frame_start) else { break };
            self.frame_start += length;
        }
    }

    fn frame_length_at(&self, position: usize) -> Option<usize> {
        let mut before = 0;
        for chunk in self.chunks() {
            if position < before + chunk.len() {
                let (header, length) = Header::parse(&chunk[position - before..]).ok()??;
                return Some(length + header.payload_len as usize);
            }
            before += chunk.len();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sockeye_proto::{
        Limits, Mask, Message, OpCode, Role,
        deflate::{Inflater, Parameters},
        outbound,
    };

    impl Queue {
        fn unwritten(&self) -> usize {
            self.len() - self.written
        }
    }

    fn push(queue: &mut Queue, payload: &[u8], by_reference: bool) {
        let message = Message::from(payload);
        if by_reference {
            outbound::server_header(&message, queue.tail());
            queue.push_shared(Bytes::copy_from_slice(payload));
        } else {
            outbound::message(&Role::Server, &message, queue.tail());
        }
    }

    fn write(queue: &mut Queue, count: usize, wire: &mut Vec<u8>) {
        let mut slices = [IoSlice::new(&[]); Queue::MAX_SLICES];
        let used = queue.slices(&mut slices);
        let bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.to_vec()).collect();
        let count = count.min(bytes.len());
        wire.extend_from_slice(&bytes[..count]);
        queue.advance(count);
    }

    /// The payload lengths of the frames on the wire, which has to end with a whole one.
    fn frames(mut wire: &[u8]) -> Vec<u64> {
        let mut lengths = Vec::new();
        while !wire.is_empty() {
            let (header, length) = Header::parse(wire).unwrap().unwrap();
            wire = &wire[length + header.payload_len as usize..];
            lengths.push(header.payload_len);
        }
        lengths
    }

    /// How a frame gets into the queue.
    #[derive(Clone, Copy, Debug)]
    enum Entry {
        Raw,
        RawByReference,
        Plain,
        /// A server's alone, as a client has to mask a copy.
        PlainByReference,
        /// A frame that others get, too.
        Whole,
        Control,
    }

    fn entries() -> impl Strategy<Value = Vec<(Entry, Vec<u8>)>> {
        let entry = prop_oneof![
            3 => Just(Entry::Raw),
            2 => Just(Entry::RawByReference),
            1 => Just(Entry::Plain),
            1 => Just(Entry::PlainByReference),
            1 => Just(Entry::Whole),
            1 => Just(Entry::Control),
        ];
        let payload = prop_oneof![
            1 => prop::collection::vec(any::<u8>(), 0..300),
            1 => prop::collection::vec(any::<u8>(), 0..20),
            3 => (0usize..400, 0u8..5).prop_map(|(n, byte)| [b"to and fro", &vec![byte; n][..]].concat()),
            1 => (65_000usize..66_000).prop_map(|n| vec![b'a'; n]),
        ];
        prop::collection::vec((entry, payload), 1..12)
    }

    /// Queues it; gives what is to be on the wire: the opcode, and the payload.
    fn enqueue(
        queue: &mut Queue,
        role: &Role,
        entry: Entry,
        payload: &[u8],
        raw: &mut usize,
    ) -> (OpCode, Vec<u8>) {
        let message = Message::from(payload);
        match (entry, role) {
            (Entry::Raw, _) => {
                queue.push_raw(role, &message, true);
                *raw += 1;
            }
            (Entry::RawByReference, _) => {
                queue.push_raw(role, &message, false);
                queue.push_shared(Bytes::copy_from_slice(payload));
                *raw += 1;
            }
            (Entry::PlainByReference, Role::Server) => push(queue, payload, true),
            (Entry::Whole, Role::Server) => {
                let mut frame = Vec::new();
                outbound::message(role, &message, &mut frame);
                queue.push_shared(frame.into());
            }
            (Entry::Control, _) => {
                let payload = &payload[..payload.len().min(125)];
                outbound::control(role, OpCode::Pong, payload, queue.tail());
                return (OpCode::Pong, payload.to_vec());
            }
            _ => outbound::message(role, &message, queue.tail()),
        }
        (OpCode::Binary, payload.to_vec())
    }

    /// The frames on the wire as the peer reads them, each with whether it was compressed.
    fn read(mut wire: &[u8], role: &Role, receiving: &mut Context) -> Vec<(OpCode, Vec<u8>, bool)> {
        let mut frames = Vec::new();
        while !wire.is_empty() {
            let (header, length) = Header::parse(wire).unwrap().unwrap();
            assert_eq!(header.mask.is_some(), matches!(role, Role::Client { .. }));
            let (frame, behind) = wire.split_at(length + header.payload_len as usize);
            wire = behind;
            let mut payload = frame[length..].to_vec();
            if let Some(key) = header.mask {
                Mask::new(key).apply(&mut payload);
            }
            if header.rsv1 {
                let (limits, mut inflated) = (Limits::default(), Vec::new());
                Inflater::new().inflate(&payload, receiving, &limits, &mut inflated).unwrap();
                assert!(payload.len() < inflated.len());
                payload = inflated;
            }
            frames.push((header.opcode, payload, header.rsv1));
        }
        frames
    }

    const CLIENT: Role = Role::Client { masking_key: || [1, 2, 3, 4] };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// Two queues, as the second one's frames refer to those of the first.
        #[test]
        fn compressed_frames_are_the_same_in_the_same_order(
            queues in [entries(), entries()],
            control in prop::option::of(0usize..125),
            step in 1usize..5000,
        ) {
            for role in [Role::Server, CLIENT] {
                let parameters = Parameters::default();
                let mut sending = parameters.sending(&role);
                let mut receiving = parameters.sending(&role);
                for entries in &queues {
                    let (mut queue, mut expected, mut raw) = (Queue::default(), Vec::new(), 0);
                    for (entry, payload) in entries {
                        expected.push(enqueue(&mut queue, &role, *entry, payload, &mut raw));
                    }
                    let mut first = 0;
                    if let Some(length) = control {
                        let mut ping = Vec::new();
                        outbound::control(&role, OpCode::Ping, &vec![7; length], &mut ping);
                        first = ping.len();
                        queue.insert_next(ping);
                        expected.insert(0, (OpCode::Ping, vec![7; length]));
                    }
                    prop_assert_eq!(queue.has_raw(), raw > 0);
                    let (bytes, overhead) = (queue.len(), queue.overhead());
                    let (mut wire, mut saved, mut waits) = (Vec::new(), 0, Some(Box::new(queue)));
                    let mut released = 0;
                    while let Some(queue) = waits {
                        let (compressed, count) =
                            queue.compressed(&role, Level::FASTEST, &mut sending);
                        let mut compressed = compressed.followed_by(queue, count);
                        prop_assert!(!compressed.has_raw());
                        prop_assert_eq!(compressed.unwritten() + compressed.saved(), count);
                        (saved, released) =
                            (saved + compressed.saved(), released + compressed.overhead());
                        loop {
                            prop_assert_eq!(compressed.has_control(), wire.len() < first);
                            if compressed.is_written() {
                                break;
                            }
                            write(&mut compressed, step, &mut wire);
                        }
                        waits = compressed.take_rest();
                    }
                    prop_assert_eq!(wire.len() + saved, bytes);
                    prop_assert_eq!(released, overhead);
                    let read = read(&wire, &role, &mut receiving);
                    let got: Vec<_> = read.iter().map(|(o, p, _)| (*o, p.clone())).collect();
                    prop_assert!(got == expected);
                    prop_assert!(read.iter().filter(|(.., compressed)| *compressed).count() <= raw);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_frame_put_in_between_stands_at_the_next_boundary_whatever_is_written(
            payloads in prop::collection::vec((200usize..700, any::<bool>()), 1..8),
            steps in prop::collection::vec(0usize..900, 0..6),
        ) {
            let mut queue = Queue::default();
            for (length, by_reference) in &payloads {
                push(&mut queue, &vec![7; *length], *by_reference);
            }
            let mut wire = Vec::new();
            for step in steps {
                write(&mut queue, step, &mut wire);
            }
            let written = wire.len();
            let mut ping = Vec::new();
            outbound::message(&Role::Server, &"ping".into(), &mut ping);
            queue.insert_next(ping);
            while queue.unwritten() > 0 {
                write(&mut queue, 333, &mut wire);
            }
            let lengths = frames(&wire);
            let place = lengths.iter().position(|length| *length == 4).unwrap();
            let end_of = |count: usize| payloads[..count].iter().map(|(n, _)| n + 4).sum::<usize>();
            prop_assert!(end_of(place) >= written);
            prop_assert!(place == 0 || end_of(place - 1) < written);
            let others: Vec<_> = lengths.iter().filter(|n| **n != 4).map(|n| *n as usize).collect();
            let expected: Vec<_> = payloads.iter().map(|(length, _)| *length).collect();
            prop_assert_eq!(others, expected);
        }

        #[test]
        fn what_is_left_after_discarding_ends_the_frame_that_was_begun(
            payloads in prop::collection::vec((200usize..700, any::<bool>()), 1..8),
            steps in prop::collection::vec(0usize..900, 0..6),
        ) {
            let mut queue = Queue::default();
            for (length, by_reference) in &payloads {
                push(&mut queue, &vec![7; *length], *by_reference);
            }
            let mut wire = Vec::new();
            for step in steps {
                write(&mut queue, step, &mut wire);
            }
            let (begun, before) = (wire.len(), queue.unwritten());
            let dropped = queue.discard_rest();
            prop_assert_eq!(queue.unwritten() + dropped, before);
            while queue.unwritten() > 0 {
                write(&mut queue, 100, &mut wire);
            }
            let mut end = 0;
            for length in frames(&wire) {
                prop_assert!(end < begun);
                end += length as usize + 4;
            }
        }
    }
}
