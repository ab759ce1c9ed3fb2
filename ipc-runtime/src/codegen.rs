//! What generated code may name. Not for use by hand: it changes whenever the generator does.

pub use std::sync::Arc;

pub use futures_core::Stream;
pub use {prost, prost_types};

pub use crate::client::channel::Channel;
pub use crate::error::IpcError;
pub use crate::peer::Schema;
pub use crate::request::{IntoStreamingRequest, Request, Response};
pub use crate::server::dispatch::ServerCall;
pub use crate::server::router::Service;
pub use crate::status::Status;
pub use crate::streaming::Streaming;

/// What a client has to know of a method to call it.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    path: &'static str,
    idempotency: Idempotency,
    fingerprint: u64,
}

impl Method {
    /// The method at `/package.Service/Method`.
    #[must_use]
    pub const fn new(path: &'static str) -> Self {
        Self { path, idempotency: Idempotency::Unknown, fingerprint: 0 }
    }

    /// The same method with what its schema says about calling it twice.
    #[must_use]
    pub const fn idempotency(self, idempotency: Idempotency) -> Self {
        Self { idempotency, ..self }
    }

    /// The same method of a service whose schema is known.
    #[must_use]
    pub const fn schema(self, schema: Schema) -> Self {
        Self { fingerprint: schema.fingerprint(), ..self }
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
pub enum Idempotency {
    /// Nothing is said: a request that the server may have seen is not sent again.
    #[default]
    Unknown,
    /// It changes nothing.
    NoSideEffects,
    /// Twice has the effect of once.
    Idempotent,
}
