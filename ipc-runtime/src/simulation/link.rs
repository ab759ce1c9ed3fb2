//! One side's link and driver, as `crate::link` has them, with every step apart: so that anything may happen between
//! handing bytes over and hearing what the transport took.

use std::time::Instant;

use super::report::Event;
use super::sniffer::Sniffer;
use super::world::{At, CLIENT, SERVER, World};
use crate::error::IpcError;
use crate::protocol::connection::{Connection, Phase};
use crate::protocol::ending::Ending;
use crate::protocol::envelope::{self, Body, Inbound, Target};
use crate::protocol::frame::{FrameCodec, FrameReader};
use crate::protocol::handshake::Terms;
use crate::protocol::outbox::Transmit;
use crate::status::Status;

/// Frames of one read are handed to the core so many at a time.
const MAX_INBOUND: usize = 64;

/// One side of a connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts")]
pub(super) struct End {
    pub(super) core: Connection,
    reader: FrameReader,
    /// What was handed over and has not come back.
    pub(super) writing: Option<Transmit>,
    pub(super) has_progress: bool,
    /// The side can still write, and read.
    pub(super) has_sink: bool,
    pub(super) has_input: bool,
    /// Whole frames may be in the reader.
    pub(super) has_buffered: bool,
    /// The phase that was acted on.
    pub(super) noticed: Phase,
    is_end_told: bool,
    pub(super) has_ended: bool,
    /// The driver is gone.
    pub(super) is_over: bool,
    pub(super) sniffer: Sniffer,
    /// When something last arrived, since when the input is inside a frame, and since when the transport takes nothing.
    pub(super) last_read: Instant,
    pub(super) inside_since: Option<Instant>,
    pub(super) blocked_since: Option<Instant>,
    /// The driver is at work: it sets its sleep when it is done.
    pub(super) is_driven: bool,
    /// When the driver looks at the time, at the latest.
    pub(super) armed: Option<Instant>,
    /// The state of the timers before the last event.
    pub(super) pinged: Option<Instant>,
}

impl End {
    pub(super) fn new(now: Instant, terms: Terms) -> Self {
        Self {
            core: Connection::new(now, terms),
            reader: FrameReader::new(FrameCodec::new(terms.variant, terms.max_frame_bytes)),
            writing: None,
            has_progress: false,
            has_sink: true,
            has_input: true,
            has_buffered: false,
            noticed: Phase::Open,
            is_end_told: false,
            has_ended: false,
            is_over: false,
            sniffer: Sniffer::default(),
            last_read: now,
            inside_since: None,
            blocked_since: None,
            is_driven: false,
            armed: None,
            pinged: None,
        }
    }

    /// The driver sets its sleep before it waits. One that ends too early is let be.
    pub(super) fn arm(&mut self, now: Instant) {
        let due = self.core.timeout();
        if self.armed.is_none_or(|armed| armed <= now || due.is_none_or(|due| due < armed)) {
            self.armed = due;
        }
        _ = self.core.take_is_sooner();
        self.is_driven = false;
    }

    /// Whoever has changed the connection wakes the driver if something is due earlier.
    pub(super) fn arm_sooner(&mut self) {
        if self.core.take_is_sooner() {
            self.armed = [self.armed, self.core.timeout()].into_iter().flatten().min();
        }
    }

    /// Whether the driver must still tell the core that the stream has ended.
    pub(super) fn must_say_end(&self) -> bool {
        matches!(self.core.phase(), Phase::Lingering { .. }) && !self.has_input && !self.is_end_told
    }
}

/// Where a method's calls go.
fn resolve(method: &[u8]) -> Target {
    const METHODS: [&[u8]; 4] = [b"/sim.Sim/Unary", b"/sim.Sim/Server", b"/sim.Sim/Client", b"/sim.Sim/Bidi"];
    match (0..).zip(METHODS).find(|(_, known)| *known == method) {
        Some((at, _)) => Ok(at),
        None => Err(Box::new(Status::unimplemented("no such method"))),
    }
}

/// Items of one call that follow each other come together.
fn gather(frames: Vec<Inbound>) -> Vec<Inbound> {
    let mut gathered: Vec<Inbound> = Vec::with_capacity(frames.len());
    for Inbound { id, body } in frames {
        match (gathered.last_mut(), body) {
            (Some(Inbound { id: last, body: Body::Items(items) }), Body::Item(item)) if *last == id => {
                items.push(item);
            }
            (_, Body::Item(item)) => gathered.push(Inbound { id, body: Body::Items(vec![item]) }),
            (_, body) => gathered.push(Inbound { id, body }),
        }
    }
    gathered
}

