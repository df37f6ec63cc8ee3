//! When messages travel compressed, and what a connection keeps for that.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sockeye_proto::{
    Limits, Message, OpCode, ProtocolError, Role,
    deflate::{Context, Parameters, Policy, WindowBits},
    handshake::server::Upgrade,
};

use crate::{
    Config,
    budget::{self, Reserved},
    codec,
    encoded::Form,
    queue::Queue,
};

/// Whether a route agrees to permessage-deflate (RFC 7692), and what its connections keep for it.
///
/// Browsers offer it always, and a [`Client`](crate::Client) does unless it is told not to. It is off
/// by default because it costs time: about as much for a kilobyte as all the rest of sending it.
/// It pays where messages are long texts and the network is what is scarce.
///
/// ```
/// use sockeye::{Compression, Config};
///
/// let config = Config::default().compression(Compression::Shared);
/// ```
///
/// WARNING: the length of a compressed message tells something about what is in it. Where a message
/// holds a secret beside something that an attacker chooses, send it with
/// [`Compress::Never`] (the attacks are known as CRIME and BREACH); with `Dedicated`, that goes for
/// secrets in messages that come after each other, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// It does not: all messages travel as they are.
    #[default]
    Off,
    /// Each message is compressed by itself, by compressors that all connections of a thread share. An
    /// idle connection holds nothing, and a message for many ([`Encoded`](crate::Encoded)) is
    /// compressed once.
    ///
    /// A thread that sends keeps some 265 KB for it, one that receives 47 KB.
    Shared,
    /// Messages may refer to those before them, as far back as a window goes, and so get shorter,
    /// short ones above all: by a third, for JSON of 200 bytes. Each connection holds two windows.
    /// What is sent is compressed by the connection's own task, in the order of writing.
    ///
    /// A message for many goes to such a connection as it is, unless it was encoded with
    /// [`Compress::Always`].
    Dedicated {
        /// The size of each of the two windows, as its logarithm. Memory grows with it, and so does
        /// the time for each message: 12, for 4 KiB, has most of the gain; 15, for 32 KiB, takes ten
        /// times as long for short messages.
        window_bits: WindowBits,
    },
}

/// Whether one message is sent compressed, where the connection has agreed to that.
///
/// A message that does not get shorter by it is sent as it is in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// If it has [`Config::compression_threshold`] bytes or more.
    #[default]
    Auto,
    /// Whatever its length.
    Always,
    /// Not.
    Never,
}

/// A window that has most of the gain, for a fraction of the memory and time of the largest.
const SMALL: WindowBits = WindowBits::new(12).expect("8 to 15");

impl Compression {
    /// [`Dedicated`](Self::Dedicated) with windows of 4 KiB, 12 bits.
    pub const fn dedicated() -> Self {
        Self::Dedicated { window_bits: SMALL }
    }

    /// How many bytes the windows of all server connections of this process may take together; default
    /// 64 MiB, enough for 8192 connections with 12 bits. Connections that come when they are used up
    /// get what [`Shared`](Self::Shared) gives. Those that are there keep what they have.
    pub fn set_window_budget(bytes: usize) {
        budget::set_windows(bytes);
    }

    /// How many bytes of that budget are used now.
    pub fn window_budget_used() -> usize {
        budget::windows_used()
    }

    /// Agrees to what a client offers, as far as this allows.
    pub(crate) fn agree(self, upgrade: &mut Upgrade) -> Deflate {
        let policy = match self {
            Self::Off => return Deflate::default(),
            Self::Shared => Policy::Shared,
            Self::Dedicated { window_bits } => Policy::Dedicated { window_bits },
        };
        let Some(agreed) = upgrade.agree_to_deflate(policy) else { return Deflate::default() };
        if let Some(deflate) = Deflate::within_budget(agreed) {
            return deflate;
        }
        let agreed = upgrade.agree_to_deflate(Policy::Shared);
        agreed.and_then(Deflate::within_budget).unwrap_or_default()
    }
}

/// What a connection has agreed to, and the windows that it has because of that.
#[derive(Debug, Default)]
pub(crate) struct Deflate {
    agreed: Option<Agreed>,
    /// The connection's task alone takes this lock. It is here and not in the task so that an idle
    /// connection without windows does not pay for a place to have them in.
    windows: Mutex<Option<Box<Windows>>>,
}

