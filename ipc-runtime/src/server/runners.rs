//! The tasks that run calls. Each runs one call at a time, and then waits for the next one.
//!
//! A new task for each call would cost more than the rest of a small call: tokio aligns its tasks to whole cache lines, and
//! the C library's allocator has no fast path for this. This module only knows that calls are futures.

#[cfg(all(test, feature = "interleavings", target_os = "linux"))]
mod interleavings;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::stall;
use crate::sync::checked::{Mutex, lock};

/// At most this many tasks wait for calls. Others end with their call.
const MAX_IDLE: usize = 256;

/// The tasks of one connection. Tests use other futures in place of calls.
#[derive(Debug)]
pub(super) struct Runners<C> {
    idle: Mutex<Idle<C>>,
}

#[derive(Debug)]
struct Idle<C> {
    waiting: Vec<Arc<IdleRunner<C>>>,
    closed: bool,
}

/// A task that waits. It finds its next call here.
#[derive(Debug)]
struct IdleRunner<C> {
    next: Mutex<Assignment<C>>,
}

#[derive(Debug)]
struct Assignment<C> {
    call: Option<C>,
    waker: Waker,
    closed: bool,
}

impl<C> Default for Runners<C> {
    fn default() -> Self {
        Self { idle: Mutex::new(Idle { waiting: Vec::new(), closed: false }) }
    }
}

impl<C> Runners<C> {
    /// Takes a task that waits.
    fn take(&self) -> Option<Arc<IdleRunner<C>>> {
        lock(&self.idle).waiting.pop()
    }

    /// No more calls come: the tasks end when what they run has.
    pub(super) fn close(&self) {
        let waiting = {
            let mut idle = lock(&self.idle);
            idle.closed = true;
            std::mem::take(&mut idle.waiting)
        };
        for place in waiting {
            place.give(|next| next.closed = true);
        }
    }

    /// Keeps a task for later; `false` if it shall end.
    fn keep(&self, place: &Arc<IdleRunner<C>>) -> bool {
        let mut idle = lock(&self.idle);
        let keep = !idle.closed && idle.waiting.len() < MAX_IDLE;
        if keep {
            idle.waiting.push(Arc::clone(place));
        }
        keep
    }
}

impl<C> IdleRunner<C> {
    fn give(&self, what: impl FnOnce(&mut Assignment<C>)) {
        let mut next = lock(&self.next);
        what(&mut next);
        next.waker.wake_by_ref();
    }
}

impl<C: Future<Output = ()> + Unpin + Send + 'static> Runners<C> {
    /// Runs a call in a task of its own, one that waits if there is any.
    pub(super) fn run(self: &Arc<Self>, call: C) {
        if let Some(place) = self.take() {
            place.give(|next| next.call = Some(call));
        } else {
            tokio::spawn(Runner::new(call, Arc::clone(self)));
        }
    }
}

/// One of the tasks.
struct Runner<C> {
    call: C,
    waits: bool,
    /// Created when the task first waits.
    place: Option<Arc<IdleRunner<C>>>,
    runners: Arc<Runners<C>>,
}

impl<C> Runner<C> {
    const fn new(call: C, runners: Arc<Runners<C>>) -> Self {
        Self { call, waits: false, place: None, runners }
    }

    /// Waits for the next call. Returns `false` if none will come.
    fn wait(&mut self, cx: &Context<'_>) -> bool {
        let place = self.place.get_or_insert_with(|| {
            let next = Assignment { call: None, waker: cx.waker().clone(), closed: false };
            Arc::new(IdleRunner { next: Mutex::new(next) })
        });
        lock(&place.next).waker.clone_from(cx.waker());
        self.runners.keep(place)
    }
}

impl<C: Future<Output = ()> + Unpin> Future for Runner<C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.waits
                && let Some(place) = &self.place
            {
                let mut next = lock(&place.next);
                if next.closed {
                    return Poll::Ready(());
                }
                let Some(call) = next.call.take() else { return Poll::Pending };
                drop(next);
                self.call = call;
                self.waits = false;
            }
            if stall::watched(|| Pin::new(&mut self.call).poll(cx)).is_pending() {
                return Poll::Pending;
            }
            self.waits = true;
            if !self.wait(cx) {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_tasks_wait_for_calls_and_no_more() {
        let runners = Arc::new(Runners::default());
        let (ended, mut has_ended) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..=MAX_IDLE {
            let ended = ended.clone();
            runners.run(Box::pin(async move { ended.send(()).expect("it is heard") }));
        }
        for _ in 0..=MAX_IDLE {
            has_ended.recv().await;
        }
        // The last one is told so, and decides then whether to wait.
        tokio::task::yield_now().await;
        assert_eq!(lock(&runners.idle).waiting.len(), MAX_IDLE);
        runners.close();
    }
}
