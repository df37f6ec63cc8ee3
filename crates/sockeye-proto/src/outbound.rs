//! Messages become bytes for the wire.

use crate::{
    CloseCode, CloseFrame, Header, MAX_CONTROL_PAYLOAD, MAX_HEADER, Mask, Message, OpCode, Role,
};

/// The longest control frame, header included, in bytes.
pub const MAX_CONTROL_FRAME: usize = 6 + MAX_CONTROL_PAYLOAD;

/// Appends `message` to `wire`, as one frame.
///
/// ```
/// use sockeye_proto::{Role, outbound};
///
/// let mut wire = Vec::new();
/// outbound::message(&Role::Server, &"Hello".into(), &mut wire);
/// assert_eq!(wire, b"\x81\x05Hello"); // RFC 6455 section 5.7
/// ```
#[inline]
pub fn message(role: &Role, message: &Message<'_>, wire: &mut Vec<u8>) {
    frame(role, message.opcode(), message.as_bytes(), wire);
}

/// Appends a message that [`Deflater`](crate::deflate::Deflater) has compressed, as one frame with
/// RSV1 set, for a peer that has agreed to permessage-deflate (RFC 7692 section 6.1). `opcode` is
/// the message's own, text or binary.
///
/// One frame always: RFC 7692 allows fragments, and Safari does not inflate them.
///
/// ```
/// use sockeye_proto::{OpCode, Role, outbound};
///
/// let mut wire = Vec::new();
/// let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]; // RFC 7692 section 7.2.3.1
/// outbound::compressed(&Role::Server, OpCode::Text, &hello, &mut wire);
/// assert_eq!(wire, [0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
/// ```
pub fn compressed(role: &Role, opcode: OpCode, payload: &[u8], wire: &mut Vec<u8>) {
    let header = Header { rsv1: true, ..Header::new(opcode, payload.len()) };
    write(role, header, payload, wire);
}

/// How long a server's frame with a payload of this length is, in bytes.
pub fn server_length(payload: usize) -> usize {
    Header::new(OpCode::Binary, payload).write(&mut [0; MAX_HEADER]).len() + payload
}

/// Appends the header alone, for a payload that follows by reference; a server's, as a client has
/// to mask a copy.
pub fn server_header(message: &Message<'_>, wire: &mut Vec<u8>) {
    let header = Header::new(message.opcode(), message.len());
    wire.extend_from_slice(header.write(&mut [0; MAX_HEADER]));
}

/// Appends a ping or a pong; a payload of more than 125 bytes is cut off there.
pub fn control(role: &Role, opcode: OpCode, payload: &[u8], wire: &mut Vec<u8>) {
    frame(role, opcode, &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)], wire);
}

/// Appends a close frame. One whose code must not be sent has no payload, and a reason is cut off
/// between two characters so that it fits.
pub fn close(role: &Role, close: Option<&CloseFrame>, wire: &mut Vec<u8>) {
    let mut payload = Vec::new();
    if let Some(CloseFrame { code: CloseCode(code), reason }) =
        close.filter(|close| close.code.may_be_sent())
    {
        let end = reason.floor_char_boundary(MAX_CONTROL_PAYLOAD - 2);
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(&reason.as_bytes()[..end]);
    }
    frame(role, OpCode::Close, &payload, wire);
}

/// Appends a payload as one frame of this kind. That of a text or a close frame has to be what it says:
/// it is not looked at.
#[inline]
pub fn frame(role: &Role, opcode: OpCode, payload: &[u8], wire: &mut Vec<u8>) {
    write(role, Header::new(opcode, payload.len()), payload, wire);
}

#[inline]
fn write(role: &Role, mut header: Header, payload: &[u8], wire: &mut Vec<u8>) {
    if let Role::Client { masking_key } = role {
        header.mask = Some(masking_key());
    }
    wire.extend_from_slice(header.write(&mut [0; MAX_HEADER]));
    let start = wire.len();
    wire.extend_from_slice(payload);
    if let Some(key) = header.mask {
        Mask::new(key).apply(&mut wire[start..]);
    }
}
