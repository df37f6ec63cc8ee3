//! The load: clients that send prepared frames and count what comes back.

use std::{
    io,
    time::{Duration, Instant},
};

use sockeye_proto::{Message, Role, deflate::Offer, outbound};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{
    Result,
    serve::{Compression, Expected},
};

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

impl Work {
    pub(crate) fn expected(self) -> Expected {
        let Self { size, in_flight, .. } = self;
        Expected { size, in_flight, compression: Compression::Off, workers: 1 }
    }
}

/// Opens a connection to an echo server.
pub(crate) async fn connect(port: u16, path: &str) -> Result<TcpStream> {
    let (tcp, _) = open(port, path, None).await?;
    Ok(tcp)
}

/// Opens a connection and gives it with what was answered to the offer.
pub(crate) async fn open(
    port: u16,
    path: &str,
    offer: Option<Offer>,
) -> Result<(TcpStream, Option<String>)> {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    tcp.set_nodelay(true)?;
    let offer = offer.map(|offer| format!("Sec-WebSocket-Extensions: {offer}\r\n"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                   {}\r\n",
        offer.unwrap_or_default()
    );
    tcp.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(Duration::from_secs(10), tcp.read_u8()).await??);
    }
    let answer = String::from_utf8(answer)?;
    if !answer.starts_with("HTTP/1.1 101 ") {
        return Err("the server did not upgrade".into());
    }
    let mut headers = answer.lines().filter_map(|line| line.split_once(": "));
    let extensions =
        headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"));
    Ok((tcp, extensions.map(|(_, value)| value.to_owned())))
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
    let clients = connections.into_iter().map(|connection| echo_one(connection, work, end));
    let (connections, counts): (_, Vec<_>) = side_by_side(clients).await?.into_iter().unzip();
    Ok((connections, counts.into_iter().sum()))
}

/// Lets clients run side by side until all are done, without a pause.
pub(crate) async fn side_by_side<C, T>(clients: impl Iterator<Item = C>) -> Result<Vec<T>>
where
    C: Future<Output = io::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let mut tasks: JoinSet<_> = clients.collect();
    let mut awake = JoinSet::new();
    awake.spawn(stay_awake());
    let mut done = Vec::with_capacity(tasks.len());
    while let Some(client) = tasks.join_next().await {
        done.push(client??);
    }
    Ok(done)
}

async fn echo_one(mut tcp: TcpStream, work: Work, end: Instant) -> io::Result<(TcpStream, usize)> {
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
            return Err(io::Error::other("what came back is not what was sent"));
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
