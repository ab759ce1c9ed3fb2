//! The tasks that calls run in: each runs one call at a time, and waits for another when that is over.
//!
//! A new task for each call would cost more than the rest of a small call: tokio aligns its tasks to whole cache lines, which
//! the C library's allocator has no fast path for. It knows calls as futures and nothing else of them.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::task::Answering;
use crate::connection::writer::lock;

/// So many tasks wait for calls at most; the others end with theirs.
const MAX_IDLE: usize = 256;

/// The tasks of one connection.
#[derive(Debug, Default)]
pub(crate) struct Runners {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    waiting: Vec<Arc<Place>>,
    closed: bool,
}

/// Where a waiting task finds its next call.
#[derive(Debug)]
struct Place {
    next: Mutex<Next>,
}

#[derive(Debug)]
struct Next {
    call: Option<Answering>,
    waker: Waker,
    closed: bool,
}

impl Runners {
    /// Takes a task that waits.
    fn take(&self) -> Option<Arc<Place>> {
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
    fn keep(&self, place: &Arc<Place>) -> bool {
        let mut idle = lock(&self.idle);
        let keep = !idle.closed && idle.waiting.len() < MAX_IDLE;
        if keep {
            idle.waiting.push(Arc::clone(place));
        }
        keep
    }
}

impl Place {
    fn give(&self, what: impl FnOnce(&mut Next)) {
        let mut next = lock(&self.next);
        what(&mut next);
        next.waker.wake_by_ref();
    }
}

/// Runs a call in a task of its own, one of its connection's if any waits.
pub(super) fn run(call: Answering) {
    let Some(runners) = call.runners() else { return };
    if let Some(place) = runners.take() {
        place.give(|next| next.call = Some(call));
    } else {
        let runners = Arc::clone(runners);
        tokio::spawn(Runner { call, waits: false, handed_over: false, place: None, runners });
    }
}

/// One of the tasks.
struct Runner {
    call: Answering,
    waits: bool,
    /// Another worker has been woken, where the handler may compute for long.
    handed_over: bool,
    /// Made when it first waits.
    place: Option<Arc<Place>>,
    runners: Arc<Runners>,
}

impl Runner {
    /// Waits for another call; `false` if none will come.
    fn wait(&mut self, cx: &Context<'_>) -> bool {
        let place = self.place.get_or_insert_with(|| {
            let next = Next { call: None, waker: cx.waker().clone(), closed: false };
            Arc::new(Place { next: Mutex::new(next) })
        });
        lock(&place.next).waker.clone_from(cx.waker());
        self.runners.keep(place)
    }
}

impl Future for Runner {
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
                self.handed_over = false;
            }
            if !std::mem::replace(&mut self.handed_over, true) && !self.call.is_quick() {
                // A task that goes to the back of its worker's queue wakes another worker, if one sleeps. Tokio would
                // not: the sockets are looked at by a worker that sleeps, and all would wait while the handler computes.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if Pin::new(&mut self.call).poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.waits = true;
            if !self.wait(cx) {
                return Poll::Ready(());
            }
        }
    }
}
