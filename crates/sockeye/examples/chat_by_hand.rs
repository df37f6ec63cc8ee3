//! The example `chat` without the hub: it holds its own map of connections.
//!
//! Start it with `cargo run -p sockeye --example chat_by_hand`, then join from two other terminals:
//! `npx wscat -c 'ws://127.0.0.1:8080/chat?name=ana'`. An argument is the address to listen on.

use std::{collections::HashMap, sync::Mutex};

use sockeye::{
    Accept, Close, Handler, Handshake, Message, Rejection, Result, Server, Session, Socket,
};
use uuid::Uuid;

#[derive(Default)]
struct Chat(Mutex<HashMap<Uuid, Socket>>);

impl Chat {
    /// The lock may be held over all the sends, as `send` never waits for a slow member.
    fn tell_others(&self, sender: &Socket, text: &str) {
        let members = self.0.lock().unwrap();
        for socket in members.values().filter(|socket| *socket != sender) {
            socket.send(text);
        }
    }
}

impl Handler for Chat {
    type Data = String;

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<String>, Rejection> {
        Ok(Accept::new(handshake.query("name").unwrap_or_else(|| "somebody".to_owned())))
    }

    async fn open(&self, session: &mut Session<String>) -> Result {
        self.0.lock().unwrap().insert(session.id(), session.socket.clone());
        session.send(format!("welcome, {}", session.data));
        self.tell_others(&session.socket, &format!("{} joined", session.data));
        Ok(())
    }

    async fn message(&self, session: &mut Session<String>, message: Message<'_>) -> Result {
        let text = message.as_text().ok_or("this chat takes text only")?;
        self.tell_others(&session.socket, &format!("{}: {text}", session.data));
        Ok(())
    }

    async fn close(&self, session: &mut Session<String>, _: &Close) -> Result {
        self.0.lock().unwrap().remove(&session.id());
        self.tell_others(&session.socket, &format!("{} left", session.data));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::new().ws("/chat", Chat::default()).bind(address).await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
