//! A user: all connections of one name.

use sockeye_proto::{CloseCode, Message};
use uuid::Uuid;

use super::{Hub, PublishReport, topic::Kind};
use crate::{Compress, Socket};

/// All connections of a user, from [`Hub::user`].
///
/// ```
/// use sockeye::{CloseCode, Hub};
///
/// fn log_out(hub: &Hub, name: &str) {
///     let user = hub.user(name);
///     user.send("you have been logged out");
///     user.close(CloseCode::POLICY, "logged out");
/// }
/// ```
#[derive(Clone, Debug)]
pub struct User {
    hub: Hub,
    name: String,
}

impl User {
    pub(super) fn new(hub: Hub, name: String) -> Self {
        Self { hub, name }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a message to all its connections; see [`Hub::publish`].
    pub fn send<'a>(&self, message: impl Into<Message<'a>>) -> PublishReport {
        self.send_with(message, Compress::Auto)
    }

    /// The same with a choice of whether the message is compressed.
    pub fn send_with<'a>(
        &self,
        message: impl Into<Message<'a>>,
        compress: Compress,
    ) -> PublishReport {
        self.hub.publish_to(Kind::User, &self.name, &message.into(), compress, None)
    }

    /// Closes all its connections on this node, as [`Socket::close`] does, and says how many that were.
    pub fn close(&self, code: CloseCode, reason: &str) -> usize {
        let sockets = self.sockets();
        sockets.iter().for_each(|socket| socket.close(code, reason));
        sockets.len()
    }

    /// Its connections on this node.
    pub fn sockets(&self) -> Vec<Socket> {
        let user = self.hub.find(Kind::User, &self.name);
        user.map_or_else(Vec::new, |user| user.subscribers().into_iter().map(Socket).collect())
    }

    /// The numbers of its connections.
    pub async fn connections(&self) -> Vec<Uuid> {
        self.sockets().iter().map(Socket::id).collect()
    }
}
