//! A stream on which things go wrong, at chosen bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// What goes wrong in one direction of a stream, and at which bytes, counted from 0 at its begin.
///
/// ```
/// use std::time::Duration;
/// use sockeye::testing::{self, Faults};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let echo = sockeye::on().on_text(|session, text| session.send(text));
/// // What the handler's side reads comes byte by byte, and what it writes breaks off in a frame.
/// let reads = Faults::new().split_every(1).delay_at(8, Duration::from_millis(3)).behind_handshake();
/// let writes = Faults::new().truncate_at(9).behind_handshake();
/// let mut peer = testing::connect(echo).faults(reads, writes).await;
/// peer.send("hello").await;
/// assert_eq!(peer.recv_text().await, "hello"); // 2 + 5 bytes
/// peer.send("hello").await;
/// peer.recv_end().await;
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Faults {
    splits: BTreeSet<u64>,
    split_every: Option<u64>,
    delays: BTreeMap<u64, Duration>,
    end: Option<(u64, End)>,
    behind_handshake: bool,
}

/// How a direction ends before its time.
#[derive(Clone, Copy, Debug)]
enum End {
    Truncated,
    Reset,
}

impl Faults {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// A read or a write ends before this byte, and the next one begins with it.
    #[must_use]
    pub fn split_at(mut self, byte: u64) -> Self {
        self.splits.insert(byte);
        self
    }

    /// No read or write has more bytes than this, which is at least 1.
    #[must_use]
    pub fn split_every(mut self, bytes: u64) -> Self {
        self.split_every = Some(bytes.max(1));
        self
    }

    /// This byte and all behind it come so much later, after those before it.
    #[must_use]
    pub fn delay_at(mut self, byte: u64, delay: Duration) -> Self {
        self.delays.insert(byte, delay);
        self
    }

    /// This byte and all behind it are lost: whoever reads finds the end of the stream there.
    #[must_use]
    pub fn truncate_at(mut self, byte: u64) -> Self {
        self.end = Some((byte, End::Truncated));
        self
    }

    /// The connection is reset when this byte is to be read or written: both directions end, with an
    /// error on this side.
    #[must_use]
    pub fn reset_at(mut self, byte: u64) -> Self {
        self.end = Some((byte, End::Reset));
        self
    }

    /// Counts from the first byte behind the opening handshake, the first empty line of HTTP.
    #[must_use]
    pub fn behind_handshake(mut self) -> Self {
        self.behind_handshake = true;
        self
    }

    /// Where the next split behind `position` is.
    fn next_stop(&self, position: u64) -> u64 {
        let behind = position + 1;
        let split = self.splits.range(behind..).next().copied();
        let delay = self.delays.range(behind..).next().map(|(byte, _)| *byte);
        let every = self.split_every.map(|bytes| position + bytes);
        let end = self.end.map(|(byte, _)| byte);
        [split, delay, every, end].into_iter().flatten().min().unwrap_or(u64::MAX)
    }
}

/// A stream with [`Faults`] in what is read from it and in what is written to it.
#[derive(Debug)]
pub struct Faulty<T> {
    /// None once it was reset.
    io: Option<T>,
    reads: Lane,
    writes: Lane,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Faulty<T> {
    /// Makes a good stream a bad one.
    pub fn new(io: T, reads: Faults, writes: Faults) -> Self {
        Self { io: Some(io), reads: Lane::new(reads), writes: Lane::new(writes) }
    }
}

/// One direction.
#[derive(Debug)]
struct Lane {
    faults: Faults,
    position: u64,
    /// How much of the empty line behind the handshake has come, if positions count from there.
    blank_line: Option<usize>,
    delay: Option<Pin<Box<Sleep>>>,
}

/// What may happen next in a direction.
enum Next {
    /// So many bytes may pass.
    Pass(usize),
    Ended(End),
}

const BLANK_LINE: &[u8] = b"\r\n\r\n";

impl Lane {
    fn new(faults: Faults) -> Self {
        let blank_line = faults.behind_handshake.then_some(0);
        Self { faults, position: 0, blank_line, delay: None }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.blank_line.is_some() {
            // Byte by byte, not to miss its end.
            return Poll::Ready(Next::Pass(1));
        }
        if let Some(delay) = self.faults.delays.remove(&self.position) {
            self.delay = Some(Box::pin(sleep(delay)));
        }
        if let Some(delay) = &mut self.delay {
            ready!(delay.as_mut().poll(cx));
            self.delay = None;
        }
        Poll::Ready(match self.faults.end {
            Some((byte, end)) if byte <= self.position => Next::Ended(end),
            _ => {
                let count = self.faults.next_stop(self.position) - self.position;
                Next::Pass(usize::try_from(count).unwrap_or(usize::MAX))
            }
        })
    }

    fn on_passed(&mut self, bytes: &[u8]) {
        let Some(matched) = &mut self.blank_line else {
            self.position += bytes.len() as u64;
            return;
        };
        for byte in bytes {
            *matched = match byte {
                byte if *byte == BLANK_LINE[*matched] => *matched + 1,
                b'\r' => 1,
                _ => 0,
            };
        }
        if *matched == BLANK_LINE.len() {
            self.blank_line = None;
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Faulty<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let io = this.io.as_mut().ok_or(io::ErrorKind::ConnectionReset)?;
        match ready!(this.reads.poll_next(cx)) {
            Next::Pass(count) => {
                let mut bytes = vec![0; count.min(buf.remaining())];
                let mut part = ReadBuf::new(&mut bytes);
                ready!(Pin::new(io).poll_read(cx, &mut part))?;
                this.reads.on_passed(part.filled());
                buf.put_slice(part.filled());
                Poll::Ready(Ok(()))
            }
            Next::Ended(End::Truncated) => Poll::Ready(Ok(())),
            Next::Ended(End::Reset) => {
                this.io = None;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Faulty<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let io = this.io.as_mut().ok_or(io::ErrorKind::ConnectionReset)?;
        match ready!(this.writes.poll_next(cx)) {
            Next::Pass(count) => {
                let part = &buf[..count.min(buf.len())];
                let count = ready!(Pin::new(io).poll_write(cx, part))?;
                this.writes.on_passed(&part[..count]);
                Poll::Ready(Ok(count))
            }
            Next::Ended(End::Truncated) => {
                ready!(Pin::new(io).poll_shutdown(cx))?;
                Poll::Ready(Ok(buf.len()))
            }
            Next::Ended(End::Reset) => {
                this.io = None;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = self.io.as_mut().ok_or(io::ErrorKind::ConnectionReset)?;
        Pin::new(io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = self.io.as_mut().ok_or(io::ErrorKind::ConnectionReset)?;
        Pin::new(io).poll_shutdown(cx)
    }
}
