//! The rules for calls that this side opens: admission by the peer's limits, ids, answers, giving up, and the peer's
//! farewell.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use super::call::{Call, End, Lost, Sent, Side};
use super::connection::{Connection, Phase};
use super::encode::OpenRest;
use super::ending::Ending;
use super::envelope::wire::{Empty, WireBody};
use super::envelope::{Body, Close, GoAway, Limited};
use super::outbox::Outbox;
use super::queue::{Chunk, INLINE_BYTES, Payload};
use super::roles::MAX_PASSED;
use super::table::CallKey;
use crate::error::IpcError;
use crate::status::{Code, Status};

/// A call about to be opened.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    pub(crate) method: &'static str,
    /// Metadata and message, as [`Encoder::put_open_rest`](super::encode::Encoder::put_open_rest) wrote them.
    pub(crate) rest: Payload<'a>,
    /// The checksum of a large rest.
    pub(crate) sum: Option<u32>,
    /// The size of the message.
    pub(crate) request_bytes: u64,
    pub(crate) deadline: Option<Instant>,
    /// Woken when a part of the answer has arrived.
    pub(crate) reader: Option<&'a Waker>,
}

/// Why a call could not be opened on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// The connection takes no more calls. Another connection may.
    Closed,
    /// The peer accepts no calls at all.
    NotAccepted,
}

impl Connection {
    /// Whether new calls may be opened.
    pub(crate) fn takes_calls(&self) -> bool {
        !self.caller.is_closed && !self.caller.is_unused && self.phase == Phase::Open
    }

    /// How many calls of this side the peer counts as open, and how many more it admits.
    pub(crate) const fn places(&self) -> (u32, u32) {
        (self.caller.open, self.terms.peer_limits.calls - self.caller.open)
    }

    /// Whether a call was answered since the last call of this function.
    pub(crate) const fn take_was_answered(&mut self) -> bool {
        std::mem::replace(&mut self.caller.was_answered, false)
    }

    /// Whether the peer has said farewell, and after how many milliseconds this side may come back.
    pub(crate) const fn farewell(&self) -> (bool, u32) {
        (self.caller.has_farewell, self.caller.retry_after_ms)
    }

    /// Opens a call. It is sent when the peer admits it. Until it is handed to the transport, the peer can't see it.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing was queued.
    pub(crate) fn open(&mut self, now: Instant, opening: Opening<'_>) -> Result<CallKey, OpenError> {
        if !self.takes_calls() {
            return Err(OpenError::Closed);
        }
        if self.terms.peer_limits.calls == 0 {
            return Err(OpenError::NotAccepted);
        }
        let Opening { method, rest, sum, request_bytes, deadline, reader } = opening;
        let mut call = Call::new(Side::Caller, self.terms.window, self.terms.peer_window, deadline);
        call.request_bytes = request_bytes;
        if let Some(reader) = reader {
            call.wakers.register_reader(reader);
        }
        self.timers.note_deadline(deadline);
        if !self.caller.waiting.is_empty() || !self.has_place_for(request_bytes) {
            Outbox::push_waiting(&mut call.queue, Chunk::Open { method, rest: rest.into_bytes(), sum });
            let key = self.calls.insert(call);
            self.caller.waiting.push_back(key);
            self.admit_waiting();
            return Ok(key);
        }
        self.caller.open += 1;
        self.caller.request_bytes += request_bytes;
        call.sent = Sent::Admitted;
        call.holds_place = true;
        if self.outbox.stages_at_once(&call.queue, rest.len()) {
            let key = self.calls.insert(call);
            self.stage_open(now, key, method, rest, sum);
            return Ok(key);
        }
        let key = self.calls.insert(call);
        if let Some(call) = self.calls.get_mut(key) {
            self.outbox.push(key, &mut call.queue, Chunk::Open { method, rest: rest.into_bytes(), sum });
        }
        Ok(key)
    }

    /// Whether the peer admits one more call with `request_bytes`.
    pub(super) const fn has_place_for(&self, request_bytes: u64) -> bool {
        let limits = self.terms.peer_limits;
        let fits = self.caller.open == 0
            || self.caller.request_bytes.saturating_add(request_bytes) <= limits.request_bytes;
        self.caller.open < limits.calls && fits
    }

