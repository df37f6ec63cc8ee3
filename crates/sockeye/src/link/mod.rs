//! A connection without its handler: what is read, written and due, and how it ends.

mod input;
mod output;

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use pin_project_lite::pin_project;
use sockeye_proto::{Event, Extension, Inbound, Message, OpCode, ProtocolError, Role};
use tokio::time::{Sleep, sleep_until};

use crate::{
    Close, Error, Result,
    deadlines::{Deadlines, Tick},
    outbox::signal,
    pool::{LARGE, LongMessages, ReadBuffer},
    registry::Owner,
    transport::{Io, Transport},
};

/// What a peer can use up before the other tasks get their turn: a message takes 1.
const TURN: u8 = 128;

/// What a full large buffer takes of a turn, so that a turn is 1 MiB at most. With one such buffer a
/// turn, several long messages at a time are in parts, and glibc gives their memory back to the
/// system after each: echoing 1 MB then cost three times as much.
const LARGE_READ: u8 = 16;

/// What a compressed message takes of a turn for each of these lengths that it inflates to, in bytes: as
/// much as if it had been read.
const INFLATED_UNIT: usize = LARGE / LARGE_READ as usize;

/// What compressing as much as one turn can bear takes of it: the peer's messages have a part of it, too.
const COMPRESSED: u8 = TURN / 2;

/// How many pings and pongs are kept for the handler that is busy; the oldest go first. They have
/// been answered all the same.
const MAX_DEFERRED: usize = 64;

/// What the loop of a connection does next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// The connection is new.
    Open,
    /// Bytes are there; [`Link::take_bytes`] gives them.
    Bytes,
    /// A ping came, and was answered; [`Link::take_control`] gives its payload.
    Ping,
    /// A pong came; [`Link::take_control`] gives its payload.
    Pong,
    /// A call failed; [`Link::take_error`] gives the error.
    Failed,
    /// The outbox has drained.
    Drain,
    /// The connection has ended, but for what lingers.
    Over,
}

/// How far a connection has come towards its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The handler does not know of the connection yet.
    New,
    /// Messages go both ways.
    Open,
    /// This side has sent its close frame, or is about to: only the peer's is waited for.
    Closing,
    /// Nothing more is expected from the peer: what waits is written, then the end.
    Flushing,
    /// All is said. Input is read and dropped, as a socket that is closed over unread input resets
    /// the connection, and the close frame would be lost with it.
    Lingering,
    /// There is no connection any more.
    Over,
}

pin_project! {
    pub(crate) struct Link<T> {
        io: Parts<T>,
        #[pin]
        timer: Sleep,
    }
}

struct Parts<T> {
    transport: Transport<T>,
    inbound: Inbound<LongMessages>,
    deadlines: Deadlines,
    /// What was read and is not dealt with: early bytes, what came while a handler waited, or what a
    /// turn has left.
    buffer: Option<ReadBuffer>,
    deferred: Option<Box<Deferred>>,
    owner: Owner,
    phase: Phase,
    /// Signals that have been acted upon.
    seen: u8,
    flags: Flags,
    /// What is used up of the turn.
    used: u8,
}

/// Eight yes-or-nos in one byte, as an idle connection is not much more than its task.
#[derive(Clone, Copy, Debug)]
struct Flags(u8);

/// Others have pushed, and the tasks that were ready are running.
const YIELDED: Flags = Flags(1);
/// The turn was long: the other tasks first.
const PAUSE: Flags = Flags(1 << 1);
/// Reading stands still.
const DEAF: Flags = Flags(1 << 2);
/// The last read filled its buffer: the next one gets a large one.
const MUCH: Flags = Flags(1 << 3);
/// The timer has to be set anew.
const REARM: Flags = Flags(1 << 4);
/// Input was left alone because of what lies untaken.
const UNTAKEN: Flags = Flags(1 << 5);
/// A close frame was left alone for a while, because the messages before it may be being answered.
const HELD: Flags = Flags(1 << 6);
/// This is a client.
const READS_ON: Flags = Flags(1 << 7);

impl Flags {
    fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    fn set(&mut self, flag: Self, value: bool) {
        self.0 = if value { self.0 | flag.0 } else { self.0 & !flag.0 };
    }

    fn take(&mut self, flag: Self) -> bool {
        let was_set = self.has(flag);
        self.set(flag, false);
        was_set
    }
}

/// What the handler is to be told before the next message. There rarely is anything.
#[derive(Default)]
struct Deferred {
    error: Option<Error>,
    control: VecDeque<(OpCode, Vec<u8>)>,
}

