//! Who is connected to a server, so that it can end them all.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicU32, Ordering},
};

use slab::Slab;
use sockeye_proto::CloseCode;
use tokio::sync::Notify;

use crate::{Socket, socket::Shared};

/// The open connections of a server.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    members: Mutex<Members>,
    empty: Notify,
}

#[derive(Debug, Default)]
struct Members {
    sockets: Slab<Weak<Shared>>,
    stopped: bool,
}

/// The key of a place that is not taken.
const NOWHERE: u32 = u32::MAX;

/// A connection's place in its server's registry, if it has a server.
#[derive(Debug, Default)]
pub(crate) struct Registration {
    registry: Option<Arc<Registry>>,
    key: AtomicU32,
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
        shared.registration.remove();
    }
}

impl Registry {
    /// All connections there will ever be.
    pub(crate) fn stop(&self) -> Vec<Socket> {
        let mut members = self.lock();
        members.stopped = true;
        members.sockets.iter().filter_map(|(_, shared)| shared.upgrade()).map(Socket).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().sockets.len()
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

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// A place that is not taken yet.
    pub(crate) fn new(registry: Option<Arc<Registry>>) -> Self {
        Self { registry, key: AtomicU32::new(NOWHERE) }
    }

    /// Takes the place of `socket`; one that comes after the server was stopped is closed at once.
    pub(crate) fn add(&self, socket: &Socket) {
        let Some(registry) = &self.registry else { return };
        let mut members = registry.lock();
        let key = members.sockets.insert(Arc::downgrade(&socket.0));
        self.key.store(key as u32, Ordering::Relaxed);
        let stopped = members.stopped;
        drop(members);
        if stopped {
            socket.close(CloseCode::AWAY, "the server is shutting down");
        }
    }

    /// Gives the place up.
    pub(crate) fn remove(&self) {
        let Some(registry) = &self.registry else { return };
        let mut members = registry.lock();
        let key = self.key.swap(NOWHERE, Ordering::Relaxed) as usize;
        if members.sockets.try_remove(key).is_some() && members.sockets.is_empty() {
            drop(members);
            registry.empty.notify_waiters();
        }
    }
}
