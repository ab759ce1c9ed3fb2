//! What the whole-system tests share.

/// Of what only Unix has: users, umasks, descriptors.
#[cfg(unix)]
pub mod actor;
pub mod clock;
pub mod feed;
pub mod interop;
pub mod local;
pub mod probe;
pub mod raw;
pub mod runtime_simulation;
pub mod setup;
pub mod vectors;
pub mod wire;

/// The code in the project's README and those of its packages, compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../ipc-codegen/README.md")]
#[doc = include_str!("../../ipc-runtime/README.md")]
struct Readme;
