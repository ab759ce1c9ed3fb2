//! What the whole-system tests share.

#[cfg(unix)]
pub mod actor;
#[cfg(unix)]
pub mod clock;
#[cfg(unix)]
pub mod feed;
pub mod interop;
#[cfg(unix)]
pub mod probe;
#[cfg(unix)]
pub mod raw;
#[cfg(unix)]
pub mod setup;
#[cfg(unix)]
pub mod vectors;
pub mod wire;

/// The code in the project's README, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