impl World<'_> {
    // Reading.

    pub(super) fn deliver(&mut self, at: At) {
        let travelling = self.pairs[at.pair].pipes[at.side].travelling();
        let bytes = if self.random.chance(700) { travelling } else { self.random.between(1, travelling) };
        self.pairs[at.pair].pipes[at.side].deliver(bytes);
    }

    /// The driver reads once, and takes the frames that came.
    pub(super) fn read(&mut self, at: At) {
        self.end_mut(at).is_driven = true;
        self.read_once(at);
        self.arm(at);
    }

    fn read_once(&mut self, at: At) {
        let is_open = self.end(at).core.phase() == Phase::Open;
        let arrived = self.pairs[at.pair].pipes[1 - at.side].arrived();
        let most = if self.random.chance(600) { usize::MAX } else { self.random.between(1, arrived.max(1)) };
        if arrived > most {
            self.report.count(Event::ReadSplit);
        }
        let pair = &mut self.pairs[at.pair];
        let (pipe, end) = (&mut pair.pipes[1 - at.side], &mut pair.ends[at.side]);
        let read = if is_open {
            let read = pipe.read(&mut end.reader.room(), most);
            end.reader.note_read(read);
            read
        } else {
            pipe.discard(most)
        };
        if read > 0 {
            if is_open {
                end.last_read = self.now;
                self.take_all_frames(at);
            }
            return;
        }
        if pipe.is_at_end() {
            end.has_input = false;
            if end.reader.partial() > 0 {
                self.report.count(Event::EndInsideFrame);
            }
            self.update(at, |core, now| core.handle_input_end(now, Ending::silent(IpcError::PeerClosed)));
        }
    }

    /// Takes every whole frame that has arrived.
    pub(super) fn take_frames(&mut self, at: At) {
        self.end_mut(at).is_driven = true;
        self.take_all_frames(at);
        self.arm(at);
    }

    fn take_all_frames(&mut self, at: At) {
        let mut is_first = true;
        loop {
            let end = self.end_mut(at);
            if end.core.phase() != Phase::Open {
                return;
            }
            if !end.core.wants_input() {
                end.has_buffered = true;
                self.report.count(Event::InputStopped);
                return;
            }
            let (taken, failed) = self.hand_in(at, is_first);
            is_first = false;
            if taken < MAX_INBOUND || failed {
                break;
            }
        }
        self.end_mut(at).has_buffered = false;
        self.maybe_flush(at);
    }

    /// Hands decoded frames to the core, and new calls to the server.
    fn hand_in(&mut self, at: At, is_first: bool) -> (usize, bool) {
        let now = self.now;
        let gathers = self.random.chance(600);
        let end = self.end_mut(at);
        let mut inbound = Vec::new();
        let mut failed = None;
        while inbound.len() < MAX_INBOUND {
            match end.reader.next() {
                Ok(None) => break,
                Ok(Some(frame)) => match envelope::decode(frame, &mut resolve) {
                    Ok(found) => inbound.extend(found),
                    Err(error) => failed = Some(error),
                },
                Err(error) => failed = Some(error),
            }
            if failed.is_some() {
                break;
            }
        }
        let taken = inbound.len();
        let inbound = if gathers { gather(inbound) } else { inbound };
        if taken == 0 && failed.is_none() && !is_first {
            return (0, false);
        }
        end.core.note_read(now);
        for inbound in inbound {
            end.core.handle(now, inbound);
        }
        let is_inside = end.reader.partial() > 0;
        end.core.note_frames_taken(now, taken, is_inside);
        end.inside_since =
            if is_inside { end.inside_since.filter(|_| taken == 0).or(Some(now)) } else { None };
        if let Some(error) = failed {
            let words = format!("side {} got a frame that is none: {error}", at.side);
            self.violation(&words);
        }
        let arrivals = std::mem::take(self.end_mut(at).core.arrivals());
        self.settle(at);
        if at.side == SERVER {
            self.begin_handlers(at, arrivals);
        }
        (taken, false)
    }

    // The driver.

    /// What is due. What has arrived is read before, and a write that was held up is tried.
    pub(super) fn timer(&mut self, at: At) {
        let end = self.end_mut(at);
        end.is_driven = true;
        if end.writing.is_none() && end.has_sink && (end.core.is_blocked() || end.core.can_transmit()) {
            self.begin_write(at);
        }
        loop {
            let end = self.end(at);
            let pipe = &self.pairs[at.pair].pipes[1 - at.side];
            let is_open = end.core.phase() == Phase::Open;
            let has_input = pipe.arrived() > 0 || pipe.is_at_end();
            if !end.has_input || !has_input || is_open && !end.core.wants_input() {
                break;
            }
            self.read_once(at);
        }
        let end = self.end_mut(at);
        end.pinged = end.core.pinged();
        let was_flushing = matches!(end.core.phase(), Phase::Flushing { .. });
        self.update(at, Connection::handle_timeout);
        if self.end(at).core.has_overdue(self.now) {
            self.violation("a call goes on after its deadline");
        }
        let is_closed = self.end(at).core.phase() == Phase::Closed;
        self.pairs[at.pair].is_rough |= was_flushing && is_closed;
        self.maybe_flush(at);
        self.arm(at);
    }

    fn arm(&mut self, at: At) {
        let now = self.now;
        self.end_mut(at).arm(now);
    }

    /// The driver acts on the connection's phase.
    pub(super) fn notice_phase(&mut self, at: At) {
        let end = self.end_mut(at);
        end.is_driven = true;
        end.noticed = end.core.phase();
        match end.noticed {
            Phase::Open | Phase::Flushing { .. } => {}
            Phase::Lingering { .. } => {
                let must_say_end = end.must_say_end();
                self.pairs[at.pair].pipes[at.side].is_finished = true;
                if must_say_end {
                    self.end_mut(at).is_end_told = true;
                    self.update(at, |core, now| {
                        core.handle_input_end(now, Ending::silent(IpcError::PeerClosed));
                    });
                }
            }
            Phase::Closed => self.close_end(at),
        }
        if at.side == CLIENT && !self.end(at).core.is_usable() {
            self.channel.leave(at.pair);
        }
        self.arm(at);
    }

    /// Both directions are given up by this side.
    pub(super) fn close_end(&mut self, at: At) {
        let end = self.end_mut(at);
        end.has_sink = false;
        end.has_input = false;
        end.is_over = true;
        end.noticed = end.core.phase();
        let pipes = &mut self.pairs[at.pair].pipes;
        pipes[at.side].is_finished = true;
        pipes[1 - at.side].is_unread = true;
        if at.side == CLIENT {
            self.channel.leave(at.pair);
        }
    }
}
