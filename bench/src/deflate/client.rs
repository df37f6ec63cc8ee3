//! A client that sends messages compressed in advance, and knows what to get back.

use std::{io, sync::Arc};

use sockeye_proto::{
    Header, Limits, Message, OpCode, Role,
    deflate::{self, Context, Deflater, Inflater, Level, Offer, Parameters},
    outbound,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::json;
use crate::{Result, load, serve::Compression};

const CLIENT: Role = Role::Client { masking_key: || [0x37, 0xfa, 0x21, 0x3d] };

/// A connection on which both sides say one message after the other, from a list.
pub(crate) struct Client {
    tcp: TcpStream,
    script: Arc<Script>,
    sent: usize,
    answered: usize,
    /// What the answers may refer to, as long as each is inflated.
    context: Context,
    received: Vec<u8>,
}

/// The messages as they are and as a client's frames.
struct Script {
    agreed: Option<Parameters>,
    texts: Vec<String>,
    frames: Vec<Vec<u8>>,
}

impl Client {
    /// Opens many connections, which all have to agree on the same.
    pub(crate) async fn connect_many(
        port: u16,
        path: &str,
        compression: Compression,
        size: usize,
        count: usize,
    ) -> Result<Vec<Self>> {
        let mut script = None;
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            let (tcp, answer) = load::open(port, path, offer(compression)).await?;
            let agreed = agreed(compression, answer.as_deref())?;
            let script = script.get_or_insert_with(|| Arc::new(Script::new(agreed, size)));
            if agreed != script.agreed {
                return Err(
                    format!("first {:?} was agreed on, then {agreed:?}", script.agreed).into()
                );
            }
            let context = agreed.unwrap_or_default().receiving(&CLIENT);
            let script = Arc::clone(script);
            let received = Vec::new();
            clients.push(Self { tcp, script, sent: 0, answered: 0, context, received });
        }
        Ok(clients)
    }

    pub(crate) fn agreed(&self) -> Option<Parameters> {
        self.script.agreed
    }

    /// Sends the next message.
    pub(crate) async fn send(&mut self) -> io::Result<()> {
        let frames = &self.script.frames;
        self.tcp.write_all(&frames[self.sent % frames.len()]).await?;
        self.sent += 1;
        Ok(())
    }

    /// Receives one frame, and gives its length on the wire. With an inflater it has to be the next
    /// message; where there is takeover, all before it have to have been inflated too.
    pub(crate) async fn receive(&mut self, inflater: Option<&mut Inflater>) -> io::Result<usize> {
        let header = self.receive_frame().await?;
        if let Some(inflater) = inflater {
            let payload = &self.received[header..];
            let mut inflated = Vec::new();
            let said = if self.script.agreed.is_some() {
                let limits = Limits::default();
                inflater
                    .inflate(payload, &mut self.context, &limits, &mut inflated)
                    .map_err(io::Error::other)?;
                &inflated
            } else {
                payload
            };
            let texts = &self.script.texts;
            if said != texts[self.answered % texts.len()].as_bytes() {
                return Err(io::Error::other("what came back is not what was sent"));
            }
        }
        self.answered += 1;
        Ok(self.received.len())
    }

    /// Receives one frame and nothing behind it, and gives the length of its header.
    async fn receive_frame(&mut self) -> io::Result<usize> {
        self.received.clear();
        loop {
            if let Some((header, length)) =
                Header::parse(&self.received).map_err(io::Error::other)?
            {
                let whole = length as u64 + header.payload_len;
                if !self.is_expected(&header) || self.received.len() as u64 > whole {
                    return Err(io::Error::other(format!("{header:?} was not expected")));
                }
                if self.received.len() as u64 == whole {
                    return Ok(length);
                }
            }
            if self.tcp.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// A whole text, compressed if that was agreed on.
    fn is_expected(&self, header: &Header) -> bool {
        header.fin && header.opcode == OpCode::Text && header.rsv1 == self.script.agreed.is_some()
    }
}

impl Script {
    fn new(agreed: Option<Parameters>, size: usize) -> Self {
        let texts = json::messages(size);
        let frames = texts.iter().map(|text| frame(agreed, text)).collect();
        Self { agreed, texts, frames }
    }
}

/// Each message is compressed by itself, which a server has to take in any case.
fn frame(agreed: Option<Parameters>, text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    let Some(agreed) = agreed else {
        outbound::message(&CLIENT, &Message::from(text), &mut frame);
        return frame;
    };
    let by_itself = Parameters { client_no_context_takeover: true, ..agreed };
    let mut compressed = Vec::new();
    Deflater::new().compress(
        text.as_bytes(),
        Level::default(),
        &mut by_itself.sending(&CLIENT),
        &mut compressed,
    );
    outbound::compressed(&CLIENT, OpCode::Text, &compressed, &mut frame);
    frame
}

fn offer(compression: Compression) -> Option<Offer> {
    match compression {
        Compression::Off => None,
        Compression::Shared => Some(Offer {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            ..Offer::default()
        }),
        Compression::Dedicated => Some(Offer::browser()),
    }
}

/// What the answer's header means, if it is what the row is about.
fn agreed(compression: Compression, answer: Option<&str>) -> Result<Option<Parameters>> {
    let Some(offer) = offer(compression) else {
        return if answer.is_none() { Ok(None) } else { Err("what was answered?".into()) };
    };
    let answer = answer.ok_or("the server did not agree to compression")?;
    let agreed = deflate::check(answer, &[offer])?;
    let takes_over = compression == Compression::Dedicated;
    if agreed.receiving(&CLIENT).takes_over() != takes_over {
        return Err(format!("the server agreed to another takeover: {answer}").into());
    }
    Ok(Some(agreed))
}
