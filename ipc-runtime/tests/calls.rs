//! Calls of every kind between a client and a server of this crate, over memory.
//!
//! The service is written by hand as the generator would write it.

#![expect(clippy::unused_async, reason = "handlers are async whether they wait or not")]
#![expect(clippy::unwrap_used, reason = "a test that panics says why")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipc_runtime::codegen::{Arc, Method, ServerCall, Service, Stream};
use ipc_runtime::{CallContext, Channel, ClientLayer, Code, IpcConfig, IpcError, Layered, Next, Request};
use ipc_runtime::{Response, Server, ServerLayer, Status, Streaming};

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

/// Adds its mark to what passes, or ends the call where the request's metadata ask for it.
struct Mark(&'static str);

impl ServerLayer for Mark {
    async fn call(&self, call: &mut CallContext, next: Next<'_, Status>) -> Result<(), Status> {
        assert_eq!((call.service(), &*call.peer().unwrap().version), ("test.Echo", "tests"));
        match call.metadata().get("layer") {
            Some("refuse") => return Err(Status::permission_denied(call.method())),
            Some("answer") => {
                call.answer(&format!("from {}", self.0));
                return Ok(());
            }
            _ => {}
        }
        call.metadata_mut().append("seen-by", self.0)?;
        call.response_metadata_mut().append("passed", self.0)?;
        next.run(call).await?;
        call.trailers_mut().append("done", self.0)?;
        Ok(())
    }
}

fn layered_channel() -> Channel {
    let service = Layered::new(EchoServer(Arc::new(Echo)), Mark("inner"));
    let server = Server::builder().add_service(service).layer(Mark("outer"));
    let config = IpcConfig::default();
    Channel::in_memory_with(server, &config, Channel::builder(&config).peer_version("tests")).unwrap()
}

fn asking(layer: &str) -> Request<String> {
    let mut request = Request::new("hello".to_owned());
    request.metadata_mut().append("layer", layer.to_owned()).unwrap();
    request
}

fn all(metadata: &ipc_runtime::Metadata, key: &str) -> Vec<String> {
    metadata.get_all(key).map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn server_layers_see_a_call_from_the_outside_in() {
    let response = unary(&layered_channel(), asking("pass")).await.unwrap();
    assert_eq!(all(response.metadata(), "seen-by"), ["outer", "inner"]);
    assert_eq!(all(response.metadata(), "passed"), ["outer", "inner"]);
    assert_eq!(all(response.trailers(), "done"), ["inner", "outer"]);
}

#[tokio::test]
async fn a_server_layer_refuses_and_answers_calls_of_every_kind() {
    let channel = layered_channel();
    let refused = unary(&channel, asking("refuse")).await.unwrap_err();
    assert_eq!((refused.code(), refused.request_sent()), (Code::PermissionDenied, false));
    assert_eq!(unary(&channel, asking("answer")).await.unwrap().into_inner(), "from outer");

    let repeat = Method::new("/test.Echo/Repeat");
    let refused = channel.server_streaming::<_, String>(repeat, asking("refuse")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut stream: Streaming<String> =
        channel.server_streaming(repeat, asking("answer")).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().as_deref(), Some("from outer"));
    assert_eq!(stream.message().await.unwrap(), None);

    let response = channel.server_streaming::<_, String>(repeat, asking("pass")).await.unwrap();
    assert_eq!(all(response.metadata(), "passed"), ["outer", "inner"]);
    let mut stream = response.into_inner();
    while stream.message().await.unwrap().is_some() {}
    assert_eq!(all(stream.trailers(), "done"), ["inner", "outer"]);
}

/// Counts calls, and answers those of one method itself.
struct Tap(Arc<AtomicUsize>);

impl ClientLayer for Tap {
    async fn call(&self, call: &mut CallContext, next: Next<'_, IpcError>) -> Result<(), IpcError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        call.metadata_mut().append("tapped", "yes")?;
        if call.method() == "Local" {
            call.answer(&"not sent".to_owned());
            return Ok(());
        }
        next.run(call).await?;
        assert_eq!(call.response_metadata().get("tapped"), Some("yes"));
        Ok(())
    }
}

#[tokio::test]
async fn a_client_layer_sees_changes_and_answers_calls() {
    let count = Arc::new(AtomicUsize::new(0));
    let channel = channel().layered(Tap(Arc::clone(&count)));
    let response = unary(&channel, Request::new("x".to_owned())).await.unwrap();
    assert_eq!(response.metadata().get("tapped"), Some("yes"));
    let local = channel.unary::<_, String>(Method::new("/test.Echo/Local"), asking("")).await.unwrap();
    assert_eq!(local.into_inner(), "not sent");
    let mut stream: Streaming<String> =
        channel.server_streaming(Method::new("/test.Echo/Local"), asking("")).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().as_deref(), Some("not sent"));
    assert_eq!(count.load(Ordering::Relaxed), 3);
}

/// A service that calls another one.
struct Relay(Channel);

impl Service for Relay {
    const NAME: &'static str = "test.Relay";
    const METHODS: &'static [&'static str] = &["Inherit", "Outlive"];

    fn dispatch(&self, method: usize, call: ServerCall) {
        let channel = self.0.clone();
        call.unary(move |request: Request<String>| async move {
            let onward = Request::new(request.into_inner()).without_timeout();
            let onward = if method == 0 { onward } else { onward.without_inherited_deadline() };
            let text = unary(&channel, onward).await?.into_inner();
            Ok(Response::new(text))
        });
    }
}

/// Says when the deadline that a call arrives with is.
struct Watch(tokio::sync::mpsc::UnboundedSender<Option<Duration>>);

impl ServerLayer for Watch {
    async fn call(&self, call: &mut CallContext, next: Next<'_, Status>) -> Result<(), Status> {
        let left = call.deadline().map(|deadline| deadline - tokio::time::Instant::now());
        self.0.send(left).unwrap();
        next.run(call).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_made_in_a_handler_inherits_its_deadline_unless_told_otherwise() {
    let (sender, mut left) = tokio::sync::mpsc::unbounded_channel();
    let behind = Server::builder().add_service(EchoServer(Arc::new(Echo))).layer(Watch(sender));
    let relay = Channel::in_memory(Server::builder().add_service(Relay(Channel::in_memory(behind))));
    for (method, wanted) in
        [("/test.Relay/Inherit", Some(Duration::from_secs(7))), ("/test.Relay/Outlive", None)]
    {
        let request = Request::new("x".to_owned()).with_timeout(Duration::from_secs(7));
        let _: Response<String> = relay.unary(Method::new(method), request).await.unwrap();
        assert_eq!(left.recv().await.unwrap(), wanted);
    }
}
