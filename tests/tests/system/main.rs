//! The whole system, from outside: our server and our client against peers that break the protocol's rules one at
//! a time. `README.md` maps each rule to its test. What starts programs is in `processes`: between fork and exec a program
//! holds copies of every socket here, and a peer that hangs up would not seem to.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "the functions around tests are tests, too")]

mod calls;
mod credit;
mod deadlines;
mod ending;
mod fairness;
mod frames;
mod hello;
// Pairs of sockets; what it tests is the same for any stream.
#[cfg(unix)]
mod legacy;
mod limits;
#[cfg(unix)]
mod logs;
mod messages;
mod reconnect;
mod retry;
mod schema;
mod tables;
