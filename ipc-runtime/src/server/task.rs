//! The work of a call: runs the handler, watches for cancellation and the deadline, and closes the call.
//!
//! All methods share one type. It is small, because each call has one. Rare parts are boxed.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::layered;
use super::running::{Outcome, RunningCall};
use crate::deadline;
use crate::layer::{Boxed, Layers, Path};
use crate::metadata::Metadata;
use crate::status::Status;

/// The work. Its parts are taken out as it proceeds. It is done when nothing is left.
pub(super) struct CallTask {
    call: Option<RunningCall>,
    /// `Some` until the handler is begun.
    unstarted: Option<Unstarted>,
    /// The rest of a call that has layers, or whose request comes in parts.
    rest: Option<Boxed<'static, ()>>,
}

/// The parts of a call that are needed to begin its handler.
pub(super) struct Unstarted {
    pub(super) message: Option<Bytes>,
    /// What it must be charged before it is decoded; 0 where it is charged already.
    pub(super) waits_for: u64,
    pub(super) metadata: Metadata,
    pub(super) layers: Layers<Status>,
    /// The path of its method, if there are layers.
    pub(super) path: Option<Path>,
}

impl fmt::Debug for CallTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallTask").finish_non_exhaustive()
    }
}

impl CallTask {
    pub(super) const fn new(call: RunningCall, unstarted: Unstarted) -> Self {
        Self { call: Some(call), unstarted: Some(unstarted), rest: None }
    }

    /// Gives the handler its request, if the request has arrived and the call has no layers.
    fn begin(&mut self, mut call: RunningCall, unstarted: Unstarted) {
        let is_whole = unstarted.message.is_some() || call.shape.requests;
        if !is_whole || unstarted.path.is_some() || unstarted.waits_for > 0 {
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
        // The running parts are taken out for the poll. So a panic drops them while the thread is panicking.
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

/// Runs a whole call that has layers, or whose request comes in parts.
async fn run_in_parts(mut call: RunningCall, unstarted: Unstarted) {
    let Unstarted { message, waits_for, metadata, layers, path } = unstarted;
    let mut instead = None;
    let outcome = {
        let watched = call.slot.watched();
        let mut work = pin!(async {
            if waits_for > 0 {
                call.slot.charge(waits_for).await?;
            }
            let message = match message {
                None if !call.shape.requests => Some(call.slot.single().await?),
                message => message,
            };
            let Some(path) = path else {
                return call.handle(message, metadata, Metadata::new()).await;
            };
            let (ended, answer) = layered::run(layers, path, message, metadata, &mut call).await?;
            instead = answer;
            Ok(ended)
        });
        poll_fn(|cx| match deadline::during(watched.deadline, || work.as_mut().poll(cx)) {
            Poll::Ready(done) => Poll::Ready(Outcome::Done(done)),
            Poll::Pending => watched.poll_over(cx).map(|_| Outcome::Over),
        })
        .await
    };
    call.close(outcome, instead);
}
