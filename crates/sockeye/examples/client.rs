//! A client: sends what you type, prints what comes, and says how the connection ended.
//!
//! Start a server, such as `cargo run -p sockeye --example echo`, then
//! `cargo run -p sockeye --example client`. An argument is another URL to connect to; the end of the
//! input (Ctrl-D) closes the connection.

use std::time::Duration;

use sockeye::{Client, CloseCode, Config, Limits, Message, Result};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main]
async fn main() -> Result {
    let url = std::env::args().nth(1).unwrap_or_else(|| "ws://127.0.0.1:8080/echo".to_owned());
    let config = Config::default()
        .limits(Limits::default().message_size(64 * 1024))
        .keep_alive(Duration::from_secs(20), Duration::from_secs(5));
    let mut ws = Client::connect(&url)
        .header("user-agent", "sockeye's example")
        .protocols(["echo.v2", "echo.v1"])
        .connect_timeout(Duration::from_secs(3))
        .config(config)
        .await?;
    let socket = ws.socket();
    println!("connected to {url}, subprotocol {:?}", socket.protocol());

    // Any task may wait for the end, as often as it likes.
    let ended = tokio::spawn(async move {
        let close = socket.closed().await;
        let manner = if close.clean { "cleanly" } else { "uncleanly" };
        println!("closed {manner} with {} {:?} by {:?}", close.code, close.reason, close.by);
        println!("it is {:?}", socket.state());
    });

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            message = ws.recv() => match message? {
                Some(Message::Text(text)) => println!("< {text}"),
                Some(Message::Binary(data)) => println!("< {} bytes", data.len()),
                None => break,
            },
            line = lines.next_line() => match line? {
                Some(line) => ws.send(line).await?,
                None => {
                    ws.close(CloseCode::NORMAL, "that was all").await;
                    break;
                }
            },
        }
    }
    ended.await?;
    Ok(())
}
