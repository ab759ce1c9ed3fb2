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
use super::runners::Runners;
use super::work::{Begin, Ended, Work};
use crate::connection::call::{CallState, End};
use crate::deadline;
use crate::layer::Boxed;
use crate::metadata::Metadata;
use crate::status::Status;

/// The work. What it has is taken out as it goes; it is over when there is nothing left.
pub(super) struct Answering {
    /// Which of the router's methods it is.
    route: usize,
    job: Option<Job>,
    /// Until the handler is begun.
    new: Option<New>,
    /// Whatever is not the plain way of a call.
    rest: Option<Boxed<'static, ()>>,
}

/// What a handler is begun with.
struct New {
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
        let route = around.route;
        let new = New { message, metadata, around };
        Self { route, job: Some(Job { slot, shape, handler }), new: Some(new), rest: None }
    }

    /// The tasks of the call's connection.
    pub(super) fn runners(&self) -> Option<&Arc<Runners>> {
        self.job.as_ref().map(|job| &job.slot.connection().runners)
    }

    /// Whether the handler is known not to compute for long.
    pub(super) fn is_quick(&self) -> bool {
        self.job.as_ref().is_none_or(|job| job.slot.connection().is_quick(self.route))
    }

    /// Goes on otherwise.
    fn go_on(&mut self, rest: impl Future<Output = ()> + Send + 'static) {
        self.rest = Some(Box::pin(rest));
    }

    /// Hands the handler its request, if that is there and nothing is around the call.
    fn begin(&mut self, mut job: Job, new: New) {
        let whole = new.message.is_some() || job.shape.requests;
        if !whole || !new.around.layers.is_empty() {
            return self.go_on(answer(job, new));
        }
        let outcome = match job.slot.state.over() {
            Some(end) => end.into(),
            None => match job.begin(new.message, new.metadata, Metadata::new()) {
                Ok(()) => return self.job = Some(job),
                Err(status) => Outcome::Done(Err(status)),
            },
        };
        self.close(job, outcome);
    }

    fn close(&mut self, mut job: Job, outcome: Outcome) {
        if let Outcome::Done(Ok(ended)) = &outcome
            && let Ok(true) = job.slot.try_succeed(ended, job.handler.message())
        {
            return;
        }
        self.go_on(close(job, outcome, None));
    }
}

impl Future for Answering {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // What is at work is taken out meanwhile, so that a panic drops it where it can see the panic.
        if let Some(mut job) = self.job.take() {
            if let Some(new) = self.new.take() {
                self.begin(job, new);
                return self.poll(cx);
            }
            let began = Instant::now();
            let polled = job.poll(cx);
            job.slot.connection().note_pace(self.route, began.elapsed());
            match polled {
                Poll::Ready(outcome) => self.close(job, outcome),
                Poll::Pending => {
                    self.job = Some(job);
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
async fn answer(mut job: Job, new: New) {
    let New { message, metadata, around } = new;
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
