//! A hub under many connections that come, go, stall and publish:
//! `cargo run --release -p sockeye-bench --bin soak -- --seconds 180`.
//!
//! Server and clients are one process. Each client knows which messages it is to get, by their numbers:
//! it checks that they come in order, and that what is missing is what the server says it has dropped.
//! In the end nothing is left: no connection, topic, presence or task. Exits with 1 if anything is wrong.
#![forbid(unsafe_code)]

mod client;
mod server;

use std::{
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use sockeye::{Hub, HubOptions, PresenceChange, Running, Server};
use tokio::{runtime::Handle, task::JoinSet, time::timeout};

use crate::server::World;

#[derive(Debug, Parser)]
#[command(about)]
struct Cli {
    /// How long clients come.
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// How many there are at a time; two open files each.
    #[arg(long, default_value_t = 2000)]
    connections: u64,
    /// How many topics they share.
    #[arg(long, default_value_t = 40)]
    topics: usize,
    /// What the chances are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// More than anything here takes, however loaded the machine is.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// What has happened, and what was wrong.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicU64,
    pub(crate) received: AtomicU64,
    /// What clients miss because it was dropped, each said so by the server.
    pub(crate) missed: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) dropped: AtomicU64,
    /// What the sockets say that was refused, but for answers.
    pub(crate) refused: AtomicU64,
    /// How clients have ended.
    pub(crate) settled: AtomicU64,
    pub(crate) closed: AtomicU64,
    pub(crate) too_slow: AtomicU64,
    pub(crate) vanished: AtomicU64,
    pub(crate) faults: Mutex<Vec<String>>,
}

impl Counts {
    pub(crate) fn fault(&self, fault: String) {
        eprintln!("FAULT: {fault}");
        self.faults.lock().expect("no panic").push(fault);
    }
}

/// Chances, the same for the same seed (SplitMix64).
pub(crate) struct Chances(pub(crate) u64);

impl Chances {
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let counts = Arc::<Counts>::default();
    run(&cli, &counts).await;
    let faults = counts.faults.lock().expect("no panic").len();
    println!("{faults} faults");
    if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(cli: &Cli, counts: &Arc<Counts>) {
    let hub = Hub::with(HubOptions::default().presence_grace(Duration::from_millis(200)));
    let tasks_before = Handle::current().metrics().num_alive_tasks();
    let world = World::new(hub.clone(), cli.topics, counts.clone());
    let server = server::routes(Server::new().hub(hub.clone()), &world);
    let server = server.bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}", server.local_addr());

    let mut witnesses = JoinSet::new();
    for topic in 0..cli.topics {
        witnesses.spawn(client::witness(format!("{url}/witness"), topic, counts.clone()));
    }
    let watchers: Vec<_> = (0..server::ROOMS)
        .map(|room| tokio::spawn(watch(hub.clone(), room, counts.clone())))
        .collect();
    while hub.topics().len() < cli.topics {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let end = Instant::now() + Duration::from_secs(cli.seconds);
    let mut clients = JoinSet::new();
    for seat in 0..cli.connections {
        let chances = Chances(cli.seed.wrapping_mul(1_000_003).wrapping_add(seat));
        let (url, counts) = (url.clone(), counts.clone());
        clients.spawn(client::come_and_go(url, cli.topics, chances, end, counts));
    }
    let mut memory = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_secs(cli.seconds.div_ceil(18).max(1)));
    while Instant::now() < end {
        tick.tick().await;
        memory.push(resident());
        report(&hub, counts, &memory);
    }
    let ended = timeout(LONG, async { while clients.join_next().await.is_some() {} });
    if ended.await.is_err() {
        counts.fault(format!("{} clients are stuck", clients.len()));
    }
    settle(cli, &hub, &world, &server).await;

    // What is dropped is said three times: by the topics, by the sockets, and in the reports.
    let of_topics: u64 = (0..cli.topics).map(|topic| hub.dropped(&server::name(topic))).sum();
    let (refused, reported) = (counts.refused.load(Relaxed), counts.dropped.load(Relaxed));
    if of_topics != refused || reported < refused {
        counts
            .fault(format!("{of_topics} dropped by topics, {refused} by sockets, {reported} told"));
    }
    world.say_goodbye();
    let ended = timeout(LONG, async { while witnesses.join_next().await.is_some() {} });
    if ended.await.is_err() {
        counts.fault(format!("{} witnesses have not seen all", witnesses.len()));
    }
    if server.shutdown(LONG).await.is_err() {
        counts.fault("the shutdown has taken too long".to_owned());
    }
    drop((server, world));
    for watcher in watchers {
        watcher.abort();
        let _ = watcher.await;
    }
    let _ = timeout(Duration::from_secs(20), async {
        while Handle::current().metrics().num_alive_tasks() > tasks_before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let left = Handle::current().metrics().num_alive_tasks() - tasks_before;
    let (topics, rooms) = (hub.topics().len(), hub.rooms().await.len());
    if (left, topics, rooms, hub.sockets().len()) != (0, 0, 0, 0) {
        let open = hub.sockets().len();
        counts.fault(format!("left: {left} tasks, {topics} topics, {rooms} rooms, {open} open"));
    }
    memory.push(resident());
    report(&hub, counts, &memory);
    judge(&memory, counts);
}

/// Waits until the witnesses are alone.
async fn settle(cli: &Cli, hub: &Hub, world: &World, server: &Running) {
    let alone = timeout(LONG, async {
        while server.connections() > cli.topics {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The grace of those who were present.
        for room in 0..server::ROOMS {
            while hub.room(server::name(room)).presence().count().await > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    if alone.await.is_err() {
        world.counts.fault(format!("{} connections are open", server.connections() - cli.topics));
    }
}

/// Reads the presence of a room to the last.
async fn watch(hub: Hub, room: usize, counts: Arc<Counts>) {
    let mut watch = hub.room(server::name(room)).presence().watch();
    let mut version = watch.snapshot().version;
    loop {
        match watch.changed().await {
            PresenceChange::Diff(diff) => {
                version += 1;
                if diff.version != version {
                    counts.fault(format!("presence: {} and not {version}", diff.version));
                    version = diff.version;
                }
            }
            PresenceChange::Lagged(now) if now.version > version => version = now.version,
            other => counts.fault(format!("presence: {other:?} behind {version}")),
        }
    }
}

/// What the process holds, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

fn report(hub: &Hub, counts: &Counts, memory: &[f64]) {
    let count = |count: &AtomicU64| count.load(Relaxed);
    println!(
        "{} open of {}; {} received, {} missed; {} sent, {} dropped; \
         ends: {} settled, {} closed, {} too slow, {} vanished; {:.0} MiB",
        hub.sockets().len(),
        count(&counts.connections),
        count(&counts.received),
        count(&counts.missed),
        count(&counts.sent),
        count(&counts.dropped),
        count(&counts.settled),
        count(&counts.closed),
        count(&counts.too_slow),
        count(&counts.vanished),
        memory.last().copied().unwrap_or_default(),
    );
}

/// Memory that grows to the end is a leak: the most of the last third against that of the second.
fn judge(memory: &[f64], counts: &Counts) {
    if memory.len() < 12 {
        return;
    }
    let most = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let third = memory.len() / 3;
    let (second, last) = (most(&memory[third..2 * third]), most(&memory[2 * third..]));
    println!("{second:.0} MiB at most in the second third, {last:.0} in the last");
    if last - 8.0 > 1.15 * second {
        counts.fault("memory grows".to_owned());
    }
}
