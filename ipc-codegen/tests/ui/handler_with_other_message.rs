use ipc_runtime::{Answers, Request, Response, Status, Streaming, Streams};

trait Log: Send + Sync + 'static {
    fn append(&self, request: Request<u64>) -> impl Answers<u64>;
    fn tail(&self, request: Request<u64>) -> impl Streams<String>;
}

struct Memory;

impl Log for Memory {
    async fn append(&self, request: Request<u64>) -> Result<Response<bool>, Status> {
        Ok(Response::new(request.into_inner() == 1))
    }

    async fn tail(&self, request: Request<u64>) -> Result<Response<Streaming<bool>>, Status> {
        Err(Status::not_found(request.into_inner().to_string()))
    }
}

fn main() {}
