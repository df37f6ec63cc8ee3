//! A connection as a loop instead of a handler: what comes, beside anything else to wait for.
//!
//! Start it with `cargo run -p sockeye --example loop`, then connect with
//! `npx wscat -c 'ws://127.0.0.1:8080/count?from=5'`. It counts down, once a second; a number is where
//! to go on, `faster` halves the pause. An argument is the address to listen on.

use std::time::Duration;

use sockeye::{CloseCode, Handshake, Result, Server, WebSocket};
use tokio::time::sleep;

async fn count(mut ws: WebSocket, handshake: Handshake) -> Result {
    let from = handshake.query("from").unwrap_or_else(|| "10".to_owned());
    let mut count: u32 = from.parse()?; // an error ends the connection with 1011
    let mut pause = Duration::from_secs(1);
    ws.send(count.to_string()).await?;
    while count > 0 {
        // Both are cancel-safe: the one that comes second is there in the next round.
        tokio::select! {
            message = ws.recv() => {
                let Some(message) = message? else { return Ok(()) };
                let text = message.as_text().unwrap_or_default();
                match text.parse() {
                    Ok(number) => count = number,
                    Err(_) if text == "faster" => pause /= 2,
                    Err(_) => ws.send("a number, or `faster`").await?,
                }
            }
            () = sleep(pause) => {
                count -= 1;
                ws.send(count.to_string()).await?;
            }
        }
    }
    ws.close(CloseCode::NORMAL, "lift off").await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::new().route("/count", sockeye::accept(count)).bind(address).await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
