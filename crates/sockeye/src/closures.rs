//! A handler from plain closures.

use std::{fmt, future::Future, marker::PhantomData, pin::Pin};

use sockeye_proto::Message;

use crate::{
    Accept, Close, Error, Handler, Handshake, PublishReport, Rejection, Result, SendStatus, Session,
};

/// A handler made of closures, for those who think in callbacks.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use sockeye::Server;
///
/// let count = Arc::new(AtomicU64::new(0)); // closures may capture
/// let handler = sockeye::on()
///     .on_open(|session| session.send("welcome"))
///     .on_text(move |session, text| {
///         let n = count.fetch_add(1, Ordering::Relaxed);
///         session.send(format!("{n}: {text}"))
///     })
///     .on_close(|session, close| println!("{} left: {}", session.id(), close.code));
/// let server = Server::new().ws("/ws", handler);
/// ```
///
/// A closure returns nothing, the status of a send, or a `Result` whose error may be any; see
/// [`Outcome`]. Plain closures cost nothing extra. Those that wait for something go into
/// [`on_text_async`](On::on_text_async) and its like, which cost one allocation per call.
pub fn on() -> On<()> {
    On::default()
}

/// A handler made of closures; see [`on`].
pub struct On<D> {
    attach: Option<AttachFn<D>>,
    open: Callback<D, ()>,
    text: Callback<D, str>,
    binary: Callback<D, [u8]>,
    ping: Callback<D, [u8]>,
    pong: Callback<D, [u8]>,
    drain: Callback<D, ()>,
    error: Callback<D, Error>,
    close: Callback<D, Close>,
}

/// What a closure may return: nothing, what its last send or ping gave, or a `Result` of one of them
/// with any error.
pub trait Outcome {
    /// The outcome as a handler's.
    ///
    /// # Errors
    ///
    /// Those that the closure returned.
    fn into_result(self) -> Result;
}

impl Outcome for () {
    fn into_result(self) -> Result {
        Ok(())
    }
}

impl Outcome for SendStatus {
    fn into_result(self) -> Result {
        Ok(())
    }
}

impl Outcome for PublishReport {
    fn into_result(self) -> Result {
        Ok(())
    }
}

/// What those give that say whether anything has changed, as [`Socket::subscribe`](crate::Socket) does.
impl Outcome for bool {
    fn into_result(self) -> Result {
        Ok(())
    }
}

impl<T: Outcome, E: Into<Error>> Outcome for Result<T, E> {
    fn into_result(self) -> Result {
        self.map_err(Into::into)?.into_result()
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type AttachFn<D> = Box<
    dyn for<'a> Fn(&'a mut Handshake) -> BoxFuture<'a, Result<Accept<D>, Rejection>> + Send + Sync,
>;
type SyncFn<D, A> = Box<dyn Fn(&mut Session<D>, &A) -> Result + Send + Sync>;
type AsyncFn<D, A> =
    Box<dyn for<'a> Fn(&'a mut Session<D>, &'a A) -> BoxFuture<'a, Result> + Send + Sync>;

/// A closure of one of the two kinds, or none.
enum Callback<D, A: ?Sized> {
    None,
    Sync(SyncFn<D, A>),
    Async(AsyncFn<D, A>),
}

impl<D: Send, A: ?Sized + Sync> Callback<D, A> {
    async fn call(&self, session: &mut Session<D>, argument: &A) -> Result {
        match self {
            Self::None => Ok(()),
            Self::Sync(closure) => closure(session, argument),
            Self::Async(closure) => closure(session, argument).await,
        }
    }
}

/// An async closure whose future is [`Send`]; every async closure that can be is one. Nothing to
/// implement by hand.
pub trait AsyncCallback<'a, D, A: ?Sized>: Send + Sync {
    #[doc(hidden)]
    fn call(self, session: &'a mut Session<D>, argument: &'a A) -> BoxFuture<'a, Result>;
}

