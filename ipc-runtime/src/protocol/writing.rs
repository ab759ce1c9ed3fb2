//! What a connection writes: it chooses bytes, hands them over, and takes back what the transport did not take.

use std::sync::Arc;
use std::time::Instant;

use super::call::{Sent, Side};
use super::connection::{Connection, Phase};
use super::envelope::wire::{WireBody, WireCredit};
use super::handshake::Role;
use super::outbox::Transmit;
use super::queue::{Chunk, INLINE_BYTES, Payload};
use super::table::CallKey;
use crate::error::IpcError;
use crate::status::Status;

impl Connection {
    /// Bytes to write, if there are any and no thread writes already. The caller must give them back to
    /// [`transmitted`](Self::transmitted). From here on, they count as handed to the transport.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.has_write_failed || self.phase == Phase::Closed || self.outbox.is_in_flight() {
            return None;
        }
        if !self.outbox.is_blocked() {
            if !self.credits.is_empty() {
                self.put_credits();
            }
            while let Some((key, chunk)) = self.outbox.choose(&mut self.calls) {
                self.stage(now, key, chunk);
            }
            self.put_last_words();
        }
        let calls = &mut self.calls;
        let transmit = self.outbox.hand_over(|key| {
            if let Some(call) = calls.get_mut(key) {
                call.sent = Sent::Handed;
            }
        });
        match &transmit {
            Some(_) => self.timers.note_writing(),
            // What was chosen may have come to nothing, and with it the last call.
            None => self.end_if_done(now),
        }
        transmit
    }

    /// Takes back the bytes that were handed over. All were written, or the transport takes no more for now.
    pub(crate) fn transmitted(&mut self, now: Instant, transmit: Transmit, progress: bool) {
        if self.has_write_failed || self.phase == Phase::Closed {
            self.outbox.clear();
            return;
        }
        self.timers.note_write(now, progress, !transmit.is_done());
        let calls = &mut self.calls;
        self.outbox.take_back(transmit, |key| {
            if let Some(call) = calls.get_mut(key)
                && !call.is_over()
            {
                call.sent = Sent::Admitted;
            }
        });
        self.end_if_done(now);
    }

    /// Notes that writing has failed. Input that has already arrived is still handled.
    pub(crate) fn handle_write_error(&mut self, now: Instant) {
        if std::mem::replace(&mut self.has_write_failed, true) {
            return;
        }
        self.drop_output();
        if self.phase == Phase::Open {
            self.timers.note_write_failed(now);
            self.caller.is_closed = true;
            self.lose_unsent(&Arc::new(IpcError::PeerClosed));
            self.end_if_done(now);
        } else {
            self.close_now();
        }
    }

    /// Whether frames wait and the transport may have room.
    pub(crate) fn can_transmit(&self) -> bool {
        let has_work = self.outbox.has_work() || self.last_words.is_some() || !self.credits.is_empty();
        has_work && !self.outbox.is_blocked() && !self.outbox.is_in_flight()
    }

    /// Whether the transport took less than it was given.
    pub(crate) fn is_blocked(&self) -> bool {
        self.outbox.is_blocked()
    }

    /// How many frames were added since the last write began, and about how many bytes they have.
    pub(crate) fn gathered(&self) -> (usize, usize) {
        self.outbox.gathered()
    }

    fn stage(&mut self, now: Instant, key: CallKey, chunk: Chunk) {
        match chunk {
            Chunk::Open { method, rest, sum } => self.stage_open(now, key, method, Payload::Large(rest), sum),
            Chunk::Frames(bytes) => {
                self.stage_bytes(key, Payload::Large(bytes));
                if let Some(call) = self.calls.get_mut(key)
                    && call.queue.has_room()
                {
                    call.wakers.wake_sender(&mut self.wakeups);
                }
            }
            Chunk::Close(bytes) => {
                self.forget_closed(key);
                self.stage_bytes(key, Payload::Large(bytes));
            }
        }
    }

    /// Adds bytes to the next write: copied, or as a part of their own.
    pub(super) fn stage_bytes(&mut self, key: CallKey, bytes: Payload<'_>) {
        let is_own = self.calls.get(key).is_some_and(|call| call.side == Side::Caller);
        let owner = is_own.then_some((key, false));
        let staged: Result<(), std::convert::Infallible> = self.outbox.stage(owner, |head| {
            Ok(match bytes {
                Payload::Large(bytes) if bytes.len() > INLINE_BYTES => bytes,
                Payload::Large(bytes) => {
                    head.extend_from_slice(&bytes);
                    bytes::Bytes::new()
                }
                Payload::Small(bytes) => {
                    head.extend_from_slice(bytes);
                    bytes::Bytes::new()
                }
            })
        });
        match staged {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// Sends frames of a call: at once if nothing waits before them, otherwise at the call's turn.
    pub(super) fn send_frames(&mut self, key: CallKey, frames: Payload<'_>) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.has_sent_frames = true;
        if self.outbox.stages_at_once(&call.queue, frames.len()) {
            self.stage_bytes(key, frames);
        } else {
            self.outbox.push(key, &mut call.queue, Chunk::Frames(frames.into_bytes()));
        }
    }

    /// Drops what a call has waiting. Of what was chosen, `chosen` says whether it is dropped, too.
    pub(super) fn drop_frames(&mut self, key: CallKey, chosen: bool) {
        let Some(call) = self.calls.get_mut(key) else { return };
        self.outbox.drop_frames(key, &mut call.queue, chosen);
        if chosen && !self.outbox.is_blocked() && !self.outbox.is_in_flight() {
            self.timers.note_unblocked();
        }
    }

    /// Queues a frame that takes no turns.
    pub(super) fn put_control(&mut self, id: u64, body: WireBody, is_reply: bool) {
        let encoder = self.encoder;
        if let Err(error) = self.outbox.put_control(is_reply, |buffer| encoder.put(buffer, id, body)) {
            tracing::error!(%error, "control frame not sent");
        }
    }

    /// Queues the credit that calls have to send.
    pub(super) fn put_credits(&mut self) {
        let mut credits = std::mem::take(&mut self.credits);
        for key in credits.drain(..) {
            let Some(call) = self.calls.get_mut(key) else { continue };
            let amount = std::mem::take(&mut call.credit_due);
            let id = call.id;
            if amount > 0 {
                self.put_control(id, WireBody::Credit(WireCredit { amount }), false);
            }
        }
        self.credits = credits;
    }

    /// Queues the last `GoAway`, after all other frames.
    pub(super) fn put_last_words(&mut self) {
        if self.last_words.is_none() || !matches!(self.phase, Phase::Flushing { .. }) {
            return;
        }
        if self.outbox.has_only_chosen()
            && let Some(status) = self.last_words.take()
        {
            self.put_go_away(&status);
        }
    }

    pub(super) fn put_go_away(&mut self, status: &Status) {
        let last_call_id = match self.terms.role {
            Role::Server => self.callee.last_accepted,
            Role::Client => 0,
        };
        let encoder = self.encoder;
        let put =
            self.outbox.put_control(false, |buffer| encoder.put_go_away(buffer, last_call_id, status, 0));
        if let Err(error) = put {
            tracing::error!(%error, "GoAway not sent");
        }
    }
}
