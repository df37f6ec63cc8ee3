//! The load: clients that send prepared frames and count what comes back.

use std::time::{Duration, Instant};

use sockeye_proto::{Message, Role, outbound};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::Result;

/// One row of the comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    /// Length of a message, in bytes.
    pub(crate) size: usize,
    pub(crate) text: bool,
    pub(crate) connections: usize,
    /// How many messages are on their way at once, on each connection.
    pub(crate) in_flight: usize,
}

/// Opens a connection to an echo server.
pub(crate) async fn connect(port: u16, path: &str) -> Result<TcpStream> {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    tcp.set_nodelay(true)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    tcp.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(Duration::from_secs(10), tcp.read_u8()).await??);
    }
    if !answer.starts_with(b"HTTP/1.1 101 ") {
        return Err("the server did not upgrade".into());
    }
    Ok(tcp)
}

/// Opens many connections.
pub(crate) async fn connect_many(port: u16, path: &str, count: usize) -> Result<Vec<TcpStream>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(connect(port, path).await?);
    }
    Ok(connections)
}

/// Sends one message on each connection, and waits until the server has gone to rest.
pub(crate) async fn send_once(connections: &mut [TcpStream], work: Work) -> Result {
    let mut frame = Vec::new();
    let client = Role::Client { masking_key: || [0x37, 0xfa, 0x21, 0x3d] };
    outbound::message(&client, &Message::from(&vec![b'a'; work.size]), &mut frame);
    for tcp in connections {
        tcp.write_all(&frame).await?;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

/// Echoes over all these connections for this long, and at least once; gives them back, and the
/// number of messages.
pub(crate) async fn echo(
    connections: Vec<TcpStream>,
    work: Work,
    length: Duration,
) -> Result<(Vec<TcpStream>, usize)> {
    let end = Instant::now() + length;
    let mut tasks = JoinSet::new();
    for connection in connections {
        tasks.spawn(echo_one(connection, work, end));
    }
    let mut awake = JoinSet::new();
    awake.spawn(stay_awake());
    let mut connections = Vec::with_capacity(work.connections);
    let mut messages = 0;
    while let Some(echoed) = tasks.join_next().await {
        let (connection, count) = echoed??;
        connections.push(connection);
        messages += count;
    }
    Ok((connections, messages))
}

async fn echo_one(
    mut tcp: TcpStream,
    work: Work,
    end: Instant,
) -> std::io::Result<(TcpStream, usize)> {
    let payload = vec![b'a'; work.size];
    let message = match std::str::from_utf8(&payload) {
        Ok(text) if work.text => Message::from(text),
        _ => Message::from(&payload),
    };
    let client = Role::Client { masking_key: || [0x37, 0xfa, 0x21, 0x3d] };
    let (mut there, mut back) = (Vec::new(), Vec::new());
    for _ in 0..work.in_flight {
        outbound::message(&client, &message, &mut there);
        outbound::message(&Role::Server, &message, &mut back);
    }
    let mut received = vec![0; back.len()];
    let mut messages = 0;
    loop {
        let (mut reader, mut writer) = tcp.split();
        tokio::try_join!(writer.write_all(&there), reader.read_exact(&mut received))?;
        if received != back {
            return Err(std::io::Error::other("what came back is not what was sent"));
        }
        messages += work.in_flight;
        if Instant::now() >= end {
            return Ok((tcp, messages));
        }
    }
}

/// Keeps the load from sleeping: a server that has to wake it would pay for that, and on a virtual
/// machine more than for the message.
async fn stay_awake() {
    loop {
        tokio::task::yield_now().await;
    }
}