impl<'a, D: 'a, A: ?Sized + 'a, F, R, Fut> AsyncCallback<'a, D, A> for F
where
    F: FnOnce(&'a mut Session<D>, &'a A) -> Fut + Send + Sync,
    Fut: Future<Output = R> + Send + 'a,
    R: Outcome,
{
    fn call(self, session: &'a mut Session<D>, argument: &'a A) -> BoxFuture<'a, Result> {
        let future = self(session, argument);
        Box::pin(async move { future.await.into_result() })
    }
}

/// The same for a closure that is given the session alone.
pub trait AsyncSessionCallback<'a, D>: Send + Sync {
    #[doc(hidden)]
    fn call(self, session: &'a mut Session<D>) -> BoxFuture<'a, Result>;
}

impl<'a, D: 'a, F, R, Fut> AsyncSessionCallback<'a, D> for F
where
    F: FnOnce(&'a mut Session<D>) -> Fut + Send + Sync,
    Fut: Future<Output = R> + Send + 'a,
    R: Outcome,
{
    fn call(self, session: &'a mut Session<D>) -> BoxFuture<'a, Result> {
        let future = self(session);
        Box::pin(async move { future.await.into_result() })
    }
}

/// The methods for closures that get an argument beside the session.
macro_rules! with_argument {
    ($($(#[doc = $doc:literal])* $field:ident: $argument:ty, $plain:ident, $waiting:ident;)*) => {
        $(
            $(#[doc = $doc])*
            #[must_use]
            pub fn $plain<R: Outcome>(
                mut self,
                closure: impl Fn(&mut Session<D>, &$argument) -> R + Send + Sync + 'static,
            ) -> Self {
                self.$field = Callback::Sync(Box::new(move |session, argument| {
                    closure(session, argument).into_result()
                }));
                self
            }

            #[doc = concat!("The same as [`", stringify!($plain), "`](Self::", stringify!($plain),
                ") for an async closure; what it captures is cloned for each call.")]
            #[must_use]
            pub fn $waiting<F, R>(mut self, closure: F) -> Self
            where
                F: AsyncFnOnce(&mut Session<D>, &$argument) -> R,
                F: for<'a> AsyncCallback<'a, D, $argument> + Clone + 'static,
            {
                self.$field = Callback::Async(Box::new(move |session, argument| {
                    AsyncCallback::call(closure.clone(), session, argument)
                }));
                self
            }
        )*
    };
}

/// The methods for closures that get the session alone.
macro_rules! with_session {
    ($($(#[doc = $doc:literal])* $field:ident, $plain:ident, $waiting:ident;)*) => {
        $(
            $(#[doc = $doc])*
            #[must_use]
            pub fn $plain<R: Outcome>(
                mut self,
                closure: impl Fn(&mut Session<D>) -> R + Send + Sync + 'static,
            ) -> Self {
                self.$field =
                    Callback::Sync(Box::new(move |session, ()| closure(session).into_result()));
                self
            }

            #[doc = concat!("The same as [`", stringify!($plain), "`](Self::", stringify!($plain),
                ") for an async closure; what it captures is cloned for each call.")]
            #[must_use]
            pub fn $waiting<F, R>(mut self, closure: F) -> Self
            where
                F: AsyncFnOnce(&mut Session<D>) -> R,
                F: for<'a> AsyncSessionCallback<'a, D> + Clone + 'static,
            {
                self.$field = Callback::Async(Box::new(move |session, ()| {
                    AsyncSessionCallback::call(closure.clone(), session)
                }));
                self
            }
        )*
    };
}

impl On<()> {
    /// Decides about a request and makes the connection's data, before it is opened; see
    /// [`Handler::attach`]. Comes first, as it says what the data is.
    ///
    /// ```
    /// use axum::http::StatusCode;
    /// use sockeye::Accept;
    ///
    /// let handler = sockeye::on()
    ///     .attach(|handshake| match handshake.query("name") {
    ///         Some(name) => Ok(Accept::new(name)),
    ///         None => Err((StatusCode::BAD_REQUEST, "who are you?").into()),
    ///     })
    ///     .on_text(|session, text| session.send(format!("{}: {text}", session.data)));
    /// ```
    #[must_use]
    pub fn attach<D: Send + 'static>(
        self,
        closure: impl Fn(&mut Handshake) -> Result<Accept<D>, Rejection> + Send + Sync + 'static,
    ) -> On<D> {
        let attach: AttachFn<D> = Box::new(move |handshake| {
            let decision = closure(handshake);
            Box::pin(async move { decision })
        });
        On { attach: Some(attach), ..On::default() }
    }

    /// The same as [`attach`](Self::attach) for an async closure, such as one that asks a database;
    /// what it captures is cloned for each call.
    #[must_use]
    pub fn attach_async<D, F>(self, closure: F) -> On<D>
    where
        D: Send + 'static,
        F: AsyncFnOnce(&mut Handshake) -> Result<Accept<D>, Rejection>,
        F: for<'a> AsyncAttach<'a, D> + Clone + 'static,
    {
        let attach: AttachFn<D> =
            Box::new(move |handshake| AsyncAttach::call(closure.clone(), handshake));
        On { attach: Some(attach), ..On::default() }
    }
}

/// An async closure that decides about a request; nothing to implement by hand.
pub trait AsyncAttach<'a, D>: Send + Sync {
    #[doc(hidden)]
    fn call(self, handshake: &'a mut Handshake) -> BoxFuture<'a, Result<Accept<D>, Rejection>>;
}

impl<'a, D, F, Fut> AsyncAttach<'a, D> for F
where
    F: FnOnce(&'a mut Handshake) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Accept<D>, Rejection>> + Send + 'a,
{
    fn call(self, handshake: &'a mut Handshake) -> BoxFuture<'a, Result<Accept<D>, Rejection>> {
        Box::pin(self(handshake))
    }
}

impl<D: Send + 'static> On<D> {
    with_session! {
        /// The connection is open; see [`Handler::open`].
        open, on_open, on_open_async;
        /// What waits for the peer has drained; see [`Handler::drain`].
        drain, on_drain, on_drain_async;
    }

    with_argument! {
        /// A text message came; see [`Handler::message`].
        text: str, on_text, on_text_async;
        /// A binary message came; see [`Handler::message`].
        binary: [u8], on_binary, on_binary_async;
        /// A ping came, and was answered; see [`Handler::ping`].
        ping: [u8], on_ping, on_ping_async;
        /// A pong came; see [`Handler::pong`].
        pong: [u8], on_pong, on_pong_async;
        /// Another closure failed; see [`Handler::error`].
        error: Error, on_error, on_error_async;
        /// The connection has ended; see [`Handler::close`].
        close: Close, on_close, on_close_async;
    }
}

impl<D: Send + 'static> Handler for On<D> {
    type Data = D;

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<D>, Rejection> {
        match &self.attach {
            Some(attach) => attach(handshake).await,
            // Only `on()` makes one without, and its data is `()`.
            None => crate::handler::default_data().map(Accept::new),
        }
    }

    async fn open(&self, session: &mut Session<D>) -> Result {
        self.open.call(session, &()).await
    }

    async fn message(&self, session: &mut Session<D>, message: Message<'_>) -> Result {
        match message {
            Message::Text(text) => self.text.call(session, &text).await,
            Message::Binary(data) => self.binary.call(session, &data).await,
        }
    }

    async fn ping(&self, session: &mut Session<D>, payload: &[u8]) -> Result {
        self.ping.call(session, payload).await
    }

    async fn pong(&self, session: &mut Session<D>, payload: &[u8]) -> Result {
        self.pong.call(session, payload).await
    }

    async fn drain(&self, session: &mut Session<D>) -> Result {
        self.drain.call(session, &()).await
    }

    async fn error(&self, session: &mut Session<D>, error: &Error) -> Result {
        self.error.call(session, error).await
    }

    async fn close(&self, session: &mut Session<D>, close: &Close) -> Result {
        self.close.call(session, close).await
    }
}

impl<D> Default for On<D> {
    fn default() -> Self {
        Self {
            attach: None,
            open: Callback::None,
            text: Callback::None,
            binary: Callback::None,
            ping: Callback::None,
            pong: Callback::None,
            drain: Callback::None,
            error: Callback::None,
            close: Callback::None,
        }
    }
}

impl<D> fmt::Debug for On<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("On").field("data", &PhantomData::<D>).finish_non_exhaustive()
    }
}
