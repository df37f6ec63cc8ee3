//! A WebSocket client over a real socket that says byte for byte what a test wants. It shares no
//! code with the server on what it receives, so that the two cannot be wrong together.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use sockeye::{CloseCode, OpCode, testing::frame};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    time::timeout,
};

/// No test waits longer than this for anything: a hang is a failure.
const LIMIT: Duration = Duration::from_secs(30);

/// The key of RFC 6455 section 1.3, and the value that the RFC says answers it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Waits, but not for ever.
pub(crate) async fn within<F: IntoFuture>(what: F) -> F::Output {
    timeout(LIMIT, what).await.expect("what is waited for comes within the limit")
}

/// Waits until a condition holds that nobody announces.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A correct opening handshake; `more` is further header lines, each with its line end.
pub(crate) fn handshake(path: &str, more: &str) -> String {
    request(
        path,
        &format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {KEY}\r\n{more}"
        ),
    )
}

/// A GET request with these header lines beside `Host`.
pub(crate) fn request(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// A connection to a server, on which anything may be sent.
pub(crate) struct Client<S = TcpStream> {
    reader: Reader<S>,
    writer: WriteHalf<S>,
}

/// The head of an answer, and its body if it has a length.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    headers: Vec<(String, String)>,
}

/// A whole frame, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Client<TcpStream> {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::over(within(TcpStream::connect(addr)).await.expect("the server listens"))
    }

    /// Connects and makes the opening handshake.
    pub(crate) async fn open(addr: SocketAddr, path: &str) -> Self {
        let mut client = Self::connect(addr).await;
        client.upgrade(path).await;
        client
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader: Reader { io: reader, received: VecDeque::new() }, writer }
    }

    /// Makes the opening handshake, and expects it to succeed.
    pub(crate) async fn upgrade(&mut self, path: &str) {
        self.send(handshake(path, "")).await;
        self.answer().await.assert_101();
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the connection is open");
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        within(self.writer.write_all(bytes.as_ref())).await
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send(frame(OpCode::Text, true, text.as_bytes())).await;
    }

    pub(crate) async fn send_close(&mut self, code: CloseCode) {
        self.send(frame(OpCode::Close, true, &code.0.to_be_bytes())).await;
    }

    /// Ends this side's direction.
    pub(crate) async fn finish(&mut self) {
        within(self.writer.shutdown()).await.expect("the connection is open");
    }

    /// Sends while the answer and so many frames are read: neither side can wait for the other.
    pub(crate) async fn exchange(&mut self, bytes: &[u8], frames: usize) -> (Answer, Vec<Frame>) {
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let receive = async {
            let answer = reader.answer().await;
            let mut received = Vec::new();
            while received.len() < frames {
                received.push(reader.frame().await.expect("a frame and not the end"));
            }
            (answer, received)
        };
        let (sent, received) =
            within(async { tokio::join!(writer.write_all(bytes), receive) }).await;
        sent.expect("the connection is open");
        received
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        within(self.reader.answer()).await
    }

    /// The next frame; none at the end, orderly or not.
    pub(crate) async fn recv(&mut self) -> Option<Frame> {
        within(self.reader.frame()).await
    }

    pub(crate) async fn recv_text(&mut self) -> String {
        match self.recv().await {
            Some(Frame { opcode: 1, payload }) => String::from_utf8(payload).expect("UTF-8"),
            other => panic!("a text was expected, and not {other:?}"),
        }
    }

    /// The next frame, which is a close frame; its code, 1005 for none.
    pub(crate) async fn recv_close(&mut self) -> CloseCode {
        match self.recv().await {
            Some(Frame { opcode: 8, payload }) => payload
                .first_chunk()
                .map_or(CloseCode::NO_STATUS, |code| CloseCode(u16::from_be_bytes(*code))),
            other => panic!("a close frame was expected, and not {other:?}"),
        }
    }

    /// Waits for the orderly end of the stream: no further byte, and no reset.
    pub(crate) async fn recv_end(&mut self) {
        let rest = self.rest().await.expect("the end of the stream and no reset");
        assert!(rest.is_empty(), "the end was expected, and not {rest:?}");
    }

    /// All that comes until the end of the stream.
    pub(crate) async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::from(std::mem::take(&mut self.reader.received));
        within(self.reader.io.read_to_end(&mut rest)).await.map(|_| rest)
    }

    /// The closing handshake, begun by this side.
    pub(crate) async fn close(mut self) {
        self.send_close(CloseCode::NORMAL).await;
        assert_eq!(self.recv_close().await, CloseCode::NORMAL);
        self.recv_end().await;
    }

    /// The closing handshake, begun by the server with 1001.
    pub(crate) async fn sees_1001(mut self) {
        assert_eq!(self.recv_close().await, CloseCode::AWAY);
        self.send_close(CloseCode::AWAY).await;
        self.recv_end().await;
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn assert_101(&self) {
        assert_eq!(self.status, 101, "{self:?}");
        assert_eq!(self.header("sec-websocket-accept"), Some(ACCEPT));
    }
}

struct Reader<S> {
    io: ReadHalf<S>,
    received: VecDeque<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Reader<S> {
    async fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte().await.expect("an answer and not the end"));
        }
        let head = String::from_utf8(head).expect("a head of ASCII");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok()).expect("a status line");
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let body = self.take(length).await.expect("a whole body");
        answer.body = String::from_utf8(body).expect("a body of text");
        answer
    }

    async fn frame(&mut self) -> Option<Frame> {
        let (first, second) = (self.byte().await?, self.byte().await?);
        assert_eq!(first & 0xf0, 0x80, "a server's frame is whole and without reserved bits");
        assert_eq!(second & 0x80, 0, "a server's frame has no mask");
        let length = match second {
            126 => u16::from_be_bytes(self.take(2).await?.try_into().unwrap()).into(),
            127 => u64::from_be_bytes(self.take(8).await?.try_into().unwrap()),
            short => short.into(),
        };
        Some(Frame { opcode: first & 0x0f, payload: self.take(length as usize).await? })
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
        if self.received.len() >= count {
            return Some(());
        }
        let mut buffer = vec![0; 64 * 1024];
        while self.received.len() < count {
            match self.io.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.received.extend(&buffer[..read]),
            }
        }
        Some(())
    }
}
