//! The peer's side of the wire, written from RFC 6455 section 5 and not with the crate under test.
#![allow(dead_code, reason = "every test binary uses a part of its own")]

use sockeye_proto::{Event, Extension, Inbound, Limits, Message, ProtocolError, Role};

pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const RSV2: u8 = 0x20;
pub(crate) const RSV3: u8 = 0x10;

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// The key of the examples in section 5.7.
pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const SERVER: Role = Role::Server;
pub(crate) const CLIENT: Role = Role::Client { masking_key: || KEY };
/// The role of this side; the peer has the other one.
pub(crate) const ROLES: [Role; 2] = [SERVER, CLIENT];

/// What came out of some bytes: events, and the error that ended them.
pub(crate) type Outcome = (Vec<Event<'static>>, Option<ProtocolError>);

pub(crate) fn is_server(role: &Role) -> bool {
    matches!(role, Role::Server)
}

pub(crate) fn peer_of(role: &Role) -> Role {
    if is_server(role) { CLIENT } else { SERVER }
}

/// A frame as the peer of `role` writes it; `first` is the first byte, flags and opcode.
pub(crate) fn frame(role: &Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(role, first, payload.len() as u64);
    let masked = payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key);
    if is_server(role) {
        bytes.extend(masked);
    } else {
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// A header as the peer of `role` writes it, for a payload of that length.
pub(crate) fn header(role: &Role, first: u8, length: u64) -> Vec<u8> {
    match length {
        0..=125 => header_with(role, first, length as u8, &[]),
        126..=65_535 => header_with(role, first, 126, &(length as u16).to_be_bytes()),
        _ => header_with(role, first, 127, &length.to_be_bytes()),
    }
}

/// The same with the length in a form of the caller's choice, allowed or not.
pub(crate) fn header_with(role: &Role, first: u8, length: u8, extended: &[u8]) -> Vec<u8> {
    let mask_bit = if is_server(role) { 0x80 } else { 0 };
    let key: &[u8] = if is_server(role) { &KEY } else { &[] };
    [&[first, mask_bit | length], extended, key].concat()
}

/// The frames that `role` wrote, first byte and unmasked payload; panics on half a frame, and on a
/// mask where there should be none or the other way round.
pub(crate) fn written(role: &Role, wire: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut rest = wire;
    while !rest.is_empty() {
        let (first, second) = (rest[0], rest[1]);
        assert_eq!(second & 0x80 == 0, is_server(role), "only a client masks: {rest:x?}");
        let (length, used) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
            127 => (u64::from_be_bytes(rest[2..10].try_into().expect("eight bytes")), 10),
            short => (u64::from(short), 2),
        };
        rest = &rest[used..];
        let key = if is_server(role) { [0; 4] } else { [rest[0], rest[1], rest[2], rest[3]] };
        rest = &rest[if is_server(role) { 0 } else { 4 }..];
        let (payload, behind) = rest.split_at(length as usize);
        frames.push((first, payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k).collect()));
        rest = behind;
    }
    frames
}

/// This side with the default limits and no extension.
pub(crate) fn plain(role: &Role) -> Inbound {
    Inbound::new(role, &Limits::default(), Extension::None)
}

/// Feeds all bytes at once.
pub(crate) fn feed(inbound: &mut Inbound, bytes: &[u8]) -> Outcome {
    feed_in_chunks(inbound, bytes, &[bytes.len().max(1)])
}

/// Feeds the bytes in chunks of these sizes, over and over.
pub(crate) fn feed_in_chunks(inbound: &mut Inbound, bytes: &[u8], sizes: &[usize]) -> Outcome {
    let mut events = Vec::new();
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        let (chunk, behind) = rest.split_at(rest.len().min(*size));
        rest = behind;
        let mut chunk = chunk.to_vec();
        let mut input = &mut chunk[..];
        loop {
            match inbound.next(&mut input) {
                Ok(Some(event)) => events.push(owned(event)),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert!(input.is_empty(), "asks for more although {} bytes are left", input.len());
        if rest.is_empty() {
            break;
        }
    }
    (events, None)
}

pub(crate) fn owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Message(message) => Event::Message(message.into_owned()),
        Event::Extended(kind, payload) => Event::Extended(kind, payload.into_owned()),
        Event::Ping(payload) => Event::Ping(payload.into_owned()),
        Event::Pong(payload) => Event::Pong(payload.into_owned()),
        Event::Close(frame) => Event::Close(frame),
    }
}

pub(crate) fn text(text: &str) -> Event<'static> {
    Event::Message(Message::from(text.to_owned()))
}

pub(crate) fn binary(data: &[u8]) -> Event<'static> {
    Event::Message(Message::from(data.to_vec()))
}

pub(crate) fn ping(payload: &'static [u8]) -> Event<'static> {
    Event::Ping(payload.into())
}

pub(crate) fn pong(payload: &'static [u8]) -> Event<'static> {
    Event::Pong(payload.into())
}
