//! permessage-deflate: messages that travel compressed (RFC 7692).
//!
//! The parts, in the order of their use:
//!
//! 1. The opening handshake carries a client's [`Offer`]s and the server's [`Parameters`]; a
//!    server chooses by its [`Policy`]. [`handshake`](crate::handshake) does this on both sides.
//! 2. [`Parameters`] give each direction a [`Context`], which holds what one message may refer to
//!    of the messages before it: nothing, or a window of so many bytes.
//! 3. [`Deflater`] and [`Inflater`] do the work. They are large and belong to no connection: a few
//!    of each per thread serve them all.
//!
//! ```
//! use sockeye_proto::{Limits, Message, OpCode, Role, outbound};
//! use sockeye_proto::deflate::{self, Deflater, Inflater, Level, Offer, Policy, WindowBits};
//!
//! let window_bits = WindowBits::new(12).expect("8 to 15");
//! let agreed = Policy::Dedicated { window_bits }.answer(&Offer::browser());
//! assert_eq!(agreed.to_string(), "permessage-deflate; server_max_window_bits=12; \
//!                                 client_max_window_bits=12");
//!
//! // The server sends the same thing twice; the second time it is a reference to the first.
//! let (mut deflater, mut sending) = (Deflater::new(), agreed.sending(&Role::Server));
//! let (mut inflater, mut receiving) = (Inflater::new(), agreed.receiving(&CLIENT));
//! # const CLIENT: Role = Role::Client { masking_key: || [0; 4] };
//! let (mut compressed, mut inflated) = (Vec::new(), Vec::new());
//! for length in [37, 5] {
//!     let text = "what has been said is said once again";
//!     deflater.compress(text.as_bytes(), Level::FASTEST, &mut sending, &mut compressed);
//!     assert!(compressed.len() <= length);
//!     let mut wire = Vec::new();
//!     outbound::compressed(&Role::Server, OpCode::Text, &compressed, &mut wire);
//!
//!     // At the other end `Inbound` gives the payload as `Event::Extended`.
//!     let limits = Limits::default();
//!     inflater.inflate(&compressed, &mut receiving, &limits, &mut inflated)?;
//!     assert_eq!(deflate::message(OpCode::Text, &inflated)?, Message::from(text));
//! }
//! # Ok::<(), sockeye_proto::ProtocolError>(())
//! ```

mod negotiate;

mod header;

mod context;

mod deflater;
mod inflater;

pub use context::Context;
pub use deflater::{Deflater, Level};
pub use header::offers;
pub(crate) use header::{elements, name, offered};
pub use inflater::{Inflater, message, owned_message};
pub use negotiate::{
    AnswerError, ClientWindow, NAME, Offer, ParameterError, Parameters, Policy, WindowBits, check,
};
