//! Calls that are given to tasks that wait, while these begin to wait and while the connection closes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use super::{Runner, Runners};
use crate::interleavings::{Spawned, World, explore};
use crate::sync::checked::{Mutex, lock};

/// A call that yields once and then counts itself.
struct Call {
    has_yielded: bool,
    ran: Arc<AtomicUsize>,
}

impl Future for Call {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.has_yielded, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ran.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(())
    }
}

/// The tasks of a connection, and how many calls have run.
#[derive(Clone, Default)]
struct Model {
    world: Arc<World>,
    runners: Arc<Runners<Call>>,
    tasks: Arc<Mutex<Vec<Spawned>>>,
    ran: Arc<AtomicUsize>,
}

impl Model {
    /// Does what [`run`](super::run) does for calls of a connection.
    fn run_call(&self) {
        let call = Call { has_yielded: false, ran: Arc::clone(&self.ran) };
        if let Some(place) = self.runners.take() {
            return place.give(|next| next.call = Some(call));
        }
        let mut runner = Runner::new(call, Arc::clone(&self.runners));
        let task = self.world.spawn(move |task| {
            task.poll(|cx| Pin::new(&mut runner).poll(cx));
        });
        lock(&self.tasks).push(task);
    }

    /// A thread that is given calls one after the other.
    fn caller(&self, calls: usize) {
        let model = self.clone();
        self.world.spawn(move |_| (0..calls).for_each(|_| model.run_call()));
    }

    fn ran(&self) -> usize {
        self.ran.load(Ordering::Relaxed)
    }

    fn open_tasks(&self) -> usize {
        lock(&self.tasks).iter().filter(|task| !task.is_over()).count()
    }
}

#[test]
fn every_call_runs_and_idle_tasks_end_when_the_connection_closes() {
    explore(2500, || {
        let model = Model::default();
        model.caller(2);
        model.caller(2);
        model.world.settle();
        assert_eq!(model.ran(), 4);
        let waiting = lock(&model.runners.idle).waiting.len();
        assert_eq!(waiting, model.open_tasks(), "each task that is not over waits for calls");
        model.runners.close();
        model.world.settle();
        assert_eq!(model.open_tasks(), 0);
    });
}

#[test]
fn calls_that_come_while_the_connection_closes_still_run() {
    explore(2500, || {
        let model = Model::default();
        model.caller(3);
        let closing = model.clone();
        model.world.spawn(move |_| closing.runners.close());
        model.world.settle();
        assert_eq!((model.ran(), model.open_tasks()), (3, 0));
    });
}

#[test]
fn a_call_is_dropped_with_the_task_that_it_was_given_to() {
    explore(2000, || {
        let model = Model::default();
        model.run_call();
        model.world.settle();
        let idle = lock(&model.tasks).pop().expect("a task");
        // The runtime drops the task while another thread gives it a call.
        model.caller(1);
        idle.cancel();
        model.world.settle();
        // The call has run or was dropped, which tells its caller.
        assert_eq!(Arc::strong_count(&model.ran), 1);
    });
}
