use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1")]
trait Greeter {
    async fn say_hello<Name>(&self, request: Request<Name>) -> Result<Response<()>, Status>;
    async fn borrow<'a>(&'a self, request: Request<()>) -> Result<Response<()>, Status>;
}

fn main() {}
