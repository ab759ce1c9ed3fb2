//! How many calls all connections of a server have together.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::status::Status;

/// Counts the calls that run.
#[derive(Debug)]
pub(super) struct CallCount {
    limit: usize,
    running: AtomicUsize,
}

impl CallCount {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, running: AtomicUsize::new(0) }
    }

    /// Counts one more call.
    ///
    /// # Errors
    ///
    /// All connections together have reached their limit.
    pub(super) fn begin(&self) -> Result<(), Status> {
        let limit = self.limit;
        self.running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |calls| (calls < limit).then_some(calls + 1))
            .map(drop)
            .map_err(|_| Status::resource_exhausted(format!("limit of {limit} calls at once on the server")))
    }

    /// A call that was counted has ended.
    pub(super) fn end(&self) {
        self.running.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }
}
