//! The servers that are compared, each as its own documentation writes an echo server.

mod fastwebsockets;
mod sockeye;
mod tungstenite;

use std::{io::Write, net::SocketAddr};

use clap::{Args, ValueEnum};

use crate::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Contender {
    /// sockeye's `Handler`.
    Sockeye,
    /// sockeye's `WebSocket`, in a loop.
    SockeyeLoop,
    TokioTungstenite,
    Axum,
    Fastwebsockets,
}

impl Contender {
    pub(crate) const ALL: [Self; 5] = [
        Self::Sockeye,
        Self::SockeyeLoop,
        Self::TokioTungstenite,
        Self::Axum,
        Self::Fastwebsockets,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sockeye => "sockeye",
            Self::SockeyeLoop => "sockeye-loop",
            Self::TokioTungstenite => "tokio-tungstenite",
            Self::Axum => "axum",
            Self::Fastwebsockets => "fastwebsockets",
        }
    }

    pub(crate) fn is_peer(self) -> bool {
        !matches!(self, Self::Sockeye | Self::SockeyeLoop)
    }
}

/// What is going to be asked of a server. The peers are set up for it, as far as there is something
/// to set; sockeye has its defaults in each row.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Length of a message, in bytes.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// How many messages are on their way at once, on each connection.
    #[arg(long, default_value_t = 1)]
    pub(crate) in_flight: usize,
}

/// Serves on one thread and a port of the system's choice.
pub(crate) fn serve(contender: Contender, expected: Expected) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match contender {
            Contender::Sockeye => sockeye::handler().await,
            Contender::SockeyeLoop => sockeye::websocket().await,
            Contender::TokioTungstenite => tungstenite::bare(expected).await,
            Contender::Axum => tungstenite::axum(expected).await,
            Contender::Fastwebsockets => fastwebsockets::serve(expected).await,
        }
    })
}

fn announce(address: SocketAddr) -> Result {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", address.port())?;
    stdout.flush()?;
    Ok(())
}
