//! The write queue of one connection: frames in, bytes out, no task of its own.
//!
//! Whoever appends a frame and finds nobody writing writes, and goes on until nothing was added meanwhile,
//! so a call costs no hop through a writer task. A write that would block is left to the connection's
//! driver, whose waker every write is polled with; no caller ever owns half a frame. It knows bytes and
//! limits, not what the frames mean.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use crate::error::IpcError;

/// Call frames wait while this many bytes do.
const QUEUE_BYTES: usize = 256 * 1024;

/// A buffer that has grown beyond this is given back once it is written.
const KEPT_BYTES: usize = 256 * 1024;

/// Reading stops while more than this many Pongs and refusals wait to be written.
const MAX_REPLIES: usize = 64;

/// What is held back for the driver's turn is written at once from here on.
const HELD_BYTES: usize = 64 * 1024;

/// How often one writer takes up what was added meanwhile.
const MAX_ROUNDS: usize = 16;

pub(crate) type BoxedWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// What a frame is, as far as the queue cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Part of a call; waits while the queue is full, or others wait.
    Call,
    /// The same of one that has waited.
    InLine,
    /// Bounded by what this side has open (Cancel, Credit, Ping, `GoAway`); never waits.
    Control,
    /// Caused by a frame of the peer (Pong, refusal); never waits, but counts.
    Reply,
}

/// Why a frame was not appended.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Too many bytes wait; see [`Writer::append_in_line`].
    Full,
    /// Nothing will be written on this connection any more.
    Ended,
    /// The frame itself is bad; nothing of it was appended.
    Frame(IpcError),
}

#[derive(Debug)]
struct Queue {
    buffer: BytesMut,
    /// Bytes ever appended, and how many of them the transport has taken.
    appended: u64,
    written: u64,
    replies: usize,
    /// Somebody writes, or the driver will go on when the socket is writable. Always set while the sink holds bytes.
    flushing: bool,
    /// The driver has woken several tasks and flushes when they have had their turn, or when so many of their frames have
    /// come together; 0 where nothing is held back.
    held: usize,
    /// Frames in the buffer.
    frames: usize,
    ended: bool,
    /// The stream ends inside a frame, or can't be written to: nothing can follow what was written.
    broken: bool,
    failure: Option<io::Error>,
    /// The driver's, once it has been polled.
    driver: Option<Waker>,
    /// How many wait to append a call's frame, and how many of them have not been told that there is room.
    in_line: usize,
    sleepers: usize,
}

struct Sink {
    io: BoxedWrite,
    out: BytesMut,
    replies_in_out: usize,
    /// Some bytes of what `out` held have been taken.
    begun: bool,
    /// Bytes of the stream that were handed to the transport. They are counted before each write; what the transport
    /// then reports as not taken is taken back.
    handed: u64,
}

pub(crate) struct Writer {
    queue: Mutex<Queue>,
    sink: Mutex<Sink>,
    room: Notify,
    /// See [`has_left_something`](Self::has_left_something).
    left: AtomicBool,
}

/// How a flush left the queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Everything appended so far is written, or somebody else is writing it.
    Done,
    /// The socket takes no more for now.
    Blocked,
    /// Others add as fast as this one writes: the driver must go on, so that a caller gets away.
    Unfinished,
}

/// How the driver's turn left the queue.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) flushed: Flushed,
    /// How many bytes of the stream the transport has taken; the measure of progress.
    pub(crate) written: u64,
    /// Why writing failed; said once.
    pub(crate) failure: Option<io::Error>,
}

impl Writer {
    pub(crate) fn new(io: BoxedWrite) -> Self {
        let queue = Queue {
            buffer: BytesMut::new(),
            appended: 0,
            written: 0,
            replies: 0,
            flushing: false,
            held: 0,
            frames: 0,
            ended: false,
            broken: false,
            failure: None,
            driver: None,
            in_line: 0,
            sleepers: 0,
        };
        let sink = Sink { io, out: BytesMut::new(), replies_in_out: 0, begun: false, handed: 0 };
        Self {
            queue: Mutex::new(queue),
            sink: Mutex::new(sink),
            room: Notify::new(),
            left: AtomicBool::new(false),
        }
    }

    /// Appends what `write` appends, and returns the offset of its end in the stream. `write` is given the
    /// offset of the buffer's end before it.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; `write` has not run, or has appended nothing.
    pub(crate) fn append(
        &self,
        class: Class,
        write: impl FnOnce(&mut BytesMut, u64) -> Result<(), IpcError>,
    ) -> Result<u64, Refusal> {
        let mut queue = lock(&self.queue);
        if queue.ended {
            return Err(Refusal::Ended);
        }
        match class {
            Class::Call if !queue.has_room() || queue.in_line > 0 => return Err(Refusal::Full),
            Class::InLine if !queue.has_room() => return Err(Refusal::Full),
            _ => {}
        }
        let (before, offset) = (queue.buffer.len(), queue.appended);
        write(&mut queue.buffer, offset).map_err(Refusal::Frame)?;
        queue.appended += (queue.buffer.len() - before) as u64;
        queue.frames += 1;
        if class == Class::Reply {
            queue.replies += 1;
        }
        if matches!(class, Class::Control | Class::Reply) {
            self.left.store(true, Ordering::Relaxed);
        }
        Ok(queue.appended)
    }

