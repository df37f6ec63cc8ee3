//! A connection for people who prefer a loop.

mod accept;
mod handover;

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
};

use futures_core::Stream;
use futures_sink::Sink;
use http::Response;
use sockeye_proto::{CloseCode, Message};

pub use self::accept::{accept, accept_with};
pub(crate) use self::handover::{Giver, HandOver, HandingOver};
use crate::{
    Close, Closed, Compress, Disconnected, SendStatus, Socket, outbox::signal, socket::Watch,
};

/// A connection as a loop sees it, on either end: [`recv`](Self::recv) gives one message after the
/// other.
///
/// [`Client::connect`](crate::Client::connect) gives one, and so does the route
/// [`accept`](crate::accept).
///
/// ```
/// use sockeye::{Result, WebSocket};
///
/// async fn echo(mut ws: WebSocket) -> Result {
///     while let Some(message) = ws.recv().await? {
///         ws.send(message).await?;
///     }
///     Ok(())
/// }
/// ```
///
/// It is a handle: the connection lives in a task of its own, so pings are answered, deadlines kept and
/// messages written whether or not anyone waits in `recv`. What one read has brought is handed over, and
/// nothing more is handled or read before the last message of it was taken: that is what slows down a
/// peer that sends too fast. A close frame behind them waits until `recv` is called again, so that all
/// of them can be answered, but no longer than a quarter of a second.
///
/// [`socket`](Self::socket) gives what other tasks send with. With [`Stream`] and [`Sink`] it fits
/// into what is built on those; a send through `Sink` waits until the message is written, which
/// [`send`](Self::send) does not.
///
/// Dropping it closes the connection with 1001, or with 1011 if a panic is what drops it, in the
/// background and within [`Config::close_timeout`](crate::Config::close_timeout). A program that is
/// about to end calls [`close`](Self::close) and awaits it, as no background outlives the runtime.
pub struct WebSocket {
    socket: Socket,
    messages: Arc<HandOver>,
    response: Option<Box<Response<()>>>,
    /// For the `Sink`, which cannot hold a future: what it waits for, and up to where it has sent.
    watch: Watch,
    sent: u64,
    /// The `Stream` has given its error, which is its last item.
    is_exhausted: bool,
}

impl WebSocket {
    pub(crate) fn new(
        socket: Socket,
        messages: Arc<HandOver>,
        response: Option<Box<Response<()>>>,
    ) -> Self {
        let watch = Watch::new(&socket);
        Self { socket, messages, response, watch, sent: 0, is_exhausted: false }
    }

    /// The next message; none once the connection was closed in order, that is, once both sides have
    /// sent a close frame. [`Socket::closed`] tells its code.
    ///
    /// # Errors
    ///
    /// The connection ended in any other way: it broke off, was cut, one side broke a rule, or the
    /// peer did not answer the close frame. Messages that have been handled until then are given first;
    /// with a connection that is reset, what was not is lost.
    ///
    /// # Cancel safety
    ///
    /// Safe: no message is lost. It fits into `tokio::select!`.
    pub async fn recv(&mut self) -> Result<Option<Message<'static>>, Disconnected> {
        poll_fn(|cx| self.poll_recv(cx)).await.transpose()
    }

    /// Sends a message. Waits only if more than [`Config::high_water`](crate::Config::high_water)
    /// then waits for the peer, until that has fallen to
    /// [`Config::low_water`](crate::Config::low_water).
    ///
    /// Takes what [`Socket::send`] takes, which never waits.
    ///
    /// # Errors
    ///
    /// The connection is closing or closed.
    ///
    /// # Cancel safety
    ///
    /// The message is queued as soon as the future is polled. Dropped later, it only stops waiting.
    pub async fn send<'a>(&mut self, message: impl Into<Message<'a>>) -> Result<(), Closed> {
        self.send_with(message, Compress::Auto).await
    }

    /// The same with a choice of whether the message is compressed, as
    /// [`Socket::send_with`] has it.
    ///
    /// # Errors
    ///
    /// See [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// See [`send`](Self::send).
    pub async fn send_with<'a>(
        &mut self,
        message: impl Into<Message<'a>>,
        compress: Compress,
    ) -> Result<(), Closed> {
        match self.socket.send_with(message, compress) {
            SendStatus::Queued => Ok(()),
            SendStatus::Backpressure { .. } => self.socket.writable().await,
            SendStatus::Dropped(_) => Err(Closed),
        }
    }

    /// Closes the connection as [`Socket::close`] does, and waits for its end. Messages that come
    /// meanwhile are dropped.
    ///
    /// # Cancel safety
    ///
    /// The closing goes on if this is dropped, once it has been polled.
    pub async fn close(&mut self, code: CloseCode, reason: impl Into<String>) -> Close {
        self.socket.close(code, reason);
        self.messages.leave(&self.socket);
        self.socket.closed().await
    }

    /// The socket, for other tasks: to send, to close, to wait for the end.
    pub fn socket(&self) -> Socket {
        self.socket.clone()
    }

    /// The answer that opened the connection, status and headers, if this is the client's end.
    pub fn response(&self) -> Option<&Response<()>> {
        self.response.as_deref()
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message<'static>, Disconnected>>> {
        Poll::Ready(match ready!(self.messages.poll_take(cx, &self.socket)) {
            Some(message) => Some(Ok(message)),
            None => {
                // It has ended before, with the reason that it has.
                let close = self.socket.0.outbox.finish("the connection was dropped");
                let close = Close::clone(&close);
                (!close.clean).then_some(Err(Disconnected { close }))
            }
        })
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        if thread::panicking() {
            self.socket.close(CloseCode::INTERNAL_ERROR, "");
        }
        if self.messages.leave(&self.socket) {
            self.socket.close(CloseCode::AWAY, "");
        }
    }
}

/// The messages; an error is the last item.
impl Stream for WebSocket {
    type Item = Result<Message<'static>, Disconnected>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_exhausted {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_recv(cx));
        self.is_exhausted = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

/// Ready while there is no backpressure; flushed when all that was sent through it is written; closed
/// with 1000, and in error unless the peer has answered that.
impl<'a> Sink<Message<'a>> for WebSocket {
    type Error = Closed;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if self.socket.0.outbox.has(signal::PRESSURE) {
            ready!(self.watch.poll_writable(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message<'a>) -> Result<(), Closed> {
        if let SendStatus::Dropped(_) = self.socket.send(message) {
            return Err(Closed);
        }
        self.sent = self.socket.0.outbox.position();
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.watch.poll_flushed(cx, self.sent)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.socket.close(CloseCode::NORMAL, "");
        self.messages.leave(&self.socket);
        self.watch.poll_closed(cx).map(|close| if close.clean { Ok(()) } else { Err(Closed) })
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("socket", &self.socket).finish_non_exhaustive()
    }
}
