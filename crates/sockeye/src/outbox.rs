//! Bytes that wait for one peer, bounded, and who is told about them.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    task::Waker,
};

use bytes::Bytes;
use sockeye_proto::{
    CloseCode, CloseFrame, Closing, Connection, Message, OpCode, ProtocolError, Role, outbound,
};

use crate::{
    Config, Overflow, budget,
    pool::{return_queue, take_queue},
    queue::{ENTRY_OVERHEAD, Queue},
    socket::{Close, ClosedBy, DropReason, SendStatus},
    sync::{AtomicBool, AtomicU8, Mutex, MutexGuard},
    waiters::{Interest, Waiters},
    yields::Yields,
};

/// From this length on a payload that is owned is queued by reference: below it the copy is cheaper
/// than a further slice in the write and the count of references.
const BY_REFERENCE: usize = 16 * 1024;

/// What the connection's task has to know without taking the lock.
pub(crate) mod signal {
    /// More than the high-water mark waits, and not yet less than the low-water mark.
    pub(crate) const PRESSURE: u8 = 1 << 0;
    /// `drain` is due.
    pub(crate) const DRAIN: u8 = 1 << 1;
    /// This side has asked for the closing handshake.
    pub(crate) const CLOSE: u8 = 1 << 2;
    /// More would wait than may: the peer is too slow.
    pub(crate) const OVERFLOW: u8 = 1 << 3;
    /// The connection is to be cut.
    pub(crate) const TERMINATE: u8 = 1 << 4;
    /// The server ends: a handler that still runs is dropped too.
    pub(crate) const ABANDON: u8 = 1 << 5;
    /// What was handed over to a `WebSocket` is not all taken: nothing more is handled.
    pub(crate) const UNTAKEN: u8 = 1 << 6;
    /// Nor has its loop come back for more: it may still answer what it has taken.
    pub(crate) const ANSWERING: u8 = 1 << 7;
}

/// Bytes waiting for one peer. Senders push under a short lock; the connection's task takes all
/// there is, and is the only one that writes.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// The connection's task is polling its handler: what is pushed now is its own, needs no wake,
    /// and leaves at the end of the turn.
    turn: AtomicBool,
    signals: AtomicU8,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    queue: Option<Box<Queue>>,
    /// What waits and what is being written, in bytes, and what that costs beside its bytes.
    buffered: usize,
    overhead: usize,
    /// All bytes that were ever queued; `queued - buffered` of them have reached the kernel.
    queued: u64,
    /// Control frames among what is being written, in bytes. They overtook what `queued` counts, so
    /// of what is written they are paid first: nothing is ever called flushed too early.
    overtaking: u32,
    /// How many messages were refused because too much waited.
    dropped: u32,
    /// What of `buffered` the sum of all outboxes knows of, in its units.
    in_sum: u32,
    /// Something in the queue was pushed by the connection's own handler.
    own: bool,
    yields: Yields,
    parked: bool,
    waker: Option<Waker>,
    waiters: Option<Box<Waiters>>,
    /// How the connection ends, as far as that is known, and whether it has.
    close: Option<Arc<Close>>,
    ended: bool,
}

