//! gRPC's interoperability tests over this protocol: the service, the cases, and what both programs are told.
//!
//! Owns what `interop-server`, `interop-client` and the tests over memory have in common. Must know only the public
//! interface of `ipc-runtime`, since it stands for its users.

pub mod args;
pub mod cases;
pub mod outgoing;
pub mod service;

/// The messages and stubs of `proto/grpc/testing`.
pub mod proto {
    ipc_runtime::include_proto!("grpc.testing");
}

/// The key whose value a server sends back before its first message.
const ECHO_INITIAL: &str = "x-grpc-test-echo-initial";
/// The key whose value a server sends back with the end of the call.
const ECHO_TRAILING: &str = "x-grpc-test-echo-trailing-bin";
