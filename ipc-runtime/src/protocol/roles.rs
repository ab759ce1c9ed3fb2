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

/// A connection's state for the calls that this side opens.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
pub(super) struct Caller {
    pub(super) last_opened: u64,
    /// How many calls the peer counts as open, and the total size of the messages in their `Open`s.
    pub(super) open: u32,
    pub(super) request_bytes: u64,
    /// Calls that wait until the peer admits another, oldest first, and a few that are over.
    pub(super) waiting: VecDeque<CallKey>,
    /// About how many of these are over.
    pub(super) stale: usize,
    /// How many small requests have passed the first one that waits.
    pub(super) passed: u32,
    /// No new calls may be opened: the peer goes away, writing has failed, or the connection has ended.
    pub(super) is_closed: bool,
    /// No more calls will be opened.
    pub(super) is_unused: bool,
    /// The peer has said farewell.
    pub(super) has_farewell: bool,
    /// The lowest `last_call_id` of the peer's `GoAway`s.
    pub(super) last_accepted: Option<u64>,
    pub(super) retry_after_ms: u32,
    /// A call was answered since this was last read.
    pub(super) was_answered: bool,
}

impl Caller {
    pub(super) const fn is_closed_for_good(&self) -> bool {
        self.is_unused || self.has_farewell
    }

    /// Whether another small request may pass the first waiting one.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) const fn may_pass(&self) -> bool {
        self.passed < MAX_PASSED
    }

    /// Notes that the connection ends without a failure.
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

/// A connection's state for the calls that the peer opens.
#[derive(Debug, Default)]
pub(super) struct Callee {
    pub(super) last_seen: u64,
    /// The highest id that was accepted. A `GoAway` reports it.
    pub(super) last_accepted: u64,
    /// How many calls are counted, and the total size of the messages in their `Open`s.
    pub(super) running: u32,
    pub(super) request_bytes: u64,
    /// No more calls are accepted, because a `GoAway` was sent or the connection has ended.
    pub(super) is_draining: bool,
    pub(super) arrivals: Vec<Arrival>,
}

/// A call that has arrived and was admitted.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) key: CallKey,
    pub(crate) id: u64,
    /// The call's target, as the decoder found it.
    pub(crate) target: u32,
    pub(crate) metadata: Metadata,
    /// The whole request, where it came with the call.
    pub(crate) message: Option<Bytes>,
    pub(crate) deadline: Option<Instant>,
}
