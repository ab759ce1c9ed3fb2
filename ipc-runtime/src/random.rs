//! Random numbers for jitter and instance ids: nothing that must not be guessed.

use std::hash::{BuildHasher, RandomState};

/// A random number, from the keys that the standard library draws for its hash tables.
pub(crate) fn random() -> u64 {
    #[cfg(feature = "simulation-hooks")]
    if let Some(number) = crate::simulation_hooks::seeded() {
        return number;
    }
    RandomState::new().hash_one(0_u8)
}

/// A random number between 0 and 1.
pub(crate) fn random_unit() -> f64 {
    let number = u32::try_from(random() >> 32).unwrap_or(u32::MAX);
    f64::from(number) / f64::from(u32::MAX)
}
