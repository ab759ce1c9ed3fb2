//! What goes wrong: the network, the clock, runtimes, and servers that shut down.

use std::time::Duration;

use super::plan::Plan;
use super::report::Event;
use super::world::{At, CLIENT, SERVER, World, note};
use crate::error::IpcError;
use crate::protocol::connection::{Connection, Phase};

impl World<'_> {
    /// Does one of the things that are not the users' fault.
    pub(super) fn do_harm(&mut self) {
        let open: Vec<usize> = (0..self.pairs.len()).filter(|pair| self.is_alive(*pair)).collect();
        if open.is_empty() {
            return;
        }
        let pair = self.random.pick(&open);
        let side = self.random.below(2);
        let at = At { pair, side };
        match self.random.below(20) {
            0..=4 => self.stall(at),
            5..=8 => self.freeze(side),
            9 => self.disturb_many(),
            10 => self.lose_handlers(pair),
            11..=12 if self.random.chance(300) && self.may_break() => self.jump(),
            _ if !self.may_break() || self.random.chance(500) => {}
            13 => self.reset(pair),
            14 => self.break_direction(at),
            15 => self.vanish(at),
            16 => self.release(),
            17..=18 => self.drain(pair),
            _ => self.cut(pair),
        }
    }

    fn is_alive(&self, pair: usize) -> bool {
        [CLIENT, SERVER].iter().any(|side| !self.end(At { pair, side: *side }).is_over)
    }

    /// How long something lasts: mostly not for long.
    fn spell(&mut self) -> Duration {
        let timeouts = [self.settings.read_timeout, self.settings.write_timeout];
        let micros = match self.random.below(10) {
            0..=5 => self.random.between(1, 2000),
            6..=7 => self.random.between(2000, 30_000),
            _ if !self.may_break() => 1000,
            _ => {
                let timeout = self.random.pick(&timeouts).as_micros();
                let timeout = usize::try_from(timeout).unwrap_or(0);
                self.random.between(timeout / 3, timeout * 2)
            }
        };
        Duration::from_micros(micros as u64)
    }

    fn stall(&mut self, at: At) {
        let until = self.now + self.spell();
        note!(self, "what {at:?} writes stands still until {until:?}");
        self.report.count(Event::Stall);
        let pair = &mut self.pairs[at.pair];
        pair.pipes[at.side].stalled_until = Some(until);
        pair.hindered_until = pair.hindered_until.max(until);
    }

    fn freeze(&mut self, side: usize) {
        if self.frozen[side].is_some() {
            return;
        }
        let spell = self.spell();
        let until = self.now + spell;
        note!(self, "side {side} is frozen for {spell:?}");
        self.frozen[side] = Some((until, self.now));
        self.report.count(if side == CLIENT { Event::ClientFrozen } else { Event::ServerFrozen });
        if spell >= self.settings.read_timeout {
            self.report.count(Event::FrozenForLong);
        }
        for pair in &mut self.pairs {
            pair.hindered_until = pair.hindered_until.max(until);
        }
    }

    /// Time passes in which nothing could happen.
    fn jump(&mut self) {
        let spell = self.spell() * 3;
        note!(self, "time jumps by {spell:?}");
        self.report.count(Event::TimeJumped);
        let runs = [self.runs(CLIENT), self.runs(SERVER)];
        self.pass_time(spell);
        let now = self.now;
        for side in [CLIENT, SERVER] {
            if runs[side] && spell >= self.settings.read_timeout {
                self.resumed[side] = now;
            }
        }
        for pair in &mut self.pairs {
            pair.hindered_until = pair.hindered_until.max(now);
        }
    }

    fn reset(&mut self, pair: usize) {
        note!(self, "connection {pair} is reset");
        self.report.count(Event::Reset);
        self.pairs[pair].is_rough = true;
        for pipe in &mut self.pairs[pair].pipes {
            pipe.reset();
        }
    }

    /// What one side writes does not arrive any more, apart from what is on its way.
    fn break_direction(&mut self, at: At) {
        note!(self, "what {at:?} writes gets nowhere");
        self.report.count(Event::WriteBroken);
        self.pairs[at.pair].is_rough = true;
        self.pairs[at.pair].pipes[at.side].is_finished = true;
    }

    /// A runtime vanishes, and with it the driver.
    fn vanish(&mut self, at: At) {
        note!(self, "the runtime of {at:?} vanishes");
        if at.side == CLIENT {
            self.report.count(Event::ClientVanished);
            return self.lose_client(at.pair);
        }
        self.report.count(Event::ServerVanished);
        self.pairs[at.pair].is_rough = true;
        let handlers_first = self.random.chance(500);
        if handlers_first {
            self.lose_handlers(at.pair);
        }
        self.update(at, |core, now| core.lose(now, IpcError::PeerClosed));
        self.close_end(at);
        if self.random.chance(500) {
            self.lose_handlers(at.pair);
        }
    }

    /// The channel is dropped; calls that are open go on.
    fn release(&mut self) {
        let Some(pair) = self.channel.current.take() else { return };
        note!(self, "the channel is dropped");
        self.report.count(Event::Released);
        let at = At { pair, side: CLIENT };
        self.update(at, Connection::release);
        self.maybe_flush(at);
    }

    pub(super) fn drain(&mut self, pair: usize) {
        note!(self, "connection {pair} is drained");
        self.report.count(Event::Drained);
        let at = At { pair, side: SERVER };
        self.update(at, Connection::drain);
        self.maybe_flush(at);
    }

    pub(super) fn cut(&mut self, pair: usize) {
        note!(self, "connection {pair} is cut");
        self.report.count(Event::Cut);
        let at = At { pair, side: SERVER };
        self.update(at, Connection::drain);
        self.update(at, Connection::cut);
        self.maybe_flush(at);
    }

    /// Very many calls at once, while the answers may stand still.
    pub(super) fn flood(&mut self) {
        const MANY: usize = 120;
        if (self.settings.limits.calls as usize) < MANY {
            return;
        }
        self.report.count(Event::Flood);
        for _ in 0..MANY {
            let plan = Plan::flood(&mut self.random, &self.settings);
            self.add_user_with(plan);
        }
        if let Some(pair) = self.channel.current
            && self.random.chance(500)
        {
            self.stall(At { pair, side: SERVER });
        }
    }

    /// Every connection is closed, in one way or another.
    pub(super) fn close(&mut self) {
        for pair in 0..self.pairs.len() {
            let [client, server] = [CLIENT, SERVER].map(|side| At { pair, side });
            let is_open = |world: &Self, at: At| world.end(at).core.phase() == Phase::Open;
            if !is_open(self, client) || !is_open(self, server) {
                continue;
            }
            match self.random.below(5) {
                0 => self.update(client, Connection::release),
                1 => self.drain(pair),
                2 => self.lose_client(pair),
                3 => self.vanish(server),
                _ => self.cut(pair),
            }
        }
    }

    /// The runtime that drives the client's side is gone.
    pub(super) fn lose_client(&mut self, pair: usize) {
        let at = At { pair, side: CLIENT };
        self.pairs[pair].is_rough = true;
        self.update(at, |core, now| core.lose(now, IpcError::PeerClosed));
        self.close_end(at);
    }
}
