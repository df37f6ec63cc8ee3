//! The cheap clone that anyone may hold: send, close, ask, wait.

use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use serde::Serialize;
use sockeye_proto::{CloseCode, CloseFrame, Closing, Message, Role, deflate::Parameters};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Closed, Compress, Config, Encoded, Hub, codec,
    compression::{Deflate, Way},
    encoded::{Form, Publication, count_plain_for_window},
    hub::Held,
    outbox::{Outbox, Outgoing, signal},
    registry::{Registration, Registry, Served},
    waiters::{Interest, Waiters},
};

/// A connection as everyone sees it: a clone is cheap, may be kept anywhere and sent to any task,
/// and never keeps the connection alive.
///
/// Nothing here waits but the methods that are `async`, and those only wait. In a
/// [`Handler`](crate::Handler) the [`Session`](crate::Session) derefs to it.
///
/// ```
/// use sockeye::{CloseCode, SendStatus, Socket};
///
/// fn greet(socket: &Socket) {
///     match socket.send("welcome") {
///         SendStatus::Queued => {}
///         SendStatus::Backpressure { buffered } => eprintln!("{buffered} bytes wait already"),
///         SendStatus::Dropped(reason) => eprintln!("not sent: {reason}"),
///     }
///     socket.close(CloseCode::NORMAL, "that was all");
/// }
/// ```
#[derive(Clone)]
pub struct Socket(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) id: Uuid,
    /// When the connection was accepted; all its deadlines count from here.
    pub(crate) epoch: Instant,
    peer_addr: Option<SocketAddr>,
    protocol: Option<Box<str>>,
    pub(crate) config: Arc<Config>,
    pub(crate) registration: Registration,
    pub(crate) outbox: Outbox,
    pub(crate) deflate: Deflate,
    pub(crate) held: Held,
    is_client: bool,
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendStatus {
    /// It is on its way.
    Queued,
    /// It is on its way, and more than [`Config::high_water`] waits: stop until
    /// [`Handler::drain`](crate::Handler::drain) is called or [`Socket::writable`] returns.
    Backpressure {
        /// What waits for the peer, in bytes.
        buffered: usize,
    },
    /// It will not be sent.
    Dropped(DropReason),
}

/// Why a message will not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// The connection is closed, or about to be.
    Closed,
    /// More than [`Config::outbox_limit`] would have to wait. The connection is being closed with 1013,
    /// unless [`Config::overflow`] says otherwise.
    Overflow,
}

/// What the opening handshake has led to.
#[derive(Debug, Default)]
pub(crate) struct Agreed {
    pub(crate) peer_addr: Option<SocketAddr>,
    pub(crate) protocol: Option<Box<str>>,
    pub(crate) deflate: Deflate,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Messages go both ways.
    Open,
    /// The closing handshake has begun: nothing more can be sent.
    Closing,
    /// The connection has ended.
    Closed,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Close {
    /// Who began it.
    pub by: ClosedBy,
    /// The code of the close frame that began it; [`CloseCode::NO_STATUS`] if that had none,
    /// [`CloseCode::ABNORMAL`] if there was no close frame.
    pub code: CloseCode,
    /// The reason in words, from the close frame or, where there was none, from this side.
    pub reason: String,
    /// Both sides have sent a close frame.
    pub clean: bool,
}

/// Who began the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The peer's close frame came first.
    Peer,
    /// This side's close frame went first.
    Local,
    /// It broke off: reset, ended without a close frame, silent for too long, or cut.
    Network,
}

impl Close {
    pub(crate) fn new(by: ClosedBy, frame: CloseFrame, clean: bool) -> Self {
        Self { by, code: frame.code, reason: frame.reason, clean }
    }
}

impl Socket {
    /// A connection of this hub, that counts for this server.
    pub(crate) fn new(
        role: Role,
        hub: &Hub,
        served: Option<Arc<Served>>,
        config: Arc<Config>,
        agreed: Agreed,
    ) -> Self {
        let Agreed { peer_addr, protocol, deflate } = agreed;
        Registry::add(hub, served, |id, registration| Shared {
            id,
            epoch: Instant::now(),
            peer_addr,
            protocol,
            config,
            registration,
            outbox: Outbox::new(role),
            deflate,
            held: Held::default(),
            is_client: matches!(role, Role::Client { .. }),
        })
    }

    /// The connection's own name, random and never used twice.
    pub fn id(&self) -> Uuid {
        self.0.id
    }

