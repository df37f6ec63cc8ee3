//! A tap before a server: relays the bytes of one connection and keeps them, to see the frames.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sockeye::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

#[derive(Debug)]
pub(crate) struct Tap {
    authority: String,
    sent: Kept,
    received: Kept,
}

type Kept = Arc<Mutex<Vec<u8>>>;

/// A frame on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TappedFrame {
    pub(crate) fin: bool,
    pub(crate) rsv: u8,
    pub(crate) opcode: u8,
    /// Bytes of the payload.
    pub(crate) length: usize,
}

impl Tap {
    /// A tap before the server at this address.
    pub(crate) async fn before(address: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let authority = listener.local_addr()?.to_string();
        let tap = Self { authority, sent: Kept::default(), received: Kept::default() };
        let relay = relay(listener, address.to_owned(), tap.sent.clone(), tap.received.clone());
        // It ends with the connection; what goes wrong there the two ends see.
        tokio::spawn(relay);
        Ok(tap)
    }

    /// Where the client has to go.
    pub(crate) fn authority(&self) -> String {
        self.authority.clone()
    }

    /// The messages of the client, or their first frames.
    pub(crate) fn sent(&self) -> Vec<TappedFrame> {
        messages(&lock(&self.sent))
    }

    /// The messages of the server, or their first frames.
    pub(crate) fn received(&self) -> Vec<TappedFrame> {
        messages(&lock(&self.received))
    }
}

async fn relay(listener: TcpListener, address: String, sent: Kept, received: Kept) -> Result {
    let (client, _) = listener.accept().await?;
    let server = TcpStream::connect(address).await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) =
        tokio::join!(pump(from_client, to_server, sent), pump(from_server, to_client, received));
    up.and(down)
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, kept: Kept) -> Result {
    let mut buffer = vec![0; 65536];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(to.shutdown().await?);
        }
        lock(&kept).extend_from_slice(&buffer[..length]);
        to.write_all(&buffer[..length]).await?;
    }
}

fn lock(kept: &Kept) -> MutexGuard<'_, Vec<u8>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first frames of the messages behind the head of the handshake.
fn messages(bytes: &[u8]) -> Vec<TappedFrame> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let mut rest = head.and_then(|end| bytes.get(end + 4..)).unwrap_or_default();
    let mut found = Vec::new();
    while let Some((frame, behind)) = split(rest) {
        rest = behind;
        if matches!(frame.opcode, 1 | 2) {
            found.push(frame);
        }
    }
    found
}

/// The first frame, if it is whole, and what is behind it.
fn split(bytes: &[u8]) -> Option<(TappedFrame, &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match second & 0x7f {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u16::from_be_bytes(*length).into(), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        length => (length.into(), rest),
    };
    let key = if second & 0x80 == 0 { 0 } else { 4 };
    let behind = rest.get(length.checked_add(key)?..)?;
    let frame =
        TappedFrame { fin: first & 0x80 != 0, rsv: first >> 4 & 7, opcode: first & 0x0f, length };
    Some((frame, behind))
}
