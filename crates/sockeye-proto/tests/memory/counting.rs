//! An allocator that counts, per thread, so that tests beside one another do not meet.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// What a thread has allocated, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Allocated and not freed; below zero if more was freed than allocated.
    pub(crate) held: isize,
    /// The most that was held at once.
    pub(crate) peak: isize,
    /// All that was ever asked for, whether freed or not; growing counts as asking anew.
    pub(crate) total: usize,
}

/// Runs `work`, and says what it used on top of what was there before.
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> (T, Usage) {
    let before = USAGE.get();
    USAGE.set(Usage::default());
    let result = work();
    let used = USAGE.get();
    USAGE.set(before);
    (result, used)
}

thread_local! {
    // Const and without a destructor, or the first use would allocate, within the allocator.
    static USAGE: Cell<Usage> = const { Cell::new(Usage { held: 0, peak: 0, total: 0 }) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counting around it neither
// allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promises are passed on, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Counted as if in place: whether the old and the new block exist side by side for a moment
        // is the system allocator's affair, which moves pages where blocks are large.
        count(new_size, layout.size());
        // SAFETY: the caller's promises are passed on, and `pointer` came from `System`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

fn count(allocated: usize, freed: usize) {
    // A thread that is being torn down has no counters left, and no test to read them.
    let _ = USAGE.try_with(|cell| {
        let Usage { held, peak, total } = cell.get();
        let held = held.wrapping_add_unsigned(allocated).wrapping_sub_unsigned(freed);
        cell.set(Usage { held, peak: peak.max(held), total: total.wrapping_add(allocated) });
    });
}
