//! One connection after the Hellos, on either side: input, timeouts, output, and the end.
//!
//! It is a state machine. [`handle`](Connection::handle) takes envelopes. [`poll_transmit`](Connection::poll_transmit)
//! gives bytes to write. [`timeout`](Connection::timeout) and [`handle_timeout`](Connection::handle_timeout) are its clock.
//! [`wakeups`](Connection::wakeups) has the wakers to call. The rules for one role of a call are in `caller` and `callee`.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::call::{Call, End, Lost, Sent, Side};
use super::encode::Encoder;
use super::ending::Ending;
use super::envelope::wire::{Nonce, WireBody};
use super::envelope::{Body, GoAway, Inbound};
use super::handshake::{Role, Terms};
use super::outbox::Outbox;
use super::roles::{Callee, Caller};
use super::table::{ById, CallKey, Table};
use super::timers::{Due, LINGER, Timers, later};
use crate::error::IpcError;
use crate::status::Status;

/// Reading stops while more than this many Pongs and refusals wait to be written.
const MAX_REPLIES: usize = 64;

/// The phases of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Calls run.
    Open,
    /// The connection is over for all calls. Waiting frames are still written, until this time.
    Flushing { until: Instant },
    /// Everything is written. Input is discarded until this time, so that the peer can read why the connection ended.
    Lingering { until: Instant },
    /// Nothing more is read or written.
    Closed,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) terms: Terms,
    pub(super) encoder: Encoder,
    pub(super) calls: Table<Call>,
    /// The calls that have an id and are not over for the peer.
    pub(super) ids: ById,
    pub(super) outbox: Outbox,
    pub(super) timers: Timers,
    pub(super) wakeups: Vec<Waker>,
    /// Wakers that are no longer needed. Dropping them may run users' code.
    pub(super) retired: Vec<Waker>,
    /// Calls that have credit to send.
    pub(super) credits: Vec<CallKey>,
    /// Calls that this side opens, and calls that the peer opens.
    pub(super) caller: Caller,
    pub(super) callee: Callee,
    pub(super) phase: Phase,
    /// Why the connection ended.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) cause: Option<Arc<IpcError>>,
    /// The status of the last `GoAway`, until the `GoAway` is queued.
    pub(super) last_words: Option<Status>,
    pub(super) has_write_failed: bool,
    next_nonce: u64,
}

impl Connection {
    pub(crate) fn new(now: Instant, terms: Terms) -> Self {
        Self {
            terms,
            encoder: Encoder::new(terms.variant, terms.send_limit),
            calls: Table::default(),
            ids: ById::default(),
            outbox: Outbox::default(),
            timers: Timers::new(now, terms.read_timeout, terms.write_timeout),
            wakeups: Vec::new(),
            retired: Vec::new(),
            credits: Vec::new(),
            caller: Caller::default(),
            callee: Callee::default(),
            phase: Phase::Open,
            #[cfg(any(test, feature = "simulation"))]
            cause: None,
            last_words: None,
            has_write_failed: false,
            next_nonce: 0,
        }
    }

    pub(crate) const fn encoder(&self) -> Encoder {
        self.encoder
    }

    pub(crate) const fn phase(&self) -> Phase {
        self.phase
    }

    /// The wakers to call. They are called after the lock around this is released.
    pub(crate) const fn wakeups(&mut self) -> &mut Vec<Waker> {
        &mut self.wakeups
    }

