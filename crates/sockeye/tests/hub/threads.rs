//! Many threads at a time: is there one order for all, and is nobody lost between two of them?

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;
use sockeye::{Config, Hub, OpCode, Overflow, PresenceChange, Socket, testing::Peer};

use super::{connect, connect_with};

/// More than any wait here takes.
const LONG: Duration = Duration::from_secs(60);

/// What a peer receives until the message "end".
async fn received(mut peer: Peer) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let frame = peer.recv().await.expect("it is open");
        assert_eq!(frame.opcode, OpCode::Text);
        let text = String::from_utf8(frame.payload.into()).unwrap();
        if text == "end" {
            return texts;
        }
        texts.push(text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn all_see_one_order_of_a_topic_whoever_publishes_and_whoever_comes_and_goes() {
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 1000;
    let hub = Hub::new();
    let config = Config::default().hub(hub.clone()).outbox_limit(64 * 1024 * 1024);
    let mut staying = Vec::new();
    let mut readers = Vec::new();
    for _ in 0..6 {
        let (socket, peer) = connect_with(config.clone()).await;
        socket.subscribe("news");
        staying.push(socket);
        readers.push(tokio::spawn(received(peer)));
    }
    let mut coming = Vec::new();
    for _ in 0..3 {
        let (socket, peer) = connect_with(config.clone()).await;
        coming.push(socket);
        readers.push(tokio::spawn(received(peer)));
    }
    let start = Arc::new(Barrier::new(PUBLISHERS + 1));
    let left = Arc::new(AtomicUsize::new(PUBLISHERS));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (hub, start, left) = (hub.clone(), start.clone(), left.clone());
            thread::spawn(move || {
                start.wait();
                let mut sent = 0;
                for number in 0..MESSAGES {
                    let report = hub.publish("news", format!("{publisher} {number}"));
                    assert!((6..=9).contains(&report.sent()) && report.dropped == 0);
                    sent += report.sent();
                }
                left.fetch_sub(1, Ordering::Relaxed);
                sent
            })
        })
        .collect();
    let churn = thread::spawn({
        let (coming, left) = (coming.clone(), left.clone());
        move || {
            start.wait();
            while left.load(Ordering::Relaxed) > 0 {
                for socket in &coming {
                    socket.subscribe("news");
                }
                thread::yield_now();
                for socket in &coming {
                    socket.send("away");
                    socket.unsubscribe("news");
                    socket.send("back");
                }
            }
        }
    });
    let sent: usize = publishers.into_iter().map(|publisher| publisher.join().unwrap()).sum();
    churn.join().unwrap();
    staying.iter().chain(&coming).for_each(|socket| {
        socket.send("end");
    });
    let mut all = Vec::new();
    for reader in readers {
        all.push(tokio::time::timeout(LONG, reader).await.expect("in time").unwrap());
    }

    let is_news = |text: &&String| *text != "away" && *text != "back";
    let count: usize = all.iter().map(|texts| texts.iter().filter(is_news).count()).sum();
    assert_eq!(count, sent, "as many as the reports say");
    let order = &all[0];
    assert_eq!(order.len(), PUBLISHERS * MESSAGES);
    for texts in &all[..6] {
        assert!(texts == order, "all see the same order");
    }
    let places: BTreeMap<_, _> = order.iter().zip(0..).collect();
    for publisher in 0..PUBLISHERS {
        let own: Vec<_> =
            (0..MESSAGES).map(|number| places[&format!("{publisher} {number}")]).collect();
        assert!(own.is_sorted(), "each publisher's are in the order of its calls");
    }
    for texts in &all[6..] {
        let seen: Vec<i32> = texts.iter().filter(is_news).map(|text| places[text]).collect();
        assert!(seen.is_sorted_by(|one, next| one < next), "no other order, and none twice");
        // What came after a "back" and before an "away" came without a hole.
        for stay in texts.split(|text| text == "back") {
            let stay: Vec<i32> =
                stay.iter().take_while(|text| *text != "away").map(|text| places[text]).collect();
            assert!(stay.is_sorted_by(|one, next| one + 1 == *next), "no hole");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_of_presence_come_to_what_is_there_whoever_changes_it_on_how_many_threads() {
    let hub = Hub::new();
    let room = hub.room("lobby");
    let mut sockets: Vec<(Socket, Peer)> = Vec::new();
    for number in 0..8 {
        let (socket, peer) = connect(&hub).await;
        socket.identify(["ana", "bob", "eve"][number % 3]);
        sockets.push((socket, peer));
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (is_over, mut watch) = (is_over.clone(), room.presence().watch());
            tokio::spawn(async move {
                let mut version = watch.snapshot().version;
                let mut mirror: BTreeMap<_, _> = BTreeMap::new();
                // The last change is awaited by its mark.
                loop {
                    let change = tokio::time::timeout(LONG, watch.changed()).await;
                    match change.expect("the mark comes") {
                        PresenceChange::Diff(diff) => {
                            version += 1;
                            assert_eq!(diff.version, version);
                            for now in diff.joined.iter().chain(&diff.updated) {
                                mirror.insert(now.key.clone(), now.metas.clone());
                            }
                            for then in &diff.left {
                                assert_eq!(mirror.remove(&then.key).as_ref(), Some(&then.metas));
                            }
                        }
                        PresenceChange::Lagged(now) => {
                            assert!(now.version > version + 64);
                            version = now.version;
                            let present = now.present.into_iter();
                            mirror = present.map(|present| (present.key, present.metas)).collect();
                        }
                        other => panic!("{other:?} is unknown"),
                    }
                    let is_mark = |metas: &Vec<serde_json::Value>| metas.contains(&json!("mark"));
                    if is_over.load(Ordering::Acquire) && mirror.values().any(is_mark) {
                        return mirror;
                    }
                }
            })
        })
        .collect();
    let threads: Vec<_> = sockets
        .chunks(2)
        .map(|pair| {
            let sockets: Vec<_> = pair.iter().map(|(socket, _)| socket.clone()).collect();
            let presence = room.presence();
            thread::spawn(move || {
                for number in 0..500 {
                    for socket in &sockets {
                        presence.track(socket, number).unwrap();
                        presence.update(socket, -number).unwrap();
                        if number % 3 == 0 {
                            presence.untrack(socket);
                        }
                    }
                    if number % 50 == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let (last, _to_last) = connect(&hub).await;
    is_over.store(true, Ordering::Release);
    room.presence().track(&last, "mark").unwrap();
    let list = room.presence().list().await;
    let expected: BTreeMap<_, _> =
        list.into_iter().map(|present| (present.key, present.metas)).collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), expected);
    }
}

/// Runs two things at the same time, often, and a third after each time.
fn side_by_side(
    rounds: usize,
    both: [&(dyn Fn() + Sync); 2],
    mut between: impl FnMut() -> Result<(), &'static str>,
) {
    // A panic in a round would leave the others waiting for the next one.
    let mut outcome = Ok(());
    let (start, end) = (Barrier::new(3), Barrier::new(3));
    thread::scope(|scope| {
        for run in both {
            scope.spawn(|| {
                for _ in 0..rounds {
                    start.wait();
                    run();
                    end.wait();
                }
            });
        }
        for _ in 0..rounds {
            start.wait();
            end.wait();
            outcome = outcome.and_then(|()| between());
        }
    });
    outcome.unwrap();
}

fn check(holds: bool, what: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(what) }
}

#[tokio::test]
async fn who_joins_while_the_last_member_leaves_is_a_member_is_told_and_leaves_nothing_behind() {
    let hub = Hub::new();
    let room = hub.room("lobby");
    let (ana, _to_ana) = connect(&hub).await;
    let (bob, _to_bob) = connect(&hub).await;
    assert!(room.join(&ana));
    let held = Arc::new(());
    let leave = || {
        room.leave(&ana);
    };
    let enter = || {
        room.join(&bob);
        let held = held.clone();
        room.announce(move |_| {
            let _ = &held;
            None::<String>
        });
    };
    side_by_side(3000, [&leave, &enter], || {
        let left = (room.members(), room.broadcast("").sent(), Arc::strong_count(&held));
        check(left == (vec![bob.clone()], 1, 2), "it is a member, and is to be told")?;
        check(room.leave(&bob) && room.is_empty(), "it has left")?;
        check(Arc::strong_count(&held) == 1, "the encoder goes with the last member")?;
        check(room.join(&ana), "it is there again")
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_connection_takes_while_it_ends_is_given_up_all_the_same() {
    let hub = Hub::new();
    for _ in 0..200 {
        let (ana, to_ana) = connect(&hub).await;
        let (start, socket) = (Arc::new(Barrier::new(2)), ana.clone());
        let taking = thread::spawn({
            let start = start.clone();
            move || {
                start.wait();
                let mut number = 0;
                while socket.subscribe(&format!("topic {number}")) {
                    let room = socket.hub().room(format!("room {number}"));
                    room.join(&socket);
                    let _ = room.presence().track(&socket, number);
                    socket.identify(&format!("user {number}"));
                    number += 1;
                }
                number
            }
        });
        start.wait();
        drop(to_ana);
        ana.closed().await;
        let number = taking.join().unwrap();
        tokio::time::timeout(LONG, async {
            while !hub.topics().is_empty() || !hub.rooms().await.is_empty() {
                tokio::task::yield_now().await;
            }
            for number in 0..=number {
                let (user, room) = (format!("user {number}"), format!("room {number}"));
                let presence = hub.room(room).presence();
                while presence.count().await > 0 || !hub.user(&user).sockets().is_empty() {
                    tokio::task::yield_now().await;
                }
            }
        })
        .await
        .expect("all is given up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_ones_among_many_publishers_are_counted_once_for_each_refusal() {
    let hub = Hub::new();
    let config = Config::default().hub(hub.clone());
    let config = config.backpressure(4096, 16 * 1024, Overflow::DropNewest);
    let (slow, to_slow) = connect_with(config).await;
    slow.subscribe("news");
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            let hub = hub.clone();
            thread::spawn(move || {
                let reports = (0..1000).map(|number| {
                    hub.publish("news", format!("{publisher} {number:04} {}", "x".repeat(200)))
                });
                reports.fold((0, 0), |(sent, dropped), report| {
                    (sent + report.sent(), dropped + report.dropped)
                })
            })
        })
        .collect();
    let (mut sent, mut dropped) = (0, 0);
    for publisher in publishers {
        let counts = publisher.join().unwrap();
        (sent, dropped) = (sent + counts.0, dropped + counts.1);
    }
    assert_eq!(sent + dropped, 4000);
    assert!(dropped > 0);
    assert_eq!((slow.dropped(), hub.dropped("news")), (dropped as u64, dropped as u64));
    let reading = tokio::spawn(received(to_slow));
    slow.flushed().await.unwrap();
    slow.send("end");
    let texts = reading.await.unwrap();
    assert_eq!(texts.len(), sent, "all that were not refused have come");
    for publisher in 0..4 {
        let start = format!("{publisher} ");
        let own: Vec<_> = texts.iter().filter(|text| text.starts_with(&start)).collect();
        assert!(own.is_sorted_by(|one, next| one < next));
    }
}
