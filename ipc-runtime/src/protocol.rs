//! The protocol of one connection, without I/O. Input: envelopes and the time. Output: frames, wakers and the next timeout.
//!
//! All rules of the wire protocol are here, and only here. Nothing in this module knows tokio, a socket, a lock, a clock
//! or randomness, and nothing is async. So every rule can be tested in microseconds and simulated with every interleaving.
//! The shell around it ([`link`](crate::link)) owns the lock, the socket and the timer.
//!
//! - [`frame`], [`checksum`], [`envelope`], [`encode`]: bytes to envelopes and back.
//! - [`handshake`]: from the two Hellos to agreed terms or a refusal.
//! - [`call`]: one call's messages, credit and end.
//! - [`queue`], [`outbox`]: what waits to be written, in which order, and what was handed to the transport.
//! - [`timers`], [`ending`]: the next timeout, and what it means.
//! - [`connection`]: all of these together. `writing` and `items` are parts of it, and `caller` and `callee` hold what only
//!   one role of a call does.
//! - [`retry`]: whether a call may be sent again, and when.
//! - `inspect`: the checks that a simulation makes all the time.

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
