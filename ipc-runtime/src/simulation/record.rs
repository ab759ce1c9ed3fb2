//! What is known about each call from all sides at once: who saw it, who ran it, and what was promised about it.

use super::lane::Lane;
use super::message::Direction;
use super::plan::Plan;
use super::world::World;

/// One call, whatever becomes of it.
#[derive(Debug)]
pub(super) struct CallRecord {
    pub(super) plan: Plan,
    pub(super) attempts: Vec<Attempt>,
    /// Its caller was told that no handler has seen it.
    pub(super) is_unseen: bool,
    /// How often a handler was begun.
    pub(super) begun: u32,
}

/// One attempt of a call, on one connection.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
pub(super) struct Attempt {
    pub(super) pair: usize,
    pub(super) id: u64,
    pub(super) is_begun: bool,
    /// No handler may be begun for it from here on.
    pub(super) must_not_begin: bool,
    /// No byte of its `Open` may be written from here on.
    pub(super) must_not_be_written: bool,
    /// Its `Open` was given to the transport, which has not said what it took.
    pub(super) is_in_flight: bool,
    /// Its `Open` was in flight when the connection ended.
    pub(super) was_in_flight: bool,
    pub(super) was_handed: bool,
    /// A byte of its `Open` was taken.
    pub(super) is_written: bool,
    /// Items that the connections have taken: requests, answers.
    pub(super) items: [u32; 2],
}

impl World<'_> {
    pub(super) fn attempt(&mut self, call: u32, attempt: u8) -> Option<&mut Attempt> {
        self.records.get_mut(call as usize)?.attempts.get_mut(usize::from(attempt))
    }

    pub(super) fn note_items(&mut self, lane: Lane, direction: Direction, accepted: u32) {
        if let Some(attempt) = self.attempt(lane.call, lane.attempt) {
            attempt.items[direction as usize] = accepted;
        }
    }

    /// A handler is begun.
    pub(super) fn note_begun(&mut self, lane: Lane) {
        let Some(record) = self.records.get_mut(lane.call as usize) else {
            self.violation("a handler got a call that nobody made")
        };
        record.begun += 1;
        let (begun, is_unseen, is_idempotent) = (record.begun, record.is_unseen, record.plan.is_idempotent);
        let Some(attempt) = record.attempts.get_mut(usize::from(lane.attempt)) else {
            self.violation("a handler got an attempt that nobody made")
        };
        let was_begun = std::mem::replace(&mut attempt.is_begun, true);
        let must_not = attempt.must_not_begin;
        let (call, number) = (lane.call, lane.attempt);
        if was_begun {
            self.violation(&format!("attempt {number} of call {call} ran twice"));
        }
        if begun > 1 && !is_idempotent {
            self.violation(&format!("call {call} ran {begun} times"));
        }
        if is_unseen {
            self.violation(&format!("call {call} runs after its caller was told that it was not sent"));
        }
        if must_not {
            self.violation(&format!("attempt {number} of call {call} runs after it was said not to be sent"));
        }
    }
}
