//! Who is present in one room, and what has to be told of a change.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use indexmap::IndexMap;
use serde_json::Value;
use slab::Slab;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{PresenceChange, PresenceDiff, PresenceKey, PresenceSnapshot, Present, Told};
use crate::{
    hub::{Hub, topic::Kind},
    sync::{Mutex, MutexGuard},
};

/// How many changes a watcher may be behind before it starts anew from a snapshot.
const MOST_BEHIND: usize = 64;

/// Who is present in all rooms.
#[derive(Debug, Default)]
pub(crate) struct Presences {
    states: Mutex<HashMap<Box<str>, Arc<State>>>,
    /// The highest version of those that are gone, so that a room's never goes back.
    versions: AtomicU64,
}

/// Who is present in a room. The lock comes behind that of what a connection holds.
#[derive(Debug)]
pub(crate) struct State {
    room: Box<str>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: IndexMap<PresenceKey, Vec<Tracked>>,
    /// As whom each connection is present.
    keys: HashMap<Uuid, PresenceKey>,
    version: u64,
    watchers: Slab<Watcher>,
    pending: Pending,
    /// Nobody needs it, and it is not to be found any more.
    is_gone: bool,
}

#[derive(Debug)]
struct Tracked {
    connection: Uuid,
    meta: Value,
    /// The connection has ended, and may yet come back as another.
    is_leaving: bool,
}

/// What the members of the room are still to be told.
#[derive(Debug, Default)]
struct Pending {
    is_on: bool,
    /// Who has changed since the last announcement, and what was known of them then.
    changes: IndexMap<PresenceKey, Option<Present>>,
    /// Somebody waits to tell them.
    is_scheduled: bool,
}

#[derive(Debug, Default)]
struct Watcher {
    changes: VecDeque<Arc<PresenceDiff>>,
    has_lagged: bool,
    waker: Option<Waker>,
}

impl Presences {
    pub(crate) fn find(&self, room: &str) -> Option<Arc<State>> {
        self.lock().get(room).cloned()
    }

    pub(crate) fn find_or_make(&self, hub: &Hub, room: &str) -> Arc<State> {
        let mut states = self.lock();
        if let Some(state) = states.get(room) {
            return state.clone();
        }
        // Within the lock: who says later that it is to be announced finds it.
        let topic = hub.find(Kind::Room, room);
        let is_on = topic.is_some_and(|topic| topic.encode().is_some());
        let pending = Pending { is_on, ..Pending::default() };
        let version = self.versions.load(Ordering::Relaxed);
        let inner = Mutex::new(Inner { pending, version, ..Inner::default() });
        let state = Arc::new(State { room: room.into(), inner });
        states.insert(room.into(), state.clone());
        state
    }

