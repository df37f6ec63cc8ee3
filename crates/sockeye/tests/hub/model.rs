//! Does the hub agree with a model that is too simple to be wrong, whatever happens in which order?

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_core::Stream;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use sockeye::{
    CloseCode, Config, Hub, HubOptions, OpCode, PresenceChange, PresenceDiff, PresenceKey,
    PresenceSnapshot, PresenceWatch, PublishReport, Socket,
    testing::{Peer, frame},
};
use tokio::time::Instant;

use super::connect_with;

const TOPICS: [&str; 2] = ["news", "prices"];
const ROOMS: [&str; 2] = ["lobby", "news"];
const USERS: [&str; 2] = ["ana", "news"];
const CONNECTIONS: usize = 5;
const GRACE: Duration = Duration::from_secs(5);

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The peer says so.
    Peer,
    /// This side says so.
    Local,
    /// It is cut.
    Cut,
    /// The peer is gone.
    Gone,
    /// The peer is gone in the middle of a message.
    MidMessage,
}

/// Connections, topics, rooms and users are numbers, of those that there are.
#[derive(Clone, Debug)]
enum Op {
    Connect(usize),
    End(usize, End),
    EndUser(usize),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Join(usize, usize),
    Leave(usize, usize),
    LeaveAll(usize),
    Identify(usize, usize),
    Track(usize, usize, u8),
    Update(usize, usize, u8),
    Untrack(usize, usize),
    /// So many changes at once that who does not read is too far behind.
    Burst(usize, usize),
    Publish(usize),
    PublishFrom(usize, usize),
    Tell(usize),
    TellOthers(usize, usize),
    TellOne(usize, usize),
    TellUser(usize),
    TellAll,
    Receive(usize),
    Watch(usize),
    Unwatch,
    Read(usize, usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let c = || 0..CONNECTIONS;
    let n = || 0..2_usize;
    let end = || {
        prop_oneof![
            Just(End::Peer),
            Just(End::Local),
            Just(End::Cut),
            Just(End::Gone),
            Just(End::MidMessage)
        ]
    };
    prop_oneof![
        6 => c().prop_map(Op::Connect),
        3 => (c(), end()).prop_map(|(c, end)| Op::End(c, end)),
        1 => n().prop_map(Op::EndUser),
        3 => (c(), n()).prop_map(|(c, t)| Op::Subscribe(c, t)),
        2 => (c(), n()).prop_map(|(c, t)| Op::Unsubscribe(c, t)),
        3 => (c(), n()).prop_map(|(c, r)| Op::Join(c, r)),
        2 => (c(), n()).prop_map(|(c, r)| Op::Leave(c, r)),
        1 => c().prop_map(Op::LeaveAll),
        3 => (c(), n()).prop_map(|(c, u)| Op::Identify(c, u)),
        5 => (c(), n(), 0..3_u8).prop_map(|(c, r, meta)| Op::Track(c, r, meta)),
        2 => (c(), n(), 0..3_u8).prop_map(|(c, r, meta)| Op::Update(c, r, meta)),
        2 => (c(), n()).prop_map(|(c, r)| Op::Untrack(c, r)),
        1 => (c(), n()).prop_map(|(c, r)| Op::Burst(c, r)),
        2 => n().prop_map(Op::Publish),
        2 => (c(), n()).prop_map(|(c, t)| Op::PublishFrom(c, t)),
        2 => n().prop_map(Op::Tell),
        1 => (c(), n()).prop_map(|(c, r)| Op::TellOthers(c, r)),
        1 => (c(), n()).prop_map(|(c, r)| Op::TellOne(c, r)),
        2 => n().prop_map(Op::TellUser),
        1 => Just(Op::TellAll),
        2 => c().prop_map(Op::Receive),
        1 => n().prop_map(Op::Watch),
        1 => Just(Op::Unwatch),
        3 => (0..4_usize, 1..9_usize).prop_map(|(watch, most)| Op::Read(watch, most)),
        3 => prop_oneof![Just(20), Just(1007), Just(3011), Just(7001)].prop_map(Op::Wait),
    ]
}

/// A connection, and what the model knows of it.
struct Connection {
    socket: Socket,
    peer: Peer,
    topics: BTreeSet<usize>,
    rooms: BTreeSet<usize>,
    user: Option<usize>,
    /// In which rooms it is present, and as whom.
    present: BTreeMap<usize, PresenceKey>,
    to_come: VecDeque<String>,
}

/// A connection that is present under a key.
#[derive(Clone)]
struct Tracked {
    socket: Socket,
    meta: Value,
    /// It has ended, and leaves at this time unless it comes back.
    leaves: Option<Instant>,
}

type Mirror = BTreeMap<PresenceKey, Vec<Value>>;

#[derive(Default)]
struct Presence {
    entries: BTreeMap<PresenceKey, Vec<Tracked>>,
    changes: u64,
}

impl Presence {
    fn mirror(&self) -> Mirror {
        let metas = |tracked: &Vec<Tracked>| tracked.iter().map(|t| t.meta.clone()).collect();
        self.entries.iter().map(|(key, tracked)| (key.clone(), metas(tracked))).collect()
    }

    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<PresenceKey, Vec<Tracked>>)) {
        let before = self.mirror();
        change(&mut self.entries);
        self.entries.retain(|_, tracked| !tracked.is_empty());
        self.changes += u64::from(self.mirror() != before);
    }

    fn put(&mut self, key: &PresenceKey, socket: &Socket, meta: Value) {
        self.change(|entries| {
            let tracked = entries.entry(key.clone()).or_default();
            match tracked.iter_mut().find(|known| known.socket == *socket) {
                Some(known) => known.meta = meta,
                None => {
                    tracked.retain(|known| known.leaves.is_none());
                    tracked.push(Tracked { socket: socket.clone(), meta, leaves: None });
                }
            }
        });
    }

    fn remove(&mut self, key: &PresenceKey, socket: &Socket) {
        self.change(|entries| {
            if let Some(tracked) = entries.get_mut(key) {
                tracked.retain(|known| known.socket != *socket);
            }
        });
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let is_over = |known: &Tracked| known.leaves.is_some_and(|leaves| leaves <= now);
        for key in self.entries.keys().cloned().collect::<Vec<_>>() {
            self.change(|entries| {
                if let Some(tracked) = entries.get_mut(&key) {
                    tracked.retain(|known| !is_over(known));
                }
            });
        }
    }
}

