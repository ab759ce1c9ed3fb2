//! The one task of a connection: reads, judges frames, keeps time, and ends the connection.
//!
//! It never awaits an application: what arrives is handed to the [`Side`] (client or server), which only puts
//! it where somebody else takes it. It knows the rules that both sides share, not what calls do.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::Instant;

use super::Connection;
use super::clock::Clock;
use super::writer::{Class, Driven, Flushed, Writer};
use crate::error::IpcError;
use crate::frame::{FrameCodec, READ_STEP};
use crate::status::{Code, Status};
use crate::wire::hot::{self, Hot};
use crate::wire::{self, Body, Envelope, GoAway, Nonce};

/// How long a side that has said its last waits for the peer to read it (wire protocol, section 8).
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// The most that one read makes room for ahead of any frame.
const MAX_READ_STEP: usize = 256 * 1024;

pub(crate) type BoxedRead = Box<dyn AsyncRead + Send + Unpin>;

/// What a connection's driver asks of the client or the server behind it. Nothing here may block.
pub(crate) trait Side: Send + Unpin + 'static {
    /// A body about a call.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol; the status becomes the `GoAway`.
    fn on_call(&mut self, call_id: u64, body: Body) -> Result<(), Status>;

    /// Items of one call, in their order; takes all of them.
    ///
    /// # Errors
    ///
    /// As [`on_call`](Self::on_call).
    fn on_items(&mut self, call_id: u64, items: &mut Vec<Bytes>) -> Result<(), Status>;

    /// As [`on_call`](Self::on_call), for the other bodies that most traffic is made of.
    ///
    /// # Errors
    ///
    /// As [`on_call`](Self::on_call).
    fn on_hot(&mut self, call_id: u64, hot: Hot) -> Result<(), Status>;

    /// The peer goes away, or says that it will.
    ///
    /// # Errors
    ///
    /// Why the connection ends at once; `Ok` if it goes on.
    fn on_go_away(&mut self, go_away: GoAway) -> Result<(), Ending>;

    /// Ends the calls whose deadline has passed, and sets the connection's alarm to the next one.
    fn expire(&mut self, now: Instant);

    /// Asked at every turn once the connection is [winding up](Connection::winding_up): whether it shall end now, and how.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Ending>;

    /// How many are at work on calls, among them those of the `taken` frames of this turn.
    fn callers(&self, taken: usize) -> usize;

    /// For this side's own `GoAway`.
    fn last_call_id(&self) -> u64;

    /// The connection is over. Called once, before the last `GoAway` is written.
    fn on_end(&mut self, cause: &Arc<IpcError>);
}

/// Why a connection ends, and what the peer is told.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) cause: IpcError,
    /// The status of the last `GoAway`; `None` sends none.
    pub(crate) go_away: Option<Box<Status>>,
}

impl Ending {
    pub(crate) const fn silent(cause: IpcError) -> Self {
        Self { cause, go_away: None }
    }

    /// The peer broke the protocol.
    pub(crate) fn breach(status: Status) -> Self {
        Self { cause: IpcError::Status(status.clone()), go_away: Some(Box::new(status)) }
    }

    /// A frame could not be taken (the table of section 2).
    pub(crate) fn frame(cause: IpcError) -> Self {
        let status = frame_error_code(&cause).map(|code| Box::new(Status::new(code, cause.to_string())));
        Self { go_away: status, cause }
    }
}

/// The code that answers a frame error; `None` where the stream itself ended.
pub(crate) const fn frame_error_code(error: &IpcError) -> Option<Code> {
    match error {
        IpcError::InvalidLength { .. } | IpcError::Decode(_) => Some(Code::InvalidArgument),
        IpcError::TooLarge { .. } => Some(Code::ResourceExhausted),
        IpcError::CrcMismatch { .. } => Some(Code::DataLoss),
        IpcError::Timeout => Some(Code::DeadlineExceeded),
        _ => None,
    }
}

pub(crate) struct Driver<S> {
    pub(crate) side: S,
    connection: Arc<Connection>,
    input: BoxedRead,
    buffer: BytesMut,
    /// What the next read makes room for.
    read_step: usize,
    codec: FrameCodec,
    clock: Clock,
    /// Items that have come one after the other, and their call.
    items: Vec<Bytes>,
    items_of: u64,
}

