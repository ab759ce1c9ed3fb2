//! The server: handlers that read, answer, fail, panic and hear the end of their calls as `crate::server` has them do it.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::lane::{Got, Inbox, Lane, SendState, Sender};
use super::message::{Direction, Message, Name};
use super::plan::{Conduct, Plan};
use super::report::Event;
use super::task::{Task, Wait};
use super::world::{At, SERVER, World, note};
use crate::error::IpcError;
use crate::metadata::Metadata;
use crate::protocol::call::End;
use crate::protocol::callee::Finish;
use crate::protocol::encode::Encode;
use crate::protocol::queue::{INLINE_BYTES, Payload};
use crate::protocol::roles::Arrival;
use crate::status::Status;

/// The handler of one call.
#[derive(Debug)]
pub(super) struct Handler {
    pub(super) lane: Lane,
    id: u64,
    plan: Plan,
    message: Option<Bytes>,
    is_begun: bool,
    /// Its work takes until then.
    busy_until: Option<Instant>,
    inbox: Inbox,
    outbox: Sender,
    has_failed: bool,
    /// Hears the call's end.
    pub(super) task: Task,
    pub(super) reader: Task,
    pub(super) sender: Task,
}

impl World<'_> {
    pub(super) fn begin_handlers(&mut self, at: At, arrivals: Vec<Arrival>) {
        for arrival in arrivals {
            self.begin_handler(at, arrival);
        }
    }

    fn begin_handler(&mut self, at: At, arrival: Arrival) {
        let Arrival { key, id, target: _, metadata, message, deadline: _ } = arrival;
        let name = metadata.get_bin("u").or(message.as_ref()).and_then(|bytes| Name::read(bytes));
        let Some((call, attempt)) = name else { self.violation("a call without a name arrived") };
        let Some(record) = self.records.get(call as usize) else {
            self.violation("a call of nobody arrived")
        };
        let plan = record.plan;
        let lane = Lane { at, key, call, attempt };
        if plan.conduct == Conduct::Refused {
            self.report.count(Event::CallRefused);
            let status = if self.random.chance(500) {
                Status::unavailable("too many")
            } else {
                Status::resource_exhausted("too many")
            };
            self.update(at, |core, now| core.refuse(now, key, &status));
            return self.maybe_flush(at);
        }
        let handler = Box::new(Handler {
            lane,
            id,
            plan,
            message,
            is_begun: false,
            busy_until: None,
            inbox: Inbox::default(),
            outbox: Sender::new(Direction::Answer, plan.answers, Some(id)),
            has_failed: false,
            task: Task::new(),
            reader: Task::done(),
            sender: Task::done(),
        });
        match self.handlers.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(handler),
            None => self.handlers.push(Some(handler)),
        }
    }

    fn put_handler_back(&mut self, place: usize, handler: Box<Handler>) {
        let at = handler.lane.at;
        self.handlers[place] = Some(handler);
        self.check(at);
    }

    /// The call's own task: begins the handler, hears the end, closes the call.
    pub(super) fn poll_handler(&mut self, place: usize) {
        let Some(mut handler) = self.handlers[place].take() else { return };
        let lane = handler.lane;
        handler.task.begin();
        if !handler.is_begun && !self.begin(&mut handler) {
            return self.finish(&handler, Err(Status::cancelled("the call is over")));
        }
        let conduct = handler.plan.conduct;
        let is_busy = handler.busy_until.is_some_and(|until| until > self.now);
        if !is_busy {
            match conduct {
                Conduct::Fails => {
                    self.report.count(Event::HandlerFailed);
                    return self.finish(&handler, Err(Status::aborted("the handler does not like it")));
                }
                Conduct::Panics => {
                    self.report.count(Event::HandlerPanicked);
                    return self.finish(&handler, Err(Status::internal("the handler panicked")));
                }
                Conduct::Answers | Conduct::Deaf | Conduct::Endless | Conduct::Refused => {}
            }
        }
        // It ends by itself where somebody still waits for it. Otherwise it must hear that its call is over.
        let is_endless = conduct == Conduct::Endless && !(self.is_calm() && self.is_awaited(lane));
        let is_done = !is_busy && !is_endless && handler.reader.is_done && handler.sender.is_done;
        if is_done {
            let result =
                if handler.has_failed { Err(Status::aborted("the stream broke off")) } else { Ok(()) };
            return self.finish(&handler, result);
        }
        if conduct != Conduct::Deaf {
            let waker = handler.task.waker.clone();
            if self.update(lane.at, |core, _| core.poll_over(lane.key, &waker)).is_some() {
                return self.finish(&handler, Err(Status::cancelled("the call is over")));
            }
            handler.task.wait = Wait::Over;
        }
        handler.task.sleep = handler.busy_until.filter(|_| is_busy);
        self.put_handler_back(place, handler);
    }

    /// Whether a user waits for this attempt.
    fn is_awaited(&self, lane: Lane) -> bool {
        let waits = |at: &Lane| at.call == lane.call && at.attempt == lane.attempt;
        self.users.iter().flatten().any(|user| user.lane.as_ref().is_some_and(waits))
    }

    /// The handler gets its request; `false` where the call is over.
    fn begin(&mut self, handler: &mut Handler) -> bool {
        let (lane, plan) = (handler.lane, handler.plan);
        if self.update(lane.at, |core, now| core.begin(now, lane.key)).is_err() {
            return false;
        }
        handler.is_begun = true;
        note!(self, "call {} is begun", lane.call);
        self.note_begun(lane);
        match plan.conduct {
            Conduct::Deaf => self.report.count(Event::HandlerDeaf),
            Conduct::Endless => self.report.count(Event::HandlerEndless),
            Conduct::Answers | Conduct::Fails | Conduct::Panics | Conduct::Refused => {}
        }
        handler.busy_until = Some(self.now + plan.work);
        if plan.kind.streams_requests() {
            handler.reader = Task::new();
        } else {
            let name =
                Name { call: lane.call, attempt: lane.attempt, direction: Direction::Request, index: 0 };
            let message = handler.message.take().unwrap_or_default();
            if !(Message { name, length: plan.request }).matches(&message) {
                self.violation(&format!("a handler got another request than {name:?}"));
            }
        }
        if plan.kind.streams_answers() {
            handler.sender = Task::new();
            if plan.has_headers {
                self.send_headers(handler);
            }
        }
        true
    }

    fn send_headers(&mut self, handler: &Handler) {
        let lane = handler.lane;
        let mut headers = Metadata::new();
        _ = headers.append("h", "1");
        let mut frame = BytesMut::new();
        if self.encoder(lane.at).put_headers(&mut frame, handler.id, &headers).is_err() {
            self.violation("Headers can't be encoded");
        }
        self.update(lane.at, |core, _| core.send_headers(lane.key, Payload::Small(&frame)));
    }

    pub(super) fn poll_handler_reader(&mut self, place: usize) {
        let Some(mut handler) = self.handlers[place].take() else { return };
        let (lane, plan) = (handler.lane, handler.plan);
        handler.reader.begin();
        let reads = self.random.between(1, 4);
        for _ in 0..reads {
            let mut inbox = std::mem::take(&mut handler.inbox);
            let got = inbox.poll(self, lane, &mut handler.reader);
            handler.inbox = inbox;
            match got {
                Got::Nothing => {
                    self.maybe_flush(lane.at);
                    return self.put_handler_back(place, handler);
                }
                Got::Headers(_) => self.violation("a handler got Headers"),
                Got::Item(item) => {
                    let mut inbox = std::mem::take(&mut handler.inbox);
                    inbox.check(self, lane, &plan, Direction::Request, &item);
                    handler.inbox = inbox;
                }
                Got::End(end) => {
                    self.end_requests(&mut handler, &end);
                    handler.reader.end();
                    handler.task.wake();
                    return self.put_handler_back(place, handler);
                }
            }
            if let Some(pause) = plan.read_pause {
                self.report.count(Event::ReadSlowly);
                handler.reader.sleep = Some(self.now + pause);
                break;
            }
        }
        if handler.reader.sleep.is_none() {
            handler.reader.wake();
        }
        self.maybe_flush(lane.at);
        self.put_handler_back(place, handler);
    }

    fn end_requests(&mut self, handler: &mut Handler, end: &End) {
        let lane = handler.lane;
        match end {
            End::HalfClosed => {
                let received = handler.inbox.received;
                let sent = self.attempt(lane.call, lane.attempt).map_or(0, |attempt| attempt.items[0]);
                if received != sent || received != handler.plan.requests {
                    self.violation(&format!("call {}: {received} of {sent} requests arrived", lane.call));
                }
                if received > 3 {
                    self.report.count(Event::StreamWhole);
                }
                if received > 1 && self.settings.windows[SERVER] == 0 {
                    self.report.count(Event::NoWindow);
                }
            }
            End::Closed(_)
            | End::Lost(_)
            | End::Cancelled(_)
            | End::Expired { .. }
            | End::Unsendable(_)
            | End::Over => {
                self.report.count(Event::StreamCut);
                handler.has_failed = true;
            }
        }
    }

    pub(super) fn poll_handler_sender(&mut self, place: usize) {
        let Some(mut handler) = self.handlers[place].take() else { return };
        let (lane, plan) = (handler.lane, handler.plan);
        handler.sender.begin();
        match handler.outbox.poll(self, lane, &plan, &mut handler.sender) {
            SendState::Waits => {}
            SendState::Finished => {
                handler.sender.end();
                handler.task.wake();
            }
            SendState::Over | SendState::BadItem => {
                handler.has_failed = true;
                handler.sender.end();
                handler.reader.end();
                handler.task.wake();
            }
        }
        self.maybe_flush(lane.at);
        self.put_handler_back(place, handler);
    }

    /// The handler is gone, and its call is closed.
    pub(super) fn finish(&mut self, handler: &Handler, result: Result<(), Status>) {
        let (lane, plan) = (handler.lane, handler.plan);
        note!(self, "the handler of call {} ends: {result:?}", lane.call);
        let name = Name { call: lane.call, attempt: lane.attempt, direction: Direction::Answer, index: 0 };
        let message = Message { name, length: plan.answer };
        let answer: Option<(&dyn Encode, usize)> =
            (!plan.kind.streams_answers()).then_some((&message, plan.answer));
        let (at, key) = (lane.at, lane.key);
        let mut frame = BytesMut::new();
        let result = result.and_then(|()| {
            let trailers = Metadata::new();
            self.encoder(at).put_close(&mut frame, handler.id, &Metadata::new(), &trailers, answer).map_err(
                |error| match error {
                    IpcError::TooLarge { .. } => Status::resource_exhausted("the answer is too large"),
                    other => Status::internal(other.to_string()),
                },
            )
        });
        match result {
            Ok(()) => {
                if answer.is_some() && plan.answer == 0 {
                    self.report.count(Event::EmptyMessage);
                }
                let frame = frame.freeze();
                let close = if frame.len() <= INLINE_BYTES {
                    Payload::Small(&frame)
                } else {
                    Payload::Large(frame.clone())
                };
                self.update(at, |core, now| core.finish(now, key, Finish::Answered(close)));
            }
            Err(status) => {
                if plan.answer > self.settings.max_frame_bytes {
                    self.report.count(Event::AnswerTooLarge);
                }
                self.update(at, |core, now| core.finish(now, key, Finish::Failed(&status)));
            }
        }
        self.maybe_flush(at);
    }

    /// The handlers of a connection vanish with their runtime.
    pub(super) fn lose_handlers(&mut self, pair: usize) {
        for place in 0..self.handlers.len() {
            if self.handlers[place].as_ref().is_some_and(|handler| handler.lane.at.pair == pair)
                && let Some(handler) = self.handlers[place].take()
            {
                self.report.count(Event::HandlerVanished);
                self.finish(&handler, Err(Status::unavailable("the server stopped working on the call")));
            }
        }
    }
}
