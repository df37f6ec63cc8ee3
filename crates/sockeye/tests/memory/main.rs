//! What does a connection cost in memory, and what a message?
//!
//! The server runs on a thread of its own; the clients are bare sockets whose code allocates
//! nothing, so what the process allocates is the server's. One test, as the figures are the whole
//! process's.

mod blocking;
mod counting;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use sockeye::{Handler, Message, OpCode, Result, Server, Session, testing};

use crate::{
    blocking::{settled, start},
    counting::usage,
};

/// Echoes at once.
struct Echo;

impl Handler for Echo {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        session.send(message);
        Ok(())
    }
}

/// Lets the other tasks run before it echoes.
struct EchoAfterAwait;

impl Handler for EchoAfterAwait {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        tokio::task::yield_now().await;
        session.send(message);
        Ok(())
    }
}

/// Waits for ever, with the message in hand.
struct Wait;

impl Handler for Wait {
    type Data = ();

    async fn message(&self, session: &mut Session<()>, message: Message<'_>) -> Result {
        std::future::pending::<()>().await;
        session.send(message);
        Ok(())
    }
}

fn start_server() -> SocketAddr {
    start(|| Server::new().ws("/echo", Echo).ws("/await", EchoAfterAwait).ws("/wait", Wait))
}

fn connect(address: SocketAddr, path: &str) -> TcpStream {
    blocking::connect(address, path, "")
}

fn echo(tcp: &mut TcpStream, sent: &[u8], back: &mut [u8], times: usize) {
    for _ in 0..times {
        tcp.write_all(sent).expect("a live socket");
        tcp.read_exact(back).expect("an echo");
    }
}

#[test]
fn an_idle_connection_is_three_blocks_and_a_message_none() {
    let address = start_server();
    let message = testing::frame(OpCode::Text, true, &[b'a'; 64]);
    let mut back = [0; 66];

    // The first ones make the runtime and the pools what they are.
    let mut first = [connect(address, "/echo"), connect(address, "/await")];
    for tcp in &mut first {
        echo(tcp, &message, &mut back, 100);
    }
    for tcp in &mut first {
        let before = usage();
        echo(tcp, &message, &mut back, 1000);
        assert_eq!(usage().calls - before.calls, 0, "calls of the allocator in 1000 messages");
    }

    // Few enough for a limit of 1024 open files, the clients' included.
    let count = 300;
    let mut connections = Vec::with_capacity(count);
    let before = settled();
    connections.extend((0..count).map(|_| connect(address, "/echo")));
    let idle = settled();
    let blocks = (idle.blocks - before.blocks) as f64 / count as f64;
    let bytes = (idle.bytes - before.bytes) / count;
    // The task, tokio's entry for the socket, and what all who hold the socket share; the rest is
    // a share of tables that grow with the connections.
    assert!((3.0..3.2).contains(&blocks), "{blocks} blocks for an idle connection");
    // Without optimisation the task is a step of 128 bytes larger: mio's sockets then carry an
    // identity to check their use by.
    let checks = if cfg!(debug_assertions) { 128 } else { 0 };
    assert!(bytes <= 1128 + checks, "{bytes} bytes for an idle connection");

    for tcp in &mut connections {
        echo(tcp, &message, &mut back, 1);
    }
    let used = settled();
    assert_eq!(used.blocks, idle.blocks, "blocks held after each connection has echoed once");
    assert_eq!(used.bytes, idle.bytes, "bytes held after each connection has echoed once");
    // Only now: what is printed is kept by the test runner, and would be counted.
    println!("an idle connection: {blocks} blocks, {bytes} bytes");
    drop(connections);

    let count = 200;
    let mut waiting = Vec::with_capacity(count);
    let before = settled();
    for _ in 0..count {
        let mut tcp = connect(address, "/wait");
        tcp.write_all(&message).expect("a live socket");
        waiting.push(tcp);
    }
    let bytes = (settled().bytes - before.bytes) / count;
    println!("a connection whose handler waits: {bytes} bytes");
    // The message lies in the buffer it was read into, so that stays with the handler.
    assert!(bytes <= 18 * 1024, "{bytes} bytes for a handler that waits");
}
