//! Calls of every kind between a client and a server of this crate, over memory.
//!
//! The service is written by hand as the generator would write it.

#![expect(clippy::unused_async, reason = "handlers are async whether they wait or not")]

use std::time::Duration;

use ipc_runtime::codegen::{Arc, Method, ServerCall, Service, Stream};
use ipc_runtime::{Channel, Code, IpcError, Request, Response, Server, Status, Streaming};

struct Echo;

struct EchoServer(Arc<Echo>);

impl Echo {
    async fn unary(&self, request: Request<String>) -> Result<Response<String>, Status> {
        if request.get_ref() == "sleep" {
            std::future::pending::<()>().await;
        }
        assert_ne!(request.get_ref(), "panic", "as asked");
        let metadata = request.metadata().clone();
        let mut response = Response::new(request.into_inner());
        *response.metadata_mut() = metadata;
        Ok(response)
    }

    async fn repeat(
        &self,
        request: Request<String>,
    ) -> Result<Response<impl Stream<Item = Result<String, Status>> + Send + 'static>, Status> {
        let text = request.into_inner();
        Ok(Response::new(Streaming::of((0..1000).map(move |n| format!("{text}{n}")))))
    }

    async fn join(&self, request: Request<Streaming<String>>) -> Result<Response<String>, Status> {
        let mut stream = request.into_inner();
        let mut all = String::new();
        while let Some(part) = stream.message().await? {
            all.push_str(&part);
        }
        Ok(Response::new(all))
    }

    async fn chat(
        &self,
        request: Request<Streaming<String>>,
    ) -> Result<Response<impl Stream<Item = Result<String, Status>> + Send + 'static>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

impl Service for EchoServer {
    const NAME: &'static str = "test.Echo";
    const METHODS: &'static [&'static str] = &["Unary", "Repeat", "Join", "Chat"];

    fn dispatch(&self, method: usize, call: ServerCall) {
        let service = Arc::clone(&self.0);
        match method {
            0 => call.unary(move |request| async move { service.unary(request).await }),
            1 => call.server_streaming(move |request, reply| async move {
                reply.stream(service.repeat(request).await).await
            }),
            2 => call.client_streaming(move |request| async move { service.join(request).await }),
            3 => call.bidi_streaming(move |request, reply| async move {
                reply.stream(service.chat(request).await).await
            }),
            _ => call.unimplemented(),
        }
    }
}

fn channel() -> Channel {
    Channel::in_memory(Server::builder().add_service(EchoServer(Arc::new(Echo))))
}

async fn unary(channel: &Channel, request: Request<String>) -> Result<Response<String>, IpcError> {
    channel.unary(Method::new("/test.Echo/Unary"), request).await
}

#[tokio::test]
async fn a_unary_call_brings_its_message_and_metadata_back() {
    let channel = channel();
    let mut request = Request::new("hello".to_owned());
    request.metadata_mut().append("k", "v").unwrap();
    let response = unary(&channel, request).await.unwrap();
    assert_eq!(response.metadata().get("k"), Some("v"));
    assert_eq!(response.into_inner(), "hello");
}

#[tokio::test]
async fn a_panic_ends_one_call() {
    let channel = channel();
    let error = unary(&channel, Request::new("panic".to_owned())).await.unwrap_err();
    assert_eq!((error.code(), error.request_sent()), (Code::Internal, true));
    unary(&channel, Request::new("on".to_owned())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_call() {
    let channel = channel();
    let request = Request::new("sleep".to_owned()).with_timeout(Duration::from_millis(20));
    let error = unary(&channel, request).await.unwrap_err();
    assert!(matches!(error, IpcError::Timeout), "{error}");
}

#[tokio::test]
async fn the_server_streams() {
    let channel = channel();
    let request = Request::new("x".to_owned());
    let response = channel.server_streaming(Method::new("/test.Echo/Repeat"), request).await.unwrap();
    let mut stream: Streaming<String> = response.into_inner();
    for n in 0..1000 {
        assert_eq!(stream.message().await.unwrap(), Some(format!("x{n}")));
    }
    assert_eq!(stream.message().await.unwrap(), None);
}

struct Parts(u32);

impl Stream for Parts {
    type Item = String;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<String>> {
        let left = self.0;
        self.0 = left.saturating_sub(1);
        std::task::Poll::Ready((left > 0).then(|| "y".repeat(1000)))
    }
}

#[tokio::test]
async fn the_client_streams() {
    let channel = channel();
    let response: Response<String> =
        channel.client_streaming(Method::new("/test.Echo/Join"), Request::new(Parts(900))).await.unwrap();
    assert_eq!(response.into_inner().len(), 900_000);
}

#[tokio::test]
async fn both_stream() {
    let channel = channel();
    let response =
        channel.bidi_streaming(Method::new("/test.Echo/Chat"), Request::new(Parts(5000))).await.unwrap();
    let mut stream: Streaming<String> = response.into_inner();
    let mut count = 0;
    while let Some(part) = stream.message().await.unwrap() {
        assert_eq!(part.len(), 1000);
        count += 1;
    }
    assert_eq!(count, 5000);
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let channel = channel();
    let error = channel
        .unary::<String, String>(Method::new("/test.Echo/No"), Request::new(String::new()))
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.request_sent()), (Code::Unimplemented, false));
}
