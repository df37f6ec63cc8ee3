//! Who is present in a room, and who is told of it.

mod announce;
mod state;
mod watch;

use std::{fmt, sync::Arc, task::Waker};

use serde::{Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

pub use self::watch::{PresenceChange, PresenceWatch};
pub(crate) use self::{
    announce::Encode,
    state::{Presences, State},
};
use super::{Hub, topic::Kind};
use crate::Socket;

/// Who is present in a [`Room`](super::Room), with what is to be known of them, from
/// [`Room::presence`](super::Room::presence).
///
/// A connection that has a user ([`Socket::identify`]) is present as that user, and several connections
/// of one user count once: the first announces that the user has come, the last that it has gone. Any
/// other connection is present as itself. Presence ends with the connection, by whatever way it ends; a
/// user's only after [`HubOptions::presence_grace`](super::HubOptions::presence_grace).
///
/// ```
/// use serde_json::json;
/// use sockeye::{Result, Session};
///
/// async fn enter(session: &Session<()>) -> Result {
///     let presence = session.hub().room("lobby").presence();
///     presence.track(session, json!({"mood": "curious"}))?;
///     session.send_json(&presence.list().await)?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Presence {
    hub: Hub,
    room: String,
}

/// Somebody who is present, as JSON `{"key": "ana", "metas": [..]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Present {
    /// Who it is.
    pub key: PresenceKey,
    /// What each of its connections has said of itself, the one that came first at the front.
    pub metas: Vec<Value>,
}

/// As whom somebody is present.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PresenceKey {
    /// As a user, whatever the connection.
    User(Arc<str>),
    /// As this connection.
    Connection(Uuid),
}

/// All who are present at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PresenceSnapshot {
    /// The version of the last change before it.
    pub version: u64,
    /// Who is present.
    pub present: Vec<Present>,
}

/// What has changed. Of several changes that are told together only what comes of them is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PresenceDiff {
    /// The number of the change: one more than that of the change before it, or so many more as are told
    /// together.
    pub version: u64,
    /// Who has come.
    pub joined: Vec<Present>,
    /// Of whom something else is known, as it is now.
    pub updated: Vec<Present>,
    /// Who has gone, as it was last.
    pub left: Vec<Present>,
}

impl Presence {
    pub(super) fn new(hub: Hub, room: String) -> Self {
        Self { hub, room }
    }

    /// Makes a connection present, with what is to be known of it; one that is present already gets this
    /// in the place of what was known. It need not be a member of the room. False if it has ended.
    ///
    /// # Errors
    ///
    /// `meta` cannot be written as JSON; nothing has changed then.
    pub fn track(&self, socket: &Socket, meta: impl Serialize) -> serde_json::Result<bool> {
        Ok(self.put(socket, serde_json::to_value(meta)?, false))
    }

    /// Changes what is known of a connection that is present; false if it is not.
    ///
    /// # Errors
    ///
    /// `meta` cannot be written as JSON; nothing has changed then.
    pub fn update(&self, socket: &Socket, meta: impl Serialize) -> serde_json::Result<bool> {
        Ok(self.put(socket, serde_json::to_value(meta)?, true))
    }

    fn put(&self, socket: &Socket, meta: Value, only_if_present: bool) -> bool {
        if *socket.hub() != self.hub {
            tracing::error!("a connection is present in rooms of its own hub alone");
            return false;
        }
        let id = socket.id();
        let user = socket.user();
        let outcome = socket.0.held.with_presences(|presences| {
            let known = presences.iter().find(|state| *state.room() == *self.room).cloned();
            match (known, only_if_present) {
                (None, true) => None,
                (Some(state), _) => state.put(id, user, meta),
                (None, false) => loop {
                    let state = self.hub.presences().find_or_make(&self.hub, &self.room);
                    if let Some(told) = state.put(id, user.clone(), meta.clone()) {
                        presences.push(state);
                        break Some(told);
                    }
                    self.hub.presences().forget(&state);
                },
            }
        });
        outcome.flatten().map(|told| told.tell(&self.hub)).is_some()
    }

    /// Ends the presence of a connection; false if there was none.
    pub fn untrack(&self, socket: &Socket) -> bool {
        if *socket.hub() != self.hub {
            return false;
        }
        let of = |presences: &mut Vec<_>| Ended::of(presences, &self.room, socket.id());
        socket.0.held.with_presences(of).is_some_and(|ended| ended.tell(&self.hub))
    }

    /// All who are present.
    pub async fn list(&self) -> Vec<Present> {
        self.hub
            .presences()
            .find(&self.room)
            .map_or_else(Vec::new, |state| state.snapshot().present)
    }

    /// How many are present; several connections of a user count once.
    pub async fn count(&self) -> usize {
        self.hub.presences().find(&self.room).map_or(0, |state| state.len())
    }

    /// All who are present, and each change from then on, none left out and none twice.
    pub fn watch(&self) -> PresenceWatch {
        loop {
            let state = self.hub.presences().find_or_make(&self.hub, &self.room);
            if let Some((key, snapshot)) = state.watch() {
                return PresenceWatch::new(self.hub.clone(), state, key, snapshot);
            }
            self.hub.presences().forget(&state);
        }
    }

    /// Tells the members of the room from now on; false if there are none.
    pub(super) fn announce(&self, encode: Encode) -> bool {
        let Some(room) = self.hub.find(Kind::Room, &self.room) else { return false };
        let is_first = room.set_encode(encode).is_none();
        if is_first && let Some(state) = self.hub.presences().find(&self.room) {
            state.begin_announcing();
        }
        true
    }
}

/// A presence that has ended, of which others are to be told.
#[derive(Default)]
#[must_use = "to tell them"]
pub(crate) struct Ended(Option<(Arc<State>, Told)>);

impl Ended {
    /// Ends the presence of a connection in a room, if that is among these.
    pub(crate) fn of(presences: &mut Vec<Arc<State>>, room: &str, connection: Uuid) -> Self {
        let place = presences.iter().position(|state| *state.room() == *room);
        Self(place.map(|place| {
            let state = presences.swap_remove(place);
            let told = state.remove(connection);
            (state, told)
        }))
    }

    /// Tells of it; false if there was none.
    pub(crate) fn tell(self, hub: &Hub) -> bool {
        let Some((state, told)) = self.0 else { return false };
        told.tell(hub);
        state.vanish_if_unused(hub);
        true
    }
}

/// Who has to hear of a change, once no lock is held.
#[derive(Default)]
#[must_use = "to tell them"]
pub(crate) struct Told {
    wakers: Vec<Waker>,
    /// The announcement of this room is to be made.
    announce: Option<Arc<State>>,
}

impl Told {
    pub(crate) fn tell(self, hub: &Hub) {
        self.wakers.into_iter().for_each(Waker::wake);
        if let Some(state) = self.announce {
            announce::schedule(hub, state);
        }
    }
}

impl PresenceDiff {
    /// Adds what has become of somebody.
    fn add(&mut self, before: Option<Present>, after: Option<Present>) {
        match (before, after) {
            (None, Some(now)) => self.joined.push(now),
            (Some(then), None) => self.left.push(then),
            (Some(then), Some(now)) if then != now => self.updated.push(now),
            _ => {}
        }
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.updated.is_empty() && self.left.is_empty()
    }
}

impl fmt::Display for PresenceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => f.write_str(name),
            Self::Connection(id) => id.fmt(f),
        }
    }
}

/// As text, which [`Display`](fmt::Display) gives.
impl Serialize for PresenceKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
