//! Who is connected to a server, so that it can end them all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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

/// A connection's place in its server's registry, if it has a server.
#[derive(Debug, Default)]
pub(crate) struct Registration(Option<(Arc<Registry>, usize)>);

impl Registry {
    /// Takes a connection in; one that comes after the server was stopped is closed at once.
    pub(crate) fn add(self: &Arc<Self>, socket: &Socket) -> Registration {
        let mut members = self.lock();
        let key = members.sockets.insert(Arc::downgrade(&socket.0));
        let stopped = members.stopped;
        drop(members);
        if stopped {
            socket.close(CloseCode::AWAY, "the server is shutting down");
        }
        Registration(Some((self.clone(), key)))
    }

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
    /// Gives the place up; done once, when the connection's task ends.
    pub(crate) fn remove(&mut self) {
        let Some((registry, key)) = self.0.take() else { return };
        let mut members = registry.lock();
        members.sockets.remove(key);
        if members.sockets.is_empty() {
            drop(members);
            registry.empty.notify_waiters();
        }
    }
}
