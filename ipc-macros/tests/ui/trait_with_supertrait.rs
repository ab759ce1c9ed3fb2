use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1")]
trait Greeter: Send + Clone + Sync + 'static {}

fn main() {}