/// A reader, what it was told, and the version of that.
struct Reader {
    room: usize,
    watch: PresenceWatch,
    mirror: Mirror,
    version: u64,
    /// The version when it began, in the count of the model.
    began: u64,
}

fn mirror(snapshot: &PresenceSnapshot) -> Mirror {
    snapshot.present.iter().map(|now| (now.key.clone(), now.metas.clone())).collect()
}

impl Reader {
    fn new(hub: &Hub, room: usize, model: &Presence) -> Self {
        let watch = hub.room(ROOMS[room]).presence().watch();
        let (mirror, version) = (mirror(watch.snapshot()), watch.snapshot().version);
        assert_eq!(mirror, model.mirror());
        Self { room, watch, mirror, version, began: model.changes.wrapping_sub(version) }
    }

    /// Reads what is there, `most` changes of it.
    fn read(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let mut cx = Context::from_waker(Waker::noop());
            match pin!(&mut self.watch).poll_next(&mut cx) {
                Poll::Pending => return false,
                Poll::Ready(None) => panic!("it never ends"),
                Poll::Ready(Some(PresenceChange::Diff(diff))) => self.apply(&diff),
                Poll::Ready(Some(PresenceChange::Lagged(now))) => {
                    assert!(now.version > self.version + 64, "it was not far behind");
                    (self.mirror, self.version) = (mirror(&now), now.version);
                }
                Poll::Ready(Some(other)) => panic!("{other:?} is unknown"),
            }
        }
        true
    }

    fn apply(&mut self, diff: &PresenceDiff) {
        self.version += 1;
        assert_eq!(diff.version, self.version, "no change is left out, and none told twice");
        assert_eq!(diff.joined.len() + diff.updated.len() + diff.left.len(), 1);
        for now in &diff.joined {
            assert_eq!(self.mirror.insert(now.key.clone(), now.metas.clone()), None);
        }
        for now in &diff.updated {
            let before = self.mirror.insert(now.key.clone(), now.metas.clone());
            assert!(before.is_some_and(|before| before != now.metas));
        }
        for then in &diff.left {
            assert_eq!(self.mirror.remove(&then.key).as_ref(), Some(&then.metas));
        }
    }

    /// Reads all there is: then it knows what everybody may know.
    fn catch_up(&mut self, model: &Presence) {
        while self.read(64) {}
        assert_eq!(self.mirror, model.mirror());
        assert_eq!(self.version, model.changes.wrapping_sub(self.began));
    }
}

