use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1")]
trait Greeter {
    #[cfg(unix)]
    async fn say_hello(&self, request: Request<()>) -> Result<Response<()>, Status>;
}

fn main() {}
