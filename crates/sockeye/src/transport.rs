//! The only one that touches a socket: pooled reads, batched writes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    outbox::Taken,
    pool::{ReadBuffer, SMALL},
    queue::Queue,
    socket::Shared,
};

/// What a connection runs over: TCP, TLS, a pipe in memory.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// A stream, and the queue that is being written to it.
pub(crate) struct Transport<T> {
    /// None once the connection was cut.
    io: Option<T>,
    writing: Option<Box<Queue>>,
}

/// What became of an attempt to write all that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Nothing waits.
    Done,
    /// Only others have pushed: come again once the tasks that are ready have run.
    Others,
    /// More is to be compressed than one turn can bear: the same.
    Pause,
}

impl<T: Io> Transport<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { io: Some(io), writing: None }
    }

    /// Reads once, into a buffer of `size` bytes, [`SMALL`] or [`LARGE`](crate::pool::LARGE). A
    /// buffer without bytes is the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
    ) -> Poll<io::Result<ReadBuffer>> {
        let mut buffer = ReadBuffer::take(size);
        let mut space = ReadBuf::new(buffer.space());
        ready!(Pin::new(io(&mut self.io)?).poll_read(cx, &mut space))?;
        let filled = space.filled().len();
        buffer.set_filled(filled);
        Poll::Ready(Ok(buffer))
    }

    /// Reads and forgets; ready at the end of the stream.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if ready!(self.poll_read(cx, SMALL))?.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Writes what waits, all of it at once; `progress` is called for each write that took bytes.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        others_too: bool,
        mut progress: impl FnMut(),
    ) -> Poll<io::Result<Flush>> {
        let Shared { outbox, config, deflate, .. } = shared;
        loop {
            if self.writing.is_none() {
                self.writing = match outbox.take(others_too) {
                    Taken::Nothing => break,
                    Taken::Others => return Poll::Ready(Ok(Flush::Others)),
                    Taken::Queue(queue) => Some(queue),
                };
            } else if let Some(queue) = &mut self.writing
                && !queue.has_control()
            {
                // One batch at a time: what comes meanwhile waits in its own, bounded place.
                let control = outbox.take_control();
                if !control.is_empty() {
                    queue.insert_next(control);
                }
            }
            if let Some(queue) = self.writing.take_if(|queue| queue.has_raw()) {
                self.writing = Some(deflate.compress(queue, &outbox.role(), config));
            }
            let Some(queue) = &mut self.writing else { break };
            let count = ready!(poll_write(io(&mut self.io)?, cx, queue))?;
            progress();
            let mut complete = if queue.advance(count) { self.writing.take() } else { None };
            let rest = complete.as_mut().and_then(|queue| queue.take_rest());
            let waits = outbox.on_written(config, count, complete);
            if rest.is_some() {
                self.writing = rest;
                return Poll::Ready(Ok(Flush::Pause));
            }
            if self.writing.is_none() && !waits {
                break;
            }
        }
        // TLS and in-memory streams may hold bytes back until they are flushed; TCP never does.
        ready!(Pin::new(io(&mut self.io)?).poll_flush(cx))?;
        Poll::Ready(Ok(Flush::Done))
    }

    /// The queue that is being written; where there is one, it waits for the peer.
    pub(crate) fn writing(&mut self) -> &mut Option<Box<Queue>> {
        &mut self.writing
    }

    /// Ends this side's direction: the peer reads what was sent, and then the end.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(io(&mut self.io)?).poll_shutdown(cx)
    }

    /// Ends both directions at once, whatever is still to be sent.
    pub(crate) fn cut(&mut self) {
        self.io = None;
    }
}

fn io<T>(io: &mut Option<T>) -> io::Result<&mut T> {
    io.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

fn poll_write<T: Io>(io: &mut T, cx: &mut Context<'_>, queue: &Queue) -> Poll<io::Result<usize>> {
    let io = Pin::new(io);
    let count = ready!(match queue.single() {
        Some(bytes) => io.poll_write(cx, bytes),
        None => {
            let mut slices = [IoSlice::new(&[]); Queue::MAX_SLICES];
            let used = queue.slices(&mut slices);
            io.poll_write_vectored(cx, &slices[..used])
        }
    })?;
    if count == 0 {
        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
    }
    Poll::Ready(Ok(count))
}
