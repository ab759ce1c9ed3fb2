//! `cargo run -p from-trait`: the service of `proto/greeter.proto`, described by a trait, served and called.
//!
//! On the wire nothing tells it from the one in `examples/greeter`: the clients of each can call the servers of both.

#![expect(clippy::print_stdout, reason = "the greeting is what was asked for")]

use ipc_runtime::{Channel, IpcConfig, Request, Response, Server, Status, ipc_service};

/// Who is to be greeted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HelloRequest {
    #[prost(string, tag = "1")]
    name: String,
}

/// The greeting.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HelloReply {
    #[prost(string, tag = "1")]
    message: String,
}

/// Says hello.
#[ipc_service(package = "greeter.v1")]
trait Greeter {
    /// Greets one by name.
    #[ipc(no_side_effects)]
    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status>;
}

struct MyGreeter;

impl Greeter for MyGreeter {
    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply { message: format!("Hello, {}!", request.into_inner().name) }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint_path = if cfg!(windows) {
        r"\\.\pipe\from-trait".to_owned()
    } else {
        std::env::temp_dir().join("from-trait/greeter.sock").display().to_string()
    };
    let config = IpcConfig { endpoint_path, ..IpcConfig::default() };
    let server = Server::builder().add_service(GreeterServer::new(MyGreeter)).bind(&config).await?;
    tokio::spawn(server.serve());

    let greeter = GreeterClient::new(Channel::new(&config)?);
    let reply = greeter.say_hello(HelloRequest { name: "World".to_owned() }).await?.into_inner();
    println!("{}", reply.message);
    Ok(())
}
