//! Tables by call id.
//!
//! Ids rise one by one, so a multiplication spreads them well. A peer that chose them to collide would slow down its own
//! connection alone, whose table holds no more calls than its limit.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Calls by their ids.
pub(crate) type ById<T> = HashMap<u64, T, BuildHasherDefault<IdHasher>>;

/// Spreads one number over all bits by Fibonacci hashing (2^64 divided by the golden ratio).
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
