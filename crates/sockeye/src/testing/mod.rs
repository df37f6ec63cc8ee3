//! A peer against a handler, in memory: no port, no network, and time that can be paused.
//!
//! [`connect`] runs a handler behind the same HTTP, handshake and connection loop as a server does,
//! over a pipe, and gives the other end as a [`Peer`]: a client that says byte for byte what the
//! test wants, right or wrong.
//!
//! ```
//! use sockeye::testing;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let handler = sockeye::on().on_text(|session, text| session.send(text.to_uppercase()));
//! let mut peer = testing::connect(handler).await;
//! peer.send("hello").await;
//! assert_eq!(peer.recv_text().await, "HELLO");
//! # }
//! ```
//!
//! [`Connect::websocket`] gives the other end as a [`WebSocket`], for tests of what is said and not of
//! how. [`Connect::faults`] makes the pipe a bad one, that splits, delays, ends or resets at chosen
//! bytes; [`Faulty`] does so with any stream.
//!
//! With `#[tokio::test(start_paused = true)]` every deadline is tested in no time: tokio's clock
//! jumps to the next timer whenever all tasks wait.

mod faults;
mod peer;

use std::{future::IntoFuture, pin::Pin, sync::Arc};

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use hyper::{body::Incoming, server, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use sockeye_proto::handshake::client::Offer;
use tokio::io::{DuplexStream, duplex};

pub use self::{
    faults::{Faults, Faulty},
    peer::{Frame, Peer, frame},
};
use crate::{
    Client, Config, Handler, WebSocket,
    client::{Answer, send},
    registry::Served,
    server::answer,
    upgrade::LONGEST_HANDSHAKE,
    ws_with,
};

/// A connection about to be made: `.await` it for a [`Peer`].
#[derive(Debug)]
#[must_use = "await it to connect"]
pub struct Connect {
    router: Router,
    uri: Uri,
    headers: HeaderMap,
    capacity: usize,
    /// Of what the handler's side reads, and of what it writes.
    faults: [Faults; 2],
}

/// Connects to `handler` with the default [`Config`].
pub fn connect<H: Handler>(handler: H) -> Connect {
    connect_with(handler, Config::default())
}

/// Connects to `handler` with settings of its own.
pub fn connect_with<H: Handler>(handler: H, config: Config) -> Connect {
    connect_to(Router::new().route("/", ws_with(handler, config)), "/")
}

/// Connects to a route of a router. The path may have a query.
///
/// # Panics
///
/// `path` is not the path of a URI.
pub fn connect_to(router: Router, path: &str) -> Connect {
    let uri = Uri::builder().scheme("ws").authority("localhost").path_and_query(path).build();
    let uri = uri.expect("the path is the path of a URI");
    Connect {
        router,
        uri,
        headers: HeaderMap::new(),
        capacity: 64 * 1024,
        faults: [Faults::new(), Faults::new()],
    }
}

impl Connect {
    /// Adds a header to the request; one that is there already is replaced.
    ///
    /// # Panics
    ///
    /// The name or value is not a header's.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("the value of a header");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    /// How many bytes the pipe takes in each direction before a write has to wait; default 64 KiB.
    pub fn pipe(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// What goes wrong with what the handler's side reads, and with what it writes.
    pub fn faults(mut self, reads: Faults, writes: Faults) -> Self {
        self.faults = [reads, writes];
        self
    }

    /// Connects, or gives the answer that refused it.
    ///
    /// # Errors
    ///
    /// The answer with which the route refused the request, its body cut off after 8 KiB.
    ///
    /// # Panics
    ///
    /// The HTTP connection breaks off.
    pub async fn try_connect(mut self) -> Result<Peer, Response<Bytes>> {
        let offer = Offer::new([0; 16], [] as [&str; 0]).expect("nothing is offered");
        let mut request = offer.request(&self.uri).expect("the URI has a host");
        request.headers_mut().extend(self.headers.drain());
        let answer = send(self.stream(), request, LONGEST_HANDSHAKE).await;
        let Answer { response, io, early } = answer.expect("the server answers");
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(response);
        }
        Ok(Peer { response: response.map(drop), io, received: early.into() })
    }

    /// Connects a [`WebSocket`], with the default settings of a [`Client`].
    ///
    /// # Panics
    ///
    /// The route refuses the request, or the HTTP connection breaks off.
    pub async fn websocket(mut self) -> WebSocket {
        let headers = std::mem::take(&mut self.headers);
        let mut client = Client::connect(self.uri.to_string());
        for (name, value) in &headers {
            client = client.header(name, value);
        }
        let connected = client.transport(self.stream()).await;
        connected.unwrap_or_else(|error| panic!("there is no connection: {error:?}"))
    }

    /// The other end of the pipe, before the handshake: for a [`Client`] with settings of its own
    /// ([`Client::transport`]), or for bytes that are no handshake. Headers that were set are for
    /// whoever sends them.
    ///
    /// ```
    /// use sockeye::{Client, testing};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> sockeye::Result {
    /// let stream = testing::connect(sockeye::on()).stream();
    /// let client = Client::connect("ws://localhost/").protocols(["chat"]).transport(stream);
    /// assert_eq!(client.await?.socket().protocol(), None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// It is not called from within a tokio runtime.
    pub fn stream(self) -> DuplexStream {
        let (near, far) = duplex(self.capacity);
        let [reads, writes] = self.faults;
        let far = TokioIo::new(Faulty::new(far, reads, writes));
        let router = self.router;
        let served = Arc::<Served>::default();
        let service = service_fn(move |request: Request<Incoming>| {
            answer(router.clone(), served.clone(), None, None, request)
        });
        let mut http = server::conn::http1::Builder::new();
        http.timer(TokioTimer::new());
        tokio::spawn(http.serve_connection(far, service).with_upgrades());
        near
    }
}

impl IntoFuture for Connect {
    type Output = Peer;
    type IntoFuture = Pin<Box<dyn Future<Output = Peer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async {
            self.try_connect().await.unwrap_or_else(|response| {
                let body = String::from_utf8_lossy(response.body()).into_owned();
                panic!("the route refused the connection with {}: {body}", response.status())
            })
        })
    }
}
