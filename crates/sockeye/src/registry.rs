//! Who is connected, to a hub and to a server, and who ends a connection.

use std::sync::{
    Arc, PoisonError, Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use slab::Slab;
use sockeye_proto::CloseCode;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    Hub, Socket,
    socket::Shared,
    sync::{Mutex, MutexGuard},
};

/// The open connections of a hub.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<Slab<Weak<Shared>>>);

/// How many connections a server has, and whether it takes more.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// Where they are to be found: its own hub, and those that its routes have.
    hubs: Mutex<Vec<Hub>>,
    count: AtomicUsize,
    stopped: AtomicBool,
    empty: Notify,
}

/// A connection's place in its hub, and the server that it counts for, if it has one.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) hub: Hub,
    served: Option<Arc<Served>>,
    key: u32,
}

/// Ends the connection for all who hold its socket when it is dropped, however that comes: with the
/// task of the connection, or before there is one. It is there from the acceptance of the handshake on.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) socket: Socket,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let shared = &self.socket.0;
        shared.outbox.finish("the connection was dropped");
        shared.outbox.forget_waker();
        shared.deflate.forget();
        shared.held.give_up(shared);
        shared.registration.remove();
    }
}

impl Registry {
    /// Makes a connection in its place. Its number says where that is, so that it is found again
    /// without a table, and is random for all others.
    pub(crate) fn add(
        hub: &Hub,
        served: Option<Arc<Served>>,
        make: impl FnOnce(Uuid, Registration) -> Shared,
    ) -> Socket {
        let random = Uuid::new_v4();
        let mut sockets = hub.registry().lock();
        let place = sockets.vacant_entry();
        let key = place.key() as u32;
        let registration = Registration { hub: hub.clone(), served, key };
        let shared = Arc::new(make(with_key(random, key), registration));
        place.insert(Arc::downgrade(&shared));
        drop(sockets);
        let socket = Socket(shared);
        if let Some(served) = &socket.0.registration.served {
            served.count.fetch_add(1, Ordering::Relaxed);
            served.knows(hub);
            // The locks are between this and the look at all connections that follows the store.
            if served.stopped.load(Ordering::Acquire) {
                socket.close(CloseCode::AWAY, "the server is shutting down");
            }
        }
        socket
    }

    pub(crate) fn find(&self, id: Uuid) -> Option<Socket> {
        let shared = self.lock().get(key_of(id) as usize)?.upgrade()?;
        (shared.id == id).then_some(Socket(shared))
    }

    pub(crate) fn all(&self) -> Vec<Socket> {
        self.lock().iter().filter_map(|(_, shared)| shared.upgrade()).map(Socket).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Weak<Shared>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Served {
    /// All connections of this server there will ever be.
    pub(crate) fn stop(self: &Arc<Self>) -> Vec<Socket> {
        self.stopped.store(true, Ordering::Release);
        let is_of_this = |socket: &Socket| {
            let served = &socket.0.registration.served;
            served.as_ref().is_some_and(|served| Arc::ptr_eq(served, self))
        };
        let hubs = self.hubs().clone();
        hubs.iter().flat_map(|hub| hub.registry().all()).filter(is_of_this).collect()
    }

    fn knows(&self, hub: &Hub) {
        let mut hubs = self.hubs();
        if !hubs.contains(hub) {
            hubs.push(hub.clone());
        }
    }

    fn hubs(&self) -> MutexGuard<'_, Vec<Hub>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Waits until no connection is left.
    pub(crate) async fn empty(&self) {
        loop {
            let changed = self.empty.notified();
            if self.len() == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Registration {
    /// Gives the place up; the connection's owner does, once.
    fn remove(&self) {
        self.hub.registry().lock().remove(self.key as usize);
        if let Some(served) = &self.served
            && served.count.fetch_sub(1, Ordering::AcqRel) == 1
        {
            served.empty.notify_waiters();
        }
    }
}

/// Hides the key in the first bytes, behind random ones of the last.
fn with_key(random: Uuid, key: u32) -> Uuid {
    let mut bytes = random.into_bytes();
    let mask = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
    bytes[..4].copy_from_slice(&(key ^ mask).to_be_bytes());
    Uuid::from_bytes(bytes)
}

fn key_of(id: Uuid) -> u32 {
    let bytes = id.as_bytes();
    let word =
        |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    word(0) ^ word(12)
}
