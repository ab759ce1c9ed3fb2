//! A call inside its layers: one of them may answer in the handler's stead.

use bytes::Bytes;

use super::dispatch::{Around, Call};
use super::reply::Encoded;
use super::work::Ended;
use crate::layer::{CallContext, unanswered};
use crate::metadata::Metadata;
use crate::request::Response;
use crate::status::Status;
use crate::streaming::Streaming;

/// Runs the handler inside its layers; returns also what a layer answers with in its stead, unless that is a stream, which
/// has been sent then.
pub(super) async fn through(
    around: Around,
    metadata: Metadata,
    call: Call<'_>,
) -> Result<(Ended, Option<Encoded>), Status> {
    let (slot, streams) = (call.slot, call.shape.responses);
    let mut context = CallContext::new(around.path, metadata, call.deadline, Some(slot.peer()));
    let (mut ran, mut answered) = (false, false);
    let (ran_, answered_) = (&mut ran, &mut answered);
    let last = async move |metadata, begin: Metadata| {
        *ran_ = true;
        let mut headers = if streams { Metadata::new() } else { begin.clone() };
        let ended = call.handle(metadata, begin).await?;
        *answered_ = true;
        headers.merge(ended.headers);
        Ok((headers, ended.trailers))
    };
    around.layers.run(&mut context, last).await?;
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
            slot.reply(headers).stream(Ok(Response::new(answer))).await?;
            Ok((Ended { headers: Metadata::new(), trailers }, None))
        }
    }
}
