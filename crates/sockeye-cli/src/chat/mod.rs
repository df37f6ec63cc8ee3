//! `/chat/{room}`: the chat of the page at `/`.

mod protocol;

use std::{
    cmp::Reverse,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::Json;
use serde::Serialize;
use sockeye::{
    Accept, Close, CloseCode, Handler, Handshake, Hub, Message, PresenceDiff, Rejection, Result,
    Session, Socket,
};
use tokio::{sync::Notify, time::sleep};

use self::protocol::{FromPage, Meta, Person, RoomSize, ToPage, clean_name, clean_text};

/// How long changes of the list of rooms are collected before all are told.
const ROOMS_WINDOW: Duration = Duration::from_millis(200);

/// The most rooms in the list, the fullest ones.
const MOST_ROOMS: usize = 50;

/// A chat with rooms. There is no history: who is there sees what is said.
pub(crate) struct Chat {
    /// The list of rooms may be another.
    changed: Arc<Notify>,
}

/// Who speaks through a connection.
pub(crate) struct Member {
    room: String,
    name: String,
    color: u16,
}

impl Chat {
    /// The chat of this hub, whose only rooms are those of the chat.
    pub(crate) fn new(hub: &Hub) -> Self {
        let changed = Arc::new(Notify::new());
        tokio::spawn(tell_rooms(hub.clone(), changed.clone()));
        Self { changed }
    }
}

impl Handler for Chat {
    /// Or what is wrong with the request: a browser does not tell its page why a handshake was
    /// refused, so it is accepted, told and closed.
    type Data = Result<Member, &'static str>;

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<Self::Data>, Rejection> {
        Ok(Accept::new(Member::new(handshake)))
    }

    async fn open(&self, session: &mut Session<Self::Data>) -> Result {
        let Session { data, socket } = session;
        let member = match data {
            Ok(member) => member,
            Err(problem) => {
                socket.send_json(&ToPage::Error { text: problem })?;
                socket.close(CloseCode::POLICY, *problem);
                return Ok(());
            }
        };
        let room = socket.hub().room(&*member.room);
        room.join(socket);
        let changed = self.changed.clone();
        room.announce(move |diff| {
            changed.notify_one();
            announcement(diff)
        });
        member.appear(socket, None)?;
        // Has the member in it, and a version that says which changes it has in it, too.
        let watch = room.presence().watch();
        let present = Person::all(&watch.snapshot().present);
        let (version, id) = (watch.snapshot().version, socket.id().to_string());
        let Member { name, color, .. } = &*member;
        socket.send_json(&ToPage::Hello { id, name, color: *color, version, present })?;
        self.changed.notify_one();
        Ok(())
    }

    async fn message(&self, session: &mut Session<Self::Data>, message: Message<'_>) -> Result {
        let Session { data: Ok(member), socket } = session else { return Ok(()) };
        let done = match FromPage::read(&message) {
            Ok(FromPage::Say { text, reference }) => member.say(socket, &text, reference)?,
            Ok(FromPage::Rename { name, color }) => member.rename(socket, &name, color)?,
            Err(problem) => Err(problem),
        };
        if let Err(problem) = done {
            socket.send_json(&ToPage::Error { text: problem })?;
        }
        Ok(())
    }

    async fn close(&self, _: &mut Session<Self::Data>, _: &Close) -> Result {
        // Nobody is told of the end of the last one in a room but through the list.
        self.changed.notify_one();
        Ok(())
    }
}

/// What the page has done wrong, if anything: it is told, and the connection goes on.
type Outcome = Result<(), &'static str>;

impl Member {
    fn new(handshake: &Handshake) -> Result<Self, &'static str> {
        let room = clean_name(handshake.param("room").unwrap_or_default())
            .ok_or("a room's name has 1 to 32 characters, and no control characters")?;
        let name = clean_name(&handshake.query("name").unwrap_or_default()).ok_or(BAD_NAME)?;
        let color = handshake.query("color").and_then(|color| color.parse::<u16>().ok());
        Ok(Self { room, name, color: color.unwrap_or_default() % 360 })
    }

    /// Becomes present under its name.
    fn appear(&self, socket: &Socket, was: Option<String>) -> Result {
        socket.identify(&self.name);
        let presence = socket.hub().room(&*self.room).presence();
        presence.track(socket, Meta { color: self.color, was })?;
        Ok(())
    }

    fn say(&self, socket: &Socket, text: &str, reference: u32) -> Result<Outcome> {
        let Some(text) = clean_text(text) else { return Ok(Err(BAD_TEXT)) };
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let message = ToPage::Message {
            id: socket.id().to_string(),
            name: &self.name,
            color: self.color,
            text,
            time: u64::try_from(since.as_millis())?,
            reference,
        };
        socket.hub().room(&*self.room).broadcast(serde_json::to_string(&message)?);
        Ok(Ok(()))
    }

    fn rename(&mut self, socket: &Socket, name: &str, color: u16) -> Result<Outcome> {
        let Some(name) = clean_name(name) else { return Ok(Err(BAD_NAME)) };
        self.color = color % 360;
        let mut was = None;
        if name != self.name {
            // As a connection is present as who it was when that began.
            socket.hub().room(&*self.room).presence().untrack(socket);
            was = Some(std::mem::replace(&mut self.name, name));
        }
        self.appear(socket, was)?;
        socket.send_json(&ToPage::You { name: &self.name, color: self.color })?;
        Ok(Ok(()))
    }
}

const BAD_NAME: &str = "a name has 1 to 32 characters, and no control characters";
const BAD_TEXT: &str = "a message has 1 to 2000 characters";

/// What the members of a room are told of who came and went.
fn announcement(diff: &PresenceDiff) -> Option<String> {
    let announced = ToPage::Presence {
        version: diff.version,
        joined: Person::all(&diff.joined),
        updated: Person::all(&diff.updated),
        left: Person::all(&diff.left),
    };
    serde_json::to_string(&announced).ok()
}

/// Tells everybody in the chat of the rooms, whenever they may have changed.
async fn tell_rooms(hub: Hub, changed: Arc<Notify>) {
    loop {
        changed.notified().await;
        sleep(ROOMS_WINDOW).await;
        let rooms = list_rooms(&hub).await;
        let Ok(text) = serde_json::to_string(&ToPage::Rooms { rooms }) else { continue };
        for name in hub.rooms().await {
            hub.room(name).broadcast(&*text);
        }
    }
}

/// `GET /rooms`.
pub(crate) async fn rooms(hub: Hub) -> Json<impl Serialize> {
    Json(list_rooms(&hub).await)
}

/// The rooms that somebody is in, the fullest first.
async fn list_rooms(hub: &Hub) -> Vec<RoomSize> {
    let mut rooms = Vec::new();
    for name in hub.rooms().await {
        let people = hub.room(&*name).presence().count().await;
        rooms.push(RoomSize { name, people });
    }
    rooms.sort_by(|a, b| (Reverse(a.people), &a.name).cmp(&(Reverse(b.people), &b.name)));
    rooms.truncate(MOST_ROOMS);
    rooms
}
