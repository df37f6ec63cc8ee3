//! The other end of a connection, by hand: its frames from RFC 6455, and what they hold inflated and
//! deflated as RFC 7692 says.

use std::{future::poll_fn, pin::Pin, task::Poll};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use sha1::{Digest, Sha1};
use sockeye::testing::Connect;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf};

use crate::deflate::{self, Style};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client or a server that does nothing by itself.
pub(crate) struct Wire {
    io: DuplexStream,
    received: Vec<u8>,
    is_client: bool,
    agreed: Option<Agreed>,
    /// What went through the windows of the two directions, as far as it is taken over.
    sent: Vec<u8>,
    taken: Vec<u8>,
}

/// What the header of the answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) of_server: Direction,
    pub(crate) of_client: Direction,
}

/// What it says of the messages that one side sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Direction {
    /// How far back they may refer, in bytes.
    pub(crate) window: usize,
    pub(crate) takes_over: bool,
}

/// What came in one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) opcode: u8,
    /// The message, inflated if it was compressed.
    pub(crate) payload: Vec<u8>,
    pub(crate) was_compressed: bool,
    /// The longest way back of a reference, and the longest beyond the begin of the message.
    pub(crate) farthest: usize,
    pub(crate) before: usize,
    /// The length of its payload on the wire.
    pub(crate) length: usize,
}

impl Agreed {
    /// The element as it is written in the RFC: a parameter is not looked at that is not one of the
    /// four.
    pub(crate) fn parse(header: &str) -> Self {
        let direction = |side: &str| {
            let value = |name: &str| {
                let name = format!("{side}_{name}");
                let mut parameters = header.split(';').map(str::trim);
                parameters.find_map(|one| one.strip_prefix(&*name)).map(str::to_owned)
            };
            let bits = value("max_window_bits=").map_or(15, |bits| bits.parse().expect("a number"));
            let takes_over = value("no_context_takeover").is_none();
            Direction { window: 1 << bits, takes_over }
        };
        assert!(header.starts_with("permessage-deflate"), "{header}");
        Self { of_server: direction("server"), of_client: direction("client") }
    }
}

