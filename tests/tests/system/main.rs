//! The whole system, from outside: our server and our client against peers that break the protocol's rules one at
//! a time. `README.md` maps each rule to its test.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "the functions around tests are tests, too")]

// Descriptors that systemd, or a parent, hands over.
#[cfg(unix)]
mod activation;
// Programs with another user, umask or limit of descriptors.
#[cfg(unix)]
mod actors;
// Files of sockets, locks, signals.
#[cfg(unix)]
mod binding;
mod calls;
// Files of sockets, and what Unix says about them.
#[cfg(unix)]
mod client_states;
mod credit;
mod deadlines;
// Directories, modes, umasks.
#[cfg(unix)]
mod directory;
mod ending;
mod fairness;
mod frames;
mod hello;
// Programs of `actors`.
#[cfg(unix)]
mod ledger;
// Pairs of sockets; what it tests is the same for any stream.
#[cfg(unix)]
mod legacy;
mod limits;
// The queue of a socket, and descriptors.
#[cfg(unix)]
mod load;
mod messages;
// Users and groups.
#[cfg(unix)]
mod peers;
// Locks.
#[cfg(unix)]
mod race;
mod reconnect;
mod retry;
mod schema;
mod tables;
