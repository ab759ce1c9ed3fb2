//! The time of a simulation: when something happens by itself, how time passes, and how everything comes to rest.

use std::time::{Duration, Instant};

use super::world::{CLIENT, SERVER, World, note};

/// What is not done after so much time in which nothing goes wrong, never will be.
const PATIENCE: Duration = Duration::from_secs(12);

impl World<'_> {
    /// When something happens by itself.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let thaw = |side: usize, time: Instant| self.frozen[side].map_or(time, |(until, _)| until.max(time));
        let mut next: Option<Instant> = None;
        let mut consider = |time: Option<Instant>| next = [next, time].into_iter().flatten().min();
        for frozen in self.frozen.iter().flatten() {
            consider(Some(frozen.0));
        }
        for user in self.users.iter().flatten() {
            consider(user.next_time(self).map(|time| thaw(CLIENT, time)));
        }
        consider(self.channel.connecting.map(|time| thaw(CLIENT, time)));
        for handler in self.handlers.iter().flatten() {
            for task in [&handler.task, &handler.reader, &handler.sender] {
                consider(task.sleep.filter(|_| !task.is_done).map(|time| thaw(SERVER, time)));
            }
        }
        for at in self.ends() {
            let end = self.end(at);
            if !end.is_over {
                consider(end.armed.map(|time| thaw(at.side, time)));
            }
            consider(self.pairs[at.pair].pipes[at.side].stalled_until);
        }
        next
    }

    /// Lets time pass.
    pub(super) fn pass_time(&mut self, by: Duration) {
        self.now += by;
        let now = self.now;
        for side in [CLIENT, SERVER] {
            if let Some((until, since)) = self.frozen[side]
                && until <= now
            {
                self.thaw(side, since);
            }
        }
        for pair in &mut self.pairs {
            for pipe in &mut pair.pipes {
                if pipe.stalled_until.is_some_and(|until| until <= now) {
                    pipe.stalled_until = None;
                    pair.hindered_until = pair.hindered_until.max(now);
                }
            }
        }
    }

    pub(super) fn thaw(&mut self, side: usize, since: Instant) {
        self.frozen[side] = None;
        let now = self.now;
        if now - since >= self.settings.read_timeout {
            self.resumed[side] = now;
        }
        for pair in &mut self.pairs {
            pair.hindered_until = pair.hindered_until.max(now);
        }
        note!(self, "side {side} goes on");
    }

    pub(super) fn calm_down(&mut self) {
        self.calm_since = Some(self.now);
        note!(self, "from here on nothing goes wrong");
        for side in [CLIENT, SERVER] {
            if let Some((_, since)) = self.frozen[side] {
                self.thaw(side, since);
            }
        }
        let now = self.now;
        for pair in &mut self.pairs {
            for pipe in &mut pair.pipes {
                if pipe.stalled_until.take().is_some() {
                    pair.hindered_until = now;
                }
            }
        }
        self.wake_everybody();
    }

    /// Lets happen what can, until that is all.
    pub(super) fn come_to_rest(&mut self, is_over: impl Fn(&Self) -> bool) {
        const MAX_STEPS: u64 = 200_000;
        let (since, steps) = (self.now, self.report.steps);
        loop {
            self.report.steps += 1;
            if self.report.steps - steps > MAX_STEPS {
                self.violation("it never comes to rest");
            }
            if self.act() {
                continue;
            }
            if is_over(self) {
                return;
            }
            match self.next_time() {
                Some(next) if next.saturating_duration_since(since) < PATIENCE => {
                    self.pass_time(next.saturating_duration_since(self.now));
                }
                _ => {
                    let words = self.what_waits();
                    self.violation(&format!("this waits for ever: {words}"));
                }
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.live_users() == 0 && self.handlers.iter().all(Option::is_none)
    }

    pub(super) fn all_closed(&self) -> bool {
        self.ends().all(|at| self.end(at).is_over)
    }
}
