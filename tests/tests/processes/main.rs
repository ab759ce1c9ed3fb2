//! The system as programs: other users, umasks and limits, locks, signals, descriptors. Unix alone; what Windows has of it is
//! in `pipes`.

#![cfg(unix)]

// Descriptors that systemd, or a parent, hands over.
mod activation;
// Programs with another user, umask or limit of descriptors.
mod actors;
// Files of sockets, locks, signals.
mod binding;
// Files of sockets, and what Unix says about them.
mod client_states;
// Directories, modes, umasks.
mod directory;
mod ledger;
// The queue of a socket, and descriptors.
mod load;
// Signals that stop a program and let it go on.
mod pauses;
// Users and groups.
mod peers;
// Locks.
mod race;
