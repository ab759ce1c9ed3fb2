//! The timeouts of a connection: the times of the last events, the next timeout, and its meaning (wire protocol,
//! sections 2, 7 and 8). This module decides, and the connection acts.

use std::io;
use std::time::{Duration, Instant};

use super::ending::Ending;
use crate::error::IpcError;
use crate::status::Status;

/// How long a side waits for the peer to read its last frame (wire protocol, section 8).
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// The times of the last events, and of the earliest deadline.
#[derive(Debug)]
pub(super) struct Timers {
    read_timeout: Duration,
    write_timeout: Duration,
    last_read: Instant,
    /// When this side last sent a Ping, if nothing has arrived since then.
    pub(super) pinged: Option<Instant>,
    frame_began: Option<Instant>,
    /// The time since which a write makes no progress.
    pub(super) blocked: Option<Instant>,
    /// A thread writes, and its progress is not known yet.
    is_writing: bool,
    /// When writing failed. After that, only input that has already arrived is read.
    write_failed: Option<Instant>,
    /// No call has an earlier deadline than this.
    pub(super) deadline: Option<Instant>,
    /// A timeout may have become earlier since this was last read.
    is_sooner: bool,
}

/// What a timeout means.
#[derive(Debug)]
pub(super) enum Due {
    Ping,
    /// Deadlines of calls have passed.
    Deadlines,
    End(Box<Ending>),
    /// The peer takes no bytes, so writing more is useless.
    Close(Box<Ending>),
}

impl Timers {
    pub(super) const fn new(now: Instant, read_timeout: Duration, write_timeout: Duration) -> Self {
        Self {
            read_timeout,
            write_timeout,
            last_read: now,
            pinged: None,
            frame_began: None,
            blocked: None,
            is_writing: false,
            write_failed: None,
            deadline: None,
            is_sooner: false,
        }
    }

    /// Notes that bytes have arrived.
    pub(super) const fn note_read(&mut self, now: Instant) {
        self.last_read = now;
        self.pinged = None;
    }

    /// Notes whether complete frames were taken (`any`), and whether the input now ends inside a frame.
    pub(super) fn note_frames(&mut self, now: Instant, any: bool, is_inside_frame: bool) {
        let began = self.frame_began.filter(|_| !any);
        self.frame_began = is_inside_frame.then(|| began.unwrap_or(now));
    }

    /// Notes that this side has stopped reading, so the peer is not responsible for silence.
    pub(super) const fn note_reading_stopped(&mut self, now: Instant) {
        self.last_read = now;
        self.frame_began = None;
    }

    /// Notes that a thread begins to write.
    pub(super) const fn note_writing(&mut self) {
        self.is_writing = true;
    }

    pub(super) const fn note_write(&mut self, now: Instant, progress: bool, is_blocked: bool) {
        self.is_writing = false;
        if is_blocked {
            if progress || self.blocked.is_none() {
                self.blocked = Some(now);
            }
            self.is_sooner = true;
        } else {
            self.blocked = None;
        }
    }

    /// Notes that nothing is left of a write that made no progress.
    pub(super) const fn note_unblocked(&mut self) {
        self.blocked = None;
    }

    pub(super) fn note_write_failed(&mut self, now: Instant) {
        self.blocked = None;
        self.write_failed.get_or_insert(now);
        self.is_sooner = true;
    }

    /// Takes a call's deadline into account.
    pub(super) fn note_deadline(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline
            && self.deadline.is_none_or(|earliest| deadline < earliest)
        {
            self.deadline = Some(deadline);
            self.is_sooner = true;
        }
    }

    /// Whether a timeout may have become earlier since the last call of this function.
    pub(super) const fn take_is_sooner(&mut self) -> bool {
        std::mem::replace(&mut self.is_sooner, false)
    }

    /// Sets the earliest of all deadlines.
    pub(super) const fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    pub(super) fn next(&self) -> Instant {
        let frame = self.frame_began.map(|began| later(began, self.read_timeout));
        let write = self.held_up().map(|since| later(since, self.write_timeout));
        let failed = self.write_failed.map(|since| later(since, LINGER));
        [frame, write, failed, self.deadline].into_iter().flatten().fold(self.quiet_until(), Instant::min)
    }

    /// The time since which a write makes no progress, if that is known.
    fn held_up(&self) -> Option<Instant> {
        self.blocked.filter(|_| !self.is_writing)
    }

