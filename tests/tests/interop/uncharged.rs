//! Only items cost credit: the end of a stream, in either direction, waits for none and is said once.

use bytes::Bytes;
use futures_util::stream;
use ipc_runtime::{Channel, Server};
use ipc_tests::interop::proto::{
    EchoStatus, ResponseParameters, StreamingOutputCallRequest, TestServiceClient, TestServiceServer,
};
use ipc_tests::interop::service::Interop;
use ipc_tests::raw::{RawPeer, RawServer};
use ipc_tests::setup::{done, place};
use ipc_tests::wire::{self, Body, Close, Headers, Hello, Open};
use prost::Message;

/// A client that grants nothing beyond `initial_credit` calls `FullDuplexCall` with one request.
async fn answers_to(initial_credit: u64, request: &StreamingOutputCallRequest) -> (Vec<Bytes>, Close) {
    let (config, _directory) = place();
    let server = Server::builder().add_service(TestServiceServer::new(Interop));
    let server = server.bind(&config).await.unwrap();
    let serving = tokio::spawn(server.serve());
    let mut raw = RawPeer::connect(&config.endpoint_path).await;
    raw.greet(Hello { initial_credit, ..wire::hello() }).await;
    let open = Open {
        method: "/grpc.testing.TestService/FullDuplexCall".to_owned(),
        message: Some(request.encode_to_vec().into()),
        end_of_stream: true,
        ..Open::default()
    };
    raw.send(1, open).await;
    let answers = raw.streamed(1).await;
    serving.abort();
    answers
}

#[tokio::test]
async fn a_stream_without_answers_ends_without_credit() {
    let (items, close) = answers_to(0, &StreamingOutputCallRequest::default()).await;
    assert_eq!((items.len(), close.status), (0, None));
}

#[tokio::test]
async fn a_stream_that_fails_ends_without_credit() {
    let response_status = Some(EchoStatus { code: 5, message: "as asked".to_owned() });
    let request = StreamingOutputCallRequest { response_status, ..StreamingOutputCallRequest::default() };
    let (items, close) = answers_to(0, &request).await;
    assert_eq!((items.len(), close.status.map(|status| status.code)), (0, Some(5)));
}

#[tokio::test]
async fn a_stream_ends_after_the_item_that_used_the_credit_up() {
    let request = StreamingOutputCallRequest {
        response_parameters: vec![ResponseParameters { size: 1000, ..ResponseParameters::default() }],
        ..StreamingOutputCallRequest::default()
    };
    let (items, close) = answers_to(1, &request).await;
    assert_eq!((items.len(), close.status), (1, None));
}

/// Our client, past the Hellos, in a `FullDuplexCall` whose requests are these.
async fn calling(
    initial_credit: u64,
    requests: Vec<StreamingOutputCallRequest>,
) -> (RawPeer, tokio::task::JoinHandle<usize>) {
    let (config, _directory) = place();
    let server = RawServer::bind(&config.endpoint_path);
    let client = TestServiceClient::new(Channel::new(&config).unwrap());
    let call = tokio::spawn(async move {
        let mut answers = client.full_duplex_call(stream::iter(requests)).await.unwrap().into_inner();
        let mut count = 0;
        while answers.message().await.unwrap().is_some() {
            count += 1;
        }
        count
    });
    let mut raw = server.greeted_with(Hello { initial_credit, ..wire::hello() }).await;
    raw.opened(1).await;
    (raw, call)
}

#[tokio::test]
async fn requests_end_without_credit() {
    let (mut raw, call) = calling(0, Vec::new()).await;
    assert_eq!(raw.half_closed().await.0, 1);
    raw.send(1, Close::default()).await;
    assert_eq!(done(call).await, 0);
}

#[tokio::test]
async fn requests_end_after_the_item_that_used_the_credit_up() {
    let (mut raw, call) = calling(1, vec![StreamingOutputCallRequest::default()]).await;
    raw.has_item(1).await;
    assert_eq!(raw.half_closed().await.0, 1);
    raw.send(1, Close::default()).await;
    assert_eq!(done(call).await, 0);
}

#[tokio::test]
async fn the_end_of_the_requests_is_said_once() {
    let (mut raw, call) = calling(1 << 20, vec![StreamingOutputCallRequest::default()]).await;
    raw.has_item(1).await;
    assert_eq!(raw.half_closed().await.0, 1);
    raw.send_all([(1, Body::from(Headers::default())), (1, wire::item("").into())]).await;
    raw.is_quiet().await;
    raw.send(1, Close::default()).await;
    assert_eq!(done(call).await, 1);
}
