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
//! With `#[tokio::test(start_paused = true)]` every deadline is tested in no time: tokio's clock
//! jumps to the next timer whenever all tasks wait.

use std::{future::IntoFuture, io, pin::Pin, sync::Arc};

use axum::Router;
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client, server, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use sockeye_proto::{
    CloseCode, CloseFrame, Header, MAX_HEADER, Mask, Message, OpCode, Role,
    handshake::client::{MAX_REFUSAL_BODY, Offer},
    outbound,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::{Config, Handler, registry::Registry, server::answer, ws_with};

/// The masking key of every frame that a [`Peer`] sends.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A connection about to be made: `.await` it for a [`Peer`].
#[derive(Debug)]
#[must_use = "await it to connect"]
pub struct Connect {
    router: Router,
    request: Request<()>,
    capacity: usize,
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
    let offer = Offer::new([0; 16], [] as [&str; 0]).expect("nothing is offered");
    let request = offer.request(&uri).expect("the URI has a host");
    Connect { router, request, capacity: 64 * 1024 }
}

impl Connect {
    /// Adds a header to the request; one that is there already is replaced.
    ///
    /// # Panics
    ///
    /// The name or value is not a header's.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("the value of a header");
        self.request.headers_mut().insert(HeaderName::from_static(name), value);
        self
    }

    /// How many bytes the pipe takes in each direction before a write has to wait; default 64 KiB.
    pub fn pipe(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
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
    pub async fn try_connect(self) -> Result<Peer, Response<Bytes>> {
        let (near, far) = duplex(self.capacity);
        let router = self.router;
        let registry = Arc::new(Registry::default());
        let service = service_fn(move |request: Request<Incoming>| {
            answer(router.clone(), registry.clone(), None, request)
        });
        let mut http = server::conn::http1::Builder::new();
        http.timer(TokioTimer::new());
        tokio::spawn(http.serve_connection(TokioIo::new(far), service).with_upgrades());

        let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(near))
            .await
            .expect("a client's handshake writes nothing");
        tokio::spawn(connection.with_upgrades());
        let request = self.request.map(|()| Empty::<Bytes>::new());
        let mut response = sender.send_request(request).await.expect("the server answers");
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded = hyper::upgrade::on(&mut response).await.expect("the server upgrades");
            return Ok(Peer {
                response: response.map(|_| ()),
                io: TokioIo::new(upgraded),
                received: BytesMut::new(),
            });
        }
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_REFUSAL_BODY).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Err(Response::from_parts(parts, body))
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

/// The other end of a connection: a client that answers nothing by itself.
#[derive(Debug)]
pub struct Peer {
    response: Response<()>,
    io: TokioIo<Upgraded>,
    received: BytesMut,
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// What the frame is.
    pub opcode: OpCode,
    /// Whether it ends its message.
    pub fin: bool,
    /// Its payload.
    pub payload: Bytes,
}

impl Peer {
    /// The answer that opened the connection: its headers.
    pub fn response(&self) -> &Response<()> {
        &self.response
    }

    /// Sends a message in one frame.
    ///
    /// # Panics
    ///
    /// The connection has ended; use [`try_send_raw`](Self::try_send_raw) where that may be.
    pub async fn send<'a>(&mut self, message: impl Into<Message<'a>>) {
        let mut wire = Vec::new();
        let role = Role::Client { masking_key: || KEY };
        outbound::message(&role, &message.into(), &mut wire);
        self.send_raw(&wire).await;
    }

    /// Sends one frame.
    ///
    /// # Panics
    ///
    /// The connection has ended.
    pub async fn send_frame(&mut self, opcode: OpCode, fin: bool, payload: &[u8]) {
        self.send_raw(&frame(opcode, fin, payload)).await;
    }

    /// Sends a close frame.
    ///
    /// # Panics
    ///
    /// The connection has ended.
    pub async fn send_close(&mut self, code: CloseCode, reason: &str) {
        let mut wire = Vec::new();
        let role = Role::Client { masking_key: || KEY };
        outbound::close(&role, Some(&CloseFrame::new(code, reason)), &mut wire);
        self.send_raw(&wire).await;
    }

    /// Sends bytes as they are; [`frame`] makes some.
    ///
    /// # Panics
    ///
    /// The connection has ended.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).await.expect("the connection is open");
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub async fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// The next frame; none at the end of the connection.
    ///
    /// # Panics
    ///
    /// What came is not a frame.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing that was received is lost.
    pub async fn recv(&mut self) -> Option<Frame> {
        loop {
            if let Some((header, length)) = Header::parse(&self.received).expect("a frame") {
                let end = length + header.payload_len as usize;
                if self.received.len() >= end {
                    let payload = self.received.split_to(end).freeze().slice(length..);
                    return Some(Frame { opcode: header.opcode, fin: header.fin, payload });
                }
            }
            match self.io.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next frame, which has to be a whole text message.
    ///
    /// # Panics
    ///
    /// It is something else.
    pub async fn recv_text(&mut self) -> String {
        match self.recv().await {
            Some(Frame { opcode: OpCode::Text, fin: true, payload }) => {
                String::from_utf8(payload.into()).expect("a text is UTF-8")
            }
            other => panic!("a text was expected, and not {other:?}"),
        }
    }

    /// The next frame, which has to be a whole binary message.
    ///
    /// # Panics
    ///
    /// It is something else.
    pub async fn recv_binary(&mut self) -> Bytes {
        match self.recv().await {
            Some(Frame { opcode: OpCode::Binary, fin: true, payload }) => payload,
            other => panic!("a binary message was expected, and not {other:?}"),
        }
    }

    /// The next frame, which has to be a close frame: its code, 1005 if it has none, and reason.
    ///
    /// # Panics
    ///
    /// It is something else.
    pub async fn recv_close(&mut self) -> (CloseCode, String) {
        match self.recv().await {
            Some(Frame { opcode: OpCode::Close, payload, .. }) => match payload.split_first_chunk()
            {
                Some((code, reason)) => {
                    let reason = String::from_utf8(reason.to_vec()).expect("a reason is UTF-8");
                    (CloseCode(u16::from_be_bytes(*code)), reason)
                }
                None => (CloseCode::NO_STATUS, String::new()),
            },
            other => panic!("a close frame was expected, and not {other:?}"),
        }
    }

    /// Waits for the end of the connection.
    ///
    /// # Panics
    ///
    /// A frame comes before it.
    pub async fn recv_end(&mut self) {
        let frame = self.recv().await;
        assert!(frame.is_none(), "the end was expected, and not {frame:?}");
    }
}

/// The bytes of a frame as a client sends it, masked.
pub fn frame(opcode: OpCode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let header = Header { fin, mask: Some(KEY), ..Header::new(opcode, payload.len()) };
    let mut wire = header.write(&mut [0; MAX_HEADER]).to_vec();
    let start = wire.len();
    wire.extend_from_slice(payload);
    Mask::new(KEY).apply(&mut wire[start..]);
    wire
}
