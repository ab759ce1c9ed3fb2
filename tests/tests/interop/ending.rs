//! Told to end, by SIGTERM or on Windows by the end of its standard input: calls that run may end, new ones are refused, and what takes too long is cut.

use ipc_runtime::{Channel, Code, IpcConfig, Request, Streaming};
use ipc_tests::interop::outgoing::{Feed, outgoing};
use ipc_tests::interop::proto::{
    Empty, Payload, ResponseParameters, StreamingOutputCallRequest, StreamingOutputCallResponse,
    TestServiceClient,
};

use super::programs::{Ended, ServerProgram};

#[tokio::test]
async fn told_to_end_without_calls_it_ends() {
    let mut server = ServerProgram::start(&[]).await;
    server.terminate();
    assert_eq!(server.ended().await, Ended::well(0));
}

#[tokio::test]
async fn told_to_end_it_lets_a_call_that_runs_come_to_its_end() {
    let mut server = ServerProgram::start(&[]).await;
    let client = client_of(&server);
    let (feed, mut answers) = begun_call(&client).await;
    server.terminate();
    refused_from_now_on(&client).await;
    feed.send(one_byte()).await;
    assert_eq!(answers.message().await.unwrap(), Some(answer_of_one_byte()));
    drop(feed);
    assert_eq!(answers.message().await.unwrap(), None);
    assert_eq!(server.ended().await, Ended::well(0));
}

#[tokio::test]
async fn told_to_end_it_cuts_a_call_that_outlasts_the_drain_time() {
    let mut server = ServerProgram::start(&["--drain-ms", "1"]).await;
    let client = client_of(&server);
    let (_feed, mut answers) = begun_call(&client).await;
    server.terminate();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(server.ended().await, Ended::well(1));
}

fn client_of(server: &ServerProgram) -> TestServiceClient {
    let config = IpcConfig { endpoint_path: server.socket(), ..IpcConfig::default() };
    TestServiceClient::new(Channel::new(&config).unwrap())
}

/// A call that has been answered once and goes on as long as it is fed.
async fn begun_call(
    client: &TestServiceClient,
) -> (Feed<StreamingOutputCallRequest>, Streaming<StreamingOutputCallResponse>) {
    let (feed, requests) = outgoing();
    let (answers, ()) = tokio::join!(client.full_duplex_call(requests), feed.send(one_byte()));
    let mut answers = answers.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap(), Some(answer_of_one_byte()));
    (feed, answers)
}

/// Calls until the server has seen the signal; up to then it answers, from then on it refuses.
async fn refused_from_now_on(client: &TestServiceClient) {
    loop {
        // One that waits is asked to come back while the server drains.
        match client.empty_call(Request::new(Empty {}).with_wait_for_ready(false)).await {
            Ok(_) => {}
            Err(error) => return assert_eq!(error.code(), Code::Unavailable, "{error}"),
        }
    }
}

fn one_byte() -> StreamingOutputCallRequest {
    StreamingOutputCallRequest {
        response_parameters: vec![ResponseParameters { size: 1, ..ResponseParameters::default() }],
        ..StreamingOutputCallRequest::default()
    }
}

fn answer_of_one_byte() -> StreamingOutputCallResponse {
    StreamingOutputCallResponse { payload: Some(Payload { body: vec![0].into(), ..Payload::default() }) }
}
