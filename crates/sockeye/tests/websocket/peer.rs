//! The other end of a connection, at either end, by hand: it answers nothing by itself.

use axum::Router;
use sockeye::{
    Client, CloseCode, Config, OpCode, WebSocket, accept_with,
    testing::{self, Faults, Faulty},
};
use sockeye_proto::handshake::accept_key;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex},
    sync::mpsc::unbounded_channel,
};

/// The end at which the handle is; the peer is at the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

pub(crate) const SIDES: [Side; 2] = [Side::Server, Side::Client];

/// A connection about to be made between a handle and a peer.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    side: Side,
    config: Config,
    pipe: usize,
    reads: Faults,
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: OpCode,
    pub(crate) payload: Vec<u8>,
}

/// A client for a handle of the server, and the other way round.
pub(crate) struct Peer {
    reader: Reader,
    writer: Writer,
}

pub(crate) struct Reader {
    /// The handle's.
    side: Side,
    io: ReadHalf<DuplexStream>,
    received: Vec<u8>,
}

pub(crate) struct Writer {
    /// The handle's.
    side: Side,
    io: WriteHalf<DuplexStream>,
}

/// The key of RFC 6455 section 1.3, and the value that the RFC says answers it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: [u8; 4] = [0x12, 0x00, 0xff, 0xa5];

impl Setup {
    pub(crate) fn new(side: Side) -> Self {
        Self { side, config: Config::default(), pipe: 64 * 1024, reads: Faults::new() }
    }

    pub(crate) fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The bytes that the pipe takes in each direction.
    pub(crate) fn pipe(mut self, capacity: usize) -> Self {
        self.pipe = capacity;
        self
    }

    /// What goes wrong with what the handle's side reads, counted from behind the handshake.
    pub(crate) fn reads(mut self, faults: Faults) -> Self {
        self.reads = faults.behind_handshake();
        self
    }

    pub(crate) async fn connect(self) -> (WebSocket, Peer) {
        match self.side {
            Side::Server => self.connect_to_server().await,
            Side::Client => self.connect_client().await,
        }
    }

    /// The handle is taken out of the function that it is given to, which then ends.
    async fn connect_to_server(self) -> (WebSocket, Peer) {
        let (sender, mut handles) = unbounded_channel();
        let take = move |ws, _| {
            let sender = sender.clone();
            async move {
                drop(sender.send(ws));
                Ok(())
            }
        };
        let router = Router::new().route("/", accept_with(take, self.config));
        let connect = testing::connect_to(router, "/").pipe(self.pipe);
        let io = connect.faults(self.reads, Faults::new()).stream();
        let mut peer = Peer::new(self.side, io);
        let request = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        peer.send_raw(request.as_bytes()).await;
        let head = peer.reader.head().await;
        assert!(head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT), "{head}");
        (handles.recv().await.expect("the function gets a handle"), peer)
    }

    async fn connect_client(self) -> (WebSocket, Peer) {
        let (near, io) = duplex(self.pipe);
        let near = Faulty::new(near, self.reads, Faults::new());
        let client = Client::connect("ws://localhost/").config(self.config).transport(near);
        let mut peer = Peer::new(self.side, io);
        let (ws, ()) = tokio::join!(client, peer.answer_handshake());
        (ws.expect("the answer opens the connection"), peer)
    }
}

impl Peer {
    pub(crate) fn new(side: Side, io: DuplexStream) -> Self {
        let (reader, writer) = tokio::io::split(io);
        let reader = Reader { side, io: reader, received: Vec::new() };
        Self { reader, writer: Writer { side, io: writer } }
    }

    /// To receive and to send at the same time.
    pub(crate) fn split(&mut self) -> (&mut Reader, &mut Writer) {
        (&mut self.reader, &mut self.writer)
    }

