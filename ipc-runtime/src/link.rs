//! The shell around a [`protocol::connection`](crate::protocol::connection): one lock, the socket, and who is woken.
//!
//! It knows no rule of the protocol. Everything about one connection is behind one lock. Whoever finds something to write
//! takes the sink out from under that lock, writes without it, and puts the sink back in the same breath as it learns
//! whether more has come: so at any time somebody writes, or there is nothing to write, or the transport is full and its
//! driver will be woken. These are the invariants:
//!
//! - The sink is in its place, or exactly one thread writes, or the connection is closed.
//! - Bytes are noted as handed over before they are written (the core does that when it gives them out).
//! - Users' code never runs under the lock: messages are encoded before, and wakers are woken after.
//! - The driver alone reads and keeps time. When it is gone, the connection is over.

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

/// How often one writer takes up what was added meanwhile, before it leaves the rest to the driver.
/// In tests of interleavings few are enough to get there.
const MAX_ROUNDS: usize = if cfg!(all(test, feature = "interleavings")) { 2 } else { 16 };

/// What is held back for the driver's turn is written at once from here on.
const HELD_BYTES: usize = 32 * 1024;

/// One connection, shared by its driver and its calls.
pub(crate) struct Link {
    state: Mutex<State>,
    terms: Terms,
    encoder: Encoder,
    /// The runtime that drives the connection.
    runtime: OnceLock<tokio::runtime::Id>,
}

/// The state of a connection, locked. Wakers that are not needed any more are dropped after the lock is free, because that
/// may run users' code.
struct Locked<'a> {
    state: MutexGuard<'a, State>,
    /// Fields are dropped in their order: these after the lock is free.
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
    /// Notes the driver's waker.
    fn set_driver(&mut self, waker: &Waker) {
        self.retired.extend(self.state.driver.replace(waker.clone()));
    }

    /// The sink, for one write with the driver's waker; `None` where somebody else writes, or nobody may.
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

/// Where a connection writes.
struct Sink {
    output: BoxedWrite,
    /// The driver's waker, as of the last write. The transport tells it when it takes more.
    waker: Waker,
}

struct State {
    core: Connection,
    /// `None` while somebody writes, and after the end.
    sink: Option<Sink>,
    /// The driver's, once it has been polled. Before, nothing is written, for nobody could be told that a write goes on.
    driver: Option<Waker>,
    /// Until when the driver sleeps.
    armed: Option<std::time::Instant>,
    /// The driver has woken several tasks. What they send leaves when so many frames have come together, or when they
    /// have had their turn. 0: nothing is held back.
    held: usize,
    /// The phase that the driver has acted on.
    noticed: Phase,
    /// The driver's last turn began while another thread wrote. If it was the turn for which the transport had told it of
    /// room, nobody will tell it again.
    has_missed_turn: bool,
    /// The driver has left input lie, because too many replies waited.
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

    /// Looks at the connection, or changes what nobody waits for.
    pub(crate) fn peek<R>(&self, look: impl FnOnce(&mut Connection) -> R) -> R {
        look(&mut self.lock().core)
    }

    /// Changes the connection, writes what that gave to write, and wakes whom it concerns.
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

    /// Writes what waits, unless that is held back for the driver's turn.
    pub(crate) fn flush(&self) {
        let state = self.lock();
        if state.may_write() {
            self.settle(state, Instant::now().into_std());
        }
    }

    /// Whether the task that asks runs on the runtime that drives this connection, which then keeps the deadlines of its
    /// calls.
    pub(crate) fn is_driven_here(&self) -> bool {
        let Ok(here) = tokio::runtime::Handle::try_current() else { return true };
        self.runtime.get() == Some(&here.id())
    }

    /// The driver runs on this runtime.
    fn set_runtime(&self) {
        if let Ok(here) = tokio::runtime::Handle::try_current() {
            _ = self.runtime.set(here.id());
        }
    }

    /// The connection is over for everybody, at once.
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

    /// Gives the lock back: writes if need be, and wakes whom the change concerns.
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

    /// Writes until nothing was added meanwhile, unless somebody else does.
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

/// What the driver knows about its connection, as of its last look. Whoever changes it wakes the driver.
#[derive(Clone, Copy, Debug)]
struct View {
    phase: Phase,
    is_usable: bool,
    wants_input: bool,
    /// Something waits that the driver must write before it sleeps.
    has_output: bool,
    /// When something is due, where that is known.
    due: Option<std::time::Instant>,
}

impl State {
    /// The driver takes note.
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

    /// Whether something waits that is not held back, and nobody writes.
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

/// Gives the lock back after a write, and wakes whom it concerns.
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

/// How a write went.
#[derive(Clone, Copy)]
enum Written {
    All,
    /// The transport takes no more for now; the driver's waker is told when it does.
    Part {
        progress: bool,
    },
    Failed,
}

/// Has the sink, and the duty to give it back. Should the transport panic, the connection is over.
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