impl<S: Side> Driver<S> {
    /// `buffer` holds what was read after the Hello.
    pub(crate) fn new(side: S, connection: Arc<Connection>, input: BoxedRead, buffer: BytesMut) -> Self {
        let codec = FrameCodec::new(connection.variant, connection.max_frame_bytes);
        let clock = Clock::new(connection.read_timeout, connection.write_timeout);
        Self {
            side,
            connection,
            input,
            buffer,
            read_step: READ_STEP,
            codec,
            clock,
            items: Vec::new(),
            items_of: 0,
        }
    }

    /// Runs the connection to its end.
    pub(crate) async fn run(mut self) {
        let ending = std::future::poll_fn(|cx| self.poll(cx)).await;
        tracing::debug!(cause = %ending.cause, go_away = ?ending.go_away, "connection ends");
        self.side.on_end(&Arc::new(ending.cause));
        if let Some(status) = ending.go_away {
            self.connection.queue_last_go_away(self.side.last_call_id(), &status);
        }
        self.connection.writer.end();
        // The side stops counting this connection before its stream is ended.
        drop(self.side);
        drop(self.buffer);
        linger(&self.connection.writer, self.input).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        self.drive_writes(cx);
        loop {
            let calls = match self.take_frames() {
                Ok(calls) => calls,
                Err(ending) => return Poll::Ready(ending),
            };
            // After the frames: the last of them may be what the end waited for.
            if self.connection.winding_up.load(Ordering::Acquire)
                && let Poll::Ready(ending) = self.side.poll_end(cx)
            {
                return Poll::Ready(ending);
            }
            // A peer that never pauses keeps this from its timer, but each read has told the time.
            self.expire(self.clock.last_read);
            if let Some(ending) = self.clock.expired(self.clock.last_read) {
                return Poll::Ready(ending);
            }
            if calls > 1 {
                // Those whom the frames have woken run first, and what they send leaves together.
                self.connection.writer.hold(together(self.side.callers(calls)));
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(ending)) => return Poll::Ready(ending),
                Poll::Pending => {
                    // What was answered while frames were taken leaves before the task sleeps.
                    if self.connection.writer.has_left_something() {
                        self.drive_writes(cx);
                    }
                    ready!(self.poll_clock(cx));
                    let now = Instant::now();
                    self.expire(now);
                    if let Some(ending) = self.clock.expired(now) {
                        return Poll::Ready(ending);
                    }
                }
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        if self.connection.alarm.is_due(now) {
            self.side.expire(now);
        }
    }

    fn drive_writes(&mut self, cx: &mut Context<'_>) {
        let Driven { flushed, written, failure } = self.connection.writer.drive(cx);
        if flushed == Flushed::Unfinished {
            cx.waker().wake_by_ref();
        }
        self.clock.note_write(flushed, written);
        if let Some(error) = failure {
            tracing::debug!(%error, "writing failed; reading what has already arrived");
            self.clock.write_failed.get_or_insert_with(Instant::now);
        }
    }

    /// Takes every whole frame off the buffer, unless too many replies wait; returns how many there were, items of one
    /// call that came together counted once.
    fn take_frames(&mut self) -> Result<usize, Ending> {
        let mut taken = 0;
        while !self.connection.writer.is_reply_bound() {
            match self.codec.decode_frame(&mut self.buffer) {
                Ok(Some(frame)) => {
                    self.clock.frame_began = None;
                    match hot::recognise(frame) {
                        Ok((id, Hot::Item(item))) => {
                            taken += usize::from(self.items.is_empty() || id != self.items_of);
                            self.on_item(id, item)?;
                        }
                        Ok((id, hot)) => {
                            taken += 1;
                            self.pass_items()?;
                            self.side.on_hot(id, hot).map_err(Ending::breach)?;
                        }
                        Err(frame) => {
                            taken += 1;
                            self.pass_items()?;
                            self.on_envelope(wire::decode(frame).map_err(Ending::frame)?)?;
                        }
                    }
                }
                Ok(None) => {
                    self.pass_items()?;
                    self.clock.note_buffer(self.buffer.is_empty());
                    return Ok(taken);
                }
                Err(error) => {
                    self.pass_items()?;
                    return Err(Ending::frame(error));
                }
            }
        }
        self.pass_items()?;
        // What waits in the buffer now waits for this side.
        self.clock.frame_began = None;
        Ok(taken)
    }

    /// Items of one call that come one after the other are handed over together.
    fn on_item(&mut self, id: u64, item: Bytes) -> Result<(), Ending> {
        if id != self.items_of {
            self.pass_items()?;
            self.items_of = id;
        }
        self.items.push(item);
        Ok(())
    }

    fn pass_items(&mut self) -> Result<(), Ending> {
        if self.items.is_empty() {
            return Ok(());
        }
        self.side.on_items(self.items_of, &mut self.items).map_err(Ending::breach)
    }

    fn on_envelope(&mut self, envelope: Envelope) -> Result<(), Ending> {
        let Envelope { call_id, body } = envelope;
        let Some(body) = body else { return Ok(()) };
        if body.is_about_connection() != (call_id == 0) {
            let what = if call_id == 0 { "without a call id" } else { "with a call id" };
            return Err(Ending::breach(Status::internal(format!("{} {what}", body.name()))));
        }
        match body {
            Body::Hello(_) => Err(Ending::breach(Status::internal("a second Hello"))),
            Body::Ping(ping) => {
                self.connection.queue(Class::Reply, 0, Body::Pong(ping));
                Ok(())
            }
            Body::Pong(_) => Ok(()),
            Body::GoAway(go_away) => self.side.on_go_away(go_away),
            body => self.side.on_call(call_id, body).map_err(Ending::breach),
        }
    }

    /// Reads once; `Ready` means that there may be frames to take.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        if self.connection.writer.is_reply_bound() {
            self.clock.last_read = Instant::now();
            return Poll::Pending;
        }
        self.codec.reserve(&mut self.buffer, self.read_step);
        let room = self.buffer.capacity() - self.buffer.len();
        match ready!(poll_read_buf(&mut self.input, cx, &mut self.buffer)) {
            Ok(0) => {
                if !self.buffer.is_empty() {
                    let missing = self.codec.missing(&self.buffer);
                    tracing::warn!(got = self.buffer.len(), ?missing, "stream ended inside a frame");
                }
                Poll::Ready(Err(Ending::silent(IpcError::PeerClosed)))
            }
            Ok(read) => {
                self.clock.note_read();
                // A peer that fills the room gets more of it, one that says little holds little.
                if read == room {
                    self.read_step = (self.read_step * 2).min(MAX_READ_STEP);
                } else if read < self.read_step / 8 {
                    self.read_step = (self.read_step / 2).max(READ_STEP);
                }
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(Ending::silent(error.into()))),
        }
    }

    /// Arms the timer for what is due first; `Ready` when it went off. Pings where the time has come.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.clock.poll(cx, self.connection.alarm.due()));
        if self.clock.ping_is_due(Instant::now()) {
            self.clock.pinged = true;
            let nonce = self.connection.next_nonce();
            self.connection.queue(Class::Control, 0, Body::Ping(Nonce { nonce }));
        }
        Poll::Ready(())
    }
}

