//! What a route allows and how long it waits.

use std::time::Duration;

use sockeye_proto::{Limits, deflate::Level};

use crate::{Compression, Hub, Origins, budget};

/// The settings of a WebSocket route; the defaults are safe on the open internet.
///
/// ```
/// use std::time::Duration;
/// use sockeye::{Config, Limits, Origins};
///
/// let config = Config::default()
///     .limits(Limits::default().message_size(64 * 1024))
///     .keep_alive(Duration::from_secs(20), Duration::from_secs(5))
///     .origins(Origins::list(["https://example.com"]));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What a peer may send; see [`Limits`] for each bound and its default.
    pub limits: Limits,
    /// From which web pages browsers may connect; default [`Origins::Same`].
    /// WARNING: with [`Origins::Any`] every page on the web can act with its visitor's cookies.
    pub origins: Origins,
    /// Whether the route agrees to compress messages; default [`Compression::Off`]. Not looked at on a
    /// client, which offers it: see [`Client::no_compression`](crate::Client::no_compression).
    pub compression: Compression,
    /// How hard to compress, from 1 to 9; default 1. With 6, messages are shorter by some ten per cent
    /// of what they were, and take two to three times as long.
    pub compression_level: Level,
    /// From which length on a message is compressed, in bytes, unless its sender chooses; default 256.
    /// Shorter ones gain little.
    pub compression_threshold: usize,
    /// The hub that the connections belong to; default `None`: that of the [`Server`](crate::Server), or
    /// where there is none, one of the route's own. A [`Client`](crate::Client) has one of its own, too.
    pub hub: Option<Hub>,
    /// When a silent peer is asked for a sign of life; default after 30 s, with 10 s to answer.
    /// WARNING: with `None`, a peer that vanished is noticed only when something is sent to it.
    pub keep_alive: Option<KeepAlive>,
    /// How long a connection may live without a message from the peer; default `None`, no limit.
    /// Pings and pongs do not count, and neither does what this side sends. Ends with 1001.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may live at all; default `None`, no limit. Ends with 1001.
    pub max_lifetime: Option<Duration>,
    /// How long the opening handshake may take, [`attach`](crate::Handler::attach) included;
    /// default 10 s. Under [`Server`](crate::Server) it counts from when the connection was accepted,
    /// and for a later request on it from when its headers were there.
    pub handshake_timeout: Duration,
    /// How long the closing handshake may take before the connection is cut; default 5 s.
    pub close_timeout: Duration,
    /// How long a peer may take nothing at all of what waits for it before the connection is cut;
    /// default 30 s.
    pub write_timeout: Duration,
    /// From how many waiting bytes on a send reports backpressure; default 64 KiB. A server then reads
    /// nothing more from the peer. A client does, or the two would wait for each other. Memory for the
    /// most waiting bytes of ordinary peers grows with it.
    pub high_water: usize,
    /// At how many waiting bytes the backpressure ends; default 32 KiB.
    pub low_water: usize,
    /// How many bytes may wait for a peer; default 1 MiB. A peer for which more would have to wait
    /// is too slow: the message is refused, and [`overflow`](Self::overflow) says what else. A single
    /// message of any size is taken while nothing else waits.
    /// WARNING: so much memory, times the number of connections, is in the hands of slow peers.
    pub outbox_limit: usize,
    /// What becomes of a peer for which more would have to wait; default [`Overflow::Close`].
    pub overflow: Overflow,
}

/// What becomes of a peer that is too slow for what is sent to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The message is refused and the connection ends with 1013, so that a peer that sees messages has
    /// seen all before them.
    #[default]
    Close,
    /// The message is refused, and the connection goes on: for what is out of date soon, such as
    /// positions or prices. Who sends learns of it, by [`SendStatus::Dropped`](crate::SendStatus),
    /// [`Socket::dropped`](crate::Socket::dropped) and [`Hub::dropped`](crate::Hub::dropped).
    /// WARNING: the peer does not; messages that build on one another get a hole.
    DropNewest,
}

