//! From an HTTP request to a running connection.

mod handshake;
mod http1;
mod origin;

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    response::Response,
    routing::{MethodFilter, MethodRouter, on_service},
};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use sockeye_proto::{Role, handshake::server::Upgrade};
use tokio::time::{Instant, timeout_at};
use tower::Service;

pub(crate) use self::handshake::{belongs_to_handshake, detached};
pub use self::{
    handshake::{Accept, Handshake, Rejection},
    origin::Origins,
};
use crate::{
    Config, Handler, Hub, Panicked, Session, Socket,
    registry::{Owner, Served},
    run::{Start, run},
    socket::Agreed,
    transport::Io,
    upgrade::http1::Stream,
};

/// A route that opens WebSocket connections for `handler`, with the default [`Config`].
///
/// It fits into any [`axum::Router`]; [`Server::ws`](crate::Server::ws) is the short way.
///
/// Under `axum::serve`, what happens before the route is axum's: there is no deadline for a client
/// that sends its request slowly and no limit of your own on its headers, and the peer's address is
/// known only with `into_make_service_with_connect_info::<SocketAddr>()`. Its graceful shutdown does
/// not wait for WebSocket connections, and a middleware that puts another answer in the place of the
/// 101 does not keep the connection from being opened. [`Server`](crate::Server) has all of these.
///
/// ```
/// use axum::{Router, routing::get};
/// use sockeye::{Handler, Message, Result, Session};
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
/// let app: Router = Router::new()
///     .route("/", get(|| async { "the chat is at /chat" }))
///     .route("/chat", sockeye::ws(Echo));
/// ```
pub fn ws<H: Handler, S: Clone + Send + Sync + 'static>(handler: H) -> MethodRouter<S> {
    ws_with(handler, Config::default())
}

/// The same as [`ws`] with a [`Config`] of your own.
pub fn ws_with<H: Handler, S: Clone + Send + Sync + 'static>(
    handler: H,
    config: Config,
) -> MethodRouter<S> {
    let hub = config.hub.clone().unwrap_or_default();
    let route = Route { handler: Arc::new(handler), config: Arc::new(config), hub };
    // axum answers 405 to other methods by itself; CONNECT is how HTTP/2 opens a WebSocket.
    on_service(MethodFilter::GET.or(MethodFilter::CONNECT), route)
}

/// A handshake without a deadline to speak of; beyond it, points in time would overflow.
pub(crate) const LONGEST_HANDSHAKE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a server tells the routes on it about a request.
#[derive(Clone, Debug)]
pub(crate) struct ServerContext {
    pub(crate) served: Arc<Served>,
    /// The hub of its connections, but for routes that have their own.
    pub(crate) hub: Option<Hub>,
    /// When the connection's first request began, if this is it.
    pub(crate) began: Option<Instant>,
    /// Set where the answer that leaves is not a 101: a middleware has put another in its place.
    pub(crate) replaced: Arc<AtomicBool>,
}

/// The service behind a route.
struct Route<H> {
    handler: Arc<H>,
    config: Arc<Config>,
    /// Where neither the config nor the server has one.
    hub: Hub,
}

impl<H> Clone for Route<H> {
    fn clone(&self) -> Self {
        let (handler, config) = (self.handler.clone(), self.config.clone());
        Self { handler, config, hub: self.hub.clone() }
    }
}

impl<H: Handler> Service<Request<Body>> for Route<H> {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let route = self.clone();
        let (parts, _) = request.into_parts();
        Box::pin(
            async move { Ok(route.answer(parts).await.unwrap_or_else(Rejection::into_response)) },
        )
    }
}

