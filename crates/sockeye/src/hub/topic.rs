//! A topic and its subscribers; rooms and users are topics too, each kind with names of its own.

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use indexmap::{Equivalent, IndexSet};

use super::{PublishReport, presence::Encode};
use crate::{
    Compress, DropReason, Message, SendStatus,
    encoded::{Form, Publication, count_plain_for_window},
    socket::Shared,
    sync::{Mutex, MutexGuard, RwLock},
};

/// Whose names a name is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Topic,
    Room,
    User,
}

/// Who is to get what is published under a name.
#[derive(Debug)]
pub(crate) struct Topic {
    kind: Kind,
    name: Box<str>,
    /// How many messages subscribers did not get, as too much waited for them.
    dropped: AtomicU64,
    /// How many subscribers have a form, so that most publications need not ask for them.
    forms: AtomicUsize,
    subscribers: Mutex<Subscribers>,
}

#[derive(Default)]
struct Subscribers {
    sockets: IndexSet<Subscriber>,
    /// In which compressed forms they take messages, and how many of them do.
    forms: Vec<(Form, usize)>,
    /// How changes of presence are told to them.
    encode: Option<Encode>,
    /// The last one has left, and the topic is not to be found any more.
    is_gone: bool,
}

impl fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.sockets).finish()
    }
}

/// A subscriber by its identity.
#[derive(Clone)]
struct Subscriber(Arc<Shared>);

/// More free places than this are given back when fewer than a quarter are taken.
const FREE_PLACES: usize = 64;

impl Topic {
    fn new(kind: Kind, name: &str) -> Self {
        let (dropped, forms) = Default::default();
        Self { kind, name: name.into(), dropped, forms, subscribers: Mutex::default() }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().sockets.len()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn subscribers(&self) -> Vec<Arc<Shared>> {
        self.lock().sockets.iter().map(|subscriber| subscriber.0.clone()).collect()
    }

    /// Sends a message to all subscribers but one. The lock is held for all of them, so that all see
    /// the messages of a topic in one order.
    pub(crate) fn publish(
        &self,
        message: &Message<'_>,
        compress: Compress,
        except: Option<&Shared>,
    ) -> PublishReport {
        let mut publication = Publication::new(message, compress);
        if self.forms.load(Ordering::Relaxed) > 0 {
            publication.compress(&self.forms_for(message.len(), compress));
        }
        let (mut report, mut overflowed) = (PublishReport::default(), 0);
        let subscribers = self.lock();
        for Subscriber(shared) in &subscribers.sockets {
            if except.is_none_or(|except| !std::ptr::eq(except, &raw const **shared)) {
                let status = shared.deliver_publication(&publication);
                overflowed += u64::from(status == SendStatus::Dropped(DropReason::Overflow));
                report.count(status);
            }
        }
        drop(subscribers);
        if overflowed > 0 {
            self.dropped.fetch_add(overflowed, Ordering::Relaxed);
        }
        count_plain_for_window(publication.plain_for_window.get());
        report
    }

    /// In which forms a message of this length is to be compressed; mostly none, and no memory.
    fn forms_for(&self, length: usize, compress: Compress) -> Vec<Form> {
        let subscribers = self.lock();
        let forms = subscribers.forms.iter().map(|(form, _)| *form);
        forms.filter(|form| compress.wants(length, form.threshold)).collect()
    }

    /// How changes of presence are told to the subscribers.
    pub(crate) fn encode(&self) -> Option<Encode> {
        self.lock().encode.clone()
    }

    /// Says how; gives what was said before.
    pub(crate) fn set_encode(&self, encode: Encode) -> Option<Encode> {
        self.lock().encode.replace(encode)
    }

    /// False if the topic is gone, and has to be looked up anew.
    fn add(&self, shared: &Arc<Shared>) -> bool {
        let mut subscribers = self.lock();
        if subscribers.is_gone {
            return false;
        }
        if subscribers.sockets.insert(Subscriber(shared.clone()))
            && let Some(form) = shared.form()
        {
            self.forms.fetch_add(1, Ordering::Relaxed);
            match subscribers.forms.iter_mut().find(|known| known.0 == form) {
                Some((_, count)) => *count += 1,
                None => subscribers.forms.push((form, 1)),
            }
        }
        true
    }

    /// True if it was the last one, and the topic is gone.
    fn remove(&self, shared: &Arc<Shared>) -> bool {
        let mut subscribers = self.lock();
        let Subscribers { sockets, forms, is_gone, .. } = &mut *subscribers;
        if sockets.swap_remove(&Subscriber(shared.clone()))
            && let Some(form) = shared.form()
        {
            self.forms.fetch_sub(1, Ordering::Relaxed);
            forms.iter_mut().filter(|known| known.0 == form).for_each(|known| known.1 -= 1);
            forms.retain(|known| known.1 > 0);
        }
        if sockets.capacity() > FREE_PLACES && sockets.len() < sockets.capacity() / 4 {
            sockets.shrink_to(2 * sockets.len());
        }
        *is_gone = sockets.is_empty();
        *is_gone
    }

    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All topics, found by kind and name.
#[derive(Debug)]
pub(crate) struct Topics {
    hasher: RandomState,
    shards: [RwLock<IndexSet<Named>>; SHARDS],
}

/// Among how many locks the names are spread: the first subscriber of a topic and its last one need one
/// of them alone, the others share it.
const SHARDS: usize = if cfg!(sockeye_loom) { 1 } else { 16 };

/// A topic by its name.
#[derive(Clone, Debug)]
pub(crate) struct Named(pub(crate) Arc<Topic>);

impl Default for Topics {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: Default::default() }
    }
}

