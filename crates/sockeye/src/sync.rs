//! The locks and atomics between the threads: those of std, or for the tests of `interleavings.rs` those
//! of `loom`, which runs them in every order that there is.

#[cfg(not(sockeye_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, AtomicU8},
};

#[cfg(sockeye_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard, RwLock,
    atomic::{AtomicBool, AtomicU8},
};
