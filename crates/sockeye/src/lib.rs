//! sockeye
#![forbid(unsafe_code)]

mod error;

mod closures;
mod config;
mod deadlines;
mod handler;
mod link;
mod outbox;
mod pool;
mod queue;
mod registry;
mod run;
mod server;
mod socket;
mod transport;
mod upgrade;

pub mod testing;

pub use closures::{AsyncCallback, AsyncSessionCallback, On, Outcome, on};
pub use config::{Config, KeepAlive};
pub use error::{Closed, Error, ListenError, Panicked, Result, ShutdownError};
pub use handler::{Handler, Session};
pub use server::{Running, Server};
pub use socket::{Close, ClosedBy, DropReason, SendStatus, Socket, State};
pub use sockeye_proto::{
    Binary, CloseCode, Limits, Message, OpCode, ProtocolError, Text, Utf8Bytes,
};
pub use upgrade::{Accept, Handshake, Origins, Rejection, ws, ws_with};
pub use uuid::Uuid;
