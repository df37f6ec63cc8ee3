//! Where the memory of long messages comes from.

use std::{marker::PhantomData, mem};

use bytes::Bytes;

/// A source of memory for messages that are collected piece by piece, where the program's allocator
/// is not to be it: one that gives long blocks back to the system after each message makes a stream
/// of long messages several times as expensive.
///
/// Only functions, as the source belongs to no connection. [`Heap`] is the one that is there.
pub trait Memory: Send + Sync + 'static {
    /// From which capacity on buffers are asked for and given back, in bytes.
    const LONG: usize;

    /// A buffer with a capacity from `least` to `most`, if there is one; what is in it is dropped.
    fn take(least: usize, most: usize) -> Option<Vec<u8>>;

    /// Takes a buffer of at least [`LONG`](Self::LONG) bytes back.
    fn give_back(buffer: Vec<u8>);
}

/// The program's allocator.
#[derive(Clone, Copy, Debug)]
pub struct Heap;

impl Memory for Heap {
    const LONG: usize = usize::MAX;

    fn take(_: usize, _: usize) -> Option<Vec<u8>> {
        None
    }

    fn give_back(_: Vec<u8>) {}
}

/// Makes room for `capacity` bytes in all; more than `most` is too much.
pub(crate) fn grow<M: Memory>(buffer: &mut Vec<u8>, capacity: usize, most: usize) {
    if capacity >= M::LONG
        && let Some(mut longer) = M::take(capacity, most)
    {
        longer.clear();
        longer.extend_from_slice(buffer);
        give_back::<M>(mem::replace(buffer, longer));
    } else {
        buffer.reserve_exact(capacity - buffer.len());
    }
}

/// The bytes for everyone; once nobody has them any more, their memory goes back.
pub(crate) fn share<M: Memory>(buffer: Vec<u8>) -> Bytes {
    if buffer.capacity() < M::LONG {
        return Bytes::from(buffer);
    }
    if buffer.capacity() / 2 > buffer.len() {
        // Who keeps a message is not to keep much more memory than that.
        let bytes = Bytes::copy_from_slice(&buffer);
        give_back::<M>(buffer);
        return bytes;
    }
    Bytes::from_owner(Lent::<M> { buffer, source: PhantomData })
}

struct Lent<M: Memory> {
    buffer: Vec<u8>,
    source: PhantomData<M>,
}

impl<M: Memory> AsRef<[u8]> for Lent<M> {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl<M: Memory> Drop for Lent<M> {
    fn drop(&mut self) {
        M::give_back(mem::take(&mut self.buffer));
    }
}

fn give_back<M: Memory>(buffer: Vec<u8>) {
    if buffer.capacity() >= M::LONG {
        M::give_back(buffer);
    }
}
