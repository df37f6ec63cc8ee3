//! Side by side with the peers, in one run: `cargo run --release -p sockeye-bench`.
//!
//! The servers run one after another, in turns, each on one thread pinned to the first processor;
//! the load comes from this process, pinned to the second. What counts is the time that the kernel
//! says a server's threads were on a processor, divided by the messages echoed: it says more than
//! messages per second, and only the ratio of two servers within a run means anything. How each
//! server is set up, and what the figures do not say, is in `README.md`.
#![forbid(unsafe_code)]

mod deflate;
mod fanout;
mod figures;
mod load;
mod machine;
mod peers;
mod process;
mod report;
mod serve;

use std::{num::NonZeroUsize, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::serve::{Contender, Expected};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// How often each server is measured in each row; the median counts.
    #[arg(long, default_value = "7")]
    rounds: NonZeroUsize,
    /// How many seconds each measurement takes.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How many connections to hold idle for the memory row.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Only the rows whose name contains this, such as `1 MB` or `idle`.
    #[arg(long, default_value = "")]
    only: String,
    /// Beside sockeye, only these servers, such as `bun,ws`.
    #[arg(long, value_delimiter = ',')]
    against: Vec<Contender>,
    /// A file to write the results to as JSON.
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be one of the servers; prints its port, and runs until it is ended.
    Serve {
        /// Which one.
        contender: Contender,
        #[command(flatten)]
        expected: Expected,
    },
    /// Keep a processor busy until the input ends.
    Spin,
}

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Serve { contender, expected }) => serve::serve(contender, expected),
        Some(Command::Spin) => process::spin(),
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
