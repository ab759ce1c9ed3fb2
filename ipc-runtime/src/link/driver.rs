//! The one task of a connection. It reads, decodes, watches timeouts, and continues writes that blocked.
//!
//! It never awaits an application. It hands what arrives to the core, and new calls to the [`Host`]. It knows no rule of
//! the protocol.

#[cfg(all(test, not(feature = "interleavings")))]
mod tests;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{Link, View};
use crate::error::IpcError;
use crate::protocol::connection::{Connection, Phase};
use crate::protocol::ending::Ending;
use crate::protocol::envelope::{self, Body, Inbound, Target};
use crate::protocol::frame::{FrameCodec, FrameReader, HEADER_LEN};
use crate::protocol::roles::Arrival;
use crate::transport::BoxedRead;

/// At most this many frames are handed to the core at a time, so that the lock is not held for long.
const MAX_INBOUND: usize = 64;

/// Small items of one call share a buffer of up to about this size.
const ITEMS_TOGETHER: usize = 8 * 1024;

/// The client or the server behind a driver. No method may block.
pub(crate) trait Host: Send + Unpin + 'static {
    /// The target of a method's calls.
    fn resolve(&mut self, method: &[u8]) -> Target;

    /// Takes all calls that have arrived.
    fn on_arrivals(&mut self, arrivals: &mut Vec<Arrival>);

    /// The connection takes no more calls, or is over. May be called more than once.
    fn on_closed(&mut self);

    /// Everything is written, and the stream is about to be ended. Returns whether the peer gets time to read it.
    fn on_written(&mut self) -> bool;
}

/// Drives one connection to its end. If this is dropped earlier, the connection ends at once for all calls.
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
pub(crate) struct Driver<H: Host> {
    host: H,
    link: Arc<Link>,
    /// `None` once the stream has ended.
    input: Option<BoxedRead>,
    reader: FrameReader,
    inbound: Vec<Inbound>,
    /// The positions of items in the reader's buffer, while they are taken.
    items: Vec<(usize, usize)>,
    /// The last frame was an item, so the next is probably another.
    is_amid_items: bool,
    arrivals: Vec<Arrival>,
    wakeups: Vec<Waker>,
    /// When something was last read.
    now: std::time::Instant,
    view: View,
    sleep: Pin<Box<Sleep>>,
    /// The timer will wake this task.
    is_armed: bool,
    /// Something was read since frames were last taken.
    has_new_input: bool,
    /// The host was told that no more calls are taken.
    has_told: bool,
    has_told_written: bool,
    /// A timeout is due, and the socket was checked since then.
    has_looked_again: bool,
    is_shut_down: bool,
}

impl<H: Host> Driver<H> {
    /// `reader` holds the bytes that were read after the Hello.
    pub(crate) fn new(host: H, link: Arc<Link>, input: BoxedRead, mut reader: FrameReader) -> Self {
        let terms = link.terms();
        reader.switch(FrameCodec::new(terms.variant, terms.max_frame_bytes));
        Self {
            host,
            link,
            input: Some(input),
            reader,
            inbound: Vec::new(),
            items: Vec::new(),
            is_amid_items: false,
            arrivals: Vec::new(),
            wakeups: Vec::new(),
            now: Instant::now().into_std(),
            view: View {
                phase: Phase::Open,
                is_usable: true,
                wants_input: true,
                has_output: true,
                due: None,
            },
            sleep: Box::pin(tokio::time::sleep_until(Instant::now())),
            is_armed: false,
            has_new_input: true,
            has_told: false,
            has_told_written: false,
            has_looked_again: false,
            is_shut_down: false,
        }
    }

    /// Runs the connection to its end.
    pub(crate) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let was_stopped = !self.view.wants_input;
        self.begin_turn(cx);
        // Where input was left lying, it is taken now.
        let mut now = if was_stopped { Instant::now().into_std() } else { self.now };
        loop {
            let calls = self.take_frames(now);
            self.tell_host();
            match self.view.phase {
                Phase::Closed => {
                    self.link.lock().sink = None;
                    return Poll::Ready(());
                }
                Phase::Lingering { .. } => self.shut_down(cx),
                Phase::Open | Phase::Flushing { .. } => {}
            }
            if calls > 1 {
                // Those whom the frames have woken run first, and what they send leaves together.
                let mut state = self.link.lock();
                state.held = together(state.core.busy_calls(calls));
                drop(state);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Poll::Ready(read_at) = self.poll_read(cx) {
                now = read_at;
                self.now = now;
                continue;
            }
            if self.poll_sleep(cx).is_pending() {
                self.has_looked_again = false;
                return Poll::Pending;
            }
            if !std::mem::replace(&mut self.has_looked_again, true) {
                // This process may have been stopped: the timer goes off before the runtime has looked at the sockets.
                // Nothing is judged before it has, and before reading and writing were tried once more.
                return pin!(tokio::task::yield_now()).poll(cx);
            }
            self.has_looked_again = false;
            now = Instant::now().into_std();
            self.link.update(now, Connection::handle_timeout);
            self.look();
        }
    }

