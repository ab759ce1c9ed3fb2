//! What users do at a bad time: they cancel, forget to poll, and poll without being woken.

use std::time::{Duration, Instant};

use super::report::Event;
use super::world::{CLIENT, World, note};

impl World<'_> {
    /// A user does something at a bad time.
    pub(super) fn disturb_user(&mut self) {
        let live: Vec<usize> = (0..self.users.len()).filter(|at| self.users[*at].is_some()).collect();
        if live.is_empty() || !self.runs(CLIENT) {
            return;
        }
        let place = self.random.pick(&live);
        match self.random.below(10) {
            0..=4 => self.cancel(place),
            5..=6 => {
                let micros = self.random.between(1, 100_000) as u64;
                let until = self.now + Duration::from_micros(micros);
                self.ignore(place, until, false);
                self.report.count(Event::Forgot);
            }
            7 => {
                self.ignore(place, self.now + Duration::from_secs(100_000), true);
                self.report.count(Event::ForgotForever);
            }
            _ => {
                self.report.count(Event::SpuriousPoll);
                if let Some(user) = &self.users[place] {
                    user.reader.wake();
                    user.sender.wake();
                }
            }
        }
    }

    /// Many users give up at once.
    pub(super) fn disturb_many(&mut self) {
        if !self.runs(CLIENT) {
            return;
        }
        self.report.count(Event::CancelledMany);
        for place in 0..self.users.len() {
            if self.random.chance(700) {
                self.cancel(place);
            }
        }
    }

    fn ignore(&mut self, place: usize, until: Instant, forgets: bool) {
        if let Some(user) = &mut self.users[place] {
            user.ignores_until = Some(until);
            user.forgets = forgets;
        }
    }

    /// The user drops the call.
    pub(super) fn cancel(&mut self, place: usize) {
        let Some(user) = self.users[place].take() else { return };
        note!(self, "call {} is cancelled", user.call);
        self.report.count(Event::Cancelled);
        let Some(lane) = user.lane else { return };
        // One that has ended while it was handed over is still written.
        let is_over = self.end(lane.at).core.is_over_ready(lane.key);
        if let Some(attempt) = self.attempt(lane.call, lane.attempt)
            && !is_over
            && !attempt.is_written
            && !attempt.is_in_flight
        {
            attempt.must_not_begin = true;
            attempt.must_not_be_written = true;
            self.report.count(Event::CancelledEarly);
        }
        if !user.inbox.has_end() {
            self.update(lane.at, |core, now| core.abandon(now, lane.key));
        }
        self.maybe_flush(lane.at);
    }

    /// Everybody polls again; those who never would give up.
    pub(super) fn wake_everybody(&mut self) {
        for place in 0..self.users.len() {
            let Some(user) = &mut self.users[place] else { continue };
            user.ignores_until = None;
            if user.forgets {
                self.cancel(place);
            }
        }
        for handler in self.handlers.iter().flatten() {
            handler.task.wake();
        }
    }
}
