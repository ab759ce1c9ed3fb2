use ipc_runtime::{Answers, Request, Status, Streaming, Streams};

trait Log: Send + Sync + 'static {
    fn append(&self, request: Request<u64>) -> impl Answers<u64>;
    fn tail(&self, request: Request<u64>) -> impl Streams<String>;
}

struct Memory;

impl Log for Memory {
    async fn append(&self, request: Request<u64>) -> Result<u64, Status> {
        Ok(request.into_inner())
    }

    async fn tail(&self, request: Request<u64>) -> Result<Streaming<String>, Status> {
        Err(Status::not_found(request.into_inner().to_string()))
    }
}

fn main() {}
