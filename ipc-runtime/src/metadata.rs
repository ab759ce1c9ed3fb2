//! [`Metadata`]: the key-value pairs that travel beside requests and responses.
//!
//! Keys may repeat and keep their order. Values are any bytes. This module must not know how they are framed.

use std::fmt;

use bytes::Bytes;

use crate::text::ByteStr;

/// Ordered key-value pairs beside a request, a response or an error.
///
/// Keys consist of `a`–`z`, `0`–`9`, `_`, `-` and `.`. They may repeat, and keep their order. Values are any
/// bytes. Metadata counts towards the frame that carries it, and so towards `max_frame_bytes`.
///
/// The metadata of one kind (request, headers or trailers) may count at most 64 KiB. Each pair counts key + value + 32
/// bytes. Beyond that, the call fails with `RESOURCE_EXHAUSTED`. If a client's request has too much, nothing is sent. If a
/// handler's response has too much, the client gets the error in its place. If a handler fails with a
/// [`Status`](crate::Status) that has too much, the client gets the status without metadata.
///
/// ```
/// use ipc_runtime::Metadata;
///
/// # fn main() -> Result<(), ipc_runtime::IpcError> {
/// let mut metadata = Metadata::new();
/// metadata.append("trace-id", "4bf92f")?;
/// metadata.append("trace-id", "35fd01")?;
/// assert_eq!(metadata.get("trace-id"), Some("4bf92f"));
/// assert_eq!(metadata.get_all("trace-id").count(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    entries: Vec<(ByteStr, Bytes)>,
}

impl Metadata {
    /// No pairs.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a pair. The key must be checked already.
    pub(crate) fn push(&mut self, key: &str, value: Bytes) {
        self.entries.push((ByteStr::from(key), value));
    }

    /// Removes all pairs with this key. Returns how many there were.
    pub fn remove(&mut self, key: &str) -> usize {
        let before = self.entries.len();
        self.entries.retain(|(k, _)| k.as_str() != key);
        before - self.entries.len()
    }

    /// The first value of this key as text; `None` if there is none or it is not UTF-8.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.get_bin(key).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The first value of this key.
    #[must_use]
    pub fn get_bin(&self, key: &str) -> Option<&Bytes> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// All values of this key, in order.
    pub fn get_all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Bytes> {
        self.iter().filter(move |(k, _)| *k == key).map(|(_, value)| value)
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// How many pairs there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds all pairs of `other` at the end.
    pub fn merge(&mut self, other: Self) {
        if self.entries.is_empty() {
            self.entries = other.entries;
        } else {
            self.entries.extend(other.entries);
        }
    }

    /// Adds a pair from the wire. [`first_bad_key`](Self::first_bad_key) checks its key later, because a bad key ends one
    /// call and not the connection.
    pub(crate) fn push_unchecked(&mut self, key: ByteStr, value: Bytes) {
        self.entries.push((key, value));
    }

    /// What is wrong with the first invalid key, if there is one.
    pub(crate) fn first_bad_key(&self) -> Option<String> {
        self.iter().find_map(|(key, _)| check_key(key).err())
    }
}

pub(crate) fn check_key(key: &str) -> Result<(), String> {
    let allowed = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'_' | b'.' | b'-');
    if key.is_empty() {
        return Err("a metadata key is empty; use one or more of a-z, 0-9, '_', '.', '-'".to_owned());
    }
    if key.as_bytes().iter().all(allowed) {
        return Ok(());
    }
    let shown: String = key.chars().take(64).collect();
    Err(format!("metadata key {shown:?} has characters other than a-z, 0-9, '_', '.', '-'"))
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::IpcError;

    #[test]
    fn repeated_keys_keep_their_order_and_insert_replaces_them() {
        let mut metadata = Metadata::new();
        for (key, value) in [("a", "1"), ("b-bin", "2"), ("a", "3")] {
            metadata.append(key, value).unwrap();
        }
        let pairs: Vec<_> = metadata.iter().map(|(k, v)| (k.to_owned(), v.clone())).collect();
        assert_eq!(
            pairs,
            [("a".into(), "1".into()), ("b-bin".into(), "2".into()), ("a".into(), Bytes::from("3"))]
        );
        metadata.insert("a", "4").unwrap();
        assert_eq!(metadata.get_all("a").collect::<Vec<_>>(), ["4"]);
        assert_eq!(metadata.remove("a"), 1);
        assert_eq!(metadata.len(), 1);
    }

    #[test]
    fn keys_outside_the_alphabet_are_refused_and_change_nothing() {
        let mut metadata = Metadata::new();
        metadata.append("0_9.z-", Bytes::from_static(&[0, 255])).unwrap();
        assert_eq!(metadata.get("0_9.z-"), None);
        for key in ["", "Upper", "with space", "ü", "a:b"] {
            assert!(matches!(metadata.append(key, "x"), Err(IpcError::Encode(_))), "{key:?}");
            assert!(matches!(metadata.insert(key, "x"), Err(IpcError::Encode(_))), "{key:?}");
        }
        assert_eq!(metadata.len(), 1);
        assert_eq!(
            metadata.append("Upper", "x").unwrap_err().to_string(),
            "cannot encode: metadata key \"Upper\" has characters other than a-z, 0-9, '_', '.', '-'"
        );
    }
}
