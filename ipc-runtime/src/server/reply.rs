//! Sends a streamed answer: headers, then items as the client's credit allows.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, BufMut, Bytes};
use futures_core::Stream;
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

use crate::error::IpcError;
use crate::link::Link;
use crate::link::batch::{Batch, Outgoing, Stopped};
use crate::link::scratch;
use crate::metadata::Metadata;
use crate::protocol::encode::Encode;
use crate::protocol::table::CallKey;
use crate::request::Response;
use crate::status::Status;

/// Sends the streamed answer of a handler.
pub struct Reply {
    link: Arc<Link>,
    key: CallKey,
    id: u64,
    /// Metadata that layers put before the handler's own.
    begin: Metadata,
}

/// Takes the place of a message when the answer was streamed to its end.
#[derive(Debug)]
pub struct Streamed;

impl Reply {
    pub(super) const fn new(link: Arc<Link>, key: CallKey, id: u64, begin: Metadata) -> Self {
        Self { link, key, id, begin }
    }

    /// Sends the metadata and the items of a handler's response.
    ///
    /// The handler's stream stays inside this function, so it may borrow what the handler borrows.
    ///
    /// # Errors
    ///
    /// An error of the handler or of the stream, or an item that can't be sent. It ends the call.
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
        let mut batch = Batch::default();
        let mut stream = pin!(stream);
        loop {
            batch.room(self.outgoing()).await;
            let next = poll_fn(|cx| Poll::Ready(stream.as_mut().poll_next(cx))).await;
            let next = match next {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    self.send(&mut batch)?;
                    poll_fn(|cx| stream.as_mut().poll_next(cx)).await
                }
            };
            let Some(Ok(item)) = next else {
                // The end or the failure of the stream needs no credit.
                self.send(&mut batch)?;
                next.transpose()?;
                return Ok(Response::received(Streamed, Metadata::new(), trailers));
            };
            if !matches!(batch.try_put(self.outgoing(), &item), Ok(true)) {
                self.put(&mut batch, &item).await?;
            }
        }
    }

    async fn put(&self, batch: &mut Batch, item: &dyn Encode) -> Result<(), Status> {
        let Err(stopped) = batch.put(self.outgoing(), item).await else { return Ok(()) };
        if let Stopped::Item(_) = stopped {
            self.send(batch)?;
        }
        Err(stopped.into())
    }

    /// Sends the batch. This is done before waiting for anything.
    fn send(&self, batch: &mut Batch) -> Result<(), Status> {
        if batch.is_empty() {
            self.link.flush();
        }
        batch.send(self.outgoing()).map_err(Status::from)
    }

    fn outgoing(&self) -> Outgoing<'_> {
        Outgoing { link: &self.link, key: self.key, id: self.id }
    }

    fn send_headers(&self, headers: &Metadata) -> Result<(), Status> {
        let (link, key) = (&self.link, self.key);
        scratch::encode(
            0,
            |buffer| link.encoder().put_headers(buffer, self.id, headers),
            |frame| {
                // They are sent with the first items, or before waiting for anything.
                link.peek(|core| core.send_headers(key, frame));
            },
        )
        .map_err(IpcError::into)
    }
}

impl From<Stopped> for Status {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Over => Self::unavailable("the client takes no more, or the connection has ended"),
            Stopped::Item(error) => error.into(),
        }
    }
}

/// A message that a layer has already encoded.
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
