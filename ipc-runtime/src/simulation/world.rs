//! One simulation: its connections, its users, its clock, and what may happen next.
//!
//! Everything that could happen at a moment is collected, and one of it happens, drawn from the seed. Time passes a little
//! with each event, and to the next timer where nothing else can happen.

use std::time::{Duration, Instant};

use super::client::{Channel, User};
use super::handler::Handler;
use super::link::End;
use super::pipe::Pipe;
use super::plan::Settings;
use super::random::Random;
use super::record::CallRecord;
use super::report::Report;
use crate::protocol::connection::{Connection, Phase};
use crate::protocol::encode::Encoder;
use crate::protocol::handshake::{CallLimits, Role};

pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

/// No more connections than this are broken in one simulation.
const MAX_CONNECTIONS: usize = 10;

/// One side of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) pair: usize,
    pub(super) side: usize,
}

/// One connection: both sides, and both directions of the stream between them.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) ends: [End; 2],
    /// By the side that writes.
    pub(super) pipes: [Pipe; 2],
    /// Until then, something kept the sides from hearing each other.
    pub(super) hindered_until: Instant,
    /// The connection was broken, or given up by one side. Otherwise every call that the server has accepted is closed.
    pub(super) is_rough: bool,
}

/// What can happen next.
#[derive(Clone, Copy, Debug)]
enum Action {
    Reader(usize),
    Sender(usize),
    Waiter(usize),
    Handler(usize),
    HandlerReader(usize),
    HandlerSender(usize),
    Deliver(At),
    Read(At),
    TakeFrames(At),
    BeginWrite(At),
    GoOnWriting(At),
    Timer(At),
    Phase(At),
    Connect,
}

/// One simulation.
pub(super) struct World<'l> {
    pub(super) random: Random,
    pub(super) settings: Settings,
    pub(super) report: Report,
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) pairs: Vec<Pair>,
    pub(super) channel: Channel,
    pub(super) users: Vec<Option<Box<User>>>,
    pub(super) handlers: Vec<Option<Box<Handler>>>,
    pub(super) records: Vec<CallRecord>,
    /// Until when a process does nothing, and since when.
    pub(super) frozen: [Option<(Instant, Instant)>; 2],
    /// When a process last went on after it was kept from running for `read_timeout` or longer.
    pub(super) resumed: [Instant; 2],
    /// Nothing goes wrong any more, since then.
    pub(super) calm_since: Option<Instant>,
    actions: Vec<Action>,
    log: Option<&'l mut dyn FnMut(&str)>,
}

/// Says what happens, if anybody listens.
macro_rules! note {
    ($world:expr, $($words:tt)+) => {
        if $world.is_logged() {
            $world.say(&format!($($words)+));
        }
    };
}
pub(super) use note;

impl<'l> World<'l> {
    pub(super) fn new(seed: u64, log: Option<&'l mut dyn FnMut(&str)>) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings::draw(&mut random);
        let start = Instant::now();
        let mut world = Self {
            random,
            settings,
            report: Report::of_one_seed(),
            start,
            now: start,
            pairs: Vec::new(),
            channel: Channel::default(),
            users: Vec::new(),
            handlers: Vec::new(),
            records: Vec::new(),
            frozen: [None; 2],
            resumed: [start; 2],
            calm_since: None,
            actions: Vec::new(),
            log,
        };
        note!(world, "{settings:?}");
        world
    }

    /// Runs it to its end.
    pub(super) fn run(mut self) -> Report {
        let events = 200 + self.random.below(250) as u64;
        while self.report.steps < events {
            self.step();
        }
        self.calm_down();
        self.come_to_rest(World::is_idle);
        self.check_rest();
        self.close();
        self.come_to_rest(|world| world.is_idle() && world.all_closed());
        self.check_closed();
        self.report.connections = self.pairs.len() as u64;
        self.report.calls = self.records.len() as u64;
        self.report
    }

    pub(super) const fn is_logged(&self) -> bool {
        self.log.is_some()
    }

    pub(super) fn say(&mut self, words: &str) {
        let micros = (self.now - self.start).as_micros();
        if let Some(log) = &mut self.log {
            log(&format!("{micros:>9} µs  {words}"));
        }
    }

    /// A rule was broken.
    pub(super) fn violation(&mut self, words: &str) -> ! {
        self.say(words);
        panic!("{words}");
    }

    /// Nothing goes wrong any more.
    pub(super) const fn is_calm(&self) -> bool {
        self.calm_since.is_some()
    }

    /// Whether connections may still be broken.
    pub(super) fn may_break(&self) -> bool {
        !self.is_calm() && self.pairs.len() < MAX_CONNECTIONS
    }

    pub(super) fn end(&self, at: At) -> &End {
        &self.pairs[at.pair].ends[at.side]
    }

    pub(super) fn end_mut(&mut self, at: At) -> &mut End {
        &mut self.pairs[at.pair].ends[at.side]
    }

    pub(super) fn window(&self, at: At) -> u64 {
        self.settings.windows[at.side]
    }

    pub(super) fn encoder(&self, at: At) -> Encoder {
        self.end(at).core.encoder()
    }

    /// The side's process runs.
    pub(super) const fn runs(&self, side: usize) -> bool {
        self.frozen[side].is_none()
    }

