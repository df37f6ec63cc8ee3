//! The other end of a connection, by hand.

use std::io;

use bytes::{Bytes, BytesMut};
use http::Response;
use sockeye_proto::{
    CloseCode, CloseFrame, Header, MAX_HEADER, Mask, Message, OpCode, Role, outbound,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The masking key of every frame that a [`Peer`] sends.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The other end of a connection: a client that answers nothing by itself.
#[derive(Debug)]
pub struct Peer {
    pub(super) response: Response<()>,
    pub(super) io: DuplexStream,
    pub(super) received: BytesMut,
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// What the frame is.
    pub opcode: OpCode,
    /// Whether it ends its message.
    pub fin: bool,
    /// Its payload.
    pub payload: Bytes,
}

impl Peer {
    /// The answer that opened the connection: its headers.
    pub fn response(&self) -> &Response<()> {
        &self.response
    }

    /// Sends a message in one frame.
    ///
    /// # Panics
    ///
    /// The connection has ended; use [`try_send_raw`](Self::try_send_raw) where that may be.
    pub async fn send<'a>(&mut self, message: impl Into<Message<'a>>) {
        let mut wire = Vec::new();
        let role = Role::Client { masking_key: || KEY };
        outbound::message(&role, &message.into(), &mut wire);
        self.send_raw(&wire).await;
    }

    /// Sends one frame.
    ///
    /// # Panics
    ///
    /// The connection has ended.
    pub async fn send_frame(&mut self, opcode: OpCode, fin: bool, payload: &[u8]) {
        self.send_raw(&frame(opcode, fin, payload)).await;
    }

    /// Sends a close frame.
    ///
    /// # Panics
    ///
    /// The connection has ended.
    pub async fn send_close(&mut self, code: CloseCode, reason: &str) {
        let mut wire = Vec::new();
        let role = Role::Client { masking_key: || KEY };
        outbound::close(&role, Some(&CloseFrame::new(code, reason)), &mut wire);
        self.send_raw(&wire).await;
    }

    /// Sends bytes as they are; [`frame`] makes some.
    ///
    /// # Panics
    ///
    /// The connection has ended.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).await.expect("the connection is open");
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub async fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// The next frame; none at the end of the connection.
    ///
    /// # Panics
    ///
    /// What came is not a frame.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing that was received is lost.
    pub async fn recv(&mut self) -> Option<Frame> {
        loop {
            if let Some((header, length)) = Header::parse(&self.received).expect("a frame") {
                let end = length + header.payload_len as usize;
                if self.received.len() >= end {
                    let payload = self.received.split_to(end).freeze().slice(length..);
                    return Some(Frame { opcode: header.opcode, fin: header.fin, payload });
                }
            }
            match self.io.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next frame, which has to be a whole text message.
    ///
    /// # Panics
    ///
    /// It is something else.
    pub async fn recv_text(&mut self) -> String {
        match self.recv().await {
            Some(Frame { opcode: OpCode::Text, fin: true, payload }) => {
                String::from_utf8(payload.into()).expect("a text is UTF-8")
            }
            other => panic!("a text was expected, and not {other:?}"),
        }
    }

    /// The next frame, which has to be a whole binary message.
    ///
    /// # Panics
    ///
    /// It is something else.
    pub async fn recv_binary(&mut self) -> Bytes {
        match self.recv().await {
            Some(Frame { opcode: OpCode::Binary, fin: true, payload }) => payload,
            other => panic!("a binary message was expected, and not {other:?}"),
        }
    }

    /// The next frame, which has to be a close frame: its code, 1005 if it has none, and reason.
    ///
    /// # Panics
    ///
    /// It is something else.
    pub async fn recv_close(&mut self) -> (CloseCode, String) {
        match self.recv().await {
            Some(Frame { opcode: OpCode::Close, payload, .. }) => match payload.split_first_chunk()
            {
                Some((code, reason)) => {
                    let reason = String::from_utf8(reason.to_vec()).expect("a reason is UTF-8");
                    (CloseCode(u16::from_be_bytes(*code)), reason)
                }
                None => (CloseCode::NO_STATUS, String::new()),
            },
            other => panic!("a close frame was expected, and not {other:?}"),
        }
    }

    /// Waits for the end of the connection.
    ///
    /// # Panics
    ///
    /// A frame comes before it.
    pub async fn recv_end(&mut self) {
        let frame = self.recv().await;
        assert!(frame.is_none(), "the end was expected, and not {frame:?}");
    }
}

/// The bytes of a frame as a client sends it, masked.
pub fn frame(opcode: OpCode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let header = Header { fin, mask: Some(KEY), ..Header::new(opcode, payload.len()) };
    let mut wire = header.write(&mut [0; MAX_HEADER]).to_vec();
    let start = wire.len();
    wire.extend_from_slice(payload);
    Mask::new(KEY).apply(&mut wire[start..]);
    wire
}
