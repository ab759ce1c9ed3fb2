//! The whole system, from outside: our server and our client against peers that break the protocol's rules one at
//! a time. `README.md` maps each rule to its test.

#![cfg(unix)]

mod calls;
mod credit;
mod deadlines;
mod ending;
mod frames;
mod hello;
mod legacy;
mod limits;
mod messages;
mod reconnect;
mod retry;
