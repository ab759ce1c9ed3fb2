//! The case of metadata, text and bytes, both ways.

use futures_util::{future, stream};
use ipc_runtime::{Metadata, Request};

use super::messages::{
    expect_end, expect_large_answer, expect_large_payload, large_request, large_stream_request,
};
use super::{Failure, expect};
use crate::interop::proto::TestServiceClient;
use crate::interop::{ECHO_INITIAL, ECHO_TRAILING};

const INITIAL: &[u8] = b"test_initial_metadata_value";
const TRAILING: &[u8] = &[0xab, 0xab, 0xab];

pub(super) async fn custom_metadata(client: &TestServiceClient) -> Result<(), Failure> {
    unary(client).await?;
    full_duplex(client).await
}

async fn unary(client: &TestServiceClient) -> Result<(), Failure> {
    let answer = client.unary_call(with_metadata(large_request())?).await?;
    expect_large_payload(answer.get_ref().payload.as_ref())?;
    expect_value("initial metadata of a unary call", answer.metadata(), ECHO_INITIAL, INITIAL)?;
    expect_value("trailing metadata of a unary call", answer.trailers(), ECHO_TRAILING, TRAILING)
}

async fn full_duplex(client: &TestServiceClient) -> Result<(), Failure> {
    let requests = stream::once(future::ready(large_stream_request()));
    let answer = client.full_duplex_call(with_metadata(requests)?).await?;
    expect_value("initial metadata of a stream", answer.metadata(), ECHO_INITIAL, INITIAL)?;
    let mut answers = answer.into_inner();
    expect_large_answer(&mut answers).await?;
    expect_end(&mut answers).await?;
    expect_value("trailing metadata of a stream", answers.trailers(), ECHO_TRAILING, TRAILING)
}

fn with_metadata<T>(message: T) -> Result<Request<T>, Failure> {
    let mut request = Request::new(message);
    request.metadata_mut().append(ECHO_INITIAL, INITIAL)?;
    request.metadata_mut().append(ECHO_TRAILING, TRAILING)?;
    Ok(request)
}

/// Checks that the key came once, with this value.
fn expect_value(what: &str, metadata: &Metadata, key: &str, value: &[u8]) -> Result<(), Failure> {
    let came: Vec<&[u8]> = metadata.get_all(key).map(|value| &value[..]).collect();
    expect(what, &came, &vec![value])
}
