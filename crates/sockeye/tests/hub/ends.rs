//! However connections end, and whoever panics: is anything left of them?

use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
    time::Duration,
};

use serde_json::json;
use sockeye::{
    Accept, Close, CloseCode, Config, Error, Handler, Handshake, Hub, HubOptions, Message, OpCode,
    Rejection, Result, Server, Session, Socket,
    axum::{Router, http::StatusCode},
    testing::{self, Faults, frame},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// More than any wait here takes.
const LONG: Duration = Duration::from_secs(20);

/// All that a connection can hold in its hub.
fn hold_all(socket: &Socket, held: &Arc<()>) {
    let hub = socket.hub();
    socket.identify("ana");
    for number in 0..20 {
        socket.subscribe(&format!("topic {number}"));
        let room = hub.room(format!("room {number}"));
        room.join(socket);
        let held = held.clone();
        room.announce(move |diff| {
            let _ = &held;
            serde_json::to_string(diff).ok()
        });
        room.presence().track(socket, json!({"number": number})).unwrap();
    }
    // It need not be a member.
    hub.room("elsewhere").presence().track(socket, 1).unwrap();
}

/// What a hub is when nobody is there.
async fn is_empty(hub: &Hub) -> bool {
    let mut present = hub.room("elsewhere").presence().count().await;
    for number in 0..20 {
        present += hub.room(format!("room {number}")).presence().count().await;
    }
    hub.sockets().is_empty()
        && hub.topics().is_empty()
        && hub.rooms().await.is_empty()
        && hub.user("ana").sockets().is_empty()
        && present == 0
}

/// Nothing is left in the hub, and nobody holds `held` but the test.
async fn assert_empty(hub: &Hub, held: &Arc<()>, case: &str) {
    let waited = tokio::time::timeout(LONG, async {
        while !is_empty(hub).await || Arc::strong_count(held) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let left = (hub.sockets().len(), hub.topics(), Arc::strong_count(held));
    assert!(waited.await.is_ok(), "{case}: something is left: {left:?}");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Attach,
    Open,
    Message,
    Ping,
    Pong,
    Drain,
    Error,
    Close,
}

/// Holds all from its opening on, and panics in one method.
struct Panics(Method, Arc<()>);

impl Panics {
    fn at(&self, method: Method) {
        assert!(self.0 != method, "it is to panic in {method:?}");
    }
}

impl Handler for Panics {
    type Data = Arc<()>;

    async fn attach(&self, _: &mut Handshake) -> Result<Accept<Arc<()>>, Rejection> {
        self.at(Method::Attach);
        Ok(Accept::new(self.1.clone()))
    }

    async fn open(&self, session: &mut Session<Arc<()>>) -> Result {
        hold_all(session, &session.data);
        self.at(Method::Open);
        Ok(())
    }

    async fn message(&self, session: &mut Session<Arc<()>>, message: Message<'_>) -> Result {
        self.at(Method::Message);
        if message.as_text() == Some("fail") {
            return Err("as it is asked to".into());
        }
        session.send(vec![b'a'; 100 * 1024]);
        Ok(())
    }

    async fn ping(&self, _: &mut Session<Arc<()>>, _: &[u8]) -> Result {
        self.at(Method::Ping);
        Ok(())
    }

    async fn pong(&self, _: &mut Session<Arc<()>>, _: &[u8]) -> Result {
        self.at(Method::Pong);
        Ok(())
    }

    async fn drain(&self, _: &mut Session<Arc<()>>) -> Result {
        self.at(Method::Drain);
        Ok(())
    }

    async fn error(&self, _: &mut Session<Arc<()>>, _: &Error) -> Result {
        self.at(Method::Error);
        Ok(())
    }

    async fn close(&self, _: &mut Session<Arc<()>>, _: &Close) -> Result {
        self.at(Method::Close);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_in_any_method_leaves_nothing_in_the_hub() {
    use Method::{Attach, Close, Drain, Error, Message, Open, Ping, Pong};
    for method in [Attach, Open, Message, Ping, Pong, Drain, Error, Close] {
        let held = Arc::new(());
        for grace in [Duration::ZERO, Duration::from_secs(5)] {
            let hub = Hub::with(HubOptions::default().presence_grace(grace));
            let config = Config::default().hub(hub.clone());
            let connect = testing::connect_with(Panics(method, held.clone()), config);
            match connect.try_connect().await {
                Err(refused) => {
                    assert_eq!(method, Attach);
                    assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
                }
                Ok(mut peer) => {
                    // One after the other, all methods are called, until one panics.
                    let frames = [
                        frame(OpCode::Ping, true, b""),
                        frame(OpCode::Pong, true, b""),
                        frame(OpCode::Text, true, b"much"),
                        frame(OpCode::Text, true, b"fail"),
                    ];
                    // Once it has ended, some of it is not taken any more.
                    let _ = peer.try_send_raw(&frames.concat()).await;
                    let mut code = None;
                    while let Some(frame) = peer.recv().await {
                        if frame.opcode == OpCode::Close {
                            code = Some(frame.payload[..2].to_vec());
                            peer.send_close(CloseCode::INTERNAL_ERROR, "").await;
                        }
                    }
                    assert_eq!(code.as_deref(), Some(&1011_u16.to_be_bytes()[..]), "{method:?}");
                }
            }
            assert_empty(&hub, &held, &format!("{method:?}")).await;
        }
    }
}

/// Holds all, and stays.
fn holder(held: &Arc<()>) -> impl Handler {
    Holder(held.clone())
}

struct Holder(Arc<()>);

impl Handler for Holder {
    type Data = Arc<()>;

    async fn attach(&self, _: &mut Handshake) -> Result<Accept<Arc<()>>, Rejection> {
        Ok(Accept::new(self.0.clone()))
    }

    async fn open(&self, session: &mut Session<Arc<()>>) -> Result {
        hold_all(session, &session.data);
        session.send("ready");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_reset_anywhere_in_a_message_leaves_nothing_in_the_hub() {
    let held = Arc::new(());
    let message = frame(OpCode::Text, true, b"some text to be reset in");
    for byte in 1..=message.len() as u64 {
        let hub = Hub::new();
        let config = Config::default().hub(hub.clone());
        let reads = Faults::new().reset_at(byte).behind_handshake();
        let connect = testing::connect_with(holder(&held), config).faults(reads, Faults::new());
        let mut peer = connect.await;
        let _ = peer.try_send_raw(&message).await;
        let _ = peer.try_send_raw(&message).await;
        while peer.recv().await.is_some() {}
        assert_empty(&hub, &held, &format!("reset at {byte}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_reset_while_a_publication_is_written_leaves_nothing_in_the_hub() {
    let held = Arc::new(());
    for byte in [1, 2, 3, 10, 60, 200] {
        let hub = Hub::new();
        let config = Config::default().hub(hub.clone());
        let writes = Faults::new().reset_at(byte).behind_handshake();
        let connect = testing::connect_with(holder(&held), config).faults(Faults::new(), writes);
        let mut peer = connect.await;
        let mut report = hub.publish("topic 1", "x".repeat(100));
        while !hub.sockets().is_empty() {
            tokio::task::yield_now().await;
            report = hub.publish("topic 1", "x".repeat(100));
        }
        assert_eq!(report.sent() + report.dropped, 0);
        while peer.recv().await.is_some() {}
        assert_empty(&hub, &held, &format!("reset at {byte}")).await;
    }
}

#[test]
fn a_runtime_that_is_dropped_while_threads_publish_leaves_nothing_in_the_hub() {
    for (round, grace) in [0, 0, 0, 1, 1, 1].into_iter().enumerate() {
        let held = Arc::new(());
        let hub = Hub::with(HubOptions::default().presence_grace(Duration::from_secs(grace)));
        let runtime = match round % 2 {
            0 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
            _ => tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build(),
        };
        let runtime = runtime.unwrap();
        let peers = runtime.block_on(async {
            let mut peers = Vec::new();
            for _ in 0..20 {
                let config = Config::default().hub(hub.clone());
                let mut peer = testing::connect_with(holder(&held), config).await;
                while peer.recv().await.expect("a message").payload != "ready" {}
                peers.push(peer);
            }
            peers
        });
        let (stop, stopped) = mpsc::channel::<()>();
        let stopped = Arc::new(std::sync::Mutex::new(stopped));
        let publishers: Vec<_> = (0..2)
            .map(|_| {
                let (hub, stopped) = (hub.clone(), stopped.clone());
                std::thread::spawn(move || {
                    let mut sent = 0;
                    while stopped.lock().unwrap().try_recv() == Err(mpsc::TryRecvError::Empty) {
                        sent += hub.publish("topic 1", "news").sent();
                        hub.room("room 2").broadcast("news");
                        hub.user("ana").send("news");
                        hub.broadcast("news");
                    }
                    sent
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(5));
        drop(runtime);
        assert_eq!((hub.sockets().len(), hub.topics().len()), (0, 0));
        assert_eq!(hub.publish("topic 1", "to nobody").sent(), 0);
        drop(stop);
        for publisher in publishers {
            publisher.join().unwrap();
        }
        drop(peers);
        let check = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        check.block_on(assert_empty(&hub, &held, "a dropped runtime"));
    }
}

#[tokio::test]
async fn a_client_that_leaves_at_any_byte_of_the_handshake_leaves_nothing_in_the_hub() {
    let held = Arc::new(());
    let hub = Hub::new();
    let server = Server::new().hub(hub.clone()).ws("/", holder(&held));
    let server = server.bind("127.0.0.1:0").await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    for length in (1..request.len()).step_by(40).chain([request.len(); 30]) {
        let mut tcp = TcpStream::connect(server.local_addr()).await.unwrap();
        tcp.write_all(&request.as_bytes()[..length]).await.unwrap();
        // Some bytes of the answer, or none.
        if length == request.len() && hub.sockets().len().is_multiple_of(2) {
            tcp.read_exact(&mut [0; 7]).await.unwrap();
        }
        // With bytes unread, this resets the connection.
        drop(tcp);
    }
    // In memory too, where the stream is handed over in another way.
    for _ in 0..30 {
        let config = Config::default().hub(hub.clone());
        let mut stream = testing::connect_with(holder(&held), config).stream();
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    server.shutdown(LONG).await.unwrap();
    assert_eq!(server.connections(), 0);
    drop(server);
    // The routes are held by connections that end later.
    assert_empty(&hub, &held, "left early").await;
}

#[tokio::test]
async fn a_shutdown_leaves_nothing_in_the_hub_and_nothing_can_be_held_afterwards() {
    let held = Arc::new(());
    let hub = Hub::new();
    let server = Server::new().hub(hub.clone()).ws("/", holder(&held));
    let server = server.bind("127.0.0.1:0").await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let url = format!("ws://{}", server.local_addr());
        clients.push(sockeye::Client::connect(url).await.unwrap());
    }
    let sockets = hub.sockets();
    assert_eq!(sockets.len(), 5);
    let reading = tokio::spawn(async move {
        for mut client in clients {
            while client.recv().await.is_ok_and(|message| message.is_some()) {}
        }
    });
    server.shutdown(LONG).await.unwrap();
    reading.await.unwrap();
    drop(server);
    for socket in &sockets {
        hold_all(socket, &held);
    }
    assert_empty(&hub, &held, "after a shutdown").await;
}

#[tokio::test]
async fn who_leaves_all_rooms_is_in_none_and_stays_where_else_it_was() {
    let hub = Hub::new();
    let (ana, _to_ana) = super::connect(&hub).await;
    let rooms: Vec<_> = (0..5).map(|number| hub.room(format!("room {number}"))).collect();
    for room in &rooms {
        assert!(room.join(&ana));
        assert!(room.presence().track(&ana, 1).unwrap());
    }
    ana.subscribe("news");
    ana.identify("ana");
    assert_eq!(ana.rooms().into_iter().collect::<BTreeSet<_>>().len(), 5);
    ana.leave_all();
    ana.leave_all();
    assert!(ana.rooms().is_empty() && hub.rooms().await.is_empty());
    for room in &rooms {
        assert!(!room.has(&ana) && room.presence().list().await.is_empty());
        assert!(!room.presence().update(&ana, 2).unwrap());
    }
    assert_eq!(
        (ana.subscriptions(), ana.user()),
        (vec!["news".to_owned()], Some("ana".to_owned()))
    );
}

#[tokio::test]
async fn a_hub_goes_with_its_last_route_and_connection() {
    let held = Arc::new(());
    let hub = Hub::new();
    let room = hub.room("lobby");
    let owned = held.clone();
    let watching = tokio::spawn({
        let mut watch = room.presence().watch();
        async move {
            let _owned = owned;
            loop {
                watch.changed().await;
            }
        }
    });
    let router: Router = Router::new()
        .route("/", sockeye::ws_with(holder(&held), Config::default().hub(hub.clone())));
    let mut peer = testing::connect_to(router, "/").await;
    while peer.recv().await.expect("a message").payload != "ready" {}
    drop(peer);
    watching.abort();
    assert_empty(&hub, &held, "the last one").await;
}
