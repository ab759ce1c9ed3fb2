//! What a service is, whichever way it was described: plain data, with real identifiers and types.
//!
//! Owns the shapes that the front ends fill in and that the emitter reads. Must not know where a service came from
//! beyond what a diagnostic needs, nor what the code made of it looks like.

use std::collections::BTreeMap;

use proc_macro2::Ident;
use syn::{Attribute, Path, Type, Visibility};

/// Services that end up in one Rust module, and the names that module already has.
#[derive(Default)]
pub struct Package {
    /// The services, in the order in which they were declared.
    pub services: Vec<Service>,
    /// Names of types and modules made by others, each with what it was made from (``message `a.b.C` ``).
    pub taken: BTreeMap<String, String>,
}

/// One service.
pub struct Service {
    /// Where it was declared.
    pub origin: Origin,
    /// The name on the wire, with its package: `greeter.v1.Greeter`.
    pub wire_name: String,
    /// Equal for equal schemas; 0 where the schema isn't known.
    pub fingerprint: u64,
    /// Where generated code finds `typed-ipc-runtime`.
    pub runtime: Path,
    /// The trait's name; diagnostics point at its span.
    pub ident: Ident,
    /// The client's name.
    pub client_ident: Ident,
    /// The server's name.
    pub server_ident: Ident,
    /// Who sees the trait, the client and the server.
    pub visibility: Visibility,
    /// Lines of documentation.
    pub docs: Vec<String>,
    /// `#[deprecated]`, where the schema says so.
    pub deprecated: Option<Attribute>,
    /// Attributes of users.
    pub attributes: Attributes,
    /// What to generate.
    pub parts: Parts,
    /// The methods, in the order in which they were declared, which is the order of their numbers in `dispatch`.
    pub methods: Vec<Method>,
}

/// Attributes that users put on generated items.
#[derive(Default)]
pub struct Attributes {
    /// On the trait.
    pub service_trait: Vec<Attribute>,
    /// On the client's struct.
    pub client: Vec<Attribute>,
    /// On each item of the client.
    pub client_items: Vec<Attribute>,
    /// On the server's struct.
    pub server: Vec<Attribute>,
    /// On the trait and each item of the server.
    pub server_items: Vec<Attribute>,
}

/// Which artefacts are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The trait that servers implement.
    pub service_trait: bool,
    /// The client.
    pub client: bool,
    /// The server.
    pub server: bool,
}

/// One method of a service.
pub struct Method {
    /// The name on the wire, exactly as declared.
    pub wire_name: String,
    /// The function's name, in the trait and in the client; diagnostics point at its span.
    pub ident: Ident,
    /// Which sides stream.
    pub kind: Kind,
    /// The type of one message of the request.
    pub input: Type,
    /// The type of one message of the response.
    pub output: Type,
    /// The signature as the author of a trait spelled it. Kept, so that what they imported for it stays in use and
    /// the compiler's errors about it point at their code.
    pub spelled: Option<Spelled>,
    /// What may be retried.
    pub idempotency: Idempotency,
    /// Lines of documentation.
    pub docs: Vec<String>,
    /// `#[deprecated]`, where the schema says so.
    pub deprecated: Option<Attribute>,
    /// Attributes of users, on the trait's function and on the client's.
    pub attributes: Vec<Attribute>,
    /// Whether the trait has a body for it that answers `UNIMPLEMENTED`.
    pub default_body: bool,
}

/// The types of a trait's function, as written.
pub struct Spelled {
    /// The argument: `Request<…>`.
    pub argument: Type,
    /// The result: `Result<Response<…>, Status>`.
    pub result: Type,
}

/// The four kinds of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One message each way.
    Unary,
    /// One message, then a stream of answers.
    ServerStreaming,
    /// A stream of messages, then one answer.
    ClientStreaming,
    /// A stream each way.
    BidiStreaming,
}

impl Kind {
    /// The kind of a method whose request, response or both are streams.
    #[must_use]
    pub const fn of(client_streams: bool, server_streams: bool) -> Self {
        match (client_streams, server_streams) {
            (false, false) => Self::Unary,
            (false, true) => Self::ServerStreaming,
            (true, false) => Self::ClientStreaming,
            (true, true) => Self::BidiStreaming,
        }
    }

    /// Whether the request is a stream.
    #[must_use]
    pub const fn client_streams(self) -> bool {
        matches!(self, Self::ClientStreaming | Self::BidiStreaming)
    }

    /// Whether the response is a stream.
    #[must_use]
    pub const fn server_streams(self) -> bool {
        matches!(self, Self::ServerStreaming | Self::BidiStreaming)
    }
}

/// What calling a method twice does, as declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idempotency {
    /// Nothing is known.
    #[default]
    Unknown,
    /// It changes nothing.
    NoSideEffects,
    /// Twice is the same as once.
    Idempotent,
}

/// Where a service was declared, for diagnostics and their remedies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In this schema file.
    File(String),
    /// In a Rust trait.
    Trait,
}
