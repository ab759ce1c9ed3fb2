//! Cases of messages that arrive: none, large ones, many, of each kind of call.

use futures_util::future::try_join_all;
use futures_util::stream;
use ipc_runtime::{Request, Streaming};

use super::{Failure, LIMIT, expect, expect_zeros, zeros};
use crate::interop::outgoing::outgoing;
use crate::interop::proto::{
    Empty, Payload, PayloadType, ResponseParameters, SimpleRequest, StreamingInputCallRequest,
    StreamingOutputCallRequest, StreamingOutputCallResponse, TestServiceClient,
};

const LARGE_REQUEST: usize = 271_828;
const LARGE_RESPONSE: i32 = 314_159;
const REQUESTS: [usize; 4] = [27_182, 8, 1_828, 45_904];
const RESPONSES: [i32; 4] = [31_415, 9, 2_653, 58_979];

pub(super) async fn empty_unary(client: &TestServiceClient) -> Result<(), Failure> {
    let answer = client.empty_call(Empty {}).await?;
    expect("answer", answer.get_ref(), &Empty {})
}

pub(super) async fn large_unary(client: &TestServiceClient) -> Result<(), Failure> {
    one_large_unary(client, large_request()).await
}

/// 1000 of them, all begun before the first is over.
pub(super) async fn concurrent_large_unary(client: &TestServiceClient) -> Result<(), Failure> {
    let request = large_request();
    let calls = (0..1000).map(|_| one_large_unary(client, request.clone()));
    try_join_all(calls).await.map(drop)
}

async fn one_large_unary(client: &TestServiceClient, request: SimpleRequest) -> Result<(), Failure> {
    let answer = client.unary_call(Request::new(request).with_timeout(LIMIT)).await?;
    expect_large_payload(answer.get_ref().payload.as_ref())
}

pub(super) async fn client_streaming(client: &TestServiceClient) -> Result<(), Failure> {
    let requests = REQUESTS.map(|size| StreamingInputCallRequest {
        payload: Some(zeros(size)),
        ..StreamingInputCallRequest::default()
    });
    let answer = client.streaming_input_call(stream::iter(requests)).await?;
    expect("sum of sizes", &answer.get_ref().aggregated_payload_size, &74_922)
}

pub(super) async fn server_streaming(client: &TestServiceClient) -> Result<(), Failure> {
    let request = StreamingOutputCallRequest {
        response_parameters: RESPONSES.map(parameters).to_vec(),
        ..StreamingOutputCallRequest::default()
    };
    let mut answers = client.streaming_output_call(request).await?.into_inner();
    for size in RESPONSES {
        expect_answer(&mut answers, size).await?;
    }
    expect_end(&mut answers).await
}

pub(super) async fn ping_pong(client: &TestServiceClient) -> Result<(), Failure> {
    let (feed, requests) = outgoing();
    let first = one_of_each(REQUESTS[0], RESPONSES[0]);
    // A server may answer nothing at all before it has the first request, so that one doesn't wait for headers.
    let (answers, ()) = tokio::join!(client.full_duplex_call(requests), feed.send(first));
    let mut answers = answers?.into_inner();
    expect_answer(&mut answers, RESPONSES[0]).await?;
    for (request, response) in REQUESTS.into_iter().zip(RESPONSES).skip(1) {
        feed.send(one_of_each(request, response)).await;
        expect_answer(&mut answers, response).await?;
    }
    drop(feed);
    expect_end(&mut answers).await
}

pub(super) async fn empty_stream(client: &TestServiceClient) -> Result<(), Failure> {
    let mut answers = client.full_duplex_call(stream::empty()).await?.into_inner();
    expect_end(&mut answers).await
}

/// The request of `large_unary`.
pub(super) fn large_request() -> SimpleRequest {
    SimpleRequest {
        response_type: PayloadType::Compressable.into(),
        response_size: LARGE_RESPONSE,
        payload: Some(zeros(LARGE_REQUEST)),
        ..SimpleRequest::default()
    }
}

/// Checks that this is the payload of the answer to [`large_request`].
pub(super) fn expect_large_payload(payload: Option<&Payload>) -> Result<(), Failure> {
    expect_zeros(payload, LARGE_RESPONSE)
}

/// A request for one answer, with the sizes of `large_unary`.
pub(super) fn large_stream_request() -> StreamingOutputCallRequest {
    one_of_each(LARGE_REQUEST, LARGE_RESPONSE)
}

/// Takes the answer to [`large_stream_request`].
pub(super) async fn expect_large_answer(
    answers: &mut Streaming<StreamingOutputCallResponse>,
) -> Result<(), Failure> {
    expect_answer(answers, LARGE_RESPONSE).await
}

/// The first request of `ping_pong`.
pub(super) fn first_ping() -> StreamingOutputCallRequest {
    one_of_each(REQUESTS[0], RESPONSES[0])
}

/// Takes the answer to [`first_ping`].
pub(super) async fn expect_first_pong(
    answers: &mut Streaming<StreamingOutputCallResponse>,
) -> Result<(), Failure> {
    expect_answer(answers, RESPONSES[0]).await
}

/// A request of this size that asks for one answer of that size.
fn one_of_each(request: usize, response: i32) -> StreamingOutputCallRequest {
    StreamingOutputCallRequest {
        response_parameters: vec![parameters(response)],
        payload: Some(zeros(request)),
        ..StreamingOutputCallRequest::default()
    }
}

fn parameters(size: i32) -> ResponseParameters {
    ResponseParameters { size, ..ResponseParameters::default() }
}

/// Takes an answer that must come, of this size.
async fn expect_answer(
    answers: &mut Streaming<StreamingOutputCallResponse>,
    size: i32,
) -> Result<(), Failure> {
    match answers.message().await? {
        Some(answer) => expect_zeros(answer.payload.as_ref(), size),
        None => Err(Failure(format!("the stream ended where an answer of {size} bytes must come"))),
    }
}

/// Checks that the stream ends well, here and with no further answer.
pub(super) async fn expect_end(answers: &mut Streaming<StreamingOutputCallResponse>) -> Result<(), Failure> {
    match answers.message().await? {
        None => Ok(()),
        Some(_) => Err(Failure("an answer came that was not asked for".to_owned())),
    }
}
