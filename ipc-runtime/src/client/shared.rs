//! The state behind a channel: its connection, the calls that wait for one, and the time of the next attempt.
//!
//! It owns the current connection, makes one when it is needed, and waits for the backoff. Calls and their repetition are
//! in [`invoke`](super::invoke).

use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::connect::{self, Refused, Target};
use super::connection::{ClientConnection, ConnectionOwner};
use super::options::ChannelOptions;
use super::state::{ChannelState, StateChanges};
use crate::background;
use crate::config::IpcConfig;
use crate::error::{Failure, IpcError};
use crate::peer::PeerInfo;
use crate::protocol::connection::Connection;
use crate::protocol::retry::{Backoff, ReadyPolicy, RefusedPolicy};
use crate::protocol::timers::later;
use crate::random::random_unit;
use crate::status::Code;
use crate::sync::lock;

/// What a channel shares with its connection's driver and its connect task.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: IpcConfig,
    pub(crate) options: ChannelOptions,
    pub(crate) endpoint: Arc<str>,
    target: Target,
    state: Mutex<State>,
    changed: watch::Sender<ChannelState>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    backoff: Backoff,
    /// How many attempts have ended, and the refusal of the last one if it failed.
    attempts: u64,
    refused: Option<Arc<Refused>>,
    /// Attempts whose runtime was dropped before they ended.
    vanished: u64,
    /// There has been a connection.
    was_connected: bool,
}

/// A connection that was given up.
struct Lost {
    is_graceful: bool,
}

#[derive(Debug)]
enum Phase {
    /// There is no connection. If there is an instant, no attempt is made before it.
    Idle(Option<Instant>),
    Connecting,
    Ready(Arc<ClientConnection>, Instant),
    Closed,
}

impl Phase {
    const fn public(&self) -> ChannelState {
        match self {
            Self::Idle(None) => ChannelState::Idle,
            Self::Idle(Some(_)) => ChannelState::BackingOff,
            Self::Connecting => ChannelState::Connecting,
            Self::Ready(..) => ChannelState::Ready,
            Self::Closed => ChannelState::Closed,
        }
    }
}

/// What a call finds when it asks for a connection.
enum Found {
    Ready(Arc<ClientConnection>),
    Refused(Arc<Refused>),
    Closed,
    /// The call that asked makes the attempt.
    Connect,
    WaitForChange,
    WaitUntil(Instant),
}

/// How a call waits for a connection.
#[derive(Debug)]
pub(crate) struct ReadyWait {
    policy: ReadyPolicy,
    /// The call was already tried on a connection. It waits for the backoff before its one attempt.
    is_repeated: bool,
    attempts_seen: Option<u64>,
    /// Refusals since it began to wait.
    refusals: u32,
    /// A call without a deadline stops trying a busy server at this time.
    busy_until: Option<Instant>,
}

impl ReadyWait {
    pub(crate) const fn new(policy: ReadyPolicy) -> Self {
        Self { policy, is_repeated: false, attempts_seen: None, refusals: 0, busy_until: None }
    }

    /// The call needs a new connection.
    pub(crate) const fn again(&mut self) {
        self.is_repeated = true;
        self.attempts_seen = None;
    }
}

impl Shared {
    pub(super) fn new(config: IpcConfig, options: ChannelOptions, target: Target) -> Self {
        let state = State {
            phase: Phase::Idle(None),
            backoff: Backoff::default(),
            attempts: 0,
            refused: None,
            vanished: 0,
            was_connected: false,
        };
        let changed = watch::Sender::new(state.phase.public());
        Self { endpoint: target.name(), target, config, options, state: Mutex::new(state), changed }
    }
}

impl ConnectionOwner for Shared {
    fn on_closed(&self, connection: &Arc<ClientConnection>) {
        let lost = self.lose(&mut lock(&self.state), connection);
        self.log_lost(lost.as_ref());
    }
}