#[derive(Clone, Copy, Debug)]
struct Agreed {
    parameters: Parameters,
    /// What is sent may refer to what was sent before.
    takes_over: bool,
}

#[derive(Debug)]
struct Windows {
    sending: Context,
    receiving: Context,
    _reserved: Reserved,
}

/// How a message gets into the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As it is.
    Plain,
    /// Compressed by whoever sends it.
    Now,
    /// As it is, to be compressed by the connection's task.
    InTask,
}

impl Deflate {
    /// A server's end, unless its windows are more than what is left of the budget.
    fn within_budget(agreed: Parameters) -> Option<Self> {
        let role = Role::Server;
        let (sending, receiving) = (agreed.sending(&role), agreed.receiving(&role));
        let reserved = Reserved::take(most_held(&sending) + most_held(&receiving))?;
        Some(Self::new(agreed, sending, receiving, reserved))
    }

    /// A client's end. What it receives may refer as far back as the server has chosen; for what it
    /// sends, a small window is enough.
    pub(crate) fn of_client(agreed: Option<Parameters>, role: &Role) -> Self {
        let Some(agreed) = agreed else { return Self::default() };
        let sending = agreed.sending(role).at_most(SMALL);
        Self::new(agreed, sending, agreed.receiving(role), Reserved::NOTHING)
    }

    fn new(agreed: Parameters, sending: Context, receiving: Context, reserved: Reserved) -> Self {
        let takes_over = sending.takes_over();
        let has_windows = takes_over || receiving.takes_over();
        let windows = Windows { sending, receiving, _reserved: reserved };
        Self {
            agreed: Some(Agreed { parameters: agreed, takes_over }),
            windows: Mutex::new(has_windows.then(|| Box::new(windows))),
        }
    }

    pub(crate) fn parameters(&self) -> Option<Parameters> {
        self.agreed.map(|agreed| agreed.parameters)
    }

    /// What becomes of a message of this length.
    #[inline]
    pub(crate) fn way(&self, length: usize, compress: Compress, config: &Config) -> Way {
        let Some(agreed) = self.agreed else { return Way::Plain };
        match (compress.wants(length, config.compression_threshold), agreed.takes_over) {
            (false, _) => Way::Plain,
            (true, false) => Way::Now,
            (true, true) => Way::InTask,
        }
    }

    /// What a message is compressed with that goes [`Way::Now`].
    pub(crate) fn sending(&self, role: &Role) -> Context {
        self.parameters().unwrap_or_default().sending(role)
    }

    /// In which form messages for many are compressed for it, if it takes such.
    pub(crate) fn form(&self, config: &Config) -> Option<Form> {
        let agreed = self.agreed.filter(|agreed| !agreed.takes_over)?;
        Some(Form {
            window_bits: agreed.parameters.sending(&Role::Server).window_bits(),
            level: config.compression_level,
            threshold: config.compression_threshold,
        })
    }

    /// Compresses what waits for the connection's task to do so, or as much of it as one turn can bear.
    pub(crate) fn compress(&self, queue: Box<Queue>, role: &Role, config: &Config) -> Box<Queue> {
        let compressed = self
            .windows()
            .as_mut()
            .map(|windows| queue.compressed(role, config.compression_level, &mut windows.sending));
        // Without the lock: the end of a payload may run code of its owner.
        match compressed {
            Some((compressed, count)) => compressed.followed_by(queue, count),
            None => queue,
        }
    }

    /// Inflates a message that was received.
    pub(crate) fn inflate(
        &self,
        role: &Role,
        limits: &Limits,
        opcode: OpCode,
        payload: &[u8],
    ) -> Result<Message<'static>, ProtocolError> {
        match &mut *self.windows() {
            Some(windows) => codec::inflate(opcode, payload, &mut windows.receiving, limits),
            None => {
                let mut context = self.parameters().unwrap_or_default().receiving(role);
                codec::inflate(opcode, payload, &mut context, limits)
            }
        }
    }

    /// The connection has ended: a socket that is kept keeps no windows.
    pub(crate) fn forget(&self) {
        *self.windows() = None;
    }

    fn windows(&self) -> MutexGuard<'_, Option<Box<Windows>>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a direction comes to hold, in bytes.
fn most_held(context: &Context) -> usize {
    if context.takes_over() { context.window_bits().size() } else { 0 }
}
