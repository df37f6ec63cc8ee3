//! The rows with permessage-deflate: echoes, one message for many, and idle connections.

mod broadcast;
mod client;
mod json;

use std::{
    io,
    time::{Duration, Instant},
};

use sockeye_proto::deflate::Inflater;

use self::client::Client;
use crate::{
    Cli, Result,
    figures::{Comparison, Row, Samples, Unit},
    load, peers,
    process::Process,
    report::{Results, turns},
    serve::{Compression, Contender, Expected},
};

const KIB: usize = 1024;

const ECHOES: [Echo; 6] = [
    Echo { compression: Compression::Shared, size: KIB, connections: 1 },
    Echo { compression: Compression::Shared, size: KIB, connections: 100 },
    Echo { compression: Compression::Shared, size: 64 * KIB, connections: 1 },
    Echo { compression: Compression::Dedicated, size: KIB, connections: 1 },
    Echo { compression: Compression::Dedicated, size: KIB, connections: 100 },
    Echo { compression: Compression::Dedicated, size: 64 * KIB, connections: 1 },
];

/// One row: a message on each connection at a time.
#[derive(Clone, Copy)]
struct Echo {
    compression: Compression,
    size: usize,
    connections: usize,
}

pub(crate) async fn measure(cli: &Cli, results: &mut Results) -> Result {
    for row in ECHOES.into_iter().filter(|row| row.name().contains(&cli.only)) {
        peers::install()?;
        let [cpu, on_the_wire] = echoes(cli, row, results).await?;
        results.tell(Row::new(row.name(), Unit::Nanoseconds, &cpu));
        results.tell(Row::new(row.name(), Unit::OnTheWire, &on_the_wire));
    }
    broadcast::measure(cli, results).await?;
    if IDLE.contains(&cli.only) {
        peers::install()?;
        idle(cli, results).await?;
    }
    Ok(())
}

impl Echo {
    fn name(self) -> String {
        let Self { compression, size, connections } = self;
        let mut name = format!("{} KiB JSON, {}", size / KIB, compression.name());
        if connections > 1 {
            name += &format!(", {connections} connections");
        }
        name
    }
}

/// What a server is told; there is never more than one message in flight.
fn expected(compression: Compression, size: usize) -> Expected {
    Expected { size, in_flight: 1, compression, workers: 1 }
}

/// A script is compiled while it runs: with a third of this, `ws` still pays for it when the
/// measurement begins.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);

/// The CPU of a message, and the length of its answer.
async fn echoes(cli: &Cli, row: Echo, results: &mut Results) -> Result<[Samples; 2]> {
    let length = Duration::try_from_secs_f64(cli.seconds)?;
    let Echo { compression, size, connections } = row;
    let (mut cpu, mut on_the_wire) = (Samples::new(), Samples::new());
    for contender in turns(cli, Contender::AT_SEVERAL_LEVELS) {
        let server = Process::start(contender, expected(compression, size))?;
        let clients =
            Client::connect_many(server.port, "/", compression, size, connections).await?;
        if let Some(agreed) = clients[0].agreed() {
            results.on_agreed(compression, contender, agreed)?;
        }
        let warm_up = length.max(WARM_UP);
        let clients = echo(clients, warm_up, Check::All).await?.clients;
        let before = server.cpu()?;
        let done = echo(clients, length, Check::Header).await?;
        let used = server.cpu()? - before;
        cpu.entry(contender).or_default().push(used as f64 / done.messages as f64);
        on_the_wire.entry(contender).or_default().push(done.bytes as f64 / done.messages as f64);
    }
    Ok([cpu, on_the_wire])
}

/// What clients have done, and they themselves.
struct Done {
    clients: Vec<Client>,
    messages: usize,
    bytes: usize,
}

/// How far answers are looked at.
#[derive(Clone, Copy)]
enum Check {
    /// Each is inflated and compared.
    All,
    /// Only the header is looked at, so that the load keeps up with the server.
    Header,
}

impl Check {
    fn inflater(self) -> Option<Inflater> {
        match self {
            Self::All => Some(Inflater::new()),
            Self::Header => None,
        }
    }
}

/// Echoes over all these connections for this long, and at least once.
async fn echo(clients: Vec<Client>, length: Duration, check: Check) -> Result<Done> {
    let end = Instant::now() + length;
    let clients = clients.into_iter().map(|client| echo_one(client, check.inflater(), end));
    let mut all = Done { clients: Vec::new(), messages: 0, bytes: 0 };
    for (client, messages, bytes) in load::side_by_side(clients).await? {
        all.clients.push(client);
        all.messages += messages;
        all.bytes += bytes;
    }
    Ok(all)
}

async fn echo_one(
    mut client: Client,
    mut inflater: Option<Inflater>,
    end: Instant,
) -> io::Result<(Client, usize, usize)> {
    let (mut messages, mut bytes) = (0, 0);
    loop {
        client.send().await?;
        bytes += client.receive(inflater.as_mut()).await?;
        messages += 1;
        if Instant::now() >= end {
            return Ok((client, messages, bytes));
        }
    }
}

const IDLE: &str = "idle connection, after one JSON of 1 KiB";

/// The memory of connections that have echoed once.
async fn idle(cli: &Cli, results: &mut Results) -> Result {
    let [mut off, mut shared, mut dedicated] = [const { Samples::new() }; 3];
    for contender in turns(cli, Contender::COMPRESSING) {
        for (compression, samples) in [
            (Compression::Off, &mut off),
            (Compression::Shared, &mut shared),
            (Compression::Dedicated, &mut dedicated),
        ] {
            let held = memory_per_connection(cli, contender, compression).await?;
            samples.entry(contender).or_default().push(held);
        }
    }
    results.tell(Row::new(format!("{IDLE}, no compression"), Unit::Bytes, &off));
    results.tell(Row::new(format!("{IDLE}, shared"), Unit::Bytes, &shared));
    results.tell(Row::new(format!("{IDLE}, dedicated"), Unit::Bytes, &dedicated));
    let more = "bytes of an idle connection more than without compression";
    results.compare(Comparison::difference(&format!("{more}, shared"), &shared, &off));
    results.compare(Comparison::difference(&format!("{more}, dedicated"), &dedicated, &off));
    Ok(())
}

async fn memory_per_connection(
    cli: &Cli,
    contender: Contender,
    compression: Compression,
) -> Result<f64> {
    let count = match (compression, contender) {
        // Hundreds of kilobytes each, and sockeye bounds what all windows take.
        (Compression::Dedicated, _) | (Compression::Shared, Contender::Ws) => {
            (cli.idle / 10).max(1)
        }
        (Compression::Off | Compression::Shared, _) => cli.idle,
    };
    let server = Process::start(contender, expected(compression, KIB))?;
    let open = |count| Client::connect_many(server.port, "/", compression, KIB, count);
    // What the first message makes the process set up once is not the connections'.
    let first = echo(open(1).await?, Duration::ZERO, Check::All).await?;
    let before = server.memory()?;
    let clients = open(count).await?;
    // One after the other: the memory of those that are busy at once is not what is asked.
    let one_by_one = async move {
        let (mut inflater, mut idle) = (Inflater::new(), Vec::new());
        for mut client in clients {
            client.send().await?;
            client.receive(Some(&mut inflater)).await?;
            idle.push(client);
        }
        Ok(idle)
    };
    let idle = load::side_by_side(std::iter::once(one_by_one)).await?;
    let held = server.memory()?.saturating_sub(before);
    drop((first.clients, idle));
    Ok(held as f64 / count as f64)
}
