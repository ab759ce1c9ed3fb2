use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1")]
struct Greeter;

fn main() {}
