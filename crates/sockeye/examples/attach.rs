//! What a connection begins with: a cookie, the query and the time become its typed data in
//! `attach`, before it is opened.
//!
//! Start it with `cargo run -p sockeye --example attach`, then connect from another terminal:
//! `npx wscat -H 'Cookie: token=a1' -c 'ws://127.0.0.1:8080/live?channel=news'`. An argument is the
//! address to listen on.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::http::StatusCode;
use sockeye::{Accept, Handler, Handshake, Message, Rejection, Result, Server, Session};

/// What is known about one connection, for as long as it lives.
#[derive(serde::Serialize)]
struct Visitor {
    user: String,
    channel: String,
    since: u64,
}

/// Who has logged in, by token; a database elsewhere, and `attach` may wait for it.
struct Live(HashMap<&'static str, &'static str>);

impl Handler for Live {
    type Data = Visitor;

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<Visitor>, Rejection> {
        let token = handshake.cookie("token").unwrap_or_default();
        let user = self.0.get(&*token).ok_or((StatusCode::UNAUTHORIZED, "log in first\n"))?;
        let channel = handshake.query("channel").unwrap_or_else(|| "all".to_owned());
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Ok(Accept::new(Visitor { user: (*user).to_owned(), channel, since }))
    }

    async fn open(&self, session: &mut Session<Visitor>) -> Result {
        session.send_json(&session.data)?;
        Ok(())
    }

    async fn message(&self, session: &mut Session<Visitor>, message: Message<'_>) -> Result {
        let Visitor { user, channel, .. } = &session.data;
        session.send(format!("{user} in {channel} sent {} bytes", message.len()));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let live = Live(HashMap::from([("a1", "ana"), ("b2", "ben")]));
    let server = Server::new().ws("/live", live).bind(address).await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
