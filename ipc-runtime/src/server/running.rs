//! A handler at work on its call: begun, polled, and the call closed with what came of it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::reply::Encoded;
use super::slot::CallSlot;
use super::work::{Begin, Ended, Work};
use crate::deadline;
use crate::metadata::Metadata;
use crate::status::Status;

/// Whether a method streams its requests and its responses.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) requests: bool,
    pub(super) responses: bool,
}

/// A handler and its call.
pub(super) struct RunningCall {
    pub(super) slot: CallSlot,
    pub(super) shape: Shape,
    pub(super) handler: Pin<Box<dyn Work>>,
}

/// How the work ended.
pub(super) enum Outcome {
    Done(Result<Ended, Status>),
    /// The call is over. The connection knows why.
    Over,
}

impl RunningCall {
    /// Gives the handler its request. From here on the call counts as processed, unless the request does not decode.
    pub(super) fn begin(
        &mut self,
        message: Option<Bytes>,
        metadata: Metadata,
        headers: Metadata,
    ) -> Result<(), Outcome> {
        let (slot, deadline) = (&self.slot, self.slot.deadline);
        self.handler.as_mut().begin(Begin { slot, message, metadata, deadline, headers }).map_err(|error| {
            match error {
                Some(status) => Outcome::Done(Err(status)),
                None => Outcome::Over,
            }
        })
    }

    /// Runs the handler without checking whether the call is over. A streamed answer begins with `headers`.
    pub(super) async fn handle(
        &mut self,
        message: Option<Bytes>,
        metadata: Metadata,
        headers: Metadata,
    ) -> Result<Ended, Status> {
        match self.begin(message, metadata, headers) {
            Ok(()) => poll_fn(|cx| self.handler.as_mut().poll(cx)).await,
            Err(Outcome::Done(done)) => done,
            // The code that watches the call drops this.
            Err(Outcome::Over) => std::future::pending().await,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let handler = &mut self.handler;
        let deadline = self.slot.deadline;
        if let Poll::Ready(done) = deadline::during(deadline, || handler.as_mut().poll(cx)) {
            return Poll::Ready(Outcome::Done(done));
        }
        self.slot.poll_over(cx).map(|_| Outcome::Over)
    }

    /// Closes the call. `instead` is the answer of a layer in place of the handler.
    pub(super) fn close(self, outcome: Outcome, instead: Option<Encoded>) {
        let Self { slot, handler, .. } = self;
        match outcome {
            Outcome::Done(Ok(ended)) => match instead {
                Some(instead) => slot.succeed(&ended.headers, &ended.trailers, Some(&instead)),
                None => slot.succeed(&ended.headers, &ended.trailers, handler.message()),
            },
            // The handler is dropped before the client learns that it failed.
            Outcome::Done(Err(status)) => {
                drop(handler);
                slot.fail(&status);
            }
            Outcome::Over => {
                drop(handler);
                slot.fail(&Status::cancelled("the call is over"));
            }
        }
    }
}
