//! Section 5: calls of every kind, however they are split, and how many there may be.

mod client;
mod server;
mod slots;
