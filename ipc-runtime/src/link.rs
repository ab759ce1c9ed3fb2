//! The shell around a [`protocol::connection`](crate::protocol::connection): one lock, the socket, and wakers.
//!
//! It knows no rule of the protocol. One lock protects everything about one connection. A thread that finds something to
//! write takes the sink under the lock and writes without the lock. Then it locks once more, puts the sink back and checks
//! for new frames. So at any time a thread writes, or there is nothing to write, or the transport is full and will wake
//! the driver. The invariants are:
//!
//! - The sink is in its place, or exactly one thread writes, or the connection is closed.
//! - Bytes are noted as handed over before they are written. The core does this when it gives them out.
//! - Users' code never runs under the lock. Messages are encoded before, and wakers are woken after.
//! - Only the driver reads and watches timeouts. When it is dropped, the connection is over.

pub(crate) mod batch;
pub(crate) mod driver;
pub(crate) mod greet;
#[cfg(all(test, feature = "interleavings", target_os = "linux"))]
mod interleavings;
pub(crate) mod reader;
pub(crate) mod scratch;

use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use tokio::io::AsyncWrite as _;
use tokio::time::Instant;

use crate::error::IpcError;
use crate::protocol::connection::{Connection, Phase};
use crate::protocol::encode::Encoder;
use crate::protocol::handshake::Terms;
use crate::protocol::outbox::Transmit;
use crate::sync::checked::{Mutex, MutexGuard, lock};
use crate::transport::BoxedWrite;

/// How many times one writer also writes the frames that were added during its write. Then it leaves the rest to the
/// driver. Tests of interleavings use a small number to reach this case.
const MAX_ROUNDS: usize = if cfg!(all(test, feature = "interleavings")) { 2 } else { 16 };

/// Frames that are held back for the driver's turn are written at once if they have this many bytes.
const HELD_BYTES: usize = 32 * 1024;

/// One connection, shared by its driver and its calls.
pub(crate) struct Link {
    state: Mutex<State>,
    terms: Terms,
    encoder: Encoder,
    /// The runtime that drives the connection.
    runtime: OnceLock<tokio::runtime::Id>,
}

/// The locked state of a connection. Wakers that are no longer needed are dropped after the lock is released, because
/// dropping them may run users' code.
struct Locked<'a> {
    state: MutexGuard<'a, State>,
    /// Fields are dropped in order, so these are dropped after the lock is released.
    retired: Vec<Waker>,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Locked<'_> {
    /// Stores the driver's waker.
    fn set_driver(&mut self, waker: &Waker) {
        self.retired.extend(self.state.driver.replace(waker.clone()));
    }

    /// Takes the sink, for one write with the driver's waker. `None` if another thread writes, or writing is not possible.
    fn take_sink(&mut self) -> Option<Sink> {
        let state = &mut *self.state;
        let driver = state.driver.as_ref()?;
        let mut sink = state.sink.take()?;
        if !sink.waker.will_wake(driver) {
            self.retired.push(std::mem::replace(&mut sink.waker, driver.clone()));
        }
        Some(sink)
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.state.core.has_retired() {
            self.retired.extend(self.state.core.take_retired());
        }
    }
}

/// The writing half of a connection's socket.
struct Sink {
    output: BoxedWrite,
    /// The driver's waker at the time of the last write. The transport wakes it when there is room again.
    waker: Waker,
}

struct State {
    core: Connection,
    /// `None` while a thread writes, and after the end.
    sink: Option<Sink>,
    /// The driver's waker, after its first poll. Before that nothing is written, because nothing could continue a write
    /// that blocks.
    driver: Option<Waker>,
    /// The time until which the driver sleeps.
    armed: Option<std::time::Instant>,
    /// The driver has woken several tasks. Their frames are written when there are this many, or when all these tasks have
    /// run. 0: nothing is held back.
    held: usize,
    /// The phase that the driver has acted on.
    noticed: Phase,
    /// The driver's last turn began while another thread wrote. If the transport had woken the driver for this turn, it
    /// will not wake it again.
    has_missed_turn: bool,
    /// The driver has stopped reading, because too many replies waited.
    is_input_stopped: bool,
}

