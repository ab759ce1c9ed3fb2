use ipc_macros::ipc_service;

#[ipc_service(package = "greeter.v1")]
trait Greeter {
    async fn bare(&self, request: Request<()>) -> ();
    async fn no_status(&self, request: Request<()>) -> Result<Response<()>>;
    async fn no_response(&self, request: Request<()>) -> Result<(), Status>;
    async fn no_items(&self, request: Request<()>) -> Result<Response<impl Stream>, Status>;
    async fn streaming(&self, request: Request<()>) -> Result<Response<Streaming<()>>, Status>;
}

fn main() {}
