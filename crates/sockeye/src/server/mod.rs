//! The short way: routes, a listener, and an orderly end.

mod accept;
mod running;

use std::fmt;

use axum::{Router, routing::MethodRouter};
use tokio::net::{TcpListener, ToSocketAddrs};

pub(crate) use self::accept::answer;
pub use self::running::Running;
use crate::{Config, Handler, Hub, ListenError, ws_with};

/// A server of WebSocket routes and, beside them, any axum routes.
///
/// ```no_run
/// use sockeye::{Handler, Message, Result, Server, Session};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     type Data = ();
///
///     async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
///         session.send(message);
///         Ok(())
///     }
/// }
///
/// #[tokio::main]
/// async fn main() -> Result {
///     Server::new().ws("/echo", Echo).listen("127.0.0.1:8080").await?;
///     Ok(())
/// }
/// ```
///
/// Beyond what `axum::serve` does, it gives the whole opening handshake one deadline
/// ([`Config::handshake_timeout`]), limits the headers of a request, knows the peer's address, and
/// closes WebSocket connections when it shuts down.
#[derive(Clone, Debug)]
pub struct Server {
    router: Router,
    config: Config,
    hub: Hub,
    max_headers: usize,
    max_header_bytes: usize,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            router: Router::new(),
            config: Config::default(),
            hub: Hub::new(),
            max_headers: 100,
            max_header_bytes: 32 * 1024,
        }
    }
}

impl Server {
    /// A server without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The settings of the WebSocket routes that are added after it; its
    /// [`handshake_timeout`](Config::handshake_timeout) is also how long any client may take to
    /// send the headers of a request.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The [`Hub`] of its connections, in the place of one that it has by itself: to have it before the
    /// server runs, or with settings of its own.
    #[must_use]
    pub fn hub(mut self, hub: Hub) -> Self {
        self.hub = hub;
        self
    }

    /// The most headers of a request, default 100, and their most bytes together, default 32 KiB.
    /// A request with more is answered with 431.
    #[must_use]
    pub fn header_limits(mut self, count: usize, bytes: usize) -> Self {
        self.max_headers = count;
        self.max_header_bytes = bytes;
        self
    }

    /// Adds a WebSocket route. The path is axum's: `/room/{room}` has a parameter, which
    /// [`Handshake::param`](crate::Handshake::param) gives.
    ///
    /// # Panics
    ///
    /// The path is not one of axum's, or is taken.
    #[must_use]
    pub fn ws<H: Handler>(self, path: &str, handler: H) -> Self {
        let config = self.config.clone();
        self.ws_with(path, handler, config)
    }

    /// Adds a WebSocket route with settings of its own.
    ///
    /// # Panics
    ///
    /// The path is not one of axum's, or is taken.
    #[must_use]
    pub fn ws_with<H: Handler>(mut self, path: &str, handler: H, config: Config) -> Self {
        self.router = self.router.route(path, ws_with(handler, config));
        self
    }

    /// Adds any one route of axum's, such as that of [`accept`](crate::accept).
    ///
    /// # Panics
    ///
    /// The path is not one of axum's, or is taken.
    #[must_use]
    pub fn route(mut self, path: &str, route: MethodRouter) -> Self {
        self.router = self.router.route(path, route);
        self
    }

    /// Adds the routes of an axum router: pages, an API, middleware of their own.
    ///
    /// # Panics
    ///
    /// A path of it is taken.
    #[must_use]
    pub fn routes(mut self, router: Router) -> Self {
        self.router = self.router.merge(router);
        self
    }

    /// Listens, and runs until SIGINT or SIGTERM; then closes all connections with 1001 and waits
    /// up to 10 s for them.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on; the error says why in one sentence.
    pub async fn listen(self, addr: impl ToSocketAddrs + fmt::Display) -> Result<(), ListenError> {
        self.bind(addr).await?.until_signal().await;
        Ok(())
    }

    /// Listens, and runs in the background; the value returned stops it. With port 0 the system
    /// chooses a free port, which [`Running::local_addr`] tells.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on; the error says why in one sentence.
    pub async fn bind(
        self,
        addr: impl ToSocketAddrs + fmt::Display,
    ) -> Result<Running, ListenError> {
        let shown = addr.to_string();
        let listener = TcpListener::bind(addr).await;
        let listener = listener.map_err(|error| ListenError::new(shown.clone(), error))?;
        let local_addr = listener.local_addr().map_err(|error| ListenError::new(shown, error))?;
        Ok(accept::start(self, listener, local_addr))
    }
}