impl Link {
    pub(crate) fn new(output: BoxedWrite, terms: Terms) -> Self {
        let core = Connection::new(Instant::now().into_std(), terms);
        let encoder = core.encoder();
        let state = State {
            core,
            sink: Some(Sink { output, waker: Waker::noop().clone() }),
            driver: None,
            armed: None,
            held: 0,
            noticed: Phase::Open,
            has_missed_turn: false,
            is_input_stopped: false,
        };
        Self { state: Mutex::new(state), terms, encoder, runtime: OnceLock::new() }
    }

    pub(crate) const fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(crate) const fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Reads the connection's state, or makes a change for which no task waits.
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&mut Connection) -> R) -> R {
        look(&mut self.lock().core)
    }

    /// Changes the connection, writes the resulting frames, and wakes the tasks that the change concerns.
    pub(crate) fn update<R>(
        &self,
        now: std::time::Instant,
        change: impl FnOnce(&mut Connection, std::time::Instant) -> R,
    ) -> R {
        let mut state = self.lock();
        let result = change(&mut state.core, now);
        self.settle(state, now);
        result
    }

    /// Writes the waiting frames, unless they are held back for the driver's turn.
    pub(crate) fn flush(&self) {
        let state = self.lock();
        if state.may_write() {
            self.settle(state, Instant::now().into_std());
        }
    }

    /// Whether the current task runs on the runtime that drives this connection. If so, the driver watches the deadlines
    /// of the task's calls.
    pub(crate) fn is_driven_here(&self) -> bool {
        let Ok(here) = tokio::runtime::Handle::try_current() else { return true };
        self.runtime.get() == Some(&here.id())
    }

    /// Notes that the driver runs on this runtime.
    fn set_runtime(&self) {
        if let Ok(here) = tokio::runtime::Handle::try_current() {
            _ = self.runtime.set(here.id());
        }
    }

    /// Ends the connection at once, for all calls.
    fn lose(&self, cause: IpcError) {
        let mut state = self.lock();
        state.core.lose(Instant::now().into_std(), cause);
        state.sink = None;
        let wakeups = std::mem::take(state.core.wakeups());
        drop(state);
        wakeups.into_iter().for_each(Waker::wake);
    }

    /// No code of users runs under it.
    fn lock(&self) -> Locked<'_> {
        Locked { state: lock(&self.state), retired: Vec::new() }
    }

    /// Releases the lock: writes if necessary, and wakes the tasks that the change concerns.
    fn settle<'a>(&'a self, mut state: Locked<'a>, now: std::time::Instant) {
        let needs_driver = state.needs_driver();
        if needs_driver || !state.core.wakeups().is_empty() {
            let mut wakeups = std::mem::take(state.core.wakeups());
            if needs_driver {
                wakeups.extend(state.driver.clone());
            }
            let may_write = state.may_write();
            drop(state);
            wakeups.drain(..).for_each(Waker::wake);
            if !may_write {
                return;
            }
            state = self.lock();
            if state.core.wakeups().is_empty() {
                // The buffer is used again.
                *state.core.wakeups() = wakeups;
            }
            self.write(state, now);
        } else if state.may_write() {
            self.write(state, now);
        }
    }

    /// Writes until no more frames are added, unless another thread writes.
    fn write<'a>(&'a self, mut state: Locked<'a>, now: std::time::Instant) {
        for _ in 0..MAX_ROUNDS {
            let Some(sink) = state.take_sink() else { return };
            let Some(mut transmit) = state.core.poll_transmit(now) else {
                state.sink = Some(sink);
                return wake_after_writing(state);
            };
            drop(state);
            let mut writing = Writing { link: self, sink: Some(sink) };
            let written = writing.write(&mut transmit);
            let sink = writing.finish();
            state = self.lock();
            let is_closed = state.core.phase() == Phase::Closed;
            match written {
                Written::All | Written::Part { .. } => {
                    let progress = !matches!(written, Written::Part { progress: false });
                    // A write that is held up is timed from here.
                    let at = if matches!(written, Written::All) { now } else { Instant::now().into_std() };
                    state.core.transmitted(at, transmit, progress);
                    state.sink = sink.filter(|_| !is_closed);
                }
                Written::Failed => {
                    state.core.transmitted(now, transmit, false);
                    state.core.handle_write_error(now);
                }
            }
            match written {
                Written::All if !is_closed => {}
                // The transport tells the driver when it takes more. A turn that came too early must come again.
                Written::Part { .. } if !is_closed && !state.has_missed_turn => {
                    return wake_after_writing(state);
                }
                Written::All | Written::Part { .. } | Written::Failed => {
                    let driver = state.driver.clone();
                    wake_after_writing(state);
                    driver.into_iter().for_each(Waker::wake);
                    return;
                }
            }
            if !state.core.can_transmit() {
                return wake_after_writing(state);
            }
        }
        // Others add as fast as this one writes: the driver must go on, so that a caller gets away.
        let driver = state.driver.clone();
        wake_after_writing(state);
        driver.into_iter().for_each(Waker::wake);
    }
}

