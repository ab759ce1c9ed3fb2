use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1", name = "Gree-ter")]
trait Greeter {
    #[ipc(name = "Say Hello")]
    async fn say_hello(&self, request: Request<()>) -> Result<Response<()>, Status>;
}

fn main() {}
