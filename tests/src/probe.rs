//! The service of `proto/test/probe.proto`: handlers that a test holds, lets go, counts, and hears the end of.

#![expect(clippy::missing_panics_doc, reason = "what a test waits for fails it by a panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_core::Stream;
use ipc_runtime::{Code, Request, Response, Status, Streaming};
use prost::Message as _;
use tokio::sync::{Mutex, Semaphore, mpsc};

use crate::raw::soon;

mod generated {
    ipc_runtime::include_proto!("test.probe.v1");
}

pub use generated::*;

/// What became of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It runs.
    Started(&'static str),
    /// It came to its end.
    Finished(&'static str),
    /// It was dropped before its end.
    Dropped(&'static str),
}

/// What a test and its handlers share.
#[derive(Clone, Debug)]
pub struct Controls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    gate: Semaphore,
    calls: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
    events: mpsc::UnboundedSender<Event>,
    heard: Mutex<mpsc::UnboundedReceiver<Event>>,
}

impl Default for Controls {
    fn default() -> Self {
        let (events, heard) = mpsc::unbounded_channel();
        Self(Arc::new(Shared {
            gate: Semaphore::new(0),
            calls: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            events,
            heard: Mutex::new(heard),
        }))
    }
}

impl Controls {
    /// Lets this many held handlers go, now or when they come.
    pub fn release(&self, handlers: usize) {
        self.0.gate.add_permits(handlers);
    }

    /// How many there are who can reach these controls.
    #[must_use]
    pub fn owners(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// How many handlers have been called, of any kind.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// How many held handlers there have been at once.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }

    /// Waits for the next event of a held handler.
    pub async fn event(&self) -> Event {
        let mut heard = self.0.heard.lock().await;
        soon("a handler's event", heard.recv()).await.expect("events")
    }

    /// The next event is this handler's start.
    pub async fn started(&self, name: &'static str) {
        assert_eq!(self.event().await, Event::Started(name));
    }

    /// The next event is this handler's drop.
    pub async fn dropped(&self, name: &'static str) {
        assert_eq!(self.event().await, Event::Dropped(name));
    }

    /// The next event is this handler's end.
    pub async fn finished(&self, name: &'static str) {
        assert_eq!(self.event().await, Event::Finished(name));
    }

    fn enter(&self) {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
    }

    fn watch(&self, name: &'static str) -> Watched {
        self.enter();
        let running = self.0.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(running, Ordering::SeqCst);
        _ = self.0.events.send(Event::Started(name));
        Watched { controls: self.clone(), name, finished: false }
    }

    /// Waits to be let go.
    async fn pass(&self) {
        if let Ok(permit) = self.0.gate.acquire().await {
            permit.forget();
        }
    }

    async fn hold(&self, name: &'static str) {
        let watched = self.watch(name);
        self.pass().await;
        watched.finish();
    }
}

/// Reports the end of a handler.
struct Watched {
    controls: Controls,
    name: &'static str,
    finished: bool,
}

impl Watched {
    fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let shared = &self.controls.0;
        shared.running.fetch_sub(1, Ordering::SeqCst);
        let event = if self.finished { Event::Finished(self.name) } else { Event::Dropped(self.name) };
        _ = shared.events.send(event);
    }
}

/// The handlers.
#[derive(Debug)]
pub struct Handlers(pub Controls);

type Answer<T> = Result<Response<T>, Status>;

fn echo(controls: &Controls, request: Request<Note>) -> Response<Note> {
    controls.enter();
    let metadata = request.metadata().clone();
    let mut response = Response::new(request.into_inner());
    *response.metadata_mut() = metadata;
    response
}

impl Probe for Handlers {
    async fn echo(&self, request: Request<Note>) -> Answer<Note> {
        Ok(echo(&self.0, request))
    }

    async fn echo_again(&self, request: Request<Note>) -> Answer<Note> {
        Ok(echo(&self.0, request))
    }

    async fn echo_freely(&self, request: Request<Note>) -> Answer<Note> {
        Ok(echo(&self.0, request))
    }

    async fn hold(&self, request: Request<Note>) -> Answer<Note> {
        self.0.hold("Hold").await;
        Ok(request.into_inner().into())
    }

    async fn block(&self, request: Request<Note>) -> Answer<Note> {
        let watched = self.0.watch("Block");
        let wait = || tokio::runtime::Handle::current().block_on(self.0.pass());
        tokio::task::block_in_place(wait);
        watched.finish();
        Ok(request.into_inner().into())
    }

    async fn compute(&self, request: Request<Note>) -> Answer<Note> {
        let watched = self.0.watch("Compute");
        // Waits on a runtime of its own, so that the one it runs on does not know that this thread does nothing for it.
        let wait = || {
            let elsewhere = tokio::runtime::Builder::new_current_thread().enable_time().build();
            elsewhere.expect("a runtime").block_on(async { soon("to be let go", self.0.pass()).await });
        };
        std::thread::scope(|scope| scope.spawn(wait).join()).expect("to be let go");
        watched.finish();
        Ok(request.into_inner().into())
    }

    async fn panic(&self, _: Request<Note>) -> Answer<Note> {
        self.0.enter();
        panic!("as the test wants it");
    }

    async fn fail(&self, request: Request<Failure>) -> Answer<Note> {
        self.0.enter();
        let failure = request.into_inner();
        let any = prost_types::Any { type_url: "x".to_owned(), value: vec![1; length(failure.detail_bytes)] };
        let mut status =
            Status::new(Code::from(failure.code), "m".repeat(length(failure.message_bytes))).with_any(any);
        status.metadata_mut().append("t", filled(failure.trailer_bytes))?;
        Err(status)
    }

    async fn fill(&self, request: Request<Sizes>) -> Answer<Note> {
        self.0.enter();
        let sizes = request.into_inner();
        sized(Note { text: filled(sizes.bytes) }, &sizes)
    }

    async fn count(
        &self,
        request: Request<Sizes>,
    ) -> Answer<impl Stream<Item = Result<Note, Status>> + Send + 'static> {
        let watched = self.0.watch("Count");
        let sizes = request.into_inner();
        let note = Note { text: filled(sizes.bytes) };
        sized(Notes { left: sizes.notes, note, watched: Some(watched) }, &sizes)
    }

    async fn tail(
        &self,
        _: Request<Note>,
    ) -> Answer<impl Stream<Item = Result<Note, Status>> + Send + 'static> {
        Ok(Response::new(silent(self.0.clone(), "Tail")))
    }

    async fn sum(&self, request: Request<Streaming<Note>>) -> Answer<Total> {
        self.0.enter();
        let mut notes = request.into_inner();
        let mut total = Total::default();
        while let Some(note) = notes.message().await? {
            total.notes += 1;
            total.bytes += note.text.len() as u64;
        }
        Ok(total.into())
    }

    async fn deaf(&self, _request: Request<Streaming<Note>>) -> Answer<Total> {
        self.0.hold("Deaf").await;
        Ok(Total::default().into())
    }

    async fn chat(
        &self,
        request: Request<Streaming<Note>>,
    ) -> Answer<impl Stream<Item = Result<Note, Status>> + Send + 'static> {
        self.0.enter();
        Ok(Response::new(request.into_inner()))
    }

    async fn deaf_chat(
        &self,
        request: Request<Streaming<Note>>,
    ) -> Answer<impl Stream<Item = Result<Note, Status>> + Send + 'static> {
        // The requests stay with the handler, unread.
        let unread = request.into_inner();
        Ok(Response::new(Silent { _unread: Some(unread), ..silent(self.0.clone(), "DeafChat") }))
    }
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn filled(bytes: u64) -> Bytes {
    vec![b'x'; length(bytes)].into()
}

