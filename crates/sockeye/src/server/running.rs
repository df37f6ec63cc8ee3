//! A running server, and its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sockeye_proto::CloseCode;
use tokio::{sync::watch, task::AbortHandle};

use crate::{Hub, ShutdownError, outbox::signal, registry::Served};

/// How long [`Running::until_signal`] waits for connections to close.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// A server that runs in the background. Dropping this value does not stop it.
///
/// ```
/// use std::time::Duration;
/// use sockeye::{CloseCode, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sockeye::Result {
/// let server = Server::new()
///     .ws("/ws", sockeye::on().on_text(|session, text| session.send(text)))
///     .bind("127.0.0.1:0")
///     .await?;
/// println!("listening on {}", server.local_addr());
/// server.shutdown(Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Running {
    local_addr: SocketAddr,
    hub: Hub,
    served: Arc<Served>,
    phase: watch::Sender<Phase>,
    accepting: Accepting,
}

/// The task that accepts connections and answers requests.
#[derive(Debug)]
pub(crate) struct Accepting {
    pub(crate) task: AbortHandle,
    /// Never changes; closed when the task has ended.
    pub(crate) ended: watch::Receiver<()>,
    /// Held by every HTTP connection, and once by the task.
    pub(crate) connections: Arc<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Stopping,
    Stopped,
}

impl Running {
    pub(crate) fn new(
        local_addr: SocketAddr,
        hub: Hub,
        served: Arc<Served>,
        phase: watch::Sender<Phase>,
        accepting: Accepting,
    ) -> Self {
        Self { local_addr, hub, served, phase, accepting }
    }

    /// The address it listens on, with the port that the system chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The hub of its connections.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// How many WebSocket connections are open.
    pub fn connections(&self) -> usize {
        self.served.len()
    }

    /// Stops accepting, closes all connections with 1001 ("going away"), and waits for them: for
    /// handlers that are running, for what is queued, for the closing handshake.
    ///
    /// # Errors
    ///
    /// The deadline passed: the connections that were left have been cut, their handlers dropped
    /// where they waited.
    ///
    /// # Cancel safety
    ///
    /// The shutdown goes on if this is dropped, but without its deadline; call it again to wait
    /// with another one.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), ShutdownError> {
        self.phase.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            if running {
                *phase = Phase::Stopping;
            }
            running
        });
        for socket in self.served.stop() {
            socket.close(CloseCode::AWAY, "the server is shutting down");
        }
        let ended = tokio::time::timeout(deadline, async {
            // First the requests: one of them may still open a connection, only to close it.
            let mut accepting = self.accepting.ended.clone();
            while accepting.changed().await.is_ok() {}
            self.served.empty().await;
        });
        let outcome = ended.await.map_err(|_| self.cut(deadline));
        self.phase.send_replace(Phase::Stopped);
        outcome
    }

    /// Waits until [`shutdown`](Self::shutdown) has ended, whoever called it.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only waits.
    pub async fn stopped(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = phase.wait_for(|phase| *phase == Phase::Stopped).await;
    }

    /// Waits for SIGINT or SIGTERM, then shuts down with a deadline of 10 s. From the call on, before
    /// it is awaited, the signals do not end the program by themselves.
    pub fn until_signal(&self) -> impl Future<Output = ()> {
        let signal = signal_to_stop();
        async {
            signal.await;
            tracing::info!("shutting down");
            if let Err(error) = self.shutdown(SHUTDOWN_DEADLINE).await {
                tracing::warn!("{error}");
            }
        }
    }

    fn cut(&self, deadline: Duration) -> ShutdownError {
        let sockets = self.served.stop();
        for socket in &sockets {
            socket.0.outbox.terminate(signal::TERMINATE | signal::ABANDON);
        }
        let requests = Arc::strong_count(&self.accepting.connections).saturating_sub(2);
        self.accepting.task.abort();
        ShutdownError { cut: sockets.len() + requests, deadline }
    }
}

#[cfg(unix)]
fn signal_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{Signal, SignalKind, signal};
    let install = |kind| {
        signal(kind).inspect_err(|error| tracing::warn!(%error, "cannot wait for signals")).ok()
    };
    async fn wait(signal: Option<Signal>) {
        match signal {
            Some(mut signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
    let interrupt = wait(install(SignalKind::interrupt()));
    let terminate = wait(install(SignalKind::terminate()));
    async {
        tokio::select! {
            () = interrupt => {}
            () = terminate => {}
        }
    }
}

#[cfg(not(unix))]
fn signal_to_stop() -> impl Future<Output = ()> {
    async {
        let _ = tokio::signal::ctrl_c().await;
    }
}
