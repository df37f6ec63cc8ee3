//! What a connection keeps between its messages (RFC 7692 sections 7.1.1 and 7.2).

use super::WindowBits;

/// What one direction of a connection keeps between messages: how far back a message may refer, and
/// what is there.
///
/// Without context takeover that is nothing, and a new context is as good as an old one. With it,
/// the bytes grow with what was sent, up to the size of the window.
///
/// [`Parameters`](super::Parameters) gives the two of a connection. The peer keeps the same one, so
/// after an error, or a compressed message that was not sent, the connection has to end.
#[derive(Clone, Debug)]
pub struct Context {
    window_bits: WindowBits,
    takes_over: bool,
    window: Vec<u8>,
}

impl Context {
    pub(super) fn new(window_bits: Option<WindowBits>, no_takeover: bool) -> Self {
        Self {
            window_bits: window_bits.unwrap_or(WindowBits::MAX),
            takes_over: !no_takeover,
            window: Vec::new(),
        }
    }

    /// One that holds nothing: each message is compressed by itself, with a window of this size. What
    /// comes of it every peer can inflate that has agreed to this window or a larger one.
    pub fn without_takeover(window_bits: WindowBits) -> Self {
        Self::new(Some(window_bits), true)
    }

    /// The same with a window of at most this size. A sender may use less than was agreed to, so a
    /// client saves memory and time with it; for what is received it would be wrong.
    #[must_use]
    pub fn at_most(mut self, window_bits: WindowBits) -> Self {
        self.window_bits = self.window_bits.min(window_bits);
        self.keep_the_end();
        self
    }

    /// How far back a message may refer.
    pub fn window_bits(&self) -> WindowBits {
        self.window_bits
    }

    /// Whether a message may refer to the ones before it.
    pub fn takes_over(&self) -> bool {
        self.takes_over
    }

    /// The last bytes that went through it, no more than the window's size.
    pub(super) fn window(&self) -> &[u8] {
        &self.window
    }

    /// What it holds, in bytes.
    pub fn held(&self) -> usize {
        self.window.capacity()
    }

    /// Says that this message was sent compressed, where [`Deflater::compress`] does not know it:
    /// when it was compressed once for many receivers, by a context without takeover and with no
    /// larger a window than this one's.
    ///
    /// [`Deflater::compress`]: super::Deflater::compress
    pub fn on_sent(&mut self, payload: &[u8]) {
        self.push(payload);
    }

    /// The "LZ77 sliding window" (section 7) moves on over the message.
    pub(super) fn push(&mut self, message: &[u8]) {
        if !self.takes_over {
            return;
        }
        let size = self.window_bits.size();
        let message = &message[message.len().saturating_sub(size)..];
        let surplus = (self.window.len() + message.len()).saturating_sub(size);
        self.window.drain(..surplus.min(self.window.len()));
        let needed = self.window.len() + message.len();
        if needed > self.window.capacity() {
            // It doubles, but never beyond what it may come to hold.
            let target = (2 * self.window.capacity()).clamp(needed, size);
            self.window.reserve_exact(target - self.window.len());
        }
        self.window.extend_from_slice(message);
    }

    fn keep_the_end(&mut self) {
        let surplus = self.window.len().saturating_sub(self.window_bits.size());
        self.window.drain(..surplus);
    }
}
