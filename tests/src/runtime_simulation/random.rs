//! Random numbers from one seed: `SplitMix64`. The same seed gives the same numbers on every machine.

/// A sequence of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5851_f42d_4c95_7f2d))
    }

    /// A sequence of its own, so that what one part of the simulation draws does not change what another does.
    pub(super) const fn fork(&mut self) -> Self {
        Self(mix(self.next()))
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`; 0 where that is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// So many milliseconds, both included.
    pub(super) fn millis(&mut self, low: usize, high: usize) -> std::time::Duration {
        std::time::Duration::from_millis(self.between(low, high) as u64)
    }

    /// True in so many of a thousand cases.
    pub(super) fn chance(&mut self, per_mille: usize) -> bool {
        self.below(1000) < per_mille
    }

    /// One of several.
    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
