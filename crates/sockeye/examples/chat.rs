//! A chat: joins, messages and leaves go to all others, and `/all` counts who is connected.
//!
//! Start it with `cargo run -p sockeye --example chat`, then join from two other terminals:
//! `npx wscat -c 'ws://127.0.0.1:8080/chat?name=ana'`. An argument is the address to listen on.

use sockeye::{Accept, Close, Handler, Handshake, Message, Rejection, Result, Server, Session};

struct Chat;

/// Tells all in the room but the one who speaks.
fn tell_others(session: &Session<String>, text: &str) {
    session.hub().room("chat").broadcast_except(session, text);
}

impl Handler for Chat {
    type Data = String;

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<String>, Rejection> {
        Ok(Accept::new(handshake.query("name").unwrap_or_else(|| "somebody".to_owned())))
    }

    async fn open(&self, session: &mut Session<String>) -> Result {
        session.send(format!("welcome, {}", session.data));
        session.hub().room("chat").join(session);
        tell_others(session, &format!("{} joined", session.data));
        Ok(())
    }

    async fn message(&self, session: &mut Session<String>, message: Message<'_>) -> Result {
        let text = message.as_text().ok_or("this chat takes text only")?;
        if text == "/all" {
            let report = session.hub().broadcast("everyone, raise your hand");
            session.send(format!("{} hands", report.sent()));
        } else {
            tell_others(session, &format!("{}: {text}", session.data));
        }
        Ok(())
    }

    async fn close(&self, session: &mut Session<String>, _: &Close) -> Result {
        // It leaves the room by itself, however the connection ended.
        tell_others(session, &format!("{} left", session.data));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::new().ws("/chat", Chat).bind(address).await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
