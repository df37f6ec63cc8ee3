//! The other end: from a URL to a running connection.

mod handshake;
mod target;
mod tcp;

use std::{
    fmt,
    future::{Future, IntoFuture},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use sockeye_proto::{CloseCode, Role, deflate, handshake::client::Offer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};

pub(crate) use self::handshake::{Answer, send};
use self::{handshake::Opened, target::Target};
use crate::{
    Close, Config, ConnectError, Handler, Session, Socket, WebSocket,
    compression::Deflate,
    registry::Owner,
    run::{Start, run},
    socket::Agreed,
    transport::Io,
    upgrade::{LONGEST_HANDSHAKE, belongs_to_handshake},
    websocket::{Giver, HandingOver},
};

/// A client's connection that is about to be made: set what it needs, then `.await` it for a
/// [`WebSocket`].
///
/// ```
/// use sockeye::{Client, CloseCode, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sockeye::Result {
/// # let echo = sockeye::on().on_text(|session, text| session.send(text));
/// # let server = Server::new().ws("/echo", echo).bind("127.0.0.1:0").await?;
/// # let url = format!("ws://{}/echo", server.local_addr());
/// let mut ws = Client::connect(url).header("x-team", "red").await?;
/// ws.send("hello").await?;
/// let answer = ws.recv().await?.expect("the server echoes");
/// assert_eq!(answer.as_text(), Some("hello"));
/// ws.close(CloseCode::NORMAL, "").await;
/// # Ok(())
/// # }
/// ```
///
/// The same [`Handler`] that serves a route can drive this end instead: [`Client::run`], or
/// [`drive`](Self::drive) behind settings.
///
/// There is no TLS yet: the URL begins with `ws://` or `http://`. A user name and a password in it
/// become an `Authorization` header. Redirects are not followed; the error carries the answer.
#[must_use = "await it to connect"]
pub struct Client {
    url: String,
    headers: HeaderMap,
    bad_header: Option<String>,
    protocols: Vec<String>,
    config: Config,
    offers_compression: bool,
    dns_timeout: Duration,
    connect_timeout: Duration,
    transport: Option<Box<dyn Io>>,
}

impl Client {
    /// A connection to this URL, such as `ws://example.com:8080/chat?room=lobby`.
    pub fn connect(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: HeaderMap::new(),
            bad_header: None,
            protocols: Vec::new(),
            config: Config::default(),
            offers_compression: true,
            dns_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            transport: None,
        }
    }

    /// Connects with the default settings and lets `handler` deal with the connection until its end;
    /// [`drive`](Self::drive) says more.
    ///
    /// ```no_run
    /// use sockeye::Client;
    ///
    /// # async fn example() -> sockeye::Result {
    /// let handler = sockeye::on()
    ///     .on_open(|session| session.send("hello"))
    ///     .on_text(|_, text| println!("{text}"));
    /// let close = Client::run("ws://127.0.0.1:8080/echo", handler).await?;
    /// println!("closed with {}", close.code);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// There was no connection.
    pub async fn run<H: Handler>(url: impl Into<String>, handler: H) -> Result<Close, ConnectError>
    where
        H::Data: Default,
    {
        Self::connect(url).drive(handler, H::Data::default()).await
    }

    /// Adds a header to the request. One that is not a valid header, or belongs to the handshake
    /// itself (`Connection`, `Upgrade`, `Sec-WebSocket-*`), is an error of the connecting.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName> + fmt::Display,
        V: TryInto<HeaderValue>,
    {
        let shown = name.to_string();
        match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) if name == header::HOST => {
                self.headers.insert(name, value);
            }
            (Ok(name), Ok(value)) if !belongs_to_handshake(&name) => {
                self.headers.append(name, value);
            }
            _ => self.bad_header = self.bad_header.or(Some(shown)),
        }
        self
    }

    /// Offers subprotocols, the preferred one first. Which the server chose [`Socket::protocol`] tells;
    /// it may have chosen none.
    pub fn protocols<P: Into<String>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.protocols.extend(protocols.into_iter().map(P::into));
        self
    }

    /// The limits and deadlines of the connection, those of a route: what the server may send, when a
    /// silent one is asked for a sign of life, how long the answer to the handshake may take. Origins
    /// are of no concern here.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Offers no compression. Else what browsers offer is offered, permessage-deflate (RFC 7692) with any
    /// windows, and what comes of it [`Socket::compression`] tells. Messages that are sent refer back
    /// over 4 KiB at most; those that are received may over 32 KiB, which the server decides.
    pub fn no_compression(mut self) -> Self {
        self.offers_compression = false;
        self
    }

    /// How long the name in the URL may take to be resolved; default 5 s.
    pub fn dns_timeout(mut self, time: Duration) -> Self {
        self.dns_timeout = time;
        self
    }

    /// How long it may take until there is a TCP connection; default 10 s. A name with several
    /// addresses has so long for all of them together, and those of the other kind, IPv4 or IPv6, are
    /// tried too once the first have not answered for 300 ms (RFC 8305, "happy eyeballs").
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// A stream that leads to the server already, such as a Unix socket or a tunnel, instead of a TCP
    /// connection. The URL then says only what to ask for.
    pub fn transport(
        mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        self.transport = Some(Box::new(stream));
        self
    }

    /// Connects, and lets `handler` deal with the connection, with `data` as its
    /// [`Session::data`], until the end: how that came is returned.
    ///
    /// [`Handler::attach`] is not called, as it decides about requests that come in.
    ///
    /// # Errors
    ///
    /// There was no connection.
    ///
    /// # Cancel safety
    ///
    /// Dropped while connecting, it leaves nothing behind. Dropped later, it closes the connection with
    /// 1001, in the background and within [`Config::close_timeout`].
    pub async fn drive<H: Handler>(self, handler: H, data: H::Data) -> Result<Close, ConnectError> {
        let started = self.start(handler, data).await?;
        let guard = Guard(started.socket);
        // It ends when the server has gone, too; if it is dropped with its runtime, so is this.
        let _ = started.connection.await;
        Ok(guard.0.closed().await)
    }

    /// Opens the connection and gives it a task of its own.
    async fn start<H: Handler>(
        mut self,
        handler: H,
        data: H::Data,
    ) -> Result<Started, ConnectError> {
        let target = Target::parse(&self.url)?;
        let (offer, request) = self.request(&target)?;
        let opening = Opening { offer, request, config: self.config, handler, data };
        match self.transport.take() {
            Some(stream) => opening.start_over(stream, None).await,
            None => {
                let tcp = tcp::connect(&target, self.dns_timeout, self.connect_timeout).await?;
                let peer_addr = tcp.peer_addr().ok();
                opening.start_over(tcp, peer_addr).await
            }
        }
    }

    fn request(&mut self, target: &Target) -> Result<(Offer, Request<()>), ConnectError> {
        if let Some(name) = self.bad_header.take() {
            return Err(ConnectError::Header(name));
        }
        let mut offer = Offer::new(rand::random(), self.protocols.drain(..))?;
        if self.offers_compression {
            offer = offer.deflate(vec![deflate::Offer::browser()]);
        }
        let mut request = offer.request(&target.uri)?;
        if let Some(authorization) = &target.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        // A name that is there already is replaced: the host, or the user of the URL.
        request.headers_mut().extend(self.headers.drain());
        Ok((offer, request))
    }
}

