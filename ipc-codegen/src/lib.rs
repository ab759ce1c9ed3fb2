//! Generates stubs.
