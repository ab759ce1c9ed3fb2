//! The checks of a simulation: whether a task would find something, whether the counts are right, and whether anything is
//! left at the end. Nothing here changes a connection.

use std::time::Instant;

use super::call::{Call, Sent, Side};
use super::connection::{Connection, Phase};
use super::outbox::{QUANTUM, TRANSMIT_BYTES};
use super::queue::{CALL_QUEUE_BYTES, INLINE_BYTES};
use super::table::CallKey;

/// How much one call's queue may hold beyond its limit: a frame, or a batch of items.
const QUEUE_SLACK: usize = 24 * 1024 + 512;

/// The largest total size of control frames while nothing is written.
const CONTROL_BYTES: usize = 64 * 1024;

impl Connection {
    /// The id of a call, once it has one.
    pub(crate) fn id_of(&self, key: CallKey) -> Option<u64> {
        self.calls.get(key).map(|call| call.id).filter(|id| *id > 0)
    }

    /// Whether `next` would find something.
    pub(crate) fn is_next_ready(&self, key: CallKey) -> bool {
        self.calls.get(key).is_none_or(Call::has_next)
    }

    /// Whether `poll_send` would be ready.
    pub(crate) fn is_send_ready(&self, key: CallKey) -> bool {
        let waits = |call: &Call| !call.is_over() && (call.outgoing <= 0 || !call.queue.has_room());
        !self.calls.get(key).is_some_and(waits)
    }

    /// Whether `poll_id` would be ready.
    pub(crate) fn is_id_ready(&self, key: CallKey) -> bool {
        !self.calls.get(key).is_some_and(|call| !call.is_over() && call.id == 0)
    }

    /// Whether `poll_over` would be ready.
    pub(crate) fn is_over_ready(&self, key: CallKey) -> bool {
        let runs = |call: &Call| !call.abandoned && call.is_open_for_application();
        !self.calls.get(key).is_some_and(runs)
    }

    /// Whether the call has no place yet.
    pub(crate) fn waits_for_place(&self, key: CallKey) -> bool {
        self.calls.get(key).is_some_and(|call| call.sent == Sent::Waiting && !call.is_over())
    }

    /// Whether the peer has said that it will not process a call with this id.
    pub(crate) fn is_ruled_out(&self, id: u64) -> bool {
        self.caller.last_accepted.is_some_and(|last| id > last)
    }

    /// The time since which this side waits for an answer to its `Ping`.
    pub(crate) const fn pinged(&self) -> Option<Instant> {
        self.timers.pinged
    }

    /// A call whose small frame could be written now, but is not in the bytes that were just given out.
    pub(crate) fn starving(&self, given: usize) -> Option<u64> {
        if given >= TRANSMIT_BYTES {
            return None;
        }
        let is_small = |call: &&Call| {
            call.may_send()
                && !call.has_sent_frames
                && call.queue.only_len().is_some_and(|len| len <= INLINE_BYTES)
        };
        self.calls.values().find(is_small).map(|call| call.id)
    }

