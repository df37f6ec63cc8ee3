//! Where connections meet: topics, rooms, presence, users.

mod held;
mod presence;
mod room;
mod socket;
mod topic;
mod user;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::extract::{Extension, FromRequestParts};
use http::{StatusCode, request::Parts};
use serde::Serialize;
use sockeye_proto::Message;
use uuid::Uuid;

use self::presence::Presences;
pub(crate) use self::{
    held::Held,
    topic::{Kind, Topics},
};
pub use self::{
    presence::{
        Presence, PresenceChange, PresenceDiff, PresenceKey, PresenceSnapshot, PresenceWatch,
        Present,
    },
    room::Room,
    user::User,
};
use crate::{
    Compress, Encoded, SendStatus, Socket, State, registry::Registry, upgrade::ServerContext,
};

/// The place where connections meet: what one says reaches all who subscribe to a topic, the members
/// of a room, or all connections of a user, from a handler as from anywhere else.
///
/// A [`Server`](crate::Server) has one, which its handlers reach by [`Socket::hub`] and its axum routes
/// as an extractor. A clone is cheap, and the same hub.
///
/// ```
/// use axum::{Json, Router, extract::Path, routing::post};
/// use sockeye::{Hub, PublishReport, Server};
///
/// async fn notify(hub: Hub, Path(user): Path<String>, text: String) -> Json<PublishReport> {
///     Json(hub.user(user).send(text))
/// }
///
/// let sockets = sockeye::on().on_open(|session| session.subscribe("news"));
/// let server = Server::new()
///     .ws("/ws", sockets)
///     .routes(Router::new().route("/notify/{user}", post(notify)));
/// ```
///
/// In a program of axum alone, make one, and give it to the routes with
/// [`Config::hub`](crate::Config::hub); as a part of the state, or as a layer
/// (`axum::Extension(hub)`), other routes have it too.
///
/// # What is promised
///
/// - All subscribers of a topic see its messages in the same order, and so do the members of a room and
///   the connections of a user.
/// - A publication does not wait for its receivers, nor for publications elsewhere. It holds the
///   thread for some 0.2 milliseconds for each 1000 receivers, and for up to 1 where they are so
///   many that what is kept of them lies in no cache.
/// - What a connection holds here is given up when it ends, by whatever way.
/// - A topic or room exists as long as somebody is in it, and costs nothing before and after.
///
/// What is said here is about this process: "this node". Methods that will one day ask other machines
/// are `async` already.
#[derive(Clone, Default)]
pub struct Hub(Arc<Inner>);

#[derive(Default)]
struct Inner {
    options: HubOptions,
    registry: Registry,
    /// Made when first needed, as many hubs have but one connection: a client's.
    topics: OnceLock<Box<Topics>>,
    presences: OnceLock<Box<Presences>>,
}

/// The settings of a [`Hub`].
///
/// ```
/// use std::time::Duration;
/// use sockeye::{Hub, HubOptions};
///
/// let hub = Hub::with(HubOptions::default().presence_grace(Duration::from_secs(5)));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HubOptions {
    /// How long a user is still present after the last of its connections has ended, so that a
    /// connection that comes back in time changes nothing; default 0. A connection without a user has no
    /// name to come back by.
    pub presence_grace: Duration,
    /// How long changes of presence are collected before [`Room::announce`] tells them; default 50 ms.
    pub announce_window: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self { presence_grace: Duration::ZERO, announce_window: Duration::from_millis(50) }
    }
}

impl HubOptions {
    /// Sets [`presence_grace`](Self::presence_grace).
    #[must_use]
    pub fn presence_grace(mut self, time: Duration) -> Self {
        self.presence_grace = time;
        self
    }

    /// Sets [`announce_window`](Self::announce_window).
    #[must_use]
    pub fn announce_window(mut self, time: Duration) -> Self {
        self.announce_window = time;
        self
    }
}

/// What became of a message that was sent to many, on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PublishReport {
    /// For how many it is on its way: [`SendStatus::Queued`].
    pub queued: usize,
    /// For how many it is on its way behind more than they take:
    /// [`SendStatus::Backpressure`].
    pub backpressured: usize,
    /// How many will not get it: [`SendStatus::Dropped`].
    pub dropped: usize,
}

impl PublishReport {
    pub(crate) fn count(&mut self, status: SendStatus) {
        match status {
            SendStatus::Queued => self.queued += 1,
            SendStatus::Backpressure { .. } => self.backpressured += 1,
            SendStatus::Dropped(_) => self.dropped += 1,
        }
    }

    /// For how many it is on its way, backpressure or not.
    pub fn sent(&self) -> usize {
        self.queued + self.backpressured
    }
}

