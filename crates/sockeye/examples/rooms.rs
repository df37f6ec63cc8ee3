//! Rooms with presence: who comes, changes its mood or goes is told to the others as JSON, and
//! `/who`, `/mood happy`, `/rooms`, `/to ID TEXT` and `/leave` are commands.
//!
//! Start it with `cargo run -p sockeye --example rooms`, then enter from two other terminals:
//! `npx wscat -c 'ws://127.0.0.1:8080/room/lobby?name=ana'`. An argument is the address to listen on.

use serde_json::json;
use sockeye::{Accept, Handler, Handshake, Message, Rejection, Result, Room, Server, Session};

struct Rooms;

fn room(session: &Session<[String; 2]>) -> Room {
    session.hub().room(&session.data[0])
}

impl Handler for Rooms {
    /// The room, and the name.
    type Data = [String; 2];

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<Self::Data>, Rejection> {
        let name = handshake.query("name").unwrap_or_else(|| "somebody".to_owned());
        Ok(Accept::new([handshake.param("room").unwrap_or_default().to_owned(), name]))
    }

    async fn open(&self, session: &mut Session<Self::Data>) -> Result {
        session.identify(&session.data[1]);
        room(session).join(session);
        room(session).announce(|diff| serde_json::to_string(diff).ok());
        room(session).presence().track(session, json!({"mood": "new here"}))?;
        Ok(())
    }

    async fn message(&self, session: &mut Session<Self::Data>, message: Message<'_>) -> Result {
        let (room, text) = (room(session), message.as_text().unwrap_or_default());
        match text.splitn(3, ' ').collect::<Vec<_>>()[..] {
            ["/who"] => _ = session.send_json(&room.presence().list().await)?,
            ["/mood", mood] => _ = room.presence().update(session, json!({"mood": mood}))?,
            ["/rooms"] => _ = session.send_json(&session.hub().rooms().await)?,
            ["/to", id, text] => _ = room.send_to(id.parse()?, text),
            ["/leave"] => session.leave_all(),
            _ => _ = room.broadcast(format!("{}: {text}", session.data[1])),
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::new().ws("/room/{room}", Rooms).bind(address).await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
