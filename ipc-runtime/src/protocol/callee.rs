//! The rules for calls that the peer opens: admission by this side's limits, refusals, answers, and draining.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::call::{Call, End, Side};
use super::connection::{Connection, Phase};
use super::ending::Ending;
use super::envelope::{Body, Limited, Open};
use super::queue::{Chunk, Payload};
use super::roles::Arrival;
use super::table::CallKey;
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::status::Status;

/// How a call ends on its callee's side.
#[derive(Debug)]
pub(crate) enum Finish<'a> {
    /// The handler answered. This is the whole `Close`.
    Answered(Payload<'a>),
    /// The handler, or code around it, failed.
    Failed(&'a Status),
}

impl Connection {
    /// The calls that have arrived and are not yet taken, in order.
    pub(crate) const fn arrivals(&mut self) -> &mut Vec<Arrival> {
        &mut self.callee.arrivals
    }

    /// How many calls of the peer are running.
    pub(crate) const fn running(&self) -> u32 {
        self.callee.running
    }

    pub(super) fn handle_as_callee(&mut self, now: Instant, id: u64, body: Body) -> Result<(), Status> {
        let body = match body {
            Body::Open(open) => return self.handle_open(now, id, open),
            Body::Headers(_) | Body::Close(_) => {
                return Err(Status::internal(format!("{} from a client", body.name())));
            }
            other => other,
        };
        let call = self.ids.get(&id).and_then(|key| self.calls.get_mut(*key)).filter(|call| !call.closing);
        let Some(call) = call else { return Ok(()) };
        match body {
            Body::Item(message) => call.put_items([message], &mut self.wakeups),
            Body::Items(messages) => call.put_items(messages, &mut self.wakeups),
            Body::Credit(amount) => call.add_credit(amount, &mut self.wakeups),
            Body::HalfClose => {
                if call.end.is_none() {
                    call.end = Some(End::HalfClosed);
                    call.wakers.wake_reader(&mut self.wakeups);
                }
                Ok(())
            }
            Body::Cancel => {
                let status = Status::cancelled("the client cancelled the call");
                call.put_end(End::Cancelled(Box::new(status)), &mut self.wakeups);
                Ok(())
            }
            Body::Open(_)
            | Body::Headers(_)
            | Body::Close(_)
            | Body::Hello(_)
            | Body::Ping(_)
            | Body::Pong
            | Body::GoAway(_) => Ok(()),
        }
    }

    fn handle_open(&mut self, now: Instant, id: u64, open: Open) -> Result<(), Status> {
        if id <= self.callee.last_seen {
            return Err(Status::internal(format!("Open with id {id} after {}", self.callee.last_seen)));
        }
        self.callee.last_seen = id;
        if self.callee.is_draining {
            // It is above what the GoAway said: the client knows that it was not processed.
            return Ok(());
        }
        match self.judge(open) {
            Ok((target, metadata, rest)) => self.accept(now, id, target, metadata, rest),
            Err(status) => self.put_refusal(id, &status),
        }
        Ok(())
    }

    fn judge(&self, open: Open) -> Result<(u32, Metadata, Request), Status> {
        let Open { target, timeout_us, metadata, end_of_stream, message } = open;
        let target = target.map_err(|status| *status)?;
        let Limited::Within(metadata) = metadata else {
            return Err(Status::resource_exhausted(
                "the request has more metadata than the protocol allows (64 KiB: key, value and 32 for each pair)",
            ));
        };
        if let Some(why) = metadata.first_bad_key() {
            return Err(Status::invalid_argument(why));
        }
        let limits = self.terms.own_limits;
        if self.callee.running >= limits.calls {
            let words = format!("limit of {} calls at once on a connection", limits.calls);
            return Err(Status::resource_exhausted(words));
        }
        let bytes = message.as_ref().map_or(0, |message| message.len() as u64);
        let sum = self.callee.request_bytes.saturating_add(bytes);
        if self.callee.running > 0 && sum > limits.request_bytes {
            let words = format!(
                "limit of {} bytes of requests at once on a connection (max_request_bytes)",
                limits.request_bytes
            );
            return Err(Status::resource_exhausted(words));
        }
        Ok((target, metadata, Request { timeout_us, end_of_stream, message }))
    }

    fn accept(&mut self, now: Instant, id: u64, target: u32, metadata: Metadata, request: Request) {
        let Request { timeout_us, end_of_stream, mut message } = request;
        let deadline = deadline_of(timeout_us, now);
        let mut call = Call::new(Side::Callee, self.terms.window, self.terms.peer_window, deadline);
        call.id = id;
        call.holds_place = true;
        call.request_bytes = message.as_ref().map_or(0, |message| message.len() as u64);
        self.callee.running += 1;
        self.callee.request_bytes += call.request_bytes;
        self.callee.last_accepted = id;
        self.timers.note_deadline(deadline);
        if end_of_stream {
            call.end = Some(End::HalfClosed);
        } else if let Some(first) = message.take() {
            call.put_free(first);
        }
        let key = self.calls.insert(call);
        self.ids.insert(id, key);
        self.callee.arrivals.push(Arrival { key, id, target, metadata, message, deadline });
    }

    /// Refuses a call that was admitted but not begun, because of a limit that this connection does not know.
    pub(crate) fn refuse(&mut self, now: Instant, key: CallKey, status: &Status) {
        let Some(call) = self.calls.get(key) else { return };
        let id = call.id;
        self.forget_closed(key);
        if self.phase == Phase::Open {
            self.put_refusal(id, status);
        }
        self.end_if_done(now);
    }

    fn put_refusal(&mut self, id: u64, status: &Status) {
        let encoder = self.encoder;
        let put = self
            .outbox
            .put_control(true, |buffer| encoder.put_error(buffer, id, &Metadata::new(), status, true));
        if let Err(error) = put {
            tracing::error!(%error, "refusal not sent");
        }
    }

    /// Notes that the handler is about to be called.
    ///
    /// # Errors
    ///
    /// The call is already over.
    pub(crate) fn begin(&mut self, now: Instant, key: CallKey) -> Result<(), End> {
        let Some(call) = self.calls.get_mut(key) else { return Err(End::Over) };
        if call.deadline.is_some_and(|deadline| deadline <= now) {
            call.put_end(End::Expired { sent: true, admitted: true }, &mut self.wakeups);
        }
        match &call.end {
            None | Some(End::HalfClosed) => {
                call.started = true;
                Ok(())
            }
            Some(end) => Err(end.clone()),
        }
    }

    /// Whether the call is over for this side: cancelled, late, lost, or closed.
    pub(crate) fn poll_over(&mut self, key: CallKey, waker: &std::task::Waker) -> Option<End> {
        let Some(call) = self.calls.get_mut(key).filter(|call| !call.abandoned) else {
            return Some(End::Over);
        };
        match &call.end {
            None | Some(End::HalfClosed) => {
                self.retired.extend(call.wakers.register_watcher(waker));
                None
            }
            Some(end) => Some(end.clone()),
        }
    }

    /// Sends the metadata before the first item. It costs no credit.
    pub(crate) fn send_headers(&mut self, key: CallKey, frame: Payload<'_>) {
        if self.calls.get(key).is_some_and(|call| !call.is_over()) {
            self.send_frames(key, frame);
        }
    }

    /// Closes the call after its handler has ended. If the call was cancelled or its deadline has passed, the `Close` says
    /// this, whatever the handler answered.
    pub(crate) fn finish(&mut self, now: Instant, key: CallKey, finish: Finish<'_>) {
        let Some(call) = self.calls.get_mut(key).filter(|call| !call.closing) else { return };
        if call.deadline.is_some_and(|deadline| deadline <= now) {
            call.put_end(End::Expired { sent: true, admitted: true }, &mut self.wakeups);
        }
        let overruled = match &call.end {
            None | Some(End::HalfClosed) => None,
            Some(End::Cancelled(status)) => Some((**status).clone()),
            Some(End::Expired { .. }) => Some(Status::deadline_exceeded("the deadline passed on the server")),
            Some(End::Lost(_) | End::Closed(_) | End::Unsendable(_) | End::Over) => {
                return self.forget_closed(key);
            }
        };
        call.end = Some(End::Over);
        match (overruled, finish) {
            (None, Finish::Answered(close)) => self.close(key, close),
            (None, Finish::Failed(status)) => self.close_with(key, status),
            (Some(status), _) => self.close_with(key, &status),
        }
        self.end_if_done(now);
    }

    fn close_with(&mut self, key: CallKey, status: &Status) {
        let Some(call) = self.calls.get(key) else { return };
        let mut frame = BytesMut::new();
        let put = self.encoder.put_error(&mut frame, call.id, &Metadata::new(), status, !call.started);
        if let Err(error) = put {
            tracing::error!(%error, "Close not sent");
            return self.forget_closed(key);
        }
        self.close(key, Payload::Large(frame.freeze()));
    }

    /// Sends a call's `Close` when its turn comes. The call is counted until then.
    fn close(&mut self, key: CallKey, frame: Payload<'_>) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.closing = true;
        let credit_due = std::mem::take(&mut call.credit_due);
        self.forget_credit(key, credit_due);
        let Some(call) = self.calls.get_mut(key) else { return };
        if self.phase != Phase::Open || self.has_write_failed {
            return self.forget_closed(key);
        }
        if self.outbox.stages_at_once(&call.queue, frame.len()) {
            self.forget_closed(key);
            self.stage_bytes(key, frame);
        } else {
            call.give_up_items();
            call.wakers.wake_all(&mut self.wakeups);
            self.outbox.push(key, &mut call.queue, Chunk::Close(frame.into_bytes()));
        }
    }

    /// Stops counting a call, before the first byte of its `Close` is written.
    pub(super) fn forget_closed(&mut self, key: CallKey) {
        let Some(call) = self.calls.get_mut(key) else { return };
        self.ids.remove(&call.id);
        call.wakers.wake_all(&mut self.wakeups);
        self.callee.running -= 1;
        self.callee.request_bytes -= call.request_bytes;
        let credit_due = call.credit_due;
        let has_frames = !call.queue.is_empty();
        if has_frames {
            self.outbox.drop_frames(key, &mut call.queue, false);
        }
        self.calls.remove(key);
        self.forget_credit(key, credit_due);
        if has_frames {
            self.outbox.forget_stale(&mut self.calls);
        }
    }

    /// Says `GoAway` and lets running calls end.
    pub(crate) fn drain(&mut self, now: Instant) {
        if self.phase != Phase::Open || std::mem::replace(&mut self.callee.is_draining, true) {
            return;
        }
        self.put_go_away(&Status::unavailable("the server is shutting down"));
        self.end_if_done(now);
    }

    /// Ends the calls that still run, whatever their handlers do. Returns how many there were.
    pub(crate) fn cut(&mut self, now: Instant) -> usize {
        let words = "the server is shutting down and the call took too long to end";
        let status = Status::unavailable(words);
        let mut cut = 0;
        for key in self.calls.keys() {
            let Some(call) = self.calls.get_mut(key).filter(|call| !call.closing) else { continue };
            if call.side == Side::Callee {
                call.put_end(End::Cancelled(Box::new(status.clone())), &mut self.wakeups);
                self.close_with(key, &status);
                cut += 1;
            }
        }
        self.callee.is_draining = true;
        // From here on all that waits has the time of a connection that ends.
        let cause = IpcError::Status(Status::unavailable("the server has shut down"));
        self.end(now, Ending::silent(cause));
        cut
    }
}

/// The parts of an `Open` except its target and metadata.
struct Request {
    timeout_us: u64,
    end_of_stream: bool,
    message: Option<Bytes>,
}

/// When the caller stops waiting. A value beyond the clock means never.
fn deadline_of(timeout_us: u64, now: Instant) -> Option<Instant> {
    if timeout_us == 0 {
        return None;
    }
    now.checked_add(Duration::from_micros(timeout_us))
}
