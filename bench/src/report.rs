//! What is measured, and how it is told.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use sockeye_proto::deflate::Parameters;

use crate::{
    Cli, Result, deflate, fanout,
    figures::{Comparison, Row, Samples, Unit},
    load::{self, Work},
    machine::Machine,
    process::{Awake, Process, pin_self},
    serve::{Compression, Contender},
};

const ROWS: [Work; 7] = [
    row("64 B, 1 in flight", 64, 1, 1),
    row("64 B, 32 in flight", 64, 1, 32),
    row("16 KiB", 16 * 1024, 10, 1),
    Work { text: true, ..row("1 MB text", 1_000_000, 4, 1) },
    row("64 B, 100 connections", 64, 100, 1),
    row("64 B, 1000 connections", 64, 1000, 1),
    row("64 B, 100 connections, 32 in flight", 64, 100, 32),
];

const fn row(name: &'static str, size: usize, connections: usize, in_flight: usize) -> Work {
    Work { name, size, text: false, connections, in_flight }
}

/// What is written as JSON.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    rounds: usize,
    seconds: f64,
    idle: usize,
    #[serde(flatten)]
    results: Results,
}

/// What has been measured so far.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Results {
    rows: Vec<Row>,
    comparisons: Vec<Comparison>,
    /// What came of the handshakes, for each kind of row and each server.
    agreed: BTreeMap<Compression, BTreeMap<&'static str, String>>,
}

/// Measures everything, prints tables, and writes JSON if asked.
pub(crate) fn run(cli: &Cli) -> Result {
    let machine = Machine::read()?;
    let (rounds, seconds, idle) = (cli.rounds.get(), cli.seconds, cli.idle);
    println!("{machine}- {rounds} rounds of {seconds} s; {idle} idle connections\n");
    let results = measure(cli)?;
    results.print();
    if let Some(path) = &cli.json {
        let report = Report { machine, rounds, seconds, idle, results };
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}

impl Results {
    /// A run takes minutes, so each row is told at once.
    pub(crate) fn tell(&mut self, row: Row) {
        print!("{row}");
        self.rows.push(row);
    }

    pub(crate) fn compare(&mut self, comparisons: Vec<Comparison>) {
        self.comparisons.extend(comparisons);
    }

    /// A server has to agree to the same whenever it is offered the same.
    pub(crate) fn on_agreed(
        &mut self,
        compression: Compression,
        contender: Contender,
        parameters: Parameters,
    ) -> Result {
        let of_kind = self.agreed.entry(compression).or_default();
        let agreed = of_kind.entry(contender.name()).or_insert_with(|| parameters.to_string());
        if *agreed != parameters.to_string() {
            return Err(
                format!("{} agreed on {agreed}, then {parameters}", contender.name()).into()
            );
        }
        Ok(())
    }

    /// What follows once all rows are there.
    fn print(&self) {
        println!("\n{}", Row::RATIOS);
        for ratios in self.rows.iter().filter_map(Row::ratios) {
            println!("{ratios}");
        }
        if !self.comparisons.is_empty() {
            println!("\n{}", Comparison::HEADER);
        }
        for comparison in &self.comparisons {
            println!("{comparison}");
        }
        if !self.agreed.is_empty() {
            println!("\n| rows | server | agreed on |\n|---|---|---|");
        }
        for (compression, servers) in &self.agreed {
            for (server, parameters) in servers {
                println!("| {} | {server} | `{parameters}` |", compression.name());
            }
        }
    }
}

fn measure(cli: &Cli) -> Result<Results> {
    pin_self()?;
    let _awake = Awake::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut results = Results::default();
    println!("{}", Row::FIGURES);
    for work in ROWS.into_iter().filter(|work| work.name.contains(&cli.only)) {
        let samples = runtime.block_on(cpu_per_message(cli, work))?;
        results.tell(Row::new(work.name, Unit::Nanoseconds, &samples));
    }
    if "idle connection".contains(&cli.only) {
        let [fresh, used] = runtime.block_on(memory_per_connection(cli))?;
        results.tell(Row::new("idle connection", Unit::Bytes, &fresh));
        results.tell(Row::new("idle connection that has echoed once", Unit::Bytes, &used));
        let waiting = runtime.block_on(memory_per_waiting_handler(cli))?;
        results.tell(Row::new("connection whose handler waits", Unit::Bytes, &waiting));
    }
    runtime.block_on(deflate::measure(cli, &mut results))?;
    runtime.block_on(fanout::measure(cli, &mut results))?;
    Ok(results)
}

/// Who comes when. Each round begins with another one, so that none always has the same place.
pub(crate) fn turns(cli: &Cli, all: &'static [Contender]) -> impl Iterator<Item = Contender> {
    let place = move |round, turn| all[(round + turn) % all.len()];
    let takes_part = |contender: &Contender| {
        !contender.is_peer() || cli.against.is_empty() || cli.against.contains(contender)
    };
    (0..cli.rounds.get())
        .flat_map(move |round| (0..all.len()).map(move |turn| place(round, turn)))
        .filter(takes_part)
}

async fn cpu_per_message(cli: &Cli, work: Work) -> Result<Samples> {
    let length = Duration::try_from_secs_f64(cli.seconds)?;
    let mut samples = Samples::new();
    for contender in turns(cli, Contender::PLAIN) {
        let server = Process::start(contender, work.expected())?;
        let connections = load::connect_many(server.port, "/", work.connections).await?;
        let (connections, _) = load::echo(connections, work, length / 10).await?; // warm up
        let before = server.cpu()?;
        let (_connections, messages) = load::echo(connections, work, length).await?;
        let used = server.cpu()? - before;
        samples.entry(contender).or_default().push(used as f64 / messages as f64);
    }
    Ok(samples)
}

/// Of connections that have done nothing, and of the same after one echo each.
async fn memory_per_connection(cli: &Cli) -> Result<[Samples; 2]> {
    let once = row("", 64, cli.idle, 1);
    let mut samples = [Samples::new(), Samples::new()];
    for contender in turns(cli, Contender::PLAIN) {
        let server = Process::start(contender, once.expected())?;
        // What the first connection makes the process set up once is not the others'.
        let first = load::connect(server.port, "/").await?;
        let before = server.memory()?;
        let mut connections = load::connect_many(server.port, "/", cli.idle).await?;
        for samples in &mut samples {
            let held = server.memory()?.saturating_sub(before);
            samples.entry(contender).or_default().push(held as f64 / cli.idle as f64);
            (connections, _) = load::echo(connections, once, Duration::ZERO).await?;
        }
        drop(first);
    }
    Ok(samples)
}

/// Of connections whose handler holds a message and waits; the `Handler`'s alone, as only there the
/// buffer it was read into is lent.
async fn memory_per_waiting_handler(cli: &Cli) -> Result<Samples> {
    let once = row("", 64, cli.idle, 1);
    let mut samples = Vec::new();
    for _ in 0..cli.rounds.get() {
        let server = Process::start(Contender::Sockeye, once.expected())?;
        let first = load::connect(server.port, "/").await?;
        let before = server.memory()?;
        let mut connections = load::connect_many(server.port, "/wait", cli.idle).await?;
        load::send_once(&mut connections, once).await?;
        let held = server.memory()?.saturating_sub(before);
        samples.push(held as f64 / cli.idle as f64);
        drop(first);
    }
    Ok(Samples::from([(Contender::Sockeye, samples)]))
}
