//! The service that the cases call: a payload of the size asked for, the status asked for, the metadata sent.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream::try_unfold;
use futures_util::{Stream, TryStreamExt};
use ipc_runtime::{Code, Metadata, Request, Response, Status, Streaming};

use super::proto::{
    EchoStatus, Empty, Payload, PayloadType, ResponseParameters, SimpleRequest, SimpleResponse,
    StreamingInputCallRequest, StreamingInputCallResponse, StreamingOutputCallRequest,
    StreamingOutputCallResponse, TestService,
};
use super::{ECHO_INITIAL, ECHO_TRAILING};

/// Serves `grpc.testing.TestService`. There is no compression, no load balancing and no OAuth; requests for them
/// are ignored, as gRPC's descriptions allow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interop;

impl TestService for Interop {
    async fn empty_call(&self, request: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Echo::of(request.metadata()).answer(Empty {}))
    }

    async fn unary_call(&self, request: Request<SimpleRequest>) -> Result<Response<SimpleResponse>, Status> {
        let echo = Echo::of(request.metadata());
        let request = request.into_inner();
        if let Err(status) = asked_for(request.response_status) {
            return Err(echo.fail(status));
        }
        let payload = payload(request.response_type, request.response_size)?;
        let server_id =
            if request.fill_server_id { format!("interop-{}", std::process::id()) } else { String::new() };
        Ok(echo.answer(SimpleResponse { payload: Some(payload), server_id, ..SimpleResponse::default() }))
    }

    async fn cacheable_unary_call(
        &self,
        request: Request<SimpleRequest>,
    ) -> Result<Response<SimpleResponse>, Status> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let payload = Payload { r#type: 0, body: now.as_nanos().to_string().into() };
        let mut response = Echo::of(request.metadata())
            .answer(SimpleResponse { payload: Some(payload), ..SimpleResponse::default() });
        response.metadata_mut().append("cache-control", "max-age=60, public")?;
        Ok(response)
    }

    async fn streaming_output_call(
        &self,
        request: Request<StreamingOutputCallRequest>,
    ) -> Result<
        Response<impl Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send + 'static>,
        Status,
    > {
        let echo = Echo::of(request.metadata());
        Ok(echo.stream(Streaming::of([request.into_inner()])))
    }

    async fn streaming_input_call(
        &self,
        request: Request<Streaming<StreamingInputCallRequest>>,
    ) -> Result<Response<StreamingInputCallResponse>, Status> {
        let echo = Echo::of(request.metadata());
        let mut requests = request.into_inner();
        let mut sum: usize = 0;
        while let Some(request) = requests.message().await? {
            sum = sum.saturating_add(request.payload.map_or(0, |payload| payload.body.len()));
        }
        let aggregated_payload_size = i32::try_from(sum)
            .map_err(|_| Status::out_of_range(format!("{sum} bytes are more than an int32 can say")))?;
        Ok(echo.answer(StreamingInputCallResponse { aggregated_payload_size }))
    }

    async fn full_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<
        Response<impl Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send + 'static>,
        Status,
    > {
        let echo = Echo::of(request.metadata());
        Ok(echo.stream(request.into_inner()))
    }

    async fn half_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<
        Response<impl Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send + 'static>,
        Status,
    > {
        let echo = Echo::of(request.metadata());
        let mut requests = request.into_inner();
        let mut all = Vec::new();
        while let Some(mut request) = requests.message().await? {
            request.payload = None;
            all.push(request);
        }
        Ok(echo.stream(Streaming::of(all)))
    }

    async fn unimplemented_call(&self, _request: Request<Empty>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented("grpc.testing.TestService/UnimplementedCall is left out on purpose"))
    }
}

/// The metadata that goes back as it came.
struct Echo {
    initial: Metadata,
    trailing: Metadata,
}

impl Echo {
    fn of(request: &Metadata) -> Self {
        Self { initial: all_of(request, ECHO_INITIAL), trailing: all_of(request, ECHO_TRAILING) }
    }

    fn answer<T>(self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        *response.metadata_mut() = self.initial;
        *response.trailers_mut() = self.trailing;
        response
    }

    fn fail(self, status: Status) -> Status {
        status.with_metadata(self.trailing)
    }

    /// Answers each request with one payload for each of its parameters.
    fn stream(
        self,
        requests: Streaming<StreamingOutputCallRequest>,
    ) -> Response<impl Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send + 'static> {
        let trailing = self.trailing.clone();
        self.answer(replies(requests).map_err(move |status| status.with_metadata(trailing.clone())))
    }
}

fn all_of(metadata: &Metadata, key: &str) -> Metadata {
    let mut found = Metadata::new();
    for value in metadata.get_all(key) {
        found.append(key, value.clone()).expect("a key that came is a good key");
    }
    found
}

fn replies(
    requests: Streaming<StreamingOutputCallRequest>,
) -> impl Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send + 'static {
    let state = (requests, VecDeque::<(i32, ResponseParameters)>::new());
    try_unfold(state, |(mut requests, mut due)| async move {
        loop {
            if let Some((kind, wanted)) = due.pop_front() {
                let pause = u64::try_from(wanted.interval_us).unwrap_or(0);
                if pause > 0 {
                    tokio::time::sleep(Duration::from_micros(pause)).await;
                }
                let payload = payload(kind, wanted.size)?;
                return Ok(Some((StreamingOutputCallResponse { payload: Some(payload) }, (requests, due))));
            }
            let Some(request) = requests.message().await? else { return Ok(None) };
            asked_for(request.response_status)?;
            let kind = request.response_type;
            due.extend(request.response_parameters.into_iter().map(|wanted| (kind, wanted)));
        }
    })
}

/// The status that the client asked for, as an error.
fn asked_for(status: Option<EchoStatus>) -> Result<(), Status> {
    match status {
        Some(EchoStatus { code, message }) if code != 0 => Err(Status::new(Code::from(code), message)),
        _ => Ok(()),
    }
}

fn payload(kind: i32, size: i32) -> Result<Payload, Status> {
    if PayloadType::try_from(kind).is_err() {
        return Err(Status::invalid_argument(format!(
            "payload type {kind} is unknown; ask for COMPRESSABLE"
        )));
    }
    let size = usize::try_from(size)
        .map_err(|_| Status::invalid_argument(format!("a payload of {size} bytes is asked for")))?;
    Ok(Payload { r#type: kind, body: Bytes::from(vec![0; size]) })
}
