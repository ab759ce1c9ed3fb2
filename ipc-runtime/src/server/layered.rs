//! A call inside its layers. A layer may answer in place of the handler.

use bytes::Bytes;

use super::reply::Encoded;
use super::running::RunningCall;
use super::work::Ended;
use crate::layer::{CallContext, Layers, Path, unanswered};
use crate::metadata::Metadata;
use crate::request::Response;
use crate::status::Status;
use crate::streaming::Streaming;

/// Runs the handler inside its layers. If a layer answers in place of the handler, this also returns that answer. If that
/// answer is a stream, it is already sent when this returns.
pub(super) async fn run(
    layers: Layers<Status>,
    path: Path,
    message: Option<Bytes>,
    metadata: Metadata,
    call: &mut RunningCall,
) -> Result<(Ended, Option<Encoded>), Status> {
    let streams = call.shape.responses;
    let mut context = CallContext::new(path, metadata, call.slot.deadline, Some(call.slot.peer()));
    let mut ran = false;
    let mut answered = false;
    let note_ran = &mut ran;
    let note_answered = &mut answered;
    let inner = &mut *call;
    let last = async move |metadata, begin: Metadata| {
        *note_ran = true;
        let mut headers = if streams { Metadata::new() } else { begin.clone() };
        let ended = inner.handle(message, metadata, begin).await?;
        *note_answered = true;
        headers.merge(ended.headers);
        Ok((headers, ended.trailers))
    };
    layers.run(&mut context, last).await?;
    let instead = context.take_answer();
    let (headers, trailers) = context.into_response_metadata();
    match instead {
        None if answered || streams && ran => Ok((Ended { headers, trailers }, None)),
        None => Err(unanswered()),
        Some(answer) if !streams => {
            let answer = Encoded(Bytes::from(answer.concat()));
            Ok((Ended { headers, trailers }, Some(answer)))
        }
        Some(_) if ran => {
            Err(Status::internal("a layer answered a call whose answer had been streamed already"))
        }
        Some(answer) => {
            let answer = Streaming::of_list(answer.into_iter().map(Encoded).collect());
            call.slot.reply(headers).stream(Ok(Response::new(answer))).await?;
            Ok((Ended { headers: Metadata::new(), trailers }, None))
        }
    }
}
