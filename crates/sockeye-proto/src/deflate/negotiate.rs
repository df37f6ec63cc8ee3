//! What may be offered, answered and agreed on (RFC 7692 sections 5 and 7.1).

use std::fmt;

use super::Context;
use crate::Role;

/// The name of the extension; as that of a subprotocol it is compared as it is written.
pub const NAME: &str = "permessage-deflate";

pub(super) const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
pub(super) const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
pub(super) const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
pub(super) const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// What a client offers: one element of `Sec-WebSocket-Extensions` in a request.
///
/// A client may send several in its order of preference, and falls back to no compression by
/// itself.
///
/// ```
/// use sockeye_proto::deflate::{ClientWindow, Offer};
///
/// let offer: Offer = "permessage-deflate; client_max_window_bits".parse()?;
/// assert_eq!(offer, Offer::browser());
/// assert_eq!(offer.client_max_window_bits, ClientWindow::Any);
/// assert!("permessage-deflate; server_max_window_bits=16".parse::<Offer>().is_err());
/// # Ok::<(), sockeye_proto::deflate::ParameterError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The server is to compress each message by itself (section 7.1.1.1).
    pub server_no_context_takeover: bool,
    /// The client will compress each message by itself, whatever the answer (section 7.1.1.2).
    pub client_no_context_takeover: bool,
    /// The largest window that the server may use (section 7.1.2.1).
    pub server_max_window_bits: Option<WindowBits>,
    /// Whether the server may bound the client's window (section 7.1.2.2).
    pub client_max_window_bits: ClientWindow,
}

/// What an offer says about the client's own window (section 7.1.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientWindow {
    /// It cannot be bounded: the answer must not try.
    #[default]
    Unbounded,
    /// The answer may bound it.
    Any,
    /// The answer may bound it, and the client uses no more than this in any case.
    AtMost(WindowBits),
}

/// What has been agreed on: the element of `Sec-WebSocket-Extensions` in an answer, for
/// [`sending`](Self::sending) and [`receiving`](Self::receiving) from each side's point of view.
///
/// ```
/// use sockeye_proto::{Role, deflate::{Offer, Policy}};
///
/// let agreed = Policy::Shared.answer(&Offer::browser());
/// assert_eq!(agreed.to_string(), "permessage-deflate; server_no_context_takeover; \
///                                 client_no_context_takeover");
/// assert!(!agreed.sending(&Role::Server).takes_over());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The server compresses each message by itself (section 7.1.1.1).
    pub server_no_context_takeover: bool,
    /// The client compresses each message by itself (section 7.1.1.2).
    pub client_no_context_takeover: bool,
    /// The largest window that the server uses; without one it is 15 (sections 7.1.2.1 and 7.2.2).
    pub server_max_window_bits: Option<WindowBits>,
    /// The largest window that the client uses; without one it is 15 (section 7.1.2.2).
    pub client_max_window_bits: Option<WindowBits>,
}

/// The size of a window as its logarithm: 8 to 15, for 256 bytes to 32 KiB (section 7.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowBits(u8);

/// What a server agrees to, for all connections of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Each message is compressed by itself in both directions, so no connection holds a window,
    /// and a message that many receive is compressed once.
    Shared,
    /// Messages may refer to earlier ones of the same direction, as far as a window of this size
    /// goes. What grows with it is the memory of each connection, up to one window for each
    /// direction, and the time for each message sent: see [`Deflater`](super::Deflater).
    Dedicated {
        /// The size of each window; 12, which is 4 KiB, has most of the gain for most of the
        /// messages.
        window_bits: WindowBits,
    },
}

/// What is wrong about one element of the header, by itself.
///
/// On a server it declines that offer (section 7), and the next one is looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// The extension is another one.
    #[error("extension `{0}` is not permessage-deflate")]
    OtherExtension(String),
    /// What stands there is not written as an extension is.
    #[error("`{0}` is not the form of an extension (RFC 6455 section 9.1)")]
    Malformed(String),
    /// A parameter that permessage-deflate does not have.
    #[error("permessage-deflate has no parameter `{0}` (RFC 7692 section 7)")]
    Unknown(String),
    /// A parameter that is there twice.
    #[error("parameter `{0}` is given twice (RFC 7692 section 7)")]
    Duplicate(&'static str),
    /// A parameter that must not have this value, or needs one.
    #[error("parameter `{name}` has the wrong value `{value}` (RFC 7692 section 7.1)")]
    Value {
        /// The name of the parameter.
        name: &'static str,
        /// What it was set to; empty for nothing.
        value: String,
    },
}

