//! One message for many: said once to the server's library, or sent to each.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{Check, KIB, WARM_UP, client::Client, expected};
use crate::{
    Cli, Result,
    figures::{Comparison, Row, Samples, Unit},
    load, peers,
    process::Process,
    report::{Results, turns},
    serve::{Compression, Contender},
};

const RECEIVERS: usize = 1000;

const SIZES: [usize; 2] = [KIB, 64 * KIB];

/// How a message gets to all receivers.
#[derive(Clone, Copy)]
enum Way {
    /// Given to the library once.
    Once,
    /// Given to each connection.
    Each,
    /// The same, to connections without compression.
    Plain,
}

pub(super) async fn measure(cli: &Cli, results: &mut Results) -> Result {
    for size in SIZES {
        let name = format!("{} KiB JSON to {RECEIVERS}", size / KIB);
        if !name.contains(&cli.only) {
            continue;
        }
        peers::install()?;
        let [mut once, mut each, mut plain] = [const { Samples::new() }; 3];
        let mut on_the_wire = Samples::new();
        for contender in turns(cli, Contender::COMPRESSING) {
            for (way, samples) in
                [(Way::Once, &mut once), (Way::Each, &mut each), (Way::Plain, &mut plain)]
            {
                if !way.is_there(contender) {
                    continue;
                }
                let (cpu, bytes) = per_delivery(cli, contender, way, size).await?;
                samples.entry(contender).or_default().push(cpu);
                if matches!(way, Way::Each) {
                    on_the_wire.entry(contender).or_default().push(bytes);
                }
            }
        }
        results.tell(Row::new(format!("{name}, once for all"), Unit::Nanoseconds, &once));
        results.tell(Row::new(format!("{name}, one by one"), Unit::Nanoseconds, &each));
        results.tell(Row::new(format!("{name}, no compression"), Unit::Nanoseconds, &plain));
        results.tell(Row::new(format!("{name}, one by one"), Unit::OnTheWire, &on_the_wire));
        results.compare(Comparison::ratio(&format!("{name}: one by one to once"), &each, &once));
    }
    Ok(())
}

impl Way {
    /// `ws` has nothing for many receivers.
    fn is_there(self, contender: Contender) -> bool {
        !(matches!(self, Self::Once) && contender == Contender::Ws)
    }

    fn path(self) -> &'static str {
        match self {
            Self::Once => "/once",
            Self::Each | Self::Plain => "/each",
        }
    }

    fn compression(self) -> Compression {
        match self {
            Self::Once | Self::Each => Compression::Shared,
            Self::Plain => Compression::Off,
        }
    }
}

/// The CPU of a message that one receiver gets, and its length.
async fn per_delivery(
    cli: &Cli,
    contender: Contender,
    way: Way,
    size: usize,
) -> Result<(f64, f64)> {
    let compression = way.compression();
    let server = Process::start(contender, expected(compression, size))?;
    let receivers =
        Client::connect_many(server.port, "/receive", compression, size, RECEIVERS).await?;
    // What comes from here is a thousandth of the messages, and not to cost more than it has to.
    let mut speaker =
        Client::connect_many(server.port, way.path(), Compression::Off, size, 1).await?;
    let room = Room { speaker: speaker.remove(0), receivers };
    let length = Duration::try_from_secs_f64(cli.seconds)?;
    let warm_up = length.max(WARM_UP);
    let (room, ..) = say(room, warm_up, Check::All).await?;
    let before = server.cpu()?;
    let (_room, deliveries, bytes) = say(room, length, Check::Header).await?;
    let used = server.cpu()? - before;
    Ok((used as f64 / deliveries as f64, bytes as f64 / deliveries as f64))
}

/// One who speaks, and all who hear it.
struct Room {
    speaker: Client,
    receivers: Vec<Client>,
}

async fn say(room: Room, length: Duration, check: Check) -> Result<(Room, usize, usize)> {
    let end = Instant::now() + length;
    let mut said = load::side_by_side(std::iter::once(say_alone(room, end, check))).await?;
    Ok(said.remove(0))
}

/// A message comes when all have had the one before.
async fn say_alone(mut room: Room, end: Instant, check: Check) -> io::Result<(Room, usize, usize)> {
    let mut inflater = check.inflater();
    let (mut deliveries, mut bytes) = (0, 0);
    loop {
        room.speaker.send().await?;
        for receiver in &mut room.receivers {
            bytes += receiver.receive(inflater.as_mut()).await?;
        }
        deliveries += room.receivers.len();
        if Instant::now() >= end {
            return Ok((room, deliveries, bytes));
        }
    }
}
