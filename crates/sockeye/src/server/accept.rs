//! From a listener to HTTP connections.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo, response::Response};
use http::{Request, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::Instant,
};
use tower::ServiceExt;

use super::{
    Running, Server,
    running::{Accepting, Phase},
};
use crate::{
    Hub,
    registry::Served,
    upgrade::{LONGEST_HANDSHAKE, ServerContext},
};

/// How long to wait where the system has no file descriptor left for a further connection.
const PAUSE: Duration = Duration::from_millis(500);

/// Starts the task that accepts connections.
pub(crate) fn start(server: Server, listener: TcpListener, local_addr: SocketAddr) -> Running {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(server.config.handshake_timeout.min(LONGEST_HANDSHAKE))
        .max_headers(server.max_headers)
        .max_header_size(server.max_header_bytes);
    let served = Arc::<Served>::default();
    let (phase, stopping) = watch::channel(Phase::Running);
    let connections = Arc::new(());
    let acceptor = Acceptor {
        http,
        router: server.router,
        served: served.clone(),
        hub: server.hub.clone(),
        connections: connections.clone(),
    };
    let (running, ended) = watch::channel(());
    let task = tokio::spawn(async move {
        acceptor.run(listener, stopping).await;
        drop(running);
    });
    let accepting = Accepting { task: task.abort_handle(), ended, connections };
    Running::new(local_addr, server.hub, served, phase, accepting)
}

struct Acceptor {
    http: http1::Builder,
    router: Router,
    served: Arc<Served>,
    hub: Hub,
    connections: Arc<()>,
}

impl Acceptor {
    /// Accepts until told to stop, then lets requests that were begun be answered.
    async fn run(self, listener: TcpListener, mut stopping: watch::Receiver<Phase>) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                () = stopped(&mut stopping) => break,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    // Boxed for the same reason as the task that opens a WebSocket.
                    connections.spawn(Box::pin(self.serve(tcp, peer, stopping.clone())));
                }
                Err(error) => pause_after(&error).await,
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    fn serve(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        mut stopping: watch::Receiver<Phase>,
    ) -> impl Future<Output = ()> + use<> {
        let (router, served) = (self.router.clone(), self.served.clone());
        let hub = Some(self.hub.clone());
        let counted = self.connections.clone();
        let accepted = Instant::now();
        let is_first = AtomicBool::new(true);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let began = is_first.swap(false, Ordering::Relaxed).then_some(accepted);
            request.extensions_mut().insert(ConnectInfo(peer));
            answer(router.clone(), served.clone(), hub.clone(), began, request)
        });
        let connection = self.http.serve_connection(TokioIo::new(tcp), service).with_upgrades();
        async move {
            let mut connection = pin!(connection);
            let outcome = tokio::select! {
                outcome = &mut connection => outcome,
                () = stopped(&mut stopping) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(%peer, %error, "HTTP connection failed");
            }
            drop(counted);
        }
    }
}

/// Waits until the server is told to stop.
async fn stopped(phase: &mut watch::Receiver<Phase>) {
    // It fails once the server's handle is gone: then nobody can stop it any more.
    if phase.wait_for(|phase| *phase != Phase::Running).await.is_err() {
        std::future::pending().await
    }
}

/// Answers a request, with what the WebSocket routes want to know of the server.
pub(crate) async fn answer(
    router: Router,
    served: Arc<Served>,
    hub: Option<Hub>,
    began: Option<Instant>,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let replaced = Arc::new(AtomicBool::new(false));
    let mut request = request.map(Body::new);
    let context = ServerContext { served, hub, began, replaced: replaced.clone() };
    request.extensions_mut().insert(context);
    let response = router.oneshot(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        replaced.store(true, Ordering::Release);
    }
    Ok(response)
}

/// A connection that failed before it was accepted concerns nobody else; for want of resources,
/// trying again at once would only burn time.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "cannot accept connections; trying again in {PAUSE:?}");
        tokio::time::sleep(PAUSE).await;
    }
}
