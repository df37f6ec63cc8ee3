//! What is measured, and how it is told.

use std::time::Duration;

use serde::Serialize;

use crate::{
    Cli, Result,
    figures::{Row, Samples, Unit},
    load::{self, Work},
    machine::Machine,
    process::{Awake, Process, pin_self},
    serve::Contender,
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
    rows: Vec<Row>,
}

/// Measures everything, prints tables, and writes JSON if asked.
pub(crate) fn run(cli: &Cli) -> Result {
    let machine = Machine::read()?;
    let (rounds, seconds, idle) = (cli.rounds.get(), cli.seconds, cli.idle);
    println!("{machine}- {rounds} rounds of {seconds} s; {idle} idle connections\n");
    let rows = measure(cli)?;
    println!("\n{}", Row::RATIOS);
    for ratios in rows.iter().filter_map(Row::ratios) {
        println!("{ratios}");
    }
    if let Some(path) = &cli.json {
        let report = Report { machine, rounds, seconds, idle, rows };
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}

fn measure(cli: &Cli) -> Result<Vec<Row>> {
    pin_self()?;
    let _awake = Awake::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    // A run takes minutes, so each row is told at once.
    let mut tell = |row: Row| {
        print!("{row}");
        rows.push(row);
    };
    println!("{}", Row::FIGURES);
    for work in ROWS.into_iter().filter(|work| work.name.contains(&cli.only)) {
        let samples = runtime.block_on(cpu_per_message(cli, work))?;
        tell(Row::new(work.name, Unit::Nanoseconds, samples));
    }
    if "idle connection".contains(&cli.only) {
        let [fresh, used] = runtime.block_on(memory_per_connection(cli))?;
        tell(Row::new("idle connection", Unit::Bytes, fresh));
        tell(Row::new("idle connection that has echoed once", Unit::Bytes, used));
        let waiting = runtime.block_on(memory_per_waiting_handler(cli))?;
        tell(Row::new("connection whose handler waits", Unit::Bytes, waiting));
    }
    Ok(rows)
}

/// Who comes when. Each round begins with another one, so that none always has the same place.
fn turns(cli: &Cli) -> impl Iterator<Item = Contender> {
    let all = Contender::ALL;
    let place = move |round, turn| all[(round + turn) % all.len()];
    (0..cli.rounds.get()).flat_map(move |round| (0..all.len()).map(move |turn| place(round, turn)))
}

async fn cpu_per_message(cli: &Cli, work: Work) -> Result<Samples> {
    let length = Duration::try_from_secs_f64(cli.seconds)?;
    let mut samples = Samples::new();
    for contender in turns(cli) {
        let server = Process::start(contender, work)?;
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
    for contender in turns(cli) {
        let server = Process::start(contender, once)?;
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
        let server = Process::start(Contender::Sockeye, once)?;
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
