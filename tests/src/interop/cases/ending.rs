//! Cases of calls that end otherwise: with a status, by cancelling, by a deadline.

use std::time::Duration;

use futures_util::{future, stream};
use ipc_runtime::{Channel, Code, IpcError, Request, Response, Streaming};

use super::messages::{expect_first_pong, first_ping};
use super::{Failure, expect, expect_error, zeros};
use crate::interop::outgoing::outgoing;
use crate::interop::proto::{
    EchoStatus, Empty, SimpleRequest, StreamingInputCallRequest, StreamingOutputCallRequest,
    TestServiceClient, UnimplementedServiceClient,
};

/// White space at both ends, and characters of one, three and four bytes in UTF-8.
const SPECIAL_MESSAGE: &str = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";

pub(super) async fn status_code_and_message(client: &TestServiceClient) -> Result<(), Failure> {
    let message = "test status message";
    unary_status(client, message).await?;
    let requests = stream::once(future::ready(StreamingOutputCallRequest {
        response_status: Some(unknown(message)),
        ..StreamingOutputCallRequest::default()
    }));
    expect_status(first_answer(client.full_duplex_call(requests).await).await, message)
}

pub(super) async fn special_status_message(client: &TestServiceClient) -> Result<(), Failure> {
    unary_status(client, SPECIAL_MESSAGE).await
}

async fn unary_status(client: &TestServiceClient, message: &str) -> Result<(), Failure> {
    let request = SimpleRequest { response_status: Some(unknown(message)), ..SimpleRequest::default() };
    expect_status(client.unary_call(request).await, message)
}

fn unknown(message: &str) -> EchoStatus {
    EchoStatus { code: Code::Unknown as i32, message: message.to_owned() }
}

fn expect_status<T>(outcome: Result<T, IpcError>, message: &str) -> Result<(), Failure> {
    match expect_error(outcome, Code::Unknown)? {
        IpcError::Status(status) => expect("status message", &status.message(), &message),
        error => Err(Failure(format!("the server answered no status: {error}"))),
    }
}

/// What comes first of a call that may fail before its stream of answers begins, or there.
async fn first_answer<T>(outcome: Result<Response<Streaming<T>>, IpcError>) -> Result<Option<T>, IpcError> {
    Ok(outcome?.into_inner().message().await?)
}

pub(super) async fn unimplemented_method(client: &TestServiceClient) -> Result<(), Failure> {
    expect_error(client.unimplemented_call(Empty {}).await, Code::Unimplemented).map(drop)
}

pub(super) async fn unimplemented_service(channel: &Channel) -> Result<(), Failure> {
    let client = UnimplementedServiceClient::new(channel.clone());
    expect_error(client.unimplemented_call(Empty {}).await, Code::Unimplemented).map(drop)
}

/// Here a call is cancelled by dropping it, so `CANCELLED` is seen by the server alone. What the client can tell is
/// that nothing of the call is left on its side, and that the connection serves on.
pub(super) async fn cancel_after_begin(client: &TestServiceClient) -> Result<(), Failure> {
    let (mut feed, requests) = outgoing::<StreamingInputCallRequest>();
    tokio::select! {
        biased;
        outcome = client.streaming_input_call(requests) => {
            outcome?;
            return Err(Failure("the server answered before the requests had ended".to_owned()));
        }
        () = feed.begun() => {}
    }
    feed.released().await;
    serves_on(client).await
}

/// As [`cancel_after_begin`], once the call has answered.
pub(super) async fn cancel_after_first_response(client: &TestServiceClient) -> Result<(), Failure> {
    let (feed, requests) = outgoing();
    let (answers, ()) = tokio::join!(client.full_duplex_call(requests), feed.send(first_ping()));
    let mut answers = answers?.into_inner();
    expect_first_pong(&mut answers).await?;
    drop(answers);
    feed.released().await;
    serves_on(client).await
}

async fn serves_on(client: &TestServiceClient) -> Result<(), Failure> {
    client.empty_call(Empty {}).await?;
    Ok(())
}

pub(super) async fn timeout_on_sleeping_server(client: &TestServiceClient) -> Result<(), Failure> {
    let (feed, requests) = outgoing();
    let request = Request::new(requests).with_timeout(Duration::from_millis(1));
    let sleeping =
        StreamingOutputCallRequest { payload: Some(zeros(27_182)), ..StreamingOutputCallRequest::default() };
    let (outcome, ()) = tokio::join!(client.full_duplex_call(request), feed.send(sleeping));
    expect_error(first_answer(outcome).await, Code::DeadlineExceeded).map(drop)
}
