//! Round-trip times: [`sequential`] and [`concurrent`] make calls and measure each.
//!
//! It must not know what is called.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

/// The times of a number of calls.
#[derive(Debug)]
pub struct Latency {
    nanos: Histogram<u64>,
    elapsed: Duration,
    bytes: u64,
}

impl Latency {
    fn empty() -> Self {
        Self { nanos: histogram(), elapsed: Duration::ZERO, bytes: 0 }
    }

    /// The time that this share of the calls stayed within; 0.5 is the median.
    #[must_use]
    pub fn at(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.nanos.value_at_quantile(quantile))
    }

    /// How many calls were measured.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.nanos.len()
    }

    /// How many calls ended in a second of the measurement.
    #[must_use]
    pub fn calls_per_second(&self) -> u64 {
        per_second(self.calls(), self.elapsed)
    }

    /// How many payload bytes came back in a second of the measurement.
    #[must_use]
    pub fn bytes_per_second(&self) -> u64 {
        per_second(self.bytes, self.elapsed)
    }
}

/// Three significant digits, up to a minute; a slower call counts as one of a minute.
fn histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, 60_000_000_000, 3) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("constant bounds are valid: {error}"),
    }
}

fn per_second(number: u64, elapsed: Duration) -> u64 {
    let nanos = elapsed.as_nanos().max(1);
    u64::try_from(u128::from(number) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// Makes `calls` calls one after another; `call` gives how many payload bytes came back, and
/// `progress` hears of each.
///
/// # Errors
///
/// The first call's that fails.
pub async fn sequential<E, F>(calls: u64, call: F, progress: impl Fn()) -> Result<Latency, E>
where
    F: AsyncFn() -> Result<usize, E>,
{
    let mut latency = Latency::empty();
    let start = Instant::now();
    for _ in 0..calls {
        let begun = Instant::now();
        latency.bytes += call().await? as u64;
        latency.nanos.saturating_record(nanos(begun.elapsed()));
        progress();
    }
    latency.elapsed = start.elapsed();
    Ok(latency)
}

/// Makes `calls` calls with `at_once` of them at a time.
///
/// # Errors
///
/// The first call's that fails; the others are dropped.
pub async fn concurrent<E, F, Fut>(calls: u64, at_once: u64, call: F) -> Result<Latency, E>
where
    E: Send + 'static,
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<usize, E>> + Send,
{
    let mut callers = JoinSet::new();
    let start = Instant::now();
    for caller in 0..at_once {
        let call = call.clone();
        let share = calls / at_once + u64::from(caller < calls % at_once);
        callers.spawn(async move {
            let mut latency = Latency::empty();
            for _ in 0..share {
                let begun = Instant::now();
                latency.bytes += call().await? as u64;
                latency.nanos.saturating_record(nanos(begun.elapsed()));
            }
            Ok(latency)
        });
    }
    let mut sum = Latency::empty();
    while let Some(joined) = callers.join_next().await {
        let latency = match joined {
            Ok(outcome) => outcome?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        sum.bytes += latency.bytes;
        if let Err(error) = sum.nanos.add(&latency.nanos) {
            unreachable!("equal bounds add up: {error}");
        }
    }
    sum.elapsed = start.elapsed();
    Ok(sum)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn every_call_is_counted_once() {
        let seen = Cell::new(0);
        let latency = sequential(10, async || Ok::<_, ()>(3), || seen.set(seen.get() + 1)).await.unwrap();
        assert_eq!((latency.calls(), latency.bytes, seen.get()), (10, 30, 10));

        let made = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&made);
        let call = move || {
            counter.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok::<_, ()>(2))
        };
        let latency = concurrent(10, 4, call).await.unwrap();
        assert_eq!((latency.calls(), latency.bytes, made.load(Ordering::Relaxed)), (10, 20, 10));
    }

    #[tokio::test]
    async fn the_first_failure_ends_the_measurement() {
        let made = Cell::new(0);
        let call = async || {
            made.set(made.get() + 1);
            if made.get() == 3 { Err("third") } else { Ok(0) }
        };
        assert_eq!(sequential(10, call, || ()).await.unwrap_err(), "third");
        assert_eq!(made.get(), 3);
        assert_eq!(
            concurrent(10, 2, || std::future::ready(Err::<usize, _>("any"))).await.unwrap_err(),
            "any"
        );
    }

    #[test]
    fn rates_are_by_the_time_of_all_calls_together() {
        let mut latency = Latency { elapsed: Duration::from_millis(500), bytes: 4096, ..Latency::empty() };
        for nanos in 1..=100 {
            latency.nanos.record(nanos).unwrap();
        }
        assert_eq!((latency.calls_per_second(), latency.bytes_per_second()), (200, 8192));
        assert_eq!(latency.at(0.5), Duration::from_nanos(50));
        assert_eq!(latency.at(1.0), Duration::from_nanos(100));
    }
}
