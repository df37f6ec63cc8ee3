//! Tasks that wait for something to come about in an outbox.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    task::Waker,
};

/// Who waits for an outbox. What is taken out is woken without its lock: wakers are other people's code.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<Waiter>);

#[derive(Debug)]
struct Waiter {
    /// By which it is forgotten.
    key: u64,
    interest: Interest,
    waker: Waker,
}

/// What a task waits for; each also ends with the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interest {
    /// All up to this position has reached the kernel.
    Flushed(u64),
    /// No more than this waits, in bytes.
    Writable(usize),
    /// The end alone.
    End,
}

/// The next of those numbers. It is never used twice, as a task may still hold one that is forgotten.
static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

impl Waiters {
    /// A number to [`watch`](Self::watch) under.
    pub(crate) fn new_key() -> u64 {
        NEXT_KEY.fetch_add(1, Ordering::Relaxed)
    }

    /// Remembers a waker, in the place of what `key` had before.
    pub(crate) fn watch(&mut self, key: u64, interest: Interest, waker: &Waker) {
        match self.0.iter_mut().find(|waiter| waiter.key == key) {
            Some(known) => {
                known.interest = interest;
                known.waker.clone_from(waker);
            }
            None => self.0.push(Waiter { key, interest, waker: waker.clone() }),
        }
    }

    pub(crate) fn forget(&mut self, key: u64) {
        self.0.retain(|waiter| waiter.key != key);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes those who wait no more, now that all up to `flushed` has reached the kernel and so many
    /// bytes wait.
    pub(crate) fn take_met(&mut self, flushed: u64, buffered: usize) -> Vec<Waker> {
        let is_met = |waiter: &mut Waiter| match waiter.interest {
            Interest::Flushed(position) => flushed >= position,
            Interest::Writable(low_water) => buffered <= low_water,
            Interest::End => false,
        };
        self.0.extract_if(.., is_met).map(|waiter| waiter.waker).collect()
    }

    /// All of them: it has ended.
    pub(crate) fn into_wakers(self) -> impl Iterator<Item = Waker> {
        self.0.into_iter().map(|waiter| waiter.waker)
    }
}
