//! Typed calls through layers: what a layer answers in the call's stead is decoded, what the call answered is kept
//! typed beside it.

use prost::Message;

use super::{CallContext, Layers};
use crate::metadata::Metadata;
use crate::request::Response;
use crate::status::Status;
use crate::streaming::Streaming;

/// Runs a call with a single response through layers.
pub(crate) async fn single<R, E, F, Fut>(
    layers: &Layers<E>,
    mut call: CallContext,
    make: F,
) -> Result<Response<R>, E>
where
    R: Message + Default,
    E: From<Status>,
    F: FnOnce(Metadata) -> Fut + Send,
    Fut: Future<Output = Result<Response<R>, E>> + Send,
{
    let mut received = None;
    let slot = &mut received;
    let last = async move |metadata, mut begin: Metadata| {
        let (own, message, trailers) = make(metadata).await?.into_parts();
        *slot = Some(message);
        begin.merge(own);
        Ok((begin, trailers))
    };
    layers.run(&mut call, last).await?;
    let message = match call.take_answer() {
        Some(answer) => Some(
            R::decode(answer.concat().as_slice())
                .map_err(|error| Status::internal(format!("a layer's answer does not decode: {error}")))?,
        ),
        None => received,
    };
    let message = message.ok_or_else(unanswered)?;
    let (metadata, trailers) = call.into_response_metadata();
    Ok(Response::received(message, metadata, trailers))
}

/// Runs a call with a streamed response through layers.
pub(crate) async fn streaming<R, E, F, Fut>(
    layers: &Layers<E>,
    mut call: CallContext,
    make: F,
) -> Result<Response<Streaming<R>>, E>
where
    R: Message + Default + 'static,
    E: From<Status>,
    F: FnOnce(Metadata) -> Fut + Send,
    Fut: Future<Output = Result<Response<Streaming<R>>, E>> + Send,
{
    let mut received = None;
    let slot = &mut received;
    let last = async move |metadata, mut begin: Metadata| {
        let (own, stream, trailers) = make(metadata).await?.into_parts();
        *slot = Some(stream);
        begin.merge(own);
        Ok((begin, trailers))
    };
    layers.run(&mut call, last).await?;
    let stream = match call.take_answer() {
        Some(answer) => {
            let messages: Result<Vec<R>, _> = answer.into_iter().map(R::decode).collect();
            let messages = messages
                .map_err(|error| Status::internal(format!("a layer's answer does not decode: {error}")))?;
            Some(Streaming::of_list(messages))
        }
        None => received,
    };
    let stream = stream.ok_or_else(unanswered)?;
    let (metadata, trailers) = call.into_response_metadata();
    Ok(Response::received(stream, metadata, trailers))
}

pub(crate) fn unanswered() -> Status {
    Status::internal("a layer neither answered the call nor ran what comes next")
}
