//! [`ByteStr`]: text that is a slice of the frame it arrived in, so that reading it allocates nothing.

use std::fmt;

use bytes::Bytes;

/// Bytes that are known to be UTF-8.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct ByteStr(Bytes);

impl ByteStr {
    /// `None` if the bytes are not UTF-8.
    pub(crate) fn from_utf8(bytes: Bytes) -> Option<Self> {
        std::str::from_utf8(&bytes).is_ok().then_some(Self(bytes))
    }

    pub(crate) fn as_str(&self) -> &str {
        // Checked when it was made; the check is repeated rather than skipped by unsafe code, and costs
        // nothing measurable at the length of a key or a method.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<&str> for ByteStr {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl fmt::Debug for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}
