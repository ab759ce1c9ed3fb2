//! The protocol of one connection, without I/O: envelopes and the time go in; frames, wake-ups and the next timeout
//! come out.
//!
//! All rules of the wire protocol live here, once. Nothing below this module knows tokio, a socket, a lock, a clock or
//! randomness, and nothing is async, so every rule can be tested in microseconds and simulated with every interleaving.
//! A shell around it ([`link`](crate::link)) owns the lock, the socket and the timer.
//!
//! - [`frame`], [`checksum`], [`envelope`], [`encode`]: bytes to envelopes and back.
//! - [`handshake`]: the two Hellos in, agreed terms or a refusal out.
//! - [`call`]: one call's messages, credit and end.
//! - [`queue`], [`outbox`]: what waits to be written, in which order, and what was handed to the transport.
//! - [`timers`], [`ending`]: the next timeout, and what it means.
//! - [`connection`]: all of these together. `writing` and `items` are parts of it, and `caller` and `callee` hold what only
//!   one role of a call does.
//! - [`retry`]: whether a call may be sent again, and when.
//! - `inspect`: what a simulation checks all the time.

pub(crate) mod call;
pub(crate) mod callee;
pub(crate) mod caller;
pub(crate) mod checksum;
pub(crate) mod connection;
pub(crate) mod encode;
pub(crate) mod ending;
pub(crate) mod envelope;
pub(crate) mod frame;
#[cfg(test)]
mod fuzz;
pub(crate) mod growth;
pub(crate) mod handshake;
#[cfg(any(test, feature = "simulation"))]
mod inspect;
mod items;
pub(crate) mod outbox;
mod prefix;
pub(crate) mod queue;
pub(crate) mod retry;
pub(crate) mod roles;
pub(crate) mod spare;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod timers;
mod writing;
