//! The memory of decoded requests: a budget for each connection, and one for all connections together.
//!
//! A request is charged before it is decoded, until its call ends. A message of a streamed request is charged until the
//! handler asks for the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::status::Status;

/// The budget that all connections of a server share.
#[derive(Clone, Debug)]
pub(super) struct TotalBudget {
    total: Arc<Account>,
    per_connection: u64,
}

#[derive(Debug)]
struct Account {
    limit: u64,
    used: AtomicU64,
}

/// One connection's budget.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    own: Arc<Account>,
    total: Arc<Account>,
}

/// An amount taken from a budget until this is dropped. Most calls take none.
#[derive(Debug)]
pub(crate) struct Charge(Option<Box<(Budget, u64)>>);

impl TotalBudget {
    pub(super) fn new(per_connection: u64, total: u64) -> Self {
        Self { total: Arc::new(Account::new(total)), per_connection }
    }

    pub(super) fn of_connection(&self) -> Budget {
        Budget { own: Arc::new(Account::new(self.per_connection)), total: Arc::clone(&self.total) }
    }
}

impl Account {
    const fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    /// Takes the amount if it fits. Any amount fits if nothing is used.
    fn take(&self, amount: u64) -> bool {
        let fits = |used: u64| {
            let sum = used.saturating_add(amount);
            (used == 0 || sum <= self.limit).then_some(sum)
        };
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }

    fn give_back(&self, amount: u64) {
        self.used.fetch_sub(amount, Ordering::AcqRel);
    }
}

impl Charge {
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED`: the budget is used up, and nothing was taken.
    pub(crate) fn take(budget: &Budget, amount: u64) -> Result<Self, Status> {
        // Most requests are this small, so most calls are not charged.
        const FREE: u64 = 32 * 1024;
        if amount <= FREE {
            return Ok(Self(None));
        }
        if !budget.own.take(amount) {
            return Err(exhausted("connection", &budget.own));
        }
        if !budget.total.take(amount) {
            budget.own.give_back(amount);
            return Err(exhausted("server", &budget.total));
        }
        Ok(Self(Some(Box::new((budget.clone(), amount)))))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(charge) = &self.0 {
            let (budget, amount) = &**charge;
            budget.own.give_back(*amount);
            budget.total.give_back(*amount);
        }
    }
}

fn exhausted(whose: &str, account: &Account) -> Status {
    Status::resource_exhausted(format!(
        "the requests of this {whose} may take more than {} bytes once they are decoded (max_decoded_bytes); \
         send fewer at once, or less in one message",
        account.limit
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_given_back_and_one_always_fits() {
        let total = TotalBudget::new(100_000, 150_000);
        let (one, other) = (total.of_connection(), total.of_connection());
        let alone = Charge::take(&one, 1_000_000).unwrap();
        assert!(Charge::take(&one, 40_000).is_err());
        assert!(Charge::take(&other, 40_000).is_err(), "the total is used up");
        drop(alone);
        let first = Charge::take(&one, 60_001).unwrap();
        assert!(Charge::take(&one, 40_001).is_err());
        let second = Charge::take(&other, 70_000).unwrap();
        assert!(Charge::take(&other, 40_000).is_err());
        drop((first, second));
        assert_eq!((one.own.used.load(Ordering::Relaxed), one.total.used.load(Ordering::Relaxed)), (0, 0));
    }
}
