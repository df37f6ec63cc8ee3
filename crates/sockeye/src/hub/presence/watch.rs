//! A reader of what changes in a room's presence.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{PresenceDiff, PresenceSnapshot, state::State};
use crate::hub::Hub;

/// Who is present in a room, and each change of that, from [`Presence::watch`](super::Presence::watch).
///
/// It reads also while the room is empty, and never ends by itself. As a [`Stream`] it gives what
/// [`changed`](Self::changed) gives.
///
/// ```
/// use sockeye::{Hub, PresenceChange};
///
/// async fn log(hub: Hub) {
///     let mut watch = hub.room("lobby").presence().watch();
///     println!("{} are there", watch.snapshot().present.len());
///     loop {
///         match watch.changed().await {
///             PresenceChange::Diff(diff) => println!("{} came", diff.joined.len()),
///             PresenceChange::Lagged(now) => println!("{} are there", now.present.len()),
///             _ => {}
///         }
///     }
/// }
/// ```
pub struct PresenceWatch {
    hub: Hub,
    state: Arc<State>,
    key: usize,
    snapshot: PresenceSnapshot,
}

/// What a reader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PresenceChange {
    /// Somebody has come, changed, or gone; the version is one more than that before.
    Diff(Arc<PresenceDiff>),
    /// The reader was more than 64 changes behind: this is how it is now, and what comes next builds on
    /// it.
    Lagged(PresenceSnapshot),
}

impl PresenceWatch {
    pub(super) fn new(hub: Hub, state: Arc<State>, key: usize, snapshot: PresenceSnapshot) -> Self {
        Self { hub, state, key, snapshot }
    }

    /// Who was present when the reading began: the first change is the one after it.
    pub fn snapshot(&self) -> &PresenceSnapshot {
        &self.snapshot
    }

    /// The next change.
    ///
    /// # Cancel safety
    ///
    /// Safe: no change is lost.
    pub async fn changed(&mut self) -> PresenceChange {
        poll_fn(|cx| self.state.poll_change(self.key, cx)).await
    }
}

impl Stream for PresenceWatch {
    type Item = PresenceChange;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PresenceChange>> {
        self.state.poll_change(self.key, cx).map(Some)
    }
}

impl Drop for PresenceWatch {
    fn drop(&mut self) {
        self.state.unwatch(self.key);
        self.state.vanish_if_unused(&self.hub);
    }
}

impl fmt::Debug for PresenceWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceWatch").field("room", &self.state.room()).finish_non_exhaustive()
    }
}