struct World {
    hub: Hub,
    grace: Duration,
    connections: [Option<Connection>; CONNECTIONS],
    presence: [Presence; 2],
    readers: Vec<Reader>,
    sent: usize,
}

impl World {
    fn new(grace: Duration) -> Self {
        let hub = Hub::with(HubOptions::default().presence_grace(grace));
        let presence = <[Presence; 2]>::default();
        // One room has a reader from the first to the last, the other only now and then.
        let readers = vec![Reader::new(&hub, 0, &presence[0])];
        Self { hub, grace, connections: Default::default(), presence, readers, sent: 0 }
    }

    fn open(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.connections.iter_mut().flatten()
    }

    /// A message to those of the connections whom it concerns; who is told how many they were.
    fn tell(
        &mut self,
        concerns: impl Fn(&Connection) -> bool,
        send: impl FnOnce(&Self, &str) -> PublishReport,
    ) {
        self.sent += 1;
        let text = format!("message {}", self.sent);
        let report = send(self, &text);
        let mut count = 0;
        for connection in self.open().filter(|connection| concerns(connection)) {
            connection.to_come.push_back(text.clone());
            count += 1;
        }
        assert_eq!((report.queued, report.backpressured, report.dropped), (count, 0, 0));
    }

    fn untrack(&mut self, c: usize, room: usize) -> bool {
        let Some(connection) = &mut self.connections[c] else { return false };
        let Some(key) = connection.present.remove(&room) else { return false };
        self.presence[room].remove(&key, &connection.socket);
        true
    }

    async fn end(&mut self, c: usize, end: End) {
        let Some(mut connection) = self.connections[c].take() else { return };
        connection.receive().await;
        let Connection { socket, mut peer, present, .. } = connection;
        match end {
            End::Peer => {
                peer.send_close(CloseCode::NORMAL, "").await;
                peer.recv_close().await;
                peer.recv_end().await;
            }
            End::Local => {
                socket.close(CloseCode::NORMAL, "");
                peer.recv_close().await;
                peer.send_close(CloseCode::NORMAL, "").await;
                peer.recv_end().await;
            }
            End::Cut => socket.terminate(),
            End::Gone => {}
            End::MidMessage => {
                let whole = frame(OpCode::Text, true, b"this is cut off");
                peer.send_raw(&whole[..whole.len() - 3]).await;
            }
        }
        drop(peer);
        socket.closed().await;
        while self.hub.socket(socket.id()).is_some() {
            tokio::task::yield_now().await;
        }
        for (room, key) in present {
            let presence = &mut self.presence[room];
            let tracked = presence.entries.get_mut(&key);
            match (tracked.map(Vec::as_mut_slice), &key) {
                (Some([last]), PresenceKey::User(_)) if !self.grace.is_zero() => {
                    last.leaves = Some(Instant::now() + self.grace);
                }
                _ => presence.remove(&key, &socket),
            }
        }
        assert!(!socket.subscribe("news") && !socket.identify("ana"), "it has ended");
        assert!(!self.hub.room("lobby").join(&socket));
        assert!(!self.hub.room("lobby").presence().track(&socket, 1).unwrap());
        assert_eq!((socket.subscriptions(), socket.rooms(), socket.user()), (vec![], vec![], None));
    }

