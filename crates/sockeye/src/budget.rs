//! What all connections of the process may hold together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What waits in all outboxes, in units.
static WAITING: AtomicUsize = AtomicUsize::new(0);
static OUTBOXES: AtomicUsize = AtomicUsize::new(usize::MAX);

/// An outbox tells of whole ones of these alone, in bytes, so that most messages touch nothing that all
/// connections share.
const UNIT: usize = 16 * 1024;

pub(crate) fn set_outboxes(bytes: usize) {
    OUTBOXES.store(bytes, Ordering::Relaxed);
}

/// In bytes, without what is less than a unit in each outbox.
pub(crate) fn waiting() -> usize {
    UNIT * WAITING.load(Ordering::Relaxed)
}

pub(crate) fn is_exceeded() -> bool {
    waiting() > OUTBOXES.load(Ordering::Relaxed)
}

/// So much waits in an outbox now, of which so many units are known.
pub(crate) fn settle(known: &mut u32, buffered: usize) {
    let units = (buffered / UNIT) as u32;
    if units > *known {
        WAITING.fetch_add((units - *known) as usize, Ordering::Relaxed);
    } else if units < *known {
        WAITING.fetch_sub((*known - units) as usize, Ordering::Relaxed);
    }
    *known = units;
}

/// What all windows of server connections may take, and take, in bytes.
static WINDOWS: AtomicUsize = AtomicUsize::new(64 * 1024 * 1024);
static WINDOWS_USED: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn set_windows(bytes: usize) {
    WINDOWS.store(bytes, Ordering::Relaxed);
}

pub(crate) fn windows_used() -> usize {
    WINDOWS_USED.load(Ordering::Relaxed)
}

/// Bytes for windows, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reserved(usize);

impl Reserved {
    /// For a connection without windows, and for a client's, which are not counted.
    pub(crate) const NOTHING: Self = Self(0);

    pub(crate) fn take(bytes: usize) -> Option<Self> {
        if bytes == 0 {
            return Some(Self::NOTHING);
        }
        let budget = WINDOWS.load(Ordering::Relaxed);
        let within = |used: usize| used.checked_add(bytes).filter(|used| *used <= budget);
        WINDOWS_USED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).ok()?;
        Some(Self(bytes))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        WINDOWS_USED.fetch_sub(self.0, Ordering::Relaxed);
    }
}
