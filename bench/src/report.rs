//! What is measured, and how it is told.

use std::time::Duration;

use serde::Serialize;

use crate::{
    Cli, Result,
    load::{self, Work},
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

/// A figure of every server, in the order of [`Contender::ALL`].
#[derive(Debug, Serialize)]
struct Row {
    work: &'static str,
    unit: &'static str,
    servers: Vec<Figure>,
}

#[derive(Debug, Serialize)]
struct Figure {
    server: &'static str,
    median: f64,
    lowest: f64,
    highest: f64,
    /// sockeye's figure divided by this one, round by round: the median.
    ratio: f64,
}

/// Measures everything, prints a table, and writes JSON if asked.
pub(crate) fn run(cli: &Cli) -> Result {
    pin_self()?;
    let _awake = Awake::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    println!("| work | server | median | lowest | highest | sockeye / this |");
    println!("|---|---|---|---|---|---|");
    for work in ROWS.into_iter().filter(|work| work.name.contains(&cli.only)) {
        let samples = runtime.block_on(cpu_per_message(cli, work))?;
        rows.push(Row::new(work.name, "server CPU per message, ns", samples));
    }
    if "idle connection".contains(&cli.only) {
        let [fresh, used] = runtime.block_on(memory_per_connection(cli))?;
        rows.push(Row::new("idle connection", "memory, bytes", fresh));
        rows.push(Row::new("idle connection that has echoed once", "memory, bytes", used));
        let waiting = runtime.block_on(memory_per_waiting_handler(cli))?;
        rows.push(Row::new("connection whose handler waits", "memory, bytes", [waiting]));
    }
    if let Some(path) = &cli.json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}

/// A list for each server of its figure in each round.
type Samples = [Vec<f64>; Contender::ALL.len()];

async fn cpu_per_message(cli: &Cli, work: Work) -> Result<Samples> {
    let mut samples = Samples::default();
    let length = Duration::try_from_secs_f64(cli.seconds)?;
    for _ in 0..cli.rounds.get() {
        for (contender, samples) in Contender::ALL.into_iter().zip(&mut samples) {
            let server = Process::start(contender, work)?;
            let connections = load::connect_many(server.port, "/", work.connections).await?;
            let (connections, _) = load::echo(connections, work, length / 10).await?; // warm up
            let before = server.cpu()?;
            let (_connections, messages) = load::echo(connections, work, length).await?;
            samples.push((server.cpu()? - before) as f64 / messages as f64);
        }
    }
    Ok(samples)
}

/// Of connections that have done nothing, and of the same after one echo each.
async fn memory_per_connection(cli: &Cli) -> Result<[Samples; 2]> {
    let once = row("", 64, cli.idle, 1);
    let mut samples = [Samples::default(), Samples::default()];
    for _ in 0..cli.rounds.get() {
        for (place, contender) in Contender::ALL.into_iter().enumerate() {
            let server = Process::start(contender, once)?;
            // What the first connection makes the process set up once is not the others'.
            let first = load::connect(server.port, "/").await?;
            let before = server.memory()?;
            let mut connections = load::connect_many(server.port, "/", cli.idle).await?;
            for samples in &mut samples {
                let held = server.memory()?.saturating_sub(before);
                samples[place].push(held as f64 / cli.idle as f64);
                (connections, _) = load::echo(connections, once, Duration::ZERO).await?;
            }
            drop(first);
        }
    }
    Ok(samples)
}

/// Of connections whose handler holds a message and waits; sockeye's alone, as only there the buffer
/// it was read into is lent.
async fn memory_per_waiting_handler(cli: &Cli) -> Result<Vec<f64>> {
    let once = row("", 64, cli.idle, 1);
    let server = Process::start(Contender::Sockeye, once)?;
    let first = load::connect(server.port, "/").await?;
    let before = server.memory()?;
    let mut connections = load::connect_many(server.port, "/wait", cli.idle).await?;
    load::send_once(&mut connections, once).await?;
    let held = server.memory()?.saturating_sub(before);
    drop(first);
    Ok(vec![held as f64 / cli.idle as f64])
}

impl Row {
    /// Prints the row, too: a run takes minutes.
    fn new<const N: usize>(work: &'static str, unit: &'static str, samples: [Vec<f64>; N]) -> Self {
        let ours = &samples[0];
        let servers: Vec<_> = Contender::ALL
            .into_iter()
            .zip(&samples)
            .map(|(contender, theirs)| {
                let ratios = ours.iter().zip(theirs).map(|(our, their)| our / their).collect();
                let sorted = sorted(theirs.clone());
                Figure {
                    server: contender.name(),
                    median: sorted[sorted.len() / 2],
                    lowest: sorted[0],
                    highest: sorted[sorted.len() - 1],
                    ratio: median(ratios),
                }
            })
            .collect();
        for Figure { server, median, lowest, highest, ratio } in &servers {
            println!(
                "| {work}: {unit} | {server} | {median:.0} | {lowest:.0} | {highest:.0} | {ratio:.2} |"
            );
        }
        Self { work, unit, servers }
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn median(values: Vec<f64>) -> f64 {
    let sorted = sorted(values);
    sorted[sorted.len() / 2]
}
