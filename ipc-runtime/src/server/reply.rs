//! A streamed answer on its way out: headers, then items as the client's credit allows.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use prost::Message;

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
}

/// An answer that was streamed to its end; the trailers go with it.
#[derive(Debug)]
pub struct Streamed(pub(super) Metadata);

impl Reply {
    pub(super) const fn new(owner: Arc<ServerConnection>, id: u64, state: Arc<CallState>) -> Self {
        Self { owner, id, state }
    }

    /// Sends the metadata and the items of a handler's response.
    ///
    /// The handler's stream stays inside this call, so it may borrow what the handler borrows.
    ///
    /// # Errors
    ///
    /// The handler's, or the stream's, or what can't be sent; it ends the call.
    pub async fn stream<R, S>(self, response: Result<Response<S>, Status>) -> Result<Streamed, Status>
    where
        R: Message,
        S: Stream<Item = Result<R, Status>>,
    {
        let (headers, stream, trailers) = response?.into_parts();
        self.send_headers(&headers)?;
        let mut stream = pin!(stream);
        while let Some(item) = poll_fn(|cx| self.poll_answer(cx, stream.as_mut())).await {
            self.send_item(&item?).await?;
        }
        Ok(Streamed(trailers))
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

    /// The handler's next item, once credit allows one. Everything appended so far leaves before this waits.
    fn poll_answer<R>(
        &self,
        cx: &mut Context<'_>,
        stream: Pin<&mut impl Stream<Item = Result<R, Status>>>,
    ) -> Poll<Option<Result<R, Status>>> {
        let next = match self.state.poll_credit(cx) {
            Poll::Ready(true) => stream.poll_next(cx),
            Poll::Ready(false) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        };
        if next.is_pending() {
            self.owner.connection.writer.flush();
        }
        next
    }

    async fn send_item(&self, item: &impl Message) -> Result<(), Status> {
        let connection = &self.owner.connection;
        let mut length = 0;
        loop {
            let appended = connection.writer.append(Class::Call, |buffer, _| {
                length = connection.encoder.put_item(buffer, self.id, item)?;
                Ok(())
            });
            match appended {
                Ok(_) => break,
                Err(Refusal::Full) => {
                    connection.writer.flush();
                    connection.writer.room().await;
                }
                Err(Refusal::Ended) => return Err(Status::unavailable("the connection has ended")),
                Err(Refusal::Frame(error)) => return Err(error.into()),
            }
        }
        self.state.spend(length);
        Ok(())
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("id", &self.id).finish_non_exhaustive()
    }
}
