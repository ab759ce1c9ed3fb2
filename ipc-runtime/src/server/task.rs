//! The work of a call: runs the handler, hears the call's cancellation and its deadline, closes the call.
//!
//! One type for all methods, and small, because there is one for each call. What seldom happens is boxed.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::dispatch::{CallSlot, ServerCall, Shape};
use super::layered;
use super::reply::Encoded;
use super::runners::Runners;
use super::work::{Begin, Ended, Work};
use crate::deadline;
use crate::layer::{Boxed, Layers};
use crate::metadata::Metadata;
use crate::status::Status;

/// The work. What it has is taken out as it goes; it is over when there is nothing left.
pub(super) struct CallTask {
    call: Option<RunningCall>,
    /// Until the handler is begun.
    unstarted: Option<Unstarted>,
    /// Whatever is not the plain way of a call.
    rest: Option<Boxed<'static, ()>>,
}

/// What a handler is begun with.
struct Unstarted {
    message: Option<Bytes>,
    metadata: Metadata,
    layers: Layers<Status>,
    /// Which of the router's methods it is.
    route: usize,
}

/// A handler and its call.
pub(super) struct RunningCall {
    pub(super) slot: CallSlot,
    pub(super) shape: Shape,
    handler: Pin<Box<dyn Work>>,
}

/// How the work came to its end.
enum Outcome {
    Done(Result<Ended, Status>),
    /// The call is over; the connection knows why.
    Over,
}

impl fmt::Debug for CallTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallTask").finish_non_exhaustive()
    }
}

impl CallTask {
    pub(super) fn new(call: ServerCall, shape: Shape, handler: Pin<Box<dyn Work>>) -> Self {
        let ServerCall { slot, message, metadata, layers, route } = call;
        let unstarted = Unstarted { message, metadata, layers, route };
        Self { call: Some(RunningCall { slot, shape, handler }), unstarted: Some(unstarted), rest: None }
    }

    /// The tasks of the call's connection.
    pub(super) fn runners(&self) -> Option<&Arc<Runners>> {
        self.call.as_ref().map(|call| &call.slot.connection().runners)
    }

    /// Hands the handler its request, if that is there and nothing is around the call.
    fn begin(&mut self, mut call: RunningCall, unstarted: Unstarted) {
        let is_whole = unstarted.message.is_some() || call.shape.requests;
        if !is_whole || !unstarted.layers.is_empty() {
            self.rest = Some(Box::pin(run_in_parts(call, unstarted)));
            return;
        }
        match call.begin(unstarted.message, unstarted.metadata, Metadata::new()) {
            Ok(()) => self.call = Some(call),
            Err(outcome) => call.close(outcome, None),
        }
    }
}

impl Future for CallTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // What is at work is taken out meanwhile, so that a panic drops it where it can see the panic.
        if let Some(unstarted) = self.unstarted.take()
            && let Some(call) = self.call.take()
        {
            self.begin(call, unstarted);
        }
        if let Some(mut call) = self.call.take() {
            match call.poll(cx) {
                Poll::Ready(outcome) => call.close(outcome, None),
                Poll::Pending => {
                    self.call = Some(call);
                    return Poll::Pending;
                }
            }
        }
        if let Some(mut rest) = self.rest.take()
            && rest.as_mut().poll(cx).is_pending()
        {
            self.rest = Some(rest);
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// The whole call where it has layers, or its request comes in parts.
async fn run_in_parts(mut call: RunningCall, unstarted: Unstarted) {
    let Unstarted { message, metadata, layers, route } = unstarted;
    let mut instead = None;
    let outcome = {
        let watched = call.slot.watched();
        let mut work = pin!(async {
            let message = match message {
                None if !call.shape.requests => Some(call.slot.single().await?),
                message => message,
            };
            if layers.is_empty() {
                return call.handle(message, metadata, Metadata::new()).await;
            }
            let (ended, answer) = layered::run(layers, route, message, metadata, &mut call).await?;
            instead = answer;
            Ok(ended)
        });
        poll_fn(|cx| watched.watch(cx, |cx| work.as_mut().poll(cx))).await
    };
    call.close(outcome, instead);
}

impl RunningCall {
    /// Hands the handler its request. From here on the call counts as processed, unless the request does not decode.
    fn begin(
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

    /// Runs the handler without looking whether the call is over. What it streams begins with `headers`.
    pub(super) async fn handle(
        &mut self,
        message: Option<Bytes>,
        metadata: Metadata,
        headers: Metadata,
    ) -> Result<Ended, Status> {
        match self.begin(message, metadata, headers) {
            Ok(()) => poll_fn(|cx| self.handler.as_mut().poll(cx)).await,
            Err(Outcome::Done(done)) => done,
            // Whoever watches the call drops this.
            Err(Outcome::Over) => std::future::pending().await,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let handler = &mut self.handler;
        let deadline = self.slot.deadline;
        if let Poll::Ready(done) = deadline::during(deadline, || handler.as_mut().poll(cx)) {
            return Poll::Ready(Outcome::Done(done));
        }
        self.slot.poll_over(cx).map(|_| Outcome::Over)
    }

    /// Closes the call; a layer may have answered `instead` of the handler.
    fn close(self, outcome: Outcome, instead: Option<Encoded>) {
        let Self { slot, handler, .. } = self;
        match outcome {
            Outcome::Done(Ok(ended)) => match instead {
                Some(instead) => slot.succeed(&ended, Some(&instead)),
                None => slot.succeed(&ended, handler.message()),
            },
            // The handler is gone before anybody hears that it failed.
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

/// What is needed to hear that a call is over, beside the call itself.
pub(super) struct WatchedCall {
    pub(super) link: Arc<crate::link::Link>,
    pub(super) key: crate::protocol::table::CallKey,
    pub(super) deadline: Option<tokio::time::Instant>,
}

impl WatchedCall {
    /// Polls work until it is done or the call is over.
    fn watch(
        &self,
        cx: &mut Context<'_>,
        work: impl FnOnce(&mut Context<'_>) -> Poll<Result<Ended, Status>>,
    ) -> Poll<Outcome> {
        if let Poll::Ready(done) = deadline::during(self.deadline, || work(cx)) {
            return Poll::Ready(Outcome::Done(done));
        }
        self.link
            .peek(|core| core.poll_over(self.key, cx.waker()))
            .map_or(Poll::Pending, |_| Poll::Ready(Outcome::Over))
    }
}
