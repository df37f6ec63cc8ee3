//! A real-time WebSocket framework on tokio, hyper and axum.
//!
//! Write a [`Handler`], give it a route, and run it:
//!
//! ```no_run
//! use sockeye::{Handler, Message, Result, Server, Session};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Data = ();
//!
//!     async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
//!         session.send(message);
//!         Ok(())
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result {
//!     Server::new().ws("/echo", Echo).listen("127.0.0.1:8080").await?;
//!     Ok(())
//! }
//! ```
//!
//! # Where to start
//!
//! - [`Handler`] is what a route does; one value serves all its connections. [`on`] makes one from
//!   plain closures.
//! - [`Session`] is one connection as its handler sees it, with data of its own.
//! - [`Socket`] is the same connection for everyone else: a cheap clone that sends, closes and waits.
//! - [`Hub`] is where connections meet: what is published to a topic, a [`Room`] or a [`User`] reaches all
//!   who belong there, from a handler as from any axum route; and who is there is known ([`Presence`]).
//! - [`WebSocket`] is a connection as a loop, `while let Some(message) = ws.recv().await?`, for those who
//!   prefer one: on the server by the route [`accept`], on the other end from [`Client::connect`].
//! - [`Server`] listens, and shuts down in order. [`ws`] is the route alone, for any
//!   [`axum::Router`].
//! - [`Config`] holds the limits and deadlines of a route. Its defaults are safe on the open internet:
//!   messages of 1 MiB at most, pages of the same origin only, dead peers found within a minute,
//!   slow ones disconnected before they cost more than 1 MiB.
//! - [`Compression`] turns permessage-deflate on for a route; it is off by default.
//! - [`testing`] runs a handler against a peer in memory.
//!
//! # What you can rely on
//!
//! - [`open`](Handler::open) is called once, before any message, and [`close`](Handler::close) once,
//!   after the last. The messages of a connection come one after another, in order.
//! - [`send`](Socket::send) never waits, and says what became of the message.
//! - All subscribers of a topic see its messages in one order, and a [`PublishReport`] says truly how many
//!   get one. What a connection holds in its hub goes with it, however it ends.
//! - A handler that takes long delays nobody but its own next message: pings are answered meanwhile.
//! - A handler that fails or panics loses its own connection, and no other.
//! - A request is refused before it becomes a connection, with a status and a reason.
#![forbid(unsafe_code)]

mod error;

mod closures;
mod compression;
mod config;
mod encoded;
mod handler;
mod hub;
mod socket;

mod budget;
mod codec;
mod outbox;
mod pool;
mod queue;
mod registry;
mod sync;
mod waiters;
mod yields;

mod deadlines;
mod link;
mod run;
mod transport;
mod websocket;

mod client;
mod server;
mod upgrade;

pub mod testing;

#[cfg(all(test, sockeye_loom))]
mod interleavings;

pub use client::Client;
pub use closures::{AsyncAttach, AsyncCallback, AsyncSessionCallback, On, Outcome, on};
pub use compression::{Compress, Compression};
pub use config::{Config, KeepAlive, Overflow};
pub use encoded::Encoded;
pub use error::{
    Closed, ConnectError, Disconnected, Error, ListenError, Panicked, Result, ShutdownError,
};
pub use handler::{Handler, Session};
pub use hub::{
    Hub, HubOptions, Presence, PresenceChange, PresenceDiff, PresenceKey, PresenceSnapshot,
    PresenceWatch, Present, PublishReport, Room, User,
};
pub use server::{Running, Server};
pub use socket::{Close, ClosedBy, DropReason, SendStatus, Socket, State};
pub use sockeye_proto::handshake::client::{HandshakeError, HandshakeFault, OfferError};
pub use sockeye_proto::{Binary, CloseCode, Limits, Message, OpCode, Text, Utf8Bytes};
pub use upgrade::{Accept, Handshake, Origins, Rejection, ws, ws_with};
pub use websocket::{WebSocket, accept, accept_with};

/// What is said about compression in the settings and of a connection: permessage-deflate (RFC 7692).
pub mod deflate {
    pub use sockeye_proto::deflate::{AnswerError, Level, ParameterError, Parameters, WindowBits};
}

// What appears in signatures here, so that one dependency is enough to begin with.
pub use axum;
pub use bytes::Bytes;
pub use uuid::Uuid;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/coming-from.md")]
mod coming_from {}
