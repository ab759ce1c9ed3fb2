use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1")]
trait Greeter {
    async fn none(&self) -> Result<Response<()>, Status>;
    async fn two(&self, name: Request<()>, times: u32) -> Result<Response<()>, Status>;
    async fn bare(&self, name: String) -> Result<Response<()>, Status>;
}

fn main() {}
