use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1")]
trait Greeter {
    async unsafe fn say_hello(&self, request: Request<()>) -> Result<Response<()>, Status>;
    async extern "C" fn say_goodbye(&self, request: Request<()>) -> Result<Response<()>, Status>;
}

fn main() {}