    /// Gives free places to the waiting calls, oldest first.
    fn admit_waiting(&mut self) {
        self.forget_waiting();
        while let Some(at) = self.next_waiting() {
            let Some(key) = self.caller.waiting.remove(at) else { return };
            self.caller.passed = if at == 0 { 0 } else { self.caller.passed + 1 };
            if let Some(call) = self.calls.get_mut(key) {
                call.sent = Sent::Admitted;
                call.holds_place = true;
                self.caller.open += 1;
                self.caller.request_bytes += call.request_bytes;
                self.outbox.release(key, &mut call.queue);
            }
        }
    }

    /// The waiting call that gets the next place. If the oldest needs more bytes than the peer admits, a few small requests
    /// may pass it.
    fn next_waiting(&mut self) -> Option<usize> {
        while let Some(first) = self.caller.waiting.front()
            && self.calls.get(*first).is_none_or(Call::is_over)
        {
            self.caller.waiting.pop_front();
            self.caller.passed = 0;
        }
        let first = self.calls.get(*self.caller.waiting.front()?)?;
        if self.has_place_for(first.request_bytes) {
            return Some(0);
        }
        if self.caller.open >= self.terms.peer_limits.calls || self.caller.passed >= MAX_PASSED {
            return None;
        }
        let may_pass = |call: &Call| {
            !call.is_over()
                && call.request_bytes <= INLINE_BYTES as u64
                && self.has_place_for(call.request_bytes)
        };
        self.caller.waiting.iter().position(|key| self.calls.get(*key).is_some_and(may_pass))
    }

    /// Removes calls that are over from the waiting ones, if there are too many.
    fn forget_waiting(&mut self) {
        const FEW: usize = 64;
        if self.caller.stale < FEW || self.caller.stale < self.caller.waiting.len() / 2 {
            return;
        }
        self.caller.stale = 0;
        let calls = &self.calls;
        self.caller.waiting.retain(|key| calls.get(*key).is_some_and(|call| !call.is_over()));
    }