/// How many frames of woken tasks leave together, with so many at work on calls. Few calls: all of them, for one write is cheaper
/// than two. Of many, a part goes ahead, so that the peer works on it while the rest is made; how large a part was measured.
fn together(callers: usize) -> usize {
    if callers <= 6 { callers } else { (callers / 5).clamp(3, 10) }
}

/// Writes what waits, ends the own half, and discards input until the peer ends its half, 1 s at most, so
/// that the peer can read why.
pub(crate) async fn linger(writer: &Writer, mut input: BoxedRead) {
    let mut discarded = vec![0; 4096];
    let mut flushed = false;
    let drained = std::future::poll_fn(|cx| {
        loop {
            if !flushed {
                let driven = writer.drive(cx);
                if driven.flushed == Flushed::Unfinished {
                    cx.waker().wake_by_ref();
                }
                flushed =
                    driven.failure.is_some() || writer.is_empty() && writer.poll_shutdown(cx).is_ready();
            }
            let mut space = ReadBuf::new(&mut discarded);
            match ready!(Pin::new(&mut input).poll_read(cx, &mut space)) {
                Ok(()) if !space.filled().is_empty() => {}
                _ if flushed => return Poll::Ready(()),
                _ => return Poll::Pending,
            }
        }
    });
    _ = tokio::time::timeout(LINGER, drained).await;
    writer.close();
}

/// Reads into the spare room of `buffer`; returns how many bytes came.
fn poll_read_buf(
    input: &mut BoxedRead,
    cx: &mut Context<'_>,
    buffer: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    pin!(input.read_buf(buffer)).poll(cx)
}
