//! What users write: a handler, and the session it is given.

use std::{any::Any, future::Future, ops::Deref};

use sockeye_proto::Message;

use crate::{Accept, Close, Error, Handshake, Rejection, Result, Socket};

/// What a WebSocket route does; one value serves all connections of the route.
///
/// Implement the methods you need as plain `async fn`. The methods of one connection never run side
/// by side: each message waits for the one before it. Those of different connections do run side
/// by side, so what the handler itself holds is shared; what belongs to one connection goes into
/// [`Data`](Self::Data), which a method may change freely.
///
/// While a method waits, its connection lives on: pings are answered, what was sent is written.
/// Only the next message waits, and that is what slows down a peer that sends too fast.
///
/// ```
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
/// ```
///
/// An error, or a panic, calls [`error`](Self::error), is logged, and closes the connection with
/// 1011; all others live on.
pub trait Handler: Send + Sync + 'static {
    /// What belongs to one connection; `()` if nothing does.
    type Data: Send + 'static;

    /// Decides about a request before the connection is opened: accept it, with the connection's
    /// data, or refuse it with a status.
    ///
    /// The default accepts everything. It is there for `Data = ()` alone; with other data, write
    /// this method, as nobody else knows what to begin with:
    ///
    /// ```compile_fail
    /// struct Game;
    ///
    /// impl sockeye::Handler for Game {
    ///     type Data = u64;
    /// }
    /// let route: axum::routing::MethodRouter = sockeye::ws(Game); // has to implement `attach`
    /// ```
    ///
    /// # Errors
    ///
    /// A [`Rejection`] is sent as it is; anything that is an axum response converts into one.
    fn attach(
        &self,
        handshake: &mut Handshake,
    ) -> impl Future<Output = Result<Accept<Self::Data>, Rejection>> + Send {
        const {
            assert!(
                size_of::<Self::Data>() == 0,
                "a handler whose Data is not () has to implement `attach`, which makes the data"
            );
        }
        let _ = handshake;
        async { default_data().map(Accept::new) }
    }

    /// The connection is open. Called once, before any message.
    ///
    /// # Errors
    ///
    /// See [`Handler`].
    fn open(&self, session: &mut Session<Self::Data>) -> impl Future<Output = Result> + Send {
        let _ = session;
        async { Ok(()) }
    }

    /// A message came.
    ///
    /// # Errors
    ///
    /// See [`Handler`].
    fn message(
        &self,
        session: &mut Session<Self::Data>,
        message: Message<'_>,
    ) -> impl Future<Output = Result> + Send {
        let _ = (session, message);
        async { Ok(()) }
    }

    /// A ping came, and was answered already.
    ///
    /// # Errors
    ///
    /// See [`Handler`].
    fn ping(
        &self,
        session: &mut Session<Self::Data>,
        payload: &[u8],
    ) -> impl Future<Output = Result> + Send {
        let _ = (session, payload);
        async { Ok(()) }
    }

    /// A pong came, in answer to [`Socket::ping`], to the keep-alive (whose pings are empty), or
    /// unasked.
    ///
    /// # Errors
    ///
    /// See [`Handler`].
    fn pong(
        &self,
        session: &mut Session<Self::Data>,
        payload: &[u8],
    ) -> impl Future<Output = Result> + Send {
        let _ = (session, payload);
        async { Ok(()) }
    }

    /// What waits for the peer has fallen to [`Config::low_water`](crate::Config::low_water) after
    /// a send had reported backpressure: go on sending.
    ///
    /// # Errors
    ///
    /// See [`Handler`].
    fn drain(&self, session: &mut Session<Self::Data>) -> impl Future<Output = Result> + Send {
        let _ = session;
        async { Ok(()) }
    }

    /// Another method returned an error or panicked (then the error is a
    /// [`Panicked`](crate::Panicked)). The connection is open still: a last message may be sent, or
    /// another close code than 1011 chosen.
    ///
    /// # Errors
    ///
    /// See [`Handler`]; logged, and otherwise without effect.
    fn error(
        &self,
        session: &mut Session<Self::Data>,
        error: &Error,
    ) -> impl Future<Output = Result> + Send {
        let _ = (session, error);
        async { Ok(()) }
    }

    /// The connection has ended. Called once, last, whatever way it ended, but not when the whole
    /// runtime is dropped: what must be given up even then belongs into the `Drop` of the data. It is
    /// still subscribed, a member and present in its hub, to say goodbye there; that ends behind this, or
    /// with the runtime.
    ///
    /// # Errors
    ///
    /// See [`Handler`]; logged, and otherwise without effect.
    fn close(
        &self,
        session: &mut Session<Self::Data>,
        close: &Close,
    ) -> impl Future<Output = Result> + Send {
        let _ = (session, close);
        async { Ok(()) }
    }
}

/// The value of `()` as the type that it is known to be.
pub(crate) fn default_data<D: Any>() -> Result<D, Rejection> {
    let mut data = Some(());
    let unit = (&mut data as &mut dyn Any).downcast_mut::<Option<D>>().and_then(Option::take);
    unit.ok_or_else(|| {
        Rejection::internal("this handler has to implement `attach`, which makes its data")
    })
}

/// One connection as its handler sees it: the socket, and data that no other task can touch.
///
/// Derefs to [`Socket`], so `session.send(..)` works. Where the data is borrowed at the same time,
/// name the field: `for line in &session.data.lines { session.socket.send(line); }`.
#[derive(Debug)]
pub struct Session<D> {
    /// What [`attach`](Handler::attach) made for this connection.
    pub data: D,
    /// The socket; clone it for other tasks.
    pub socket: Socket,
}

impl<D> Deref for Session<D> {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.socket
    }
}
