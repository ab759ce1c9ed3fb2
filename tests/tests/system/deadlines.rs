//! Section 7: deadlines and cancellation.

mod client;
mod server;
