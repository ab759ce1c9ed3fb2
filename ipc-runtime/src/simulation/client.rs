//! The client: a channel with one connection at a time, and users who call, read, send, wait, repeat and give up as
//! `crate::client::invoke` does it.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::ending::Outcome;
use super::lane::{Got, Inbox, Lane, SendState, Sender};
use super::message::{Direction, Message, Name};
use super::plan::{Kind, Plan};
use super::record::{Attempt, CallRecord};
use super::report::Event;
use super::task::{Task, Wait};
use super::world::{At, CLIENT, World, note};
use crate::metadata::Metadata;
use crate::protocol::caller::{OpenError, Opening};
use crate::protocol::encode::Encode;
use crate::protocol::envelope::wire::{Empty, WireBody};
use crate::protocol::queue::{INLINE_BYTES, Payload};
use crate::protocol::retry::CallAttempts;
use crate::status::Status;

/// A call is opened on no more connections than this.
const MAX_ATTEMPTS: usize = 3;

/// The client's channel.
#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) current: Option<usize>,
    /// When the connection that is being made will be there.
    pub(super) connecting: Option<Instant>,
}

impl Channel {
    /// Moves on from a connection.
    pub(super) fn leave(&mut self, pair: usize) {
        if self.current == Some(pair) {
            self.current = None;
        }
    }
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It needs a connection.
    Wants,
    BackingOff(Instant),
    Open,
}

/// Somebody who makes one call.
#[derive(Debug)]
pub(super) struct User {
    pub(super) call: u32,
    pub(super) plan: Plan,
    pub(super) deadline: Option<Instant>,
    pub(super) attempts: CallAttempts,
    pub(super) stage: Stage,
    pub(super) lane: Option<Lane>,
    pub(super) inbox: Inbox,
    pub(super) outbox: Sender,
    pub(super) reader: Task,
    pub(super) sender: Task,
    /// The answer has begun, as far as the user has seen.
    pub(super) has_begun: bool,
    pub(super) message: Option<Bytes>,
    /// Everything that was sent can be sent again.
    pub(super) is_held: bool,
    /// The user polls nothing until then.
    pub(super) ignores_until: Option<Instant>,
    pub(super) forgets: bool,
}

impl User {
    pub(super) fn is_waiter_runnable(&self, world: &World<'_>) -> bool {
        let is_late = self.deadline.is_some_and(|deadline| deadline <= world.now);
        match self.stage {
            Stage::Wants => is_late || world.channel.connecting.is_none(),
            Stage::BackingOff(until) => is_late || until <= world.now,
            Stage::Open => false,
        }
    }

    pub(super) fn next_time(&self, world: &World<'_>) -> Option<Instant> {
        if let Some(until) = self.ignores_until.filter(|until| *until > world.now) {
            return (!self.forgets).then_some(until);
        }
        match self.stage {
            Stage::Wants => self.deadline,
            Stage::BackingOff(until) => Some(self.deadline.map_or(until, |deadline| deadline.min(until))),
            Stage::Open => {
                let sleep = |task: &Task| task.sleep.filter(|_| !task.is_done);
                [sleep(&self.reader), sleep(&self.sender)].into_iter().flatten().min()
            }
        }
    }
}