/// A message on its way into the outbox.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outgoing<'a> {
    /// It travels as it is.
    Plain(&'a Message<'a>),
    /// It was compressed to this.
    Compressed(OpCode, &'a [u8]),
    /// The connection's task compresses it.
    Raw(&'a Message<'a>),
    /// A server's frame that others get, too.
    Frame(&'a Bytes),
}

/// What the connection's task finds when it looks for something to write.
pub(crate) enum Taken {
    Nothing,
    /// Others have pushed, the task itself has not: let the tasks that are ready run first.
    Others,
    Queue(Box<Queue>),
}

impl Outbox {
    pub(crate) fn new(role: Role) -> Self {
        Self {
            turn: AtomicBool::new(false),
            signals: AtomicU8::new(0),
            inner: Mutex::new(Inner {
                connection: Connection::new(role),
                queue: None,
                buffered: 0,
                overhead: 0,
                queued: 0,
                overtaking: 0,
                dropped: 0,
                in_sum: 0,
                own: false,
                yields: Yields::default(),
                parked: false,
                waker: None,
                waiters: None,
                close: None,
                ended: false,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has(&self, signals: u8) -> bool {
        self.signals.load(Ordering::Acquire) & signals != 0
    }

    pub(crate) fn set(&self, signals: u8) {
        self.signals.fetch_or(signals, Ordering::AcqRel);
    }

    pub(crate) fn clear(&self, signals: u8) {
        self.signals.fetch_and(!signals, Ordering::AcqRel);
    }

    pub(crate) fn role(&self) -> Role {
        self.lock().connection.role()
    }

    /// Whether a message would be taken, if there is room.
    pub(crate) fn takes_messages(&self) -> bool {
        self.takes(&self.lock())
    }

    fn takes(&self, inner: &Inner) -> bool {
        let is_cut = self.has(signal::OVERFLOW | signal::TERMINATE);
        !is_cut && inner.connection.closing() == Closing::Open && !inner.ended
    }
}

/// For everyone who holds a socket.
impl Outbox {
    pub(crate) fn send(&self, config: &Config, outgoing: Outgoing<'_>) -> SendStatus {
        let mut inner = self.lock();
        if !self.takes(&inner) {
            return SendStatus::Dropped(DropReason::Closed);
        }
        let before = inner.buffered();
        if inner.buffered > 0 && is_too_much(config, before, outgoing.len()) {
            inner.dropped = inner.dropped.saturating_add(1);
            if config.overflow == Overflow::Close {
                // A flag alone: this may be in the midst of a publication, and those who wait are told
                // by the connection's task.
                self.set(signal::OVERFLOW);
                inner.wake();
            }
            return SendStatus::Dropped(DropReason::Overflow);
        }
        let buffered = before + inner.push(outgoing);
        if self.turn.load(Ordering::Relaxed) {
            inner.own = true;
        } else {
            inner.wake();
        }
        if buffered <= config.high_water {
            return SendStatus::Queued;
        }
        self.set(signal::PRESSURE);
        self.clear(signal::DRAIN);
        SendStatus::Backpressure { buffered }
    }

    pub(crate) fn ping(&self, payload: &[u8]) -> bool {
        let mut inner = self.lock();
        let taken = !inner.ended && inner.connection.ping(payload);
        if taken {
            inner.wake();
        }
        taken
    }

    /// Queues the close frame behind all that waits.
    pub(crate) fn close(&self, frame: &CloseFrame) {
        let mut inner = self.lock();
        // A peer that is too slow gets the close frame that says so, and no other.
        let refused = self.has(signal::OVERFLOW | signal::TERMINATE);
        if !refused && !inner.ended && inner.close_with(frame) {
            self.set(signal::CLOSE);
            inner.own |= self.turn.load(Ordering::Relaxed);
            inner.wake();
            inner.unlock_and_notify();
        }
    }

    pub(crate) fn terminate(&self, signals: u8) {
        let mut inner = self.lock();
        self.set(signals);
        inner.wake();
        inner.unlock_and_notify();
    }

    /// What was handed over is taken, or dealt with, as these signals say. What has been sent because of
    /// it is as the handler's own: it waits for nobody else.
    pub(crate) fn on_taken(&self, signals: u8) {
        let mut inner = self.lock();
        self.clear(signals);
        inner.own = true;
        inner.wake();
    }

    pub(crate) fn buffered(&self) -> usize {
        self.lock().buffered()
    }

    /// How many messages were refused because too much waited.
    pub(crate) fn dropped(&self) -> u32 {
        self.lock().dropped
    }

    pub(crate) fn closing(&self) -> Closing {
        self.lock().connection.closing()
    }

    pub(crate) fn end(&self) -> Option<Arc<Close>> {
        let inner = self.lock();
        if inner.ended { inner.close.clone() } else { None }
    }

    /// Whether the connection has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// A position in all that was ever queued: its end.
    pub(crate) fn position(&self) -> u64 {
        self.lock().queued
    }

    /// Whether all up to `position` has reached the kernel.
    pub(crate) fn is_flushed(&self, position: u64) -> bool {
        let inner = self.lock();
        inner.queued - inner.buffered as u64 >= position
    }

    /// Remembers to wake `waker` at the next change, in the place of what `key` had before.
    pub(crate) fn watch(&self, key: u64, interest: Interest, waker: &Waker) {
        self.lock().waiters.get_or_insert_default().watch(key, interest, waker);
    }

    pub(crate) fn unwatch(&self, key: u64) {
        let mut inner = self.lock();
        if let Some(waiters) = &mut inner.waiters {
            waiters.forget(key);
        }
        inner.waiters.take_if(|waiters| waiters.is_empty());
    }
}

/// For the connection's task.
impl Outbox {
    pub(crate) fn set_turn(&self, turn: bool) {
        self.turn.store(turn, Ordering::Relaxed);
    }

    /// A message was handed over.
    pub(crate) fn on_handed_over(&self) {
        self.set(signal::UNTAKEN | signal::ANSWERING);
    }

    /// Takes what waits; `others_too` says that the tasks that were ready have run.
    pub(crate) fn take(&self, others_too: bool) -> Taken {
        let mut inner = self.lock();
        let control = inner.connection.control().take();
        let own = std::mem::take(&mut inner.own);
        if inner.queue.is_none() && control.is_empty() {
            return Taken::Nothing;
        }
        if control.is_empty() && !own {
            let position = inner.queued as u32;
            if others_too {
                inner.yields.end(position);
            } else if inner.yields.begin(position) {
                return Taken::Others;
            }
        }
        inner.overtaking += control.len() as u32;
        let mut queue = inner.queue.take().unwrap_or_else(take_queue);
        if !control.is_empty() {
            queue.insert_next(control);
        }
        Taken::Queue(queue)
    }

    /// Control frames that came while a queue is being written.
    pub(crate) fn take_control(&self) -> Vec<u8> {
        let mut inner = self.lock();
        let control = inner.connection.control().take();
        inner.overtaking += control.len() as u32;
        control
    }

    /// The kernel took `count` bytes of a queue that is now `complete` or goes on; says whether anything
    /// else waits.
    pub(crate) fn on_written(
        &self,
        config: &Config,
        count: usize,
        complete: Option<Box<Queue>>,
    ) -> bool {
        let mut inner = self.lock();
        let (saved, overhead) =
            complete.as_ref().map_or((0, 0), |queue| (queue.saved(), queue.overhead()));
        // What was saved counts as waiting until all is written, or a part of it would pass for more
        // than it is.
        inner.release(count + saved, overhead);
        if self.has(signal::PRESSURE) && inner.buffered() <= config.low_water {
            self.clear(signal::PRESSURE);
            self.set(signal::DRAIN);
        }
        let waits = inner.queue.is_some() || !inner.connection.control().is_empty();
        inner.unlock_and_notify_progress();
        if let Some(queue) = complete {
            return_queue(queue);
        }
        waits
    }

    /// Goes to sleep, unless something is to be done: one of the signals for `attention`, something to
    /// write, or input that waited for the end of one of the signals `awaited`. While a write is blocked
    /// by `writing`, only control frames count as something to write, and only if none is under way.
    pub(crate) fn park(
        &self,
        waker: &Waker,
        attention: u8,
        awaited: u8,
        writing: Option<&Queue>,
    ) -> bool {
        let mut inner = self.lock();
        if awaited & !self.signals.load(Ordering::Acquire) != 0 {
            return false;
        }
        let to_write = writing.is_none() && inner.queue.is_some();
        let takes_control = writing.is_none_or(|queue| !queue.has_control());
        let control = takes_control && !inner.connection.control().is_empty();
        if to_write || control || self.has(attention) {
            return false;
        }
        if !inner.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inner.waker = Some(waker.clone());
        }
        inner.parked = true;
        true
    }

    pub(crate) fn on_ping(&self, payload: &[u8]) {
        self.lock().connection.on_ping(payload);
    }

    pub(crate) fn on_close(&self, frame: Option<CloseFrame>) {
        let mut inner = self.lock();
        inner.push_frame(|connection, wire| connection.on_close(frame.as_ref(), wire));
        inner.own = true;
        if let Some(close) = &mut inner.close {
            Arc::make_mut(close).clean = true;
            return;
        }
        let frame = frame.unwrap_or_else(|| CloseFrame::new(CloseCode::NO_STATUS, ""));
        inner.close = Some(Arc::new(Close::new(ClosedBy::Peer, frame, true)));
    }

    pub(crate) fn fail(&self, error: &ProtocolError) {
        let mut inner = self.lock();
        inner.push_frame(|connection, wire| connection.fail(error, wire));
        inner.own = true;
        if inner.close.is_none() {
            let frame = CloseFrame::new(error.close_code(), error.to_string());
            inner.close = Some(Arc::new(Close::new(ClosedBy::Local, frame, false)));
        }
    }

    /// The peer is too slow: what waits is given up behind the frame that is being written, and
    /// the close frame takes its place. A closing handshake that has begun goes on as it is.
    pub(crate) fn overflow(&self, writing: &mut Option<Box<Queue>>) {
        let mut inner = self.lock();
        if inner.connection.closing() != Closing::Open {
            return;
        }
        let waiting = inner.queue.take();
        // Payloads are dropped without the lock, as they may run code of their owner. Nothing comes
        // in meanwhile: from an overflow on, sends are refused.
        drop(inner);
        let unwritten = writing.as_mut().map_or(0, |queue| queue.discard_rest());
        let written = writing.take_if(|queue| queue.is_written());
        let given_up = waiting.map(|mut queue| (queue.discard_rest(), queue.overhead()));

        let mut inner = self.lock();
        let (saved, overhead) = written.map_or((0, 0), |queue| (queue.saved(), queue.overhead()));
        inner.release(unwritten + saved, overhead);
        let (bytes, overhead) = given_up.unwrap_or_default();
        inner.release(bytes, overhead);
        let frame = CloseFrame::new(CloseCode::TRY_AGAIN, "too slow to receive what was sent");
        inner.close_with(&frame);
        inner.own = true;
        self.set(signal::CLOSE);
        inner.unlock_and_notify();
    }

    /// The connection has ended, for this reason unless a close frame had given one: from now on
    /// nothing is taken, nobody waits, and everybody can ask how it was.
    pub(crate) fn finish(&self, reason: &'static str) -> Arc<Close> {
        let mut inner = self.lock();
        let close = inner.close.get_or_insert_with(|| {
            let frame = CloseFrame::new(CloseCode::ABNORMAL, reason);
            Arc::new(Close::new(ClosedBy::Network, frame, false))
        });
        let close = close.clone();
        inner.ended = true;
        inner.connection.control().take();
        let queue = inner.queue.take();
        (inner.buffered, inner.overhead, inner.overtaking) = (0, 0, 0);
        budget::settle(&mut inner.in_sum, 0);
        inner.unlock_and_notify();
        drop(queue);
        close
    }

    /// The task ends: a waker that was kept would keep its memory, as long as anyone has a socket.
    pub(crate) fn forget_waker(&self) {
        self.lock().waker = None;
    }
}

/// Gives the lock back, and then wakes those who wait: their wakers are other people's code.
trait UnlockAndNotify {
    /// The connection ends.
    fn unlock_and_notify(self);
    /// Something was written.
    fn unlock_and_notify_progress(self);
}

impl UnlockAndNotify for MutexGuard<'_, Inner> {
    fn unlock_and_notify(mut self) {
        let waiters = self.waiters.take();
        drop(self);
        waiters.unwrap_or_default().into_wakers().for_each(Waker::wake);
    }

    fn unlock_and_notify_progress(mut self) {
        let (flushed, buffered) = (self.queued - self.buffered as u64, self.buffered());
        let Some(waiters) = &mut self.waiters else { return };
        let met = waiters.take_met(flushed, buffered);
        drop(self);
        met.into_iter().for_each(Waker::wake);
    }
}

impl Inner {
    /// Queues a message; gives what more waits because of it, in bytes.
    fn push(&mut self, outgoing: Outgoing<'_>) -> usize {
        let role = self.connection.role();
        let queue = self.queue.get_or_insert_with(take_queue);
        let tail = queue.tail();
        let before = tail.len();
        // What stands behind the tail, by reference.
        let mut behind = None;
        match outgoing {
            Outgoing::Plain(message) => {
                behind = shared(message).filter(|_| matches!(role, Role::Server));
                match behind {
                    Some(_) => outbound::server_header(message, tail),
                    None => outbound::message(&role, message, tail),
                }
            }
            Outgoing::Compressed(opcode, payload) => {
                outbound::compressed(&role, opcode, payload, tail);
            }
            Outgoing::Raw(message) => {
                behind = shared(message);
                queue.push_raw(&role, message, behind.is_none());
            }
            Outgoing::Frame(frame) if frame.len() >= BY_REFERENCE => behind = Some(frame.clone()),
            Outgoing::Frame(frame) => tail.extend_from_slice(frame),
        }
        let mut bytes = queue.tail().len() - before;
        if let Some(payload) = behind {
            bytes += payload.len();
            queue.push_shared(payload);
            self.overhead += ENTRY_OVERHEAD;
            self.account(bytes);
            return bytes + ENTRY_OVERHEAD;
        }
        self.account(bytes);
        bytes
    }

    /// Appends what `write` does, as part of what waits.
    fn push_frame<R>(&mut self, write: impl FnOnce(&mut Connection, &mut Vec<u8>) -> R) -> R {
        let mut queue = self.queue.take().unwrap_or_else(take_queue);
        let tail = queue.tail();
        let before = tail.len();
        let result = write(&mut self.connection, tail);
        let bytes = tail.len() - before;
        self.account(bytes);
        // Nothing may have been owed; then nothing waits.
        if queue.is_written() {
            return_queue(queue);
        } else {
            self.queue = Some(queue);
        }
        result
    }

    /// Begins the closing handshake, unless that was done before.
    fn close_with(&mut self, frame: &CloseFrame) -> bool {
        let begun = self.push_frame(|connection, wire| connection.close(Some(frame), wire));
        if begun {
            self.close = Some(Arc::new(Close::new(ClosedBy::Local, frame.clone(), false)));
        }
        begun
    }

    fn account(&mut self, bytes: usize) {
        self.buffered += bytes;
        self.queued += bytes as u64;
        budget::settle(&mut self.in_sum, self.buffered);
    }

    /// So many bytes wait no more, and so much overhead.
    fn release(&mut self, bytes: usize, overhead: usize) {
        let paid = bytes.min(self.overtaking as usize);
        self.overtaking -= paid as u32;
        self.buffered = self.buffered.saturating_sub(bytes - paid);
        self.overhead = self.overhead.saturating_sub(overhead);
        budget::settle(&mut self.in_sum, self.buffered);
    }

    fn buffered(&mut self) -> usize {
        self.buffered + self.overhead + self.overtaking as usize + self.connection.control().len()
    }

    /// Once until the task has run and parked again.
    fn wake(&mut self) {
        if std::mem::take(&mut self.parked)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }
}

impl Outgoing<'_> {
    /// How much it adds to what waits, but for headers.
    fn len(&self) -> usize {
        match self {
            Self::Plain(message) | Self::Raw(message) => message.len(),
            Self::Compressed(_, payload) => payload.len(),
            Self::Frame(frame) => frame.len(),
        }
    }
}

/// Whether a further message of this length is more than may wait beside what does.
fn is_too_much(config: &Config, buffered: usize, length: usize) -> bool {
    buffered + length > config.outbox_limit || buffered > config.high_water && budget::is_exceeded()
}

/// The payload, if it is long and owned.
fn shared(message: &Message<'_>) -> Option<Bytes> {
    if message.len() < BY_REFERENCE {
        return None;
    }
    match message {
        Message::Text(text) => text.as_shared().map(|text| text.clone().into_bytes()),
        Message::Binary(data) => data.as_shared().cloned(),
    }
}