    /// As [`append`](Self::append) for a call's frame, behind those who wait for room already.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing was appended.
    pub(crate) async fn append_in_line(
        &self,
        mut write: impl FnMut(&mut BytesMut, u64) -> Result<(), IpcError>,
    ) -> Result<u64, Refusal> {
        let place = InLine::behind_others(self);
        let mut wait = place.others;
        loop {
            // What fills the queue may be a frame that nobody has begun to write.
            self.flush();
            if wait {
                self.turn().await;
            }
            match self.append(Class::InLine, &mut write) {
                Err(Refusal::Full) => wait = true,
                other => return other,
            }
        }
    }

    /// Waits until it is one's turn to append, as far as there is room.
    async fn turn(&self) {
        let mut notified = std::pin::pin!(self.room.notified());
        notified.as_mut().enable();
        let room = {
            let mut queue = lock(&self.queue);
            if queue.ended {
                return;
            }
            queue.sleepers += 1;
            queue.has_room()
        };
        if room {
            // Somebody was told of it already, and may be one whom nobody polls: the driver asks the next.
            self.wake_driver();
        }
        notified.await;
    }

    /// Until the driver's next turn, small things that are flushed wait until so many are together: it has just woken
    /// several tasks, and what they append leaves with few writes.
    pub(crate) fn hold(&self, frames: usize) {
        lock(&self.queue).held = frames;
    }

    /// Writes what can be written now, unless somebody does already or the driver is about to.
    pub(crate) fn flush(&self) {
        let waker = {
            let mut queue = lock(&self.queue);
            if queue.frames < queue.held && queue.buffer.len() < HELD_BYTES {
                return;
            }
            // While the driver has not been polled, its first poll writes.
            let Some(waker) = queue.driver.clone() else { return };
            if !queue.start() {
                return;
            }
            waker
        };
        let flushed = self.write(&mut lock(&self.sink), &mut Context::from_waker(&waker));
        // Only now that the sink is free: the driver goes on, or watches how long it is blocked.
        if flushed != Flushed::Done {
            waker.wake();
        }
    }

    /// As [`flush`](Self::flush), once this many bytes have come together.
    pub(crate) fn flush_from(&self, bytes: usize) {
        let enough = lock(&self.queue).buffer.len() >= bytes;
        if enough {
            self.flush();
        }
    }