impl Wire {
    /// A client that offers this, and what the server answers.
    pub(crate) async fn connect(connect: Connect, offer: Option<&str>) -> (Self, Option<String>) {
        let mut wire = Self::new(connect.stream(), true);
        let offer = offer.map(|offer| format!("Sec-WebSocket-Extensions: {offer}\r\n"));
        let request = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{}\r\n",
            offer.unwrap_or_default(),
        );
        wire.write(request.as_bytes()).await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let answer = header(&head, "sec-websocket-extensions");
        wire.agreed = answer.as_deref().map(Agreed::parse);
        (wire, answer)
    }

    /// A server that answers this, and what the client offers.
    pub(crate) async fn accept(io: DuplexStream, answer: Option<&str>) -> (Self, Option<String>) {
        let mut wire = Self::new(io, false);
        let head = wire.head().await;
        let key = header(&head, "sec-websocket-key").expect("a key");
        let guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
        let accept = BASE64.encode(Sha1::digest(format!("{key}{guid}")));
        let extensions = answer.map(|answer| format!("Sec-WebSocket-Extensions: {answer}\r\n"));
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: {accept}\r\n{}\r\n",
            extensions.unwrap_or_default(),
        );
        wire.write(response.as_bytes()).await;
        wire.agreed = answer.map(Agreed::parse);
        (wire, header(&head, "sec-websocket-extensions"))
    }

    fn new(io: DuplexStream, is_client: bool) -> Self {
        let (received, sent, taken) = (Vec::new(), Vec::new(), Vec::new());
        Self { io, received, is_client, agreed: None, sent, taken }
    }

    /// What HTTP has to say, up to the empty line.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.io.read_u8().await.expect("the handshake is whole"));
        }
        String::from_utf8(head).expect("headers are text")
    }

    /// The directions in which this end sends, and takes.
    fn sending(&self) -> Option<Direction> {
        self.agreed.map(|agreed| if self.is_client { agreed.of_client } else { agreed.of_server })
    }

    fn taking(&self) -> Option<Direction> {
        self.agreed.map(|agreed| if self.is_client { agreed.of_server } else { agreed.of_client })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.expect("the connection is open");
    }

    /// One frame with this first byte.
    fn frame(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        let masked = if self.is_client { 0x80 } else { 0 };
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..=125 => frame.push(masked | length as u8),
            length @ 126..=65_535 => {
                frame.push(masked | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(masked | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if self.is_client {
            frame.extend(KEY);
            frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            frame.extend(payload);
        }
        frame
    }

    pub(crate) async fn send_control(&mut self, opcode: u8, payload: &[u8]) {
        let frame = self.frame(FIN | opcode, payload);
        self.write(&frame).await;
    }

    /// A message as its frames: compressed in this style if that was agreed to and a style is given,
    /// and cut into fragments of these sizes.
    pub(crate) fn message(
        &mut self,
        opcode: u8,
        message: &[u8],
        style: Option<Style>,
        cuts: &[usize],
    ) -> Vec<u8> {
        match style.and_then(|style| Some((style, self.sending()?))) {
            Some((style, Direction { window, takes_over })) => {
                let before = &self.sent[self.sent.len().saturating_sub(window)..];
                let payload = deflate::deflate(before, window, message, style);
                if takes_over {
                    keep(&mut self.sent, message);
                }
                self.fragments(RSV1 | opcode, &payload, cuts)
            }
            None => self.fragments(opcode, message, cuts),
        }
    }

    /// A payload that is compressed already.
    pub(crate) fn compressed(&self, opcode: u8, payload: &[u8]) -> Vec<u8> {
        self.fragments(RSV1 | opcode, payload, &[])
    }

    /// A frame with this first byte, right or wrong.
    pub(crate) fn raw(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        self.frame(first, payload)
    }

    fn fragments(&self, mut first: u8, payload: &[u8], cuts: &[usize]) -> Vec<u8> {
        let mut rest = payload;
        let mut frames = Vec::new();
        for cut in cuts {
            let (piece, behind) = rest.split_at((*cut).min(rest.len()));
            frames.extend(self.frame(first, piece));
            (rest, first) = (behind, 0);
        }
        frames.extend(self.frame(FIN | first, rest));
        frames
    }

    /// The next frame, which has to be a whole message or a control frame, compressed as was agreed or
    /// not at all. None at the end.
    pub(crate) async fn recv(&mut self) -> Option<Taken> {
        loop {
            if let Some(taken) = self.next() {
                return Some(taken);
            }
            match self.io.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Reads what is there and no more, so much of it at most; whoever writes does not run meanwhile.
    pub(crate) async fn read_at_most(&mut self, count: usize) {
        let mut bytes = vec![0; count];
        let mut read = 0;
        poll_fn(|cx| {
            while read < count
                && let mut space = ReadBuf::new(&mut bytes[read..])
                && let Poll::Ready(Ok(())) = Pin::new(&mut self.io).poll_read(cx, &mut space)
                && !space.filled().is_empty()
            {
                read += space.filled().len();
            }
            Poll::Ready(())
        })
        .await;
        self.received.extend(&bytes[..read]);
    }

    /// The next frame of what was read.
    pub(crate) fn next(&mut self) -> Option<Taken> {
        let (first, payload) = self.take_frame()?;
        let opcode = first & 0x0f;
        assert_eq!(first & 0x30, 0, "RSV2 and RSV3 have no meaning");
        assert_ne!(first & FIN, 0, "every message is one frame");
        let length = payload.len();
        if first & RSV1 == 0 {
            let (was_compressed, farthest, before) = (false, 0, 0);
            return Some(Taken { opcode, payload, was_compressed, farthest, before, length });
        }
        assert!([TEXT, BINARY].contains(&opcode), "only messages are compressed");
        let direction = self.taking().expect("compressed, and that was not agreed to");
        let window = &self.taken[self.taken.len().saturating_sub(direction.window)..];
        let inflated = deflate::inflate(window, &payload).expect("valid, and within its window");
        assert!(inflated.farthest <= direction.window, "{} back", inflated.farthest);
        assert!(length < inflated.message.len(), "as long as it was, and compressed");
        if direction.takes_over {
            keep(&mut self.taken, &inflated.message);
        }
        let deflate::Inflated { message, farthest, before } = inflated;
        Some(Taken { opcode, payload: message, was_compressed: true, farthest, before, length })
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, second, rest @ ..] = &self.received[..] else { return None };
        let (first, is_masked) = (*first, second & 0x80 != 0);
        assert_ne!(is_masked, self.is_client, "the frames of a client are masked, and only they");
        let (length, rest) = match second & 0x7f {
            126 => {
                rest.split_first_chunk().map(|(n, rest)| (u16::from_be_bytes(*n).into(), rest))?
            }
            127 => rest.split_first_chunk().map(|(n, rest)| (u64::from_be_bytes(*n), rest))?,
            length => (length.into(), rest),
        };
        let (key, rest) = if is_masked { rest.split_at_checked(4)? } else { (&[0; 4][..], rest) };
        let payload = rest.get(..length as usize)?;
        let payload: Vec<u8> =
            payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        let left = rest.len() - payload.len();
        self.received.drain(..self.received.len() - left);
        Some((first, payload))
    }

    /// The next frame, which has to be a close frame: its code.
    pub(crate) async fn recv_close(&mut self) -> u16 {
        let taken = self.recv().await.expect("a close frame");
        assert_eq!(taken.opcode, CLOSE, "{taken:?}");
        u16::from_be_bytes([taken.payload[0], taken.payload[1]])
    }
}

/// No window is larger than what is kept.
fn keep(window: &mut Vec<u8>, message: &[u8]) {
    window.extend_from_slice(message);
    let surplus = window.len().saturating_sub(32 * 1024);
    window.drain(..surplus);
}

/// The first header of this name.
fn header(head: &str, name: &str) -> Option<String> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some(value.trim().to_owned())
}
