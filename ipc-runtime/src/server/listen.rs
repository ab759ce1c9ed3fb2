//! A server that listens: it accepts connections, and at its end says farewell, gives calls time to finish, and cuts them.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::accept;
use super::core::Core;
use super::counts::Newcomer;
use crate::endpoint::Place;
use crate::error::IpcError;
use crate::transport::{ByteStream, Listener};

/// How long accepting pauses when the system can't give another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a server came to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Calls that had not ended within the drain timeout and were ended with `UNAVAILABLE`.
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

/// A server that listens. Clients can connect already; their calls are answered while it serves.
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

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.core.config.endpoint_path
    }

    /// Serves until the future is dropped. All connections are closed then, and their handlers dropped.
    ///
    /// # Errors
    ///
    /// None so far: what accepting a connection reports is logged and tried again.
    pub async fn serve(self) -> Result<Shutdown, IpcError> {
        self.serve_with_shutdown(std::future::pending::<()>()).await
    }

    /// Serves until `signal` is ready, then shuts down: clients are told to go, calls that run may end within the
    /// drain timeout, new connections are refused with `UNAVAILABLE`.
    ///
    /// A handler that streams without end holds the shutdown up for the whole drain timeout and is then cut: have it
    /// watch the same signal and end its stream.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, all connections are closed and their handlers dropped.
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

    /// Accepts for ever; finished connections are cleared away meanwhile.
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
                Some(_) = connections.join_next() => {}
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
        while connections.join_next().await.is_some() {}
        shutdown
    }

    /// Refuses who comes until the last connection has gone.
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
