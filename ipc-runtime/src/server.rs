//! The server. Its modules import one way, from `accept` and the builder down to the calls.
//!
//! - `builder`, `listen`, `adopt`: a server is configured, listens, and comes to its end.
//! - `accept`, `counts`, `places`: new connections and their limits.
//! - `core`: what all connections share. `host`: what the driver of a connection asks the server.
//! - `router`, `dispatch`: which handler answers a call. `runners`, `task`, `layered`, `running`, `work`: how it runs.
//! - `slot`, `reply`, `connection`, `calls`, `growth`: what a call has of its connection, and what it is charged for.
//! - `stall`: sockets are looked at while a handler computes.

mod accept;
#[cfg(unix)]
mod adopt;
mod builder;
mod calls;
mod connection;
mod core;
mod counts;
pub(crate) mod dispatch;
mod growth;
mod host;
mod layered;
mod listen;
mod places;
pub(crate) mod reply;
pub(crate) mod router;
mod runners;
mod running;
mod slot;
mod stall;
mod task;
mod work;

pub use self::builder::ServerBuilder;
pub(crate) use self::core::Core;
pub use self::listen::{Server, Shutdown};
pub use self::router::Layered;
