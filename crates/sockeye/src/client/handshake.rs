//! The opening handshake, over hyper's client.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, response::Parts};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, Connection},
};
use hyper_util::rt::TokioIo;
use sockeye_proto::{
    deflate::Parameters,
    handshake::client::{Accepted, MAX_REFUSAL_BODY, Offer},
};
use tokio::time::{Instant, timeout_at};

use crate::{ConnectError, transport::Io, upgrade::detached};

/// A connection that the server has agreed to.
pub(super) struct Opened<T> {
    pub(super) io: T,
    /// What came together with the answer.
    pub(super) early: Bytes,
    pub(super) response: Response<()>,
    pub(super) protocol: Option<String>,
    pub(super) deflate: Option<Parameters>,
}

/// Sends the request, and checks the answer, which has so long to come.
pub(super) async fn open<T: Io>(
    io: T,
    offer: &Offer,
    request: Request<()>,
    time: Duration,
) -> Result<Opened<T>, ConnectError> {
    let answer = send(io, request, time).await?;
    let mut response = Response::new(());
    *response.status_mut() = answer.response.status();
    *response.headers_mut() = detached(answer.response.headers());
    let Accepted { protocol, deflate, .. } = offer.check(answer.response)?;
    Ok(Opened { io: answer.io, early: answer.early, response, protocol, deflate })
}

/// An answer to a request, and what is left of the connection.
pub(crate) struct Answer<T> {
    /// With the begin of its body, unless it is a 101.
    pub(crate) response: Response<Bytes>,
    pub(crate) io: T,
    /// What came behind the answer.
    pub(crate) early: Bytes,
}

/// Sends a request, and awaits the answer.
pub(crate) async fn send<T: Io>(
    io: T,
    request: Request<()>,
    time: Duration,
) -> Result<Answer<T>, ConnectError> {
    let deadline = Instant::now() + time;
    let head = timeout_at(deadline, send_head(io, request)).await;
    let head = head.map_err(|_| ConnectError::HandshakeTimeout(time))?;
    let (mut http, parts, body) = head.map_err(ConnectError::Http)?;
    let mut begin = BytesMut::new();
    if parts.status != StatusCode::SWITCHING_PROTOCOLS {
        // What has not come by then, or broke off, is left out: the status says more.
        let _ = timeout_at(deadline, http.behind(read_begin(body, &mut begin))).await;
    }
    let response = Response::from_parts(parts, begin.freeze());
    let http = http.connection.into_parts();
    Ok(Answer { response, io: http.io.into_inner(), early: http.read_buf })
}

async fn send_head<T: Io>(
    io: T,
    request: Request<()>,
) -> hyper::Result<(Http<T>, Parts, Incoming)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let mut http = Http { connection, is_over: false };
    let request = request.map(|()| Empty::new());
    let (parts, body) = http.behind(sender.send_request(request)).await?.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        poll_fn(|cx| http.poll(cx)).await?;
    }
    Ok((http, parts, body))
}

async fn read_begin(mut body: Incoming, begin: &mut BytesMut) {
    while begin.len() < MAX_REFUSAL_BODY
        && let Some(Ok(frame)) = body.frame().await
    {
        begin.extend(frame.into_data());
        begin.truncate(MAX_REFUSAL_BODY);
    }
}

struct Http<T: Io> {
    connection: Connection<TokioIo<T>, Empty<Bytes>>,
    is_over: bool,
}

impl<T: Io> Http<T> {
    /// Awaits `future` while the connection does its part.
    async fn behind<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            // An error of it is the future's, too.
            let _ = self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        let polled = self.connection.poll_without_shutdown(cx);
        self.is_over = polled.is_ready();
        polled
    }
}