impl World<'_> {
    pub(super) fn live_users(&self) -> usize {
        self.users.iter().flatten().count()
    }

    pub(super) fn add_user(&mut self) {
        let plan = Plan::draw(&mut self.random, &self.settings);
        self.add_user_with(plan);
    }

    pub(super) fn add_user_with(&mut self, plan: Plan) {
        let call = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        note!(self, "call {call}: {plan:?}");
        self.records.push(CallRecord { plan, attempts: Vec::new(), is_unseen: false, begun: 0 });
        let user = Box::new(User {
            call,
            plan,
            deadline: plan.timeout.map(|timeout| self.now + timeout),
            attempts: CallAttempts::new(plan.is_idempotent),
            stage: Stage::Wants,
            lane: None,
            inbox: Inbox::default(),
            outbox: Sender::new(Direction::Request, 0, None),
            reader: Task::done(),
            sender: Task::done(),
            has_begun: false,
            message: None,
            is_held: true,
            ignores_until: None,
            forgets: false,
        });
        match self.users.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(user),
            None => self.users.push(Some(user)),
        }
    }

    fn put_back(&mut self, place: usize, user: Option<Box<User>>) {
        let at = user.as_ref().and_then(|user| user.lane).map(|lane| lane.at);
        self.users[place] = user;
        if let Some(at) = at {
            self.check(at);
        }
    }

    // Getting a connection.

    pub(super) fn poll_waiter(&mut self, place: usize) {
        let Some(mut user) = self.users[place].take() else { return };
        if user.deadline.is_some_and(|deadline| deadline <= self.now) {
            return self.conclude(&user, &Outcome::Expired { sent: false });
        }
        user.stage = Stage::Wants;
        let user = if let Some(pair) = self.channel.current {
            self.open(user, pair)
        } else {
            if self.channel.connecting.is_none() {
                let micros = self.random.between(0, 500) as u64;
                self.channel.connecting = Some(self.now + Duration::from_micros(micros));
            }
            Some(user)
        };
        self.put_back(place, user);
    }

    /// The attempt to connect is over.
    pub(super) fn end_connecting(&mut self) {
        self.channel.connecting = None;
        if self.is_calm() || !self.random.chance(60) {
            self.channel.current = Some(self.connect());
            return;
        }
        self.report.count(Event::NotConnected);
        for place in 0..self.users.len() {
            if self.users[place].as_ref().is_some_and(|user| user.stage == Stage::Wants)
                && self.random.chance(600)
                && let Some(user) = self.users[place].take()
            {
                self.conclude(&user, &Outcome::Failed { sent: false });
            }
        }
    }

    /// Opens the call on a connection.
    fn open(&mut self, mut user: Box<User>, pair: usize) -> Option<Box<User>> {
        let (call, plan) = (user.call, user.plan);
        let number = self.records[call as usize].attempts.len();
        if number >= MAX_ATTEMPTS {
            self.violation(&format!("call {call} is opened on a fourth connection"));
        }
        let attempt = u8::try_from(number).unwrap_or(u8::MAX);
        let at = At { pair, side: CLIENT };
        let name = Name { call, attempt, direction: Direction::Request, index: 0 };
        let Some(rest) = self.encode_request(at, &plan, name) else {
            self.report.count(Event::RequestTooLarge);
            self.conclude(&user, &Outcome::Failed { sent: false });
            return None;
        };
        let is_large = rest.len() > INLINE_BYTES - 256;
        if is_large {
            self.report.count(Event::LargeMessage);
        }
        let by_reference = is_large || self.random.chance(100);
        let mut reader = Task::new();
        let reads_at_once = !plan.kind.streams_requests() && self.random.chance(500);
        if reads_at_once {
            reader.begin();
            reader.wait = Wait::Next;
            reader.sleep = user.deadline.filter(|_| plan.keeps_deadline);
        }
        let opening = Opening {
            method: plan.kind.method(),
            rest: if by_reference { Payload::Large(rest.clone()) } else { Payload::Small(&rest) },
            sum: by_reference.then(|| self.settings.variant.checksum(&rest)),
            request_bytes: if plan.kind.streams_requests() { 0 } else { plan.request as u64 },
            deadline: user.deadline,
            reader: reads_at_once.then_some(&reader.waker),
        };
        match self.update(at, |core, now| core.open(now, opening)) {
            Err(OpenError::Closed) => {
                self.channel.leave(pair);
                Some(user)
            }
            Err(OpenError::NotAccepted) => {
                self.report.count(Event::NoCallsAccepted);
                self.conclude(&user, &Outcome::Failed { sent: false });
                None
            }
            Ok(key) => {
                note!(self, "call {call} is open: {key:?}");
                if plan.kind == Kind::Unknown {
                    self.report.count(Event::UnknownMethod);
                }
                self.records[call as usize].attempts.push(Attempt { pair, ..Attempt::default() });
                if self.end(at).core.waits_for_place(key) {
                    self.report.count(Event::Waited);
                }
                user.attempts.note_opened();
                user.lane = Some(Lane { at, key, call, attempt });
                user.stage = Stage::Open;
                user.inbox = Inbox::default();
                user.message = None;
                user.reader = reader;
                let streams = plan.kind.streams_requests();
                user.outbox = Sender::new(Direction::Request, plan.requests, None);
                user.sender = if streams { Task::new() } else { Task::done() };
                self.maybe_flush(at);
                Some(user)
            }
        }
    }

    fn encode_request(&mut self, at: At, plan: &Plan, name: Name) -> Option<Bytes> {
        let message = Message { name, length: plan.request };
        let mut metadata = Metadata::new();
        if plan.has_metadata || plan.kind.streams_requests() {
            let mut value = BytesMut::new();
            Message { name, length: super::message::NAME_BYTES }.put(&mut value);
            _ = metadata.append("u", value.freeze());
        }
        if plan.has_metadata {
            let most = if self.random.chance(50) { 3000 } else { 100 };
            _ = metadata.append("pad", vec![7; self.random.below(most)]);
        }
        let message: Option<(&dyn Encode, usize)> =
            (!plan.kind.streams_requests()).then_some((&message, message.length));
        let mut rest = BytesMut::new();
        self.encoder(at).put_open_rest(&mut rest, &metadata, message).ok()?;
        Some(rest.freeze())
    }

    // Reading.

    pub(super) fn poll_reader(&mut self, place: usize) {
        let Some(mut user) = self.users[place].take() else { return };
        let Some(lane) = user.lane else { return self.put_back(place, Some(user)) };
        user.reader.begin();
        let reads = self.random.between(1, 4);
        for _ in 0..reads {
            let mut inbox = std::mem::take(&mut user.inbox);
            let got = inbox.poll(self, lane, &mut user.reader);
            user.inbox = inbox;
            match got {
                Got::Nothing if self.expires(&mut user, lane) => continue,
                Got::Nothing => {
                    self.maybe_flush(lane.at);
                    return self.put_back(place, Some(user));
                }
                Got::Headers(headers) => {
                    if headers.get("h") != Some("1") || user.has_begun {
                        self.violation(&format!("call {} got {headers:?}", lane.call));
                    }
                    user.has_begun = true;
                }
                Got::Item(item) => self.take_item(&mut user, lane, item),
                Got::End(end) => {
                    let user = self.end_attempt(user, lane, end);
                    self.maybe_flush(lane.at);
                    return self.put_back(place, user);
                }
            }
            if let Some(pause) = user.plan.read_pause {
                self.report.count(Event::ReadSlowly);
                user.reader.sleep = Some(self.now + pause);
                break;
            }
        }
        if user.reader.sleep.is_none() {
            user.reader.wake();
        }
        self.maybe_flush(lane.at);
        self.put_back(place, Some(user));
    }

    /// Looks whether the deadline has passed, where the user keeps it.
    fn expires(&mut self, user: &mut User, lane: Lane) -> bool {
        let Some(deadline) = user.deadline.filter(|_| user.plan.keeps_deadline) else { return false };
        if deadline > self.now {
            user.reader.sleep = Some(deadline);
            return false;
        }
        self.report.count(Event::OwnTimer);
        self.update(lane.at, |core, now| core.expire(now, lane.key));
        true
    }

    fn take_item(&mut self, user: &mut User, lane: Lane, item: Bytes) {
        if user.plan.kind.streams_answers() {
            user.has_begun = true;
            return user.inbox.check(self, lane, &user.plan, Direction::Answer, &item);
        }
        let name = Name { call: lane.call, attempt: lane.attempt, direction: Direction::Answer, index: 0 };
        if !(Message { name, length: user.plan.answer }).matches(&item) {
            self.violation(&format!("call {} got another answer", lane.call));
        }
        if user.message.replace(item).is_some() {
            self.violation(&format!("call {} got two answers", lane.call));
        }
    }

    // Sending.

    pub(super) fn poll_sender(&mut self, place: usize) {
        let Some(mut user) = self.users[place].take() else { return };
        let Some(lane) = user.lane else { return self.put_back(place, Some(user)) };
        user.sender.begin();
        let plan = user.plan;
        let state = user.outbox.poll(self, lane, &plan, &mut user.sender);
        if user.outbox.accepted > 0 && self.end(lane.at).core.is_answered(lane.key) {
            user.is_held = false;
        }
        match state {
            SendState::Waits => {}
            SendState::Over => user.sender.end(),
            SendState::Finished => {
                user.sender.end();
                self.half_close(lane);
            }
            SendState::BadItem if user.has_begun => {
                user.sender.end();
                let status = Status::resource_exhausted("an item is too large");
                self.update(lane.at, |core, now| core.fail(now, lane.key, status));
            }
            SendState::BadItem => {
                self.update(lane.at, |core, now| core.abandon(now, lane.key));
                self.maybe_flush(lane.at);
                return self.conclude(&user, &Outcome::Failed { sent: true });
            }
        }
        self.maybe_flush(lane.at);
        self.put_back(place, Some(user));
    }

    fn half_close(&mut self, lane: Lane) {
        let id = self.attempt(lane.call, lane.attempt).map_or(0, |attempt| attempt.id);
        let id = self.end(lane.at).core.id_of(lane.key).unwrap_or(id);
        let mut frame = BytesMut::new();
        if self.encoder(lane.at).put(&mut frame, id, WireBody::HalfClose(Empty {})).is_err() {
            self.violation("a HalfClose can't be encoded");
        }
        self.update(lane.at, |core, _| core.half_close(lane.key, Payload::Small(&frame)));
    }
}