    /// The peer's address, where it is known: always under [`Server`](crate::Server); under
    /// `axum::serve` with `into_make_service_with_connect_info::<SocketAddr>()`.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.0.peer_addr
    }

    /// The subprotocol that was chosen in [`attach`](crate::Handler::attach).
    pub fn protocol(&self) -> Option<&str> {
        self.0.protocol.as_deref()
    }

    /// What was agreed about compression, if anything was: with [`Display`](fmt::Display) it is the
    /// element of `Sec-WebSocket-Extensions` in the answer.
    pub fn compression(&self) -> Option<Parameters> {
        self.0.deflate.parameters()
    }

    /// Where the connection is in its life.
    pub fn state(&self) -> State {
        match self.0.outbox.closing() {
            _ if self.0.outbox.has_ended() => State::Closed,
            Closing::Open if !self.0.outbox.has(signal::OVERFLOW | signal::TERMINATE) => {
                State::Open
            }
            _ => State::Closing,
        }
    }

    /// Queues a message and says what became of it. Never waits, and writes nothing by itself: the
    /// connection's task writes all that is queued at once.
    ///
    /// Takes `&str`, `String`, `&[u8]`, `Vec<u8>`, `Bytes` and [`Message`]. A payload of 16 KiB or
    /// more that is owned is not copied.
    pub fn send<'a>(&self, message: impl Into<Message<'a>>) -> SendStatus {
        self.send_with(message, Compress::Auto)
    }

    /// The same with a choice of whether the message is compressed, where the connection has agreed to
    /// that; see [`Config::compression`].
    ///
    /// With [`Compression::Shared`](crate::Compression::Shared) it is compressed within this call,
    /// which takes some 10 microseconds for each kilobyte.
    pub fn send_with<'a>(&self, message: impl Into<Message<'a>>, compress: Compress) -> SendStatus {
        self.0.send_with(&message.into(), compress)
    }

    /// Queues a message that many receive, in the form that is right for this connection.
    pub fn send_encoded(&self, encoded: &Encoded) -> SendStatus {
        let plain_for_window = Cell::new(0);
        let form = |form| encoded.form(form);
        let (message, compress) = (encoded.message(), encoded.compress());
        let status = self.0.deliver(message, compress, encoded.plain(), form, &plain_for_window);
        count_plain_for_window(plain_for_window.get());
        status
    }

    /// Queues `value` as a text message of JSON.
    ///
    /// # Errors
    ///
    /// `value` cannot be written as JSON; nothing is sent then.
    ///
    /// ```
    /// # fn example(socket: &sockeye::Socket) -> sockeye::Result {
    /// #[derive(serde::Serialize)]
    /// struct Score { player: String, points: u32 }
    ///
    /// socket.send_json(&Score { player: "ana".into(), points: 3 })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> serde_json::Result<SendStatus> {
        Ok(self.send(serde_json::to_string(value)?))
    }

    /// Queues a ping, ahead of waiting messages; a payload of more than 125 bytes is cut off there.
    /// False if the connection is closing or too many pings wait already.
    ///
    /// Keep-alive needs no help: see [`Config::keep_alive`].
    pub fn ping(&self, payload: impl AsRef<[u8]>) -> bool {
        self.0.outbox.ping(payload.as_ref())
    }

    /// Begins the closing handshake (RFC 6455 section 7.1.2): what is queued is still sent, then the
    /// close frame; no further message is delivered. The peer has [`Config::close_timeout`] for all
    /// of it: to take what is queued, and to answer. Does nothing if the connection is closing
    /// already.
    ///
    /// The reason is cut off after 123 bytes. A code that must not be on the wire, such as 1005 or
    /// 1006, makes it a close frame without a code.
    pub fn close(&self, code: CloseCode, reason: impl Into<String>) {
        self.0.outbox.close(&CloseFrame::new(code, reason));
    }

    /// Cuts the connection at once: no close frame, what is queued is lost. A handler that is
    /// running finishes; then [`close`](crate::Handler::close) sees 1006, or the code of a closing
    /// handshake that had begun.
    pub fn terminate(&self) {
        self.0.outbox.terminate(signal::TERMINATE);
    }

    /// What waits for the peer and was not yet taken by the kernel, in bytes, overhead included.
    pub fn buffered(&self) -> usize {
        self.0.outbox.buffered()
    }

    /// How many messages were refused because too much waited for the peer.
    pub fn dropped(&self) -> u64 {
        self.0.outbox.dropped().into()
    }

    /// Waits until what was queued before the call has reached the kernel.
    ///
    /// # Errors
    ///
    /// The connection ended before.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only waits.
    pub async fn flushed(&self) -> Result<(), Closed> {
        let (watch, position) = (Watch::new(self), self.0.outbox.position());
        poll_fn(|cx| watch.poll_flushed(cx, position)).await
    }

    /// Waits until [`buffered`](Self::buffered) is at or below [`Config::low_water`].
    ///
    /// # Errors
    ///
    /// The connection is closing or closed.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only waits.
    pub async fn writable(&self) -> Result<(), Closed> {
        let watch = Watch::new(self);
        poll_fn(|cx| watch.poll_writable(cx)).await
    }

    /// Waits for the end of the connection and says how it came.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only waits.
    pub async fn closed(&self) -> Close {
        let watch = Watch::new(self);
        poll_fn(|cx| watch.poll_closed(cx)).await
    }
}

