//! When something is due on a connection. Time is coarse and nothing is set anew per message.

use std::{num::NonZeroU32, time::Duration};

use sockeye_proto::ProtocolError;
use tokio::time::Instant;

use crate::Config;

/// Time since the connection was opened, in steps of 16 ms: small enough for a deadline that may be
/// a second late, and 32 bits of it last two years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(NonZeroU32);

const MILLIS: u64 = 16;

impl Tick {
    const START: Self = Self(NonZeroU32::MIN);
    pub(crate) const NEVER: Self = Self(NonZeroU32::MAX);

    /// Now, on a connection opened at `epoch`.
    pub(crate) fn now(epoch: Instant) -> Self {
        let steps = epoch.elapsed().as_millis() as u64 / MILLIS;
        let steps = u32::try_from(steps).unwrap_or(u32::MAX - 1);
        Self(NonZeroU32::MIN.saturating_add(steps))
    }

    /// Rounds up, and counts the step that has begun as not there: nothing is due too early.
    fn after(self, time: Duration) -> Self {
        let steps = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).div_ceil(MILLIS);
        let steps = steps.saturating_add(1);
        Self(self.0.saturating_add(u32::try_from(steps).unwrap_or(u32::MAX)))
    }

    pub(crate) fn instant(self, epoch: Instant) -> Instant {
        epoch + Duration::from_millis((u64::from(self.0.get()) - 1) * MILLIS)
    }
}

/// What happened when; [`next`](Self::next) and [`due`](Self::due) say what follows from it.
#[derive(Debug)]
pub(crate) struct Deadlines {
    /// The last byte from the peer, or the last time when none could be read.
    heard: Tick,
    /// The last message from the peer.
    message: Tick,
    /// The ping of the keep-alive that was not followed by a byte.
    pinged: Option<Tick>,
    /// The first byte of a message that is not complete.
    incomplete: Option<Tick>,
    /// The first write that the peer did not take.
    stalled: Option<Tick>,
    /// The begin of the closing handshake.
    closing: Option<Tick>,
    /// The second in which control frames are being counted (the low bits of its tick: what comes
    /// round after 17 minutes does no harm), and how many they are.
    control_since: u16,
    control_count: u16,
}

/// What is due.
#[derive(Debug)]
pub(crate) enum Due {
    Ping,
    Dead,
    Stalled,
    CloseTimeout,
    Idle,
    Lifetime,
    Broken(ProtocolError),
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self {
            heard: Tick::START,
            message: Tick::START,
            pinged: None,
            incomplete: None,
            stalled: None,
            closing: None,
            control_since: 0,
            control_count: 0,
        }
    }

    /// Bytes came.
    pub(crate) fn on_heard(&mut self, now: Tick) {
        self.heard = now;
        self.pinged = None;
    }

    /// Reading stands still, so the peer's silence says nothing.
    pub(crate) fn on_deaf(&mut self, now: Tick) {
        (self.heard, self.message) = (now, now);
        for since in [&mut self.pinged, &mut self.incomplete].into_iter().flatten() {
            *since = now;
        }
    }

    /// A message came, whole.
    pub(crate) fn on_message(&mut self) {
        self.message = self.heard;
        self.incomplete = None;
    }

    /// The turn in which bytes came ends, within a message or not. True if something is due sooner
    /// now.
    pub(crate) fn on_turn(&mut self, incomplete: bool) -> bool {
        if !incomplete {
            self.incomplete = None;
        }
        incomplete && begin(&mut self.incomplete, self.heard)
    }

    /// A ping or pong came; an error if too many did within a second.
    pub(crate) fn on_control(&mut self, limit: u32) -> Result<(), ProtocolError> {
        let now = self.heard.0.get() as u16;
        if u64::from(now.wrapping_sub(self.control_since)) * MILLIS >= 1000 {
            (self.control_since, self.control_count) = (now, 0);
        }
        self.control_count = self.control_count.saturating_add(1);
        if u32::from(self.control_count) > limit {
            return Err(ProtocolError::TooManyControlFrames(limit));
        }
        Ok(())
    }

    /// A write made progress. One that had waited for the peer shows that it is alive: it may be
    /// slow to read, and our ping may still wait behind what it has not read.
    pub(crate) fn on_progress(&mut self, now: impl FnOnce() -> Tick) {
        if self.stalled.take().is_some() {
            self.heard = now();
            self.pinged = self.pinged.map(|_| self.heard);
        }
    }

    /// A write could not be made. True if something is due sooner now.
    pub(crate) fn on_stall(&mut self, now: Tick) -> bool {
        begin(&mut self.stalled, now)
    }

    /// The closing handshake begins, or the lingering behind it. True if something is due sooner now.
    pub(crate) fn on_closing(&mut self, now: Tick) -> bool {
        begin(&mut self.closing, now)
    }

    /// The closing handshake begins only now: what it was held up by had its time.
    pub(crate) fn restart_closing(&mut self, now: Tick) {
        self.closing = Some(now);
    }

    /// What is due; at most one thing, so ask until there is none. The closing handshake may take
    /// `close_time`.
    pub(crate) fn due(&mut self, config: &Config, close_time: Duration, now: Tick) -> Option<Due> {
        let is_over =
            |since: Option<Tick>, time| since.is_some_and(|since| since.after(time) <= now);
        if is_over(self.closing, close_time) {
            return Some(Due::CloseTimeout);
        }
        if is_over(self.stalled, config.write_timeout) {
            return Some(Due::Stalled);
        }
        if self.closing.is_some() {
            return None;
        }
        if is_over(self.incomplete, config.limits.message_time) {
            let error = ProtocolError::MessageTooSlow(config.limits.message_time);
            return Some(Due::Broken(error));
        }
        if is_over(Some(Tick::START), config.max_lifetime.unwrap_or(Duration::MAX)) {
            return Some(Due::Lifetime);
        }
        if is_over(Some(self.message), config.idle_timeout.unwrap_or(Duration::MAX)) {
            return Some(Due::Idle);
        }
        let keep_alive = config.keep_alive?;
        if is_over(self.pinged, keep_alive.deadline) {
            return Some(Due::Dead);
        }
        if self.pinged.is_none() && is_over(Some(self.heard), keep_alive.interval) {
            self.pinged = Some(now);
            return Some(Due::Ping);
        }
        None
    }

    /// When to look again at the latest.
    pub(crate) fn next(&self, config: &Config, close_time: Duration) -> Option<Tick> {
        let after = |since: Option<Tick>, time: Duration| since.map(|since| since.after(time));
        let always = [after(self.closing, close_time), after(self.stalled, config.write_timeout)];
        let keep_alive = config.keep_alive.map(|keep_alive| match self.pinged {
            Some(pinged) => pinged.after(keep_alive.deadline),
            None => self.heard.after(keep_alive.interval),
        });
        let while_open = [
            after(self.incomplete, config.limits.message_time),
            config.max_lifetime.map(|time| Tick::START.after(time)),
            config.idle_timeout.map(|time| self.message.after(time)),
            keep_alive,
        ];
        let while_open = while_open.into_iter().filter(|_| self.closing.is_none());
        always.into_iter().chain(while_open).flatten().min()
    }
}

fn begin(since: &mut Option<Tick>, now: Tick) -> bool {
    let begins = since.is_none();
    since.get_or_insert(now);
    begins
}