/// When to ask a silent peer for a sign of life, and how long to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// The silence after which a ping is sent. Any byte that arrives ends it.
    pub interval: Duration,
    /// The time from the ping until the connection counts as dead: closed with 1006.
    pub deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            origins: Origins::Same,
            compression: Compression::Off,
            compression_level: Level::FASTEST,
            compression_threshold: 256,
            hub: None,
            keep_alive: Some(KeepAlive {
                interval: Duration::from_secs(30),
                deadline: Duration::from_secs(10),
            }),
            idle_timeout: None,
            max_lifetime: None,
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            high_water: 64 * 1024,
            low_water: 32 * 1024,
            outbox_limit: 1024 * 1024,
            overflow: Overflow::Close,
        }
    }
}

impl Config {
    /// Sets [`limits`](Self::limits).
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets [`origins`](Self::origins).
    #[must_use]
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Sets [`compression`](Self::compression).
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets [`compression_level`](Self::compression_level).
    #[must_use]
    pub fn compression_level(mut self, level: Level) -> Self {
        self.compression_level = level;
        self
    }

    /// Sets [`compression_threshold`](Self::compression_threshold), in bytes.
    #[must_use]
    pub fn compression_threshold(mut self, bytes: usize) -> Self {
        self.compression_threshold = bytes;
        self
    }

    /// Sets [`hub`](Self::hub).
    #[must_use]
    pub fn hub(mut self, hub: Hub) -> Self {
        self.hub = Some(hub);
        self
    }

    /// Sets [`keep_alive`](Self::keep_alive).
    #[must_use]
    pub fn keep_alive(mut self, interval: Duration, deadline: Duration) -> Self {
        self.keep_alive = Some(KeepAlive { interval, deadline });
        self
    }

    /// Turns [`keep_alive`](Self::keep_alive) off.
    #[must_use]
    pub fn no_keep_alive(mut self) -> Self {
        self.keep_alive = None;
        self
    }

    /// Sets [`idle_timeout`](Self::idle_timeout).
    #[must_use]
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = Some(time);
        self
    }

    /// Sets [`max_lifetime`](Self::max_lifetime).
    #[must_use]
    pub fn max_lifetime(mut self, time: Duration) -> Self {
        self.max_lifetime = Some(time);
        self
    }

    /// Sets [`handshake_timeout`](Self::handshake_timeout).
    #[must_use]
    pub fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    /// Sets [`close_timeout`](Self::close_timeout).
    #[must_use]
    pub fn close_timeout(mut self, time: Duration) -> Self {
        self.close_timeout = time;
        self
    }

    /// Sets [`write_timeout`](Self::write_timeout).
    #[must_use]
    pub fn write_timeout(mut self, time: Duration) -> Self {
        self.write_timeout = time;
        self
    }

    /// Sets [`low_water`](Self::low_water) and [`high_water`](Self::high_water), in bytes.
    #[must_use]
    pub fn water_marks(mut self, low: usize, high: usize) -> Self {
        self.low_water = low.min(high);
        self.high_water = high;
        self
    }

    /// Sets what waits for a slow peer, and what becomes of one that is too slow:
    /// [`high_water`](Self::high_water) and [`outbox_limit`](Self::outbox_limit) in bytes,
    /// [`overflow`](Self::overflow), and [`low_water`](Self::low_water) to half of the high one.
    ///
    /// ```
    /// use sockeye::{Config, Overflow};
    ///
    /// let prices = Config::default().backpressure(16 * 1024, 64 * 1024, Overflow::DropNewest);
    /// ```
    #[must_use]
    pub fn backpressure(self, high_water: usize, limit: usize, overflow: Overflow) -> Self {
        Self { overflow, ..self.water_marks(high_water / 2, high_water).outbox_limit(limit) }
    }

    /// How many bytes may wait for all peers of this process together; no limit by default. Once
    /// there are more, peers above their [`high_water`](Self::high_water) are treated as if they had
    /// reached their [`outbox_limit`](Self::outbox_limit).
    ///
    /// Each connection counts in steps of 16 KiB, so that many with a little each are not counted.
    pub fn set_outbox_budget(bytes: usize) {
        budget::set_outboxes(bytes);
    }

    /// How many bytes of that budget are used now.
    pub fn outbox_budget_used() -> usize {
        budget::waiting()
    }

    /// Sets [`outbox_limit`](Self::outbox_limit), in bytes.
    #[must_use]
    pub fn outbox_limit(mut self, bytes: usize) -> Self {
        self.outbox_limit = bytes;
        self
    }
}
