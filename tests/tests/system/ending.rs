//! Section 8: keeping a connection, and ending it.

mod client;
mod drain;
mod server;
