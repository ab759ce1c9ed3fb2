use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1")]
trait Greeter<Message> {}

#[ipc_service(package = "greeter.v1")]
trait Bounded
where
    Self: Sized,
{
}

fn main() {}
