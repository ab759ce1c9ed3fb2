//! The network: streams in memory that split, delay, stall, break and damage what is written to them, as their seed says.
//!
//! Bytes that a write has taken arrive in order or not at all. It knows nothing of frames.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ipc_runtime::simulation_hooks::Halves;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::random::Random;
use super::report::Event;
use super::world::{Shared, lock};

/// Who is woken when. It is moved by whichever runtime has its turn.
#[derive(Debug, Default)]
pub(super) struct Timers {
    waiting: BTreeMap<(Instant, u64), Waker>,
    next: u64,
}

impl Timers {
    pub(super) fn wake_at(&mut self, at: Instant, waker: &Waker) {
        self.next += 1;
        self.waiting.insert((at, self.next), waker.clone());
    }

    /// Whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Waker> {
        let later = self.waiting.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.waiting, later).into_values().collect()
    }
}

/// What happens to a direction once so many bytes were written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    Reset,
    /// Writes fail, and nothing of that is seen at the other end.
    WriteBroken,
    /// The other end sees the end of the stream.
    HalfClosed,
    Stall(Duration),
    Damaged,
}

/// One direction of a stream.
#[derive(Debug)]
struct Lane {
    random: Random,
    bytes: VecDeque<(Instant, VecDeque<u8>)>,
    length: usize,
    capacity: usize,
    most_at_once: usize,
    latency: usize,
    fate: Fate,
    /// Bytes until the fate comes.
    left: usize,
    stalled_until: Option<Instant>,
    /// A write takes nothing until then.
    blocked_until: Option<Instant>,
    is_write_broken: bool,
    is_ended: bool,
    has_reader: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Lane {
    fn new(mut random: Random, is_calm: bool) -> Self {
        let fate = match random.below(if is_calm { 1 } else { 24 }) {
            1 | 2 => Fate::Reset,
            3 => Fate::WriteBroken,
            4 | 5 => Fate::HalfClosed,
            6 | 7 => Fate::Stall(random.millis(1, 3000)),
            8 => Fate::Damaged,
            _ => Fate::Fine,
        };
        Self {
            bytes: VecDeque::new(),
            length: 0,
            capacity: if is_calm { 1 << 20 } else { random.pick(&[64, 1000, 8192, 1 << 18, 1 << 18]) },
            most_at_once: if is_calm { 1 << 20 } else { random.pick(&[3, 100, 5000, 1 << 20, 1 << 20]) },
            latency: if is_calm { 0 } else { random.pick(&[0, 0, 2, 40]) },
            fate,
            left: match random.below(4) {
                0 => random.below(60),
                1 => random.below(1000),
                _ => random.below(50_000),
            },
            stalled_until: None,
            blocked_until: None,
            is_write_broken: false,
            is_ended: false,
            has_reader: true,
            reader: None,
            writer: None,
            random,
        }
    }

    fn wake_all(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn calm_down(&mut self) {
        self.fate = Fate::Fine;
        self.stalled_until = None;
        self.blocked_until = None;
        self.latency = 0;
        self.capacity = 1 << 20;
        self.most_at_once = 1 << 20;
        for (at, _) in &mut self.bytes {
            *at = (*at).min(Instant::now());
        }
        self.wake_all();
    }

    /// How many bytes may be moved at once now.
    fn part(&mut self, of: usize) -> usize {
        let most = of.min(self.most_at_once);
        if most > 1 && self.most_at_once < 1 << 20 { self.random.between(1, most) } else { most }
    }
}

/// A stream between a client and a server.
#[derive(Debug)]
struct Stream {
    lanes: [Lane; 2],
    is_reset: bool,
}

impl Stream {
    fn reset(&mut self) {
        self.is_reset = true;
        self.lanes.iter_mut().for_each(Lane::wake_all);
    }
}

/// A stream as those see it who interfere with it.
#[derive(Clone, Debug)]
pub(super) struct Handle(Weak<Mutex<Stream>>);

impl Handle {
    pub(super) fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }

    pub(super) fn reset(&self) {
        if let Some(stream) = self.0.upgrade() {
            lock(&stream).reset();
        }
    }

    /// Until then, nothing that the server writes is taken.
    pub(super) fn block_server(&self, until: Instant) {
        if let Some(stream) = self.0.upgrade() {
            lock(&stream).lanes[1].blocked_until = Some(until);
        }
    }

    pub(super) fn calm_down(&self) {
        if let Some(stream) = self.0.upgrade() {
            lock(&stream).lanes.iter_mut().for_each(Lane::calm_down);
        }
    }
}

/// One half of one end.
struct Half {
    shared: Arc<Shared>,
    stream: Arc<Mutex<Stream>>,
    lane: usize,
}

struct Reader(Half);
struct Writer(Half);

/// A new stream: the client's end and the server's.
pub(super) fn stream(shared: &Arc<Shared>, random: &mut Random) -> (Halves, Halves, Handle) {
    let is_calm = shared.is_calm();
    let lanes = [Lane::new(random.fork(), is_calm), Lane::new(random.fork(), is_calm)];
    let stream = Arc::new(Mutex::new(Stream { lanes, is_reset: false }));
    let handle = Handle(Arc::downgrade(&stream));
    let half = |lane| Half { shared: Arc::clone(shared), stream: Arc::clone(&stream), lane };
    let client: Halves = (Box::new(Reader(half(1))), Box::new(Writer(half(0))));
    let server: Halves = (Box::new(Reader(half(0))), Box::new(Writer(half(1))));
    (client, server, handle)
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Half { shared, stream, lane } = &self.0;
        let mut stream = lock(stream);
        if stream.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let now = Instant::now();
        let lane = &mut stream.lanes[*lane];
        let arrives = lane.bytes.front().map(|(at, _)| *at);
        let at = arrives.into_iter().chain(lane.stalled_until).max();
        if let Some(at) = at.filter(|at| *at > now) {
            shared.wake_at(at, cx.waker());
            lane.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Some((_, bytes)) = lane.bytes.front() else {
            if lane.is_ended {
                return Poll::Ready(Ok(()));
            }
            lane.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let there = bytes.len().min(buffer.remaining());
        let count = lane.part(there);
        if count < there {
            shared.count(Event::ReadSplit);
        }
        if let Some((_, bytes)) = lane.bytes.front_mut() {
            let taken: Vec<u8> = bytes.drain(..count).collect();
            buffer.put_slice(&taken);
            if bytes.is_empty() {
                lane.bytes.pop_front();
            }
        }
        lane.length -= count;
        lane.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Writer {
    /// What the direction's fate does to a write of so many bytes; how many of them are still taken.
    fn meet_fate(shared: &Shared, stream: &mut Stream, lane: usize, count: usize) -> usize {
        let now = Instant::now();
        let Lane { left, fate, .. } = &mut stream.lanes[lane];
        if *fate == Fate::Fine || count <= *left {
            *left = left.saturating_sub(count);
            return count;
        }
        let (taken, fate) = (*left, std::mem::replace(fate, Fate::Fine));
        let of = &mut stream.lanes[lane];
        match fate {
            Fate::Fine | Fate::Damaged => count,
            Fate::Reset => {
                shared.count(Event::Reset);
                stream.reset();
                taken
            }
            Fate::WriteBroken => {
                shared.count(Event::WriteBroken);
                of.is_write_broken = true;
                taken
            }
            Fate::HalfClosed => {
                shared.count(Event::HalfClosed);
                of.is_ended = true;
                of.is_write_broken = true;
                of.reader.take().into_iter().for_each(Waker::wake);
                taken
            }
            Fate::Stall(time) => {
                shared.count(Event::Stall);
                of.stalled_until = Some(now + time);
                count
            }
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Half { shared, stream, lane: index } = &self.0;
        let mut stream = lock(stream);
        let now = Instant::now();
        if stream.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let lane = &mut stream.lanes[*index];
        if lane.is_write_broken || !lane.has_reader {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if lane.blocked_until.is_none() && !shared.is_calm() && lane.random.chance(20) {
            shared.count(Event::WriteBlocked);
            lane.blocked_until = Some(now + lane.random.millis(0, 30));
        }
        if let Some(until) = lane.blocked_until.filter(|until| *until > now) {
            shared.wake_at(until, cx.waker());
            lane.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        lane.blocked_until = None;
        let room = lane.capacity.saturating_sub(lane.length);
        if room == 0 {
            lane.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let wanted = bytes.len().min(room);
        let count = lane.part(wanted);
        if count < bytes.len() {
            shared.count(Event::WriteSplit);
        }
        let is_damage = lane.fate == Fate::Damaged && count > lane.left;
        let place = lane.left;
        let count = Self::meet_fate(shared, &mut stream, *index, count);
        let lane = &mut stream.lanes[*index];
        let mut taken: VecDeque<u8> = bytes[..count].iter().copied().collect();
        if is_damage && let Some(byte) = taken.get_mut(place) {
            shared.count(Event::Damaged);
            *byte ^= 1 << lane.random.below(8);
        }
        if lane.latency > 0 {
            shared.count(Event::Delayed);
        }
        let last = lane.bytes.back().map(|(at, _)| *at);
        let at = last.into_iter().fold(now + lane.random.millis(0, lane.latency), Instant::max);
        if count > 0 {
            lane.bytes.push_back((at, taken));
            lane.length += count;
        }
        lane.reader.take().into_iter().for_each(Waker::wake);
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Writer {
    fn end(&self) {
        let mut stream = lock(&self.0.stream);
        let lane = &mut stream.lanes[self.0.lane];
        lane.is_ended = true;
        lane.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut stream = lock(&self.0.stream);
        let lane = &mut stream.lanes[self.0.lane];
        lane.has_reader = false;
        lane.writer.take().into_iter().for_each(Waker::wake);
    }
}
