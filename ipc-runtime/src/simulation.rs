//! Simulates connections: both cores, a network between them that behaves badly, and users who do so, too.
//!
//! Everything that happens follows from one number, the seed, so whatever goes wrong can be replayed. No socket, thread
//! or timer is involved: time is a number that the simulation moves, and every lock-free moment of the real
//! `link` is an event of its own, between which anything else may happen.
//!
//! It is not part of the API: the feature `simulation` is for this repository's tests. What is checked all the time is in
//! `check` and in `protocol::inspect`; what is checked when a call ends is in `client` and `record`.

mod check;
mod client;
mod clock;
mod disturb;
mod ending;
mod fault;
mod handler;
mod lane;
mod link;
mod message;
mod pipe;
mod plan;
mod random;
mod record;
mod report;
mod sniffer;
mod task;
mod world;
mod writing;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use self::report::{Event, Report};
use self::world::World;

/// Runs one seed.
///
/// # Panics
///
/// If a rule was broken; the message names the seed.
#[must_use]
pub fn run(seed: u64) -> Report {
    match catch_unwind(AssertUnwindSafe(|| World::new(seed, None).run())) {
        Ok(report) => report,
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            panic!("seed {seed}: {words}");
        }
    }
}

/// Runs one seed, and says everything that happens.
///
/// # Panics
///
/// If a rule was broken.
pub fn replay(seed: u64, log: &mut dyn FnMut(&str)) -> Report {
    World::new(seed, Some(log)).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_is_broken_in_a_few_hundred_simulations() {
        let mut report = Report::default();
        for seed in 0..300 {
            report.add(&run(seed));
        }
        assert_eq!(report.seeds, 300);
    }

    #[test]
    fn a_seed_always_does_the_same() {
        let once = run(7).to_string();
        assert_eq!(run(7).to_string(), once);
    }
}
