//! Keeps a runtime's sockets and timers served while a handler computes.
//!
//! A worker of tokio's multi-thread runtime wakes another worker only for tasks that the other could take. If a worker
//! leaves the I/O driver and then polls a handler that computes, no worker checks the runtime's sockets and timers.
//! So [`watched`] notes in a slot of its thread that a handler is polled, and one thread per process checks the slots
//! every 10 ms. If a poll lasts long, this thread spawns an empty task from outside: a worker wakes, runs it, and goes on
//! to the driver. This module owns that thread and the slots. It must not know what a call is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::sync::lock;

const TICK: Duration = Duration::from_millis(10);
/// A poll that lasts this many ticks is a stall.
const STALL: u64 = 1;
/// During a stall, another worker is woken each time this many ticks have passed. The one woken before may also compute.
const AGAIN: u64 = 5;
/// A slot without a handler is forgotten after this many ticks, together with its runtime.
const FORGET: u64 = 5;

/// The current tick, at least 1; 0 while the watch sleeps. Only set while `WATCH` is locked.
static CLOCK: AtomicU64 = AtomicU64::new(0);
static WATCH: Mutex<Watch> = Mutex::new(Watch { slots: Vec::new(), tick: 0, runs: None });
static NEEDED: Condvar = Condvar::new();

thread_local! {
    static SLOT: Arc<Slot> = Arc::new(Slot { stamp: AtomicU64::new(NEVER), runtime: Mutex::new(None) });
}

/// The lowest bit of a stamp: a handler is being polled.
const BUSY: u64 = 1;
/// The stamp of a thread that has polled no handler yet.
const NEVER: u64 = !BUSY;

/// What the watch knows about a thread. It has its own cache lines, because its thread writes to it for every call.
#[repr(align(128))]
struct Slot {
    /// The tick in which the last poll began, times 2, and `BUSY`.
    stamp: AtomicU64,
    /// The thread's runtime, while the slot is in `Watch::slots`.
    runtime: Mutex<Option<Handle>>,
}

struct Watch {
    slots: Vec<Arc<Slot>>,
    tick: u64,
    /// Whether the thread runs. `None` before the first attempt to start it.
    runs: Option<bool>,
}

/// Runs `poll`, a poll of a handler, under the watch.
pub(super) fn watched<T>(poll: impl FnOnce() -> T) -> T {
    // A thread that is ending has no slot. It is not a worker.
    let _busy = Busy(SLOT.try_with(Slot::enter).unwrap_or(NEVER));
    poll()
}

/// A poll, with the stamp for its end: not busy, or the stamp of the poll around it.
struct Busy(u64);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = SLOT.try_with(|slot| slot.stamp.store(self.0, Ordering::Release));
    }
}

impl Slot {
    /// Notes that a poll begins. Returns the stamp for its end.
    fn enter(self: &Arc<Self>) -> u64 {
        let last = self.stamp.load(Ordering::Relaxed);
        if last & BUSY != 0 {
            return last;
        }
        let tick = CLOCK.load(Ordering::Relaxed);
        self.stamp.store(tick << 1 | BUSY, Ordering::Release);
        if last >> 1 == tick { last } else { self.first_in_tick() }
    }

    /// Makes sure that the slot is watched, if possible. Returns the stamp for the poll's end.
    #[cold]
    fn first_in_tick(self: &Arc<Self>) -> u64 {
        // With one worker there is no other to wake.
        let runtime = Handle::try_current().ok().filter(|runtime| runtime.metrics().num_workers() > 1);
        let last = std::mem::replace(&mut *lock(&self.runtime), runtime.clone());
        if runtime.is_some() && last.is_none() {
            self.enlist();
        }
        self.stamp.load(Ordering::Relaxed) & !BUSY
    }

    fn enlist(self: &Arc<Self>) {
        let mut watch = lock(&WATCH);
        if !*watch.runs.get_or_insert_with(start) {
            *lock(&self.runtime) = None;
            return;
        }
        if watch.slots.is_empty() {
            watch.tick += 1;
            CLOCK.store(watch.tick, Ordering::Relaxed);
        }
        self.stamp.store(watch.tick << 1 | BUSY, Ordering::Release);
        if !watch.has(self) {
            watch.slots.push(Arc::clone(self));
        }
        drop(watch);
        NEEDED.notify_one();
    }
}

fn start() -> bool {
    let started = thread::Builder::new().name("ipc-stall-watch".to_owned()).spawn(run);
    started
        .inspect_err(|error| tracing::debug!(%error, "no thread watches for handlers that compute"))
        .is_ok()
}

