//! The `sockeye` program: a WebSocket server to try things against.
#![forbid(unsafe_code)]

mod chat;
mod page;
mod serve;
mod topic;

use std::{process::ExitCode, str::FromStr};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

/// Serves WebSockets to try clients, proxies and browsers against.
///
/// Without a command it is `sockeye serve`.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve WebSockets to try, and a chat at `/` for browsers
    ///
    /// `/echo` sends every message back as it came.
    ///
    /// `/topics/TOPIC` passes each message on to all others who are connected there, as does a POST
    /// with its body: `curl -d hello http://127.0.0.1:8080/topics/news`. It is answered with a count of
    /// those for whom the message is on its way.
    ///
    /// `/chat/ROOM` is what the page at `/` talks to, and `/rooms` lists the rooms that somebody is in.
    ///
    /// Pages of other origins can use none of these.
    #[command(verbatim_doc_comment)]
    Serve(ServeArgs),
}

/// What `sockeye serve` takes.
#[derive(Debug, Args)]
struct ServeArgs {
    /// The address to listen on; with port 0 the system chooses a free one, and the first line
    /// printed says which.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: String,
    /// The longest message to accept, such as 64KiB or 16MiB; longer ones end with close code 1009, and a
    /// longer POST with 413.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = ByteSize::from_str)]
    max_message: ByteSize,
    /// Whether messages are compressed for clients that offer permessage-deflate.
    #[arg(long, value_name = "HOW", default_value = "off")]
    compression: Compression,
}

/// How messages are compressed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Compression {
    /// Not at all.
    Off,
    /// Each by itself; connections hold nothing for it.
    Shared,
    /// With a window of 4 KiB for each direction of a connection, so that messages get shorter.
    Dedicated,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let serve = match cli.command {
        Some(Command::Serve(serve)) => serve,
        None => cli.serve,
    };
    match serve::serve(&serve).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sockeye: {error}");
            ExitCode::FAILURE
        }
    }
}