impl Shared {
    #[inline]
    fn send(&self, outgoing: Outgoing<'_>) -> SendStatus {
        self.outbox.send(&self.config, outgoing)
    }

    fn send_with(&self, message: &Message<'_>, compress: Compress) -> SendStatus {
        match self.deflate.way(message.len(), compress, &self.config) {
            Way::Plain => self.send(Outgoing::Plain(message)),
            Way::InTask => self.send(Outgoing::Raw(message)),
            Way::Now => self.send_compressed(message),
        }
    }

    /// In which form messages for many are compressed for it, if it takes such.
    pub(crate) fn form(&self) -> Option<Form> {
        self.deflate.form(&self.config).filter(|_| !self.is_client)
    }

    pub(crate) fn deliver_publication(&self, publication: &Publication<'_>) -> SendStatus {
        let Publication { message, compress, plain, plain_for_window, .. } = publication;
        self.deliver(message, *compress, plain, |form| publication.form(form), plain_for_window)
    }

    /// Sends a message for many, of which there are frames.
    #[inline]
    fn deliver(
        &self,
        message: &Message<'_>,
        compress: Compress,
        plain: &Bytes,
        frame: impl FnOnce(Form) -> Option<Bytes>,
        plain_for_window: &Cell<u64>,
    ) -> SendStatus {
        if self.is_client {
            // Each frame of a client has a mask of its own.
            return self.send_with(message, compress);
        }
        match self.deflate.way(message.len(), compress, &self.config) {
            Way::Plain => self.send(Outgoing::Frame(plain)),
            Way::Now => match self.form().and_then(frame) {
                Some(compressed) => self.send(Outgoing::Frame(&compressed)),
                None => self.send(Outgoing::Frame(plain)),
            },
            Way::InTask if compress == Compress::Always => self.send(Outgoing::Raw(message)),
            Way::InTask => {
                plain_for_window.set(plain_for_window.get() + 1);
                self.send(Outgoing::Frame(plain))
            }
        }
    }

    /// Compresses a message by itself, unless it would not be sent anyway.
    fn send_compressed(&self, message: &Message<'_>) -> SendStatus {
        if !self.outbox.takes_messages() {
            return SendStatus::Dropped(DropReason::Closed);
        }
        let mut context = self.deflate.sending(&self.outbox.role());
        let level = self.config.compression_level;
        codec::compress_if_shorter(message.as_bytes(), level, &mut context, |compressed| {
            self.send(match compressed {
                Some(compressed) => Outgoing::Compressed(message.opcode(), compressed),
                None => Outgoing::Plain(message),
            })
        })
    }
}

/// Waits for changes of an outbox, for one thing at a time, and is forgotten there when dropped.
pub(crate) struct Watch {
    socket: Socket,
    key: u64,
}

impl Watch {
    pub(crate) fn new(socket: &Socket) -> Self {
        Self { socket: socket.clone(), key: Waiters::new_key() }
    }

    /// Ready once all up to `position` has reached the kernel.
    pub(crate) fn poll_flushed(
        &self,
        cx: &mut Context<'_>,
        position: u64,
    ) -> Poll<Result<(), Closed>> {
        self.poll(cx, Interest::Flushed(position), |outbox| {
            if outbox.has_ended() || outbox.has(signal::OVERFLOW | signal::TERMINATE) {
                return Some(Err(Closed));
            }
            outbox.is_flushed(position).then_some(Ok(()))
        })
    }

    /// Ready once no more than [`Config::low_water`] waits.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let low_water = self.socket.0.config.low_water;
        self.poll(cx, Interest::Writable(low_water), |outbox| {
            if !outbox.takes_messages() {
                return Some(Err(Closed));
            }
            (outbox.buffered() <= low_water).then_some(Ok(()))
        })
    }

    /// Ready once the connection has ended.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<Close> {
        self.poll(cx, Interest::End, |outbox| outbox.end().map(|close| Close::clone(&close)))
    }

    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        interest: Interest,
        check: impl Fn(&Outbox) -> Option<T>,
    ) -> Poll<T> {
        let outbox = &self.socket.0.outbox;
        // First watch, then look: a change in between wakes.
        outbox.watch(self.key, interest, cx.waker());
        check(outbox).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.socket.0.outbox.unwatch(self.key);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.0.id)
            .field("peer_addr", &self.0.peer_addr)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Socket {
    /// Whether both are the same connection.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Socket {}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is closed",
            Self::Overflow => "too much waits for the peer",
        })
    }
}

impl std::error::Error for DropReason {}
