//! Section 3: the Hellos, and who is refused.

mod client;
mod limits;
mod server;