impl<T: Io> Link<T> {
    pub(crate) fn new(io: T, early: Bytes, owner: Owner) -> Self {
        let shared = &owner.socket.0;
        let (role, limits) = (shared.outbox.role(), &shared.config.limits);
        let is_compressed = shared.deflate.parameters().is_some();
        let extension = if is_compressed { Extension::Rsv1 } else { Extension::None };
        let inbound = Inbound::with_memory(&role, limits, extension);
        let mut flags = REARM;
        flags.set(READS_ON, matches!(role, Role::Client { .. }));
        let buffer = (!early.is_empty()).then(|| ReadBuffer::of(early.into()));
        let timer = sleep_until(shared.epoch);
        Self {
            io: Parts {
                transport: Transport::new(io),
                inbound,
                deadlines: Deadlines::new(),
                buffer,
                deferred: None,
                owner,
                phase: Phase::New,
                seen: 0,
                flags,
                used: 0,
            },
            timer,
        }
    }

    /// What the handler sends from now on is sent in its turn, or not.
    #[inline]
    pub(crate) fn set_turn(self: &Pin<&mut Self>, turn: bool) {
        self.io.owner.socket.0.outbox.set_turn(turn);
    }

    /// The next message in `rest`, if this turn is to handle one. What concerns the protocol alone is
    /// done here; pings and pongs are answered, and end the turn as they are the handler's next.
    #[inline]
    pub(crate) fn next_message<'b>(
        self: Pin<&mut Self>,
        rest: &mut &'b mut [u8],
    ) -> Option<Message<'b>> {
        let parts = self.project().io;
        while parts.used < TURN
            && parts.deferred.is_none()
            && !parts.is_pressed()
            && !parts.at_early_close(rest)
        {
            match parts.next_event(rest)? {
                // "No message after close was asked for locally".
                Event::Message(message) if parts.is_open() => {
                    parts.used += 1;
                    parts.deadlines.on_message();
                    return Some(message);
                }
                Event::Extended(opcode, payload) if parts.is_open() => {
                    return parts.inflate(opcode, &payload);
                }
                event => parts.defer(event),
            }
        }
        None
    }

    /// The turn ends with so much of the buffer unused.
    pub(crate) fn end_turn(self: Pin<&mut Self>, mut buffer: ReadBuffer, left: usize) {
        let parts = self.project().io;
        if parts.deadlines.on_turn(parts.inbound.is_incomplete()) {
            parts.flags.set(REARM, true);
        }
        if buffer.is_full() && buffer.size() == LARGE {
            parts.used = parts.used.saturating_add(LARGE_READ);
        }
        if left > 0 && parts.phase < Phase::Flushing {
            buffer.set_left(left);
            parts.buffer = Some(buffer);
        }
        parts.flags.set(PAUSE, parts.used >= TURN || left > 0);
    }

    /// The bytes of [`Next::Bytes`].
    pub(crate) fn take_bytes(self: Pin<&mut Self>) -> Option<ReadBuffer> {
        self.project().io.buffer.take()
    }

    /// A call has ended; an error is the handler's next.
    #[inline]
    pub(crate) fn end_call(self: Pin<&mut Self>, outcome: Option<Result>) {
        if let Some(Err(error)) = outcome {
            self.project().io.deferred.get_or_insert_default().error = Some(error);
        }
    }

    /// The payload of [`Next::Ping`] or [`Next::Pong`], boxed to be small in the task.
    #[expect(clippy::box_collection, reason = "a place of 8 bytes in the task is what it is for")]
    pub(crate) fn take_control(self: Pin<&mut Self>) -> Option<Box<Vec<u8>>> {
        let (_, payload) = self.project().io.deferred.as_mut()?.control.pop_front()?;
        Some(Box::new(payload))
    }

    /// The error of [`Next::Failed`].
    pub(crate) fn take_error(self: Pin<&mut Self>) -> Option<Error> {
        self.project().io.deferred.as_mut()?.error.take()
    }

    /// What to do next; writes what waits before.
    pub(crate) fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Next> {
        let mut this = self.project();
        if this.io.phase == Phase::New {
            this.io.phase = Phase::Open;
            return Poll::Ready(Next::Open);
        }
        loop {
            this.io.poll_output(this.timer.as_mut(), cx);
            if this.io.has_error() {
                return Poll::Ready(Next::Failed);
            }
            if this.io.phase >= Phase::Lingering {
                return Poll::Ready(Next::Over);
            }
            if this.io.flags.take(PAUSE) {
                this.io.used = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let phase = this.io.phase;
            if let Some(next) = this.io.poll_input(cx) {
                return Poll::Ready(next);
            }
            if this.io.phase != phase || this.io.flags.has(REARM) {
                continue;
            }
            if this.io.flags.has(YIELDED) || this.io.park(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Keeps the connection alive while a handler waits. Ready only if the handler is to be given
    /// up, because the server is.
    pub(crate) fn poll_behind(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        rest: &mut &mut [u8],
    ) -> Poll<()> {
        let mut this = self.project();
        // Who waits keeps the buffer, so the next one is not to be a large one.
        this.io.flags.set(MUCH, false);
        loop {
            this.io.poll_output(this.timer.as_mut(), cx);
            if this.io.has_signal(signal::ABANDON) {
                return Poll::Ready(());
            }
            let phase = this.io.phase;
            match phase {
                Phase::New | Phase::Open | Phase::Closing => this.io.poll_ahead(cx, rest),
                Phase::Lingering => this.io.poll_discard(cx),
                Phase::Flushing | Phase::Over => {}
            }
            if this.io.phase != phase {
                continue;
            }
            if this.io.flags.has(YIELDED) || this.io.park(cx) {
                return Poll::Pending;
            }
        }
    }

    /// The connection has ended: how.
    pub(crate) fn finish(self: Pin<&mut Self>) -> Arc<Close> {
        let parts = self.project().io;
        (parts.buffer, parts.deferred) = (None, None);
        parts.outbox().finish("the connection was lost")
    }

    /// Gives up all that the connection holds in its hub.
    pub(crate) fn leave_hub(self: Pin<&mut Self>) {
        let shared = &self.project().io.owner.socket.0;
        shared.held.give_up(shared);
    }

    /// Reads and drops until the peer is gone too, or the time is over.
    pub(crate) fn poll_linger(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            this.io.poll_output(this.timer.as_mut(), cx);
            if this.io.phase == Phase::Lingering {
                this.io.poll_discard(cx);
            }
            if this.io.phase == Phase::Over {
                return Poll::Ready(());
            }
            if this.io.park(cx) {
                return Poll::Pending;
            }
        }
    }
}

impl<T: Io> Parts<T> {
    fn outbox(&self) -> &crate::outbox::Outbox {
        &self.owner.socket.0.outbox
    }

    #[inline]
    fn has_signal(&self, signals: u8) -> bool {
        self.outbox().has(signals)
    }

    /// Sleeps, unless there is something to do.
    fn park(&mut self, cx: &Context<'_>) -> bool {
        let attention = (signal::CLOSE | signal::OVERFLOW | signal::TERMINATE) & !self.seen;
        let untaken = if self.flags.take(UNTAKEN) { signal::UNTAKEN } else { 0 };
        let answering = if self.flags.take(HELD) { signal::ANSWERING } else { 0 };
        let writing = self.transport.writing().as_deref();
        self.owner.socket.0.outbox.park(cx.waker(), attention, untaken | answering, writing)
    }

    /// Whether so much waits for the peer that nothing more of it is read. A client reads on: it is
    /// the one of the two that does, or both would stop, and wait for each other to go on.
    #[inline]
    fn is_pressed(&self) -> bool {
        self.phase == Phase::Open && self.has_signal(signal::PRESSURE) && !self.flags.has(READS_ON)
    }

    /// Whether a close frame comes next and has to wait: messages before it may be being answered, and
    /// once it is answered itself they cannot be any more.
    #[inline]
    fn at_early_close(&self, input: &[u8]) -> bool {
        self.has_signal(signal::ANSWERING)
            && self.phase < Phase::Closing
            && self.inbound.at_close_frame(input)
    }

    /// Whether a call has failed, and the handler was not told.
    fn has_error(&self) -> bool {
        self.deferred.as_ref().is_some_and(|deferred| deferred.error.is_some())
    }

    /// Whether the handler still gets what comes.
    #[inline]
    fn is_open(&self) -> bool {
        self.phase == Phase::Open && !self.has_signal(signal::CLOSE | signal::TERMINATE)
    }

    fn fail(&mut self, error: &ProtocolError) {
        tracing::debug!(id = %self.owner.socket.id(), %error, "peer failed");
        self.outbox().fail(error);
        self.on_last_frame();
    }

    fn now(&self) -> Tick {
        Tick::now(self.owner.socket.0.epoch)
    }

    /// Tells the deadlines of a change; the timer has to be set anew if something is due sooner now.
    fn rearm_if(&mut self, change: impl FnOnce(&mut Deadlines, Tick) -> bool) {
        let now = self.now();
        if change(&mut self.deadlines, now) {
            self.flags.set(REARM, true);
        }
    }

    /// Nothing more is expected from the peer.
    fn on_last_frame(&mut self) {
        self.buffer = None;
        self.begin_end(Phase::Flushing);
    }

    fn begin_end(&mut self, phase: Phase) {
        self.rearm_if(Deadlines::on_closing);
        self.phase = self.phase.max(phase);
    }

    fn on_io_error(&mut self, error: &io::Error) {
        tracing::debug!(id = %self.owner.socket.id(), %error, "connection lost");
        self.lose("the connection was reset");
    }

    fn lose(&mut self, reason: &'static str) {
        if self.phase < Phase::Lingering {
            self.outbox().finish(reason);
        }
        self.transport.cut();
        self.flags.set(YIELDED, false);
        self.phase = Phase::Over;
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) {
        if self.transport.poll_discard(cx).is_ready() {
            self.transport.cut();
            self.phase = Phase::Over;
        }
    }
}
