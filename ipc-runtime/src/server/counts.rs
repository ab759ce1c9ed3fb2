//! How many connections a server may have in each part of their life.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::places::Places;

/// Connections that have not said Hello yet; there may be this many, or `max_connections` if that is more.
const MIN_WAITING: usize = 16;

/// Refused connections that are told why. Above it they are simply closed.
const MAX_FAREWELLS: usize = 64;

/// Connections that have written everything and wait for the peer to read. Above it they are closed at once. Those that
/// still write count as served.
const MAX_ENDINGS: usize = 64;

/// Connections that nobody has looked at yet. While there are so many, no more are accepted. In a flood their tasks would
/// pile up otherwise, and those of served clients would have to wait behind them.
const MAX_NEWCOMERS: usize = 16;

/// How many there are of what a server has a limit for.
#[derive(Debug)]
pub(crate) struct Counts {
    newcomers: Arc<Semaphore>,
    pub(super) waiting: Arc<Places>,
    pub(super) serving: Arc<Places>,
    pub(super) endings: Arc<Places>,
    pub(super) farewells: Arc<Places>,
}

/// Held by a connection that nobody has looked at yet.
pub(crate) type Newcomer = OwnedSemaphorePermit;

impl Counts {
    /// `is_shared` says whether several users may connect.
    pub(super) fn new(max_connections: usize, is_shared: bool) -> Self {
        Self {
            newcomers: Arc::new(Semaphore::new(MAX_NEWCOMERS)),
            waiting: Places::new(MIN_WAITING.max(max_connections), is_shared),
            serving: Places::new(max_connections, is_shared),
            endings: Places::new(MAX_ENDINGS, is_shared),
            farewells: Places::new(MAX_FAREWELLS, is_shared),
        }
    }

    /// Waits until another connection may be accepted.
    pub(crate) async fn newcomer(&self) -> Option<Newcomer> {
        Arc::clone(&self.newcomers).acquire_owned().await.ok()
    }
}
