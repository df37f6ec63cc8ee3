//! What a connection does in its hub.

use super::{Hub, PublishReport, topic::Kind};
use crate::{Compress, Message, Socket};

/// In the connection's [`Hub`]. All that it holds there is given up when it ends, by whatever way.
impl Socket {
    /// The hub that the connection belongs to.
    pub fn hub(&self) -> &Hub {
        &self.0.registration.hub
    }

    /// Subscribes to a topic: what is published there is sent to this connection, until it unsubscribes
    /// or ends. False if it was subscribed already, or has ended.
    pub fn subscribe(&self, topic: &str) -> bool {
        self.0.held.subscribe(&self.0, Kind::Topic, topic)
    }

    /// Unsubscribes; false if it was not subscribed.
    pub fn unsubscribe(&self, topic: &str) -> bool {
        self.0.held.unsubscribe(&self.0, Kind::Topic, topic)
    }

    /// Whether it is subscribed to this topic.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.0.held.has(Kind::Topic, topic)
    }

    /// The topics that it is subscribed to, in no order.
    pub fn subscriptions(&self) -> Vec<String> {
        self.0.held.names(Kind::Topic)
    }

    /// Publishes to all subscribers of a topic but this connection, which need not be one of them;
    /// [`Hub::publish`] says the rest.
    pub fn publish<'a>(&self, topic: &str, message: impl Into<Message<'a>>) -> PublishReport {
        self.publish_with(topic, message, Compress::Auto)
    }

    /// The same with a choice of whether the message is compressed.
    pub fn publish_with<'a>(
        &self,
        topic: &str,
        message: impl Into<Message<'a>>,
        compress: Compress,
    ) -> PublishReport {
        let message = message.into();
        self.hub().publish_to(Kind::Topic, topic, &message, compress, Some(&self.0))
    }

    /// Makes this a connection of a user, and of no other: [`Hub::user`] then reaches it. A user may
    /// have many connections. False if the connection has ended.
    ///
    /// The name is taken as it is: whether the peer is who it says it is has been asked before, in
    /// [`attach`](crate::Handler::attach). Where the connection is present already, it stays so as what it
    /// was.
    pub fn identify(&self, user: &str) -> bool {
        self.0.held.identify(&self.0, user)
    }

    /// The user whose connection this is, if it was said.
    pub fn user(&self) -> Option<String> {
        self.0.held.user()
    }

    /// The rooms that it has joined, in no order.
    pub fn rooms(&self) -> Vec<String> {
        self.0.held.names(Kind::Room)
    }

    /// Leaves all rooms, and is present in none of them any more.
    pub fn leave_all(&self) {
        for room in self.rooms() {
            self.hub().room(room).leave(self);
        }
    }
}
