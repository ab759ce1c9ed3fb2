//! Compiles stubs where nothing is called `ipc_runtime`. Nothing here runs.

#![deny(warnings)]

/// A library that exports the runtime under another name.
pub mod my_sdk {
    pub use ::ipc_runtime as rt;
}

mod ipc_runtime {}

use my_sdk::rt::{Request, Response, Status, Streaming};

#[my_sdk::rt::ipc_service(package = "greeter.v1", crate = "crate::my_sdk::rt")]
pub trait Greeter {
    async fn say_hello(&self, request: Request<String>) -> Result<Response<String>, Status>;

    async fn greet_all(&self, request: Request<Streaming<String>>) -> Result<Response<String>, Status>;
}
