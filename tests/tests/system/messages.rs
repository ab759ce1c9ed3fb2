//! Section 4: messages, which of them end the connection, and which are ignored.

mod client;
mod server;
