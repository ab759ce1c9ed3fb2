//! The whole system, from outside: our server and our client against peers that break the protocol's rules one at
//! a time. `README.md` maps each rule to its test.

#![cfg(unix)]

mod frames;