    pub(crate) const fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Takes the wakers that are no longer needed. They are dropped after the lock around this is released.
    pub(crate) fn take_retired(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.retired)
    }

    /// Drops a call that is over for both sides.
    pub(super) fn discard(&mut self, key: CallKey) {
        if let Some(call) = self.calls.get_mut(key) {
            call.wakers.take_into(&mut self.retired);
            let credit_due = call.credit_due;
            self.calls.remove(key);
            self.forget_credit(key, credit_due);
        }
    }

    /// Whether this side gives the ids of calls. In version 1 of the protocol only clients open calls.
    fn is_own_id(&self) -> bool {
        self.terms.role == Role::Client
    }

    // What arrives.

    /// Whether the driver may read more. It must not while too many Pongs and refusals wait to be written.
    pub(crate) const fn wants_input(&self) -> bool {
        self.outbox.replies() <= MAX_REPLIES
    }

    /// Notes that bytes have arrived.
    pub(crate) const fn note_read(&mut self, now: Instant) {
        self.timers.note_read(now);
    }

    /// Notes that all complete frames were taken. `is_inside_frame` says whether the input now ends inside a frame.
    pub(crate) fn note_frames_taken(&mut self, now: Instant, frames: usize, is_inside_frame: bool) {
        self.timers.note_frames(now, frames > 0, is_inside_frame);
    }

    /// The approximate number of calls that tasks work on, if frames for `arrived` calls have just arrived.
    pub(crate) fn busy_calls(&self, arrived: usize) -> usize {
        match self.terms.role {
            // Those whose answers were taken will call again, if anybody does.
            Role::Client => self.ids.len() + arrived,
            Role::Server => self.ids.len(),
        }
    }

    /// Whether the connection is open and, on a client, new calls may be opened.
    pub(crate) fn is_usable(&self) -> bool {
        self.phase == Phase::Open && (self.terms.role == Role::Server || !self.caller.is_closed)
    }

    /// Handles an envelope. After the end of the connection, envelopes are discarded.
    pub(crate) fn handle(&mut self, now: Instant, inbound: Inbound) {
        if self.phase != Phase::Open {
            return;
        }
        let Inbound { id, body } = inbound;
        if body.is_about_connection() != (id == 0) {
            let what = if id == 0 { "without a call id" } else { "with a call id" };
            let status = Status::internal(format!("{} {what}", body.name()));
            return self.end(now, Ending::breach(status));
        }
        let judged = match body {
            Body::Hello(_) => Err(Box::new(Ending::breach(Status::internal("a second Hello")))),
            Body::Ping(nonce) => {
                self.put_control(0, WireBody::Pong(Nonce { nonce }), true);
                Ok(())
            }
            Body::Pong => Ok(()),
            Body::GoAway(go_away) => self.handle_go_away(*go_away),
            body if self.is_own_id() => {
                self.handle_as_caller(now, id, body).map_err(|status| Box::new(Ending::breach(status)))
            }
            body => self.handle_as_callee(now, id, body).map_err(|status| Box::new(Ending::breach(status))),
        };
        match judged {
            Ok(()) => self.end_if_done(now),
            Err(ending) => self.end(now, *ending),
        }
    }

    fn handle_go_away(&mut self, go_away: GoAway) -> Result<(), Box<Ending>> {
        match self.terms.role {
            Role::Client => self.handle_farewell(go_away),
            // A client's farewell only says why it closes. The server awaits the end of the stream.
            Role::Server => Ok(()),
        }
    }

    /// Handles the end of the input: the stream has ended, a frame was invalid, or reading failed.
    pub(crate) fn handle_input_end(&mut self, now: Instant, ending: Ending) {
        match self.phase {
            Phase::Open => self.end(now, ending),
            Phase::Flushing { .. } if !self.has_write_failed && !self.outbox.is_flushed() => {}
            Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Closed => self.close_now(),
        }
    }

    // The time.

    /// When [`handle_timeout`](Self::handle_timeout) must be called.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open => Some(self.timers.next()),
            Phase::Flushing { until } | Phase::Lingering { until } => Some(until),
            Phase::Closed => None,
        }
    }

    /// Whether [`timeout`](Self::timeout) may have become earlier since the last call of this function.
    pub(crate) const fn take_is_sooner(&mut self) -> bool {
        self.timers.take_is_sooner()
    }

    /// Handles the timeouts that are due. Everything that has arrived must be read before.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Open => self.handle_due(now),
            Phase::Flushing { until } | Phase::Lingering { until } if now >= until => self.close_now(),
            Phase::Flushing { .. } | Phase::Lingering { .. } | Phase::Closed => {}
        }
    }

    fn handle_due(&mut self, now: Instant) {
        if !self.wants_input() {
            self.timers.note_reading_stopped(now);
        }
        while self.phase == Phase::Open {
            match self.timers.check(now) {
                None => return,
                Some(Due::Ping) => {
                    let nonce = self.next_nonce;
                    self.next_nonce += 1;
                    self.put_control(0, WireBody::Ping(Nonce { nonce }), false);
                }
                Some(Due::Deadlines) => {
                    self.expire_due(now);
                    self.end_if_done(now);
                }
                Some(Due::End(ending)) => self.end(now, *ending),
                Some(Due::Close(ending)) => {
                    self.end(now, *ending);
                    self.close_now();
                }
            }
        }
    }

    fn expire_due(&mut self, now: Instant) {
        let mut next = None;
        for key in self.calls.keys() {
            let Some(call) = self.calls.get_mut(key).filter(|call| !call.is_over()) else { continue };
            match call.deadline {
                Some(deadline) if deadline <= now => self.expire_call(key),
                deadline => next = [next, deadline].into_iter().flatten().min(),
            }
        }
        self.timers.set_deadline(next);
    }

    /// Ends a call whose deadline has passed. The timers or the task that awaits the call found this.
    pub(crate) fn expire(&mut self, now: Instant, key: CallKey) {
        self.expire_call(key);
        self.end_if_done(now);
    }

    fn expire_call(&mut self, key: CallKey) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if call.is_over() {
            return;
        }
        match call.side {
            Side::Caller => {
                let (sent, admitted) = (call.sent == Sent::Handed, call.sent != Sent::Waiting);
                call.put_end(End::Expired { sent, admitted }, &mut self.wakeups);
                self.withdraw(key);
            }
            Side::Callee => call.put_end(End::Expired { sent: true, admitted: true }, &mut self.wakeups),
        }
    }

    // The end.

    /// Ends the connection at once for all calls, because its driver was dropped or no one needs it.
    pub(crate) fn lose(&mut self, now: Instant, cause: IpcError) {
        if self.phase == Phase::Open {
            // Nobody is to blame, so the next connection is made at once.
            self.caller.note_farewell();
            self.end(now, Ending::silent(cause));
        }
        self.close_now();
    }

    pub(super) fn end(&mut self, now: Instant, ending: Ending) {
        if self.phase != Phase::Open {
            return;
        }
        let cause = Arc::new(ending.cause);
        #[cfg(any(test, feature = "simulation"))]
        {
            self.cause = Some(Arc::clone(&cause));
        }
        self.phase = Phase::Flushing { until: later(now, self.terms.write_timeout) };
        self.caller.is_closed = true;
        self.callee.is_draining = true;
        // First what can't have been seen is dropped, and only then it is judged what was sent.
        self.lose_unsent(&cause);
        for key in self.calls.keys() {
            self.lose_call(key, &cause);
        }
        self.credits.clear();
        self.last_words = ending.go_away;
        self.end_if_flushed(now);
    }

    /// Ends a call because the connection has ended.
    pub(super) fn lose_call(&mut self, key: CallKey, cause: &Arc<IpcError>) {
        let Some(call) = self.calls.get_mut(key) else { return };
        match call.side {
            Side::Caller => self.lose_own_call(key, cause),
            Side::Callee if call.closing => {}
            Side::Callee => {
                let lost = Lost { cause: Arc::clone(cause), sent: true, begun: false };
                call.put_end(End::Lost(lost), &mut self.wakeups);
                self.outbox.drop_frames(key, &mut call.queue, false);
            }
        }
    }

    /// Ends a connection that has nothing left to do, or moves one that is ending to its next phase.
    pub(super) fn end_if_done(&mut self, now: Instant) {
        if self.phase != Phase::Open {
            return self.end_if_flushed(now);
        }
        if self.callee.is_draining && self.callee.running == 0 {
            let cause = IpcError::Status(Status::unavailable("the server has shut down"));
            self.end(now, Ending::silent(cause));
        } else if self.caller.is_closed_for_good() && self.has_no_own_calls() && !self.has_write_failed {
            self.end(now, Ending::silent(IpcError::PeerClosed));
        }
    }

    fn end_if_flushed(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Flushing { .. }) {
            return;
        }
        if self.has_write_failed {
            self.close_now();
        } else if self.last_words.is_none() && self.outbox.is_flushed() {
            self.phase = Phase::Lingering { until: now + LINGER };
        }
    }

    pub(super) fn close_now(&mut self) {
        self.phase = Phase::Closed;
        self.last_words = None;
        self.drop_output();
    }

    /// Drops all output. Calls whose `Close` waited to be written are over.
    pub(super) fn drop_output(&mut self) {
        self.credits.clear();
        self.outbox.clear();
        for key in self.calls.keys() {
            if self.calls.get(key).is_some_and(|call| call.closing) {
                self.forget_closed(key);
            }
        }
    }
}
