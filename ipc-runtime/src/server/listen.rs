//! A server that listens: it accepts connections, and at its end says farewell, gives calls time to finish, and cuts them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use super::accept;
use super::core::Core;
use super::counts::Newcomer;
use crate::endpoint::Place;
use crate::error::IpcError;
use crate::transport::{ByteStream, Listener};

/// How long accepting pauses if the system can't accept another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a server ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// How many calls did not end within the drain timeout, and were ended with `UNAVAILABLE`.
    pub calls_cut: usize,
}

/// Where a server's connections come from.
#[derive(Debug)]
pub(crate) enum Source {
    Socket(Listener),
    #[cfg(feature = "simulation-hooks")]
    Simulated(crate::simulation_hooks::Arriving),
}

impl Source {
    async fn accept(&self) -> std::io::Result<ByteStream> {
        match self {
            Self::Socket(listener) => listener.accept().await,
            #[cfg(feature = "simulation-hooks")]
            Self::Simulated(arriving) => arriving.accept().await,
        }
    }
}

/// A server that listens. Clients can already connect. Their calls are answered while it serves.
#[derive(Debug)]
pub struct Server {
    pub(super) core: Arc<Core>,
    pub(super) listener: Source,
    // Dropped after the listener: the socket file goes when nobody listens on it.
    pub(super) _place: Option<Place>,
}

impl Server {
    /// A server whose streams come from the simulation.
    #[cfg(feature = "simulation-hooks")]
    pub(crate) const fn simulated(core: Arc<Core>, arriving: crate::simulation_hooks::Arriving) -> Self {
        Self { core, listener: Source::Simulated(arriving), _place: None }
    }

    pub(crate) const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The path or pipe name on which the server listens.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.core.config.endpoint_path
    }

    /// Serves until the future is dropped. Then all connections are closed and their handlers are dropped.
    ///
    /// # Errors
    ///
    /// None at present. If accepting a connection fails, the error is logged and the server tries again.
    pub async fn serve(self) -> Result<Shutdown, IpcError> {
        self.serve_with_shutdown(std::future::pending::<()>()).await
    }

    /// Serves until `signal` is ready, and then shuts down. Clients are told that the server goes away. Running calls may
    /// end within the drain timeout. New connections are refused with `UNAVAILABLE`.
    ///
    /// A handler that streams without end delays the shutdown for the whole drain timeout, and its call is then ended. To
    /// avoid this, let it watch the same signal and end its stream.
    ///
    /// # Errors
    ///
    /// Like [`serve`](Self::serve).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, all connections are closed and their handlers are dropped.
    pub async fn serve_with_shutdown(self, signal: impl Future) -> Result<Shutdown, IpcError> {
        let mut connections = JoinSet::new();
        {
            let accepting = self.accept_into(&mut connections);
            tokio::pin!(accepting);
            tokio::pin!(signal);
            tokio::select! {
                never = &mut accepting => match never {},
                _ = signal => {}
            }
        }
        Ok(self.shut_down(connections).await)
    }

    async fn next(&self) -> (Option<Newcomer>, std::io::Result<ByteStream>) {
        (self.core.counts.newcomer().await, self.listener.accept().await)
    }

    /// Accepts for ever, and removes connections that have finished.
    async fn accept_into(&self, connections: &mut JoinSet<()>) -> std::convert::Infallible {
        loop {
            tokio::select! {
                (newcomer, accepted) = self.next() => match accepted {
                    Ok(stream) => {
                        connections.spawn(accept::serve(Arc::clone(&self.core), stream, newcomer));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection; pausing");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(joined) = connections.join_next() => forget(joined),
            }
        }
    }

    async fn shut_down(self, mut connections: JoinSet<()>) -> Shutdown {
        self.core.begin_draining();
        let draining = self.core.connections();
        tracing::info!(connections = draining.len(), "shutting down");
        for connection in &draining {
            connection.drain();
        }
        let grace =
            tokio::time::timeout(self.core.options.drain_timeout, self.drained(&mut connections)).await;
        let mut shutdown = Shutdown::default();
        if grace.is_err() {
            shutdown.calls_cut = self.core.connections().iter().map(|connection| connection.cut()).sum();
            tracing::warn!(calls = shutdown.calls_cut, "the drain timeout is over; calls were cut");
        }
        drop(draining);
        // Their last words are written within a bounded time; nobody new is greeted any more.
        drop(self);
        while let Some(joined) = connections.join_next().await {
            forget(joined);
        }
        shutdown
    }

    /// Refuses new connections until the last connection has ended.
    async fn drained(&self, connections: &mut JoinSet<()>) {
        while !self.core.connections().is_empty() {
            let accepting = self.accept_into(connections);
            tokio::select! {
                never = accepting => match never {},
                () = self.core.one_left() => {}
            }
        }
    }
}

/// A connection's task has ended. What a rule panicked with may panic in turn when it is dropped, and must not end the server.
fn forget(joined: Result<(), JoinError>) {
    let Some(payload) = joined.err().and_then(|error| error.try_into_panic().ok()) else { return };
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
}
