//! The calls of one connection. Their slots are reused, but their keys are not.
//!
//! A key may outlive its call. It then finds nothing, and never another call.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Identifies one call of one connection, also after the call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallKey {
    slot: u32,
    /// Never used twice.
    serial: u64,
}

/// Values in slots, each with the serial number of its key.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: Vec<Option<(u64, T)>>,
    free: Vec<u32>,
    next_serial: u64,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), next_serial: 0 }
    }
}

impl<T> Table<T> {
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> CallKey {
        let serial = self.next_serial;
        self.next_serial += 1;
        if let Some(slot) = self.free.pop() {
            _ = self.slots[slot as usize].insert((serial, value));
            return CallKey { slot, serial };
        }
        // A connection with 2^32 calls open at once would need hundreds of gigabytes for them.
        let slot = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Some((serial, value)));
        CallKey { slot, serial }
    }

    /// Drops a value in its slot.
    pub(crate) fn remove(&mut self, key: CallKey) {
        const KEPT: usize = 1024;
        let Some(slot) = self.slots.get_mut(key.slot as usize) else { return };
        if slot.as_ref().is_none_or(|(serial, _)| *serial != key.serial) {
            return;
        }
        *slot = None;
        self.free.push(key.slot);
        if self.free.len() == self.slots.len() && self.slots.len() > KEPT {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }

    pub(crate) fn get(&self, key: CallKey) -> Option<&T> {
        let (serial, value) = self.slots.get(key.slot as usize)?.as_ref()?;
        (*serial == key.serial).then_some(value)
    }

    pub(crate) fn get_mut(&mut self, key: CallKey) -> Option<&mut T> {
        let (serial, value) = self.slots.get_mut(key.slot as usize)?.as_mut()?;
        (*serial == key.serial).then_some(value)
    }

    pub(crate) fn keys(&self) -> Vec<CallKey> {
        let key = |(slot, value): (usize, &Option<(u64, T)>)| {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            value.as_ref().map(|(serial, _)| CallKey { slot, serial: *serial })
        };
        self.slots.iter().enumerate().filter_map(key).collect()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.as_ref().map(|(_, value)| value))
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// Calls by their ids.
pub(crate) type ById = HashMap<u64, CallKey, BuildHasherDefault<IdHasher>>;

/// Spreads one number over all bits by Fibonacci hashing (2^64 divided by the golden ratio).
///
/// Ids rise one by one, so this spreads them well. A peer that chooses ids that collide only slows down its own connection,
/// and the number of calls in its table is limited.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_own_value_and_no_later_one() {
        let mut table = Table::default();
        let first = table.insert("first");
        table.remove(first);
        let second = table.insert("second");
        assert_eq!((first.slot, table.get(first)), (second.slot, None));
        table.remove(first);
        assert_eq!((table.get(second), table.len()), (Some(&"second"), 1));
    }
}