impl Topics {
    pub(crate) fn find(&self, kind: Kind, name: &str) -> Option<Arc<Topic>> {
        let shard = self.shard(kind, name).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(&(kind, name)).map(|named| named.0.clone())
    }

    /// Adds a subscriber, and gives the topic that there is from then on at the latest.
    pub(crate) fn subscribe(&self, kind: Kind, name: &str, shared: &Arc<Shared>) -> Arc<Topic> {
        loop {
            let topic = self.find(kind, name).unwrap_or_else(|| self.make(kind, name));
            if topic.add(shared) {
                return topic;
            }
            self.forget(&topic);
        }
    }

    /// Removes a subscriber, and the topic with the last one.
    pub(crate) fn unsubscribe(&self, topic: &Arc<Topic>, shared: &Arc<Shared>) {
        if topic.remove(shared) {
            self.forget(topic);
        }
    }

    /// The names of all of a kind.
    pub(crate) fn names(&self, kind: Kind) -> Vec<String> {
        let mut names = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let of_kind = shard.iter().filter(|named| named.0.kind == kind);
            names.extend(of_kind.map(|named| named.0.name().to_owned()));
        }
        names
    }

    fn make(&self, kind: Kind, name: &str) -> Arc<Topic> {
        let mut shard = self.shard(kind, name).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(named) = shard.get(&(kind, name)) {
            return named.0.clone();
        }
        let topic = Arc::new(Topic::new(kind, name));
        shard.insert(Named(topic.clone()));
        topic
    }

    /// Forgets a topic that is gone; another of its name may be there already.
    fn forget(&self, topic: &Arc<Topic>) {
        let shard = self.shard(topic.kind, &topic.name);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let name = (topic.kind, topic.name());
        if shard.get(&name).is_some_and(|named| Arc::ptr_eq(&named.0, topic)) {
            shard.swap_remove(&name);
        }
        if shard.capacity() > FREE_PLACES && shard.len() < shard.capacity() / 4 {
            let room = 2 * shard.len();
            shard.shrink_to(room);
        }
    }

    fn shard(&self, kind: Kind, name: &str) -> &RwLock<IndexSet<Named>> {
        let hash = self.hasher.hash_one((kind, name));
        &self.shards[hash as usize % SHARDS]
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.id.fmt(f)
    }
}

impl Hash for Subscriber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl PartialEq for Subscriber {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Subscriber {}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.kind, self.0.name()).hash(state);
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        (self.0.kind, self.0.name()) == (other.0.kind, other.0.name())
    }
}

impl Eq for Named {}

impl Equivalent<Named> for (Kind, &str) {
    fn equivalent(&self, named: &Named) -> bool {
        *self == (named.0.kind, named.0.name())
    }
}
