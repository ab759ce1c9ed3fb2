//! Calls through goldens, over memory: each kind of call finds its function and its way back.

#![deny(warnings, refining_impl_trait)]
#![expect(missing_docs, reason = "messages have the documentation that their schemas give them")]

use ipc_runtime::codegen::Stream;
use ipc_runtime::{Channel, Code, Request, Response, Server, Status, Streaming};

pub mod log {
    include!("golden/all_four_kinds.rs");
}

pub mod stubs {
    include!("golden/with_default_stubs.rs");
}

use log::{Entry, Log, LogClient, LogServer, Position, Summary};

struct Memory;

impl Log for Memory {
    async fn append(&self, request: Request<Entry>) -> Result<Response<Summary>, Status> {
        match request.into_inner().line.len() {
            0 => Err(Status::invalid_argument("an entry has a line")),
            length => Ok(Response::new(Summary { entries: length as u64 })),
        }
    }

    async fn tail(
        &self,
        request: Request<Position>,
    ) -> Result<Response<impl Stream<Item = Result<Entry, Status>> + Send + 'static>, Status> {
        let number = request.into_inner().number;
        Ok(Response::new(Streaming::of((0..number).map(|number| Entry { line: number.to_string().into() }))))
    }

    async fn load(&self, request: Request<Streaming<Entry>>) -> Result<Response<Summary>, Status> {
        let (mut stream, mut entries) = (request.into_inner(), 0);
        while stream.message().await?.is_some() {
            entries += 1;
        }
        Ok(Response::new(Summary { entries }))
    }

    async fn copy(
        &self,
        request: Request<Streaming<Entry>>,
    ) -> Result<Response<Streaming<Position>>, Status> {
        let mut stream = request.into_inner();
        let mut numbers = Vec::new();
        while let Some(entry) = stream.message().await? {
            numbers.push(Position { number: entry.line.len() as u64 });
        }
        Ok(Response::new(Streaming::of(numbers)))
    }
}

fn entry(line: &'static str) -> Entry {
    Entry { line: line.into() }
}

/// A stream of requests.
fn entries(lines: Vec<&'static str>) -> impl Stream<Item = Entry> + Send + 'static {
    let mut lines = lines.into_iter();
    Entries(move || lines.next().map(entry))
}

struct Entries<F>(F);

impl<F: FnMut() -> Option<Entry> + Unpin> Stream for Entries<F> {
    type Item = Entry;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Entry>> {
        std::task::Poll::Ready((self.0)())
    }
}

async fn all<T>(response: Response<Streaming<T>>) -> Vec<T> {
    let (mut stream, mut all) = (response.into_inner(), Vec::new());
    while let Some(message) = stream.message().await.expect("a message") {
        all.push(message);
    }
    all
}

#[tokio::test]
async fn every_kind_of_call_finds_its_function() {
    let log = LogClient::new(Channel::in_memory(Server::builder().add_service(LogServer::new(Memory))));
    assert_eq!(log.append(entry("four")).await.expect("an answer").into_inner().entries, 4);
    let refused = log.append(entry("")).await.expect_err("a status");
    assert_eq!(refused.code(), Code::InvalidArgument);

    let lines = all(log.tail(Position { number: 3 }).await.expect("a stream")).await;
    assert_eq!(lines, [entry("0"), entry("1"), entry("2")]);
    let loaded = log.load(entries(vec!["a", "b"])).await.expect("an answer").into_inner();
    assert_eq!(loaded.entries, 2);
    let numbers = all(log.copy(entries(vec!["a", "bc"])).await.expect("a stream")).await;
    assert_eq!(numbers, [Position { number: 1 }, Position { number: 2 }]);
}

#[tokio::test]
async fn a_default_stub_answers_that_it_is_none() {
    struct Nothing;
    impl stubs::Log for Nothing {}

    let server = Server::builder().add_service(stubs::LogServer::new(Nothing));
    let log = LogClient::new(Channel::in_memory(server));
    let refused = log.append(entry("a")).await.expect_err("a status");
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.to_string().contains("traps.all_four_kinds.Log/Append is not implemented"), "{refused}");
    let refused = log.tail(Position { number: 1 }).await.expect_err("a status");
    assert_eq!(refused.code(), Code::Unimplemented);
}
