//! Typed calls between programs on one machine.
//!
//! `ipc-codegen` generates clients and servers from `.proto` files. [`ipc_service`] generates the same from a Rust trait.
//! Both run on this crate. It has local sockets (Unix domain sockets, Windows named pipes), checksummed frames,
//! deadlines, cancellation, flow control, limits, and reconnection. Nothing here ever listens on a network.
//!
//! - A server: [`Server::builder`], then [`bind`](ServerBuilder::bind) and [`serve`](Server::serve).
//! - A client: a [`Channel`], which you pass to a generated client.
//! - Settings: [`IpcConfig`]. Errors: [`IpcError`] on clients, [`Status`] from handlers.
//!
//! # Features
//!
//! - `macros` (on by default): [`ipc_service`]. A program whose services are all in `.proto` files can leave it out with
//!   `default-features = false`.
//!
//! # The path of a call
//!
//! `GreeterClient` → `client` → `link` → socket → `link` → `server` → your `impl Greeter`, and back. `protocol` has the
//! rules of a connection and does no I/O. `link` has the lock, the socket and the task around it.

mod background;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod bench;
mod client;
#[doc(hidden)]
pub mod codegen;
mod config;
mod deadline;
mod endpoint;
mod error;
#[cfg(all(test, feature = "interleavings", target_os = "linux"))]
mod interleavings;
mod layer;
mod link;
mod message;
mod metadata;
mod peer;
mod protocol;
mod random;
mod request;
mod server;
#[cfg(any(test, feature = "simulation"))]
#[doc(hidden)]
pub mod simulation;
#[cfg(feature = "simulation-hooks")]
#[doc(hidden)]
pub mod simulation_hooks;
mod status;
mod streaming;
mod sync;
#[doc(hidden)]
pub mod tables;
mod text;
mod transport;

pub use client::builder::ChannelBuilder;
pub use client::channel::Channel;
pub use client::state::{ChannelState, StateChanges};
pub use codegen::{Answers, IntoRequest, Outcome, Streams};
pub use config::{Crc32Variant, IpcConfig};
pub use error::IpcError;
#[doc(no_inline)]
pub use futures_core::Stream;
#[cfg(feature = "macros")]
pub use ipc_macros::ipc_service;
pub use layer::{CallContext, ClientLayer, Next, ServerLayer};
pub use metadata::Metadata;
pub use peer::{PeerInfo, Schema};
pub use protocol::frame::FrameCodec;
pub use request::{IntoStreamingRequest, Request, Response};
pub use server::{Layered, Server, ServerBuilder, Shutdown};
pub use status::{Code, Status};
pub use streaming::Streaming;
/// Creates a pipe as servers create it, for tests that act as a server. On wine, a pipe without an access list has no
/// owner, so no client would accept it. Not for programs.
#[cfg(windows)]
#[doc(hidden)]
pub use transport::create_pipe;

/// Includes the code that `ipc-codegen` generated for a package in the crate's build script.
///
/// ```text
/// pub mod greeter { ipc_runtime::include_proto!("greeter.v1"); }
/// ```
#[macro_export]
macro_rules! include_proto {
    ($package:tt) => {
        include!(concat!(env!("OUT_DIR"), concat!("/", $package, ".rs")));
    };
}