    /// The driver's turn: registers its waker and goes on with a write that was blocked.
    pub(crate) fn drive(&self, cx: &mut Context<'_>) -> Driven {
        self.left.store(false, Ordering::Relaxed);
        let (claimed, flushing) = {
            let mut queue = lock(&self.queue);
            if !queue.driver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                queue.driver = Some(cx.waker().clone());
            }
            queue.held = 0;
            let claimed = queue.start();
            if !claimed && !queue.flushing {
                let driven = queue.driven(Flushed::Done);
                self.note_room(queue);
                return driven;
            }
            (claimed, queue.flushing)
        };
        let flushed = if claimed {
            self.write(&mut lock(&self.sink), cx)
        } else if flushing && let Ok(mut sink) = self.sink.try_lock() {
            self.write(&mut sink, cx)
        } else {
            // Whoever holds the sink is writing, and leaves it to this waker when that blocks.
            Flushed::Done
        };
        lock(&self.queue).driven(flushed)
    }

    /// Whether something was appended, other than by calls, that nobody has flushed.
    pub(crate) fn has_left_something(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Wakes the driver, whose waker is the one that writes are polled with.
    pub(crate) fn wake_driver(&self) {
        let waker = lock(&self.queue).driver.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether so many replies wait that reading must stop.
    pub(crate) fn is_reply_bound(&self) -> bool {
        lock(&self.queue).replies > MAX_REPLIES
    }

    /// Whether everything appended has been written.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.queue).waiting() == 0
    }

    /// Drops all that the transport was not handed, and accepts nothing more except the [last
    /// frame](Self::append_last). Returns how many bytes of the stream the transport was handed; a frame that begins
    /// there or later is never written.
    pub(crate) fn drop_unsent(&self) -> u64 {
        // Waits for a write that is going on: what it has taken is known when it returns.
        let mut sink = lock(&self.sink);
        let mut queue = lock(&self.queue);
        queue.broken |= sink.begun && !sink.out.is_empty();
        queue.drop_frames();
        queue.written = sink.handed;
        queue.appended = sink.handed;
        sink.drop_frames();
        let handed = sink.handed;
        drop(queue);
        self.room.notify_waiters();
        handed
    }

    /// Appends the last frame of a connection, unless nothing can follow what was written.
    ///
    /// # Errors
    ///
    /// The frame itself is bad; nothing of it was appended.
    pub(crate) fn append_last(
        &self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), IpcError>,
    ) -> Result<(), IpcError> {
        let mut queue = lock(&self.queue);
        if queue.broken {
            return Ok(());
        }
        queue.ended = true;
        let before = queue.buffer.len();
        write(&mut queue.buffer)?;
        queue.appended += (queue.buffer.len() - before) as u64;
        queue.frames += 1;
        Ok(())
    }

    /// From here on nothing more is accepted; what was appended is still written.
    pub(crate) fn end(&self) {
        lock(&self.queue).ended = true;
        self.room.notify_waiters();
    }

    /// Tells the other side that nothing more comes, where the platform can.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.sink).io).poll_shutdown(cx)
    }

    /// Gives the stream back to the system.
    pub(crate) fn close(&self) {
        lock(&self.queue).ended = true;
        lock(&self.sink).io = Box::new(tokio::io::sink());
    }

    fn write(&self, sink: &mut Sink, cx: &mut Context<'_>) -> Flushed {
        for _ in 0..MAX_ROUNDS {
            let polled = sink.poll_write(cx);
            let mut queue = lock(&self.queue);
            queue.written = sink.handed;
            match polled {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    sink.drop_frames();
                    queue.fail(error);
                    self.note_room(queue);
                    self.wake_driver();
                    return Flushed::Done;
                }
                Poll::Pending => return Flushed::Blocked,
            }
            if queue.replied(std::mem::take(&mut sink.replies_in_out))
                && let Some(driver) = &queue.driver
            {
                // It has left frames lie, and no event of the socket tells it to go on.
                driver.wake_by_ref();
            }
            let done = queue.buffer.is_empty();
            if done {
                queue.flushing = false;
            } else {
                // This writer may have taken the sink after the one that had claimed the writing was done.
                queue.flushing = true;
                sink.refill(&mut queue);
            }
            self.note_room(queue);
            if done {
                return Flushed::Done;
            }
        }
        Flushed::Unfinished
    }

    /// Tells one of those who wait that there is room. Should nobody poll that one, the driver tells the next.
    fn note_room(&self, mut queue: MutexGuard<'_, Queue>) {
        if queue.ended {
            drop(queue);
            self.room.notify_waiters();
            return;
        }
        if !queue.has_room() || queue.sleepers == 0 {
            return;
        }
        queue.sleepers -= 1;
        if queue.sleepers > 0
            && let Some(driver) = &queue.driver
        {
            driver.wake_by_ref();
        }
        drop(queue);
        self.room.notify_one();
    }
}

/// A place among those who wait to append a call's frame.
struct InLine<'a> {
    writer: &'a Writer,
    /// Somebody waited before.
    others: bool,
}

impl<'a> InLine<'a> {
    fn behind_others(writer: &'a Writer) -> Self {
        let mut queue = lock(&writer.queue);
        queue.in_line += 1;
        Self { writer, others: queue.in_line > 1 }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        lock(&self.writer.queue).in_line -= 1;
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Queue {
    fn driven(&mut self, flushed: Flushed) -> Driven {
        Driven { flushed, written: self.written, failure: self.failure.take() }
    }

    const fn waiting(&self) -> u64 {
        self.appended - self.written
    }

    const fn has_room(&self) -> bool {
        self.waiting() < QUEUE_BYTES as u64
    }

    /// Claims the writing, if there is something to write and nobody does.
    fn start(&mut self) -> bool {
        !self.buffer.is_empty() && !std::mem::replace(&mut self.flushing, true)
    }

    /// Counts replies that were written; `true` if reading had stopped for them and may go on.
    const fn replied(&mut self, written: usize) -> bool {
        let stopped = self.replies > MAX_REPLIES;
        self.replies -= written;
        stopped && self.replies <= MAX_REPLIES
    }

    fn fail(&mut self, error: io::Error) {
        self.failure = Some(error);
        self.broken = true;
        self.drop_frames();
    }

    /// Drops what waits, and accepts nothing more.
    fn drop_frames(&mut self) {
        self.buffer = BytesMut::new();
        self.frames = 0;
        self.replies = 0;
        self.ended = true;
        self.flushing = false;
    }
}

impl Sink {
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let before = self.handed;
            self.handed += self.out.len() as u64;
            let polled = Pin::new(&mut self.io).poll_write(cx, &self.out);
            let taken = if let Poll::Ready(Ok(taken)) = &polled { *taken } else { 0 };
            self.handed = before + taken as u64;
            ready!(polled)?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(taken);
            self.begun = true;
        }
        Poll::Ready(Ok(()))
    }

