//! A WebSocket server that says byte for byte what a test wants. It is written from the RFC and shares
//! no code with the client, so that the two cannot be wrong together.

use std::{collections::VecDeque, io, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use sha1::{Digest, Sha1};
use sockeye::{Client, CloseCode, ConnectError, WebSocket};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

/// No test waits longer than this for anything: a hang is a failure. Long enough for every deadline
/// where time is paused.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits, but not for ever.
pub(crate) async fn within<F: IntoFuture>(what: F) -> F::Output {
    timeout(LIMIT, what).await.expect("what is waited for comes within the limit")
}

/// It is so many seconds since then, or up to one more.
#[track_caller]
pub(crate) fn assert_at(start: Instant, seconds: u64) {
    let (at, time) = (start.elapsed(), Duration::from_secs(seconds));
    assert!((time..time + Duration::from_secs(1)).contains(&at), "at {at:?}, not {time:?}");
}

/// A client without anything special.
pub(crate) fn to_example() -> Client {
    Client::connect("ws://example.com/")
}

/// A server that accepts what a test accepts.
pub(crate) struct Server(TcpListener);

impl Server {
    pub(crate) async fn new() -> Self {
        Self::at("127.0.0.1").await
    }

    pub(crate) async fn at(host: &str) -> Self {
        Self(TcpListener::bind((host, 0)).await.expect("a free port"))
    }

    /// Of the port alone: the name is for the test to choose.
    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().expect("it is bound").port()
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.0.local_addr().expect("it is bound"))
    }

    pub(crate) async fn accept(&self) -> Connection<TcpStream> {
        Connection::new(within(self.0.accept()).await.expect("a connection").0)
    }
}

/// The end of the server in memory, and a client that leads to it.
pub(crate) fn lead(client: Client) -> (Client, Connection<DuplexStream>) {
    let (near, far) = duplex(64 * 1024);
    (client.transport(near), Connection::new(far))
}

/// Opens a connection in memory.
pub(crate) async fn open(client: Client) -> (WebSocket, Connection<DuplexStream>) {
    let (client, mut server) = lead(client);
    let (ws, _) = within(async { tokio::join!(client, server.upgrade("")) }).await;
    (ws.expect("the answer is right"), server)
}

/// What becomes of a client that is answered so; the answer may hold an `{accept}`.
pub(crate) async fn answered(
    client: Client,
    answer: impl AsRef<[u8]>,
) -> (Result<WebSocket, ConnectError>, Connection<DuplexStream>) {
    let (client, mut server) = lead(client);
    let serve = async {
        let request = server.request().await;
        // A client that has seen enough may hang up before the end of it.
        let _ = server.try_send(fill_in(answer.as_ref(), &request)).await;
    };
    let (result, ()) = within(async { tokio::join!(client, serve) }).await;
    (result, server)
}

/// Puts the right value into the place of `{accept}`, if there is one.
fn fill_in(answer: &[u8], request: &Request) -> Vec<u8> {
    const PLACE: &[u8] = b"{accept}";
    match answer.windows(PLACE.len()).position(|window| window == PLACE) {
        Some(at) => {
            let accept = request.accept();
            [&answer[..at], accept.as_bytes(), &answer[at + PLACE.len()..]].concat()
        }
        None => answer.to_vec(),
    }
}

/// The head of a right answer, up to further header lines.
pub(crate) const UPGRADE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                                  Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n";

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Request {
    /// The one header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "`{name}` is there once: {all:?}");
        all.first().copied()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let of_name = self.headers.iter().filter(|(known, _)| known == name);
        of_name.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn key(&self) -> &str {
        self.header("sec-websocket-key").expect("a key")
    }

    /// "The base64-encoded SHA-1 of the concatenation of the key and the string" (section 4.2.2).
    pub(crate) fn accept(&self) -> String {
        let hash = Sha1::digest(format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", self.key()));
        BASE64.encode(hash)
    }
}

/// A frame as it came from the client, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) key: [u8; 4],
    pub(crate) payload: Vec<u8>,
}

/// A connection to a client.
pub(crate) struct Connection<S> {
    io: S,
    received: VecDeque<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(io: S) -> Self {
        Self { io, received: VecDeque::new() }
    }

