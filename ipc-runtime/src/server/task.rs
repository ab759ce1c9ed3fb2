//! The work of a call: runs the handler, hears the call's cancellation and its deadline, closes the call.
//!
//! One type for all methods, and small, because there is one for each call. What seldom happens is boxed.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use super::dispatch::{Around, ServerCall, Shape, Slot};
use super::layered;
use super::reply::Encoded;
use super::work::{Begin, Ended, Work};
use crate::connection::call::{CallState, End};
use crate::deadline;
use crate::layer::Boxed;
use crate::metadata::Metadata;
use crate::status::Status;

/// The work.
pub(super) enum Answering {
    New(New),
    Running(Job),
    /// Whatever is not the plain way of a call.
    Rest(Boxed<'static, ()>),
    Over,
}

/// A call whose handler has not been begun.
pub(super) struct New {
    job: Job,
    message: Option<Bytes>,
    metadata: Metadata,
    around: Around,
}

/// A handler at its work.
pub(super) struct Job {
    pub(super) slot: Slot,
    pub(super) shape: Shape,
    handler: Pin<Box<dyn Work>>,
}

/// How the work came to its end.
enum Outcome {
    Done(Result<Ended, Status>),
    Cancelled(Status),
    Expired,
    Lost,
}

impl From<End> for Outcome {
    fn from(end: End) -> Self {
        match end {
            End::Cancelled(status) => Self::Cancelled(*status),
            End::Expired => Self::Expired,
            _ => Self::Lost,
        }
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").finish_non_exhaustive()
    }
}

impl Answering {
    pub(super) fn new(call: ServerCall, shape: Shape, handler: Pin<Box<dyn Work>>) -> Self {
        let ServerCall { slot, message, metadata, around } = call;
        Self::New(New { job: Job { slot, shape, handler }, message, metadata, around })
    }

    fn rest(rest: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::Rest(Box::pin(rest))
    }
}

impl Future for Answering {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match std::mem::replace(&mut *self, Self::Over) {
                Self::New(new) => new.begin(),
                Self::Running(mut job) => match job.poll(cx) {
                    Poll::Ready(outcome) => job.close(outcome),
                    Poll::Pending => {
                        *self = Self::Running(job);
                        return Poll::Pending;
                    }
                },
                Self::Rest(mut rest) => match rest.as_mut().poll(cx) {
                    Poll::Ready(()) => Self::Over,
                    Poll::Pending => {
                        *self = Self::Rest(rest);
                        return Poll::Pending;
                    }
                },
                Self::Over => return Poll::Ready(()),
            };
        }
    }
}

impl New {
    /// Hands the handler its request, if that is there and nothing is around the call.
    fn begin(self) -> Answering {
        let whole = self.message.is_some() || self.job.shape.requests;
        if !whole || !self.around.layers.is_empty() {
            return Answering::rest(self.answer());
        }
        let Self { mut job, message, metadata, .. } = self;
        if let Some(end) = job.slot.state.over() {
            return job.close(end.into());
        }
        match job.begin(message, metadata, Metadata::new()) {
            Ok(()) => Answering::Running(job),
            Err(status) => job.close(Outcome::Done(Err(status))),
        }
    }

    /// The whole call where it has layers, or its request comes in parts.
    async fn answer(self) {
        let Self { mut job, message, metadata, around } = self;
        let state = Arc::clone(&job.slot.state);
        let mut instead = None;
        let outcome = {
            let mut work = pin!(async {
                let message = match message {
                    None if !job.shape.requests => Some(job.slot.single().await?),
                    message => message,
                };
                if around.layers.is_empty() {
                    return job.handle(message, metadata, Metadata::new()).await;
                }
                let (ended, answer) = layered::through(around, message, metadata, &mut job).await?;
                instead = answer;
                Ok(ended)
            });
            poll_fn(|cx| watch(&state, cx, |cx| work.as_mut().poll(cx))).await
        };
        close(job, outcome, instead).await;
    }
}

impl Job {
    fn begin(&mut self, message: Option<Bytes>, metadata: Metadata, headers: Metadata) -> Result<(), Status> {
        let (slot, deadline) = (&self.slot, self.slot.state.deadline());
        let message = match message {
            Some(message) if self.shape.requests => {
                slot.state.put_request(message);
                Bytes::new()
            }
            message => message.unwrap_or_default(),
        };
        self.handler.as_mut().begin(Begin { slot, message, metadata, deadline, headers })
    }

    /// Runs the handler without looking left or right; what it streams begins with `headers`.
    pub(super) async fn handle(
        &mut self,
        message: Option<Bytes>,
        metadata: Metadata,
        headers: Metadata,
    ) -> Result<Ended, Status> {
        self.begin(message, metadata, headers)?;
        poll_fn(|cx| self.handler.as_mut().poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let handler = &mut self.handler;
        watch(&self.slot.state, cx, |cx| handler.as_mut().poll(cx))
    }

    fn close(mut self, outcome: Outcome) -> Answering {
        if let Outcome::Done(Ok(ended)) = &outcome
            && let Ok(true) = self.slot.try_succeed(ended, self.handler.message())
        {
            return Answering::Over;
        }
        Answering::rest(close(self, outcome, None))
    }
}

/// Polls work until it is done, the call is cancelled, or its deadline passes. Work that did not hear that it was
/// cancelled or late is so all the same.
fn watch(
    state: &CallState,
    cx: &mut Context<'_>,
    work: impl FnOnce(&mut Context<'_>) -> Poll<Result<Ended, Status>>,
) -> Poll<Outcome> {
    if let Some(end) = state.over() {
        return Poll::Ready(end.into());
    }
    let polled = match state.deadline() {
        Some(deadline) => deadline::during(deadline, || work(cx)),
        None => work(cx),
    };
    let Poll::Ready(done) = polled else { return state.poll_over(cx).map(Outcome::from) };
    Poll::Ready(match state.over() {
        Some(end) => end.into(),
        None if state.deadline().is_some_and(|deadline| Instant::now() >= deadline) => Outcome::Expired,
        None => Outcome::Done(done),
    })
}

/// Closes a call; a layer may have answered `instead` of the handler.
async fn close(job: Job, outcome: Outcome, instead: Option<Encoded>) {
    let Job { slot, handler, .. } = job;
    let status = match outcome {
        Outcome::Done(Ok(ended)) => {
            return match instead {
                Some(instead) => slot.succeed(&ended, Some(&instead)).await,
                None => slot.succeed(&ended, handler.message()).await,
            };
        }
        Outcome::Done(Err(status)) | Outcome::Cancelled(status) => status,
        Outcome::Expired => Status::deadline_exceeded("the deadline passed on the server"),
        Outcome::Lost => return,
    };
    // The handler is gone before anybody hears that it failed.
    drop(handler);
    slot.fail(status).await;
}
