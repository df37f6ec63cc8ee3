//! The rows with fan-out: one message for many, and members that all talk.

mod latency;
mod message;
mod publish;
mod room;
mod talk;

use std::time::Duration;

use self::{latency::Latencies, publish::Publisher, room::Room, talk::Talk};
use crate::{
    Cli, Result,
    deflate::WARM_UP,
    figures::{Comparison, Row, Samples, Unit},
    peers,
    process::{self, Process},
    report::{Results, turns},
    serve::{Compression, Contender, Expected},
};

const SCENES: [Scene; 7] = [
    Scene::Publish { burst: 1, subscribers: 1000 },
    Scene::Publish { burst: 1, subscribers: 10_000 },
    Scene::Publish { burst: 16, subscribers: 1000 },
    Scene::Publish { burst: 16, subscribers: 10_000 },
    Scene::Talk { members: 32 },
    Scene::Talk { members: 100 },
    Scene::Talk { members: 500 },
];

/// What goes on in a row.
#[derive(Clone, Copy)]
enum Scene {
    /// One more connection sends so many messages in one write, and the next ones when all have them.
    Publish { burst: usize, subscribers: usize },
    /// Each member sends a message, and the next one once it has heard all the others.
    Talk { members: usize },
}

/// How many threads of a server handle connections.
const WORKERS: [(usize, &str); 2] = [(1, "1 worker"), (2, "2 workers")];

pub(crate) async fn measure(cli: &Cli, results: &mut Results) -> Result {
    for (workers, of_workers) in WORKERS {
        for scene in SCENES {
            let name = format!("fan-out, {}, {of_workers}", scene.name());
            if !name.contains(&cli.only) {
                continue;
            }
            peers::install()?;
            // A few more than connections, for what else a process has open.
            process::allow_open_files(scene.connections() + 100)?;
            let [mut cpu, mut p99] = [const { Samples::new() }; 2];
            for contender in turns(cli, Contender::FANNING_OUT) {
                let (used, latency) = measure_one(cli, contender, scene, workers).await?;
                cpu.entry(contender).or_default().push(used);
                p99.entry(contender).or_default().push(latency);
            }
            results.tell(Row::new(&name, Unit::Nanoseconds, &cpu));
            results.tell(Row::new(&name, Unit::Latency, &p99));
            let to_bun = format!("{name}: CPU per delivery to that of Bun");
            results.compare(Comparison::to(&to_bun, &cpu, Contender::Bun));
        }
    }
    Ok(())
}

impl Scene {
    fn name(self) -> String {
        match self {
            Self::Publish { burst: 1, subscribers } => format!("1 to {}", grouped(subscribers)),
            Self::Publish { burst, subscribers } => {
                format!("{burst} in a burst to {}", grouped(subscribers))
            }
            Self::Talk { members } => format!("{members} talking"),
        }
    }

    fn connections(self) -> usize {
        match self {
            Self::Publish { subscribers, .. } => subscribers + 1,
            Self::Talk { members } => members,
        }
    }

    fn in_flight(self) -> usize {
        match self {
            Self::Publish { burst, .. } => burst,
            Self::Talk { .. } => 1,
        }
    }
}

/// So that `--only 'to 1000'` is not also the row with ten times as many.
fn grouped(number: usize) -> String {
    if number < 10_000 {
        return number.to_string();
    }
    format!("{},{:03}", number / 1000, number % 1000)
}

/// The server's CPU for a delivery, and how long 99 of 100 took at most.
async fn measure_one(
    cli: &Cli,
    contender: Contender,
    scene: Scene,
    workers: usize,
) -> Result<(f64, f64)> {
    let (size, in_flight) = (message::LENGTH, scene.in_flight());
    let server = Process::start(
        contender,
        Expected { size, in_flight, compression: Compression::Off, workers },
    )?;
    let mut stage = Stage::open(scene, server.port, workers).await?;
    let length = Duration::try_from_secs_f64(cli.seconds)?;
    stage.play(length.max(WARM_UP))?;
    let before = server.cpu()?;
    let latencies = stage.play(length)?;
    let used = server.cpu()? - before;
    Ok((used as f64 / latencies.count() as f64, latencies.percentile(99)))
}

/// All connections of a scene.
enum Stage {
    Publish(Publisher, Room),
    Talk(Talk),
}

impl Stage {
    async fn open(scene: Scene, port: u16, workers: usize) -> Result<Self> {
        let room = async |path, count| {
            // With a processor to itself the load never sleeps. Where the server's workers have both,
            // it would take half of one from them.
            let patience = if workers > 1 { room::LIMIT } else { Duration::ZERO };
            Room::open(port, path, count, patience).await
        };
        Ok(match scene {
            Scene::Publish { burst, subscribers } => {
                let room = room("/hear", subscribers).await?;
                Self::Publish(Publisher::open(port, burst).await?, room)
            }
            Scene::Talk { members } => Self::Talk(Talk::new(room("/talk", members).await?)),
        })
    }

    /// Goes on for this long and until all is delivered, and gives the latency of each delivery.
    fn play(&mut self, length: Duration) -> Result<Latencies> {
        match self {
            Self::Publish(publisher, room) => publisher.publish(room, length),
            Self::Talk(talk) => talk.talk(length),
        }
    }
}
