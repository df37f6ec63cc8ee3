//! What a connection writes, and what is due on it.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use sockeye_proto::{CloseCode, CloseFrame, Role};
use tokio::{
    task::{coop::unconstrained, yield_now},
    time::Sleep,
};

use super::{COMPRESSED, DEAF, Parts, Phase, REARM, YIELDED};
use crate::{
    deadlines::{Deadlines, Due, Tick},
    outbox::signal,
    transport::{Flush, Io},
};

/// How long a close frame is held up for a loop to deal with the messages before it: time to answer
/// them, and not enough for the peer to notice.
const ANSWER_TIME: Duration = Duration::from_millis(250);

impl<T: Io> Parts<T> {
    /// Acts on signals and deadlines, and writes.
    pub(super) fn poll_output(&mut self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) {
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
        if self.has_signal(new(signal::OVERFLOW)) {
            self.seen |= signal::OVERFLOW;
            self.owner.socket.0.outbox.overflow(self.transport.writing());
        }
        if self.has_signal(new(signal::CLOSE)) {
            self.seen |= signal::CLOSE;
            self.begin_end(Phase::Closing);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) {
        if self.phase >= Phase::Lingering {
            return;
        }
        let shared = &self.owner.socket.0;
        let deadlines = &mut self.deadlines;
        let progress = || deadlines.on_progress(|| Tick::now(shared.epoch));
        let others_too = self.flags.take(YIELDED);
        match self.transport.poll_flush(cx, shared, others_too, progress) {
            Poll::Ready(Ok(Flush::Done)) if self.phase == Phase::Flushing => {
                match self.poll_end_of_output(cx) {
                    Poll::Ready(Ok(())) => {
                        self.phase = Phase::Lingering;
                        self.outbox().finish("");
                    }
                    Poll::Ready(Err(error)) => self.on_io_error(&error),
                    Poll::Pending => {}
                }
            }
            Poll::Ready(Ok(Flush::Done)) => {}
            Poll::Ready(Ok(flush @ (Flush::Others | Flush::Pause))) => {
                if flush == Flush::Pause {
                    self.used = self.used.saturating_add(COMPRESSED);
                }
                self.flags.set(YIELDED, true);
                after_others(cx);
            }
            Poll::Ready(Err(error)) => self.on_io_error(&error),
            Poll::Pending => self.rearm_if(Deadlines::on_stall),
        }
    }

    /// Ends this side's direction. A client leaves that to the server, which should be the first to
    /// end the TCP connection, so that the wait that TCP asks of the first (TIME_WAIT) keeps no client
    /// from connecting again (RFC 6455 section 7.1.1).
    fn poll_end_of_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.outbox().role() {
            Role::Server => self.transport.poll_shutdown(cx),
            Role::Client { .. } => Poll::Ready(Ok(())),
        }
    }

    /// Acts on what is due; true if that may have left something to write.
    fn poll_timer(&mut self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> bool {
        let rearm = self.flags.take(REARM);
        if !timer.is_elapsed() && !rearm {
            return false;
        }
        let now = self.now();
        if self.flags.has(DEAF) {
            self.deadlines.on_deaf(now);
        }
        let mut acted = false;
        while self.phase != Phase::Over
            && let close_time = self.close_time()
            && let Some(due) = self.deadlines.due(&self.owner.socket.0.config, close_time, now)
        {
            acted = true;
            self.on_due(due);
        }
        if self.phase != Phase::Over {
            // Also where nothing is due: a timer that stays elapsed would be looked at in every poll.
            let shared = &self.owner.socket.0;
            let next = self.deadlines.next(&shared.config, self.close_time());
            let next = next.unwrap_or(Tick::NEVER);
            timer.as_mut().reset(next.instant(shared.epoch));
            // Not a matter of the task's budget, which the handler may have used up: the timer would
            // not be set, and nobody would set it later.
            let timer = pin!(unconstrained(timer));
            acted |= timer.poll(cx).is_ready();
        }
        acted
    }

    /// How long the closing handshake may take, or a close frame be held up that would begin it.
    fn close_time(&self) -> Duration {
        let time = self.owner.socket.0.config.close_timeout;
        if self.phase == Phase::Open { time.min(ANSWER_TIME) } else { time }
    }

    fn on_due(&mut self, due: Due) {
        match due {
            Due::Ping => {
                self.outbox().ping(b"");
            }
            Due::Dead => self.lose("no answer to a ping"),
            Due::Stalled => self.lose("the peer took nothing of what waits for it"),
            Due::CloseTimeout if self.phase == Phase::Open => {
                // The messages before the peer's close frame have had their time.
                self.outbox().on_taken(signal::UNTAKEN | signal::ANSWERING);
                self.deadlines.restart_closing(self.now());
            }
            Due::CloseTimeout => self.lose("the closing handshake was not answered"),
            Due::Idle => self.close(CloseCode::AWAY, "idle for too long"),
            Due::Lifetime => self.close(CloseCode::AWAY, "connected for too long"),
            Due::Broken(error) => self.fail(&error),
        }
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        self.outbox().close(&CloseFrame::new(code, reason));
        self.on_signals();
    }
}

/// Wakes the task once those that are ready have run, and those that the kernel has news for: what these
/// say goes into the same write. With 32 members talking, a wake at once made three writes of each
/// member's round.
fn after_others(cx: &mut Context<'_>) {
    // It defers the waker behind the next look at the kernel, in its first poll.
    let _ = pin!(yield_now()).poll(cx);
}
