//! One message for many receivers.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use sockeye_proto::{
    Message, Role,
    deflate::{Context, Level, WindowBits},
    outbound,
};

use crate::{Compress, codec};

/// A message that is ready to be sent to many: written for the wire once, and compressed once for
/// each form of compression that its receivers have agreed to, the first time that one of them
/// needs it.
///
/// A clone is cheap, and [`Socket::send_encoded`](crate::Socket::send_encoded) sends it. From 16 KiB
/// on, all receivers share its bytes.
///
/// ```
/// use sockeye::{Encoded, Socket};
///
/// fn to_all(sockets: &[Socket], news: &str) {
///     let news = Encoded::new(news);
///     for socket in sockets {
///         socket.send_encoded(&news);
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Encoded(Arc<Forms>);

struct Forms {
    message: Message<'static>,
    compress: Compress,
    plain: Bytes,
    /// None for a form that is not shorter than the message.
    compressed: Mutex<Vec<(WindowBits, Level, Option<Bytes>)>>,
}

impl Encoded {
    /// Encodes a message, to be compressed by [`Compress::Auto`].
    ///
    /// Takes what [`Socket::send`](crate::Socket::send) takes.
    pub fn new<'a>(message: impl Into<Message<'a>>) -> Self {
        Self::with(message, Compress::Auto)
    }

    /// The same with another choice. [`Compress::Always`] also asks connections with windows of their
    /// own ([`Compression::Dedicated`](crate::Compression::Dedicated)) to compress it, each for
    /// itself; else these get it as it is.
    pub fn with<'a>(message: impl Into<Message<'a>>, compress: Compress) -> Self {
        let message = message.into().into_owned();
        let mut plain = Vec::new();
        outbound::message(&Role::Server, &message, &mut plain);
        let (plain, compressed) = (plain.into(), Mutex::default());
        Self(Arc::new(Forms { message, compress, plain, compressed }))
    }

    /// The message.
    pub fn message(&self) -> &Message<'static> {
        &self.0.message
    }

    pub(crate) fn compress(&self) -> Compress {
        self.0.compress
    }

    /// The frame for a connection that is sent it as it is.
    pub(crate) fn plain(&self) -> &Bytes {
        &self.0.plain
    }

    /// The frame for a connection that has agreed to this, compressed if that makes it shorter.
    pub(crate) fn compressed(&self, mut context: Context, level: Level) -> Bytes {
        let window_bits = context.window_bits();
        let mut forms = self.0.compressed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = forms.iter().find(|form| (form.0, form.1) == (window_bits, level));
        let form = match known {
            Some((.., form)) => form.clone(),
            None => {
                let payload = self.0.message.as_bytes();
                let form = codec::compress_if_shorter(payload, level, &mut context, |compressed| {
                    let mut frame = Vec::new();
                    let opcode = self.0.message.opcode();
                    outbound::compressed(&Role::Server, opcode, compressed?, &mut frame);
                    Some(Bytes::from(frame))
                });
                forms.push((window_bits, level, form.clone()));
                form
            }
        };
        form.unwrap_or_else(|| self.0.plain.clone())
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded")
            .field("message", &self.0.message)
            .field("compress", &self.0.compress)
            .finish_non_exhaustive()
    }
}
