//! A connection without its handler: what is read, written and due, and how it ends.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use pin_project_lite::pin_project;
use sockeye_proto::{CloseCode, CloseFrame, Event, Extension, Inbound, ProtocolError, Role};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Close, Socket,
    deadlines::{Deadlines, Due},
    outbox::signal,
    pool::ReadBuffer,
    registry::Registration,
    transport::{Flush, Io, Transport},
};

/// How many pings and pongs are kept for the handler that is busy; the oldest go first. They have
/// been answered all the same.
const MAX_DEFERRED: usize = 64;

/// What the loop of a connection does next.
pub(crate) enum Next {
    /// These bytes came.
    Bytes(ReadBuffer),
    /// This came while the handler was busy, and was answered.
    Control(Event<'static>),
    /// The outbox has drained.
    Drain,
    /// The connection has ended, but for what lingers.
    Over,
}

/// How far a connection has come towards its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
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
    inbound: Inbound,
    deadlines: Deadlines,
    ahead: Option<Box<Ahead>>,
    owner: Owner,
    phase: Phase,
    /// Signals that have been acted upon.
    seen: u8,
    /// Others have pushed, and the tasks that were ready are running.
    yielded: bool,
    /// The turn was long: the other tasks first.
    pause: bool,
    /// Reading stands still.
    deaf: bool,
    /// Why the connection was lost, if it was.
    lost: &'static str,
}

/// What came and has not been dealt with: while a handler waits, or because a turn ended early.
#[derive(Default)]
struct Ahead {
    buffer: Option<ReadBuffer>,
    control: VecDeque<Event<'static>>,
}

/// Ends the connection for all who hold its socket, however the task ends.
struct Owner {
    socket: Socket,
    registration: Registration,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.socket.0.outbox.finish("the task of the connection was dropped");
        self.registration.remove();
    }
}

impl<T: Io> Link<T> {
    pub(crate) fn new(io: T, early: Bytes, socket: Socket, registration: Registration) -> Self {
        let limits = &socket.0.config.limits;
        let inbound = Inbound::new(&Role::Server, limits, Extension::None);
        let early = (!early.is_empty()).then(|| ReadBuffer::of(early.into()));
        let now = Instant::now();
        Self {
            io: Parts {
                transport: Transport::new(io),
                inbound,
                deadlines: Deadlines::new(now),
                ahead: early.map(|buffer| {
                    Box::new(Ahead { buffer: Some(buffer), control: VecDeque::new() })
                }),
                owner: Owner { socket, registration },
                phase: Phase::Open,
                seen: 0,
                yielded: false,
                pause: false,
                deaf: false,
                lost: "the connection was lost",
            },
            timer: sleep_until(now),
        }
    }

    /// What the handler sends from now on is sent in its turn, or not.
    #[inline]
    pub(crate) fn set_turn(self: &Pin<&mut Self>, turn: bool) {
        self.io.owner.socket.0.outbox.set_turn(turn);
    }

