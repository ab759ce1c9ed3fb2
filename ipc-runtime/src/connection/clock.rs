//! A connection's timeouts: when something last happened, what is due next, what has expired (wire protocol, sections 2
//! and 8). It decides; the driver acts.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::driver::{Ending, LINGER};
use super::writer::Flushed;
use crate::error::IpcError;
use crate::status::Status;

/// When something last happened, and when to look again.
pub(super) struct Clock {
    pub(super) read_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) last_read: Instant,
    pub(super) pinged: bool,
    pub(super) frame_began: Option<Instant>,
    /// Since when, and at which offset, a write makes no progress.
    pub(super) blocked: Option<(Instant, u64)>,
    /// Since when writing has failed and only what has already arrived is read.
    pub(super) write_failed: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
    /// Whom the timer wakes.
    registered: Option<Waker>,
}

impl Clock {
    pub(super) fn new(read_timeout: Duration, write_timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            read_timeout,
            write_timeout,
            last_read: now,
            pinged: false,
            frame_began: None,
            blocked: None,
            write_failed: None,
            sleep: Box::pin(tokio::time::sleep_until(later(now, read_timeout / 3))),
            registered: None,
        }
    }

    /// Waits until something is due, the alarm at the latest.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, alarm: Option<Instant>) -> Poll<()> {
        let due = alarm.into_iter().fold(self.due(), Instant::min);
        let elapsed = self.sleep.is_elapsed();
        if due < self.sleep.deadline() || elapsed {
            self.sleep.as_mut().reset(due);
        } else if self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            // It is asked at every turn, and a timer is not the cheapest thing to ask.
            return Poll::Pending;
        }
        let polled = self.sleep.as_mut().poll(cx);
        self.registered = polled.is_pending().then(|| cx.waker().clone());
        polled
    }

    pub(super) fn note_read(&mut self) {
        self.last_read = Instant::now();
        self.pinged = false;
    }

    pub(super) fn note_buffer(&mut self, empty: bool) {
        if empty {
            self.frame_began = None;
        } else {
            self.frame_began.get_or_insert(self.last_read);
        }
    }

    pub(super) fn note_write(&mut self, flushed: Flushed, written: u64) {
        match (flushed, self.blocked) {
            (Flushed::Done | Flushed::Unfinished, _) => self.blocked = None,
            (Flushed::Blocked, Some((_, at))) if at == written => {}
            (Flushed::Blocked, _) => self.blocked = Some((Instant::now(), written)),
        }
    }

    pub(super) fn ping_at(&self) -> Instant {
        later(self.last_read, self.read_timeout / 3)
    }

    pub(super) fn ping_is_due(&self, now: Instant) -> bool {
        !self.pinged && now >= self.ping_at()
    }

    pub(super) fn silence_at(&self) -> Instant {
        later(self.last_read, self.read_timeout)
    }

    pub(super) fn due(&self) -> Instant {
        let quiet = if self.pinged { self.silence_at() } else { self.ping_at() };
        let frame = self.frame_began.map(|began| later(began, self.read_timeout));
        let write = self.blocked.map(|(since, _)| later(since, self.write_timeout));
        let failed = self.write_failed.map(|since| later(since, LINGER));
        [frame, write, failed].into_iter().flatten().fold(quiet, Instant::min)
    }

    pub(super) fn expired(&self, now: Instant) -> Option<Ending> {
        let passed = |since: Option<Instant>, limit| since.is_some_and(|since| now >= later(since, limit));
        if passed(self.write_failed, LINGER) {
            return Some(Ending::silent(IpcError::PeerClosed));
        }
        if passed(self.blocked.map(|(since, _)| since), self.write_timeout) {
            let words = format!("no write progress for {} ms", self.write_timeout.as_millis());
            return Some(Ending::silent(IpcError::Io(io::Error::new(io::ErrorKind::TimedOut, words))));
        }
        if passed(self.frame_began, self.read_timeout) {
            let words = format!("a frame was not complete within {} ms", self.read_timeout.as_millis());
            return Some(Ending { cause: IpcError::Timeout, ..timed_out(words) });
        }
        if now >= self.silence_at() {
            return Some(timed_out(format!("nothing arrived for {} ms", self.read_timeout.as_millis())));
        }
        None
    }
}

fn timed_out(words: String) -> Ending {
    Ending {
        cause: IpcError::Io(io::Error::new(io::ErrorKind::TimedOut, words.clone())),
        go_away: Some(Box::new(Status::deadline_exceeded(words))),
    }
}

/// An instant that far ahead; a duration beyond the clock is as good as a year.
pub(crate) fn later(instant: Instant, duration: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    instant.checked_add(duration).unwrap_or(instant + YEAR)
}
