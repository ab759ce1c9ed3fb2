//! What decoded requests may take in memory: a budget for each connection, and one for all of them together.
//!
//! A request is charged before it is decoded, until its call ends. Each message of a streamed request is charged until the
//! handler asks for the next.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::status::Status;

/// Budgets count in units of so many bytes.
const UNIT: u64 = 1024;

/// Requests up to this are not charged: most calls are that, and they are cheap to hold.
const FREE: u64 = 32 * 1024;

/// The budget that all connections of a server share.
#[derive(Clone, Debug)]
pub(super) struct TotalBudget {
    total: Account,
    per_connection: u64,
}

/// Those who wait for room get it in their order.
#[derive(Clone, Debug)]
struct Account {
    limit: u64,
    units: u32,
    room: Arc<Semaphore>,
}

/// One connection's budget.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    own: Account,
    total: Account,
}

/// A part of a budget, which is in use until this is dropped. Most calls use none.
#[derive(Debug)]
pub(crate) struct Charge {
    _permits: Option<Box<[OwnedSemaphorePermit; 2]>>,
}

impl TotalBudget {
    pub(super) fn new(per_connection: u64, total: u64) -> Self {
        Self { total: Account::new(total), per_connection }
    }

    pub(super) fn of_connection(&self) -> Budget {
        Budget { own: Account::new(self.per_connection), total: self.total.clone() }
    }
}

impl Account {
    fn new(limit: u64) -> Self {
        let units = u32::try_from((limit / UNIT).max(1)).unwrap_or(u32::MAX);
        let permits =
            usize::try_from(units).map_or(Semaphore::MAX_PERMITS, |units| units.min(Semaphore::MAX_PERMITS));
        Self { limit, units, room: Arc::new(Semaphore::new(permits)) }
    }

    /// How many units an amount is. One amount always fits an account of which nothing is used.
    fn units(&self, amount: u64) -> u32 {
        u32::try_from(amount.div_ceil(UNIT)).map_or(self.units, |units| units.min(self.units))
    }

    fn take(&self, amount: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_many_owned(self.units(amount)).ok()
    }

    async fn wait(&self, amount: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).acquire_many_owned(self.units(amount)).await.ok()
    }
}

impl Charge {
    /// Charges nothing.
    pub(crate) const fn none() -> Self {
        Self { _permits: None }
    }

    /// `None` where the budget has no room now.
    pub(crate) fn take(budget: &Budget, amount: u64) -> Option<Self> {
        if amount <= FREE {
            return Some(Self::none());
        }
        let permits = Box::new([budget.own.take(amount)?, budget.total.take(amount)?]);
        Some(Self { _permits: Some(permits) })
    }

    /// Waits until the budget has room, for so long at most: whoever has it may wait for the one who waits here.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED`: nothing was taken.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing is taken.
    pub(crate) async fn wait(budget: Budget, amount: u64, time: Duration) -> Result<Self, Status> {
        let permits =
            async { Some(Box::new([budget.own.wait(amount).await?, budget.total.wait(amount).await?])) };
        let words = || {
            Status::resource_exhausted(format!(
                "the requests of this connection may take {} bytes once they are decoded, those of all connections {} \
                 (max_decoded_bytes), and that was in use for {} ms; send fewer at once, or less in one message",
                budget.own.limit,
                budget.total.limit,
                time.as_millis()
            ))
        };
        match tokio::time::timeout(time, permits).await {
            Ok(Some(permits)) => Ok(Self { _permits: Some(permits) }),
            Ok(None) | Err(_) => Err(words()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_given_back_and_one_always_fits() {
        let total = TotalBudget::new(100_000, 150_000);
        let (one, other) = (total.of_connection(), total.of_connection());
        let alone = Charge::take(&one, 1_000_000).unwrap();
        assert!(Charge::take(&one, 40_000).is_none());
        drop(alone);
        let first = Charge::take(&one, 60_001).unwrap();
        assert!(Charge::take(&one, 40_001).is_none());
        let second = Charge::take(&other, 70_000).unwrap();
        assert!(Charge::take(&other, 40_000).is_none());
        drop((first, second));
        let left = [&one.own, &one.total].map(|account| account.room.available_permits());
        assert_eq!(left, [one.own.units, one.total.units].map(|units| units as usize));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_gets_it_in_turn_or_hears_that_there_is_none() {
        let budget = TotalBudget::new(100_000, 150_000).of_connection();
        let time = Duration::from_secs(10);
        let held = Charge::take(&budget, 60_000).unwrap();
        let first = tokio::spawn(Charge::wait(budget.clone(), 90_000, time));
        let second = tokio::spawn(Charge::wait(budget.clone(), 40_000, time));
        tokio::task::yield_now().await;
        drop(held);
        let first = first.await.unwrap().unwrap();
        assert!(!second.is_finished());
        drop(first);
        drop(second.await.unwrap().unwrap());
        let _held = Charge::take(&budget, 1_000_000).unwrap();
        let began = tokio::time::Instant::now();
        Charge::wait(budget, 40_000, time).await.unwrap_err();
        assert_eq!(began.elapsed(), time);
    }
}