    /// Gives a call its id and chooses its `Open` for writing.
    pub(super) fn stage_open(
        &mut self,
        now: Instant,
        key: CallKey,
        method: &'static str,
        rest: Payload<'_>,
        sum: Option<u32>,
    ) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(timeout_us) = remaining_us(call.deadline, now) else {
            call.put_end(End::Expired { sent: false, admitted: true }, &mut self.wakeups);
            self.caller.give_back(call);
            return self.admit_waiting();
        };
        let id = self.caller.last_opened + 1;
        let (encoder, variant) = (self.encoder, self.terms.variant);
        let staged = self.outbox.stage(Some((key, true)), |head| match rest {
            Payload::Large(bytes) if bytes.len() > INLINE_BYTES => {
                let sum = sum.unwrap_or_else(|| variant.checksum(&bytes));
                let apart = OpenRest::Apart { length: bytes.len(), sum };
                encoder.put_open(head, id, method, timeout_us, apart).map(|()| bytes)
            }
            Payload::Large(bytes) => {
                let inline = OpenRest::Inline(&bytes);
                encoder.put_open(head, id, method, timeout_us, inline).map(|()| Bytes::new())
            }
            Payload::Small(bytes) => {
                let inline = OpenRest::Inline(bytes);
                encoder.put_open(head, id, method, timeout_us, inline).map(|()| Bytes::new())
            }
        });
        match staged {
            Ok(()) => {
                self.caller.last_opened = id;
                call.id = id;
                self.ids.insert(id, key);
                call.wakers.wake_sender(&mut self.wakeups);
                // Whoever reads may have begun to wait before there was an id.
                self.allow_one(key);
            }
            Err(error) => {
                call.put_end(End::Unsendable(Arc::new(error)), &mut self.wakeups);
                self.caller.give_back(call);
                self.admit_waiting();
            }
        }
    }

    /// The call's id, when it has one. `None` if it will never have one. Items can't be encoded without it.
    pub(crate) fn poll_id(&mut self, key: CallKey, waker: &Waker) -> Poll<Option<u64>> {
        let Some(call) = self.calls.get_mut(key).filter(|call| !call.is_over()) else {
            return Poll::Ready(None);
        };
        if call.id > 0 {
            return Poll::Ready(Some(call.id));
        }
        self.retired.extend(call.wakers.register_sender(waker));
        Poll::Pending
    }

    /// Whether the peer has sent a frame about the call, so it has seen the call.
    pub(crate) fn is_answered(&self, key: CallKey) -> bool {
        self.calls.get(key).is_some_and(|call| call.answered)
    }

    /// Says that no more items follow.
    pub(crate) fn half_close(&mut self, key: CallKey, frame: Payload<'_>) {
        if self.calls.get(key).is_some_and(|call| !call.is_over()) {
            self.send_frames(key, frame);
        }
    }

    /// Notes that no reader waits for the call. If the peer can't have seen the call, it is taken back. Otherwise the peer
    /// is told.
    pub(crate) fn abandon(&mut self, now: Instant, key: CallKey) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let is_over = call.is_over();
        call.abandoned = true;
        call.give_up_items();
        // Whoever still sends requests is to stop.
        call.wakers.wake_all(&mut self.wakeups);
        if !is_over {
            self.withdraw(key);
        }
        if self.calls.get(key).is_some_and(|call| !call.holds_place) {
            self.discard(key);
        }
        self.end_if_done(now);
    }

    /// Fails the call on this side. Its reader gets `status`.
    pub(crate) fn fail(&mut self, now: Instant, key: CallKey, status: Status) {
        self.fail_call(key, status);
        self.end_if_done(now);
    }

    fn fail_call(&mut self, key: CallKey, status: Status) {
        let Some(call) = self.calls.get_mut(key).filter(|call| !call.is_over()) else { return };
        call.put_end(End::Cancelled(Box::new(status)), &mut self.wakeups);
        self.withdraw(key);
    }

    /// Withdraws a call that is over for this side. Nothing more of it is sent. If the peer may know the call, it is told.
    pub(super) fn withdraw(&mut self, key: CallKey) {
        let Some(call) = self.calls.get_mut(key) else { return };
        match call.sent {
            Sent::Waiting => {
                self.caller.stale += 1;
                self.drop_frames(key, false);
                if self.caller.waiting.front() == Some(&key) {
                    // Those behind it may have waited for nothing else.
                    self.admit_waiting();
                } else {
                    self.forget_waiting();
                }
            }
            Sent::Admitted => {
                self.ids.remove(&call.id);
                self.caller.give_back(call);
                self.drop_frames(key, true);
                self.outbox.forget_stale(&mut self.calls);
                self.admit_waiting();
            }
            Sent::Handed => {
                let id = call.id;
                let is_counted = call.holds_place;
                self.drop_frames(key, false);
                if self.phase == Phase::Open && is_counted {
                    self.put_control(id, WireBody::Cancel(Empty {}), false);
                }
            }
        }
    }

    pub(super) fn handle_as_caller(&mut self, now: Instant, id: u64, body: Body) -> Result<(), Status> {
        if matches!(body, Body::Open(_) | Body::HalfClose | Body::Cancel) {
            return Err(Status::internal(format!("{} from a server", body.name())));
        }
        let never = |name: &str| Status::internal(format!("{name} for call {id}, which was never opened"));
        if id > self.caller.last_opened {
            return Err(never(body.name()));
        }
        let Some(&key) = self.ids.get(&id) else { return Ok(()) };
        let Some(call) = self.calls.get_mut(key) else { return Ok(()) };
        if call.sent != Sent::Handed {
            return Err(never(body.name()));
        }
        call.answered = true;
        match body {
            Body::Headers(_) if std::mem::replace(&mut call.begun, true) => {
                Err(Status::internal(format!("Headers of call {id} after Headers or an Item")))
            }
            Body::Headers(Limited::Within(headers)) => {
                call.put_headers(headers, &mut self.wakeups);
                Ok(())
            }
            Body::Headers(Limited::TooLarge) => {
                self.fail_call(key, too_large());
                Ok(())
            }
            Body::Item(message) => {
                call.begun = true;
                call.put_items([message], &mut self.wakeups)
            }
            Body::Items(messages) => {
                call.begun = true;
                call.put_items(messages, &mut self.wakeups)
            }
            Body::Credit(amount) => call.add_credit(amount, &mut self.wakeups),
            Body::Close(close) => {
                self.close_own(now, key, close);
                Ok(())
            }
            Body::Open(_)
            | Body::HalfClose
            | Body::Cancel
            | Body::Hello(_)
            | Body::Ping(_)
            | Body::Pong
            | Body::GoAway(_) => Ok(()),
        }
    }

    /// Handles the callee's `Close`. The peer no longer counts the call.
    fn close_own(&mut self, now: Instant, key: CallKey, close: Close) {
        let Some(call) = self.calls.get_mut(key) else { return };
        self.ids.remove(&call.id);
        self.caller.give_back(call);
        if call.has_sent_frames {
            self.drop_frames(key, true);
        }
        let Some(call) = self.calls.get_mut(key) else { return };
        let Close { message, more } = close;
        if !more.as_ref().is_some_and(|more| more.not_processed) {
            self.caller.was_answered = true;
        }
        if call.abandoned {
            self.discard(key);
        } else if more.as_ref().is_some_and(|more| more.metadata == Limited::TooLarge) {
            call.put_end(End::Cancelled(Box::new(too_large())), &mut self.wakeups);
        } else {
            if let Some(message) = message.filter(|_| call.end.is_none()) {
                call.put_free(message);
            }
            call.put_end(End::Closed(more), &mut self.wakeups);
        }
        self.admit_waiting();
        self.end_if_done(now);
    }

    /// Handles a `GoAway`: the peer goes away now or soon.
    pub(super) fn handle_farewell(&mut self, go_away: GoAway) -> Result<(), Box<Ending>> {
        let GoAway { last_call_id, status, retry_after_ms } = go_away;
        let status = status.unwrap_or_default().into_status();
        let last = self.caller.last_accepted.map_or(last_call_id, |last| last.min(last_call_id));
        self.caller.last_accepted = Some(last);
        self.caller.retry_after_ms = self.caller.retry_after_ms.max(retry_after_ms);
        if status.code() != Code::Unavailable {
            return Err(Box::new(Ending::silent(IpcError::Status(status))));
        }
        self.caller.is_closed = true;
        self.caller.has_farewell = true;
        let cause = Arc::new(IpcError::Status(status));
        self.lose_unsent(&cause);
        for key in self.calls.keys() {
            if self.calls.get(key).is_some_and(|call| call.id > last) {
                self.lose_own_call(key, &cause);
            }
        }
        Ok(())
    }

    /// Ends the calls whose `Open` is completely unsent. They will never be sent here, so the peer can't see them.
    pub(super) fn lose_unsent(&mut self, cause: &Arc<IpcError>) {
        self.caller.waiting.clear();
        for key in self.calls.keys() {
            let is_unsent = |call: &Call| call.side == Side::Caller && call.sent != Sent::Handed;
            if self.calls.get(key).is_some_and(is_unsent) {
                self.lose_own_call(key, cause);
            }
        }
    }

    /// This call has no answer any more: the connection has ended for it, or the peer will not process it.
    pub(super) fn lose_own_call(&mut self, key: CallKey, cause: &Arc<IpcError>) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let is_accepted = self.caller.last_accepted.is_none_or(|last| call.id <= last);
        let sent = call.sent == Sent::Handed && is_accepted;
        let is_unwritten = call.sent != Sent::Handed;
        self.ids.remove(&call.id);
        self.caller.give_back(call);
        let lost = Lost { cause: Arc::clone(cause), sent, begun: call.begun };
        call.put_end(End::Lost(lost), &mut self.wakeups);
        let is_abandoned = call.abandoned;
        self.drop_frames(key, is_unwritten);
        if is_abandoned {
            self.discard(key);
        }
    }

    /// Notes that no more calls will be opened here. The connection ends with its last call.
    pub(crate) fn release(&mut self, now: Instant) {
        self.caller.is_unused = true;
        self.end_if_done(now);
    }

    /// Whether no reader waits for a call of this side.
    pub(super) fn has_no_own_calls(&self) -> bool {
        self.calls.values().all(|call| call.side == Side::Callee || call.abandoned || call.end.is_some())
    }
}

/// The time until `deadline` in microseconds, rounded up. 0 if there is no deadline. `None` if it has passed.
fn remaining_us(deadline: Option<Instant>, now: Instant) -> Option<u64> {
    let Some(deadline) = deadline else { return Some(0) };
    let left = deadline.saturating_duration_since(now);
    let micros = left.as_nanos().div_ceil(1000);
    (micros > 0).then(|| u64::try_from(micros).unwrap_or(u64::MAX))
}

fn too_large() -> Status {
    Status::resource_exhausted("the server sent more metadata than the protocol allows (64 KiB of one kind)")
}
