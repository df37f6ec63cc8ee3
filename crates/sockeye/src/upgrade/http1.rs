//! From an upgraded HTTP/1.1 connection to the stream under it.

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The stream of an upgraded connection, and the bytes that came with the handshake.
pub(crate) enum Stream {
    /// The bare TCP stream: nothing of HTTP stays behind.
    Tcp(TcpStream, Bytes),
    /// Anything else, such as TLS or a pipe in memory, through hyper's wrapper.
    Other(TokioIo<Upgraded>),
}

/// Reaches the TCP stream if there is one, under [`Server`](crate::Server) or `axum::serve`.
pub(crate) fn unwrap(upgraded: Upgraded) -> Stream {
    let (tcp, early) =
        match hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok(parts) => (parts.io, parts.read_buf),
            Err(upgraded) => match upgraded.downcast::<TokioIo<TcpStream>>() {
                Ok(parts) => (parts.io, parts.read_buf),
                Err(upgraded) => return Stream::Other(TokioIo::new(upgraded)),
            },
        };
    let tcp = tcp.into_inner();
    // What is written is batched already; Nagle's algorithm would only delay it. A socket that
    // refuses is about to fail anyway.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    // hyper's buffer is 8 KiB, however little of it is used: keep the bytes, not the buffer.
    let early = if early.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&early) };
    Stream::Tcp(tcp, early)
}
