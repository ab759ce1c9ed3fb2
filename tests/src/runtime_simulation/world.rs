//! What all parts of a simulation share: the calls and what became of them, the counts, the network's timers.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ipc_runtime::Code;
use tokio::time::Instant;

use super::network::Timers;
use super::plan::Plan;
use super::random::Random;
use super::report::{Event, Report};
use super::settings::Settings;

/// Another thread's panic leaves nothing half done here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of a call.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
struct Record {
    plan: Plan,
    runs: u32,
    /// A handler has answered it whole.
    is_done: bool,
    /// Its user was told that no handler has seen it.
    is_unseen: bool,
    began: Option<Instant>,
    deadline: Option<Instant>,
    /// The user itself waits.
    is_pausing: bool,
    is_over: bool,
    succeeded: bool,
    /// How it failed, and whether the server said so.
    failure: Option<(bool, Code)>,
}

#[derive(Debug, Default)]
struct State {
    timers: Timers,
    report: Report,
    records: Vec<Record>,
    is_calm: bool,
    has_lost_runtime: bool,
    broken: Option<String>,
    /// Handlers that run.
    running: usize,
    /// Grows whenever a call gets on.
    progress: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    seed: u64,
    is_told: bool,
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn new(seed: u64, settings: Settings, is_told: bool) -> Arc<Self> {
        Arc::new(Self { settings, seed, is_told, state: Mutex::default() })
    }

    pub(super) fn count(&self, event: Event) {
        lock(&self.state).report.count(event);
    }

    pub(super) fn report(&self, change: impl FnOnce(&mut Report)) {
        change(&mut lock(&self.state).report);
    }

    pub(super) fn take_report(&self) -> Report {
        let mut report = std::mem::take(&mut lock(&self.state).report);
        report.seeds = 1;
        report
    }

    /// Says what happens, where somebody wants to hear it.
    #[expect(clippy::print_stdout, reason = "a replay is for people")]
    pub(super) fn note(&self, words: &str) {
        if self.is_told {
            println!("{words}");
        }
    }

    /// A rule was broken. Tasks of the runtime swallow panics, so it is kept as well.
    pub(super) fn violation(&self, words: &str) -> ! {
        self.note(words);
        lock(&self.state).broken.get_or_insert_with(|| words.to_owned());
        panic!("{words}");
    }

    pub(super) fn broken(&self) -> Option<String> {
        lock(&self.state).broken.clone()
    }

    /// Random numbers for a run of this call's handler.
    pub(super) fn fork(&self, call: u64) -> Random {
        let runs = lock(&self.state).records[usize::try_from(call).unwrap_or(usize::MAX)].runs;
        Random::new(self.seed ^ call << 32 ^ u64::from(runs) << 60)
    }

    pub(super) fn wake_at(&self, at: Instant, waker: &Waker) {
        lock(&self.state).timers.wake_at(at, waker);
    }

