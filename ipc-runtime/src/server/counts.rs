//! How many connections a server may have in each part of their life.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::places::Places;

/// How many connections may not have said Hello yet. The limit is this, or `max_connections` if that is more.
const MIN_WAITING: usize = 16;

/// How many refused connections are told why at the same time. Further ones are closed without a `GoAway`.
const MAX_FAREWELLS: usize = 64;

/// How many connections that have written everything may wait for the peer to read. Further ones are closed at once. A
/// connection that still writes counts as served.
const MAX_ENDINGS: usize = 64;

/// How many accepted connections may wait to be handled. While there are this many, no more are accepted. Otherwise the
/// tasks of a flood of connections would delay those of served clients.
const MAX_NEWCOMERS: usize = 16;

/// The counts for a server's limits.
#[derive(Debug)]
pub(crate) struct Counts {
    newcomers: Arc<Semaphore>,
    pub(super) waiting: Arc<Places>,
    pub(super) serving: Arc<Places>,
    pub(super) endings: Arc<Places>,
    pub(super) farewells: Arc<Places>,
}

/// Held by an accepted connection that waits to be handled.
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

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::super::places::User;
    use super::*;

    #[tokio::test]
    async fn so_many_connections_may_be_in_each_part_of_their_life_and_no_more() {
        for (max_connections, waiting) in [(2, 16), (100, 100)] {
            let counts = Counts::new(max_connections, false);
            let limits = [
                (&counts.waiting, waiting),
                (&counts.serving, max_connections),
                (&counts.endings, 64),
                (&counts.farewells, 64),
            ];
            for (places, limit) in limits {
                let user: User = Some(1);
                let taken: Vec<_> = std::iter::from_fn(|| places.take(user)).collect();
                assert_eq!(taken.len(), limit);
            }
            let mut newcomers = Vec::new();
            for _ in 0..16 {
                newcomers.push(counts.newcomer().await);
            }
            let mut next = std::pin::pin!(counts.newcomer());
            assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            newcomers.pop();
            assert!(next.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
    }
}
