use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1")]
trait Greeter {
    async fn new(&self, request: Request<()>) -> Result<Response<()>, Status>;
}

fn main() {}
