//! fastwebsockets, with hyper.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket, WebSocketError, upgrade};
use http_body_util::Empty;
use hyper::{
    Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf},
    net::TcpListener,
};

use super::{Expected, announce};
use crate::Result;

pub(super) async fn serve(expected: Expected) -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(move |request| accept(request, expected));
            let http = http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
            // A client that goes away is none of this program's business.
            let _ = http.with_upgrades().await;
        });
    }
}

async fn accept(
    mut request: Request<Incoming>,
    expected: Expected,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let Ok((response, upgraded)) = upgrade::upgrade(&mut request) else {
        return Ok(Response::default());
    };
    // Its example does this too.
    tokio::spawn(tokio::task::unconstrained(async move {
        let _ = open(upgraded, expected).await;
    }));
    Ok(response)
}

async fn open(upgraded: upgrade::UpgradeFut, expected: Expected) -> Result<(), WebSocketError> {
    let socket = upgraded.await?;
    if expected.in_flight > 1 {
        let stream = FlushedWhenIdle(BufWriter::new(socket.into_inner()));
        echo(WebSocket::after_handshake(stream, Role::Server)).await
    } else {
        echo(socket).await
    }
}

async fn echo<S>(socket: WebSocket<S>) -> Result<(), WebSocketError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            OpCode::Continuation | OpCode::Ping | OpCode::Pong => {}
        }
    }
}

/// A stream that keeps what is written until there is nothing more to read.
///
/// fastwebsockets writes each frame by itself. Its docs allow for a buffered stream below it, but
/// do not say when to flush one, and without this it would be far from what it can do.
struct FlushedWhenIdle<S>(BufWriter<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for FlushedWhenIdle<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(cx, buffer);
        if read.is_pending() {
            ready!(self.poll_flush(cx))?;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FlushedWhenIdle<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