    /// The next event for the handler in `rest`; what concerns the protocol alone is done here.
    #[inline]
    pub(crate) fn next_event<'b>(
        self: Pin<&mut Self>,
        rest: &mut &'b mut [u8],
    ) -> Option<Event<'b>> {
        let parts = self.project().io;
        loop {
            let event = parts.next_event(rest)?;
            // "No message after close was asked for locally".
            if parts.phase == Phase::Open && !parts.has_signal(signal::CLOSE | signal::TERMINATE) {
                return Some(event);
            }
        }
    }

    /// Whether the turn has to end although input is left.
    #[inline]
    pub(crate) fn is_held(self: &Pin<&mut Self>) -> bool {
        let parts = &self.io;
        parts.has_signal(signal::PRESSURE) || parts.ahead.is_some()
    }

    /// The turn ends with so much of the buffer unused, after so many messages.
    pub(crate) fn end_turn(
        self: Pin<&mut Self>,
        mut buffer: ReadBuffer,
        left: usize,
        messages: u32,
    ) {
        let parts = self.project().io;
        parts.deadlines.on_turn(messages > 0, parts.inbound.is_incomplete());
        if left > 0 && parts.phase < Phase::Flushing {
            buffer.set_left(left);
            parts.ahead.get_or_insert_default().buffer = Some(buffer);
            parts.pause = true;
        }
    }

    /// What to do next; writes what waits before.
    pub(crate) fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Next> {
        let mut this = self.project();
        loop {
            this.io.poll_output(this.timer.as_mut(), cx);
            if this.io.phase >= Phase::Lingering {
                return Poll::Ready(Next::Over);
            }
            if std::mem::take(&mut this.io.pause) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(next) = this.io.poll_input(cx) {
                return Poll::Ready(next);
            }
            if this.io.yielded || this.io.park(cx, signal::DRAIN) {
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
        loop {
            this.io.poll_output(this.timer.as_mut(), cx);
            if this.io.has_signal(signal::ABANDON) {
                return Poll::Ready(());
            }
            match this.io.phase {
                Phase::Open | Phase::Closing => this.io.poll_ahead(cx, rest),
                Phase::Lingering => this.io.poll_discard(cx),
                Phase::Flushing | Phase::Over => {}
            }
            if this.io.yielded || this.io.park(cx, 0) {
                return Poll::Pending;
            }
        }
    }

    /// The connection has ended: says so to all who hold its socket, and how.
    pub(crate) fn finish(self: Pin<&mut Self>) -> Arc<Close> {
        let parts = self.project().io;
        parts.ahead = None;
        parts.outbox().finish(parts.lost)
    }

    /// Reads and drops until the peer is gone too, or the time is over.
    pub(crate) fn poll_linger(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        this.io.poll_output(this.timer.as_mut(), cx);
        if this.io.phase == Phase::Lingering {
            this.io.poll_discard(cx);
        }
        if this.io.phase == Phase::Over { Poll::Ready(()) } else { Poll::Pending }
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
    fn park(&self, cx: &Context<'_>, attention: u8) -> bool {
        if self.phase >= Phase::Lingering {
            return true;
        }
        let attention = attention | signal::CLOSE | signal::OVERFLOW | signal::TERMINATE;
        self.outbox().park(cx.waker(), attention & !self.seen, self.transport.is_blocked())
    }

    // ---- output

    /// Acts on signals and deadlines, and writes.
    fn poll_output(&mut self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) {
        loop {
            self.on_signals();
            self.poll_write(cx);
            if !self.poll_timer(timer.as_mut(), cx) {
                return;
            }
        }
    }

    fn on_signals(&mut self) {
        let seen = self.seen;
        let new = |signals: u8| signals & !seen;
        if self.has_signal(new(signal::TERMINATE)) {
            self.seen |= signal::TERMINATE;
            self.lose("the connection was terminated");
        }
        if self.has_signal(new(signal::OVERFLOW)) && self.phase < Phase::Lingering {
            self.seen |= signal::OVERFLOW;
            self.owner.socket.0.outbox.overflow(self.transport.writing());
        }
        if self.has_signal(new(signal::CLOSE)) {
            self.seen |= signal::CLOSE;
            self.deadlines.on_closing();
            self.phase = self.phase.max(Phase::Closing);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) {
        if self.phase >= Phase::Lingering {
            return;
        }
        let shared = &self.owner.socket.0;
        let deadlines = &mut self.deadlines;
        let progress = || deadlines.on_progress();
        let others_too = std::mem::take(&mut self.yielded);
        match self.transport.poll_flush(cx, &shared.outbox, &shared.config, others_too, progress) {
            Poll::Ready(Ok(Flush::Done)) if self.phase == Phase::Flushing => {
                match self.transport.poll_shutdown(cx) {
                    Poll::Ready(Ok(())) => self.phase = Phase::Lingering,
                    Poll::Ready(Err(error)) => self.on_io_error(&error),
                    Poll::Pending => {}
                }
            }
            Poll::Ready(Ok(Flush::Done)) => {}
            Poll::Ready(Ok(Flush::Others)) => {
                self.yielded = true;
                cx.waker().wake_by_ref();
            }
            Poll::Ready(Err(error)) => self.on_io_error(&error),
            Poll::Pending => self.deadlines.on_stall(),
        }
    }

    /// Acts on what is due; true if that may have left something to write.
    fn poll_timer(&mut self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> bool {
        let mut acted = false;
        let sooner = self.deadlines.take_sooner();
        if !timer.is_elapsed() && !sooner {
            return false;
        }
        if self.deaf {
            self.deadlines.on_deaf();
        }
        while self.phase != Phase::Over
            && let Some(due) = self.deadlines.due(&self.owner.socket.0.config)
        {
            acted = true;
            self.on_due(due);
        }
        if self.phase != Phase::Over
            && let Some(next) = self.deadlines.next(&self.owner.socket.0.config)
        {
            timer.as_mut().reset(next);
            if timer.poll(cx).is_ready() {
                acted = true;
            }
        }
        acted
    }

    fn on_due(&mut self, due: Due) {
        match due {
            Due::Ping => {
                self.outbox().ping(b"");
            }
            Due::Dead => self.lose("no answer to a ping"),
            Due::Stalled => self.lose("the peer took nothing of what waits for it"),
            Due::CloseTimeout => {
                self.lose("the closing handshake was not answered");
            }
            Due::Idle => self.close(CloseCode::AWAY, "idle for too long"),
            Due::Lifetime => self.close(CloseCode::AWAY, "connected for too long"),
            Due::Broken(error) => self.fail(&error),
        }
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        self.outbox().close(&CloseFrame::new(code, reason));
        self.on_signals();
    }

    // ---- input

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        if let Some(ahead) = &mut self.ahead {
            if let Some(event) = ahead.control.pop_front() {
                return Some(Next::Control(event));
            }
            if ahead.buffer.is_none() {
                self.ahead = None;
            }
        }
        if self.phase == Phase::Flushing {
            return None;
        }
        if self.phase == Phase::Open && self.has_signal(signal::DRAIN) {
            self.outbox().clear(signal::DRAIN);
            return Some(Next::Drain);
        }
        if self.phase == Phase::Open && self.has_signal(signal::PRESSURE) {
            self.deaf = true;
            return None;
        }
        if std::mem::take(&mut self.deaf) {
            self.deadlines.on_deaf();
        }
        if let Some(buffer) = self.ahead.take().and_then(|ahead| ahead.buffer) {
            return Some(Next::Bytes(buffer));
        }
        self.poll_read(cx).map(Next::Bytes)
    }

    /// Reads once, if something is there.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Option<ReadBuffer> {
        let Poll::Ready(read) = self.transport.poll_read(cx) else { return None };
        match read {
            Ok(buffer) if !buffer.is_empty() => {
                self.deadlines.on_heard();
                Some(buffer)
            }
            Ok(_) => {
                self.lose("the peer ended the connection without a close frame");
                None
            }
            Err(error) => {
                self.on_io_error(&error);
                None
            }
        }
    }

    /// Answers control frames at the head of what is here, and reads as long as there is nothing
    /// else: a handler that takes long makes neither side look dead. The first data frame stops it.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, rest: &mut &mut [u8]) {
        if self.ahead.as_ref().is_none_or(|ahead| ahead.buffer.is_none()) {
            self.answer_control(rest);
            while rest.is_empty() && self.phase < Phase::Flushing {
                if self.inbound.at_control_frame(&[]) == Some(false) {
                    break;
                }
                let Some(buffer) = self.poll_read(cx) else { return };
                if !self.hold(buffer) {
                    break;
                }
            }
        } else if let Some(buffer) = self.ahead.as_mut().and_then(|ahead| ahead.buffer.take()) {
            self.hold(buffer);
        }
        self.deaf = true;
    }

    /// Answers what can be answered in the buffer, and keeps the rest; true if there was none.
    fn hold(&mut self, mut buffer: ReadBuffer) -> bool {
        let mut unused = buffer.unused();
        self.answer_control(&mut unused);
        let left = unused.len();
        if left > 0 {
            buffer.set_left(left);
            self.ahead.get_or_insert_default().buffer = Some(buffer);
        }
        left == 0
    }

    fn answer_control(&mut self, rest: &mut &mut [u8]) {
        while self.phase < Phase::Flushing && self.inbound.at_control_frame(rest) == Some(true) {
            let Some(event) = self.next_event(rest) else { break };
            let event = match event {
                Event::Ping(payload) => Event::Ping(payload.into_owned()),
                Event::Pong(payload) => Event::Pong(payload.into_owned()),
                Event::Message(_) | Event::Extended(..) | Event::Close(_) => break,
            };
            let control = &mut self.ahead.get_or_insert_default().control;
            if control.len() == MAX_DEFERRED {
                control.pop_front();
            }
            control.push_back(event);
        }
    }

    /// The next event that is the handler's; control frames are answered, close frames and errors
    /// end the input.
    #[inline]
    fn next_event<'b>(&mut self, rest: &mut &'b mut [u8]) -> Option<Event<'b>> {
        if self.phase >= Phase::Flushing {
            *rest = &mut [];
            return None;
        }
        let event = match self.inbound.next(rest) {
            Ok(event) => event?,
            Err(error) => {
                self.fail(&error);
                return None;
            }
        };
        match event {
            Event::Message(_) => Some(event),
            Event::Ping(_) | Event::Pong(_) => self.on_control(event),
            Event::Close(frame) => {
                self.outbox().on_close(frame);
                self.on_last_frame();
                None
            }
            // Nothing was negotiated, so RSV1 is an error before it gets here.
            Event::Extended(..) => None,
        }
    }

    fn on_control<'b>(&mut self, event: Event<'b>) -> Option<Event<'b>> {
        let limit = self.owner.socket.0.config.limits.control_rate;
        if let Err(error) = self.deadlines.on_control(limit) {
            self.fail(&error);
            return None;
        }
        if let Event::Ping(payload) = &event {
            self.outbox().on_ping(payload);
        }
        Some(event)
    }

    // ---- the end

    fn fail(&mut self, error: &ProtocolError) {
        tracing::debug!(id = %self.owner.socket.id(), %error, "peer failed");
        self.outbox().fail(error);
        self.on_last_frame();
    }

    /// Nothing more is expected from the peer.
    fn on_last_frame(&mut self) {
        self.ahead = self.ahead.take().filter(|ahead| !ahead.control.is_empty());
        self.deadlines.on_closing();
        self.phase = self.phase.max(Phase::Flushing);
    }

    fn on_io_error(&mut self, error: &io::Error) {
        tracing::debug!(id = %self.owner.socket.id(), %error, "connection lost");
        self.lose("the connection was reset");
    }

    fn lose(&mut self, reason: &'static str) {
        if self.phase < Phase::Lingering {
            self.lost = reason;
        }
        self.phase = Phase::Over;
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) {
        if self.transport.poll_discard(cx).is_ready() {
            self.phase = Phase::Over;
        }
    }
}