    /// Forgets a state that is gone; another of the room may be there already.
    pub(crate) fn forget(&self, state: &Arc<State>) {
        let mut states = self.lock();
        if states.get(&state.room).is_some_and(|known| Arc::ptr_eq(known, state)) {
            states.remove(&state.room);
            if states.capacity() > 4 * states.len().max(16) {
                states.shrink_to_fit();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<State>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn room(&self) -> &str {
        &self.room
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    pub(crate) fn snapshot(&self) -> PresenceSnapshot {
        self.lock().snapshot()
    }

    /// Makes a connection present, or changes what is known of it; none if this is gone.
    pub(crate) fn put(
        self: &Arc<Self>,
        connection: Uuid,
        user: Option<String>,
        meta: Value,
    ) -> Option<Told> {
        let mut inner = self.lock();
        if inner.is_gone {
            return None;
        }
        let key = inner.keys.entry(connection).or_insert_with(|| match user {
            Some(user) => PresenceKey::User(user.into()),
            None => PresenceKey::Connection(connection),
        });
        let key = key.clone();
        Some(inner.change(self, key, |tracked| {
            match tracked.iter_mut().find(|known| known.connection == connection) {
                Some(known) => known.meta = meta,
                None => {
                    // Who was about to leave has come back.
                    tracked.retain(|known| !known.is_leaving);
                    tracked.push(Tracked { connection, meta, is_leaving: false });
                }
            }
        }))
    }

    /// Ends the presence of a connection.
    pub(crate) fn remove(self: &Arc<Self>, connection: Uuid) -> Told {
        let mut inner = self.lock();
        let Some(key) = inner.keys.remove(&connection) else { return Told::default() };
        inner.change(self, key, |tracked| tracked.retain(|known| known.connection != connection))
    }

    /// A connection has ended that was present.
    pub(crate) fn on_end(self: Arc<Self>, hub: &Hub, connection: Uuid) {
        let grace = hub.options().presence_grace;
        if grace.is_zero() || !self.begin_leaving(connection) {
            self.remove(connection).tell(hub);
            self.vanish_if_unused(hub);
            return;
        }
        let leaving = Leaving { state: self, hub: hub.clone(), connection };
        // Without a runtime there is nobody to wait, and it leaves at once.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(leaving.after(grace));
        }
    }

    /// Whether a user may come back that has only this connection; it is present meanwhile.
    fn begin_leaving(&self, connection: Uuid) -> bool {
        let mut inner = self.lock();
        let Inner { entries, keys, .. } = &mut *inner;
        let Some(key @ PresenceKey::User(_)) = keys.get(&connection) else { return false };
        let Some([last]) = entries.get_mut(key).map(Vec::as_mut_slice) else { return false };
        last.is_leaving = true;
        true
    }

    pub(crate) fn watch(&self) -> Option<(usize, PresenceSnapshot)> {
        let mut inner = self.lock();
        if inner.is_gone {
            return None;
        }
        let key = inner.watchers.insert(Watcher::default());
        Some((key, inner.snapshot()))
    }

    pub(crate) fn unwatch(&self, key: usize) {
        self.lock().watchers.remove(key);
    }

    pub(crate) fn poll_change(&self, key: usize, cx: &mut Context<'_>) -> Poll<PresenceChange> {
        let mut inner = self.lock();
        if mem::take(&mut inner.watchers[key].has_lagged) {
            return Poll::Ready(PresenceChange::Lagged(inner.snapshot()));
        }
        let watcher = &mut inner.watchers[key];
        match watcher.changes.pop_front() {
            Some(diff) => Poll::Ready(PresenceChange::Diff(diff)),
            None => {
                watcher.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// From now on changes are kept for the members of the room.
    pub(crate) fn begin_announcing(&self) {
        let mut inner = self.lock();
        inner.pending.is_on = true;
        // Those before are not for those who are members now.
        inner.pending.changes.clear();
    }

    /// What the members are to be told by now; none if that is nothing, and then nobody waits to tell
    /// them any more.
    pub(crate) fn take_announcement(&self) -> Option<PresenceDiff> {
        let mut inner = self.lock();
        let mut diff = PresenceDiff { version: inner.version, ..PresenceDiff::default() };
        for (key, before) in mem::take(&mut inner.pending.changes) {
            let after = inner.present(&key);
            diff.add(before, after);
        }
        inner.pending.is_scheduled = !diff.is_empty();
        (!diff.is_empty()).then_some(diff)
    }

    /// Nobody waits to tell the members any more, and if there are none, nothing is kept for them.
    pub(crate) fn end_announcement(&self, has_members: bool) {
        let mut inner = self.lock();
        inner.pending.is_scheduled = false;
        if !has_members {
            inner.pending.is_on = false;
            inner.pending.changes.clear();
        }
    }

    /// It goes when nobody is present, nobody watches, and nothing is about to be told.
    pub(crate) fn vanish_if_unused(self: &Arc<Self>, hub: &Hub) {
        let mut inner = self.lock();
        let is_used =
            !inner.entries.is_empty() || !inner.watchers.is_empty() || inner.pending.is_scheduled;
        if !is_used {
            inner.is_gone = true;
            hub.presences().versions.fetch_max(inner.version, Ordering::Relaxed);
            drop(inner);
            hub.presences().forget(self);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn snapshot(&self) -> PresenceSnapshot {
        let present = self.entries.keys().filter_map(|key| self.present(key)).collect();
        PresenceSnapshot { version: self.version, present }
    }

    fn present(&self, key: &PresenceKey) -> Option<Present> {
        let metas = self.entries.get(key)?.iter().map(|tracked| tracked.meta.clone()).collect();
        Some(Present { key: key.clone(), metas })
    }

    /// Changes what is known under a key, and notes what has to be told of that.
    fn change(
        &mut self,
        state: &Arc<State>,
        key: PresenceKey,
        change: impl FnOnce(&mut Vec<Tracked>),
    ) -> Told {
        let before = self.present(&key);
        let tracked = self.entries.entry(key.clone()).or_default();
        change(tracked);
        if tracked.is_empty() {
            self.entries.swap_remove(&key);
        }
        let after = self.present(&key);
        if before == after {
            return Told::default();
        }
        self.version += 1;
        let mut told = Told::default();
        if self.pending.is_on {
            self.pending.changes.entry(key).or_insert_with(|| before.clone());
            if !mem::replace(&mut self.pending.is_scheduled, true) {
                told.announce = Some(state.clone());
            }
        }
        if !self.watchers.is_empty() {
            let mut diff = PresenceDiff { version: self.version, ..PresenceDiff::default() };
            diff.add(before, after);
            let diff = Arc::new(diff);
            let wakers = self.watchers.iter_mut().filter_map(|(_, watcher)| watcher.push(&diff));
            told.wakers = wakers.collect();
        }
        told
    }
}

impl Watcher {
    fn push(&mut self, diff: &Arc<PresenceDiff>) -> Option<Waker> {
        if self.changes.len() == MOST_BEHIND {
            self.changes = VecDeque::new();
            self.has_lagged = true;
        }
        // What comes before the snapshot is in it.
        if !self.has_lagged {
            self.changes.push_back(diff.clone());
        }
        self.waker.take()
    }
}

/// A user whose last connection has ended. Dropped, whether its time is over or there is no runtime any
/// more, it has left.
struct Leaving {
    state: Arc<State>,
    hub: Hub,
    connection: Uuid,
}

impl Leaving {
    async fn after(self, grace: Duration) {
        tokio::time::sleep(grace).await;
        drop(self);
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // If it has come back, this connection is not known any more, and nothing changes.
        self.state.remove(self.connection).tell(&self.hub);
        self.state.vanish_if_unused(&self.hub);
    }
}