    /// Checks that the counts agree with the calls, memory is within its bounds, and no call waits without reason.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_counts()?;
        self.check_memory()?;
        self.check_waiting()?;
        self.check_writing()?;
        self.check_deadlines()?;
        self.check_phase()
    }

    fn check_counts(&self) -> Result<(), String> {
        let (mut open, mut open_bytes, mut running, mut running_bytes, mut queued) = (0, 0, 0, 0, 0);
        for call in self.calls.values() {
            match call.side {
                Side::Caller if call.holds_place => {
                    open += 1;
                    open_bytes += call.request_bytes;
                }
                Side::Caller => {}
                Side::Callee => {
                    running += 1;
                    running_bytes += call.request_bytes;
                }
            }
            queued += if call.queue.takes_turns { call.queue.count() } else { 0 };
        }
        same("calls open at the peer", self.caller.open, open)?;
        same("bytes open at the peer", self.caller.request_bytes, open_bytes)?;
        same("calls running", self.callee.running, running)?;
        same("bytes running", self.callee.request_bytes, running_bytes)?;
        if !self.outbox.is_closed {
            same("chunks queued", self.outbox.queued, queued)?;
        }
        for (id, key) in &self.ids {
            if self.calls.get(*key).is_none_or(|call| call.id != *id) {
                return Err(format!("id {id} leads to no call of that id"));
            }
        }
        let own = self.terms.own_limits;
        within("calls running", u64::from(running), u64::from(own.calls))?;
        if running > 1 {
            within("bytes running", running_bytes, own.request_bytes)?;
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<(), String> {
        for call in self.calls.values() {
            let window = usize::try_from(self.terms.window).unwrap_or(usize::MAX);
            let bound = window.saturating_add(self.terms.max_frame_bytes);
            within("bytes of a call that wait for the application", call.waiting_bytes(), bound)?;
            let bound = CALL_QUEUE_BYTES + QUEUE_SLACK.max(self.terms.send_limit + 64);
            within("bytes in a call's queue", call.queue.bytes(), bound)?;
        }
        let outbox = &self.outbox;
        let large = QUEUE_SLACK.max(self.terms.send_limit + 64);
        within("control bytes", outbox.control.len(), CONTROL_BYTES)?;
        let head = TRANSMIT_BYTES + 2 * QUANTUM + CONTROL_BYTES;
        within("bytes chosen", outbox.next.len(), head + large)?;
        let rings = outbox.fresh.len() + outbox.backlog.len();
        if self.caller.is_closed {
            // Many calls may have been lost at once, and none comes after them.
            return Ok(());
        }
        within("places in the rings", rings, 2 * self.calls.len() + 130)?;
        within("calls with credit", self.credits.len(), self.calls.len())?;
        within("calls that wait", self.caller.waiting.len(), 2 * self.calls.len() + 130)
    }

    /// No call waits for a place while there is one.
    fn check_waiting(&self) -> Result<(), String> {
        let mut live =
            self.caller.waiting.iter().filter_map(|key| self.calls.get(*key)).filter(|call| !call.is_over());
        let Some(first) = live.next() else { return Ok(()) };
        if self.has_place_for(first.request_bytes) {
            return Err("the first call that waits would have a place".to_owned());
        }
        let is_small = |call: &Call| call.request_bytes <= INLINE_BYTES as u64;
        let may_pass = self.caller.may_pass()
            && live.any(|call| is_small(call) && self.has_place_for(call.request_bytes));
        if may_pass { Err("a small call that waits could pass".to_owned()) } else { Ok(()) }
    }

    /// No frame waits without being announced to the writer.
    fn check_writing(&self) -> Result<(), String> {
        if self.has_write_failed || self.phase == Phase::Closed || self.outbox.is_in_flight() {
            return Ok(());
        }
        if self.outbox.is_blocked() {
            return Ok(());
        }
        if self.timers.blocked.is_some() {
            return Err("a write that is over is still timed".to_owned());
        }
        let has_frames = |call: &Call| call.may_send() && !call.queue.is_empty();
        let has_work = self.outbox.has_chosen() || self.calls.values().any(has_frames);
        let has_words = self.last_words.is_some();
        let is_due = |call: &Call| call.credit_due > 0 && !call.closing;
        let has_credit = self.phase == Phase::Open && self.calls.values().any(is_due);
        if (has_work || has_words || has_credit) && !self.can_transmit() {
            return Err("something waits to be written, and nobody knows".to_owned());
        }
        if self.can_transmit() && matches!(self.phase, Phase::Lingering { .. }) {
            return Err("there is something to write after the last words".to_owned());
        }
        if !has_work && !has_words && matches!(self.phase, Phase::Flushing { .. }) {
            return Err("everything is written, and the connection waits to write it".to_owned());
        }
        Ok(())
    }

    fn check_phase(&self) -> Result<(), String> {
        // It ends once it is known what was written.
        if self.phase != Phase::Open || self.outbox.is_in_flight() {
            return Ok(());
        }
        if self.callee.is_draining && self.callee.running == 0 {
            return Err("drained, and still open".to_owned());
        }
        if self.caller.is_closed_for_good() && self.has_no_own_calls() && !self.has_write_failed {
            return Err("nobody wants the connection, and it is still open".to_owned());
        }
        Ok(())
    }

    /// No deadline passes unnoticed.
    fn check_deadlines(&self) -> Result<(), String> {
        let earliest =
            self.calls.values().filter(|call| !call.is_over()).filter_map(|call| call.deadline).min();
        match (earliest, self.timers.deadline) {
            (Some(earliest), noted)
                if self.phase == Phase::Open && noted.is_none_or(|noted| noted > earliest) =>
            {
                Err("the deadline of a call would pass unnoticed".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether a call goes on although its deadline has passed.
    pub(crate) fn has_overdue(&self, now: Instant) -> bool {
        let is_overdue =
            |call: &Call| !call.is_over() && call.deadline.is_some_and(|deadline| deadline <= now);
        self.phase == Phase::Open && self.calls.values().any(is_overdue)
    }

    /// Checks that nothing is left of any call.
    ///
    /// # Errors
    ///
    /// What is left.
    pub(crate) fn check_rest(&self) -> Result<(), String> {
        same("calls left", self.calls.len(), 0)?;
        same("ids left", self.ids.len(), 0)?;
        same("calls open at the peer", self.caller.open, 0)?;
        same("bytes open at the peer", self.caller.request_bytes, 0)?;
        same("calls running", self.callee.running, 0)?;
        same("bytes running", self.callee.request_bytes, 0)?;
        if self.phase == Phase::Closed || self.has_write_failed {
            return Ok(());
        }
        same("chunks queued", self.outbox.queued, 0)?;
        same("replies that wait", self.outbox.replies(), 0)?;
        if self.outbox.is_flushed() { Ok(()) } else { Err("something is left to write".to_owned()) }
    }
}

fn same<T: Copy + PartialEq + std::fmt::Display>(what: &str, booked: T, counted: T) -> Result<(), String> {
    if booked == counted {
        Ok(())
    } else {
        Err(format!("{what}: {booked} by the books, {counted} by the calls"))
    }
}

fn within<T: Copy + PartialOrd + std::fmt::Display>(what: &str, is: T, bound: T) -> Result<(), String> {
    if is <= bound { Ok(()) } else { Err(format!("{what}: {is}, above {bound}")) }
}
