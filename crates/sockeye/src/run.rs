//! The one loop of a connection: transport, protocol and handler.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use pin_project_lite::pin_project;
use sockeye_proto::{CloseCode, Message};

use crate::{
    Error, Handler, Panicked, Result, Session, Socket,
    link::{Link, Next},
    registry::Owner,
    transport::Io,
};

/// All that a connection begins with.
pub(crate) struct Start<T, H: Handler> {
    pub(crate) io: T,
    /// What came together with the handshake.
    pub(crate) early: Bytes,
    pub(crate) handler: Arc<H>,
    pub(crate) session: Session<H::Data>,
    pub(crate) owner: Owner,
}

/// Makes the call, awaits it, and gives its outcome.
macro_rules! call {
    ($link:ident, $handler:ident.$method:ident($session:ident $(, $argument:ident)?)) => {
        Call::new($link.as_mut(), || $handler.$method(&mut $session $(, $argument)?)).await.0
    };
}

/// Runs a connection from its 101 to its end.
///
/// An idle connection is little more than this future, so every local that lives across an await
/// counts, and what a `match` looks at lives as long as its arms.
pub(crate) async fn run<T: Io, H: Handler>(start: Box<Start<T, H>>) {
    let Start { io, early, handler, mut session, owner } = unbox(start);
    let mut link = pin!(Link::new(io, early, owner));
    loop {
        let next = poll_fn(|cx| link.as_mut().poll_next(cx)).await;
        match next {
            Next::Over => break,
            Next::Open => {
                let outcome = call!(link, handler.open(session));
                link.as_mut().end_call(outcome);
            }
            Next::Drain => {
                let outcome = call!(link, handler.drain(session));
                link.as_mut().end_call(outcome);
            }
            Next::Ping => {
                let Some(payload) = link.as_mut().take_control() else { continue };
                let payload = payload.as_slice();
                let outcome = call!(link, handler.ping(session, payload));
                link.as_mut().end_call(outcome);
            }
            Next::Pong => {
                let Some(payload) = link.as_mut().take_control() else { continue };
                let payload = payload.as_slice();
                let outcome = call!(link, handler.pong(session, payload));
                link.as_mut().end_call(outcome);
            }
            Next::Failed => {
                let Some(error) = link.as_mut().take_error() else { continue };
                report(&session.socket, &error);
                let error = &error;
                let told = call!(link, handler.error(session, error));
                log(&session.socket, "error", told);
                session.close(CloseCode::INTERNAL_ERROR, "");
            }
            Next::Bytes => {
                let Some(mut buffer) = link.as_mut().take_bytes() else { continue };
                let mut rest = buffer.unused();
                loop {
                    let (outcome, left) = Call::next(link.as_mut(), rest, |message| {
                        handler.message(&mut session, message)
                    })
                    .await;
                    rest = left;
                    let Some(outcome) = outcome else { break };
                    link.as_mut().end_call(Some(outcome));
                }
                let left = rest.len();
                link.as_mut().end_turn(buffer, left);
            }
        }
    }
    {
        let close = link.as_mut().finish();
        let close = &*close;
        let closed = call!(link, handler.close(session, close));
        log(&session.socket, "close", closed);
    }
    // Before it lingers: who is gone is not present any more.
    link.as_mut().leave_hub();
    drop(session);
    poll_fn(|cx| link.as_mut().poll_linger(cx)).await;
}

/// Moves out of the box and frees it, now and not at the end of the scope.
#[expect(clippy::boxed_local, reason = "to take it out of its box is what it is for")]
fn unbox<T>(value: Box<T>) -> T {
    *value
}

fn report(socket: &Socket, error: &Error) {
    let cause = error.source().map(tracing::field::display);
    tracing::error!(id = %socket.id(), %error, cause, "handler failed; closing with 1011");
}

fn log(socket: &Socket, method: &str, outcome: Option<Result>) {
    if let Some(Err(error)) = outcome {
        tracing::error!(id = %socket.id(), %error, "handler's `{method}` failed");
    }
}

pin_project! {
    /// A call of a handler, with the connection behind it: what was sent is written, pings are
    /// answered, and deadlines kept while the handler waits.
    struct Call<'a, 'b, F, T> {
        #[pin]
        call: Made<F>,
        link: Pin<&'a mut Link<T>>,
        rest: &'b mut [u8],
    }
}

pin_project! {
    /// What there is to poll: a method's future, the panic that came instead of one, or nothing.
    #[project = MadeProjection]
    enum Made<F> {
        Future { #[pin] future: F },
        Panicked { error: Option<Error> },
        Nothing,
    }
}

impl<'a, 'b, F, T: Io> Call<'a, 'b, F, T> {
    /// A call that is not about input.
    #[inline]
    fn new(link: Pin<&'a mut Link<T>>, make: impl FnOnce() -> F) -> Self {
        Self { call: Made::by(make), link, rest: &mut [] }
    }

    /// The call for the next message of `rest`, if this turn is to handle one. Not a function that
    /// gives a call or none, as the task would keep a place for its result, too.
    #[inline]
    fn next(
        mut link: Pin<&'a mut Link<T>>,
        mut rest: &'b mut [u8],
        make: impl FnOnce(Message<'b>) -> F,
    ) -> Self {
        let call = match link.as_mut().next_message(&mut rest) {
            Some(message) => Made::by(|| make(message)),
            None => Made::Nothing,
        };
        Self { call, link, rest }
    }
}

impl<F> Made<F> {
    #[inline]
    fn by(make: impl FnOnce() -> F) -> Self {
        match Panicked::catch(make) {
            Ok(future) => Self::Future { future },
            Err(panicked) => Self::Panicked { error: Some(panicked.into()) },
        }
    }
}

impl<'b, F: Future<Output = Result>, T: Io> Future for Call<'_, 'b, F, T> {
    /// The method's outcome, if one was called, and the input behind the message.
    type Output = (Option<Result>, &'b mut [u8]);

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = match this.call.project() {
            MadeProjection::Nothing => None,
            MadeProjection::Panicked { error } => error.take().map(Err),
            MadeProjection::Future { future } => {
                this.link.set_turn(true);
                let polled = Panicked::catch(|| future.poll(cx));
                this.link.set_turn(false);
                match polled {
                    Ok(Poll::Ready(outcome)) => Some(outcome),
                    Ok(Poll::Pending) => {
                        ready!(this.link.as_mut().poll_behind(cx, this.rest));
                        None
                    }
                    Err(panicked) => Some(Err(panicked.into())),
                }
            }
        };
        Poll::Ready((outcome, mem::take(this.rest)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    struct Echo;

    impl Handler for Echo {
        type Data = ();

        async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
            session.send(message);
            Ok(())
        }
    }

    fn size_of_future<A, F: Future>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// tokio adds 104 bytes and rounds up to a multiple of 128: beyond this, every connection would
    /// take 128 bytes more.
    #[test]
    fn the_future_of_a_connection_fits_into_a_task_of_512_bytes() {
        // Without optimisation mio's sockets carry an identity to check their use by.
        let checks = if cfg!(debug_assertions) { 8 } else { 0 };
        let size = size_of_future(run::<TcpStream, Echo>);
        assert!(size <= 408 + checks, "{size} bytes");
    }
}