fn sized<T>(message: T, sizes: &Sizes) -> Answer<T> {
    let mut response = Response::new(message);
    if sizes.header_bytes > 0 {
        response.metadata_mut().append("h", filled(sizes.header_bytes))?;
    }
    if sizes.trailer_bytes > 0 {
        response.trailers_mut().append("t", filled(sizes.trailer_bytes))?;
    }
    Ok(response)
}

/// A note, encoded, with this much text.
#[must_use]
pub fn note(text_bytes: usize) -> Bytes {
    Note { text: vec![b'x'; text_bytes].into() }.encode_to_vec().into()
}

/// The same note many times.
struct Notes {
    left: u64,
    note: Note,
    watched: Option<Watched>,
}

impl Stream for Notes {
    type Item = Result<Note, Status>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if self.left == 0 {
            self.watched.take().into_iter().for_each(Watched::finish);
            return std::task::Poll::Ready(None);
        }
        self.left -= 1;
        std::task::Poll::Ready(Some(Ok(self.note.clone())))
    }
}

/// A stream that gives nothing, and ends when it is let go.
struct Silent {
    waiting: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    _unread: Option<Streaming<Note>>,
}

fn silent(controls: Controls, name: &'static str) -> Silent {
    let watched = controls.watch(name);
    let waiting = async move {
        controls.pass().await;
        watched.finish();
    };
    Silent { waiting: Box::pin(waiting), _unread: None }
}

impl Stream for Silent {
    type Item = Result<Note, Status>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.waiting.as_mut().poll(cx).map(|()| None)
    }
}
