//! Topics: who gets what is published, and what the report says of it.

use serde_json::json;
use sockeye::{CloseCode, Hub, PresenceChange};

use super::connect;

#[tokio::test]
async fn a_topic_reaches_its_subscribers_and_a_socket_all_but_itself() {
    let hub = Hub::new();
    let (ana, mut to_ana) = connect(&hub).await;
    let (bob, mut to_bob) = connect(&hub).await;
    let (_eve, mut to_eve) = connect(&hub).await;
    assert!(ana.subscribe("news") && bob.subscribe("news"));
    assert!(!ana.subscribe("news"), "it is subscribed already");
    assert_eq!((hub.subscribers("news"), hub.topics()), (2, vec!["news".to_owned()]));

    let report = hub.publish("news", "to all");
    assert_eq!((report.queued, report.backpressured, report.dropped), (2, 0, 0));
    assert_eq!(ana.publish("news", "from ana").queued, 1);
    assert_eq!(hub.publish("nothing", "to nobody").sent(), 0);
    hub.broadcast("everyone");
    assert_eq!(to_ana.recv_text().await, "to all");
    assert_eq!(to_ana.recv_text().await, "everyone");
    assert_eq!(to_bob.recv_text().await, "to all");
    assert_eq!(to_bob.recv_text().await, "from ana");
    assert_eq!(to_bob.recv_text().await, "everyone");
    assert_eq!(to_eve.recv_text().await, "everyone");

    assert!(ana.unsubscribe("news") && !ana.unsubscribe("news"));
    drop(to_bob);
    bob.closed().await;
    while !hub.topics().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!bob.subscribe("news"), "it has ended");
    assert_eq!(hub.socket(ana.id()), Some(ana.clone()));
    assert_eq!(hub.socket(bob.id()), None);
}

#[tokio::test(start_paused = true)]
async fn presence_counts_a_user_once_and_is_told_to_the_room() {
    let hub = Hub::new();
    let room = hub.room("lobby");
    let mut watch = room.presence().watch();
    let (one, mut to_one) = connect(&hub).await;
    let (two, to_two) = connect(&hub).await;
    room.join(&one);
    room.announce(|diff| serde_json::to_string(diff).ok());
    for socket in [&one, &two] {
        socket.identify("ana");
        room.presence().track(socket, json!({"at": 1})).unwrap();
    }
    assert_eq!(room.presence().count().await, 1);
    let PresenceChange::Diff(diff) = watch.changed().await else { panic!("no diff") };
    assert_eq!((diff.version, diff.joined.len()), (1, 1));
    let PresenceChange::Diff(diff) = watch.changed().await else { panic!("no diff") };
    assert_eq!((diff.version, diff.updated[0].metas.len()), (2, 2));
    let told = to_one.recv_text().await;
    assert_eq!(
        told,
        r#"{"version":2,"joined":[{"key":"ana","metas":[{"at":1},{"at":1}]}],"updated":[],"left":[]}"#
    );
    hub.user("ana").send("hello");
    assert_eq!(to_one.recv_text().await, "hello");
    drop(to_two);
    two.closed().await;
    assert_eq!(hub.user("ana").close(CloseCode::NORMAL, "bye"), 1);
    to_one.recv_close().await;
    drop(to_one);
    one.closed().await;
    let PresenceChange::Diff(_) = watch.changed().await else { panic!("no diff") };
    let PresenceChange::Diff(diff) = watch.changed().await else { panic!("no diff") };
    assert_eq!(diff.left.len(), 1);
    assert!(hub.rooms().await.is_empty());
}
