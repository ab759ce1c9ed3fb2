use ipc_macros::ipc_service;

#[ipc_service]
trait Greeter {}

fn main() {}
