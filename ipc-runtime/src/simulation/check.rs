//! What must hold at every moment, and what when everything has come to rest.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::report::Event;
use super::task::{Task, Wait};
use super::world::{At, CLIENT, World, note};
use crate::error::IpcError;
use crate::protocol::connection::{Connection, Phase};
use crate::protocol::table::CallKey;
use crate::status::Code;

/// Why a task that sleeps should not.
fn should_be_awake(core: &Connection, key: CallKey, task: &Task) -> Option<&'static str> {
    if !task.is_asleep() {
        return None;
    }
    match task.wait {
        Wait::Next if core.is_next_ready(key) => Some("there is something to read"),
        Wait::Send if core.is_send_ready(key) => Some("it can send"),
        Wait::Id if core.is_id_ready(key) => Some("it has an id"),
        Wait::Over if core.is_over_ready(key) => Some("its call is over"),
        Wait::Nothing | Wait::Next | Wait::Send | Wait::Id | Wait::Over => None,
    }
}

impl World<'_> {
    /// Checks one side of a connection, and everybody who waits there.
    pub(super) fn check(&mut self, at: At) {
        let end = self.end_mut(at);
        if let Err(wrong) = end.core.check() {
            self.violation(&format!("{at:?}: {wrong}"));
        }
        if let Some((call, why)) = self.find_sleeper(at) {
            self.violation(&format!("{at:?}: whoever works on call {call} was not woken: {why}"));
        }
        let end = self.end_mut(at);
        let is_noticed = end.noticed == end.core.phase();
        let is_early = |armed| end.core.timeout().is_some_and(|timeout| timeout < armed);
        if is_noticed && !end.is_over && !end.is_driven && end.armed.is_some_and(is_early) {
            self.violation(&format!("{at:?}: something is due before the driver looks"));
        }
        let end = self.end_mut(at);
        if end.core.phase() != Phase::Open && !std::mem::replace(&mut end.has_ended, true) {
            self.check_end(at);
        }
        let end = self.end_mut(at);
        if !end.core.is_blocked() && end.writing.is_none() {
            end.blocked_since = None;
        }
    }

    fn find_sleeper(&self, at: At) -> Option<(u32, &'static str)> {
        let core = &self.end(at).core;
        if at.side == CLIENT {
            for user in self.users.iter().flatten() {
                let Some(lane) = user.lane.filter(|lane| lane.at == at) else { continue };
                for task in [&user.reader, &user.sender] {
                    if let Some(why) = should_be_awake(core, lane.key, task) {
                        return Some((user.call, why));
                    }
                }
            }
            return None;
        }
        for handler in self.handlers.iter().flatten().filter(|handler| handler.lane.at == at) {
            for task in [&handler.task, &handler.reader, &handler.sender] {
                if let Some(why) = should_be_awake(core, handler.lane.key, task) {
                    return Some((handler.lane.call, why));
                }
            }
        }
        None
    }

    /// A connection has ended on one side: there must be a reason.
    fn check_end(&mut self, at: At) {
        if at.side == CLIENT {
            for record in &mut self.records {
                for attempt in record.attempts.iter_mut().filter(|attempt| attempt.pair == at.pair) {
                    attempt.was_in_flight |= attempt.is_in_flight;
                }
            }
        }
        let Some(cause) = self.end(at).core.cause.clone() else { self.violation("an end without a cause") };
        note!(self, "{at:?} has ended: {cause}");
        let event = self.judge_cause(at, &cause);
        self.report.count(event);
        let is_timeout =
            matches!(event, Event::EndedForSilence | Event::EndedForWrite | Event::EndedForFrame);
        // Where writing has failed, what arrived in the time left is read. What is still on its way is not waited for.
        let is_late = self.pairs[at.pair].pipes[1 - at.side].has_undelivered();
        self.pairs[at.pair].is_rough |= is_timeout || is_late;
    }

    fn judge_cause(&mut self, at: At, cause: &Arc<IpcError>) -> Event {
        match &**cause {
            IpcError::PeerClosed => Event::EndedByPeer,
            IpcError::Timeout => {
                self.check_time("a frame was late", self.end(at).inside_since, self.settings.read_timeout);
                Event::EndedForFrame
            }
            IpcError::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                if error.to_string().starts_with("no write progress") {
                    let since = self.end(at).blocked_since;
                    self.check_time("a write was late", since, self.settings.write_timeout);
                    return Event::EndedForWrite;
                }
                self.check_silence(at);
                Event::EndedForSilence
            }
            IpcError::Status(status)
                if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) =>
            {
                Event::EndedByGoAway
            }
            other => {
                let words = format!("{at:?} ended because of {other}");
                self.violation(&words)
            }
        }
    }

    fn check_time(&mut self, what: &str, since: Option<std::time::Instant>, limit: Duration) {
        match since {
            Some(since) if self.now - since >= limit => {}
            since => {
                let lasted = since.map(|since| self.now - since);
                self.violation(&format!("{what}: after {lasted:?} of {limit:?}"));
            }
        }
    }

    /// Silence ends a connection only once the peer was asked, could have answered, and did not.
    fn check_silence(&mut self, at: At) {
        let limit = self.settings.read_timeout;
        let slack = Duration::from_millis(5);
        let (last_read, pinged) = (self.end(at).last_read, self.end(at).pinged);
        self.check_time("silence", Some(last_read), limit);
        self.check_time("silence after a Ping", pinged, limit / 3);
        if self.resumed[at.side] > self.start {
            self.check_time("silence after a pause", Some(self.resumed[at.side]), limit / 3);
        }
        let hindered = self.pairs[at.pair].hindered_until;
        if self.now > hindered + limit / 3 + slack {
            self.violation(&format!("{at:?} ended for silence, and nothing kept the peer from answering"));
        }
    }

    /// After quiet, nothing is left of any call.
    pub(super) fn check_rest(&mut self) {
        for at in self.ends() {
            if let Err(wrong) = self.end(at).core.check_rest() {
                self.violation(&format!("{at:?} at rest: {wrong}"));
            }
        }
    }

    /// When connections have been closed, nothing is left at all.
    pub(super) fn check_closed(&mut self) {
        self.check_rest();
        for at in self.ends() {
            if self.end(at).core.phase() != Phase::Closed {
                self.violation(&format!("{at:?} is not closed"));
            }
        }
    }

    /// Who waits, in words.
    pub(super) fn what_waits(&self) -> String {
        let users: Vec<u32> = self.users.iter().flatten().map(|user| user.call).collect();
        let handlers: Vec<u32> = self.handlers.iter().flatten().map(|handler| handler.lane.call).collect();
        let ends: Vec<At> = self.ends().filter(|at| !self.end(*at).is_over).collect();
        format!("calls {users:?}, handlers {handlers:?}, connections {ends:?}")
    }
}
