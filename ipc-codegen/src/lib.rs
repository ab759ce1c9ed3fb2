//! Generates typed clients and servers for local IPC from `.proto` files, in a build script.
//!
//! ```no_run
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     ipc_codegen::compile_protos(&["proto/greeter.proto"], &["proto"])?;
//!     Ok(())
//! }
//! ```
//!
//! Nothing has to be installed: the schema is compiled by [protox](https://docs.rs/protox), messages are made by
//! [prost](https://docs.rs/prost), and the stubs stand beside them, in the same module:
//!
//! ```text
//! pub mod greeter { ipc_runtime::include_proto!("greeter.v1"); }
//! ```
//!
//! A program that includes them itself, and not through a library, puts `#[allow(dead_code)]` above that `mod`: no
//! program uses everything that its schema describes.
//!
//! Options are on [`Config`]; names that clash are told apart as [`naming`] says.
//!
//! # How it works
//!
//! A front end describes services in the [`model`]: this crate's from a schema, `ipc-macros`' from a trait. From
//! there on there is one way, [`expand`].

pub mod emit;
mod error;
pub mod model;
pub mod naming;
#[cfg(feature = "proto")]
mod proto;
pub mod validate;

pub use error::{Error, Mistake};
#[cfg(feature = "proto")]
pub use proto::{Config, compile_protos, configure, protoc_plugin};

/// Model, validate, emit: the stubs of all services of a package.
///
/// # Errors
/// Everything that is wrong with any of the services.
pub fn expand(package: &model::Package) -> Result<proc_macro2::TokenStream, Vec<Mistake>> {
    validate::validate(package)?;
    Ok(emit::emit(package))
}