impl<H: Handler> Route<H> {
    /// Checks a request, asks the handler, and opens the connection.
    async fn answer(self, mut parts: Parts) -> Result<Response, Rejection> {
        let mut upgrade = Upgrade::check(&parts).map_err(|refusal| refusal.response())?;
        if !self.config.origins.allow(&parts.uri, &parts.headers) {
            let reason = "pages of this origin may not connect (RFC 6455 section 10.2)\n";
            return Err((StatusCode::FORBIDDEN, reason).into());
        }
        let Some(on_upgrade) = parts.extensions.remove::<OnUpgrade>() else {
            return Err(Rejection::internal("the HTTP server does not support upgrades"));
        };
        let server = parts.extensions.get::<ServerContext>().cloned();
        let began = server.as_ref().and_then(|server| server.began).unwrap_or_else(Instant::now);

        let mut handshake = Handshake::new(parts).await;
        let peer_addr = handshake.peer_addr();
        let accept = self.attach(&mut handshake, began).await?;
        if let Some(name) = accept.bad_header {
            return Err(Rejection::internal(&format!("`{name}` cannot be a header of the answer")));
        }
        let deflate = self.config.compression.agree(&mut upgrade);
        let mut response = upgrade
            .response(accept.protocol.as_deref())
            .map_err(|error| Rejection::internal(&error.to_string()))?;
        response.headers_mut().extend(accept.headers);

        let protocol = accept.protocol.map(String::into_boxed_str);
        let hub = server.as_ref().and_then(|server| server.hub.clone());
        let hub = hub.filter(|_| self.config.hub.is_none()).unwrap_or(self.hub);
        let (served, replaced) = server.map(|server| (server.served, server.replaced)).unzip();
        let agreed = Agreed { peer_addr, protocol, deflate };
        let socket = Socket::new(Role::Server, &hub, served, self.config, agreed);
        let owner = Owner { socket: socket.clone() };
        let session = Session { data: accept.data, socket };
        // In a box of its own, as a task lies at a multiple of 128 bytes: many short-lived ones of
        // that kind would leave holes between the connections that stay.
        tokio::spawn(Box::pin(open(on_upgrade, replaced, self.handler, session, owner)));
        Ok(response.map(|()| Body::empty()))
    }

    /// Asks the handler, as long as the handshake may take. A panic is a 500, not a dead connection.
    async fn attach(
        &self,
        handshake: &mut Handshake,
        began: Instant,
    ) -> Result<Accept<H::Data>, Rejection> {
        let deadline = began + self.config.handshake_timeout.min(LONGEST_HANDSHAKE);
        let mut attach = pin!(async { self.handler.attach(handshake).await });
        let attach = poll_fn(|cx| match Panicked::catch(|| attach.as_mut().poll(cx)) {
            Ok(poll) => poll.map(Ok),
            Err(panicked) => Poll::Ready(Err(panicked)),
        });
        match timeout_at(deadline, attach).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => Err(Rejection::internal(&panicked.to_string())),
            Err(_) => {
                let reason = "the handshake took too long; try again\n";
                let retry = [(header::RETRY_AFTER, HeaderValue::from_static("1"))];
                Err((StatusCode::SERVICE_UNAVAILABLE, retry, reason).into())
            }
        }
    }
}

/// Waits for the answer to be written, and hands the stream to a task of its own: what HTTP needed
/// ends here.
async fn open<H: Handler>(
    on_upgrade: OnUpgrade,
    replaced: Option<Arc<AtomicBool>>,
    handler: Arc<H>,
    session: Session<H::Data>,
    owner: Owner,
) {
    let upgraded = on_upgrade.await;
    // hyper hands the stream over after any answer, once the connection has no further request.
    if replaced.is_some_and(|replaced| replaced.load(Ordering::Acquire)) {
        tracing::debug!("the 101 was replaced by another answer: the connection is not opened");
        return;
    }
    match upgraded.map(http1::unwrap) {
        Ok(Stream::Tcp(io, early)) => start(Start { io, early, handler, session, owner }),
        Ok(Stream::Other(io)) => {
            start(Start { io, early: Bytes::new(), handler, session, owner });
        }
        Err(error) => tracing::debug!(%error, "the client left before the connection was open"),
    }
}

fn start<T: Io, H: Handler>(start: Start<T, H>) {
    tokio::spawn(run(Box::new(start)));
}
