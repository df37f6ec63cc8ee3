//! Who may come in, and how a connection is ended: refused before it is opened, closed in `open`,
//! or closed because the handler failed.
//!
//! Start it with `cargo run -p sockeye --example gate`, then try the tokens `ana`, `eve` and
//! `mallory`: `npx wscat -s sum.v1 -c 'ws://127.0.0.1:8080/sum?token=ana'`. A message that is not a
//! number makes the handler fail. An argument is the address to listen on.

use axum::http::StatusCode;
use sockeye::{
    Accept, CloseCode, Error, Handler, Handshake, Message, Rejection, Result, Server, Session,
};

struct Gate;

impl Handler for Gate {
    type Data = (String, i64);

    async fn attach(&self, handshake: &mut Handshake) -> Result<Accept<Self::Data>, Rejection> {
        let user = handshake.query("token").ok_or((StatusCode::UNAUTHORIZED, "no token\n"))?;
        if !["ana", "mallory"].contains(&&*user) {
            return Err((StatusCode::FORBIDDEN, "members only\n").into());
        }
        let accept = Accept::new((user, 0)).header("x-served-by", "gate");
        // Only what the client has offered may be chosen; one that offers nothing gets nothing.
        Ok(match handshake.protocols().find(|protocol| *protocol == "sum.v1") {
            Some(protocol) => accept.protocol(protocol),
            None => accept,
        })
    }

    async fn open(&self, session: &mut Session<Self::Data>) -> Result {
        // Browsers hide from a page why a connection was refused, but tell it the close code.
        if session.data.0 == "mallory" {
            session.close(CloseCode::POLICY, "banned");
        }
        Ok(())
    }

    async fn message(&self, session: &mut Session<Self::Data>, message: Message<'_>) -> Result {
        let number: i64 = message.as_text().unwrap_or_default().trim().parse()?;
        session.data.1 = session.data.1.checked_add(number).ok_or("the sum is too large")?;
        session.send(session.data.1.to_string());
        Ok(())
    }

    /// `?` above leads here; after it the connection is closed with 1011.
    async fn error(&self, session: &mut Session<Self::Data>, error: &Error) -> Result {
        session.send(format!("sorry: {error}"));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::new().ws("/sum", Gate).bind(address).await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
