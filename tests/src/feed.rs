//! Streams of requests whose items come when a test says so.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::probe::Note;

/// A stream of what is sent into it; it ends when the sender is dropped.
#[derive(Debug)]
pub struct Feed(UnboundedReceiver<Note>);

impl Feed {
    /// A stream, and what feeds it.
    #[must_use]
    pub fn new() -> (UnboundedSender<Note>, Self) {
        let (sender, receiver) = unbounded_channel();
        (sender, Self(receiver))
    }

    /// A stream of these notes.
    pub fn of(notes: impl IntoIterator<Item = Note>) -> Self {
        let (sender, feed) = Self::new();
        for note in notes {
            _ = sender.send(note);
        }
        feed
    }
}

impl Stream for Feed {
    type Item = Note;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Note>> {
        self.0.poll_recv(cx)
    }
}
