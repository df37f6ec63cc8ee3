//! Buffers that are lent for a turn: an idle connection owns none.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    thread::LocalKey,
};

use sockeye_proto::Memory;

use crate::queue::Queue;

/// The first read of a turn: large enough for most turns, small enough to be kept by each of many
/// handlers that wait. A little over 16 KiB, so that a message of that size lies in it whole, its
/// header included: without, echoing such messages cost a quarter more.
pub(crate) const SMALL: usize = 16 * 1024 + 64;

/// A read that follows one that filled its buffer.
pub(crate) const LARGE: usize = 128 * 1024;

/// What a thread keeps at most for reuse, in bytes, of read buffers and of queues each.
const KEPT: usize = 1024 * 1024;

/// The same of the memory of long messages: some of the longest that are allowed by default.
const KEPT_LONG: usize = 4 * 1024 * 1024;

thread_local! {
    static SMALL_BUFFERS: RefCell<Shelf<Box<Storage>>> = const { RefCell::new(Shelf::new()) };
    static LARGE_BUFFERS: RefCell<Shelf<Box<Storage>>> = const { RefCell::new(Shelf::new()) };
    static QUEUES: RefCell<Shelf<Box<Queue>>> = const { RefCell::new(Shelf::new()) };
    static LONG_MESSAGES: RefCell<Shelf<Vec<u8>>> = const { RefCell::new(Shelf::new()) };
}

/// Things of one kind, and how many bytes they are in all.
struct Shelf<T> {
    items: Vec<T>,
    bytes: usize,
}

impl<T> Shelf<T> {
    const fn new() -> Self {
        Self { items: Vec::new(), bytes: 0 }
    }

    fn take(&mut self, size: impl FnOnce(&T) -> usize) -> Option<T> {
        let item = self.items.pop()?;
        self.bytes -= size(&item);
        Some(item)
    }

    fn put(&mut self, item: T, size: usize, kept: usize) {
        if self.bytes + size <= kept {
            self.bytes += size;
            self.items.push(item);
        }
    }
}

/// Received bytes on their way through a turn; goes back to its thread's pool when dropped.
pub(crate) struct ReadBuffer(Option<Box<Storage>>);

pub(crate) struct Storage {
    bytes: Box<[u8]>,
    filled: usize,
    used: usize,
}

impl ReadBuffer {
    /// A buffer of `size` bytes, [`SMALL`] or [`LARGE`].
    pub(crate) fn take(size: usize) -> Self {
        let kept = shelf(size)
            .and_then(|shelf| shelf.with_borrow_mut(|shelf| shelf.take(|storage| storage.size())));
        Self(Some(kept.unwrap_or_else(|| Storage::new(vec![0; size]))))
    }

    /// A buffer around bytes that are here already.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        let mut storage = Storage::new(bytes);
        storage.filled = storage.bytes.len();
        Self(Some(storage))
    }
}

impl Storage {
    fn new(bytes: Vec<u8>) -> Box<Self> {
        Box::new(Self { bytes: bytes.into_boxed_slice(), filled: 0, used: 0 })
    }

    /// The whole of it, to be read into.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Says how much was read into it.
    pub(crate) fn set_filled(&mut self, filled: usize) {
        self.filled = filled;
    }

    /// Whether nothing was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// How much it can hold.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Whether all of it was read into.
    pub(crate) fn is_full(&self) -> bool {
        self.filled == self.bytes.len()
    }

    /// What was read and not yet used.
    pub(crate) fn unused(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..self.filled]
    }

    /// Says how much of [`unused`](Self::unused) is left.
    pub(crate) fn set_left(&mut self, left: usize) {
        self.used = self.filled - left;
    }
}

impl Deref for ReadBuffer {
    type Target = Storage;

    fn deref(&self) -> &Storage {
        self.0.as_ref().expect("only drop takes the storage")
    }
}

impl DerefMut for ReadBuffer {
    fn deref_mut(&mut self) -> &mut Storage {
        self.0.as_mut().expect("only drop takes the storage")
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let Some(mut storage) = self.0.take() else { return };
        (storage.filled, storage.used) = (0, 0);
        let size = storage.size();
        let Some(shelf) = shelf(size) else { return };
        // A thread that is ending has no shelf any more; then the buffer is simply freed.
        let _ = shelf.try_with(|shelf| shelf.borrow_mut().put(storage, size, KEPT));
    }
}

/// Where this thread keeps buffers of this size, if it does.
fn shelf(size: usize) -> Option<&'static LocalKey<RefCell<Shelf<Box<Storage>>>>> {
    match size {
        SMALL => Some(&SMALL_BUFFERS),
        LARGE => Some(&LARGE_BUFFERS),
        _ => None,
    }
}

/// An empty queue.
pub(crate) fn take_queue() -> Box<Queue> {
    QUEUES
        .try_with(|shelf| shelf.borrow_mut().take(|queue| queue.footprint()))
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Gives an empty queue back.
pub(crate) fn return_queue(mut queue: Box<Queue>) {
    queue.reset();
    let size = queue.footprint();
    let _ = QUEUES.try_with(|shelf| shelf.borrow_mut().put(queue, size, KEPT));
}

/// The memory of messages that are long and came in parts: reused, as an allocator that gives it back
/// to the system each time, as that of glibc does, makes echoing 1 MB cost two or three times as much.
#[derive(Debug)]
pub(crate) struct LongMessages;

impl Memory for LongMessages {
    /// From here on glibc may take it from the system anew each time.
    const LONG: usize = 128 * 1024;

    fn take(least: usize, most: usize) -> Option<Vec<u8>> {
        let fits = |buffer: &Vec<u8>| (least..=most).contains(&buffer.capacity());
        LONG_MESSAGES.try_with(|shelf| shelf.borrow_mut().take(Vec::capacity)).ok()?.filter(fits)
    }

    fn give_back(buffer: Vec<u8>) {
        let size = buffer.capacity();
        let _ = LONG_MESSAGES.try_with(|shelf| shelf.borrow_mut().put(buffer, size, KEPT_LONG));
    }
}