fn run() {
    loop {
        let mut watch = lock(&WATCH);
        while watch.slots.is_empty() {
            CLOCK.store(0, Ordering::Relaxed);
            watch = NEEDED.wait(watch).unwrap_or_else(PoisonError::into_inner);
        }
        drop(watch);
        thread::sleep(TICK);
        // Runtimes are used and dropped without the lock.
        let (stalled, _forgotten) = lock(&WATCH).look();
        for runtime in stalled {
            drop(runtime.spawn(async {}));
        }
    }
}

impl Watch {
    fn has(&self, slot: &Arc<Slot>) -> bool {
        self.slots.iter().any(|listed| Arc::ptr_eq(listed, slot))
    }

    /// Begins a tick. Returns the runtimes of handlers that stall, and the runtimes of slots that are forgotten.
    fn look(&mut self) -> (Vec<Handle>, Vec<Handle>) {
        self.tick += 1;
        CLOCK.store(self.tick, Ordering::Relaxed);
        let (mut stalled, mut forgotten) = (Vec::new(), Vec::new());
        self.slots.retain(|slot| {
            // A thread stamps its slot before it takes this lock. So it is seen here, or it adds its slot again.
            let mut runtime = lock(&slot.runtime);
            let stamp = slot.stamp.load(Ordering::Acquire);
            let age = self.tick.saturating_sub(stamp >> 1);
            if stamp & BUSY == 0 && age >= FORGET {
                forgotten.extend(runtime.take());
            } else if stamp & BUSY != 0 && age % AGAIN == STALL {
                stalled.extend(runtime.clone());
            }
            runtime.is_some()
        });
        (stalled, forgotten)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime(workers: usize) -> Runtime {
        Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap()
    }

    #[test]
    fn an_inner_poll_and_a_panic_leave_the_stamp_as_it_was() {
        let stamp = || SLOT.with(|slot| slot.stamp.load(Ordering::Relaxed));
        watched(|| {
            let outer = stamp();
            watched(|| assert_eq!(stamp(), outer));
            std::panic::catch_unwind(|| watched(|| panic!("as the test wants"))).unwrap_err();
            assert_eq!((stamp(), stamp() & BUSY), (outer, BUSY));
        });
        assert_eq!(stamp() & BUSY, 0);
    }

    #[test]
    fn a_runtime_without_another_worker_is_not_watched() {
        for runtime in [Builder::new_current_thread().build().unwrap(), runtime(1)] {
            let task = runtime.spawn(async { watched(|| SLOT.with(|slot| lock(&WATCH).has(slot))) });
            assert!(!runtime.block_on(task).unwrap());
        }
    }

    #[cfg(unix)]
    #[test]
    fn sockets_are_looked_at_while_handlers_of_two_runtimes_compute() {
        use std::io::{Read, Write};
        use std::os::unix::net::UnixStream;
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let connect = |runtime: &Runtime| {
            let (client, server) = UnixStream::pair().unwrap();
            server.set_nonblocking(true).unwrap();
            let (release, held) = mpsc::channel::<()>();
            runtime.spawn(async move {
                let mut server = tokio::net::UnixStream::from_std(server).unwrap();
                while let Ok(1) = server.read_u8().await {
                    server.write_u8(1).await.unwrap();
                }
                watched(|| held.recv().unwrap_err());
            });
            (client, release)
        };
        // Dropped after what computes in them has been released.
        let runtimes = [runtime(2), runtime(2)];
        let mut last = None;
        for runtime in runtimes.iter().cycle().take(40) {
            let (mut computing, release) = connect(runtime);
            let (mut other, _release) = connect(runtime);
            computing.write_all(&[1, 2]).unwrap();
            computing.read_exact(&mut [0]).unwrap();
            for _ in 0..20 {
                other.write_all(&[1]).unwrap();
                other.read_exact(&mut [0]).unwrap();
            }
            // It computes on while the other runtime has its turn.
            drop(last.replace(release));
        }
    }

    #[test]
    fn what_ends_while_it_is_watched_is_forgotten() {
        let runtime = runtime(2);
        let (release, held) = mpsc::channel::<()>();
        let (send_slot, slot) = mpsc::channel();
        let poll = move || send_slot.send(SLOT.with(Arc::clone)).is_ok() && held.recv().is_ok();
        runtime.spawn(async { watched(poll) });
        let slot = slot.recv().unwrap();
        runtime.shutdown_background();
        // The watch spawns on a runtime that has been shut down.
        let began = slot.stamp.load(Ordering::Relaxed) >> 1;
        while lock(&WATCH).tick <= began + STALL + AGAIN {
            thread::yield_now();
        }
        assert!(lock(&WATCH).has(&slot));
        drop(release);
        // Its thread ends, and nobody else keeps the slot or the runtime.
        while Arc::strong_count(&slot) > 1 {
            thread::yield_now();
        }
        assert!(lock(&slot.runtime).is_none());
    }
}
