//! What the tests of interleavings share: a scheduler that tries many orders, and tasks on threads of that scheduler.
//!
//! A test runs its model some thousand times. Each time shuttle chooses another order of the threads' steps, where a step
//! ends at each lock. The seeds are fixed, so every run of a test tries the same orders. `SHUTTLE_RANDOM_SEED` takes
//! another seed, and `INTERLEAVINGS` multiplies the number of orders.
//!
//! The models know when everybody is idle. That is the moment at which nothing may be forgotten.

use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, Runner};

use crate::sync::checked::lock;

/// A task that is polled more often than this in one run of a model spins.
const MAX_POLLS: usize = 500;

/// Runs a model in many orders: half of them random at each step, half with a few changes at chosen steps.
pub(crate) fn explore(orders: usize, model: impl Fn() + Copy + Send + Sync + 'static) {
    const SEED: u64 = 0x1bc0_de5e_ed00_0001;
    let factor = std::env::var("INTERLEAVINGS").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    let orders = orders * factor / 2;
    run(RandomScheduler::new_from_seed(SEED, orders), model);
    run(PctScheduler::new_from_seed(SEED, 3, orders), model);
}

fn run(scheduler: impl Scheduler + 'static, model: impl Fn() + Send + Sync + 'static) {
    // Drivers need a runtime for their sleep. Its clock stands still, so no order depends on the time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    // It is never dropped: that would wake drivers that a failed test has left, outside of shuttle.
    let runtime = Box::leak(Box::new(runtime.expect("a runtime")));
    let _entered = runtime.enter();
    let mut config = Config::new();
    config.stack_size = 512 * 1024;
    config.max_steps = shuttle::MaxSteps::FailAfter(100_000);
    // The seed says enough, and is short.
    config.failure_persistence = shuttle::FailurePersistence::None;
    Runner::new(scheduler, config).run(model);
}

/// All threads of one run of a model.
#[derive(Default)]
pub(crate) struct World {
    /// How many threads are not parked.
    running: Mutex<usize>,
    changed: Condvar,
}

impl World {
    /// Starts a thread that has one task.
    pub(crate) fn spawn(self: &Arc<Self>, work: impl FnOnce(&Arc<Task>) + Send + 'static) -> Spawned {
        self.spawn_with(|| {}, work)
    }

    /// Starts a thread with a task that does something whenever it is woken, as wakers of users may.
    pub(crate) fn spawn_with(
        self: &Arc<Self>,
        on_wake: impl Fn() + Send + Sync + 'static,
        work: impl FnOnce(&Arc<Task>) + Send + 'static,
    ) -> Spawned {
        *lock(&self.running) += 1;
        let task = Arc::new(Task {
            world: Arc::clone(self),
            state: Mutex::new(TaskState::default()),
            unparked: Condvar::new(),
            on_wake: Box::new(on_wake),
        });
        let own = Arc::clone(&task);
        let thread = thread::spawn(move || {
            work(&own);
            lock(&own.state).stage = Stage::Over;
            own.world.stop_running();
        });
        Spawned { task, thread }
    }

    /// Waits until every thread is parked or over.
    pub(crate) fn settle(&self) {
        let mut running = lock(&self.running);
        while *running > 0 {
            running = self.changed.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stop_running(&self) {
        *lock(&self.running) -= 1;
        self.changed.notify_all();
    }
}

/// A thread that was started, and its task.
pub(crate) struct Spawned {
    pub(crate) task: Arc<Task>,
    thread: JoinHandle<()>,
}

impl Spawned {
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.task.state).stage == Stage::Over
    }

    /// Drops what the task polls, if it still does, and waits for its thread.
    pub(crate) fn cancel(self) {
        self.task.cancel();
        self.thread.join().expect("the thread ends");
    }
}

/// Something that is polled when it was woken. It is its own waker.
pub(crate) struct Task {
    world: Arc<World>,
    state: Mutex<TaskState>,
    unparked: Condvar,
    on_wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct TaskState {
    stage: Stage,
    is_woken: bool,
    is_cancelled: bool,
    polls: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Running,
    Parked,
    Over,
}

impl Task {
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Polls until that is ready; `None` where the task was cancelled first.
    pub(crate) fn poll<T>(self: &Arc<Self>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        let waker = self.waker();
        loop {
            if let Poll::Ready(ready) = poll(&mut Context::from_waker(&waker)) {
                return Some(ready);
            }
            if !self.park() {
                return None;
            }
        }
    }

    /// Waits until the task is woken; `false` where it was cancelled.
    fn park(&self) -> bool {
        let mut state = lock(&self.state);
        state.polls += 1;
        assert!(state.polls < MAX_POLLS, "a task is woken over and over");
        if !state.is_woken && !state.is_cancelled {
            state.stage = Stage::Parked;
            self.world.stop_running();
            while state.stage == Stage::Parked {
                state = self.unparked.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        state.is_woken = false;
        !state.is_cancelled
    }

    /// The task ends before it is polled again.
    pub(crate) fn cancel(&self) {
        self.rouse(|state| state.is_cancelled = true);
    }

    fn rouse(&self, change: impl FnOnce(&mut TaskState)) {
        let mut state = lock(&self.state);
        change(&mut state);
        if state.stage == Stage::Parked {
            state.stage = Stage::Running;
            *lock(&self.world.running) += 1;
            self.unparked.notify_all();
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        (self.on_wake)();
        self.rouse(|state| state.is_woken = true);
    }
}