/// What the driver last saw of its connection. A thread that changes it wakes the driver.
#[derive(Clone, Copy, Debug)]
struct View {
    phase: Phase,
    is_usable: bool,
    wants_input: bool,
    /// Frames wait that the driver must write before it sleeps.
    has_output: bool,
    /// When the next timeout is due, if that is known.
    due: Option<std::time::Instant>,
}

impl State {
    /// Returns the current view for the driver, and notes that the driver has seen it.
    fn view(&mut self) -> View {
        let view = View {
            phase: self.core.phase(),
            is_usable: self.core.is_usable(),
            wants_input: self.core.wants_input(),
            has_output: self.may_write(),
            due: None,
        };
        self.noticed = view.phase;
        self.is_input_stopped = !view.wants_input;
        view
    }

    /// Whether frames wait that are not held back, and no thread writes.
    fn may_write(&self) -> bool {
        let (frames, bytes) = self.core.gathered();
        let is_held = frames < self.held && bytes < HELD_BYTES;
        !is_held && self.sink.is_some() && self.core.can_transmit()
    }

    /// Whether the driver must act: the connection has entered another phase, or something is due earlier.
    fn needs_driver(&mut self) -> bool {
        if self.core.phase() != self.noticed || self.is_input_stopped && self.core.wants_input() {
            return true;
        }
        self.core.take_is_sooner()
            && self.armed.is_some_and(|armed| self.core.timeout().is_some_and(|timeout| timeout < armed))
    }
}

/// Releases the lock after a write, and wakes the tasks that the write concerns.
fn wake_after_writing(mut state: Locked<'_>) {
    let needs_driver = state.needs_driver();
    if state.core.wakeups().is_empty() && !needs_driver {
        return;
    }
    let mut wakeups = std::mem::take(state.core.wakeups());
    if needs_driver {
        wakeups.extend(state.driver.clone());
    }
    drop(state);
    wakeups.into_iter().for_each(Waker::wake);
}

/// The result of a write.
#[derive(Clone, Copy)]
enum Written {
    All,
    /// The transport takes no more for now. It wakes the driver when there is room.
    Part {
        progress: bool,
    },
    Failed,
}

/// Holds the sink and must give it back. If the transport panics, the connection is over.
struct Writing<'a> {
    link: &'a Link,
    sink: Option<Sink>,
}

impl Writing<'_> {
    fn write(&mut self, transmit: &mut Transmit) -> Written {
        let Some(Sink { output, waker }) = &mut self.sink else { return Written::Failed };
        let mut output = Pin::new(output);
        let cx = &mut Context::from_waker(waker);
        let mut progress = false;
        while !transmit.is_done() {
            let parts = transmit.parts();
            let polled = if parts[1].is_empty() {
                output.as_mut().poll_write(cx, parts[0])
            } else {
                output.as_mut().poll_write_vectored(cx, &parts.map(std::io::IoSlice::new))
            };
            match polled {
                Poll::Ready(Ok(written)) if written > 0 => {
                    transmit.advance(written);
                    progress = true;
                }
                Poll::Ready(Ok(_)) => {
                    tracing::debug!("writing failed: the transport takes nothing");
                    return Written::Failed;
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "writing failed");
                    return Written::Failed;
                }
                Poll::Pending => return Written::Part { progress },
            }
        }
        Written::All
    }

    fn finish(mut self) -> Option<Sink> {
        self.sink.take()
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if self.sink.is_some() {
            self.link.lose(IpcError::PeerClosed);
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("terms", &self.terms).finish_non_exhaustive()
    }
}
