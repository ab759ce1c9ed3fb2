//! The state behind a channel: which connection it has, who waits for one, when the next is tried.
//!
//! It owns the current connection, makes one when it is needed, and waits out the backoff. What is called over
//! it, and what is repeated, is in [`invoke`](super::invoke).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::Instant;

use super::builder::ChannelOptions;
use super::calls::ClientConnection;
use super::reconnect::{self, Backoff, Refused, Target};
use super::state::{ChannelState, StateChanges};
use crate::background;
use crate::config::IpcConfig;
use crate::connection::writer::lock;
use crate::error::{Failure, IpcError};
use crate::peer::PeerInfo;
use crate::status::Code;

/// What a channel shares with its connection's driver and its connect task.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: IpcConfig,
    pub(crate) options: ChannelOptions,
    pub(crate) endpoint: Arc<str>,
    target: Target,
    state: Mutex<State>,
    changed: watch::Sender<ChannelState>,
    /// A call has been answered since the backoff last grew.
    pub(super) answered: Arc<AtomicBool>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    backoff: Backoff,
    /// Attempts that have ended, and how the last did if it failed.
    attempts: u64,
    refused: Option<Arc<Refused>>,
}

#[derive(Debug)]
enum Phase {
    /// No connection; none is made before the instant, if there is one.
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
    WaitForChange,
    WaitUntil(Instant),
}

/// How a call asks for a connection.
#[derive(Debug)]
pub(crate) struct Wish {
    /// Waits for a server that can't be reached.
    pub(crate) wait_for_ready: bool,
    /// Has been tried on a connection before: it waits out a backoff before its one attempt.
    pub(crate) again: bool,
    attempts_seen: Option<u64>,
}

impl Wish {
    pub(crate) const fn new(wait_for_ready: bool) -> Self {
        Self { wait_for_ready, again: false, attempts_seen: None }
    }

    pub(crate) const fn again(&mut self) {
        self.again = true;
        self.attempts_seen = None;
    }
}

