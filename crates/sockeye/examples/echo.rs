//! Sends every message back as it came, text as text and binary as binary.
//!
//! Start it with `cargo run -p sockeye --example echo`, then talk to it from another terminal:
//! `npx wscat -c ws://127.0.0.1:8080/echo`. An argument is the address to listen on.

use sockeye::{Close, Handler, Message, Result, Server, Session};

/// One value serves all connections of the route; it holds nothing that belongs to one of them.
struct Echo;

impl Handler for Echo {
    type Data = ();

    async fn open(&self, session: &mut Session<()>) -> Result {
        println!("{} has come", session.id());
        Ok(())
    }

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        // Queues the message and returns at once; what became of it matters only where more is sent
        // than is asked for, as the example `backpressure` does.
        session.send(message);
        Ok(())
    }

    async fn close(&self, session: &mut Session<()>, close: &Close) -> Result {
        println!("{} has gone: {} {}", session.id(), close.code, close.reason);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::new().ws("/echo", Echo).bind(address).await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
