//! What do topics, subscriptions and publications cost in memory, and is all of it given back?
//!
//! One test, as the figures are the whole process's.

#[path = "../memory/counting.rs"]
mod counting;
#[path = "../util/handed.rs"]
mod handed;

use std::{
    io::Write,
    time::{Duration, Instant},
};

use serde_json::json;
use sockeye::{Config, Hub, Socket, testing::Peer};

use crate::counting::{Usage, usage};

/// As many as make the tables of a topic the largest for their number. Without optimisation a
/// connection takes a millisecond to make, and two seconds are enough.
const SUBSCRIBERS: usize = if cfg!(debug_assertions) { 3600 } else { 114_800 };

const TOPICS: usize = 100_000;

async fn connect(hub: &Hub) -> (Socket, Peer) {
    let config = Config::default().hub(hub.clone()).no_keep_alive();
    handed::connect_over(config, |connect| connect).await
}

/// Lets the tasks run that are ready.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

#[tokio::test]
async fn what_a_hub_holds_is_little_and_is_given_back() {
    let hub = Hub::new();
    topics(&hub).await;
    let mut connections = Vec::new();
    for _ in 0..SUBSCRIBERS {
        connections.push(connect(&hub).await);
    }
    settle().await;
    subscriptions(&connections);
    publications(&hub, &mut connections).await;
    unsubscribing(&connections);
    drop(connections);
    while !hub.sockets().is_empty() {
        settle().await;
    }
    ends().await;
}

/// Many topics with one subscriber each.
async fn topics(hub: &Hub) {
    let (socket, _peer) = connect(hub).await;
    let names: Vec<_> = (0..TOPICS).map(|number| format!("topic {number:06}")).collect();
    let (before, mut most) = (usage(), 0.0_f64);
    for (number, name) in names.iter().enumerate() {
        socket.subscribe(name);
        if number >= TOPICS / 10 {
            most = most.max(bytes_since(before) / (number + 1) as f64);
        }
    }
    say(&format!(
        "{:.0} bytes and {:.1} blocks for each of {TOPICS} topics; {most:.0} at worst",
        bytes_since(before) / TOPICS as f64,
        (usage().blocks - before.blocks) as f64 / TOPICS as f64
    ));
    assert!(most <= 500.0, "{most} bytes for a topic");
    for name in &names {
        assert!(socket.unsubscribe(name));
    }
    assert!(hub.topics().is_empty());
    let left = bytes_since(before);
    assert!(left <= 64.0 * 1024.0, "{left} bytes are left of {TOPICS} topics");
}

/// One topic with many subscribers.
fn subscriptions(connections: &[(Socket, Peer)]) {
    let (before, mut most) = (usage(), 0.0_f64);
    for (number, (socket, _)) in connections.iter().enumerate() {
        socket.subscribe("news");
        if number >= 1000 {
            most = most.max(bytes_since(before) / (number + 1) as f64);
        }
    }
    let count = connections.len();
    let each = bytes_since(before) / count as f64;
    say(&format!("{each:.0} bytes for each of {count} subscriptions; {most:.0} at worst"));
    assert!(most <= 100.0, "{most} bytes for a subscription");
}

/// How often memory is asked for, for one message to so many.
async fn publications(hub: &Hub, connections: &mut [(Socket, Peer)]) {
    let mut calls = Vec::new();
    for count in [1, 10, 100, 1000] {
        let topic = format!("for {count}");
        for (socket, _) in &connections[..count] {
            socket.subscribe(&topic);
        }
        let mut last = 0;
        let mut took = Duration::ZERO;
        // The first rounds make the queues what they are.
        for _ in 0..5 {
            let (before, began) = (usage(), Instant::now());
            assert_eq!(hub.publish(&topic, "a message that is not long").queued, count);
            (last, took) = (usage().calls - before.calls, began.elapsed());
            for (_, peer) in &mut connections[..count] {
                assert_eq!(peer.recv_text().await, "a message that is not long");
            }
            settle().await;
        }
        calls.push(last);
        say(&format!("a message to {count} takes {took:?}"));
        for (socket, _) in &connections[..count] {
            socket.unsubscribe(&topic);
        }
    }
    say(&format!("calls of the allocator for a message to 1, 10, 100, 1000: {calls:?}"));
    assert!(calls.iter().all(|calls| *calls <= 4), "{calls:?} calls of the allocator");

    // Beyond what a thread keeps ready for its connections, each needs a queue to wait in.
    let count = connections.len();
    for _ in 0..2 {
        let (before, began) = (usage(), Instant::now());
        assert_eq!(hub.publish("news", "a message that is not long").queued, count);
        let (took, calls) = (began.elapsed(), usage().calls - before.calls);
        let each_1000 = took.mul_f64(1000.0 / count as f64);
        say(&format!("{calls} calls for a message to {count}, {each_1000:?} for each 1000"));
        assert!(calls <= 2 * count + 4, "{calls} calls of the allocator");
        for (_, peer) in &mut *connections {
            peer.recv_text().await;
        }
        settle().await;
    }
    // By reference, a long one is one block for all.
    let before = usage();
    hub.publish("news", "x".repeat(64 * 1024));
    let each = bytes_since(before) / count as f64;
    say(&format!("{each:.0} bytes for each receiver of a message of 64 KiB"));
    assert!(each <= 1024.0, "{each} bytes for each receiver");
}

/// The time for each unsubscription, told and not judged, among few and among many.
fn unsubscribing(connections: &[(Socket, Peer)]) {
    let time = |count: usize, topic: &str| {
        for (socket, _) in &connections[..count] {
            socket.subscribe(topic);
        }
        let began = Instant::now();
        for (socket, _) in &connections[..500] {
            assert!(socket.unsubscribe(topic));
        }
        began.elapsed() / 500
    };
    let (few, many) = (time(1000, "few"), time(connections.len(), "news"));
    say(&format!("an unsubscription takes {few:?} of 1000, {many:?} of {}", connections.len()));
}

/// Connections that come, hold all there is to hold, and end.
async fn ends() {
    let hub = Hub::new();
    let mut after = Vec::new();
    for round in 0..6 {
        let mut connections = Vec::new();
        for number in 0..50 {
            let (socket, peer) = connect(&hub).await;
            socket.identify(&format!("user {}", number % 7));
            for place in 0..10 {
                let name = format!("round {round} place {place}");
                socket.subscribe(&name);
                let room = hub.room(name);
                room.join(&socket);
                room.announce(|diff| serde_json::to_string(diff).ok());
                room.presence().track(&socket, json!({"number": number})).unwrap();
            }
            connections.push((socket, peer));
        }
        hub.broadcast("hello");
        drop(connections);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !hub.sockets().is_empty() {
            assert!(Instant::now() < deadline, "they end");
            settle().await;
        }
        // What is to be announced waits for the end of its window.
        tokio::time::sleep(2 * sockeye::HubOptions::default().announce_window).await;
        settle().await;
        after.push(usage());
    }
    say(&format!("after each round: {after:?}"));
    let [.., before, last] = after[..] else { unreachable!("there are six") };
    assert!(last.blocks <= before.blocks + 8, "blocks are left");
    assert!(last.bytes <= before.bytes + 4096, "bytes are left");
}

fn bytes_since(before: Usage) -> f64 {
    usage().bytes as f64 - before.bytes as f64
}