impl Shared {
    pub(super) fn new(config: IpcConfig, options: ChannelOptions, target: Target) -> Self {
        let state =
            State { phase: Phase::Idle(None), backoff: Backoff::default(), attempts: 0, refused: None };
        let changed = watch::Sender::new(state.phase.public());
        Self {
            endpoint: target.name(),
            target,
            config,
            options,
            state: Mutex::new(state),
            changed,
            answered: Arc::default(),
        }
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
    /// Why there is none, as far as `wish` does not wait for a better time.
    pub(crate) async fn ready(self: &Arc<Self>, wish: &mut Wish) -> Result<Arc<ClientConnection>, IpcError> {
        if let Found::Ready(connection) = self.find(wish) {
            return Ok(connection);
        }
        loop {
            let mut changes = self.changed.subscribe();
            match self.find(wish) {
                Found::Ready(connection) => return Ok(connection),
                Found::Refused(refused) => return Err(refused.to_error(&self.endpoint)),
                Found::Closed => return Err(self.closed()),
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

    /// The connection, if there is one.
    pub(crate) fn current(&self) -> Option<Arc<ClientConnection>> {
        match &lock(&self.state).phase {
            Phase::Ready(connection, _) => Some(Arc::clone(connection)),
            _ => None,
        }
    }

    fn find(self: &Arc<Self>, wish: &mut Wish) -> Found {
        let mut state = lock(&self.state);
        let seen = *wish.attempts_seen.get_or_insert(state.attempts);
        if let Phase::Ready(connection, _) = &state.phase {
            // A closed one is about to be reported lost by its driver.
            return if connection.is_open() {
                Found::Ready(Arc::clone(connection))
            } else {
                Found::WaitForChange
            };
        }
        let failed = state.refused.clone().filter(|refused| {
            let tried = state.attempts > seen;
            tried && (refused.fatal || !wish.wait_for_ready)
        });
        match (&state.phase, failed) {
            (Phase::Closed, _) => Found::Closed,
            (_, Some(refused)) => Found::Refused(refused),
            (Phase::Idle(Some(instant)), None) if *instant > Instant::now() => match state.refused.clone() {
                Some(refused) if !wish.wait_for_ready && !wish.again => Found::Refused(refused),
                _ => Found::WaitUntil(*instant),
            },
            (Phase::Idle(_), None) => {
                self.set(&mut state, Phase::Connecting);
                background::spawn(Arc::clone(self).connect());
                Found::WaitForChange
            }
            _ => Found::WaitForChange,
        }
    }

    /// One attempt, in a task of its own: the calls that wait for it may be dropped meanwhile.
    async fn connect(self: Arc<Self>) {
        let attempt = Attempt { shared: &self };
        let channel = Arc::downgrade(&self);
        let result = reconnect::attempt(&self.target, &self.config, &self.options, &channel).await;
        attempt.finish(result);
    }

    fn ended(self: &Arc<Self>, result: Result<Arc<ClientConnection>, Refused>) {
        let mut state = lock(&self.state);
        state.attempts += 1;
        if let (Phase::Closed, Ok(connection)) = (&state.phase, &result) {
            connection.release();
        }
        if !matches!(state.phase, Phase::Connecting) {
            return;
        }
        match result {
            Ok(connection) => {
                tracing::debug!(endpoint = %self.endpoint, "connected");
                state.refused = None;
                self.set(&mut state, Phase::Ready(connection, Instant::now()));
            }
            Err(refused) => {
                tracing::debug!(endpoint = %self.endpoint, error = %refused.error, "cannot connect");
                let next = self.backoff(&mut state).next(refused.retry_after_ms);
                state.refused = Some(Arc::new(refused));
                self.set(&mut state, Phase::Idle(Some(next)));
            }
        }
    }

    /// The backoff, which an answer since it was last asked for has started over.
    fn backoff<'a>(&self, state: &'a mut State) -> &'a mut Backoff {
        if self.answered.swap(false, Ordering::Relaxed) {
            state.backoff.reset();
        }
        &mut state.backoff
    }

    /// `connection` takes no calls any more. After a graceful farewell the next is made at once.
    pub(crate) fn on_lost(
        &self,
        connection: &Arc<ClientConnection>,
        graceful: bool,
        retry_after_ms: u32,
        cause: &Arc<IpcError>,
    ) {
        let mut state = lock(&self.state);
        let since = match &state.phase {
            Phase::Ready(current, since) if Arc::ptr_eq(current, connection) => *since,
            _ => return,
        };
        tracing::debug!(endpoint = %self.endpoint, graceful, %cause, "connection lost");
        let phase = if graceful && retry_after_ms == 0 {
            Phase::Idle(None)
        } else {
            Phase::Idle(Some(self.backoff(&mut state).after_loss(since, retry_after_ms)))
        };
        self.set(&mut state, phase);
    }

    /// Changes the phase and tells everybody who waits for that.
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

    pub(crate) fn tables(&self) -> Option<(usize, usize)> {
        match &lock(&self.state).phase {
            Phase::Ready(connection, _) => Some(connection.tables()),
            _ => None,
        }
    }

    pub(crate) fn peer_info(&self) -> Option<PeerInfo> {
        match &lock(&self.state).phase {
            Phase::Ready(connection, _) => Some(connection.peer.clone()),
            _ => None,
        }
    }

    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        if let Phase::Ready(connection, _) = &state.phase {
            connection.release();
        }
        self.set(&mut state, Phase::Closed);
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

    /// The error of whoever waited for a connection until its time was over.
    pub(crate) fn never_ready(&self) -> IpcError {
        let words = "it was still being connected to, or all its call slots were taken";
        let refused = lock(&self.state).refused.clone();
        let cause = refused.map_or_else(
            || Arc::new(IpcError::Io(io::Error::new(io::ErrorKind::TimedOut, words))),
            |refused| Arc::clone(&refused.error),
        );
        let failure = Failure {
            endpoint: Arc::clone(&self.endpoint),
            phase: "the deadline passed waiting for",
            cause,
            remedy: "nothing was sent; start the server or allow more time",
            code: Code::DeadlineExceeded,
            request_sent: false,
        };
        failure.into_error(io::ErrorKind::TimedOut)
    }

    /// How long a call that was not processed waits before it is tried again.
    pub(crate) fn retry_at(&self) -> Instant {
        self.backoff(&mut lock(&self.state)).next(0)
    }
}

/// Ends the attempt even if its task is dropped with the runtime, so that nobody waits for it for ever.
struct Attempt<'a> {
    shared: &'a Arc<Shared>,
}

impl Attempt<'_> {
    fn finish(self, result: Result<Arc<ClientConnection>, Refused>) {
        self.shared.ended(result);
        std::mem::forget(self);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        if matches!(state.phase, Phase::Connecting) {
            self.shared.set(&mut state, Phase::Idle(None));
        }
    }
}
