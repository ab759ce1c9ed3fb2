use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1", clients = false, server = "no")]
trait Greeter {}

fn main() {}
