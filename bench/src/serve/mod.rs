//! The servers that are compared, each as its own documentation writes an echo server.

mod broadcast;
mod fastwebsockets;
mod sockeye;
mod tungstenite;

use std::{ffi::OsString, io::Write, net::SocketAddr};

use clap::{Args, ValueEnum};
use serde::Serialize;
use sockeye_proto::deflate::Level;
use tokio::runtime::Builder;

use crate::{Result, peers};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Contender {
    /// sockeye's `Handler`.
    Sockeye,
    /// sockeye's `WebSocket`, in a loop.
    SockeyeLoop,
    TokioTungstenite,
    Axum,
    Fastwebsockets,
    /// The `Handler` at level 2, which makes answers as long as those of `ws`.
    SockeyeLevel2,
    /// The same at level 6, as long as those of Bun.
    SockeyeLevel6,
    /// Node's `ws`, a script.
    Ws,
    /// A script too.
    Bun,
}

impl Contender {
    /// Those in the rows without compression.
    pub(crate) const PLAIN: &[Self] = &[
        Self::Sockeye,
        Self::SockeyeLoop,
        Self::TokioTungstenite,
        Self::Axum,
        Self::Fastwebsockets,
    ];

    /// Those in the rows with compression.
    pub(crate) const COMPRESSING: &[Self] = &[Self::Sockeye, Self::Ws, Self::Bun];

    /// The same and more, where what is compressed is also what is measured.
    pub(crate) const AT_SEVERAL_LEVELS: &[Self] =
        &[Self::Sockeye, Self::SockeyeLevel2, Self::SockeyeLevel6, Self::Ws, Self::Bun];

    /// Those in the rows with fan-out.
    pub(crate) const FANNING_OUT: &[Self] = &[Self::Sockeye, Self::Axum, Self::Ws, Self::Bun];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sockeye => "sockeye",
            Self::SockeyeLoop => "sockeye-loop",
            Self::TokioTungstenite => "tokio-tungstenite",
            Self::Axum => "axum",
            Self::Fastwebsockets => "fastwebsockets",
            Self::SockeyeLevel2 => "sockeye-level2",
            Self::SockeyeLevel6 => "sockeye-level6",
            Self::Ws => "ws",
            Self::Bun => "bun",
        }
    }

    pub(crate) fn is_peer(self) -> bool {
        match self {
            Self::Sockeye | Self::SockeyeLoop | Self::SockeyeLevel2 | Self::SockeyeLevel6 => false,
            Self::TokioTungstenite | Self::Axum | Self::Fastwebsockets | Self::Ws | Self::Bun => {
                true
            }
        }
    }

    /// The program, and what comes before the arguments that all are given.
    pub(crate) fn command(self) -> Result<Vec<OsString>> {
        Ok(match self {
            // More threads for zlib only get into each other's way on one processor.
            Self::Ws => vec![
                "env".into(),
                "UV_THREADPOOL_SIZE=1".into(),
                "node".into(),
                peers::directory()?.join("ws.mjs").into(),
            ],
            Self::Bun => vec![peers::bun()?.into(), peers::directory()?.join("bun.mjs").into()],
            _ => vec![std::env::current_exe()?.into(), "serve".into(), self.name().into()],
        })
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
    /// What the server does about permessage-deflate.
    #[arg(long, default_value = "off")]
    pub(crate) compression: Compression,
    /// On how many threads it handles connections. A script has one in any case.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    Off,
    /// Each message by itself.
    Shared,
    /// With context takeover.
    Dedicated,
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shared => "shared",
            Self::Dedicated => "dedicated",
        }
    }
}

impl Expected {
    /// As arguments, as all servers take them.
    pub(crate) fn arguments(self) -> [String; 8] {
        [
            "--size".to_owned(),
            self.size.to_string(),
            "--in-flight".to_owned(),
            self.in_flight.to_string(),
            "--compression".to_owned(),
            self.compression.name().to_owned(),
            "--workers".to_owned(),
            self.workers.to_string(),
        ]
    }
}

/// Serves on a port of the system's choice, on one thread unless more are expected.
pub(crate) fn serve(contender: Contender, expected: Expected) -> Result {
    let mut runtime = match expected.workers {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(expected.workers).enable_all().build()?;
    runtime.block_on(async {
        match contender {
            Contender::Sockeye => sockeye::handler(expected, Level::default()).await,
            Contender::SockeyeLevel2 => sockeye::handler(expected, level(2)?).await,
            Contender::SockeyeLevel6 => sockeye::handler(expected, level(6)?).await,
            Contender::SockeyeLoop => sockeye::websocket().await,
            Contender::TokioTungstenite => tungstenite::bare(expected).await,
            Contender::Axum => tungstenite::axum(expected).await,
            Contender::Fastwebsockets => fastwebsockets::serve(expected).await,
            Contender::Ws | Contender::Bun => Err("this one is a script".into()),
        }
    })
}

fn level(level: u8) -> Result<Level> {
    Level::new(level).ok_or_else(|| "there is no such level".into())
}

fn announce(address: SocketAddr) -> Result {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", address.port())?;
    stdout.flush()?;
    Ok(())
}
