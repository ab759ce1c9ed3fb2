use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1")]
trait Greeter {
    async fn say_hello(&self, request: Request<()>) -> Result<Response<()>, Status>;
    #[ipc(name = "SayHello")]
    async fn say_hello_again(&self, request: Request<()>) -> Result<Response<()>, Status>;
}

fn main() {}