    /// Every end, of connections that are not over for both sides.
    pub(super) fn ends(&self) -> impl Iterator<Item = At> + use<'l> {
        (0..self.pairs.len()).flat_map(|pair| [At { pair, side: CLIENT }, At { pair, side: SERVER }])
    }

    /// Changes a connection, and wakes whom that concerns.
    pub(super) fn update<R>(&mut self, at: At, change: impl FnOnce(&mut Connection, Instant) -> R) -> R {
        let now = self.now;
        let result = change(&mut self.end_mut(at).core, now);
        self.settle(at);
        result
    }

    pub(super) fn settle(&mut self, at: At) {
        for waker in self.end_mut(at).core.wakeups().drain(..) {
            waker.wake();
        }
        self.end_mut(at).arm_sooner();
        self.check(at);
    }

    /// A new connection between both.
    pub(super) fn connect(&mut self) -> usize {
        let settings = self.settings;
        let mut limits = settings.limits;
        if self.may_break() && self.random.chance(10) {
            limits = CallLimits { calls: 0, ..limits };
        }
        let capacity = settings.capacity;
        let end = |role| End::new(self.now, settings.terms(role, limits));
        let frozen = self.frozen.iter().flatten().map(|(until, _)| *until).max();
        self.pairs.push(Pair {
            ends: [end(Role::Client), end(Role::Server)],
            pipes: [Pipe::new(capacity), Pipe::new(capacity)],
            hindered_until: frozen.unwrap_or(self.now),
            is_rough: false,
        });
        self.pairs.len() - 1
    }

    // What happens.

    fn step(&mut self) {
        self.report.steps += 1;
        if self.random.chance(self.settings.faults) {
            self.do_harm();
        }
        if self.random.chance(60) && self.live_users() < self.settings.max_users {
            self.add_user();
        }
        if self.random.chance(2) && !self.is_calm() {
            self.flood();
        }
        if self.random.chance(12) {
            self.disturb_user();
        }
        if self.random.chance(400) {
            let micros = self.random.between(1, 60) as u64;
            self.pass_time(Duration::from_micros(micros));
        }
        if self.act() {
            return;
        }
        match self.next_time() {
            Some(next) if self.random.chance(500) => self.pass_time(next.saturating_duration_since(self.now)),
            _ if self.live_users() < self.settings.max_users => self.add_user(),
            Some(next) => self.pass_time(next.saturating_duration_since(self.now)),
            None => {}
        }
    }

    /// Does one of the things that can be done; `false` where there are none.
    pub(super) fn act(&mut self) -> bool {
        let mut actions = std::mem::take(&mut self.actions);
        actions.clear();
        self.collect(&mut actions);
        let action = (!actions.is_empty()).then(|| self.random.pick(&actions));
        self.actions = actions;
        let Some(action) = action else { return false };
        note!(self, "{action:?}");
        match action {
            Action::Reader(user) => self.poll_reader(user),
            Action::Sender(user) => self.poll_sender(user),
            Action::Waiter(user) => self.poll_waiter(user),
            Action::Handler(handler) => self.poll_handler(handler),
            Action::HandlerReader(handler) => self.poll_handler_reader(handler),
            Action::HandlerSender(handler) => self.poll_handler_sender(handler),
            Action::Deliver(at) => self.deliver(at),
            Action::Read(at) => self.read(at),
            Action::TakeFrames(at) => self.take_frames(at),
            Action::BeginWrite(at) => self.begin_write(at),
            Action::GoOnWriting(at) => self.go_on_writing(at),
            Action::Timer(at) => self.timer(at),
            Action::Phase(at) => self.notice_phase(at),
            Action::Connect => self.end_connecting(),
        }
        true
    }

    fn collect(&self, actions: &mut Vec<Action>) {
        let now = self.now;
        if self.runs(CLIENT) {
            for (at, user) in self.users.iter().enumerate() {
                let Some(user) = user else { continue };
                if user.ignores_until.is_some_and(|until| until > now) {
                    continue;
                }
                if user.is_waiter_runnable(self) {
                    actions.push(Action::Waiter(at));
                }
                if user.reader.is_runnable(now) {
                    actions.push(Action::Reader(at));
                }
                if user.sender.is_runnable(now) {
                    actions.push(Action::Sender(at));
                }
            }
            if self.channel.connecting.is_some_and(|until| until <= now) {
                actions.push(Action::Connect);
            }
        }
        if self.runs(SERVER) {
            for (at, handler) in self.handlers.iter().enumerate() {
                let Some(handler) = handler else { continue };
                if handler.task.is_runnable(now) {
                    actions.push(Action::Handler(at));
                }
                if handler.reader.is_runnable(now) {
                    actions.push(Action::HandlerReader(at));
                }
                if handler.sender.is_runnable(now) {
                    actions.push(Action::HandlerSender(at));
                }
            }
        }
        for at in self.ends() {
            self.collect_end(at, actions);
        }
    }

    fn collect_end(&self, at: At, actions: &mut Vec<Action>) {
        let pair = &self.pairs[at.pair];
        let (out, input, end) = (&pair.pipes[at.side], &pair.pipes[1 - at.side], &pair.ends[at.side]);
        if out.travelling() > 0 && !out.is_unread {
            actions.push(Action::Deliver(at));
        }
        if !self.runs(at.side) {
            return;
        }
        if end.writing.is_some() {
            actions.push(Action::GoOnWriting(at));
        }
        if end.is_over {
            return;
        }
        let has_input = input.arrived() > 0 || input.is_at_end();
        let is_open = end.core.phase() == Phase::Open;
        if end.has_input && has_input && (!is_open || end.core.wants_input()) {
            actions.push(Action::Read(at));
        }
        if end.has_buffered && is_open && end.core.wants_input() {
            actions.push(Action::TakeFrames(at));
        }
        let may_write = end.core.can_transmit() || end.core.is_blocked() && out.is_writable();
        if end.writing.is_none() && end.has_sink && may_write {
            actions.push(Action::BeginWrite(at));
        }
        if end.armed.is_none_or(|armed| armed <= self.now) {
            actions.push(Action::Timer(at));
        }
        if end.core.phase() != end.noticed || end.must_say_end() {
            actions.push(Action::Phase(at));
        }
    }
}
