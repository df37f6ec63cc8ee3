//! A raw client over TCP: it says what a test wants, and reads frame by frame.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use sockeye::{OpCode, testing};
use sockeye_proto::Header;

use crate::TIME;

/// The key of RFC 6455 section 1.3, and the only right answer to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) struct Client {
    tcp: TcpStream,
    received: Vec<u8>,
    /// When patience ends, whatever the server does.
    deadline: Instant,
}

/// The head of an answer, in the lines it came in.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Posts a text, and gives the status and the body of the answer.
pub(crate) fn post(address: SocketAddr, path: &str, headers: &[&str], text: &str) -> (u16, String) {
    let mut tcp = TcpStream::connect(address).expect("the program listens");
    tcp.set_read_timeout(Some(TIME)).expect("it is not zero");
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n{}\r\n{text}",
        text.len(),
        headers.iter().map(|header| format!("{header}\r\n")).collect::<String>()
    );
    tcp.write_all(request.as_bytes()).expect("the program reads");
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

impl Client {
    /// Opens a connection.
    pub(crate) fn connect(address: SocketAddr, path: &str) -> Self {
        let (client, answer) = Self::request(address, path, &[]);
        assert_eq!(answer.status, 101, "{answer:?}");
        client
    }

    /// Asks for a connection with further headers and returns the answer, whatever it is.
    pub(crate) fn request(address: SocketAddr, path: &str, headers: &[&str]) -> (Self, Answer) {
        let mut tcp = TcpStream::connect(address).expect("the program listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
             {}\r\n",
            headers.iter().map(|header| format!("{header}\r\n")).collect::<String>()
        );
        tcp.write_all(request.as_bytes()).expect("the program reads");
        let mut client = Self { tcp, received: Vec::new(), deadline: Instant::now() + TIME };
        let end = loop {
            let end = client.received.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => assert!(client.read(), "the end of the connection before an answer"),
            }
        };
        let head = String::from_utf8(client.received.drain(..end).collect()).expect("text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let answer = Answer { status: status.expect("a status"), head };
        if answer.status == 101 {
            assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
        }
        (client, answer)
    }

    /// The rest of an answer that refuses.
    pub(crate) fn body(mut self, answer: &Answer) -> String {
        let length = answer.header("content-length").map_or(0, |value| value.parse().unwrap());
        while self.received.len() < length {
            assert!(self.read(), "the end of the connection before that of the body");
        }
        String::from_utf8(self.received).expect("text")
    }

    pub(crate) fn send(&mut self, opcode: OpCode, payload: impl AsRef<[u8]>) {
        let frame = testing::frame(opcode, true, payload.as_ref());
        self.tcp.write_all(&frame).expect("the connection is open");
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.send(OpCode::Text, text);
    }

    pub(crate) fn send_close(&mut self, code: u16, reason: &str) {
        self.send(OpCode::Close, [&code.to_be_bytes()[..], reason.as_bytes()].concat());
    }

    /// The next frame; none at the end of the connection.
    pub(crate) fn recv(&mut self) -> Option<(OpCode, Vec<u8>)> {
        let (header, payload) = self.recv_frame()?;
        assert!(!header.rsv1, "compression was not offered");
        Some((header.opcode, payload))
    }

    /// The same with its header, where it may be compressed.
    pub(crate) fn recv_frame(&mut self) -> Option<(Header, Vec<u8>)> {
        loop {
            if let Some((header, length)) = Header::parse(&self.received).expect("a frame") {
                let end = length + usize::try_from(header.payload_len).expect("a length");
                if self.received.len() >= end {
                    assert!(header.fin, "the examples send whole messages");
                    assert!(header.mask.is_none(), "a server masks nothing");
                    let payload = self.received.drain(..end).skip(length).collect();
                    return Some((header, payload));
                }
            }
            if !self.read() {
                assert!(self.received.is_empty(), "the end of the connection within a frame");
                return None;
            }
        }
    }

    pub(crate) fn recv_text(&mut self) -> String {
        match self.recv() {
            Some((OpCode::Text, payload)) => String::from_utf8(payload).expect("text is UTF-8"),
            other => panic!("a text was expected, and not {other:?}"),
        }
    }

    /// The next frame, which has to close the connection; answers it and waits for the end.
    pub(crate) fn recv_close(&mut self) -> (u16, String) {
        let Some((OpCode::Close, payload)) = self.recv() else { panic!("no close frame") };
        let (code, reason) = payload.split_first_chunk().expect("a code");
        let reason = String::from_utf8(reason.to_vec()).expect("text");
        // The server may have gone already, if this answers it what it answered.
        let answer = testing::frame(OpCode::Close, true, code);
        let _ = self.tcp.write_all(&answer);
        assert_eq!(self.recv(), None, "the end");
        (u16::from_be_bytes(*code), reason)
    }

    /// Reads what is there, or waits for it; false at the end of the connection.
    fn read(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "{TIME:?} have passed");
        self.tcp.set_read_timeout(Some(left)).expect("it is not zero");
        let mut buffer = [0; 64 * 1024];
        let count = self.tcp.read(&mut buffer).expect("something in time");
        self.received.extend_from_slice(&buffer[..count]);
        count > 0
    }
}
