//! A stream of requests that the caller feeds while the call runs.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::{mpsc, oneshot};

/// Makes a stream of requests and the handle that feeds it.
#[must_use]
pub fn outgoing<T>() -> (Feed<T>, Outgoing<T>) {
    let (sender, receiver) = mpsc::channel(1);
    let (asked, begun) = oneshot::channel();
    (Feed { sender, begun: Some(begun) }, Outgoing { receiver, asked: Some(asked) })
}

/// Feeds an [`Outgoing`]; the stream ends when this is dropped.
#[derive(Debug)]
pub struct Feed<T> {
    sender: mpsc::Sender<T>,
    begun: Option<oneshot::Receiver<()>>,
}

impl<T> Feed<T> {
    /// Gives the call its next request. Does nothing once the call is over.
    pub async fn send(&self, request: T) {
        // The call's own outcome tells why it ended.
        _ = self.sender.send(request).await;
    }

    /// Waits until the call asks for its first request, which it does once it has begun.
    pub async fn begun(&mut self) {
        if let Some(begun) = self.begun.take() {
            _ = begun.await;
        }
    }

    /// Waits until the call has let go of the stream: nothing of it is left on this side.
    pub async fn released(&self) {
        self.sender.closed().await;
    }
}

/// The stream that a call is given.
#[derive(Debug)]
pub struct Outgoing<T> {
    receiver: mpsc::Receiver<T>,
    asked: Option<oneshot::Sender<()>>,
}

impl<T> Stream for Outgoing<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(asked) = self.asked.take() {
            _ = asked.send(());
        }
        self.receiver.poll_recv(cx)
    }
}
