//! The errors that users meet.

use std::{
    any::Any,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use sockeye_proto::handshake::client::{HandshakeError, OfferError};

use crate::Close;

/// Any error; what `?` in a handler converts into.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What the methods of a [`Handler`](crate::Handler) return; `?` works from any error.
///
/// ```
/// fn parse(text: &str) -> sockeye::Result<i64> {
///     Ok(text.trim().parse()?)
/// }
/// assert!(parse("x").is_err());
/// ```
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// A method of a handler panicked; this is what [`Handler::error`](crate::Handler::error) is told.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the handler panicked: {message}")]
#[non_exhaustive]
pub struct Panicked {
    /// The message of the panic, if it had one.
    pub message: String,
}

impl Panicked {
    /// What `code` gives, or its panic. Whatever the panic left half done belongs to the one connection
    /// or request it was about, which ends with it.
    #[inline]
    pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, Self> {
        catch_unwind(AssertUnwindSafe(code)).map_err(|panic| Self::new(&*panic))
    }

    fn new(payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Self { message }
    }
}

/// The connection ended before what was waited for could happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
#[non_exhaustive]
pub struct Closed;

/// The connection ended, and not as it should: with a close frame from both sides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection ended with {}: {}", close.code, close.reason)]
#[non_exhaustive]
pub struct Disconnected {
    /// How it ended.
    pub close: Close,
}

/// A client cannot connect. Its `Debug` is the sentence of its `Display` and those of its causes, as
/// that is what a `main` that returns it prints.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is none that can be connected to.
    #[error("cannot connect to `{url}`: {hint}")]
    #[non_exhaustive]
    Url {
        /// The URL that was given, without its password.
        url: String,
        #[doc(hidden)]
        hint: &'static str,
    },
    /// A header that was set is none, or belongs to the handshake itself.
    #[error("`{0}` cannot be a header of the request")]
    Header(String),
    /// The subprotocols cannot be offered.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The name in the URL has no address, or that could not be found out in time.
    #[error("cannot find the address of `{host}`; check the name")]
    #[non_exhaustive]
    Resolve {
        /// The name.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// No TCP connection came about.
    #[error("cannot connect to {address}: {hint}")]
    #[non_exhaustive]
    Connect {
        /// Host and port.
        address: String,
        #[doc(hidden)]
        hint: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The server does not speak HTTP, or ended the connection instead of answering.
    #[error("the server did not answer the opening handshake as HTTP has it")]
    Http(#[source] hyper::Error),
    /// The server did not answer in time.
    #[error("the server did not answer the opening handshake within {0:?}")]
    HandshakeTimeout(Duration),
    /// The server's answer does not open a connection; it is in the error.
    #[error(transparent)]
    Refused(#[from] HandshakeError),
}

impl ConnectError {
    pub(crate) fn connect(address: String, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::ConnectionRefused => "nothing listens there",
            io::ErrorKind::TimedOut => "it does not answer",
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                "there is no way to it from here"
            }
            _ => "the system refused",
        };
        Self::Connect { address, hint, source }
    }
}

impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// A server cannot listen. Its `Debug` is the same sentence as its `Display`, as that is what a
/// `main` that returns it prints.
#[derive(thiserror::Error)]
#[error("cannot listen on {address}: {hint}")]
#[non_exhaustive]
pub struct ListenError {
    /// The address that was asked for.
    pub address: String,
    hint: &'static str,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Debug for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ListenError {
    pub(crate) fn new(address: String, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => "the port is in use; choose another, or 0 for a free one",
            io::ErrorKind::PermissionDenied => "not permitted; choose a port from 1024 on",
            io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            io::ErrorKind::InvalidInput => "not an address; write it like 127.0.0.1:8080",
            _ => "the system refused, or the name does not resolve",
        };
        Self { address, hint, source }
    }
}

/// The shutdown's deadline passed while connections were still open, WebSocket connections or
/// requests that were being answered; they have been cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cut} connections had not closed within {deadline:?} and were cut")]
#[non_exhaustive]
pub struct ShutdownError {
    /// How many connections were cut.
    pub cut: usize,
    /// The deadline that was given.
    pub deadline: Duration,
}
