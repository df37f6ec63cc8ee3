//! The one loop of a connection: transport, protocol and handler.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use pin_project_lite::pin_project;
use sockeye_proto::{CloseCode, Event};

use crate::{
    Error, Handler, Panicked, Result, Session, Socket,
    link::{Link, Next},
    registry::Registration,
    transport::Io,
};

/// So many messages are handled before the other tasks get their turn.
const MESSAGES_A_TURN: u32 = 128;

/// All that a connection begins with.
pub(crate) struct Start<H: Handler> {
    pub(crate) handler: Arc<H>,
    pub(crate) session: Session<H::Data>,
    pub(crate) registration: Registration,
}

/// Makes the call and awaits it, with the connection kept alive behind it. A panic, be it in the
/// call itself or later, is an error.
macro_rules! call {
    ($link:ident, $rest:ident, $handler:ident.$method:ident($session:ident $(, $argument:ident)?)) => {{
        let (handler, session) = (&*$handler, &mut $session);
        match catch(move || handler.$method(session $(, $argument)?)) {
            Ok(call) => Call { call, link: $link.as_mut(), rest: &mut $rest }.await,
            Err(panicked) => Err(panicked),
        }
    }};
}

/// Runs a connection from its 101 to its end. `early` is what came together with the handshake.
pub(crate) async fn run<T: Io, H: Handler>(io: T, early: Bytes, start: Start<H>) {
    let Start { handler, mut session, registration } = start;
    let mut link = pin!(Link::new(io, early, session.socket.clone(), registration));
    let mut rest: &mut [u8] = &mut [];

    let mut outcome = call!(link, rest, handler.open(session));
    loop {
        if let Err(error) = outcome {
            report(&session.socket, &error);
            let error = &error;
            let told = call!(link, rest, handler.error(session, error));
            log(&session.socket, "error", told);
            session.close(CloseCode::INTERNAL_ERROR, "");
        }
        outcome = match poll_fn(|cx| link.as_mut().poll_next(cx)).await {
            Next::Over => break,
            Next::Drain => call!(link, rest, handler.drain(session)),
            Next::Control(Event::Ping(payload)) => {
                let payload = &*payload;
                call!(link, rest, handler.ping(session, payload))
            }
            Next::Control(Event::Pong(payload)) => {
                let payload = &*payload;
                call!(link, rest, handler.pong(session, payload))
            }
            Next::Control(_) => Ok(()),
            Next::Bytes(mut buffer) => {
                let mut rest = buffer.unused();
                let mut messages = 0;
                let outcome = loop {
                    let called = match link.as_mut().next_event(&mut rest) {
                        None => break Ok(()),
                        Some(Event::Message(message)) => {
                            messages += 1;
                            call!(link, rest, handler.message(session, message))
                        }
                        Some(Event::Ping(payload)) => {
                            let payload = &*payload;
                            call!(link, rest, handler.ping(session, payload))
                        }
                        Some(Event::Pong(payload)) => {
                            let payload = &*payload;
                            call!(link, rest, handler.pong(session, payload))
                        }
                        Some(_) => Ok(()),
                    };
                    if called.is_err() || messages == MESSAGES_A_TURN || link.is_held() {
                        break called;
                    }
                };
                let left = rest.len();
                link.as_mut().end_turn(buffer, left, messages);
                outcome
            }
        };
    }
    let close = link.as_mut().finish();
    let close = &*close;
    let closed = call!(link, rest, handler.close(session, close));
    log(&session.socket, "close", closed);
    drop(session);
    poll_fn(|cx| link.as_mut().poll_linger(cx)).await;
}

/// What `code` gives, or its panic as an error. Whatever the panic left half done belongs to this one
/// connection, which is closed for it.
#[inline]
fn catch<R>(code: impl FnOnce() -> R) -> Result<R> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| Panicked::new(&*panic).into())
}

fn report(socket: &Socket, error: &Error) {
    let cause = error.source().map(tracing::field::display);
    tracing::error!(id = %socket.id(), %error, cause, "handler failed; closing with 1011");
}

fn log(socket: &Socket, method: &str, outcome: Result) {
    if let Err(error) = outcome {
        tracing::error!(id = %socket.id(), %error, "handler's `{method}` failed");
    }
}

pin_project! {
    /// A call of a handler, with the connection behind it: what was sent is written, pings are
    /// answered, and deadlines kept while the handler waits.
    struct Call<'a, 'b, F, T> {
        #[pin]
        call: F,
        link: Pin<&'a mut Link<T>>,
        rest: &'a mut &'b mut [u8],
    }
}

impl<F: Future<Output = Result>, T: Io> Future for Call<'_, '_, F, T> {
    type Output = Result;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result> {
        let this = self.project();
        this.link.set_turn(true);
        let polled = catch(|| this.call.poll(cx));
        this.link.set_turn(false);
        match polled {
            Ok(Poll::Ready(outcome)) => Poll::Ready(outcome),
            Ok(Poll::Pending) => {
                ready!(this.link.as_mut().poll_behind(cx, this.rest));
                Poll::Ready(Ok(()))
            }
            Err(panicked) => Poll::Ready(Err(panicked)),
        }
    }
}
