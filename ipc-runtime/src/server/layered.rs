//! A call inside its layers: one of them may answer in the handler's stead.

use bytes::Bytes;

use super::dispatch::Around;
use super::reply::Encoded;
use super::task::Job;
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
    message: Option<Bytes>,
    metadata: Metadata,
    job: &mut Job,
) -> Result<(Ended, Option<Encoded>), Status> {
    let (streams, deadline) = (job.shape.responses, job.slot.state.deadline());
    let path = job.slot.path(around.route);
    let mut context = CallContext::new(path, metadata, deadline, Some(job.slot.peer()));
    let (mut ran, mut answered) = (false, false);
    let (ran_, answered_, inner) = (&mut ran, &mut answered, &mut *job);
    let last = async move |metadata, begin: Metadata| {
        *ran_ = true;
        let mut headers = if streams { Metadata::new() } else { begin.clone() };
        let ended = inner.handle(message, metadata, begin).await?;
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
            job.slot.reply(headers).stream(Ok(Response::new(answer))).await?;
            Ok((Ended { headers: Metadata::new(), trailers }, None))
        }
    }
}
