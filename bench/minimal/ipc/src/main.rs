use ipc_runtime::{Channel, IpcConfig, Request, Response, Server, Status, Streaming};
#[expect(dead_code, reason = "one call is enough")]
mod pb {
    ipc_runtime::include_proto!("bench.v1");
}
struct Handlers;
impl pb::Bench for Handlers {
    async fn echo(&self, request: Request<pb::EchoMsg>) -> Result<Response<pb::EchoMsg>, Status> {
        Ok(Response::new(request.into_inner()))
    }
    async fn list_processes(
        &self,
        _: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn stream_chunks(
        &self,
        _: Request<pb::StreamRequest>,
    ) -> Result<Response<Streaming<pb::Chunk>>, Status> {
        Ok(Response::new(Streaming::of([])))
    }
}
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = IpcConfig::for_user("min-ipc", &std::process::id().to_string())?;
    let server = Server::builder().add_service(pb::BenchServer::new(Handlers)).bind(&config).await?;
    tokio::spawn(server.serve());
    let client = pb::BenchClient::new(Channel::new(&config)?);
    let reply = client.echo(pb::EchoMsg { payload: b"hello".to_vec().into() }).await?.into_inner();
    assert_eq!(reply.payload, b"hello"[..]);
    println!("ok");
    Ok(())
}
