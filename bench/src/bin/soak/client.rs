//! The clients: they come, take part, stall, and go, and check what they get.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use sockeye::{Client, CloseCode, Message, WebSocket};
use tokio::time::{sleep, timeout};

use crate::{Chances, Counts, LONG};

/// One connection, and what has come.
struct Seen {
    socket: WebSocket,
    /// What is dropped is told and not the end.
    may_miss: bool,
    /// The last number of each topic.
    last: BTreeMap<usize, u64>,
    subscribed: BTreeSet<usize>,
    /// Topics in which the next number may be any that is higher.
    anew: BTreeSet<usize>,
    received: u64,
    /// How many were due, and how many of those were dropped.
    account: Option<(u64, u64)>,
    counts: Arc<Counts>,
}

/// One connection after the other, until the time is over.
pub(crate) async fn come_and_go(
    url: String,
    topics: usize,
    mut chances: Chances,
    end: Instant,
    counts: Arc<Counts>,
) {
    sleep(Duration::from_millis(chances.below(3000))).await;
    while Instant::now() < end {
        let may_miss = chances.below(2) == 0;
        let path = if may_miss { "drop" } else { "close" };
        let connected = timeout(LONG, Client::connect(format!("{url}/{path}")));
        let socket = match connected.await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => {
                counts.fault(format!("no connection: {error:?}"));
                continue;
            }
            Err(_) => {
                counts.fault("the handshake is stuck".to_owned());
                continue;
            }
        };
        counts.connections.fetch_add(1, Relaxed);
        let mut seen = Seen::new(socket, may_miss, counts.clone());
        if timeout(LONG, seen.live(topics, &mut chances, end)).await.is_err() {
            counts.fault(format!("a client is stuck: {:?}", seen.socket.socket()));
        }
        counts.received.fetch_add(seen.received, Relaxed);
    }
}

/// Reads one topic from first to last, and misses nothing.
pub(crate) async fn witness(url: String, topic: usize, counts: Arc<Counts>) {
    let socket = Client::connect(url).await.expect("a connection");
    let mut seen = Seen::new(socket, false, counts.clone());
    seen.say(format!("subscribe {topic}"));
    loop {
        match seen.socket.recv().await {
            Ok(Some(message)) => {
                match message.as_text().and_then(|text| text.strip_prefix("goodbye ")) {
                    Some(last) => {
                        let known = seen.last.get(&topic).copied().unwrap_or(0);
                        if last.parse() != Ok(known) {
                            counts.fault(format!("a witness has seen {known} of {last}"));
                        }
                        seen.socket.close(CloseCode::NORMAL, "").await;
                        return;
                    }
                    None => seen.take(&message),
                }
            }
            end => return counts.fault(format!("a witness is sent away: {end:?}")),
        }
    }
}

impl Seen {
    fn new(socket: WebSocket, may_miss: bool, counts: Arc<Counts>) -> Self {
        let (last, subscribed, anew, received, account) = Default::default();
        Self { socket, may_miss, last, subscribed, anew, received, account, counts }
    }

    /// Says it, if the connection is open. It does not wait: who waits to be heard while it does not
    /// read may wait for ever.
    fn say(&self, text: String) {
        self.socket.socket().send(text);
    }

    async fn live(&mut self, topics: usize, chances: &mut Chances, end: Instant) {
        for _ in 0..5 + chances.below(30) {
            let topic = chances.below(topics as u64) as usize;
            match chances.below(20) {
                0..=4 => {
                    if self.subscribed.insert(topic) {
                        self.anew.insert(topic);
                    }
                    self.say(format!("subscribe {topic}"));
                }
                5 => {
                    self.subscribed.remove(&topic);
                    self.anew.insert(topic);
                    self.say(format!("unsubscribe {topic}"));
                }
                6 => self.say(format!("publish {topic} {}", chances.below(20_000))),
                7 | 8 => self.say(format!("publish {topic} {}", chances.below(400))),
                // It stalls.
                9 => sleep(Duration::from_millis(200 + chances.below(1800))).await,
                _ => {
                    let time = Duration::from_millis(chances.below(2000));
                    if !self.read_for(time).await {
                        return;
                    }
                }
            }
            if Instant::now() > end {
                break;
            }
        }
        match chances.below(20) {
            0..=11 => self.settle().await,
            12..=14 => {
                self.say("kick".to_owned());
                self.read_to_the_end().await;
            }
            15 | 16 => {
                self.socket.close(CloseCode::NORMAL, "").await;
                self.counts.closed.fetch_add(1, Relaxed);
            }
            17 => {
                // It stalls until it is cut, or that takes too long.
                sleep(Duration::from_secs(7)).await;
                self.socket.socket().terminate();
                self.counts.vanished.fetch_add(1, Relaxed);
            }
            _ => {
                self.socket.socket().terminate();
                self.counts.vanished.fetch_add(1, Relaxed);
            }
        }
    }

    /// Reads for a while; false at the end.
    async fn read_for(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match timeout(left, self.socket.recv()).await {
                Err(_) => return true,
                Ok(Ok(Some(message))) => self.take(&message),
                Ok(_) => {
                    self.on_end().await;
                    return false;
                }
            }
        }
    }

    async fn read_to_the_end(&mut self) {
        loop {
            match self.socket.recv().await {
                Ok(Some(message)) => self.take(&message),
                _ => return self.on_end().await,
            }
        }
    }

    /// Asks what was due, reads until it is told, and compares.
    async fn settle(&mut self) {
        self.say("account".to_owned());
        while self.account.is_none() {
            match self.socket.recv().await {
                Ok(Some(message)) => self.take(&message),
                _ => return self.on_end().await,
            }
        }
        if let Some((due, dropped)) = self.account {
            if self.received + dropped != due {
                let received = self.received;
                self.counts.fault(format!("{received} of {due} have come, {dropped} were dropped"));
            }
            self.counts.missed.fetch_add(dropped, Relaxed);
        }
        self.socket.close(CloseCode::NORMAL, "").await;
        self.counts.settled.fetch_add(1, Relaxed);
    }

    async fn on_end(&mut self) {
        let ended = match self.socket.socket().closed().await {
            close if close.code == CloseCode::TRY_AGAIN => &self.counts.too_slow,
            close if close.clean => &self.counts.closed,
            // What was sent to it before it was cut may be lost with a reset.
            _ => &self.counts.vanished,
        };
        ended.fetch_add(1, Relaxed);
    }

    /// Checks that a message is the next one.
    fn take(&mut self, message: &Message<'_>) {
        let mut words = message.as_text().unwrap_or_default().split(' ');
        let mut word = || words.next().unwrap_or_default();
        let first = word();
        if first == "account" {
            self.account = word().parse().ok().zip(word().parse().ok());
            return;
        }
        let (Ok(topic), Ok(number)) = (first.parse::<usize>(), word().parse::<u64>()) else {
            return self.counts.fault(format!("{message:?} is no message"));
        };
        self.received += 1;
        let last = self.last.insert(topic, number);
        let may_skip = self.may_miss || last.is_none() || self.anew.contains(&topic);
        let last = last.unwrap_or(0);
        if number <= last || !may_skip && number != last + 1 {
            self.counts.fault(format!("{number} comes behind {last} of topic {topic}"));
        }
    }
}
