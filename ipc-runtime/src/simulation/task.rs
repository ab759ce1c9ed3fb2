//! Tasks that are polled only when they were woken, as an executor does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Instant;

/// Whether a task was woken.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a task waits for, as far as a connection must tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Nothing,
    /// Headers, items, or the end.
    Next,
    /// Credit and room.
    Send,
    /// The call's id.
    Id,
    /// The end of the call.
    Over,
}

/// A task, or a part of one that waits for one thing.
#[derive(Debug)]
pub(super) struct Task {
    flag: Arc<Flag>,
    pub(super) waker: Waker,
    pub(super) wait: Wait,
    /// It wakes itself then.
    pub(super) sleep: Option<Instant>,
    pub(super) is_done: bool,
}

impl Task {
    /// A task that wants to be polled.
    pub(super) fn new() -> Self {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&flag));
        Self { flag, waker, wait: Wait::Nothing, sleep: None, is_done: false }
    }

    /// A task that has nothing to do.
    pub(super) fn done() -> Self {
        Self { is_done: true, ..Self::new() }
    }

    pub(super) fn is_woken(&self) -> bool {
        self.flag.0.load(Ordering::Relaxed)
    }

    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    pub(super) fn is_runnable(&self, now: Instant) -> bool {
        !self.is_done && (self.is_woken() || self.sleep.is_some_and(|until| until <= now))
    }

    /// The task is about to be polled.
    pub(super) fn begin(&mut self) {
        self.flag.0.store(false, Ordering::Relaxed);
        self.wait = Wait::Nothing;
        self.sleep = None;
    }

    pub(super) fn end(&mut self) {
        self.is_done = true;
        self.wait = Wait::Nothing;
        self.sleep = None;
    }

    /// Whether it waits and was not woken.
    pub(super) fn is_asleep(&self) -> bool {
        !self.is_done && self.wait != Wait::Nothing && !self.is_woken()
    }
}
