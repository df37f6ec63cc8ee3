//! The place where messages pass from a connection's task to its handle.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use sockeye_proto::Message;
use tokio::task::coop::poll_proceed;

use crate::{Handler, Result, Session, Socket, outbox::signal};

/// A place of more messages than these is given up as soon as it is empty.
const KEPT_CAPACITY: usize = 8;

/// What one turn of the connection has brought, and who waits for it. As long as anything lies here the
/// connection handles and reads nothing more, so it is never more than that.
///
/// A place for one message would do, and did: but then every message of a turn costs two changes of
/// task, and with 32 of them in flight on each of 100 connections an echo cost twice what a handler's
/// did.
#[derive(Debug, Default)]
pub(crate) struct HandOver(Mutex<Place>);

#[derive(Debug, Default)]
struct Place {
    messages: VecDeque<Message<'static>>,
    taker: Option<Waker>,
    /// No message will come any more.
    is_over: bool,
    taking: Taking,
}

/// Whether anyone takes messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Taking {
    #[default]
    Yes,
    /// The function that was given the handle is being polled: what comes of its leaving meanwhile
    /// depends on how that goes.
    Polled,
    LeftWhilePolled,
    Left,
}

impl HandOver {
    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next message, once there is one; none once there will be none.
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        socket: &Socket,
    ) -> Poll<Option<Message<'static>>> {
        // As every source of tokio's: a loop that always finds a message lets others run, too.
        let budget = ready!(poll_proceed(cx));
        let mut place = self.lock();
        let message = place.messages.pop_front();
        if message.is_none() {
            // Who comes back has dealt with the one before.
            on_taken(socket, signal::UNTAKEN | signal::ANSWERING);
            if !place.is_over {
                place.taker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        } else if place.messages.is_empty() {
            place.on_empty();
            on_taken(socket, signal::UNTAKEN);
        }
        budget.made_progress();
        Poll::Ready(message)
    }

    /// Takes nothing more; what was not taken is dropped. False if what comes of it is for
    /// [`end_poll`](Self::end_poll) to say.
    pub(crate) fn leave(&self, socket: &Socket) -> bool {
        let mut place = self.lock();
        let is_polled = matches!(place.taking, Taking::Polled | Taking::LeftWhilePolled);
        place.taking = if is_polled { Taking::LeftWhilePolled } else { Taking::Left };
        let messages = std::mem::take(&mut place.messages);
        on_taken(socket, signal::UNTAKEN | signal::ANSWERING);
        drop(place);
        drop(messages);
        !is_polled
    }

    /// From now on leaving has no consequences until [`end_poll`](Self::end_poll).
    pub(crate) fn begin_poll(&self) {
        let mut place = self.lock();
        if place.taking == Taking::Yes {
            place.taking = Taking::Polled;
        }
    }

    /// Whether the handle has left since [`begin_poll`](Self::begin_poll).
    pub(crate) fn end_poll(&self) -> bool {
        let mut place = self.lock();
        let has_left = place.taking == Taking::LeftWhilePolled;
        place.taking = match place.taking {
            Taking::Yes | Taking::Polled => Taking::Yes,
            Taking::LeftWhilePolled | Taking::Left => Taking::Left,
        };
        has_left
    }
}

impl Place {
    /// Gives memory back that only a full place needs.
    fn on_empty(&mut self) {
        if self.messages.capacity() > KEPT_CAPACITY {
            self.messages = VecDeque::new();
        }
    }
}

/// Tells the connection, while the place is locked, so that the signals agree with what is there.
fn on_taken(socket: &Socket, signals: u8) {
    let outbox = &socket.0.outbox;
    if outbox.has(signals) {
        outbox.on_taken(signals);
    }
}

/// The connection's end of it. When it is dropped no message will come any more.
#[derive(Debug)]
pub(crate) struct Giver(Arc<HandOver>);

impl Giver {
    pub(crate) fn new() -> (Self, Arc<HandOver>) {
        let messages = Arc::<HandOver>::default();
        (Self(messages.clone()), messages)
    }

    /// Hands a message over.
    pub(crate) fn give(&self, socket: &Socket, message: Message<'_>) {
        let message = message.into_owned();
        let mut place = self.0.lock();
        if matches!(place.taking, Taking::Left | Taking::LeftWhilePolled) {
            return;
        }
        place.messages.push_back(message);
        socket.0.outbox.on_handed_over();
        let taker = place.taker.take();
        drop(place);
        wake(taker);
    }

    /// No message will come any more.
    pub(crate) fn end(&self) {
        let mut place = self.0.lock();
        place.is_over = true;
        let taker = place.taker.take();
        drop(place);
        wake(taker);
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.end();
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The handler of a connection whose messages are handed over.
#[derive(Debug)]
pub(crate) struct HandingOver;

impl Handler for HandingOver {
    type Data = Giver;

    async fn message(&self, session: &mut Session<Giver>, message: Message<'_>) -> Result {
        session.data.give(&session.socket, message);
        Ok(())
    }
}