/// An answer about permessage-deflate for which a client has to fail the connection (sections 5 and
/// 7).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The answer is wrong by itself.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// permessage-deflate more than once: both would use RSV1.
    #[error("the server answered permessage-deflate twice (RFC 7692 section 5)")]
    Twice,
    /// A parameter that the client did not allow.
    #[error("the server set `{0}`, which was not offered (RFC 7692 section 7.1.2.2)")]
    NotOffered(&'static str),
    /// A parameter that the server had to take over from the offer, and did not.
    #[error("the server did not agree to `{0}` (RFC 7692 section 7.1)")]
    Missing(&'static str),
    /// A window larger than the offer allowed.
    #[error("the server set `{name}` to {answered}, at most {offered} was offered")]
    TooLarge {
        /// The name of the parameter.
        name: &'static str,
        /// What the server answered, in bits.
        answered: u8,
        /// What the client had offered, in bits.
        offered: u8,
    },
}

impl WindowBits {
    /// 256 bytes.
    pub const MIN: Self = Self(8);
    /// 32 KiB, the window where nothing is said about it.
    pub const MAX: Self = Self(15);

    /// A window of 2 to the power of `bits` bytes, if that is allowed: from 8 to 15.
    pub const fn new(bits: u8) -> Option<Self> {
        if bits >= Self::MIN.0 && bits <= Self::MAX.0 { Some(Self(bits)) } else { None }
    }

    /// The logarithm, 8 to 15.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The size of the window in bytes.
    pub const fn size(self) -> usize {
        1 << self.0
    }

    /// "A decimal integer value without leading zeroes between 8 to 15, inclusive" (section
    /// 7.1.2.1).
    pub(super) fn parse(value: &str) -> Option<Self> {
        let is_canonical =
            value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
        is_canonical.then(|| value.parse().ok().and_then(Self::new)).flatten()
    }
}

impl fmt::Display for WindowBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Offer {
    /// What browsers offer: anything goes, and the server may bound the client's window.
    pub fn browser() -> Self {
        Self { client_max_window_bits: ClientWindow::Any, ..Self::default() }
    }

    /// What an answer means to the client that made this offer.
    ///
    /// # Errors
    ///
    /// The first parameter that the RFC does not let the server answer.
    fn accept(&self, answer: &Parameters) -> Result<Parameters, AnswerError> {
        // A server accepts an offer of either of its parameters "by including" it in the answer, a
        // window "with the same or smaller value as the offer" (sections 7.1.1.1 and 7.1.2.1). It
        // may also answer both unasked.
        if self.server_no_context_takeover && !answer.server_no_context_takeover {
            return Err(AnswerError::Missing(SERVER_NO_CONTEXT_TAKEOVER));
        }
        if let Some(WindowBits(offered)) = self.server_max_window_bits {
            let name = SERVER_MAX_WINDOW_BITS;
            let WindowBits(answered) =
                answer.server_max_window_bits.ok_or(AnswerError::Missing(name))?;
            if answered > offered {
                return Err(AnswerError::TooLarge { name, answered, offered });
            }
        }
        // The client's window may be bounded only if the offer said so; a value there was a hint,
        // and the server "may either ignore this value or use this value" (section 7.1.2.2). So the
        // answer may be larger, which section 7.2.1 provides for.
        let answered = answer.client_max_window_bits;
        let client_max_window_bits = match self.client_max_window_bits {
            ClientWindow::Unbounded if answered.is_some() => {
                return Err(AnswerError::NotOffered(CLIENT_MAX_WINDOW_BITS));
            }
            ClientWindow::Unbounded | ClientWindow::Any => answered,
            ClientWindow::AtMost(own) => Some(answered.map_or(own, |bits| bits.min(own))),
        };
        Ok(Parameters {
            // The client holds to its hint, whatever the answer (section 7.1.1.2), though it need
            // not (section 7.2.1).
            client_no_context_takeover: answer.client_no_context_takeover
                || self.client_no_context_takeover,
            client_max_window_bits,
            ..*answer
        })
    }
}

impl Policy {
    /// What to answer to an offer; there is none that a server could not agree to.
    pub fn answer(self, offer: &Offer) -> Parameters {
        // What the offer demands of the server has to be answered to be agreed to (sections 7.1.1.1
        // and 7.1.2.1).
        let demanded = Parameters {
            server_no_context_takeover: offer.server_no_context_takeover,
            client_no_context_takeover: offer.client_no_context_takeover,
            server_max_window_bits: offer.server_max_window_bits,
            client_max_window_bits: None,
        };
        match self {
            Self::Shared => Parameters {
                server_no_context_takeover: true,
                client_no_context_takeover: true,
                ..demanded
            },
            Self::Dedicated { window_bits } => demanded.bounded(offer, window_bits),
        }
    }
}

impl Parameters {
    /// What this side keeps for the messages it sends.
    pub fn sending(&self, role: &Role) -> Context {
        match role {
            Role::Server => self.of_server(),
            Role::Client { .. } => self.of_client(),
        }
    }

    /// What this side keeps for the messages it receives.
    pub fn receiving(&self, role: &Role) -> Context {
        match role {
            Role::Server => self.of_client(),
            Role::Client { .. } => self.of_server(),
        }
    }

    fn of_server(&self) -> Context {
        Context::new(self.server_max_window_bits, self.server_no_context_takeover)
    }

    fn of_client(&self) -> Context {
        Context::new(self.client_max_window_bits, self.client_no_context_takeover)
    }

    /// Bounds what is held for the connection to a window of this size in each direction. Where
    /// nothing is taken over, nothing is held, so there is nothing to bound.
    fn bounded(mut self, offer: &Offer, window_bits: WindowBits) -> Self {
        if window_bits == WindowBits::MAX {
            return self;
        }
        if !self.server_no_context_takeover {
            let demanded = self.server_max_window_bits.unwrap_or(WindowBits::MAX);
            self.server_max_window_bits = Some(demanded.min(window_bits));
        }
        if self.client_no_context_takeover {
            return self;
        }
        match offer.client_max_window_bits {
            // An answer "MUST NOT include" it where it was not offered (section 7.1.2.2); to have
            // no window at all may be asked of every client (section 7.1.1.2).
            ClientWindow::Unbounded => self.client_no_context_takeover = true,
            ClientWindow::Any => self.client_max_window_bits = Some(window_bits),
            // To use the hint is to answer "a value equal to or smaller than" it (section 7.1.2.2).
            ClientWindow::AtMost(hint) => self.client_max_window_bits = Some(hint.min(window_bits)),
        }
        self
    }
}

/// Checks the element of an answer that is about permessage-deflate against what was offered, in
/// order of preference, and gives what the client has to go by.
///
/// # Errors
///
/// What the client has to fail the connection for (sections 5 and 7), with the name of the
/// parameter. Of several offers, the first one decides what is wrong with an answer that fits none.
///
/// ```
/// use sockeye_proto::deflate::{self, AnswerError, Offer};
///
/// let answer = "permessage-deflate; client_max_window_bits=10";
/// assert!(deflate::check(answer, &[Offer::browser()]).is_ok());
/// let error = deflate::check(answer, &[Offer::default()]);
/// assert_eq!(error, Err(AnswerError::NotOffered("client_max_window_bits")));
/// ```
pub fn check(answer: &str, offers: &[Offer]) -> Result<Parameters, AnswerError> {
    let answer: Parameters = answer.parse()?;
    let mut checked = offers.iter().map(|offer| offer.accept(&answer));
    let first = checked.next().unwrap_or(Err(AnswerError::NotOffered(NAME)));
    first.or_else(|error| checked.find_map(Result::ok).ok_or(error))
}
