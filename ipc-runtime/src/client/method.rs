//! What a client must know about a method to call it.

use crate::peer::Schema;

impl Schema {
    /// The service's method at `/package.Service/Method`.
    #[doc(hidden)]
    #[must_use]
    pub const fn method(self, path: &'static str) -> Method {
        Method { fingerprint: self.fingerprint(), ..Method::new(path) }
    }
}

/// What a client must know about a method to call it.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    path: &'static str,
    idempotency: Idempotency,
    fingerprint: u64,
}

impl Method {
    /// The method at `/package.Service/Method` of a service with unknown schema.
    #[must_use]
    pub const fn new(path: &'static str) -> Self {
        Self { path, idempotency: Idempotency::Unknown, fingerprint: 0 }
    }

    /// Marks the method as one that changes nothing.
    #[must_use]
    pub const fn no_side_effects(self) -> Self {
        Self { idempotency: Idempotency::NoSideEffects, ..self }
    }

    /// Marks the method as one that has the same effect if it is called twice.
    #[must_use]
    pub const fn idempotent(self) -> Self {
        Self { idempotency: Idempotency::Idempotent, ..self }
    }

    pub(crate) const fn fingerprint(self) -> u64 {
        self.fingerprint
    }

    pub(crate) fn service(self) -> &'static str {
        self.path.trim_start_matches('/').rsplit_once('/').map_or("", |(service, _)| service)
    }

    pub(crate) const fn path(self) -> &'static str {
        self.path
    }

    pub(crate) const fn level(self) -> Idempotency {
        self.idempotency
    }
}

/// Whether a method may be called twice, as `idempotency_level` in its schema says
/// (`google/protobuf/descriptor.proto`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Idempotency {
    /// Not specified: a request that the server may have seen is not sent again.
    #[default]
    Unknown,
    /// It changes nothing.
    NoSideEffects,
    /// Two calls have the same effect as one.
    Idempotent,
}
