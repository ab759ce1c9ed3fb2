//! The handlers: they do as the call's plan says, and check what they get.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use ipc_runtime::{Metadata, Request, Response, Status, Streaming};

use super::crowd::Unsteady;
use super::plan::{Conduct, Plan};
use super::report::Event;
use super::world::{Pause, Shared};
use super::{Piece, Simulated};

type Answer<T> = Result<Response<T>, Status>;

pub(super) struct Handlers(pub(super) Arc<Shared>);

/// One run of a handler.
struct Run {
    shared: Arc<Shared>,
    call: u64,
    plan: Plan,
    is_done: bool,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.shared.run_ends();
        if !self.is_done && !std::thread::panicking() {
            self.shared.count(Event::HandlerDropped);
        }
    }
}

impl Run {
    fn begin(shared: &Arc<Shared>, metadata: &Metadata) -> Self {
        let call = metadata.get("call").and_then(|value| value.parse().ok());
        let Some(call) = call else { shared.violation("a handler got a request without its number") };
        let plan = shared.run_begins(call);
        Self { shared: Arc::clone(shared), call, plan, is_done: false }
    }

    fn check(&self, piece: &Piece, index: u64) {
        self.shared.note_progress();
        if !self.plan.is_piece(piece, self.call, index) {
            let (call, got) = (piece.call, piece.index);
            self.shared.violation(&format!(
                "the handler of call {} got {call}:{got} instead of its request {index}",
                self.call
            ));
        }
    }

    async fn work(&self) -> Result<(), Status> {
        Pause::new(&self.shared, self.plan.work).await;
        match self.plan.conduct {
            Conduct::Answers | Conduct::ReadsNothing => Ok(()),
            Conduct::Fails => {
                self.shared.count(Event::HandlerFailed);
                Err(Status::aborted("as the simulation wants it"))
            }
            Conduct::Panics => {
                self.shared.count(Event::HandlerPanicked);
                panic!("as the simulation wants it");
            }
            Conduct::Endless => {
                self.shared.count(Event::HandlerEndless);
                while !self.shared.is_calm() {
                    Pause::new(&self.shared, std::time::Duration::from_millis(50)).await;
                }
                Ok(())
            }
            Conduct::Forever => std::future::pending().await,
        }
    }

    fn answer(mut self) -> Response<Piece> {
        self.is_done = true;
        self.shared.note_done(self.call);
        Response::new(self.plan.piece(self.call, 0))
    }
}

impl Handlers {
    async fn unary(&self, request: Request<Piece>) -> Answer<Piece> {
        let run = Run::begin(&self.0, request.metadata());
        let random = self.0.fork(run.call);
        let work = async move {
            run.check(request.get_ref(), 0);
            run.work().await?;
            Ok(run.answer())
        };
        Unsteady::new(&self.0, random, work).await
    }

    async fn gathered(&self, request: Request<Streaming<Piece>>) -> Answer<Piece> {
        let run = Run::begin(&self.0, request.metadata());
        let random = self.0.fork(run.call);
        let work = async move {
            if run.plan.conduct == Conduct::ReadsNothing {
                run.shared.count(Event::HandlerReadNothing);
            } else {
                let mut read = 0;
                let mut requests = request.into_inner();
                while let Some(piece) = requests.message().await? {
                    run.check(&piece, read);
                    read += 1;
                    if let Some(pause) = run.plan.read_pause {
                        run.shared.count(Event::HandlerReadSlowly);
                        Pause::new(&run.shared, pause).await;
                    }
                }
                run.check_count(read);
            }
            run.work().await?;
            Ok(run.answer())
        };
        Unsteady::new(&self.0, random, work).await
    }

    async fn streamed(&self, request: Request<Piece>) -> Answer<Pieces> {
        let run = Run::begin(&self.0, request.metadata());
        run.check(request.get_ref(), 0);
        self.pieces(run, None).await
    }

    async fn pieces(&self, run: Run, requests: Option<Streaming<Piece>>) -> Answer<Pieces> {
        let random = self.0.fork(run.call);
        let reads = run.plan.conduct != Conduct::ReadsNothing;
        let pieces = Pieces { run, next: 0, read: 0, requests, reads, pause: None };
        let work = async move {
            pieces.run.work().await?;
            Ok(Response::new(pieces))
        };
        Unsteady::new(&self.0, random, work).await
    }
}

impl Run {
    fn check_count(&self, read: u64) {
        if read != self.plan.requests {
            let (call, sent) = (self.call, self.plan.requests);
            self.shared.violation(&format!("the requests of call {call} ended after {read} of {sent}"));
        }
    }
}

/// A streamed answer, and the requests that are read beside it.
struct Pieces {
    run: Run,
    next: u64,
    read: u64,
    requests: Option<Streaming<Piece>>,
    reads: bool,
    pause: Option<Pause>,
}

impl Pieces {
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if !self.reads {
            return Poll::Ready(Ok(()));
        }
        while let Some(requests) = &mut self.requests {
            match ready!(Pin::new(requests).poll_next(cx)) {
                Some(Ok(piece)) => {
                    self.run.check(&piece, self.read);
                    self.read += 1;
                }
                Some(Err(status)) => return Poll::Ready(Err(status)),
                None => {
                    self.requests = None;
                    self.run.check_count(self.read);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for Pieces {
    type Item = Result<Piece, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let read = this.poll_requests(cx);
        if let Poll::Ready(Err(status)) = read {
            this.reads = false;
            this.requests = None;
            this.next = this.run.plan.answers;
            return Poll::Ready(Some(Err(status)));
        }
        if let Some(pause) = &mut this.pause {
            ready!(Pin::new(pause).poll(cx));
            this.pause = None;
        }
        if this.next < this.run.plan.answers {
            let piece = this.run.plan.piece(this.run.call, this.next);
            this.next += 1;
            this.pause = this.run.plan.send_pause.map(|pause| Pause::new(&this.run.shared, pause));
            return Poll::Ready(Some(Ok(piece)));
        }
        if read.is_pending() {
            return Poll::Pending;
        }
        if !this.run.is_done {
            this.run.is_done = true;
            this.run.shared.note_done(this.run.call);
        }
        Poll::Ready(None)
    }
}

impl Simulated for Handlers {
    async fn once(&self, request: Request<Piece>) -> Answer<Piece> {
        self.unary(request).await
    }

    async fn again(&self, request: Request<Piece>) -> Answer<Piece> {
        self.unary(request).await
    }

    async fn many(
        &self,
        request: Request<Piece>,
    ) -> Answer<impl Stream<Item = Result<Piece, Status>> + Send + 'static> {
        self.streamed(request).await
    }

    async fn many_again(
        &self,
        request: Request<Piece>,
    ) -> Answer<impl Stream<Item = Result<Piece, Status>> + Send + 'static> {
        self.streamed(request).await
    }

    async fn gather(&self, request: Request<Streaming<Piece>>) -> Answer<Piece> {
        self.gathered(request).await
    }

    async fn gather_again(&self, request: Request<Streaming<Piece>>) -> Answer<Piece> {
        self.gathered(request).await
    }

    async fn chat(
        &self,
        request: Request<Streaming<Piece>>,
    ) -> Answer<impl Stream<Item = Result<Piece, Status>> + Send + 'static> {
        let run = Run::begin(&self.0, request.metadata());
        self.pieces(run, Some(request.into_inner())).await
    }
}
