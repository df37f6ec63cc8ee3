//! RFC 6455 and RFC 7692 as plain values: bytes go in, messages come out, and the other way round.
//!
//! This crate has no I/O, no clock, no randomness and no runtime. Whoever uses it owns the socket
//! and passes in bytes, limits and masking keys; the crate `sockeye` is such a user, and the one to
//! start with if you want a server.
//!
//! The parts, in the order of their use:
//!
//! 1. [`handshake`] checks an opening handshake and writes the answer, for both roles.
//! 2. [`Inbound`] turns received bytes into [`Event`]s, in place.
//! 3. [`Connection`] keeps the closing handshake and the control frames that wait to be sent.
//! 4. [`outbound`] turns a [`Message`] into bytes for the wire.
//! 5. [`deflate`] negotiates compression and does it, if both ends want it.
//!
//! ```
//! use sockeye_proto::{Event, Extension, Inbound, Limits, Message, Role};
//!
//! // "Hello" as a client sends it (RFC 6455 section 5.7).
//! let mut bytes = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
//! let mut inbound = Inbound::new(&Role::Server, &Limits::default(), Extension::None);
//! let mut input = &mut bytes[..];
//! let event = inbound.next(&mut input)?;
//! assert_eq!(event, Some(Event::Message(Message::from("Hello"))));
//! assert_eq!(inbound.next(&mut input)?, None); // nothing is left: read more
//! # Ok::<(), sockeye_proto::ProtocolError>(())
//! ```

#![deny(unsafe_code)] // allowed in mask.rs and utf8.rs alone, each site with its reason

mod frame;
mod mask;
mod utf8;

mod error;
mod limits;
mod memory;
mod message;

mod connection;
mod inbound;
pub mod outbound;

pub mod deflate;

pub mod handshake;

pub use connection::{Closing, Connection, ControlFrames, Role};
pub use error::{Fault, ProtocolError};
pub use frame::{Header, MAX_CONTROL_PAYLOAD, MAX_HEADER, OpCode};
pub use inbound::{Event, Extension, Inbound};
pub use limits::Limits;
pub use mask::Mask;
pub use memory::{Heap, Memory};
pub use message::{Binary, CloseCode, CloseFrame, Message, Text};
pub use utf8::Utf8Bytes;
