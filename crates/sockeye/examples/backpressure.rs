//! Sends 16 MiB to each peer as fast as that peer takes it, while little of it waits in memory: at
//! `/drain` by going on when `drain` is called, at `/wait` by waiting in a loop. Who just sends on
//! is cut off with 1013 as soon as 1 MiB waits.
//!
//! Start it with `cargo run -p sockeye --example backpressure`, then fetch from another terminal:
//! `npx wscat -c ws://127.0.0.1:8080/drain`. An argument is the address to listen on.

use sockeye::{Accept, CloseCode, Result, SendStatus, Server, Session, Socket};

const CHUNKS: usize = 1024;

fn send_chunk(socket: &Socket, number: usize) -> SendStatus {
    socket.send(format!("{number:<16384}"))
}

async fn finish(socket: &Socket) -> Result {
    socket.flushed().await?; // all of it is in the hands of the kernel
    println!("{} was sent everything", socket.id());
    socket.close(CloseCode::NORMAL, "that was all");
    Ok(())
}

/// Sends from where the connection stands, which is its data.
async fn go_on(session: &mut Session<usize>) -> Result {
    while session.data < CHUNKS {
        let status = send_chunk(session, session.data);
        session.data += 1;
        match status {
            SendStatus::Queued => {}
            // This chunk is queued like the others, but now enough waits. `drain` will be called.
            SendStatus::Backpressure { .. } => return Ok(()),
            SendStatus::Dropped(_) => return Ok(()),
        }
    }
    finish(session).await
}

#[tokio::main]
async fn main() -> Result {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let drain = sockeye::on()
        .attach(|_| Ok(Accept::new(0)))
        .on_open_async(go_on)
        .on_drain_async(go_on)
        .on_close(|session, close| println!("{} has gone: {}", session.id(), close.code));
    let wait = sockeye::on()
        .on_open_async(async |session| {
            for number in 0..CHUNKS {
                if send_chunk(session, number) != SendStatus::Queued {
                    session.writable().await?; // fails if the peer has gone
                }
            }
            finish(session).await
        })
        .on_close(|session, close| println!("{} has gone: {}", session.id(), close.code));
    let server = Server::new().ws("/drain", drain).ws("/wait", wait).bind(address).await?;
    println!("listening on http://{}", server.local_addr());
    server.until_signal().await;
    Ok(())
}