    async fn run(&mut self, op: &Op) {
        let hub = self.hub.clone();
        match *op {
            Op::Connect(c) => {
                if self.connections[c].is_none() {
                    let config = Config::default().hub(hub).no_keep_alive();
                    let (socket, peer) = connect_with(config).await;
                    self.connections[c] = Some(Connection::new(socket, peer));
                }
            }
            Op::End(c, end) => self.end(c, end).await,
            Op::EndUser(user) => {
                let of_user: Vec<_> = (0..CONNECTIONS)
                    .filter(|c| self.connections[*c].as_ref().is_some_and(|c| c.user == Some(user)))
                    .collect();
                for c in of_user {
                    self.end(c, End::Local).await;
                }
                assert_eq!(hub.user(USERS[user]).close(CloseCode::NORMAL, ""), 0);
            }
            Op::Subscribe(c, topic) => {
                if let Some(connection) = &mut self.connections[c] {
                    let is_new = connection.topics.insert(topic);
                    assert_eq!(connection.socket.subscribe(TOPICS[topic]), is_new);
                }
            }
            Op::Unsubscribe(c, topic) => {
                if let Some(connection) = &mut self.connections[c] {
                    let was = connection.topics.remove(&topic);
                    assert_eq!(connection.socket.unsubscribe(TOPICS[topic]), was);
                }
            }
            Op::Join(c, room) => {
                if let Some(connection) = &mut self.connections[c] {
                    let is_new = connection.rooms.insert(room);
                    assert_eq!(hub.room(ROOMS[room]).join(&connection.socket), is_new);
                }
            }
            Op::Leave(c, room) => {
                if let Some(connection) = &mut self.connections[c] {
                    let was = connection.rooms.remove(&room);
                    assert_eq!(hub.room(ROOMS[room]).leave(&connection.socket), was);
                    if was {
                        self.untrack(c, room);
                    }
                }
            }
            Op::LeaveAll(c) => {
                if let Some(connection) = &mut self.connections[c] {
                    connection.socket.leave_all();
                    for room in std::mem::take(&mut connection.rooms) {
                        self.untrack(c, room);
                    }
                }
            }
            Op::Identify(c, user) => {
                if let Some(connection) = &mut self.connections[c] {
                    assert!(connection.socket.identify(USERS[user]));
                    connection.user = Some(user);
                }
            }
            Op::Track(c, room, meta) => self.track(c, room, json!({"at": meta})),
            Op::Update(c, room, meta) => {
                let Some(connection) = &self.connections[c] else { return };
                let (socket, meta) = (connection.socket.clone(), json!(meta));
                let key = connection.present.get(&room).cloned();
                let updated = hub.room(ROOMS[room]).presence().update(&socket, &meta).unwrap();
                assert_eq!(updated, key.is_some());
                if let Some(key) = key {
                    self.presence[room].put(&key, &socket, meta);
                }
            }
            Op::Untrack(c, room) => {
                let Some(connection) = &self.connections[c] else { return };
                let was = hub.room(ROOMS[room]).presence().untrack(&connection.socket);
                assert_eq!(self.untrack(c, room), was);
            }
            Op::Burst(c, room) => {
                for number in 0..70 {
                    self.track(c, room, json!(number));
                }
            }
            Op::Publish(topic) => self.tell(
                |connection| connection.topics.contains(&topic),
                |_, text| hub.publish(TOPICS[topic], text),
            ),
            Op::PublishFrom(c, topic) => {
                let Some(Connection { socket, .. }) = &self.connections[c] else { return };
                let socket = socket.clone();
                self.tell(
                    |other| other.topics.contains(&topic) && other.socket != socket,
                    |_, text| socket.publish(TOPICS[topic], text),
                );
            }
            Op::Tell(room) => self.tell(
                |connection| connection.rooms.contains(&room),
                |_, text| hub.room(ROOMS[room]).broadcast(text),
            ),
            Op::TellOthers(c, room) => {
                let Some(Connection { socket, .. }) = &self.connections[c] else { return };
                let socket = socket.clone();
                self.tell(
                    |other| other.rooms.contains(&room) && other.socket != socket,
                    |_, text| hub.room(ROOMS[room]).broadcast_except(&socket, text),
                );
            }
            Op::TellOne(c, room) => {
                let Some(connection) = &mut self.connections[c] else { return };
                let sent = hub.room(ROOMS[room]).send_to(connection.socket.id(), "to you");
                assert_eq!(sent.is_some(), connection.rooms.contains(&room));
                connection.to_come.extend(sent.map(|_| "to you".to_owned()));
            }
            Op::TellUser(user) => self.tell(
                |connection| connection.user == Some(user),
                |_, text| hub.user(USERS[user]).send(text),
            ),
            Op::TellAll => self.tell(|_| true, |_, text| hub.broadcast(text)),
            Op::Receive(c) => {
                if let Some(connection) = &mut self.connections[c] {
                    connection.receive().await;
                }
            }
            Op::Watch(room) => {
                if self.readers.len() < 4 {
                    self.readers.push(Reader::new(&hub, room, &self.presence[room]));
                }
            }
            Op::Unwatch => {
                if self.readers.len() > 1 {
                    self.readers.swap_remove(1);
                }
            }
            Op::Read(reader, most) => {
                if let Some(reader) = self.readers.get_mut(reader) {
                    reader.read(most);
                }
            }
            Op::Wait(time) => tokio::time::sleep(Duration::from_millis(time)).await,
        }
    }