impl Hub {
    /// A hub of its own, with the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// A hub with settings of its own.
    pub fn with(options: HubOptions) -> Self {
        Self(Arc::new(Inner { options, ..Inner::default() }))
    }

    /// Publishes to all subscribers of a topic, and says what became of it. Never waits: slow ones are
    /// dealt with as [`Config::backpressure`](crate::Config::backpressure) says, each for itself.
    ///
    /// The message is encoded once, and compressed once for each form of compression without a window
    /// that subscribers have agreed to. It takes what [`Socket::send`] takes.
    pub fn publish<'a>(&self, topic: &str, message: impl Into<Message<'a>>) -> PublishReport {
        self.publish_with(topic, message, Compress::Auto)
    }

    /// The same with a choice of whether the message is compressed. Connections with windows of their own
    /// ([`Compression::Dedicated`](crate::Compression::Dedicated)) get it as it is, unless that is
    /// [`Compress::Always`].
    pub fn publish_with<'a>(
        &self,
        topic: &str,
        message: impl Into<Message<'a>>,
        compress: Compress,
    ) -> PublishReport {
        self.publish_to(Kind::Topic, topic, &message.into(), compress, None)
    }

    /// How many connections are subscribed to a topic, on this node.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.find(Kind::Topic, topic).map_or(0, |topic| topic.len())
    }

    /// The topics that have subscribers on this node, in no order.
    pub fn topics(&self) -> Vec<String> {
        self.0.topics.get().map_or_else(Vec::new, |topics| topics.names(Kind::Topic))
    }

    /// How many messages subscribers of a topic did not get, as too much waited for them, since the topic
    /// has been there.
    pub fn dropped(&self, topic: &str) -> u64 {
        self.find(Kind::Topic, topic).map_or(0, |topic| topic.dropped())
    }

    /// Sends a message to all connections of this node. Two such messages may come to two of them
    /// in different orders; those of a topic do not.
    pub fn broadcast<'a>(&self, message: impl Into<Message<'a>>) -> PublishReport {
        let encoded = Encoded::new(message);
        let mut report = PublishReport::default();
        for socket in self.sockets() {
            report.count(socket.send_encoded(&encoded));
        }
        report
    }

    /// All open connections of this node, in no order.
    pub fn sockets(&self) -> Vec<Socket> {
        let mut sockets = self.0.registry.all();
        sockets.retain(|socket| socket.state() != State::Closed);
        sockets
    }

    /// The connection with this number, if it is open on this node.
    pub fn socket(&self, id: Uuid) -> Option<Socket> {
        self.0.registry.find(id)
    }

    /// All connections of a user, which [`Socket::identify`] has given it.
    pub fn user(&self, name: impl Into<String>) -> User {
        User::new(self.clone(), name.into())
    }

    /// A room, whether somebody is in it or not.
    pub fn room(&self, name: impl Into<String>) -> Room {
        Room::new(self.clone(), name.into())
    }

    /// The rooms that have members, in no order.
    pub async fn rooms(&self) -> Vec<String> {
        self.0.topics.get().map_or_else(Vec::new, |topics| topics.names(Kind::Room))
    }

    pub(crate) fn publish_to(
        &self,
        kind: Kind,
        name: &str,
        message: &Message<'_>,
        compress: Compress,
        except: Option<&crate::socket::Shared>,
    ) -> PublishReport {
        let topic = self.find(kind, name);
        topic.map(|topic| topic.publish(message, compress, except)).unwrap_or_default()
    }

    pub(crate) fn find(&self, kind: Kind, name: &str) -> Option<Arc<topic::Topic>> {
        self.0.topics.get()?.find(kind, name)
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    fn topics_made(&self) -> &Topics {
        self.0.topics.get_or_init(Box::default)
    }

    fn presences(&self) -> &Presences {
        self.0.presences.get_or_init(Box::default)
    }

    fn options(&self) -> &HubOptions {
        &self.0.options
    }
}

/// The hub of the [`Server`](crate::Server) that the request came to, or else the one in
/// [`axum::Extension`].
impl<S: Send + Sync> FromRequestParts<S> for Hub {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        if let Some(hub) = parts.extensions.get::<ServerContext>().and_then(|at| at.hub.clone()) {
            return Ok(hub);
        }
        match Extension::<Self>::from_request_parts(parts, state).await {
            Ok(Extension(hub)) => Ok(hub),
            Err(_) => {
                tracing::error!("there is no hub: add the layer `axum::Extension(hub)`");
                Err((StatusCode::INTERNAL_SERVER_ERROR, "there is no hub\n"))
            }
        }
    }
}

impl PartialEq for Hub {
    /// Whether both are the same hub.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Hub {}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("connections", &self.0.registry.len()).finish_non_exhaustive()
    }
}
