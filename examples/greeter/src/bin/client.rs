//! `cargo run -p greeter --bin client -- World`: has someone greeted.

#![expect(clippy::print_stdout, reason = "the greeting is what was asked for")]

use greeter::v1::{GreeterClient, HelloRequest};
use ipc_runtime::Channel;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "World".to_owned());
    let greeter = GreeterClient::new(Channel::new(&greeter::config())?);
    let reply = greeter.say_hello(HelloRequest { name }).await?.into_inner();
    println!("{}", reply.message);
    Ok(())
}
