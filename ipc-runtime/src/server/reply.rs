//! A streamed answer on its way out: headers, then items as the client's credit allows.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_core::Stream;
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

use super::calls::ServerConnection;
use crate::connection::call::CallState;
use crate::connection::writer::{Class, Refusal};
use crate::metadata::Metadata;
use crate::request::Response;
use crate::status::Status;
use crate::wire::encode::pairs;
use crate::wire::{Body, Headers};

/// What a handler that streams its answer is given to stream it with.
pub struct Reply {
    owner: Arc<ServerConnection>,
    id: u64,
    state: Arc<CallState>,
    /// Metadata that layers put before the handler's own.
    begin: Metadata,
}

/// Instead of a message: the answer was streamed to its end.
#[derive(Debug)]
pub struct Streamed;

impl Reply {
    pub(super) const fn new(
        owner: Arc<ServerConnection>,
        id: u64,
        state: Arc<CallState>,
        begin: Metadata,
    ) -> Self {
        Self { owner, id, state, begin }
    }

    /// Sends the metadata and the items of a handler's response.
    ///
    /// The handler's stream stays inside this call, so it may borrow what the handler borrows.
    ///
    /// # Errors
    ///
    /// The handler's, or the stream's, or what can't be sent; it ends the call.
    pub async fn stream<R, S>(
        mut self,
        response: Result<Response<S>, Status>,
    ) -> Result<Response<Streamed>, Status>
    where
        R: Message,
        S: Stream<Item = Result<R, Status>>,
    {
        let (own, stream, trailers) = response?.into_parts();
        let mut headers = std::mem::take(&mut self.begin);
        headers.merge(own);
        self.send_headers(&headers)?;
        let mut stream = pin!(stream);
        while let Some(item) = poll_fn(|cx| self.flush_if_pending(stream.as_mut().poll_next(cx))).await {
            let item = item?;
            // The end of the stream, or its failure, needs no credit.
            if !poll_fn(|cx| self.flush_if_pending(self.state.poll_credit(cx))).await {
                break;
            }
            self.send_item(&item).await?;
        }
        Ok(Response::received(Streamed, Metadata::new(), trailers))
    }

    fn send_headers(&self, headers: &Metadata) -> Result<(), Status> {
        let connection = &self.owner.connection;
        let sent = connection.writer.append(Class::Control, |buffer, _| {
            connection.encoder.put(buffer, self.id, Body::Headers(Headers { metadata: pairs(headers) }))
        });
        match sent {
            Err(Refusal::Frame(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Items are written together: everything appended so far leaves before this waits.
    fn flush_if_pending<T>(&self, poll: Poll<T>) -> Poll<T> {
        if poll.is_pending() {
            self.owner.connection.writer.flush();
        }
        poll
    }

    async fn send_item(&self, item: &impl Message) -> Result<(), Status> {
        let connection = &self.owner.connection;
        let mut length = 0;
        let put = |buffer: &mut BytesMut, _| {
            length = connection.encoder.put_item(buffer, self.id, item)?;
            Ok(())
        };
        match connection.append_call(put).await {
            Ok(_) => self.state.spend(length),
            Err(Refusal::Frame(error)) => return Err(error.into()),
            Err(Refusal::Ended | Refusal::Full) => {
                return Err(Status::unavailable("the connection has ended"));
            }
        }
        Ok(())
    }
}

/// A message that a layer has encoded already.
#[derive(Debug, Default)]
pub(super) struct Encoded(pub(super) Bytes);

impl Message for Encoded {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buffer, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("id", &self.id).finish_non_exhaustive()
    }
}
