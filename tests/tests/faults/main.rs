//! Faults that independent testers have found, from outside: what connections do when their surroundings behave badly.
//! `memory` has those that are about bytes held.

#![expect(clippy::unwrap_used, reason = "the functions around tests are tests, too")]

mod drivers;
mod encoding;
mod metadata;
mod pauses;
mod refusals;
mod requests;
mod shutdown;
// Sockets by halves, other users, queues of listeners.
#[cfg(unix)]
mod spinning;
mod turns;