    /// Registers this task, and continues a write that blocked.
    fn begin_turn(&mut self, cx: &mut Context<'_>) {
        let mut state = self.link.lock();
        if !state.driver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.set_driver(cx.waker());
            self.link.set_runtime();
        }
        state.held = 0;
        state.has_missed_turn = state.sink.is_none();
        if state.core.is_blocked() || state.core.can_transmit() {
            self.link.write(state, Instant::now().into_std());
            state = self.link.lock();
        }
        self.view = state.view();
    }

    /// Updates the view of the connection.
    fn look(&mut self) {
        self.view = self.link.lock().view();
    }

    /// Tells the host once that no more calls are taken.
    fn tell_host(&mut self) {
        if self.view.is_usable || self.has_told {
            return;
        }
        self.has_told = true;
        self.host.on_closed();
    }

    /// Tells the peer that nothing more is sent, on platforms that can do this.
    fn shut_down(&mut self, cx: &mut Context<'_>) {
        if self.is_shut_down {
            return;
        }
        if !self.has_told_written {
            self.has_told_written = true;
            if !self.host.on_written() {
                self.link.lose(IpcError::PeerClosed);
                cx.waker().wake_by_ref();
                return;
            }
        }
        let mut state = self.link.lock();
        if let Some(sink) = &mut state.sink {
            self.is_shut_down = Pin::new(&mut sink.output).poll_shutdown(cx).is_ready();
        }
        if self.input.is_none() {
            let now = Instant::now().into_std();
            state.core.handle_input_end(now, Ending::silent(IpcError::PeerClosed));
            cx.waker().wake_by_ref();
        }
    }

    /// Takes every complete frame that has arrived, unless too many replies wait. Returns the approximate number of calls
    /// to which the frames belong.
    fn take_frames(&mut self, now: std::time::Instant) -> usize {
        let mut calls = 0;
        while self.view.wants_input && self.view.phase == Phase::Open {
            let failed = self.decode_frames();
            if self.inbound.is_empty() && failed.is_none() && !self.has_new_input {
                break;
            }
            self.has_new_input = false;
            let is_last = self.inbound.len() < MAX_INBOUND || failed.is_some();
            calls += self.hand_in(now, failed);
            if is_last {
                break;
            }
        }
        calls
    }

    /// Decodes frames, without the lock.
    fn decode_frames(&mut self) -> Option<IpcError> {
        while self.inbound.len() < MAX_INBOUND {
            if self.is_amid_items {
                self.take_items();
            }
            let Self { reader, inbound, host, is_amid_items, .. } = self;
            let mut resolve = |method: &[u8]| host.resolve(method);
            let frame = match reader.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => return None,
                Err(error) => return Some(error),
            };
            match envelope::decode(frame, &mut resolve) {
                Ok(found) => {
                    *is_amid_items = matches!(&found, Some(Inbound { body: Body::Item(_), .. }));
                    inbound.extend(found);
                }
                Err(error) => return Some(error),
            }
        }
        None
    }

    /// Takes consecutive small items of one call, in one shared buffer. The buffer's overhead per message is less than what
    /// the protocol charges for it.
    fn take_items(&mut self) {
        let mut id = 0;
        let mut end = 0;
        self.items.clear();
        let length = self.reader.run(|message| {
            let Some((of, start)) = envelope::plain_item(message) else { return false };
            if end > ITEMS_TOGETHER || id != 0 && id != of {
                return false;
            }
            id = of;
            let begin = end + HEADER_LEN;
            end = begin + message.len();
            self.items.push((begin + start, end));
            true
        });
        // One item alone is copied without anything around it. Of a damaged frame, `length` does not tell.
        if self.items.len() < 2 || end != length {
            return;
        }
        let bytes = Bytes::copy_from_slice(self.reader.peek(length));
        let items = self.items.drain(..).map(|(start, end)| bytes.slice(start..end)).collect();
        self.inbound.push(Inbound { id, body: Body::Items(items) });
        self.reader.skip(length);
    }

    /// Hands decoded frames to the core under one lock, and new calls to the host.
    fn hand_in(&mut self, now: std::time::Instant, failed: Option<IpcError>) -> usize {
        let mut calls = 0;
        let mut last = 0;
        let frames = self.inbound.len();
        let mut state = self.link.lock();
        state.core.note_read(now);
        for inbound in self.inbound.drain(..) {
            calls += usize::from(inbound.id != last);
            last = inbound.id;
            state.core.handle(now, inbound);
        }
        state.core.note_frames_taken(now, frames, self.reader.partial() > 0);
        if let Some(error) = failed {
            state.core.handle_input_end(now, Ending::frame(error));
        }
        std::mem::swap(state.core.arrivals(), &mut self.arrivals);
        std::mem::swap(state.core.wakeups(), &mut self.wakeups);
        self.view = View { due: state.core.timeout(), ..state.view() };
        drop(state);
        self.wakeups.drain(..).for_each(Waker::wake);
        if !self.arrivals.is_empty() {
            self.host.on_arrivals(&mut self.arrivals);
            self.arrivals.clear();
        }
        calls
    }

    /// Reads once. `Ready` with the current time if something happened.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<std::time::Instant> {
        let Some(input) = &mut self.input else { return Poll::Pending };
        let is_open = self.view.phase == Phase::Open;
        if is_open && !self.view.wants_input {
            return Poll::Pending;
        }
        let read = if is_open {
            ready!(pin!(input.read_buf(&mut self.reader.room())).poll(cx))
        } else {
            ready!(poll_discard(input, cx))
        };
        let now = Instant::now().into_std();
        let ending = match read {
            Ok(0) => {
                if self.reader.partial() > 0 {
                    let missing = self.reader.missing();
                    tracing::warn!(got = self.reader.partial(), ?missing, "stream ended inside a frame");
                }
                Ending::silent(IpcError::PeerClosed)
            }
            Ok(read) => {
                if is_open {
                    self.reader.note_read(read);
                    self.has_new_input = true;
                }
                return Poll::Ready(now);
            }
            Err(error) => Ending::silent(error.into()),
        };
        self.input = None;
        self.link.update(now, |core, now| core.handle_input_end(now, ending));
        self.look();
        Poll::Ready(now)
    }

    /// Waits until a timeout is due. Replies to the frames that were taken are written before the task sleeps.
    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Whoever has made something due earlier since the last look has woken this task, as it knows when the sleep ends.
        if !self.view.has_output && self.view.due.is_some_and(|due| self.is_set_for(due)) {
            return Poll::Pending;
        }
        let due = {
            let mut state = self.link.lock();
            if state.may_write() {
                self.link.settle(state, Instant::now().into_std());
                state = self.link.lock();
            }
            let Some(due) = state.core.timeout() else { return Poll::Ready(()) };
            if self.is_set_for(due) {
                return Poll::Pending;
            }
            state.armed = Some(due);
            Instant::from_std(due)
        };
        if due != self.sleep.deadline() || self.sleep.is_elapsed() {
            self.sleep.as_mut().reset(due);
        }
        // Without the task's budget: one that is used up would look like a sleep that is set.
        let polled = pin!(tokio::task::coop::unconstrained(self.sleep.as_mut())).poll(cx);
        self.is_armed = polled.is_pending();
        polled
    }

    /// Whether the timer will wake this task at `due` or earlier. A timer that ends too early is not changed, because
    /// setting it again at every turn costs more.
    fn is_set_for(&self, due: std::time::Instant) -> bool {
        self.is_armed && due >= self.sleep.deadline().into_std() && !self.sleep.is_elapsed()
    }
}

impl<H: Host> Drop for Driver<H> {
    fn drop(&mut self) {
        self.link.lose(IpcError::PeerClosed);
        self.host.on_closed();
    }
}

/// How many frames of woken tasks are written together, if `busy` calls are being worked on. With few calls, all frames
/// wait for one write, because one write is cheaper than two. With many calls, a part is written first, so that the peer
/// can work on it at the same time. The best size of this part was measured.
fn together(busy: usize) -> usize {
    if busy <= 6 { busy } else { (busy / 5).clamp(3, 10) }
}

/// Reads and discards input.
fn poll_discard(input: &mut BoxedRead, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut discarded = [0; 4096];
    let mut space = ReadBuf::new(&mut discarded);
    ready!(Pin::new(input).poll_read(cx, &mut space))?;
    Poll::Ready(Ok(space.filled().len()))
}
