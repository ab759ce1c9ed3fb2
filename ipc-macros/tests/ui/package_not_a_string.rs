use ipc_macros::ipc_service;

#[ipc_service(package = 1)]
trait Greeter {}

fn main() {}