    fn track(&mut self, c: usize, room: usize, meta: Value) {
        let Some(connection) = &mut self.connections[c] else { return };
        let presence = self.hub.room(ROOMS[room]).presence();
        assert!(presence.track(&connection.socket, &meta).unwrap());
        // As whom it is present is said when that begins.
        let key = connection.present.entry(room).or_insert_with(|| match connection.user {
            Some(user) => PresenceKey::User(USERS[user].into()),
            None => PresenceKey::Connection(connection.socket.id()),
        });
        self.presence[room].put(key, &connection.socket, meta);
    }

    /// Keeps away from times at which it would not be said which of two things comes first.
    async fn avoid_ties(&self) {
        let leaving = || {
            let tracked = self.presence.iter().flat_map(|presence| presence.entries.values());
            tracked.flatten().filter_map(|tracked| tracked.leaves)
        };
        let near = |leaves: Instant| {
            let now = Instant::now();
            leaves.max(now) - leaves.min(now) < Duration::from_millis(5)
        };
        while leaving().any(near) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn check(&mut self) {
        self.avoid_ties().await;
        self.presence.iter_mut().for_each(Presence::expire);
        let hub = &self.hub;
        let open = || self.connections.iter().flatten();
        assert_eq!(hub.sockets().len(), open().count());
        assert_eq!(ids(&hub.sockets()), open().map(|c| c.socket.id()).collect());
        for (topic, name) in TOPICS.iter().enumerate() {
            let count = open().filter(|c| c.topics.contains(&topic)).count();
            assert_eq!(hub.subscribers(name), count);
            assert_eq!(hub.topics().iter().any(|known| known == name), count > 0);
            assert_eq!(hub.dropped(name), 0);
        }
        let rooms = hub.rooms().await;
        for (number, name) in ROOMS.iter().enumerate() {
            let room = hub.room(*name);
            let members: BTreeSet<_> =
                open().filter(|c| c.rooms.contains(&number)).map(|c| c.socket.id()).collect();
            assert_eq!(ids(&room.members()), members);
            assert_eq!((room.len(), room.is_empty()), (members.len(), members.is_empty()));
            assert_eq!(rooms.iter().any(|known| known == name), !members.is_empty());
            let list = room.presence().list().await;
            let present: Mirror = list.iter().map(|p| (p.key.clone(), p.metas.clone())).collect();
            assert_eq!(present.len(), list.len(), "nobody is there twice");
            assert_eq!(present, self.presence[number].mirror());
            assert_eq!(room.presence().count().await, list.len());
        }
        for (number, name) in USERS.iter().enumerate() {
            let sockets: BTreeSet<_> =
                open().filter(|c| c.user == Some(number)).map(|c| c.socket.id()).collect();
            assert_eq!(ids(&hub.user(*name).sockets()), sockets);
            assert_eq!(
                hub.user(*name).connections().await.into_iter().collect::<BTreeSet<_>>(),
                sockets
            );
        }
        for connection in open() {
            let socket = &connection.socket;
            assert_eq!(hub.socket(socket.id()).as_ref(), Some(socket));
            assert_eq!(sorted(socket.subscriptions()), names(&connection.topics, TOPICS));
            assert_eq!(sorted(socket.rooms()), names(&connection.rooms, ROOMS));
            assert_eq!(socket.user().as_deref(), connection.user.map(|user| USERS[user]));
        }
    }
}

fn ids(sockets: &[Socket]) -> BTreeSet<sockeye::Uuid> {
    let ids: BTreeSet<_> = sockets.iter().map(Socket::id).collect();
    assert_eq!(ids.len(), sockets.len(), "nobody is there twice");
    ids
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn names(numbers: &BTreeSet<usize>, names: [&str; 2]) -> Vec<String> {
    sorted(numbers.iter().map(|number| names[*number].to_owned()).collect())
}

impl Connection {
    fn new(socket: Socket, peer: Peer) -> Self {
        let (topics, rooms, user, present, to_come) = Default::default();
        Self { socket, peer, topics, rooms, user, present, to_come }
    }

    /// Receives what was sent so far, and nothing else.
    async fn receive(&mut self) {
        self.socket.send("that was all");
        for text in self.to_come.drain(..) {
            assert_eq!(self.peer.recv_text().await, text);
        }
        assert_eq!(self.peer.recv_text().await, "that was all");
    }
}

fn paused() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().expect("a runtime")
}

/// So many cases, unless the environment says how many.
fn cases(count: u32) -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = count;
    }
    config
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn whatever_happens_the_hub_agrees_with_a_simple_model(
        has_grace: bool,
        starts_full: bool,
        ops in vec(op(), 1..120),
    ) {
        paused().block_on(async {
            let mut world = World::new(if has_grace { GRACE } else { Duration::ZERO });
            // Users with several connections, in one room: by chance alone they are rare.
            let first = (0..CONNECTIONS).flat_map(|c| {
                [Op::Connect(c), Op::Identify(c, usize::from(c > 2)), Op::Track(c, 0, c as u8)]
            });
            let first: Vec<_> = if starts_full { first.collect() } else { Vec::new() };
            for op in first.iter().chain(&ops) {
                world.run(op).await;
                world.check().await;
            }
            for reader in &mut world.readers {
                reader.catch_up(&world.presence[reader.room]);
            }
            for c in 0..CONNECTIONS {
                world.end(c, End::Gone).await;
                world.check().await;
            }
            tokio::time::sleep(2 * GRACE).await;
            world.check().await;
            for reader in &mut world.readers {
                reader.catch_up(&world.presence[reader.room]);
                assert!(reader.mirror.is_empty());
            }
            let hub = &world.hub;
            assert_eq!((hub.topics().len(), hub.rooms().await.len(), hub.sockets().len()), (0, 0, 0));
        });
    }
}
