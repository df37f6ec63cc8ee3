//! What a connection reads, and what of it is the handler's.

use std::task::{Context, Poll};

use sockeye_proto::{Event, Message, OpCode};

use super::{DEAF, HELD, INFLATED_UNIT, MAX_DEFERRED, MUCH, Next, Parts, Phase, UNTAKEN};
use crate::{
    deadlines::Deadlines,
    outbox::signal,
    pool::{LARGE, ReadBuffer, SMALL},
    transport::Io,
};

impl<T: Io> Parts<T> {
    pub(super) fn poll_input(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        if let Some(deferred) = &self.deferred {
            match deferred.control.front() {
                Some((OpCode::Ping, _)) => return Some(Next::Ping),
                Some(_) => return Some(Next::Pong),
                None => self.deferred = None,
            }
        }
        if self.phase == Phase::Flushing {
            return None;
        }
        if self.phase == Phase::Open && self.has_signal(signal::DRAIN) {
            self.outbox().clear(signal::DRAIN);
            return Some(Next::Drain);
        }
        if self.is_pressed() {
            self.flags.set(DEAF, true);
            return None;
        }
        if self.flags.take(DEAF) {
            self.deadlines.on_deaf(self.now());
        }
        if self.has_signal(signal::UNTAKEN) {
            self.flags.set(UNTAKEN, true);
            let mut rest: &mut [u8] = &mut [];
            self.poll_ahead(cx, &mut rest);
            self.hold_close();
            return None;
        }
        if self.buffer.is_none() {
            self.buffer = self.poll_read(cx, if self.flags.has(MUCH) { LARGE } else { SMALL });
        }
        (self.buffer.is_some() && !self.hold_close()).then_some(Next::Bytes)
    }

    /// Reads once, if something is there.
    fn poll_read(&mut self, cx: &mut Context<'_>, size: usize) -> Option<ReadBuffer> {
        let Poll::Ready(read) = self.transport.poll_read(cx, size) else {
            self.flags.set(MUCH, false);
            self.used = 0;
            return None;
        };
        match read {
            Ok(buffer) if !buffer.is_empty() => {
                self.flags.set(MUCH, buffer.is_full());
                self.deadlines.on_heard(self.now());
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

    /// Whether the peer's close frame comes next, and has to wait; it does not for long.
    fn hold_close(&mut self) -> bool {
        let Some(mut buffer) = self.buffer.take() else { return false };
        let is_held = self.at_early_close(buffer.unused());
        self.buffer = Some(buffer);
        if is_held {
            self.flags.set(HELD, true);
            self.rearm_if(Deadlines::on_closing);
        }
        is_held
    }

    /// Answers control frames at the head of what is here, and reads as long as there is nothing
    /// else: a handler that takes long makes neither side look dead. The first data frame stops it,
    /// unless the connection is closing, when data is dropped.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>, rest: &mut &mut [u8]) {
        if self.buffer.is_none() {
            self.answer_control(rest);
        }
        while rest.is_empty() && self.phase < Phase::Flushing {
            if let Some(buffer) = self.buffer.take() {
                self.answer_control_in(buffer);
            }
            let is_within_data = self.inbound.at_control_frame(&[]) == Some(false);
            if self.buffer.is_some() || is_within_data && self.phase != Phase::Closing {
                break;
            }
            self.buffer = self.poll_read(cx, SMALL);
            if self.buffer.is_none() {
                return;
            }
        }
        self.flags.set(DEAF, true);
    }

    /// Answers what can be answered in the buffer, and keeps it if anything is left.
    fn answer_control_in(&mut self, mut buffer: ReadBuffer) {
        let mut unused = buffer.unused();
        self.answer_control(&mut unused);
        let left = unused.len();
        if left > 0 {
            buffer.set_left(left);
            self.buffer = Some(buffer);
        }
    }

    fn answer_control(&mut self, rest: &mut &mut [u8]) {
        while self.phase == Phase::Closing && !rest.is_empty()
            || self.phase < Phase::Closing
                && self.inbound.at_control_frame(rest) == Some(true)
                && !self.at_early_close(rest)
        {
            let Some(event) = self.next_event(rest) else { break };
            self.defer(event);
        }
    }

    /// Keeps a ping or a pong for the handler; anything else is dropped.
    pub(super) fn defer(&mut self, event: Event<'_>) {
        let (opcode, payload) = match event {
            Event::Ping(payload) => (OpCode::Ping, payload),
            Event::Pong(payload) => (OpCode::Pong, payload),
            Event::Message(_) | Event::Extended(..) | Event::Close(_) => return,
        };
        if !self.is_open() {
            return;
        }
        let control = &mut self.deferred.get_or_insert_default().control;
        if control.len() == MAX_DEFERRED {
            control.pop_front();
        }
        control.push_back((opcode, payload.to_vec()));
    }

    /// The next event that is the handler's; control frames are answered, close frames and errors
    /// end the input.
    #[inline]
    pub(super) fn next_event<'b>(&mut self, rest: &mut &'b mut [u8]) -> Option<Event<'b>> {
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
            Event::Message(_) | Event::Extended(..) => Some(event),
            Event::Ping(_) | Event::Pong(_) => self.on_control(event),
            Event::Close(frame) => {
                self.outbox().on_close(frame);
                self.on_last_frame();
                None
            }
        }
    }

    /// Inflates a message for the handler.
    pub(super) fn inflate(&mut self, opcode: OpCode, payload: &[u8]) -> Option<Message<'static>> {
        let shared = &self.owner.socket.0;
        let (role, limits) = (shared.outbox.role(), &shared.config.limits);
        match shared.deflate.inflate(&role, limits, opcode, payload) {
            Ok(message) => {
                let units = u8::try_from(message.len() / INFLATED_UNIT).unwrap_or(u8::MAX);
                self.used = self.used.saturating_add(1).saturating_add(units);
                self.deadlines.on_message();
                Some(message)
            }
            Err(error) => {
                self.fail(&error);
                None
            }
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
}