    /// Wakes those whose time has come.
    pub(super) fn wake_due(&self) {
        let due = lock(&self.state).timers.due(Instant::now());
        due.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_calm(&self) -> bool {
        lock(&self.state).is_calm
    }

    pub(super) fn calm_down(&self) {
        lock(&self.state).is_calm = true;
    }

    pub(super) fn lose_runtime(&self) {
        lock(&self.state).has_lost_runtime = true;
    }

    pub(super) fn has_lost_runtime(&self) -> bool {
        lock(&self.state).has_lost_runtime
    }

    pub(super) fn has_damaged(&self) -> bool {
        lock(&self.state).report.of(Event::Damaged) > 0
    }

    pub(super) const fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.settings.read_timeout)
    }

    // Calls.

    fn with<R>(&self, call: u64, look: impl FnOnce(&mut Record) -> R) -> R {
        let place = usize::try_from(call).unwrap_or(usize::MAX);
        let found = lock(&self.state).records.get_mut(place).map(look);
        found.unwrap_or_else(|| self.violation("a call that nobody made"))
    }

    pub(super) fn add_call(&self, plan: Plan) -> u64 {
        let mut state = lock(&self.state);
        state.report.calls += 1;
        state.records.push(Record {
            plan,
            runs: 0,
            is_done: false,
            is_unseen: false,
            began: None,
            deadline: None,
            is_pausing: false,
            is_over: false,
            succeeded: false,
            failure: None,
        });
        state.records.len() as u64 - 1
    }

    pub(super) fn note_began(&self, call: u64, timeout: Option<Duration>) {
        let now = Instant::now();
        self.with(call, |record| {
            record.began = Some(now);
            record.deadline = timeout.map(|timeout| now + timeout);
        });
    }

    pub(super) fn began(&self, call: u64) -> Instant {
        self.with(call, |record| record.began).unwrap_or_else(Instant::now)
    }

    pub(super) fn is_past_deadline(&self, call: u64) -> bool {
        let now = Instant::now();
        self.with(call, |record| record.deadline.is_some_and(|deadline| now >= deadline))
    }

    pub(super) fn is_late(&self, call: usize, now: Instant) -> bool {
        self.with(call as u64, |record| {
            !record.is_pausing && !record.is_over && record.deadline.is_some_and(|deadline| deadline < now)
        })
    }

    pub(super) fn set_pausing(&self, call: u64, is_pausing: bool) {
        self.with(call, |record| record.is_pausing = is_pausing);
    }

    /// A call has got on.
    pub(super) fn note_progress(&self) {
        lock(&self.state).progress += 1;
    }

    pub(super) fn progress(&self) -> u64 {
        lock(&self.state).progress
    }

    pub(super) fn note_over(&self, call: u64) {
        self.note_progress();
        self.with(call, |record| record.is_over = true);
    }

    pub(super) fn note_success(&self, call: u64) {
        self.with(call, |record| record.succeeded = true);
    }

    pub(super) fn has_succeeded(&self, call: u64) -> bool {
        self.with(call, |record| record.succeeded)
    }

    pub(super) fn note_failure(&self, call: u64, by_server: bool, code: Code) {
        self.with(call, |record| record.failure = Some((by_server, code)));
    }

    pub(super) fn failure(&self, call: u64) -> Option<(bool, Code)> {
        self.with(call, |record| record.failure)
    }

    /// The user was told that no handler has seen the call, nor ever will.
    pub(super) fn note_unseen(&self, call: u64) {
        let runs = self.with(call, |record| {
            record.is_unseen = true;
            record.runs
        });
        if runs > 0 {
            self.violation(&format!("call {call} failed as unsent, and a handler has seen it"));
        }
    }

    // Handlers.

    pub(super) fn run_begins(&self, call: u64) -> Plan {
        let (plan, runs, is_unseen) = self.with(call, |record| {
            record.runs += 1;
            (record.plan, record.runs, record.is_unseen)
        });
        self.note(&format!("the handler of call {call} begins, run {runs}"));
        lock(&self.state).running += 1;
        if is_unseen {
            self.violation(&format!("call {call} failed as unsent, and now a handler sees it"));
        }
        if runs > 1 {
            if !plan.kind.is_idempotent() {
                self.violation(&format!("call {call} runs twice"));
            }
            self.count(Event::RanTwice);
        }
        plan
    }

    pub(super) fn run_ends(&self) {
        self.note_progress();
        lock(&self.state).running -= 1;
    }

    pub(super) fn running(&self) -> usize {
        lock(&self.state).running
    }

    pub(super) fn note_done(&self, call: u64) {
        self.with(call, |record| record.is_done = true);
    }

    pub(super) fn is_done(&self, call: u64) -> bool {
        self.with(call, |record| record.is_done)
    }
}

/// Waits in simulated time, on whichever runtime.
#[derive(Debug)]
pub(super) struct Pause {
    shared: Arc<Shared>,
    time: Duration,
    until: Option<Instant>,
}

impl Pause {
    pub(super) fn new(shared: &Arc<Shared>, time: Duration) -> Self {
        Self { shared: Arc::clone(shared), time, until: None }
    }
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.time.is_zero() {
            return Poll::Ready(());
        }
        let now = Instant::now();
        let time = self.time;
        let until = *self.until.get_or_insert(now + time);
        if now >= until {
            return Poll::Ready(());
        }
        self.shared.wake_at(until, cx.waker());
        Poll::Pending
    }
}
