//! Side by side with the peers, in one run: `cargo run --release -p sockeye-bench`.
//!
//! The servers run one after another, in turns, each on one thread pinned to the first processor;
//! the load comes from this process, pinned to the second. What counts is the time that the kernel
//! says a server's threads were on a processor, divided by the messages echoed: it says more than
//! messages per second, and only the ratio of two servers within a run means anything.
#![forbid(unsafe_code)]

mod load;
mod process;
mod report;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::serve::Peer;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// How often each server is measured in each row; the median counts.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How many messages to echo in each measurement.
    #[arg(long, default_value_t = 200_000)]
    messages: usize,
    /// How many connections to hold idle for the memory row.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Only the rows whose name contains this, such as `1 MB` or `idle`.
    #[arg(long, default_value = "")]
    only: String,
    /// A file to write the results to as JSON.
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be one of the servers; prints its port, and runs until it is ended.
    Serve {
        /// Which one.
        peer: Peer,
    },
}

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Serve { peer }) => serve::serve(peer),
        None => report::run(&cli),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sockeye-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
