use ipc_runtime::{Request, Response, Status, ipc_service};

#[ipc_service(package = "greeter.v1", crate = "not a path")]
trait Greeter {
    async fn say_hello(&self, request: Request<String>) -> Result<Response<String>, Status>;
}

fn main() {}
