//! One message for many receivers.

use std::{
    cell::Cell,
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
/// on, all receivers share its bytes. What is published to a topic or a room needs none: it is encoded
/// once by itself.
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
    compressed: Mutex<Vec<(Form, Option<Bytes>)>>,
}

/// In which form a connection without a window takes compressed messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) window_bits: WindowBits,
    pub(crate) level: Level,
    /// From which length on, in bytes, if it is for us to say.
    pub(crate) threshold: usize,
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
        let (plain, compressed) = (plain_frame(&message), Mutex::default());
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

    /// The frame in this form, if that is shorter.
    pub(crate) fn form(&self, form: Form) -> Option<Bytes> {
        let mut forms = self.0.compressed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frame)) = forms.iter().find(|known| known.0 == form) {
            return frame.clone();
        }
        let frame = compressed_frame(&self.0.message, form);
        forms.push((form, frame.clone()));
        frame
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

/// A message on its way to the subscribers of a topic.
pub(crate) struct Publication<'a> {
    pub(crate) message: &'a Message<'a>,
    pub(crate) compress: Compress,
    pub(crate) plain: Bytes,
    compressed: Vec<(Form, Bytes)>,
    /// How many got it as it is, as they have windows of their own.
    pub(crate) plain_for_window: Cell<u64>,
}

impl<'a> Publication<'a> {
    pub(crate) fn new(message: &'a Message<'a>, compress: Compress) -> Self {
        let (plain, compressed) = (plain_frame(message), Vec::new());
        Self { message, compress, plain, compressed, plain_for_window: Cell::new(0) }
    }

    /// Compresses it in these forms, where it gets shorter by that.
    pub(crate) fn compress(&mut self, forms: &[Form]) {
        let compressed =
            forms.iter().filter_map(|form| Some((*form, compressed_frame(self.message, *form)?)));
        self.compressed = compressed.collect();
    }

    /// The frame in this form, if it was made.
    pub(crate) fn form(&self, form: Form) -> Option<Bytes> {
        self.compressed.iter().find(|known| known.0 == form).map(|(_, frame)| frame.clone())
    }
}

/// Counts those who got a message as it is because they have windows of their own.
pub(crate) fn count_plain_for_window(count: u64) {
    if count > 0 {
        metrics::counter!("sockeye_plain_for_window_total").increment(count);
    }
}

impl Compress {
    /// Whether a message of this length is to be compressed.
    #[inline]
    pub(crate) fn wants(self, length: usize, threshold: usize) -> bool {
        match self {
            Self::Auto => length >= threshold,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

fn plain_frame(message: &Message<'_>) -> Bytes {
    let mut frame = Vec::with_capacity(outbound::server_length(message.len()));
    outbound::message(&Role::Server, message, &mut frame);
    frame.into()
}

fn compressed_frame(message: &Message<'_>, form: Form) -> Option<Bytes> {
    let mut context = Context::without_takeover(form.window_bits);
    codec::compress_if_shorter(message.as_bytes(), form.level, &mut context, |compressed| {
        let compressed = compressed?;
        let mut frame = Vec::with_capacity(outbound::server_length(compressed.len()));
        outbound::compressed(&Role::Server, message.opcode(), compressed, &mut frame);
        Some(frame.into())
    })
}
