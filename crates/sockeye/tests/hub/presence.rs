//! Presence where it is not plain: other hubs, announcements, and rooms that are gone.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use serde_json::json;
use sockeye::{
    CloseCode, Config, Hub, HubOptions, PresenceChange, PresenceDiff, PresenceKey, PresenceWatch,
    Socket, testing::Peer,
};

use super::{connect, without_deadlock};

/// More than any wait here takes.
const LONG: Duration = Duration::from_secs(20);

/// An announcement in few words: who has come and who has gone.
fn in_words(diff: &PresenceDiff) -> Option<String> {
    let names = |list: &[sockeye::Present]| {
        list.iter().map(|present| present.key.to_string()).collect::<Vec<_>>().join(",")
    };
    Some(format!("{} +{} -{}", diff.version, names(&diff.joined), names(&diff.left)))
}

async fn named(hub: &Hub, name: &str) -> (Socket, Peer) {
    let (socket, peer) = connect(hub).await;
    assert!(socket.identify(name));
    (socket, peer)
}

async fn next(watch: &mut PresenceWatch) -> Arc<PresenceDiff> {
    match watch.changed().await {
        PresenceChange::Diff(diff) => diff,
        other => panic!("a diff was expected, and not {other:?}"),
    }
}

#[tokio::test]
async fn a_socket_of_another_hub_is_nowhere_in_this_one() {
    let (here, there) = (Hub::new(), Hub::new());
    let (socket, _peer) = named(&there, "ana").await;
    let (room, elsewhere) = (here.room("lobby"), there.room("lobby"));
    assert!(elsewhere.join(&socket));
    assert!(elsewhere.presence().track(&socket, 1).unwrap());

    assert!(!room.join(&socket) && !room.leave(&socket) && !room.has(&socket));
    assert!(!room.presence().track(&socket, 2).unwrap());
    assert!(!room.presence().update(&socket, 2).unwrap());
    assert!(!room.presence().untrack(&socket), "it is not present here");
    assert_eq!(room.send_to(socket.id(), "hello"), None);
    assert_eq!(room.broadcast_except(&socket, "hello").sent(), 0);
    assert_eq!(here.socket(socket.id()), None);

    let present = elsewhere.presence().list().await;
    assert_eq!(present.len(), 1, "it is present where it was");
    assert_eq!(present[0].metas, [json!(1)]);
    assert_eq!(elsewhere.members(), [socket]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_into_a_room_anew_is_not_told_who_had_left_it_before() {
    let hub = Hub::new();
    let room = hub.room("lobby");
    let (ana, mut to_ana) = named(&hub, "ana").await;
    let (bob, mut to_bob) = named(&hub, "bob").await;
    room.join(&ana);
    room.announce(in_words);
    room.presence().track(&ana, 1).unwrap();
    assert_eq!(to_ana.recv_text().await, "1 +ana -");

    // Within one window the room is gone and is there again.
    room.leave(&ana);
    room.join(&bob);
    room.announce(in_words);
    room.presence().track(&bob, 1).unwrap();
    let told = to_bob.recv_text().await;
    assert!(told.ends_with(" +bob -"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn announcements_come_in_the_order_of_the_changes_however_long_an_encoder_takes() {
    let hub = Hub::with(HubOptions::default().announce_window(Duration::ZERO));
    let room = hub.room("lobby");
    let (member, mut to_member) = connect(&hub).await;
    let (ana, _to_ana) = named(&hub, "ana").await;
    let (bob, _to_bob) = named(&hub, "bob").await;
    room.join(&member);
    let (began, has_begun) = mpsc::channel();
    let (another, others) = mpsc::channel();
    let others = Mutex::new(others);
    room.announce(move |diff| {
        if diff.version == 1 {
            began.send(()).unwrap();
            // Another announcement may come meanwhile, and must not: there is nothing else to wait for.
            let _ = others.lock().unwrap().recv_timeout(Duration::from_millis(300));
        } else {
            let _ = another.send(());
        }
        in_words(diff)
    });
    room.presence().track(&ana, 1).unwrap();
    tokio::task::spawn_blocking(move || has_begun.recv_timeout(LONG)).await.unwrap().unwrap();
    room.presence().track(&bob, 1).unwrap();
    assert_eq!(to_member.recv_text().await, "1 +ana -");
    assert_eq!(to_member.recv_text().await, "2 +bob -");
}

#[tokio::test]
async fn an_encoder_is_dropped_with_its_room_and_in_a_room_without_members_at_once() {
    let hub = Hub::new();
    let room = hub.room("lobby");
    let held = Arc::new(());
    let announce = || {
        let held = held.clone();
        room.announce(move |_| {
            let _ = &held;
            None::<String>
        });
    };
    announce();
    assert_eq!(Arc::strong_count(&held), 1, "nobody is there to be told");

    let (ana, to_ana) = named(&hub, "ana").await;
    room.join(&ana);
    announce();
    announce();
    assert_eq!(Arc::strong_count(&held), 2, "one takes the place of the other");
    room.presence().track(&ana, 1).unwrap();
    room.presence().untrack(&ana);
    assert_eq!(Arc::strong_count(&held), 2, "a member may become present again");
    drop(to_ana);
    ana.closed().await;
    while Arc::strong_count(&held) > 1 {
        tokio::task::yield_now().await;
    }
    assert!(!room.join(&ana), "it has ended");
    announce();
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn an_encoder_may_use_the_presence_that_it_belongs_to_when_it_is_dropped() {
    without_deadlock(async {
        let hub = Hub::new();
        let room = hub.room("lobby");
        let (ana, _to_ana) = named(&hub, "ana").await;
        room.join(&ana);
        let watch = room.presence().watch();
        room.announce(move |_| {
            let _ = &watch;
            None::<String>
        });
        room.announce(|_| None::<String>);
    });
}

#[tokio::test(start_paused = true)]
async fn an_encoder_that_panics_loses_its_announcement_alone() {
    let hub = Hub::new();
    let room = hub.room("lobby");
    let (ana, mut to_ana) = named(&hub, "ana").await;
    room.join(&ana);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    room.announce(move |diff| {
        assert!(counted.fetch_add(1, Ordering::Relaxed) > 0, "the first one panics");
        in_words(diff)
    });
    room.presence().track(&ana, 1).unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    room.presence().untrack(&ana);
    assert_eq!(to_ana.recv_text().await, "2 + -ana");
    room.presence().track(&ana, 2).unwrap();
    assert_eq!(to_ana.recv_text().await, "3 +ana -");
    room.leave(&ana);
    drop(to_ana);
}

#[tokio::test(start_paused = true)]
async fn what_comes_to_nothing_within_a_window_is_not_told() {
    let hub = Hub::new();
    let room = hub.room("lobby");
    let (member, mut to_member) = connect(&hub).await;
    let (ana, _to_ana) = named(&hub, "ana").await;
    room.join(&member);
    room.announce(in_words);
    room.presence().track(&ana, 1).unwrap();
    room.presence().untrack(&ana);
    tokio::time::sleep(Duration::from_millis(60)).await;
    room.presence().track(&ana, 1).unwrap();
    room.presence().update(&ana, 2).unwrap();
    assert_eq!(to_member.recv_text().await, "4 +ana -");
}

#[tokio::test(start_paused = true)]
async fn a_user_that_comes_back_within_the_grace_has_never_been_away() {
    let grace = Duration::from_secs(5);
    let hub = Hub::with(HubOptions::default().presence_grace(grace));
    let room = hub.room("lobby");
    let mut watch = room.presence().watch();
    let (ana, to_ana) = named(&hub, "ana").await;
    room.presence().track(&ana, "here").unwrap();
    assert_eq!(next(&mut watch).await.joined.len(), 1);
    drop(to_ana);
    ana.closed().await;
    tokio::time::sleep(grace - Duration::from_millis(100)).await;
    assert_eq!(room.presence().count().await, 1);
    let (again, to_ana) = named(&hub, "ana").await;
    room.presence().track(&again, "here").unwrap();
    tokio::time::sleep(2 * grace).await;
    assert_eq!(room.presence().count().await, 1);

    drop(to_ana);
    again.closed().await;
    let before = tokio::time::Instant::now();
    let diff = next(&mut watch).await;
    assert_eq!((diff.version, &diff.left[0].key), (2, &PresenceKey::User("ana".into())));
    assert!(before.elapsed() >= grace - Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_end_its_stream_is_in_no_room_after_the_close_frames() {
    let hub = Hub::new();
    let room = hub.room("lobby");
    let (ana, mut to_ana) = connect_slowly(&hub).await;
    room.join(&ana);
    ana.subscribe("news");
    ana.identify("ana");
    room.presence().track(&ana, 1).unwrap();
    to_ana.send_close(CloseCode::NORMAL, "").await;
    to_ana.recv_close().await;
    to_ana.recv_end().await;
    ana.closed().await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(room.is_empty(), "it has ended, and lingers");
    assert_eq!((room.presence().count().await, hub.topics().len()), (0, 0));
    assert_eq!(hub.user("ana").sockets(), []);
    drop(to_ana);
}

async fn connect_slowly(hub: &Hub) -> (Socket, Peer) {
    super::connect_with(Config::default().hub(hub.clone()).close_timeout(LONG)).await
}
