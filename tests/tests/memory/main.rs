//! What a peer can make the other side hold in memory. Counts the bytes of the whole process, peer included, so each
//! test runs alone, and compares with what was held before its peer began.

#![expect(clippy::unwrap_used, reason = "the functions around tests are tests, too")]

mod chance;
mod decoding;
mod envelopes;
mod growth;
mod metadata;
mod waiting;

use std::alloc::System;
use std::sync::{Mutex, PoisonError};

use cap::Cap;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Held by the test that runs.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: usize = 1 << 20;

/// Runs a test while no other one runs, and gives back everything it holds before the next one begins.
fn alone(test: impl Future<Output = ()>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Counts from when it was made.
struct Counted {
    held: usize,
    allocated: usize,
}

impl Counted {
    /// Counts from now on.
    fn from_now() -> Self {
        Self { held: MEMORY.allocated(), allocated: MEMORY.total_allocated() }
    }

    /// How many more bytes are held now.
    fn growth(&self) -> usize {
        MEMORY.allocated().saturating_sub(self.held)
    }

    /// How many bytes have been allocated, those that were given back included.
    fn allocated(&self) -> usize {
        MEMORY.total_allocated() - self.allocated
    }
}

/// What `work` gives, and how many bytes that holds.
///
/// The test harness has a thread of its own, which may allocate and free meanwhile: so it is measured until two
/// measurements in a row are the same.
fn held<T>(work: impl Fn() -> T) -> (T, usize) {
    let mut last = None;
    loop {
        let before = MEMORY.allocated();
        let given = work();
        match MEMORY.allocated().checked_sub(before) {
            Some(size) if last == Some(size) => return (given, size),
            size => last = size,
        }
    }
}

/// 64 bytes, and as little as 2 on the wire.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Thing {
    #[prost(fixed64, tag = "1")]
    a: u64,
    #[prost(fixed64, tag = "2")]
    b: u64,
    #[prost(fixed64, tag = "3")]
    c: u64,
    #[prost(fixed64, tag = "4")]
    d: u64,
    #[prost(fixed64, tag = "5")]
    e: u64,
    #[prost(fixed64, tag = "6")]
    f: u64,
    #[prost(fixed64, tag = "7")]
    g: u64,
    #[prost(fixed64, tag = "8")]
    h: u64,
}
