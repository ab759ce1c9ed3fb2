//! Section 6: credit, which stalls a call and nothing else.

mod client;
mod fairness;
mod server;

/// The greatest sum of credits.
const MAX_CREDIT: u64 = 1 << 62;
