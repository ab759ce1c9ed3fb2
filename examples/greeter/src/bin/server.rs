//! `cargo run -p greeter --bin server`: greets until Ctrl-C.

use greeter::v1::{Greeter, GreeterServer, HelloReply, HelloRequest};
use ipc_runtime::{Request, Response, Server, Status};

struct MyGreeter;

impl Greeter for MyGreeter {
    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let name = request.into_inner().name;
        if name.is_empty() {
            return Err(Status::invalid_argument("whom shall I greet?"));
        }
        Ok(Response::new(HelloReply { message: format!("Hello, {name}!") }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = greeter::config();
    let server = Server::builder().add_service(GreeterServer::new(MyGreeter)).bind(&config).await?;
    eprintln!("greeting at {}; stop with Ctrl-C", server.endpoint());
    server.serve_with_shutdown(tokio::signal::ctrl_c()).await?;
    Ok(())
}
