//! The whole system, from outside: our server and our client against peers that break the protocol's rules one at
//! a time. `README.md` maps each rule to its test.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "the functions around tests are tests, too")]

mod activation;
mod actors;
mod binding;
mod calls;
mod client_states;
mod credit;
mod deadlines;
mod directory;
mod ending;
mod fairness;
mod frames;
mod hello;
mod ledger;
mod legacy;
mod limits;
mod load;
mod messages;
mod peers;
mod race;
mod reconnect;
mod retry;
mod schema;
mod tables;
