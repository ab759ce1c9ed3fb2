//! A user's call from its beginning to its end, and what must hold of that.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use ipc_runtime::{Channel, Code, IpcError, Request, Response, Status, Streaming};
use tokio::time::Instant;

use super::plan::{Conduct, Kind, Plan};
use super::report::Event;
use super::world::{Pause, Shared};
use super::{Piece, SimulatedClient};

/// The user's stream of requests.
struct Outgoing {
    shared: Arc<Shared>,
    call: u64,
    plan: Plan,
    next: u64,
    pause: Option<Pause>,
}

impl Stream for Outgoing {
    type Item = Piece;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        let this = &mut *self;
        if let Some(pause) = &mut this.pause {
            ready!(Pin::new(pause).poll(cx));
            this.pause = None;
        }
        if this.next == this.plan.requests {
            return Poll::Ready(None);
        }
        let piece = this.plan.piece(this.call, this.next);
        this.next += 1;
        this.pause = this.plan.send_pause.map(|pause| {
            this.shared.count(Event::SentSlowly);
            Pause::new(&this.shared, pause)
        });
        Poll::Ready(Some(piece))
    }
}

/// One call, as its user makes it.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
    pub(super) plan: Plan,
    pub(super) channel: Channel,
}

impl Call {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        _ = request.metadata_mut().append("call", self.number.to_string());
        let request = match self.plan.timeout {
            Some(timeout) => request.with_timeout(timeout),
            None => request.without_timeout(),
        };
        match self.plan.wait {
            Some(wait) => request.with_wait_for_ready(wait),
            None => request,
        }
    }

    fn outgoing(&self) -> Request<Outgoing> {
        self.request(Outgoing {
            shared: Arc::clone(&self.shared),
            call: self.number,
            plan: self.plan,
            next: 0,
            pause: None,
        })
    }

    pub(super) async fn run(self) {
        self.shared.note_began(self.number, self.plan.timeout);
        let client = SimulatedClient::new(self.channel.clone());
        let first = || self.request(self.plan.piece(self.number, 0));
        match self.plan.kind {
            Kind::Once => self.answered(client.once(first()).await),
            Kind::Again => self.answered(client.again(first()).await),
            Kind::Gather => self.answered(client.gather(self.outgoing()).await),
            Kind::GatherAgain => self.answered(client.gather_again(self.outgoing()).await),
            Kind::Many => self.begun(client.many(first()).await).await,
            Kind::ManyAgain => self.begun(client.many_again(first()).await).await,
            Kind::Chat => self.begun(client.chat(self.outgoing()).await).await,
        }
        self.shared.note_over(self.number);
    }

    fn violation(&self, words: &str) -> ! {
        self.shared.violation(&format!("call {}: {words}", self.number))
    }

    fn answered(&self, outcome: Result<Response<Piece>, IpcError>) {
        match outcome {
            Ok(response) => {
                if !self.plan.is_piece(response.get_ref(), self.number, 0) {
                    self.violation("a wrong answer");
                }
                self.succeeded();
            }
            Err(error) => self.failed(&error),
        }
    }

    fn succeeded(&self) {
        if !self.shared.is_done(self.number) {
            self.violation("it succeeded, and no handler has answered it");
        }
        self.shared.note(&format!("call {} succeeded", self.number));
        self.shared.count(Event::Succeeded);
        self.shared.note_success(self.number);
    }

    async fn begun(&self, outcome: Result<Response<Streaming<Piece>>, IpcError>) {
        let mut stream = match outcome {
            Ok(response) => response.into_inner(),
            Err(error) => return self.failed(&error),
        };
        let mut read = 0;
        loop {
            if self.plan.stops_after == Some(read) {
                self.shared.count(Event::StoppedReading);
                return;
            }
            match stream.message().await {
                Ok(Some(piece)) => {
                    if !self.plan.is_piece(&piece, self.number, read) {
                        self.violation(&format!("got {} instead of answer {read}", piece.index));
                    }
                    read += 1;
                    self.shared.note_progress();
                    if let Some(pause) = self.plan.read_pause {
                        self.shared.count(Event::ReadSlowly);
                        self.shared.set_pausing(self.number, true);
                        Pause::new(&self.shared, pause).await;
                        self.shared.set_pausing(self.number, false);
                    }
                }
                Ok(None) => {
                    if read != self.plan.answers {
                        self.violation(&format!("its stream ended after {read} of {}", self.plan.answers));
                    }
                    if read > 5 {
                        self.shared.count(Event::StreamWhole);
                    }
                    return self.succeeded();
                }
                Err(status) => {
                    self.shared.count(Event::StreamCut);
                    self.shared.note(&format!("call {}: its stream was cut: {status}", self.number));
                    return self.judge_status(&status);
                }
            }
        }
    }

    fn judge_status(&self, status: &Status) {
        match status.code() {
            Code::Internal => {
                let is_from_handler = self.plan.conduct == Conduct::Panics;
                let is_vanished = status.message().contains("the stream of requests ended by a panic")
                    && self.shared.has_lost_runtime();
                if !is_from_handler && !is_vanished {
                    self.violation(&format!("failed with {status}"));
                }
            }
            Code::Aborted if self.plan.conduct == Conduct::Fails => {}
            Code::InvalidArgument | Code::DataLoss if self.shared.has_damaged() => {}
            Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled => {}
            _ => self.violation(&format!("failed with {status}")),
        }
    }

    fn failed(&self, error: &IpcError) {
        let shared = &self.shared;
        let sent = error.request_sent();
        shared.note(&format!("call {} failed, sent {sent}: {error}", self.number));
        shared.note_failure(self.number, matches!(error, IpcError::Status(_)), error.code());
        if !sent {
            shared.note_unseen(self.number);
        }
        match error {
            IpcError::Timeout => {
                shared.count(Event::Expired);
                if !shared.is_past_deadline(self.number) {
                    self.violation("it timed out before its deadline");
                }
            }
            IpcError::Status(status) => {
                shared.count(if sent { Event::Failed } else { Event::Limited });
                self.judge_refusal(status);
                self.judge_status(status);
            }
            IpcError::TooLarge { .. } => shared.count(Event::TooLarge),
            IpcError::Io(_) if sent => shared.count(Event::LostSent),
            IpcError::Io(_) => shared.count(Event::LostUnsent),
            IpcError::Decode(_)
            | IpcError::Encode(_)
            | IpcError::PeerClosed
            | IpcError::InvalidLength { .. }
            | IpcError::CrcMismatch { .. } => self.violation(&format!("failed with {error}")),
            _ => self.violation("an error of an unknown kind"),
        }
    }

    /// A server that is full, or shutting down, is asked again for as long as the call has time.
    fn judge_refusal(&self, status: &Status) {
        let is_busy = matches!(status.code(), Code::ResourceExhausted | Code::Unavailable)
            && status.message().starts_with("refused by");
        if !is_busy || self.plan.wait == Some(false) {
            return;
        }
        let patience = self.shared.read_timeout().min(self.plan.timeout.unwrap_or(std::time::Duration::MAX));
        let waited = Instant::now() - self.shared.began(self.number);
        if waited < patience {
            self.violation(&format!("it was refused after {waited:?}, though it had {patience:?}: {status}"));
        }
    }
}
