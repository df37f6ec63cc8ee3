//! sockeye's client against servers that others wrote. `conformance/run` starts those and then this.
#![forbid(unsafe_code)]

mod autobahn;
mod byhand;
mod checks;
mod library;
mod stranger;
mod tap;
mod texts;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::checks::Checks;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all cases of Autobahn's fuzzing server, echoing every message, and have it write its report.
    Autobahn {
        /// Where it listens, as HOST:PORT.
        address: String,
    },
    /// Check what a server made of a library sends, gets and sees.
    Library(CheckArgs),
    /// Check what the server by hand sends, gets and sees: odd answers, broken rules, bad ends.
    Byhand(CheckArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Where the server listens, as HOST:PORT.
    address: String,
    /// What to call it in the last line.
    #[arg(long)]
    name: String,
    /// Only the checks whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Offer no compression.
    #[arg(long)]
    no_compression: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Autobahn { address } => autobahn(&address).await,
        Command::Library(args) => {
            let mut checks = Checks::new(args);
            library::check(&mut checks).await;
            checks.finish()
        }
        Command::Byhand(args) => {
            let mut checks = Checks::new(args);
            byhand::check(&mut checks).await;
            checks.finish()
        }
    }
}

async fn autobahn(address: &str) -> ExitCode {
    match autobahn::run(address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAIL {error}");
            ExitCode::FAILURE
        }
    }
}