impl IntoFuture for Client {
    type Output = Result<WebSocket, ConnectError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async {
            let (giver, messages) = Giver::new();
            let Started { socket, response, .. } = self.start(HandingOver, giver).await?;
            Ok(WebSocket::new(socket, messages, Some(Box::new(response))))
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = target::without_password(&self.url);
        f.debug_struct("Client").field("url", &url).finish_non_exhaustive()
    }
}

/// All that a connection needs but the stream.
struct Opening<H: Handler> {
    offer: Offer,
    request: Request<()>,
    config: Config,
    handler: H,
    data: H::Data,
}

struct Started {
    socket: Socket,
    response: Response<()>,
    connection: JoinHandle<()>,
}

impl<H: Handler> Opening<H> {
    async fn start_over<T: Io>(
        self,
        io: T,
        peer_addr: Option<SocketAddr>,
    ) -> Result<Started, ConnectError> {
        let time = self.config.handshake_timeout.min(LONGEST_HANDSHAKE);
        let opened = handshake::open(io, &self.offer, self.request, time).await?;
        let Opened { io, early, response, protocol, deflate } = opened;
        let role = Role::Client { masking_key: rand::random };
        let protocol = protocol.map(String::into_boxed_str);
        let deflate = Deflate::of_client(deflate, &role);
        let hub = self.config.hub.clone().unwrap_or_default();
        let agreed = Agreed { peer_addr, protocol, deflate };
        let socket = Socket::new(role, &hub, None, Arc::new(self.config), agreed);
        let owner = Owner { socket: socket.clone() };
        let session = Session { data: self.data, socket: socket.clone() };
        let handler = Arc::new(self.handler);
        let start = Start { io, early, handler, session, owner };
        let connection = tokio::spawn(run(Box::new(start)));
        Ok(Started { socket, response, connection })
    }
}

/// Closes the connection when nobody awaits its end any more.
struct Guard(Socket);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close(CloseCode::AWAY, "");
    }
}
