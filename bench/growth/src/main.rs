//! A server with as many methods as `GROWTH_METHODS` says, in services of ten, and a client that calls the last one.
//! Generated code would register them the same way; a thousand generated methods would take minutes to compile.

use std::path::{Path, PathBuf};

use ipc_runtime::codegen::{Method, ServerCall, Service};
use ipc_runtime::{Channel, IpcConfig, Request, Response, Server, ServerBuilder, Status, Streaming};
use peer_harness::{Client, Context, Payload, Peer, Result, ready};

#[expect(dead_code, reason = "the client calls by path")]
mod pb {
    ipc_runtime::include_proto!("bench.v1");
}
use pb::{Bench, BenchServer, EchoMsg};

include!(concat!(env!("OUT_DIR"), "/many.rs"));

const METHODS: [&str; 10] = ["M0", "M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8", "M9"];

struct Handlers;

impl Bench for Handlers {
    async fn echo(&self, request: Request<EchoMsg>) -> Result<Response<EchoMsg>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn list_processes(
        &self,
        _: Request<pb::ListRequest>,
    ) -> Result<Response<pb::ListResponse>, Status> {
        Err(Status::unimplemented("not measured here"))
    }

    async fn stream_chunks(
        &self,
        _: Request<pb::StreamRequest>,
    ) -> Result<Response<Streaming<pb::Chunk>>, Status> {
        Err(Status::unimplemented("not measured here"))
    }
}

/// The generated service under another name, with `COUNT` methods, each of which is its `Echo`.
struct Many<const NAME: usize, const COUNT: usize>(BenchServer<Handlers>);

impl<const NAME: usize, const COUNT: usize> Many<NAME, COUNT> {
    fn new() -> Self {
        Self(BenchServer::new(Handlers))
    }
}

impl<const NAME: usize, const COUNT: usize> Service for Many<NAME, COUNT> {
    const NAME: &'static str = NAMES[NAME];
    const METHODS: &'static [&'static str] = METHODS.split_at(COUNT).0;

    fn dispatch(&self, _: usize, call: ServerCall) {
        self.0.dispatch(0, call);
    }
}

fn ten<const NAME: usize>(builder: ServerBuilder) -> ServerBuilder {
    builder.add_service(Many::<NAME, 10>::new())
}

fn methods() -> Result<usize> {
    let text = std::env::var("GROWTH_METHODS")
        .context("GROWTH_METHODS says how many methods: 1 or tens up to 1000")?;
    text.parse().context("GROWTH_METHODS is no number")
}

/// The path of the method that was registered last.
fn last(methods: usize) -> String {
    let last = methods - 1;
    format!("/{}/{}", NAMES[last / 10], METHODS[last % 10])
}

fn config(sock: &Path) -> IpcConfig {
    IpcConfig { endpoint_path: sock.display().to_string(), ..IpcConfig::default() }
}

#[derive(Clone)]
struct Caller {
    channel: Channel,
    method: Method,
}

impl Client for Caller {
    async fn echo(&mut self, payload: &Payload) -> Result<()> {
        let request = Request::new(EchoMsg { payload: payload.bytes.clone() });
        let reply: EchoMsg = self.channel.unary(self.method, request).await?.into_inner();
        payload.check(&reply.payload)
    }
}

struct Growth;

impl Peer for Growth {
    const NAME: &'static str = "ipc";
    type Client = Caller;

    async fn serve(sock: PathBuf) -> Result<()> {
        let builder = Server::builder();
        let builder = match methods()? {
            1 => builder.add_service(Many::<0, 1>::new()),
            many => TENS[..many / 10].iter().fold(builder, |builder, ten| ten(builder)),
        };
        let server = builder.bind(&config(&sock)).await?;
        ready();
        server.serve().await?;
        Ok(())
    }

    async fn connect(sock: PathBuf) -> Result<Caller> {
        let path: &'static str = last(methods()?).leak();
        let channel = Channel::connect(&config(&sock)).await?;
        Ok(Caller { channel, method: Method::new(path) })
    }
}

fn main() {
    peer_harness::run::<Growth>()
}