impl Drop for Shared {
    /// No channel is left: the connection ends once its calls have.
    fn drop(&mut self) {
        let phase = std::mem::replace(&mut lock(&self.state).phase, Phase::Idle(None));
        if let Phase::Ready(connection, _) = phase {
            connection.release();
        }
    }
}

impl Shared {
    /// A connection that takes calls, made if there is none.
    ///
    /// # Errors
    ///
    /// Why there is no connection, unless `wait` says that the call waits.
    pub(crate) async fn ready(
        self: &Arc<Self>,
        wait: &mut ReadyWait,
    ) -> Result<Arc<ClientConnection>, IpcError> {
        let mut vanished = 0;
        loop {
            let mut changes = self.changed.subscribe();
            match self.find(wait) {
                Found::Ready(connection) => return Ok(connection),
                Found::Refused(refused) => return Err(refused.to_error(&self.endpoint)),
                Found::Closed => return Err(self.closed()),
                Found::Connect => {
                    // The guard is there before the task, which may never run.
                    let before = self.vanished_attempts();
                    background::spawn(Attempt::new(self).run());
                    vanished += u32::from(self.vanished_attempts() > before);
                    if vanished > MAX_VANISHED {
                        // This runtime is shutting down. Calls on others are not told.
                        return Err(Refused::vanished().to_error(&self.endpoint));
                    }
                }
                Found::WaitForChange => _ = changes.changed().await,
                Found::WaitUntil(instant) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(instant) => {}
                        _ = changes.changed() => {}
                    }
                }
            }
        }
    }

    fn vanished_attempts(&self) -> u64 {
        lock(&self.state).vanished
    }

    /// The connection, if there is one.
    pub(crate) fn current(&self) -> Option<Arc<ClientConnection>> {
        match &lock(&self.state).phase {
            Phase::Ready(connection, _) => Some(Arc::clone(connection)),
            Phase::Idle(_) | Phase::Connecting | Phase::Closed => None,
        }
    }

    fn find(&self, wait: &mut ReadyWait) -> Found {
        let mut lost = None;
        let found = self.find_locked(wait, &mut lost);
        self.log_lost(lost.as_ref());
        found
    }

    /// Whoever logs may make calls on this channel, so that is done without the lock.
    fn log_lost(&self, lost: Option<&Lost>) {
        if let Some(Lost { is_graceful }) = lost {
            tracing::info!(endpoint = %self.endpoint, is_graceful, "connection lost");
        }
    }

    fn find_locked(&self, wait: &mut ReadyWait, lost: &mut Option<Lost>) -> Found {
        let mut state = lock(&self.state);
        if let Phase::Ready(connection, _) = &state.phase {
            if connection.takes_calls() {
                return Found::Ready(Arc::clone(connection));
            }
            // Whoever finds it closed moves on: nobody waits for its driver to say so.
            let connection = Arc::clone(connection);
            *lost = self.lose(&mut state, &connection);
        }
        let now = Instant::now();
        let seen = *wait.attempts_seen.get_or_insert(state.attempts);
        if let Some(refused) = &state.refused {
            let new = u32::try_from(state.attempts - seen).unwrap_or(u32::MAX);
            wait.refusals = wait.refusals.saturating_add(new);
            wait.attempts_seen = Some(state.attempts);
            // A call that would not wait also fails if other calls caused the backoff.
            let is_backing_off = matches!(&state.phase, Phase::Idle(Some(until)) if *until > now);
            let refusals =
                if is_backing_off && !wait.is_repeated { wait.refusals.max(1) } else { wait.refusals };
            if refusals > 0 && refused.policy.fails(refusals, wait.policy) {
                return Found::Refused(Arc::clone(refused));
            }
            if refused.policy == RefusedPolicy::Busy && wait.policy == ReadyPolicy::Default {
                let limit = self.config.read_timeout();
                let until = *wait.busy_until.get_or_insert_with(|| after(now, limit));
                if now >= until {
                    return Found::Refused(Arc::clone(refused));
                }
            }
        }
        match &state.phase {
            Phase::Closed => Found::Closed,
            Phase::Idle(Some(instant)) if *instant > now => {
                Found::WaitUntil(wait.busy_until.map_or(*instant, |until| until.min(*instant)))
            }
            Phase::Idle(_) => {
                self.set(&mut state, Phase::Connecting);
                Found::Connect
            }
            Phase::Connecting | Phase::Ready(..) => Found::WaitForChange,
        }
    }

    fn ended(&self, result: Result<Arc<ClientConnection>, Refused>) {
        let mut state = lock(&self.state);
        state.attempts += 1;
        if !matches!(state.phase, Phase::Connecting) {
            drop(state);
            if let Ok(connection) = &result {
                connection.release();
            }
            return;
        }
        match result {
            Ok(connection) => {
                let was_connected = std::mem::replace(&mut state.was_connected, true);
                state.refused = None;
                self.set(&mut state, Phase::Ready(connection, Instant::now()));
                drop(state);
                if was_connected {
                    tracing::info!(endpoint = %self.endpoint, "connected again");
                } else {
                    tracing::debug!(endpoint = %self.endpoint, "connected");
                }
            }
            Err(refused) => {
                let error = Arc::clone(&refused.error);
                let wait = state.backoff.next(refused.retry_after_ms, random_unit());
                state.refused = Some(Arc::new(refused));
                self.set(&mut state, Phase::Idle(Some(after(Instant::now(), wait))));
                drop(state);
                tracing::debug!(endpoint = %self.endpoint, %error, "cannot connect");
            }
        }
    }

    /// The runtime of an attempt was dropped before the attempt ended. Other calls may have a runtime that stays.
    fn vanished(&self) {
        let mut state = lock(&self.state);
        if !matches!(state.phase, Phase::Connecting) {
            return;
        }
        state.vanished += 1;
        self.set(&mut state, Phase::Idle(None));
    }

    /// Gives up a connection. After a graceful farewell, the next one may be made at once.
    fn lose(&self, state: &mut State, connection: &Arc<ClientConnection>) -> Option<Lost> {
        let since = match &state.phase {
            Phase::Ready(current, since) if Arc::ptr_eq(current, connection) => *since,
            _ => return None,
        };
        let ((is_graceful, retry_after_ms), was_answered) =
            connection.link.peek(|core| (core.farewell(), core.take_was_answered()));
        if was_answered {
            state.backoff.reset();
        }
        let phase = if is_graceful && retry_after_ms == 0 {
            Phase::Idle(None)
        } else {
            let wait = state.backoff.after_loss(since.elapsed(), retry_after_ms, random_unit());
            Phase::Idle(Some(after(Instant::now(), wait)))
        };
        self.set(state, phase);
        Some(Lost { is_graceful })
    }

    /// Changes the phase and notifies everything that waits for a change.
    fn set(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        self.changed.send_replace(state.phase.public());
    }

    pub(crate) fn state(&self) -> ChannelState {
        *self.changed.borrow()
    }

    pub(crate) fn state_changes(&self) -> StateChanges {
        let receiver = self.changed.subscribe();
        let reported = *receiver.borrow();
        StateChanges { receiver, reported }
    }

    /// How many calls the server counts as open on the connection, and how many more it admits.
    pub(crate) fn places(&self) -> Option<(u32, u32)> {
        self.current().map(|connection| connection.places())
    }

    pub(crate) fn peer_info(&self) -> Option<PeerInfo> {
        self.current().map(|connection| connection.peer.clone())
    }

    pub(crate) fn close(&self) {
        let connection = self.current();
        self.set(&mut lock(&self.state), Phase::Closed);
        if let Some(connection) = connection {
            connection.release();
        }
    }

    fn closed(&self) -> IpcError {
        let words = io::Error::new(io::ErrorKind::NotConnected, "this channel has been closed");
        let failure = Failure {
            endpoint: Arc::clone(&self.endpoint),
            phase: "calling",
            cause: Arc::new(IpcError::Io(words)),
            remedy: "make a new channel",
            code: Code::Unavailable,
            request_sent: false,
        };
        failure.into_error(io::ErrorKind::NotConnected)
    }

    /// The error of a call that was not sent in time, although there was a connection. `admitted` says whether the server's
    /// limits left room for it.
    pub(crate) fn never_sent(&self, admitted: bool) -> IpcError {
        let (words, remedy) = if admitted {
            (
                "there was no time left to write it: the server reads slowly, or the runtime that drives the connection did \
                 not run",
                "nothing was sent; allow more time, and see that nothing blocks the threads of either",
            )
        } else {
            (
                "as many calls, or bytes, as the server admits at once were open",
                "nothing was sent; make fewer calls at once, raise the server's max_concurrent_calls or \
                 max_request_bytes, or allow more time",
            )
        };
        let cause = io::Error::new(io::ErrorKind::TimedOut, words);
        let phase = "the deadline passed before the request could be sent to";
        self.too_late(phase, Arc::new(IpcError::Io(cause)), remedy)
    }

    /// The error of whoever waited for a connection until its time was over.
    pub(crate) fn never_ready(&self, policy: ReadyPolicy) -> IpcError {
        let (refused, is_connected) = {
            let state = lock(&self.state);
            (state.refused.clone(), matches!(state.phase, Phase::Ready(..)))
        };
        let Some(refused) = refused.filter(|_| !is_connected) else {
            let words = io::Error::new(io::ErrorKind::TimedOut, "it was still being connected to");
            let remedy = "nothing was sent; allow more time";
            return self.too_late(WAITING_FOR, Arc::new(IpcError::Io(words)), remedy);
        };
        if refused.policy == RefusedPolicy::Busy && policy != ReadyPolicy::Wait {
            return refused.to_error(&self.endpoint);
        }
        let remedy = if refused.policy == RefusedPolicy::Busy {
            "nothing was sent; the server runs, but has no place yet: allow more time"
        } else {
            "nothing was sent; start the server or allow more time"
        };
        self.too_late(WAITING_FOR, Arc::clone(&refused.error), remedy)
    }

    fn too_late(&self, phase: &'static str, cause: Arc<IpcError>, remedy: &'static str) -> IpcError {
        let failure = Failure {
            endpoint: Arc::clone(&self.endpoint),
            phase,
            cause,
            remedy,
            code: Code::DeadlineExceeded,
            request_sent: false,
        };
        failure.into_error(io::ErrorKind::TimedOut)
    }

    /// When a call that was not processed is tried again.
    pub(crate) fn retry_at(&self) -> Instant {
        let mut state = lock(&self.state);
        let was_answered = match &state.phase {
            Phase::Ready(connection, _) => connection.link.peek(Connection::take_was_answered),
            Phase::Idle(_) | Phase::Connecting | Phase::Closed => false,
        };
        if was_answered {
            state.backoff.reset();
        }
        after(Instant::now(), state.backoff.next(0, random_unit()))
    }
}

/// How many attempts a call makes on a runtime that drops them at once.
const MAX_VANISHED: u32 = 2;

const WAITING_FOR: &str = "the deadline passed waiting for";

/// The instant `duration` later, at most a year.
pub(crate) fn after(instant: Instant, duration: Duration) -> Instant {
    Instant::from_std(later(instant.into_std(), duration))
}

/// One attempt to connect. It has its own task, because the calls that wait for it may be dropped. The channel is told when
/// the attempt ends, even if it was never polled.
struct Attempt {
    shared: Arc<Shared>,
    is_over: bool,
}

impl Attempt {
    fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), is_over: false }
    }

    async fn run(mut self) {
        let shared = &self.shared;
        let channel: Weak<dyn ConnectionOwner> = Arc::<Shared>::downgrade(shared);
        let result = connect::attempt(&shared.target, &shared.config, &shared.options, &channel).await;
        self.is_over = true;
        self.shared.ended(result);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if std::thread::panicking() {
            self.shared.ended(Err(Refused::panicked()));
        } else {
            self.shared.vanished();
        }
    }
}
