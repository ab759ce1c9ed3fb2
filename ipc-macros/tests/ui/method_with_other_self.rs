use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1")]
trait Greeter {
    async fn by_mut(&mut self, request: Request<()>) -> Result<Response<()>, Status>;
    async fn by_value(self, request: Request<()>) -> Result<Response<()>, Status>;
    async fn by_box(self: Box<Self>, request: Request<()>) -> Result<Response<()>, Status>;
    async fn by_none(request: Request<()>) -> Result<Response<()>, Status>;
}

fn main() {}