    /// The stream itself, if nothing of it was read ahead.
    pub(crate) fn into_inner(self) -> S {
        assert!(self.received.is_empty());
        self.io
    }

    pub(crate) async fn request(&mut self) -> Request {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte().await.expect("a request and not the end"));
        }
        let head = String::from_utf8(head).expect("a head of text");
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().expect("a request line").to_owned();
        let headers = lines.map(|line| line.split_once(": ").expect("a header"));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        Request { line, headers: headers.collect() }
    }

    /// Answers the opening handshake as the RFC has it; `more` is further header lines.
    pub(crate) async fn upgrade(&mut self, more: &str) -> Request {
        let request = self.request().await;
        let answer = UPGRADE.replace("{accept}", &request.accept());
        self.send(format!("{answer}{more}\r\n")).await;
        request
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the connection is open");
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within(self.io.write_all(bytes.as_ref())).await
    }

    /// Ends this side's direction.
    pub(crate) async fn finish(&mut self) {
        within(self.io.shutdown()).await.expect("the connection is open");
    }

    /// The next frame; none at the end.
    pub(crate) async fn recv(&mut self) -> Option<Frame> {
        within(self.frame()).await
    }

    pub(crate) async fn recv_text(&mut self) -> String {
        match self.recv().await {
            Some(Frame { opcode: 1, payload, .. }) => String::from_utf8(payload).expect("UTF-8"),
            other => panic!("a text was expected, and not {other:?}"),
        }
    }

    /// The next frame, which is a close frame; its code, 1005 for none.
    pub(crate) async fn recv_close(&mut self) -> CloseCode {
        match self.recv().await {
            Some(Frame { opcode: 8, payload, .. }) => payload
                .first_chunk()
                .map_or(CloseCode::NO_STATUS, |code| CloseCode(u16::from_be_bytes(*code))),
            other => panic!("a close frame was expected, and not {other:?}"),
        }
    }

    /// Waits for the orderly end of the stream.
    pub(crate) async fn recv_end(&mut self) {
        let next = within(self.io.read_u8()).await;
        let end = next.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        assert!(end && self.received.is_empty(), "the end was expected, and not {next:?}");
    }

    /// The closing handshake that the client has begun with this code.
    pub(crate) async fn closes(mut self, code: CloseCode) {
        assert_eq!(self.recv_close().await, code);
        self.send(close(code, "")).await;
        self.finish().await;
        self.recv_end().await;
    }

    async fn frame(&mut self) -> Option<Frame> {
        let (first, second) = (self.byte().await?, self.byte().await?);
        assert_eq!(first & 0x70, 0, "no bit is reserved for anything");
        assert_eq!(second & 0x80, 0x80, "a client masks every frame (section 5.3)");
        let length = match second & 0x7f {
            126 => u16::from_be_bytes(self.take(2).await?.try_into().unwrap()).into(),
            127 => u64::from_be_bytes(self.take(8).await?.try_into().unwrap()),
            short => short.into(),
        };
        let key: [u8; 4] = self.take(4).await?.try_into().unwrap();
        let masked = self.take(length as usize).await?;
        let payload = masked.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        Some(Frame { fin: first & 0x80 != 0, opcode: first & 0x0f, key, payload })
    }

    async fn byte(&mut self) -> Option<u8> {
        self.fill(1).await?;
        self.received.pop_front()
    }

    async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        self.fill(count).await?;
        Some(self.received.drain(..count).collect())
    }

    async fn fill(&mut self, count: usize) -> Option<()> {
        let mut buffer = [0; 4096];
        while self.received.len() < count {
            match self.io.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.received.extend(&buffer[..read]),
            }
        }
        Some(())
    }
}

/// The bytes of a frame as a server sends it.
pub(crate) fn frame(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut wire = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => wire.push(short as u8),
        medium @ 126..0x1_0000 => {
            wire.push(126);
            wire.extend((medium as u16).to_be_bytes());
        }
        long => {
            wire.push(127);
            wire.extend((long as u64).to_be_bytes());
        }
    }
    wire.extend(payload);
    wire
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    frame(1, text)
}

pub(crate) fn close(code: CloseCode, reason: &str) -> Vec<u8> {
    frame(8, [&code.0.to_be_bytes(), reason.as_bytes()].concat())
}
