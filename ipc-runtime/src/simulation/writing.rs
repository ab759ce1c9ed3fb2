//! Writing, in the steps in which `crate::link` does it without its lock: bytes are handed over, the transport takes some,
//! and the core hears of it. Anything may happen in between.

use std::collections::VecDeque;

use super::pipe::Written;
use super::report::Event;
use super::sniffer::{Seen, SeenFrame};
use super::world::{At, CLIENT, World, note};
use crate::protocol::queue::INLINE_BYTES;

impl World<'_> {
    /// Writes what waits, or leaves that to somebody else.
    pub(super) fn maybe_flush(&mut self, at: At) {
        let end = self.end(at);
        if end.writing.is_none() && end.has_sink && end.core.can_transmit() && !self.random.chance(200) {
            self.begin_write(at);
        }
    }

    /// Gets bytes from the core. They are often written at once, and sometimes other things happen meanwhile.
    pub(super) fn begin_write(&mut self, at: At) {
        let now = self.now;
        let end = self.end_mut(at);
        let was_blocked = end.core.is_blocked();
        let transmit = end.core.poll_transmit(now);
        let Some(transmit) = transmit else {
            let can_transmit = end.core.can_transmit();
            self.settle(at);
            if can_transmit {
                self.violation("something waits to be written, and nothing is given out");
            }
            return;
        };
        let length: usize = transmit.parts().iter().map(|part| part.len()).sum();
        let starving = if was_blocked { None } else { end.core.starving(length) };
        let handed = end.sniffer.hand_over(transmit.parts()).clone();
        end.writing = Some(transmit);
        end.has_progress = false;
        self.check_handed(at, was_blocked, length, &handed);
        self.settle(at);
        if let Some(id) = starving {
            self.violation(&format!("a small frame of call {id} was left behind"));
        }
        if self.random.chance(150) {
            self.report.count(Event::WriteInterleaved);
            return;
        }
        while self.end(at).writing.is_some() {
            self.go_on_writing(at);
        }
    }

    fn check_handed(&mut self, at: At, was_blocked: bool, length: usize, handed: &VecDeque<SeenFrame>) {
        const LARGE: usize = INLINE_BYTES + 512;
        let large = handed.iter().filter(|frame| frame.length > LARGE).count();
        if !was_blocked && large > 1 {
            self.violation(&format!("{large} large frames in one write"));
        }
        let most = 64 * 1024 + 2 * 16 * 1024 + 24 * 1024 + self.settings.max_frame_bytes;
        if length > most {
            self.violation(&format!("{length} bytes in one write"));
        }
        for frame in handed {
            note!(self, "handed over: {frame:?}");
            if let Seen::Open(Some((call, number))) = frame.seen {
                let (id, pair) = (frame.id, at.pair);
                if let Some(attempt) = self.attempt(call, number) {
                    attempt.is_in_flight = true;
                    attempt.was_handed = true;
                    attempt.id = id;
                    if attempt.pair != pair {
                        self.violation(&format!("call {call} is written to another connection"));
                    }
                }
            }
        }
    }

    /// The transport takes some bytes, or none, or fails.
    pub(super) fn go_on_writing(&mut self, at: At) {
        let end = self.end_mut(at);
        let Some(transmit) = &mut end.writing else { return };
        if transmit.is_done() || !end.has_sink {
            return self.end_write(at, false);
        }
        let parts = transmit.parts();
        let length = parts[0].len() + parts[1].len();
        let pair = &mut self.pairs[at.pair];
        let most = if self.random.chance(700) { usize::MAX } else { self.random.between(1, length) };
        let Some(transmit) = &mut pair.ends[at.side].writing else { return };
        match pair.pipes[at.side].write(transmit.parts(), most) {
            Written::Taken(taken) => {
                transmit.advance(taken);
                let is_done = transmit.is_done();
                pair.ends[at.side].has_progress = true;
                pair.ends[at.side].blocked_since = None;
                self.note_taken(at, taken);
                if !is_done {
                    self.report.count(Event::WriteSplit);
                    // A transport may take a part and say so.
                    if self.random.chance(300) {
                        return self.end_write(at, false);
                    }
                }
                if is_done {
                    self.end_write(at, false);
                }
            }
            Written::Full => {
                self.report.count(Event::WriteBlocked);
                self.end_write(at, false);
            }
            Written::Broken => self.end_write(at, true),
        }
    }

    fn note_taken(&mut self, at: At, taken: usize) {
        let mut begun = Vec::new();
        self.end_mut(at).sniffer.take(taken, |frame| begun.push(frame));
        for frame in begun {
            if frame.seen == Seen::Ping {
                self.report.count(Event::PingSent);
            }
            let Seen::Open(name) = frame.seen else { continue };
            if at.side != CLIENT {
                self.violation("a server opened a call");
            }
            let Some((call, number)) = name else { self.violation("an Open of no call was written") };
            let Some(attempt) = self.attempt(call, number) else {
                self.violation("an Open of no attempt was written")
            };
            attempt.is_written = true;
            attempt.is_in_flight = false;
            if attempt.must_not_be_written {
                self.violation(&format!("the Open of call {call} is written after it was said not to be"));
            }
        }
    }

    /// Gives the core back what the transport has left.
    fn end_write(&mut self, at: At, has_failed: bool) {
        let now = self.now;
        let end = self.end_mut(at);
        let Some(transmit) = end.writing.take() else { return };
        let is_done = transmit.is_done();
        end.core.transmitted(now, transmit, end.has_progress);
        if has_failed {
            end.core.handle_write_error(now);
        }
        if !is_done && !has_failed && end.core.is_blocked() {
            end.blocked_since.get_or_insert(now);
        }
        let back: Vec<SeenFrame> = end.sniffer.untaken().iter().copied().collect();
        end.sniffer.come_back();
        for frame in back {
            let Seen::Open(Some((call, number))) = frame.seen else { continue };
            if let Some(attempt) = self.attempt(call, number) {
                attempt.is_in_flight = false;
                self.report.count(Event::OpenTakenBack);
            }
        }
        self.settle(at);
    }
}
