//! The place where one message at a time passes from a connection's task to its handle.

use std::{
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use sockeye_proto::Message;

use crate::{Handler, Result, Session};

/// Room for one message, and for the two who wait for each other.
#[derive(Debug, Default)]
pub(crate) struct HandOver(Mutex<Place>);

#[derive(Debug, Default)]
struct Place {
    message: Option<Message<'static>>,
    /// The connection's task, until the message was taken.
    giver: Option<Waker>,
    /// Who waits for a message.
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
    /// As long as the function is polled that the handle was given to; what comes of leaving meanwhile
    /// depends on how that goes.
    Held,
    LeftWhileHeld,
    Left,
}

impl HandOver {
    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next message, once there is one; none once there will be none.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Message<'static>>> {
        let mut place = self.lock();
        if let Some(message) = place.message.take() {
            let giver = place.giver.take();
            drop(place);
            wake(giver);
            return Poll::Ready(Some(message));
        }
        if place.is_over {
            return Poll::Ready(None);
        }
        place.taker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes nothing more; what was not taken is dropped. False if what comes of it is for
    /// [`release`](Self::release) to say.
    pub(crate) fn leave(&self) -> bool {
        let mut place = self.lock();
        let is_held = matches!(place.taking, Taking::Held | Taking::LeftWhileHeld);
        place.taking = if is_held { Taking::LeftWhileHeld } else { Taking::Left };
        let (message, giver) = (place.message.take(), place.giver.take());
        drop(place);
        drop(message);
        wake(giver);
        !is_held
    }

    /// From now on leaving has no consequences until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        let mut place = self.lock();
        if place.taking == Taking::Yes {
            place.taking = Taking::Held;
        }
    }

    /// Whether the handle has left meanwhile.
    pub(crate) fn release(&self) -> bool {
        let mut place = self.lock();
        match place.taking {
            Taking::Held => place.taking = Taking::Yes,
            Taking::LeftWhileHeld => {
                place.taking = Taking::Left;
                return true;
            }
            Taking::Yes | Taking::Left => {}
        }
        false
    }

    /// Puts a message in; the place is empty, as the one before it was waited for.
    fn put(&self, message: Message<'static>) {
        let mut place = self.lock();
        if matches!(place.taking, Taking::Yes | Taking::Held) {
            place.message = Some(message);
            let taker = place.taker.take();
            drop(place);
            wake(taker);
        }
    }

    fn poll_taken(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut place = self.lock();
        if place.message.is_none() {
            return Poll::Ready(());
        }
        match &mut place.giver {
            Some(giver) => giver.clone_from(cx.waker()),
            giver => *giver = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
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

    /// Hands a message over, and waits until it was taken or nobody takes any more.
    pub(crate) async fn give(&self, message: Message<'_>) {
        self.0.put(message.into_owned());
        poll_fn(|cx| self.0.poll_taken(cx)).await;
    }

    /// No message will come any more.
    pub(crate) fn end(&self) {
        let mut place = self.0.lock();
        place.is_over = true;
        let taker = mem::take(&mut place.taker);
        drop(place);
        wake(taker);
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.end();
    }
}

/// The handler of a connection whose messages are handed over.
#[derive(Debug)]
pub(crate) struct HandingOver;

impl Handler for HandingOver {
    type Data = Giver;

    async fn message(&self, session: &mut Session<Giver>, message: Message<'_>) -> Result {
        session.data.give(message).await;
        Ok(())
    }
}
