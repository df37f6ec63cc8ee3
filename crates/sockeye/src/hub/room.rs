//! A room: a topic with members.

use std::sync::Arc;

use sockeye_proto::Message;
use uuid::Uuid;

use super::{Hub, Presence, PresenceDiff, PublishReport, topic::Kind};
use crate::{Compress, SendStatus, Socket};

/// A room, from [`Hub::room`]: its members get what is said there, and may be [present](Presence) in it.
///
/// It exists as long as it has members. This is but its name: keep it or ask for it again. A topic of the
/// same name is another thing.
///
/// ```
/// use sockeye::{Hub, Session};
///
/// fn enter(session: &Session<String>) {
///     let room = session.hub().room("lobby");
///     room.join(session);
///     room.broadcast_except(session, format!("{} has come", session.data));
///     session.send(format!("{} are here", room.len()));
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Room {
    hub: Hub,
    name: String,
}

impl Room {
    pub(super) fn new(hub: Hub, name: String) -> Self {
        Self { hub, name }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a connection a member; false if it is one already, has ended, or belongs to another hub.
    pub fn join(&self, socket: &Socket) -> bool {
        if *socket.hub() != self.hub {
            tracing::error!("a connection joins rooms of its own hub alone");
            return false;
        }
        socket.0.held.subscribe(&socket.0, Kind::Room, &self.name)
    }

    /// Ends a membership, and with it the presence; false if there was none.
    pub fn leave(&self, socket: &Socket) -> bool {
        if *socket.hub() != self.hub {
            return false;
        }
        let ended = socket.0.held.leave(&socket.0, &self.name);
        ended.map(|ended| ended.tell(&self.hub)).is_some()
    }

    /// Sends a message to all members; see [`Hub::publish`].
    pub fn broadcast<'a>(&self, message: impl Into<Message<'a>>) -> PublishReport {
        self.broadcast_with(message, Compress::Auto)
    }

    /// The same with a choice of whether the message is compressed.
    pub fn broadcast_with<'a>(
        &self,
        message: impl Into<Message<'a>>,
        compress: Compress,
    ) -> PublishReport {
        self.hub.publish_to(Kind::Room, &self.name, &message.into(), compress, None)
    }

    /// Sends a message to all members but one.
    pub fn broadcast_except<'a>(
        &self,
        socket: &Socket,
        message: impl Into<Message<'a>>,
    ) -> PublishReport {
        let (message, except) = (message.into(), Some(&*socket.0));
        self.hub.publish_to(Kind::Room, &self.name, &message, Compress::Auto, except)
    }

    /// Sends a message to one member; none if no member of this node has that number.
    pub fn send_to<'a>(&self, id: Uuid, message: impl Into<Message<'a>>) -> Option<SendStatus> {
        let socket = self.hub.socket(id).filter(|socket| self.has(socket))?;
        Some(socket.send(message))
    }

    /// Whether a connection is a member.
    pub fn has(&self, socket: &Socket) -> bool {
        *socket.hub() == self.hub && socket.0.held.has(Kind::Room, &self.name)
    }

    /// The members on this node, in no order.
    pub fn members(&self) -> Vec<Socket> {
        let topic = self.hub.find(Kind::Room, &self.name);
        topic.map_or_else(Vec::new, |topic| topic.subscribers().into_iter().map(Socket).collect())
    }

    /// How many members there are on this node.
    pub fn len(&self) -> usize {
        self.hub.find(Kind::Room, &self.name).map_or(0, |topic| topic.len())
    }

    /// Whether nobody is in it, on this node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who is present in it.
    pub fn presence(&self) -> Presence {
        Presence::new(self.hub.clone(), self.name.clone())
    }

    /// Tells the members of changes of its presence, as the message that `encode` makes of them; with
    /// `None` they are not told. Changes are collected for
    /// [`HubOptions::announce_window`](super::HubOptions::announce_window), so that many who come at a
    /// time are one message.
    ///
    /// Changes that are made on a thread without a tokio runtime are told with the next one that is made
    /// on one.
    ///
    /// It ends with the last member, so call it for whoever has joined: again, it does no more than put
    /// `encode` in the place of the one before. False if the room has no members.
    ///
    /// Who has just joined may be told of somebody that it knows from a
    /// [`list`](Presence::list) already: what is told is how it is, by key.
    ///
    /// ```
    /// # use sockeye::{Result, Session};
    /// # fn example(session: &Session<()>) -> Result {
    /// let room = session.hub().room("lobby");
    /// room.join(session);
    /// room.announce(|diff| serde_json::to_string(diff).ok());
    /// room.presence().track(session, "at the door")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn announce<M: Into<Message<'static>>>(
        &self,
        encode: impl Fn(&PresenceDiff) -> Option<M> + Send + Sync + 'static,
    ) -> bool {
        let encode = move |diff: &PresenceDiff| encode(diff).map(Into::into);
        self.presence().announce(Arc::new(encode))
    }
}
