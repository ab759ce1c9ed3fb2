//! One side of a known number of calls, for callgrind to count the instructions of: each side is a process with one
//! thread, so that two runs execute the same. `rig/counts.py` runs it.
//!
//! `count server SOCKET` serves until its input ends; `count client SOCKET unary|stream N` makes N calls of 64 bytes, or
//! takes N items of 64 bytes.

use anyhow::{Result, bail, ensure};
use ipc_runtime::{Channel, IpcConfig, Request, Response, Server, Status, Stream};
use tokio::io::AsyncReadExt;

#[expect(dead_code, reason = "not every method is counted")]
mod pb {
    ipc_runtime::include_proto!("bench.v1");
}
use pb::{Bench, BenchClient, BenchServer, Chunk, EchoMsg};

const SIZE: usize = 64;

struct Handlers;

impl Bench for Handlers {
    async fn echo(&self, request: Request<EchoMsg>) -> Result<Response<EchoMsg>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn list_processes(
        &self,
        _: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListResponse>, Status> {
        Err(Status::unimplemented("not counted here"))
    }

    async fn stream_chunks(
        &self,
        request: Request<pb::StreamRequest>,
    ) -> Result<Response<impl Stream<Item = Result<Chunk, Status>> + Send + 'static>, Status> {
        let data = vec![7; SIZE].into();
        Ok(Response::new(Chunks { left: request.into_inner().count, chunk: Chunk { seq: 0, data } }))
    }
}

/// The same item again and again.
struct Chunks {
    left: u32,
    chunk: Chunk,
}

impl Stream for Chunks {
    type Item = Result<Chunk, Status>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let more = self.left > 0;
        self.left = self.left.saturating_sub(1);
        std::task::Poll::Ready(more.then(|| Ok(self.chunk.clone())))
    }
}

async fn serve(config: &IpcConfig) -> Result<()> {
    let server = Server::builder().add_service(BenchServer::new(Handlers)).bind(config).await?;
    println!("READY");
    let input_ends = async {
        _ = tokio::io::stdin().read(&mut [0]).await;
    };
    server.serve_with_shutdown(input_ends).await?;
    Ok(())
}

async fn unary(client: &BenchClient, calls: u32) -> Result<()> {
    let message = EchoMsg { payload: vec![7; SIZE].into() };
    for _ in 0..calls {
        let reply = client.echo(message.clone()).await?.into_inner();
        ensure!(reply.payload.len() == SIZE, "an echo of {} bytes", reply.payload.len());
    }
    Ok(())
}

async fn stream(client: &BenchClient, items: u32) -> Result<()> {
    let request = pb::StreamRequest { count: items, size: 64 };
    let (mut chunks, mut seen) = (client.stream_chunks(request).await?.into_inner(), 0);
    while let Some(chunk) = chunks.message().await? {
        ensure!(chunk.data.len() == SIZE, "an item of {} bytes", chunk.data.len());
        seen += 1;
    }
    ensure!(seen == items, "{seen} items of {items}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let config = |path: &str| IpcConfig { endpoint_path: path.to_owned(), ..IpcConfig::default() };
    match arguments[..] {
        ["server", path] => serve(&config(path)).await,
        ["client", path, what, number] => {
            let client = BenchClient::new(Channel::connect(&config(path)).await?);
            match what {
                "unary" => unary(&client, number.parse()?).await,
                "stream" => stream(&client, number.parse()?).await,
                _ => bail!("{what} is neither unary nor stream"),
            }
        }
        _ => bail!("usage: count server SOCKET | count client SOCKET unary|stream N"),
    }
}
