//! A route whose connections are given to a function.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::routing::MethodRouter;
use pin_project_lite::pin_project;
use sockeye_proto::{CloseCode, Message};
use tokio::task::JoinHandle;

use super::{Giver, HandOver, WebSocket};
use crate::{
    Accept, Close, Closed, Config, Disconnected, Error, Handler, Handshake, Panicked, Rejection,
    Result, Session, Socket, ws_with,
};

/// A route that opens WebSocket connections and gives each to `function`, with the default
/// [`Config`]: for those who prefer a loop to a [`Handler`].
///
/// ```
/// use axum::Router;
/// use sockeye::Server;
///
/// let route = sockeye::accept(|mut ws, handshake| async move {
///     let name = handshake.query("name").unwrap_or("stranger".into());
///     ws.send(format!("welcome, {name}")).await?;
///     while let Some(message) = ws.recv().await? {
///         ws.send(message).await?;
///     }
///     Ok(())
/// });
/// let app: Router = Router::new().route("/echo", route);
/// let server = Server::new().routes(app);
/// ```
///
/// The function runs in a task of its own, beside that of the connection, and may run on after the
/// end of the connection; a server that shuts down waits for it. When it drops the [`WebSocket`], as
/// it does by returning, the connection is closed with 1001. An error or a panic of it is logged and
/// closes with 1011.
///
/// To refuse a request write a [`Handler`], whose [`attach`](Handler::attach) decides before the
/// connection is opened; here each request is accepted, without a subprotocol. About origins the
/// [`Config`] decides.
pub fn accept<S, F, Fut>(function: F) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(WebSocket, Handshake) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result> + Send + 'static,
{
    accept_with(function, Config::default())
}

/// The same route with settings of its own.
pub fn accept_with<S, F, Fut>(function: F, config: Config) -> MethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
    F: Fn(WebSocket, Handshake) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result> + Send + 'static,
{
    ws_with(Accepting(function), config)
}

struct Accepting<F>(F);

/// What belongs to a connection that was given to a function.
struct Accepted {
    messages: Giver,
    /// Until the function gets them.
    arguments: Option<Box<(Handshake, Arc<HandOver>)>>,
    function: Option<JoinHandle<()>>,
}

impl<F, Fut> Handler for Accepting<F>
where
    F: Fn(WebSocket, Handshake) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result> + Send + 'static,
{
    type Data = Accepted;

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<Accepted>, Rejection> {
        let (messages, taken) = Giver::new();
        let arguments = Some(Box::new((handshake.take(), taken)));
        Ok(Accept::new(Accepted { messages, arguments, function: None }))
    }

    async fn open(&self, session: &mut Session<Accepted>) -> Result {
        if let Some(arguments) = session.data.arguments.take() {
            let (handshake, messages) = *arguments;
            let socket = session.socket.clone();
            let ws = WebSocket::new(socket.clone(), messages.clone(), None);
            let function = (self.0)(ws, handshake);
            session.data.function = Some(tokio::spawn(Supervised { function, socket, messages }));
        }
        Ok(())
    }

    async fn message(&self, session: &mut Session<Accepted>, message: Message<'_>) -> Result {
        session.data.messages.give(&session.socket, message);
        Ok(())
    }

    async fn close(&self, session: &mut Session<Accepted>, _: &Close) -> Result {
        session.data.messages.end();
        if let Some(function) = &mut session.data.function {
            // What there was to say about its end it has said itself.
            let _ = function.await;
        }
        Ok(())
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if let Some(function) = &self.function {
            function.abort();
        }
    }
}

pin_project! {
    /// Runs the function, and closes the connection if that fails, or drops the handle: the code depends
    /// on which it is, and a function that fails drops the handle before its error is known.
    struct Supervised<F> {
        #[pin]
        function: F,
        socket: Socket,
        messages: Arc<HandOver>,
    }
}

impl<F: Future<Output = Result>> Future for Supervised<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.messages.begin_poll();
        let polled = match Panicked::catch(|| this.function.poll(cx)) {
            Ok(polled) => polled,
            Err(panicked) => Poll::Ready(Err(panicked.into())),
        };
        let has_left = this.messages.end_poll();
        if let Poll::Ready(Err(error)) = &polled {
            report(this.socket, error);
            this.socket.close(CloseCode::INTERNAL_ERROR, "");
        } else if has_left {
            this.socket.close(CloseCode::AWAY, "");
        }
        polled.map(drop)
    }
}

fn report(socket: &Socket, error: &Error) {
    let id = socket.id();
    if error.is::<Disconnected>() || error.is::<Closed>() {
        tracing::debug!(%id, %error, "the function of a connection ended with it");
    } else {
        tracing::error!(%id, %error, "the function of a connection failed; closing with 1011");
    }
}
