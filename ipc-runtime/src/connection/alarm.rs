//! When a connection's driver must look at its calls' deadlines: one timer for all of them.
//!
//! It knows one instant. Whose deadline that is, the tables of calls know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

const NEVER: u64 = u64::MAX;

/// The earliest deadline there may be. It is changed under the lock of the table that the deadlines are in.
#[derive(Debug)]
pub(crate) struct Alarm {
    base: Instant,
    /// Nanoseconds after the base.
    at: AtomicU64,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { base: Instant::now(), at: AtomicU64::new(NEVER) }
    }

    /// Makes sure that the driver looks by then; `true` if it must be woken for that.
    ///
    /// A call that ends in time leaves its alarm behind, so that calls with equal timeouts wake nobody.
    #[must_use]
    pub(crate) fn set(&self, deadline: Option<Instant>) -> bool {
        let at = self.nanos(deadline);
        let sooner = at < self.at.load(Ordering::Relaxed);
        if sooner {
            self.at.store(at, Ordering::Relaxed);
        }
        sooner
    }

    /// Sets it to the earliest of these deadlines, which are all there are.
    pub(crate) fn reset(&self, deadline: Option<Instant>) {
        self.at.store(self.nanos(deadline), Ordering::Relaxed);
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        at != NEVER && now >= self.base + Duration::from_nanos(at)
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        let at = self.at.load(Ordering::Relaxed);
        (at != NEVER).then(|| self.base + Duration::from_nanos(at))
    }

    fn nanos(&self, deadline: Option<Instant>) -> u64 {
        let after = |deadline: Instant| deadline.saturating_duration_since(self.base).as_nanos();
        deadline.map_or(NEVER, |deadline| u64::try_from(after(deadline)).unwrap_or(NEVER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_deadline_wakes_the_driver() {
        let alarm = Alarm::new();
        let at = |millis| Some(alarm.base + Duration::from_millis(millis));
        assert!(!alarm.set(None));
        assert!(alarm.set(at(20)));
        assert!(!alarm.set(at(20)));
        assert!(!alarm.set(at(30)));
        assert!(alarm.set(at(10)));
        assert_eq!(alarm.due(), at(10));
        assert!(!alarm.is_due(alarm.base + Duration::from_nanos(9_999_999)));
        assert!(alarm.is_due(alarm.base + Duration::from_millis(10)));
        alarm.reset(None);
        assert_eq!(alarm.due(), None);
        assert!(!alarm.is_due(alarm.base + Duration::from_secs(1)));
    }
}
