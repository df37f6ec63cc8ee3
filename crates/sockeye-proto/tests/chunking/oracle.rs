//! A decoder for valid streams that have arrived whole: as simple as the text of section 5, and with
//! nothing in common with the one under test but the types of its results.

use sockeye_proto::{CloseCode, CloseFrame, Event, Message, OpCode};

/// The events of a valid stream, up to its close frame.
pub(crate) fn decode(bytes: &[u8]) -> Vec<Event<'static>> {
    let mut events = Vec::new();
    let mut message: Option<(u8, Vec<u8>)> = None;
    let mut at = 0;
    while at < bytes.len() {
        let first = bytes[at];
        let masked = bytes[at + 1] & 0x80 != 0;
        let (length, header) = match bytes[at + 1] & 0x7f {
            126 => (number(&bytes[at + 2..at + 4]), 4),
            127 => (number(&bytes[at + 2..at + 10]), 10),
            short => (usize::from(short), 2),
        };
        at += header;
        let mut key = [0; 4];
        if masked {
            key.copy_from_slice(&bytes[at..at + 4]);
            at += 4;
        }
        let payload: Vec<u8> = (0..length).map(|i| bytes[at + i] ^ key[i % 4]).collect();
        at += length;
        match first & 0x0f {
            0x8 => {
                events.push(Event::Close(close(&payload)));
                return events;
            }
            0x9 => events.push(Event::Ping(bytes::Bytes::from(payload).into())),
            0xa => events.push(Event::Pong(bytes::Bytes::from(payload).into())),
            _ => {
                let (_, collected) = message.get_or_insert((first & 0x4f, Vec::new()));
                collected.extend(payload);
                if first & 0x80 != 0 {
                    events.extend(message.take().map(finished));
                }
            }
        }
    }
    events
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number * 256 + usize::from(*byte))
}

fn finished((first, payload): (u8, Vec<u8>)) -> Event<'static> {
    match first {
        0x01 => Event::Message(Message::from(String::from_utf8(payload).expect("valid text"))),
        0x02 => Event::Message(Message::from(payload)),
        0x41 => Event::Extended(OpCode::Text, bytes::Bytes::from(payload).into()),
        _ => Event::Extended(OpCode::Binary, bytes::Bytes::from(payload).into()),
    }
}

fn close(payload: &[u8]) -> Option<CloseFrame> {
    let (code, reason) = payload.split_first_chunk()?;
    let reason = std::str::from_utf8(reason).expect("a valid reason");
    Some(CloseFrame::new(CloseCode(u16::from_be_bytes(*code)), reason))
}
