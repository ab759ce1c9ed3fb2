//! The end of a server: farewells, a time to finish, and the cut.

use tokio::task::JoinSet;

use super::Server;

/// How a server came to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Calls that had not ended within the drain timeout and were ended with `UNAVAILABLE`.
    pub calls_cut: usize,
}

impl Server {
    pub(super) async fn shut_down(self, mut connections: JoinSet<()>) -> Shutdown {
        self.core.draining.send_replace(true);
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
                () = self.core.one_left.notified() => {}
            }
        }
    }
}
