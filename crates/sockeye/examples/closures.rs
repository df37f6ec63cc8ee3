//! A handler made of closures instead of a type with methods.
//!
//! Start it with `cargo run -p sockeye --example closures`, then connect from another terminal and
//! send text, `/ping` or `/close`: `npx wscat --slash -P -c ws://127.0.0.1:8080/ws`. An argument is
//! the address to listen on.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sockeye::{Result, Server};

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());

    // Closures may capture; what they capture is shared by all connections.
    let count = AtomicU64::new(0);
    let handler = sockeye::on()
        // One that waits for something is async. No message is handled before it has ended.
        .on_open_async(async |session| {
            tokio::time::sleep(Duration::from_millis(50)).await;
            session.send("ready");
        })
        .on_text(move |session, text| {
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            session.send(format!("{number}: {}", text.to_uppercase()))
        })
        .on_binary(|session, data| {
            let sum: u64 = data.iter().copied().map(u64::from).sum();
            session.send(sum.to_be_bytes().as_slice())
        })
        // The pong has been queued already; here the peer is asked for a sign of life in return.
        .on_ping(|session, payload| {
            println!("ping {}", payload.escape_ascii());
            session.ping("and you?");
        })
        .on_pong(|session, payload| session.send(format!("alive: {}", payload.escape_ascii())))
        .on_close(|session, close| {
            println!("{} closed by {:?}: {} {}", session.id(), close.by, close.code, close.reason);
        });

    let server = Server::new().ws("/ws", handler).bind(address).await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
