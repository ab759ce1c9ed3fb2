//! What a connection keeps for each role that it has in calls: for those that this side opens, and for those that the peer
//! opens.
//!
//! The rules are in `caller` and `callee`.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::call::Call;
use super::table::CallKey;
use crate::metadata::Metadata;

/// How many small requests may pass a large one that waits for the peer to admit more bytes.
pub(super) const MAX_PASSED: u32 = 64;

/// What a connection keeps about the calls that this side opens.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
pub(super) struct Caller {
    pub(super) last_opened: u64,
    /// Calls that the peer counts as open, and the bytes of their `Open`s' messages.
    pub(super) open: u32,
    pub(super) request_bytes: u64,
    /// Calls that wait until the peer admits another, in the order they came, and a few that are over.
    pub(super) waiting: VecDeque<CallKey>,
    /// About how many of these are over.
    pub(super) stale: usize,
    /// Small requests that have passed the first one that waits.
    pub(super) passed: u32,
    /// No new calls: the peer goes away, writing has failed, or the connection has ended.
    pub(super) is_closed: bool,
    /// Nobody will open a call any more.
    pub(super) is_unused: bool,
    /// The peer has said farewell.
    pub(super) has_farewell: bool,
    /// The lowest `last_call_id` of the peer's `GoAway`s.
    pub(super) last_accepted: Option<u64>,
    pub(super) retry_after_ms: u32,
    /// A call was answered since this was last asked.
    pub(super) was_answered: bool,
}

impl Caller {
    pub(super) const fn is_closed_for_good(&self) -> bool {
        self.is_unused || self.has_farewell
    }

    /// Whether another small request may pass the first one that waits.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) const fn may_pass(&self) -> bool {
        self.passed < MAX_PASSED
    }

    /// The connection ends without a failure.
    pub(super) const fn note_farewell(&mut self) {
        self.has_farewell = true;
    }

    /// The peer does not count the call any more.
    pub(super) fn give_back(&mut self, call: &mut Call) {
        if std::mem::replace(&mut call.holds_place, false) {
            self.open -= 1;
            self.request_bytes -= call.request_bytes;
        }
    }
}

/// What a connection keeps about the calls that the peer opens.
#[derive(Debug, Default)]
pub(super) struct Callee {
    pub(super) last_seen: u64,
    /// The highest id that was accepted; what a `GoAway` says.
    pub(super) last_accepted: u64,
    /// Calls that count, and the bytes of their `Open`s' messages.
    pub(super) running: u32,
    pub(super) request_bytes: u64,
    /// No more calls are accepted: a `GoAway` said so, or the connection has ended.
    pub(super) is_draining: bool,
    pub(super) arrivals: Vec<Arrival>,
}

/// A call that has arrived and was admitted.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) key: CallKey,
    pub(crate) id: u64,
    /// Where it goes, as the decoder resolved it.
    pub(crate) target: u32,
    pub(crate) metadata: Metadata,
    /// The whole request, where it came with the call.
    pub(crate) message: Option<Bytes>,
    pub(crate) deadline: Option<Instant>,
}
