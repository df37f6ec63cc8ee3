//! Answers each message with a table in JSON, which travels compressed if the client offers that: at
//! `/shared` each message by itself, at `/dedicated` with references to those before it, so that the
//! second table is hardly longer than what has changed.
//!
//! Start it with `cargo run -p sockeye --example compression`, then ask from another terminal:
//! `npx wscat -c ws://127.0.0.1:8080/dedicated`. An argument is the address to listen on.

use sockeye::{
    Accept, Compress, Compression, Config, Handler, Handshake, Message, Rejection, Result, Server,
    Session,
};

struct Table;

impl Handler for Table {
    /// How many tables were sent.
    type Data = u64;

    async fn attach(&self, _: &mut Handshake) -> Result<Accept<u64>, Rejection> {
        Ok(Accept::new(0))
    }

    async fn open(&self, session: &mut Session<u64>) -> Result {
        match session.compression() {
            Some(agreed) => println!("{} agreed to {agreed}", session.id()),
            None => println!("{} does without compression", session.id()),
        }
        Ok(())
    }

    async fn message(&self, session: &mut Session<u64>, _: Message<'_>) -> Result {
        session.data += 1;
        let version = session.data;
        let value = |n: u64| n * n % 17 + u64::from(n % 10 == version % 10);
        let rows: Vec<_> =
            (0..100).map(|n| serde_json::json!({"sensor": n, "value": value(n)})).collect();
        session.send_json(&rows)?;
        // Too short to be compressed, unless that is asked for.
        session.send(format!("that was table {version}, and {version} in all"));
        session.send_with("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Compress::Always);
        // A secret beside what a peer can choose would show in the length.
        session.send_with(format!("{:064x}", u64::MAX - version), Compress::Never);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::new()
        .ws_with("/shared", Table, Config::default().compression(Compression::Shared))
        .ws_with("/dedicated", Table, Config::default().compression(Compression::dedicated()))
        .bind(address)
        .await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