    /// As the server does.
    pub(crate) async fn answer_handshake(&mut self) {
        let request = self.reader.head().await;
        let key = request.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
        });
        let accept = accept_key(key.expect("a key").as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nX-Served-By: hand\r\n\r\n"
        );
        self.send_raw(answer.as_bytes()).await;
    }

    /// The bytes of a frame as this peer sends it.
    pub(crate) fn frame(&self, opcode: OpCode, fin: bool, payload: &[u8]) -> Vec<u8> {
        frame(self.writer.side, opcode, fin, payload)
    }

    pub(crate) async fn send(&mut self, opcode: OpCode, payload: &[u8]) {
        self.writer.send(opcode, payload).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send(OpCode::Text, text.as_bytes()).await;
    }

    pub(crate) async fn send_close(&mut self, code: u16, reason: &str) {
        let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
        self.send(OpCode::Close, &payload).await;
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.writer.send_raw(bytes).await;
    }

    /// The next frame; none at the end. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Option<Frame> {
        self.reader.recv().await
    }

    /// Takes so many bytes, or fewer, that are part of frames to come.
    pub(crate) async fn take(&mut self, count: usize) -> usize {
        let mut bytes = vec![0; count];
        let count = self.reader.io.read(&mut bytes).await.expect("the connection lives");
        self.reader.received.extend(&bytes[..count]);
        count
    }

    pub(crate) async fn recv_text(&mut self) -> String {
        match self.recv().await {
            Some(Frame { opcode: OpCode::Text, payload }) => {
                String::from_utf8(payload).expect("UTF-8")
            }
            other => panic!("a text was expected, and not {other:?}"),
        }
    }

    /// The next frame, which is a close frame: its code, 1005 for none.
    pub(crate) async fn recv_close(&mut self) -> CloseCode {
        let frame = self.recv().await;
        let code = frame.as_ref().and_then(Frame::close_code);
        code.unwrap_or_else(|| panic!("a close frame was expected, and not {frame:?}"))
    }

    /// What comes before the close frame, and its code.
    pub(crate) async fn recv_until_close(&mut self) -> (Vec<Frame>, CloseCode) {
        let mut frames = Vec::new();
        loop {
            let frame = self.recv().await.expect("a close frame comes before the end");
            if let Some(code) = frame.close_code() {
                return (frames, code);
            }
            frames.push(frame);
        }
    }

    /// Waits for the end of the connection without a further frame. A client leaves it to the server
    /// to end the stream first (RFC 6455 section 7.1.1).
    pub(crate) async fn recv_end(mut self) {
        if self.writer.side == Side::Client {
            self.writer.io.shutdown().await.expect("a pipe ends well");
        }
        self.recv_cut().await;
    }

    /// Waits for the end of the connection, without doing anything for it.
    pub(crate) async fn recv_cut(&mut self) {
        let frame = self.recv().await;
        assert!(frame.is_none(), "the end was expected, and not {frame:?}");
    }

    /// Waits for the close frame, answers it, and waits for the end.
    pub(crate) async fn answer_close(mut self, code: u16) {
        assert_eq!(self.recv_close().await, CloseCode(code));
        self.send_close(code, "").await;
        crate::soon(self.recv_end()).await;
    }
}

impl Reader {
    /// The head of a request or an answer.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.io.read_u8().await.expect("the connection lives"));
        }
        String::from_utf8(head).expect("a head of ASCII")
    }

    pub(crate) async fn recv(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = parse(self.side, &self.received) {
                self.received.drain(..length);
                return Some(frame);
            }
            match self.io.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

impl Writer {
    pub(crate) async fn send(&mut self, opcode: OpCode, payload: &[u8]) {
        self.send_raw(&frame(self.side, opcode, true, payload)).await;
    }

    async fn send_raw(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.expect("the connection lives");
    }
}

impl Frame {
    /// 1005 for none; nothing if it is no close frame.
    fn close_code(&self) -> Option<CloseCode> {
        let code = self.payload.first_chunk();
        let code = code.map_or(CloseCode::NO_STATUS, |code| CloseCode(u16::from_be_bytes(*code)));
        (self.opcode == OpCode::Close).then_some(code)
    }
}

/// The bytes of a frame for a handle on this side: masked if it is the client that sends it (RFC 6455
/// section 5.2).
pub(crate) fn frame(side: Side, opcode: OpCode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let opcode = match opcode {
        OpCode::Continuation => 0,
        OpCode::Text => 1,
        OpCode::Binary => 2,
        OpCode::Close => 8,
        OpCode::Ping => 9,
        OpCode::Pong => 10,
    };
    let masked = side == Side::Server;
    let mask_bit = u8::from(masked) << 7;
    let mut wire = vec![u8::from(fin) << 7 | opcode];
    match payload.len() {
        short @ ..126 => wire.push(mask_bit | short as u8),
        medium @ ..0x1_0000 => {
            wire.push(mask_bit | 126);
            wire.extend((medium as u16).to_be_bytes());
        }
        long => {
            wire.push(mask_bit | 127);
            wire.extend((long as u64).to_be_bytes());
        }
    }
    if masked {
        wire.extend(MASK);
        wire.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        wire.extend(payload);
    }
    wire
}

/// The frame at the head of what was received, and its length; none if it is not whole.
fn parse(side: Side, bytes: &[u8]) -> Option<(Frame, usize)> {
    let &[first, second, ref rest @ ..] = bytes else { return None };
    assert_eq!(first & 0xf0, 0x80, "a frame is whole and without reserved bits");
    let masked = second & 0x80 != 0;
    assert_eq!(masked, side == Side::Client, "a client's frame is masked, a server's is not");
    let opcode = match first & 0x0f {
        1 => OpCode::Text,
        2 => OpCode::Binary,
        8 => OpCode::Close,
        9 => OpCode::Ping,
        10 => OpCode::Pong,
        other => panic!("{other} is no opcode that is sent"),
    };
    let (length, rest) = match second & 0x7f {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u16::from_be_bytes(*length).into(), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*length) as usize, rest)
        }
        short => (usize::from(short), rest),
    };
    let (mask, rest) = if masked { rest.split_first_chunk::<4>()? } else { (&[0; 4], rest) };
    let payload = rest.get(..length)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((Frame { opcode, payload }, bytes.len() - rest.len() + length))
}