    fn drop_frames(&mut self) {
        self.out = BytesMut::new();
        self.replies_in_out = 0;
    }

    /// Takes all that waits. The two buffers swap, so that in steady state neither is allocated again.
    fn refill(&mut self, queue: &mut Queue) {
        self.out.clear();
        self.begun = false;
        if self.out.capacity() > KEPT_BYTES {
            self.out = BytesMut::new();
        }
        std::mem::swap(&mut self.out, &mut queue.buffer);
        queue.frames = 0;
        self.replies_in_out = queue.replies;
    }
}

/// A poisoned lock only says that a panic happened elsewhere; every update here is complete by itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn bytes(count: usize) -> impl FnMut(&mut BytesMut, u64) -> Result<(), IpcError> {
        move |buffer, _| {
            buffer.extend_from_slice(&vec![0; count]);
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_is_told_of_room_and_not_polled_keeps_nobody() {
        let (output, mut peer) = tokio::io::duplex(1024);
        let writer = Arc::new(Writer::new(Box::new(output)));
        let driven = Arc::clone(&writer);
        tokio::spawn(poll_fn(move |cx| {
            if driven.drive(cx).flushed == Flushed::Unfinished {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        writer.append(Class::Call, bytes(QUEUE_BYTES)).unwrap();
        assert!(matches!(writer.append(Class::Call, bytes(1)), Err(Refusal::Full)));
        let mut first = std::pin::pin!(writer.append_in_line(bytes(1)));
        let polled = poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await;
        assert!(polled);
        let second = Arc::clone(&writer);
        let second = tokio::spawn(async move { second.append_in_line(bytes(1)).await });
        let read = async {
            peer.read_exact(&mut vec![0; QUEUE_BYTES]).await.unwrap();
            second.await.unwrap().unwrap()
        };
        let end = tokio::time::timeout(Duration::from_secs(1), read).await;
        assert_eq!(end, Ok(QUEUE_BYTES as u64 + 1));
        assert_eq!(first.await.unwrap(), QUEUE_BYTES as u64 + 2);
        assert!(writer.append(Class::Call, bytes(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_driver_goes_on_with_what_a_late_writer_took_up() {
        let (output, mut peer) = tokio::io::duplex(10);
        let writer = Writer::new(Box::new(output));
        poll_fn(|cx| Poll::Ready(writer.drive(cx))).await;
        writer.append(Class::Call, bytes(30)).unwrap();
        // The driver takes the sink because somebody writes, and gets it when that writer is done: nobody has claimed
        // the writing of what was appended since.
        let late = poll_fn(|cx| Poll::Ready(writer.write(&mut lock(&writer.sink), cx))).await;
        assert_eq!(late, Flushed::Blocked);
        let driven = poll_fn(|cx| {
            writer.drive(cx);
            if writer.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut read = [0; 30];
        let done = async { tokio::join!(driven, peer.read_exact(&mut read)) };
        let done = tokio::time::timeout(Duration::from_secs(1), done).await;
        assert_eq!(done.unwrap().1.unwrap(), 30);
    }

    #[tokio::test]
    async fn what_was_not_handed_over_is_dropped_and_the_last_frame_follows_whole_frames_only() {
        for (room, handed, rest) in [(10_usize, 10_usize, 0), (30, 30, 5), (0, 0, 5)] {
            let (output, mut peer) = tokio::io::duplex(64);
            let writer = Writer::new(Box::new(output));
            let before = 64 - room;
            // What the peer has not read leaves this much room.
            writer.append(Class::Call, bytes(before)).unwrap();
            poll_fn(|cx| Poll::Ready(writer.drive(cx))).await;
            writer.append(Class::Call, bytes(30)).unwrap();
            poll_fn(|cx| Poll::Ready(writer.drive(cx))).await;
            writer.append(Class::Call, bytes(7)).unwrap();
            assert_eq!(writer.drop_unsent(), (before + handed) as u64);
            assert!(matches!(writer.append(Class::Control, bytes(1)), Err(Refusal::Ended)));
            writer.append_last(|buffer| bytes(5)(buffer, 0)).unwrap();
            peer.read_exact(&mut vec![0; before + handed]).await.unwrap();
            poll_fn(|cx| Poll::Ready(writer.drive(cx))).await;
            assert!(writer.is_empty());
            writer.close();
            let mut last = Vec::new();
            peer.read_to_end(&mut last).await.unwrap();
            assert_eq!(last.len(), rest);
        }
    }
}
