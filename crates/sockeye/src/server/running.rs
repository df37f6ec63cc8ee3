//! A running server, and its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sockeye_proto::CloseCode;
use tokio::{sync::watch, task::AbortHandle};

use crate::{ShutdownError, outbox::signal, registry::Registry};

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
    registry: Arc<Registry>,
    phase: watch::Sender<Phase>,
    accepting: AbortHandle,
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
        registry: Arc<Registry>,
        phase: watch::Sender<Phase>,
        accepting: AbortHandle,
    ) -> Self {
        Self { local_addr, registry, phase, accepting }
    }

    /// The address it listens on, with the port that the system chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// How many WebSocket connections are open.
    pub fn connections(&self) -> usize {
        self.registry.len()
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
        for socket in self.registry.stop() {
            socket.close(CloseCode::AWAY, "the server is shutting down");
        }
        let ended = tokio::time::timeout(deadline, async {
            self.registry.empty().await;
            // The task that accepts holds the only receiver, and ends with the last request.
            self.phase.closed().await;
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

    /// Waits for SIGINT or SIGTERM, then shuts down with a deadline of 10 s.
    pub async fn until_signal(&self) {
        signal_to_stop().await;
        tracing::info!("shutting down");
        if let Err(error) = self.shutdown(SHUTDOWN_DEADLINE).await {
            tracing::warn!("{error}");
        }
    }

    fn cut(&self, deadline: Duration) -> ShutdownError {
        let sockets = self.registry.stop();
        for socket in &sockets {
            socket.0.outbox.terminate(signal::TERMINATE | signal::ABANDON);
        }
        self.accepting.abort();
        ShutdownError { cut: sockets.len(), deadline }
    }
}

#[cfg(unix)]
async fn signal_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(error) => {
            tracing::warn!(%error, "cannot wait for SIGTERM");
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(not(unix))]
async fn signal_to_stop() {
    let _ = tokio::signal::ctrl_c().await;
}