    /// When a silent peer gets a Ping, or the connection ends because of its silence.
    fn quiet_until(&self) -> Instant {
        match self.pinged {
            None => later(self.last_read, self.read_timeout / 3),
            Some(pinged) => {
                later(self.last_read, self.read_timeout).max(later(pinged, self.read_timeout / 3))
            }
        }
    }

    /// The most serious timeout that is due. Everything that has arrived must be read before.
    pub(super) fn check(&mut self, now: Instant) -> Option<Due> {
        let passed = |since: Option<Instant>, limit| since.is_some_and(|since| now >= later(since, limit));
        if passed(self.write_failed, LINGER) {
            return Some(Due::End(Box::new(Ending::silent(IpcError::PeerClosed))));
        }
        if passed(self.held_up(), self.write_timeout) {
            let words = format!("no write progress for {} ms", self.write_timeout.as_millis());
            let cause = IpcError::Io(io::Error::new(io::ErrorKind::TimedOut, words));
            return Some(Due::Close(Box::new(Ending::silent(cause))));
        }
        if passed(self.frame_began, self.read_timeout) {
            let words = format!("a frame was not complete within {} ms", self.read_timeout.as_millis());
            let go_away = Some(Status::deadline_exceeded(words));
            return Some(Due::End(Box::new(Ending { cause: IpcError::Timeout, go_away })));
        }
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Some(Due::Deadlines);
        }
        if now < self.quiet_until() {
            return None;
        }
        // This side may itself have been suspended: then the peer is asked again before it is given up.
        let is_late = now >= later(self.quiet_until(), self.read_timeout / 3);
        if self.pinged.is_none() || is_late {
            self.pinged = Some(now);
            return Some(Due::Ping);
        }
        let words = format!("nothing arrived for {} ms", self.read_timeout.as_millis());
        let cause = IpcError::Io(io::Error::new(io::ErrorKind::TimedOut, words.clone()));
        let go_away = Some(Status::deadline_exceeded(words));
        Some(Due::End(Box::new(Ending { cause, go_away })))
    }
}

/// The instant `duration` later. If the clock can't represent it, a year later.
pub(crate) fn later(instant: Instant, duration: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    instant.checked_add(duration).unwrap_or(instant + YEAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timers() -> (Timers, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let timers = Timers::new(start, Duration::from_secs(3), Duration::from_millis(500));
        (timers, move |millis| start + Duration::from_millis(millis))
    }

    fn ends(due: Option<&Due>) -> bool {
        matches!(due, Some(Due::End(_) | Due::Close(_)))
    }

    #[test]
    fn a_silent_peer_is_asked_after_a_third_and_given_up_after_the_whole() {
        let (mut timers, at) = timers();
        assert!(timers.check(at(999)).is_none());
        assert!(matches!(timers.check(at(1000)), Some(Due::Ping)));
        assert_eq!(timers.next(), at(3000));
        assert!(timers.check(at(2999)).is_none());
        assert!(ends(timers.check(at(3000)).as_ref()));
    }

    #[test]
    fn a_side_that_was_suspended_asks_before_it_gives_up() {
        let (mut timers, at) = timers();
        assert!(matches!(timers.check(at(9000)), Some(Due::Ping)));
        assert!(timers.check(at(9999)).is_none());
        assert!(ends(timers.check(at(10_000)).as_ref()));
        // Suspended between the Ping and its end.
        timers.note_read(at(20_000));
        assert!(matches!(timers.check(at(21_000)), Some(Due::Ping)));
        assert!(matches!(timers.check(at(40_000)), Some(Due::Ping)));
        assert!(ends(timers.check(at(41_000)).as_ref()));
    }

    #[test]
    fn a_frame_has_the_read_timeout_and_a_write_the_write_timeout_from_its_last_progress() {
        let (mut timers, at) = timers();
        timers.note_frames(at(0), false, true);
        timers.note_read(at(2500));
        timers.note_frames(at(2500), false, true);
        assert_eq!(timers.next(), at(3000));
        assert!(ends(timers.check(at(3000)).as_ref()));
        timers.note_read(at(3000));
        timers.note_frames(at(3000), true, false);
        timers.note_write(at(3000), false, true);
        timers.note_write(at(3300), true, true);
        timers.note_write(at(3400), false, true);
        // Who writes now may get on.
        timers.note_writing();
        assert!(timers.check(at(3900)).is_none());
        timers.note_write(at(3400), false, true);
        assert!(timers.check(at(3799)).is_none());
        assert!(ends(timers.check(at(3800)).as_ref()));
    }
}
