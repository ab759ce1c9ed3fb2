//! This project's generated stubs, with everything on that is on by default: checksums, a deadline on every unary
//! call, credit, limits, peer credentials, keepalive.

use std::path::PathBuf;

use ipc_runtime::{Channel, IpcConfig, Request, Response, Server, Status, Streaming};
use peer_harness::{ChunkCheck, Client, Digest, Payload, Peer, Result, chunk_bytes, ready, records};

mod pb {
    ipc_runtime::include_proto!("bench.v1");
}
use pb::{Bench, BenchClient, BenchServer};

struct Handlers;

impl Bench for Handlers {
    async fn echo(&self, request: Request<pb::EchoMsg>) -> Result<Response<pb::EchoMsg>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn list_processes(
        &self,
        request: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListResponse>, Status> {
        let count = request.into_inner().count as usize;
        let process = |record: &peer_harness::Rec| pb::ProcessRecord {
            pid: record.pid,
            ppid: record.ppid,
            name: record.name.clone(),
            exe_path: record.exe_path.clone(),
            cmdline: record.cmdline.clone(),
            cpu_percent: record.cpu_percent,
            memory_bytes: record.memory_bytes,
            start_time_ms: record.start_time_ms,
            collected_at_ms: record.collected_at_ms,
        };
        Ok(Response::new(pb::ListResponse { processes: records()[..count].iter().map(process).collect() }))
    }

    async fn stream_chunks(&self, request: Request<pb::StreamRequest>) -> Result<Response<Chunks>, Status> {
        let request = request.into_inner();
        let data = peer_harness::Bytes::from(chunk_bytes(request.size));
        Ok(Response::new(Chunks { next: 0, count: request.count.into(), data }))
    }
}

struct Chunks {
    next: u64,
    count: u64,
    data: peer_harness::Bytes,
}

impl ipc_runtime::codegen::Stream for Chunks {
    type Item = Result<pb::Chunk, Status>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let seq = self.next;
        self.next += 1;
        std::task::Poll::Ready((seq < self.count).then(|| Ok(pb::Chunk { seq, data: self.data.clone() })))
    }
}

#[derive(Clone)]
struct Caller(BenchClient);

impl Client for Caller {
    async fn echo(&mut self, payload: &Payload) -> Result<()> {
        let reply = self.0.echo(pb::EchoMsg { payload: payload.bytes.clone() }).await?.into_inner();
        payload.check(&reply.payload)
    }

    async fn list(&mut self, count: u32) -> Result<u64> {
        let reply = self.0.list_processes(pb::ListRequest { count }).await?.into_inner();
        let mut digest = Digest::default();
        for process in &reply.processes {
            digest.record(
                process.pid,
                process.ppid,
                process.name.as_bytes(),
                process.exe_path.as_bytes(),
                process.cmdline.iter(),
                process.cpu_percent,
                process.memory_bytes,
                process.start_time_ms,
                process.collected_at_ms,
            );
        }
        Ok(digest.finish())
    }

    async fn stream(&mut self, count: u32, size: u32, check: &mut ChunkCheck) -> Result<()> {
        let mut chunks: Streaming<pb::Chunk> =
            self.0.stream_chunks(pb::StreamRequest { count, size }).await?.into_inner();
        while let Some(chunk) = chunks.message().await? {
            check.chunk(chunk.seq, &chunk.data)?;
        }
        Ok(())
    }
}

/// For the growth curves bench.py sets `PEER_LIMITS`: more connections, calls and bytes than the defaults let in.
fn is_unlimited() -> bool {
    std::env::var_os("PEER_LIMITS").is_some()
}

fn config(sock: PathBuf) -> IpcConfig {
    let config = IpcConfig { endpoint_path: sock.display().to_string(), ..IpcConfig::default() };
    if is_unlimited() {
        return IpcConfig { max_connections: 1024, max_frame_bytes: 16 * 1024 * 1024, ..config };
    }
    config
}

struct Ipc;

impl Peer for Ipc {
    const NAME: &'static str = "ipc";
    type Client = Caller;

    async fn serve(sock: PathBuf) -> Result<()> {
        let builder = Server::builder().add_service(BenchServer::new(Handlers));
        let builder = if is_unlimited() { builder.max_concurrent_calls(1024) } else { builder };
        let server = builder.bind(&config(sock)).await?;
        ready();
        server.serve().await?;
        Ok(())
    }

    async fn connect(sock: PathBuf) -> Result<Caller> {
        Ok(Caller(BenchClient::new(Channel::connect(&config(sock)).await?)))
    }
}

fn main() {
    peer_harness::run::<Ipc>()
}
