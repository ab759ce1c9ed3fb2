//! A socket whose other end is the test: it takes as many bytes as the test lets it, and a few at a time.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use shuttle::sync::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sync::checked::lock;
use crate::transport::{BoxedRead, BoxedWrite};

/// The socket as the other end sees it.
#[derive(Clone, Default)]
pub(super) struct Socket {
    state: Arc<Mutex<SocketState>>,
    /// Halves that are not dropped. It is no lock of shuttle's, because they are also dropped after a test has failed.
    halves: Arc<AtomicUsize>,
}

#[derive(Default)]
struct SocketState {
    /// What was written.
    written: Vec<u8>,
    /// How many bytes it takes before it is full.
    room: usize,
    /// How many bytes it takes at once.
    piece: usize,
    /// Who is woken when there is room.
    writer: Option<Waker>,
    is_broken: bool,
    /// What was sent and not read.
    input: VecDeque<u8>,
    has_input_ended: bool,
    reader: Option<Waker>,
}

impl Socket {
    pub(super) fn new(room: usize, piece: usize) -> (Self, BoxedRead, BoxedWrite) {
        let state = SocketState { room, piece, ..SocketState::default() };
        let socket = Self { state: Arc::new(Mutex::new(state)), halves: Arc::new(AtomicUsize::new(2)) };
        let input = Half(socket.clone());
        let output = Half(socket.clone());
        (socket, Box::new(input), Box::new(output))
    }

    /// The other end reads: so many more bytes can be written.
    pub(super) fn make_room(&self, bytes: usize) {
        let mut state = lock(&self.state);
        state.room += bytes;
        let writer = state.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
    }

    /// It is full after so many more bytes.
    pub(super) fn leave_room(&self, bytes: usize) {
        lock(&self.state).room = bytes;
    }

    /// The other end sends.
    pub(super) fn send(&self, bytes: &[u8]) {
        let mut state = lock(&self.state);
        state.input.extend(bytes);
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    /// Writing fails from here on.
    pub(super) fn break_output(&self) {
        let mut state = lock(&self.state);
        state.is_broken = true;
        let writer = state.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
    }

    /// The other end sends nothing more.
    pub(super) fn end_input(&self) {
        let mut state = lock(&self.state);
        state.has_input_ended = true;
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    pub(super) fn written(&self) -> Vec<u8> {
        lock(&self.state).written.clone()
    }

    pub(super) fn is_full(&self) -> bool {
        lock(&self.state).room == 0
    }

    /// Whether `waker` hears of room.
    pub(super) fn tells(&self, waker: &Waker) -> bool {
        lock(&self.state).writer.as_ref().is_some_and(|writer| writer.will_wake(waker))
    }

    /// Whether something was sent that is not read.
    pub(super) fn has_unread(&self) -> bool {
        !lock(&self.state).input.is_empty()
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.halves.load(Ordering::Relaxed) == 0
    }
}

/// One half of this end.
struct Half(Socket);

impl AsyncRead for Half {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0.state);
        if state.input.is_empty() && !state.has_input_ended {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = state.input.len().min(buf.remaining());
        buf.put_slice(&state.input.drain(..taken).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Half {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0.state);
        if state.is_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.room == 0 {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = bytes.len().min(state.room).min(state.piece);
        state.room -= taken;
        state.written.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.0.halves.fetch_sub(1, Ordering::Relaxed);
    }
}
