//! The server: it does what clients ask for, and tells them what they are to get.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use sockeye::{
    Accept, Close, CloseCode, Config, Handler, Handshake, Hub, Message, Overflow, Rejection,
    Result, SendStatus, Server, Session,
};

use crate::Counts;

pub(crate) const ROOMS: usize = 10;

/// What all connections share.
pub(crate) struct World {
    pub(crate) hub: Hub,
    /// The number of the last message of each topic. Whoever publishes holds it, so that the order of
    /// the numbers is that of the topic.
    last: Vec<Mutex<u64>>,
    connections: AtomicU64,
    pub(crate) counts: Arc<Counts>,
}

/// What a connection is to say at its end.
pub(crate) struct Seat {
    /// Where each subscription has begun, and how many messages those had that are over.
    since: BTreeMap<usize, u64>,
    due: u64,
    /// Answers that were refused.
    refused: u64,
}

/// A witness reads, and is present nowhere.
pub(crate) struct Soak {
    world: Arc<World>,
    is_witness: bool,
}

pub(crate) fn name(number: usize) -> String {
    format!("number {number}")
}

pub(crate) fn routes(server: Server, world: &Arc<World>) -> Server {
    let config = |overflow| {
        Config::default()
            .backpressure(16 * 1024, 48 * 1024, overflow)
            .write_timeout(Duration::from_secs(5))
            .close_timeout(Duration::from_secs(2))
    };
    let witness = Config::default().outbox_limit(256 * 1024 * 1024);
    let soak = |is_witness| Soak { world: world.clone(), is_witness };
    server
        .ws_with("/drop", soak(false), config(Overflow::DropNewest))
        .ws_with("/close", soak(false), config(Overflow::Close))
        .ws_with("/witness", soak(true), witness)
}

impl World {
    pub(crate) fn new(hub: Hub, topics: usize, counts: Arc<Counts>) -> Arc<Self> {
        let last = (0..topics).map(|_| Mutex::new(0)).collect();
        Arc::new(Self { hub, last, connections: AtomicU64::new(0), counts })
    }

    fn publish(&self, topic: usize, padding: usize) {
        let mut last = self.last[topic].lock().expect("no panic");
        *last += 1;
        let report =
            self.hub.publish(&name(topic), format!("{topic} {last} {}", "x".repeat(padding)));
        self.counts.sent.fetch_add(report.sent() as u64, Relaxed);
        self.counts.dropped.fetch_add(report.dropped as u64, Relaxed);
    }

    /// Tells those who are left that there is no more.
    pub(crate) fn say_goodbye(&self) {
        for (topic, last) in self.last.iter().enumerate() {
            let last = last.lock().expect("no panic");
            self.hub.publish(&name(topic), format!("goodbye {last}"));
        }
    }

    fn subscribe(&self, session: &mut Session<Seat>, topic: usize) {
        let last = self.last[topic].lock().expect("no panic");
        if session.subscribe(&name(topic)) {
            session.data.since.insert(topic, *last);
        }
    }

    fn unsubscribe(&self, session: &mut Session<Seat>, topic: usize) {
        let last = self.last[topic].lock().expect("no panic");
        if session.unsubscribe(&name(topic))
            && let Some(since) = session.data.since.remove(&topic)
        {
            session.data.due += *last - since;
        }
    }
}

/// Says it, as soon as there is room for it.
async fn answer(session: &mut Session<Seat>, text: String) -> Result {
    while let SendStatus::Dropped(_) = session.send(&text) {
        session.data.refused += 1;
        session.writable().await?;
    }
    Ok(())
}

impl Handler for Soak {
    type Data = Seat;

    async fn attach(&self, _: &mut Handshake) -> Result<Accept<Seat>, Rejection> {
        Ok(Accept::new(Seat { since: BTreeMap::new(), due: 0, refused: 0 }))
    }

    async fn open(&self, session: &mut Session<Seat>) -> Result {
        if self.is_witness {
            return Ok(());
        }
        let number = self.world.connections.fetch_add(1, Relaxed);
        session.identify(&format!("user {}", number % 997));
        let room = session.hub().room(name(number as usize % ROOMS));
        room.join(session);
        room.presence().track(session, number)?;
        Ok(())
    }

    async fn message(&self, session: &mut Session<Seat>, message: Message<'_>) -> Result {
        let mut words = message.as_text().unwrap_or_default().split(' ');
        let command = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
        match command {
            "subscribe" => self.world.subscribe(session, number()),
            "unsubscribe" => self.world.unsubscribe(session, number()),
            "publish" => {
                let (topic, padding) = (number(), number());
                self.world.publish(topic, padding);
            }
            "account" => {
                for topic in session.data.since.keys().copied().collect::<Vec<_>>() {
                    self.world.unsubscribe(session, topic);
                }
                let dropped = session.dropped() - session.data.refused;
                answer(session, format!("account {} {dropped}", session.data.due)).await?;
            }
            "kick" => session.close(CloseCode::POLICY, "as it asked for"),
            other => return Err(format!("{other} is no command").into()),
        }
        Ok(())
    }

    async fn error(&self, session: &mut Session<Seat>, error: &sockeye::Error) -> Result {
        // Who waits to be heard may be cut; nothing else goes wrong.
        if error.downcast_ref::<sockeye::Closed>().is_none() {
            self.world.counts.fault(format!("{}: {error}", session.id()));
        }
        Ok(())
    }

    async fn close(&self, session: &mut Session<Seat>, _: &Close) -> Result {
        let of_topics = session.dropped() - session.data.refused;
        self.world.counts.refused.fetch_add(of_topics, Relaxed);
        Ok(())
    }
}
