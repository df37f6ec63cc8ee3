//! What a connection holds in its hub, to be given up when it ends.

use std::sync::{Arc, PoisonError};

use indexmap::IndexSet;

use super::{
    Hub,
    presence::{Ended, State},
    topic::{Kind, Named, Topic},
};
use crate::{
    socket::Shared,
    sync::{Mutex, MutexGuard},
};

/// What a connection holds. The lock comes before those of topics and of presence.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<Holdings>);

#[derive(Debug, Default)]
struct Holdings {
    topics: Subscriptions,
    /// What most connections do not have.
    more: Option<Box<More>>,
}

/// Topics and rooms: mostly none or one, which then need no memory of their own.
#[derive(Debug, Default)]
enum Subscriptions {
    #[default]
    None,
    One(Arc<Topic>),
    Many(Box<IndexSet<Named>>),
    /// The connection has ended, and never holds anything again.
    Ended,
}

#[derive(Debug, Default)]
struct More {
    user: Option<Arc<Topic>>,
    presences: Vec<Arc<State>>,
}

impl Held {
    /// Subscribes; false if it was already, or the connection has ended.
    pub(crate) fn subscribe(&self, shared: &Arc<Shared>, kind: Kind, name: &str) -> bool {
        let mut holdings = self.lock();
        if holdings.is_ended() || holdings.topics.find(kind, name).is_some() {
            return false;
        }
        let topic = hub(shared).topics_made().subscribe(kind, name, shared);
        holdings.topics.add(topic);
        true
    }

    /// Unsubscribes; false if it was not subscribed.
    pub(crate) fn unsubscribe(&self, shared: &Arc<Shared>, kind: Kind, name: &str) -> bool {
        // The lock is held until all is done, so that nobody subscribes it in between.
        let mut holdings = self.lock();
        let Some(topic) = holdings.topics.take(kind, name) else { return false };
        hub(shared).topics_made().unsubscribe(&topic, shared);
        // Before the topic, with which the code of others may go.
        drop(holdings);
        true
    }

    /// Leaves a room and is not present there any more; none if it was no member, else what is to be told.
    pub(crate) fn leave(&self, shared: &Arc<Shared>, room: &str) -> Option<Ended> {
        let mut holdings = self.lock();
        let topic = holdings.topics.take(Kind::Room, room)?;
        hub(shared).topics_made().unsubscribe(&topic, shared);
        let presences = holdings.more.as_mut().map(|more| &mut more.presences);
        let ended = presences.map(|presences| Ended::of(presences, room, shared.id));
        drop(holdings);
        Some(ended.unwrap_or_default())
    }

    pub(crate) fn has(&self, kind: Kind, name: &str) -> bool {
        self.lock().topics.find(kind, name).is_some()
    }

    /// The names of a kind that it is subscribed to.
    pub(crate) fn names(&self, kind: Kind) -> Vec<String> {
        let holdings = self.lock();
        let of_kind = holdings.topics.iter().filter(|topic| topic.kind() == kind);
        of_kind.map(|topic| topic.name().to_owned()).collect()
    }

    /// Makes it a connection of this user, and of no other; false if it has ended.
    pub(crate) fn identify(&self, shared: &Arc<Shared>, name: &str) -> bool {
        let mut holdings = self.lock();
        if holdings.is_ended() {
            return false;
        }
        let more = holdings.more.get_or_insert_default();
        if more.user.as_ref().is_some_and(|user| user.name() == name) {
            return true;
        }
        let user = hub(shared).topics_made().subscribe(Kind::User, name, shared);
        if let Some(before) = more.user.replace(user) {
            hub(shared).topics_made().unsubscribe(&before, shared);
        }
        true
    }

    pub(crate) fn user(&self) -> Option<String> {
        let holdings = self.lock();
        let user = holdings.more.as_ref()?.user.as_ref()?;
        Some(user.name().to_owned())
    }

    /// Changes where it is present; nothing if the connection has ended.
    pub(crate) fn with_presences<R>(
        &self,
        change: impl FnOnce(&mut Vec<Arc<State>>) -> R,
    ) -> Option<R> {
        let mut holdings = self.lock();
        if holdings.is_ended() {
            return None;
        }
        Some(change(&mut holdings.more.get_or_insert_default().presences))
    }

    /// The connection has ended.
    pub(crate) fn give_up(&self, shared: &Arc<Shared>) {
        let mut holdings = self.lock();
        let topics = std::mem::replace(&mut holdings.topics, Subscriptions::Ended);
        let more = holdings.more.take().unwrap_or_default();
        drop(holdings);
        let hub = hub(shared);
        for topic in topics.iter().chain(&more.user) {
            hub.topics_made().unsubscribe(topic, shared);
        }
        for state in more.presences {
            state.on_end(hub, shared.id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Holdings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hub(shared: &Shared) -> &Hub {
    &shared.registration.hub
}

impl Holdings {
    fn is_ended(&self) -> bool {
        matches!(self.topics, Subscriptions::Ended)
    }
}

impl Subscriptions {
    fn find(&self, kind: Kind, name: &str) -> Option<&Arc<Topic>> {
        match self {
            Self::None | Self::Ended => None,
            Self::One(topic) => (topic.kind() == kind && topic.name() == name).then_some(topic),
            Self::Many(topics) => topics.get(&(kind, name)).map(|named| &named.0),
        }
    }

    fn add(&mut self, topic: Arc<Topic>) {
        match self {
            Self::None => *self = Self::One(topic),
            Self::One(first) => {
                *self = Self::Many(Box::new([Named(first.clone()), Named(topic)].into()));
            }
            Self::Many(topics) => {
                topics.insert(Named(topic));
            }
            Self::Ended => {}
        }
    }

    fn take(&mut self, kind: Kind, name: &str) -> Option<Arc<Topic>> {
        let found = self.find(kind, name)?.clone();
        match self {
            Self::Many(topics) if topics.len() > 1 => {
                topics.swap_remove(&(kind, name));
            }
            _ => *self = Self::None,
        }
        Some(found)
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        let (one, many) = match self {
            Self::None | Self::Ended => (None, None),
            Self::One(topic) => (Some(topic), None),
            Self::Many(topics) => (None, Some(topics)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|topics| topics.iter().map(|n| &n.0)))
    }
}
