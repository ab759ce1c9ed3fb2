//! How calls end for their users: what that means, whether they are repeated, and whether it agrees with what everybody
//! else has seen.

use std::time::Duration;

use super::client::{Stage, User};
use super::lane::Lane;
use super::plan::Conduct;
use super::report::Event;
use super::task::Task;
use super::world::{CLIENT, Pair, World, note};
use crate::protocol::call::{End, Lost};
use crate::protocol::retry::{Unanswered, Verdict};
use crate::status::Code;

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Answered,
    Lost(Lost),
    Refused { code: Code, not_processed: bool },
    Expired { sent: bool },
    Failed { sent: bool },
}

impl Outcome {
    const fn judged(&self) -> Unanswered {
        match self {
            Self::Lost(lost) => Unanswered::Lost { sent: lost.sent, begun: lost.begun },
            Self::Refused { code, not_processed } => {
                Unanswered::Refused { code: *code, not_processed: *not_processed }
            }
            Self::Answered | Self::Expired { .. } | Self::Failed { .. } => Unanswered::Failed,
        }
    }

    /// Whether the attempt's request may have been seen.
    const fn is_sent(&self) -> bool {
        match self {
            Self::Answered => true,
            Self::Lost(lost) => lost.sent,
            Self::Refused { not_processed, .. } => !*not_processed,
            Self::Expired { sent } | Self::Failed { sent } => *sent,
        }
    }
}

impl World<'_> {
    /// An attempt is over for its user.
    pub(super) fn end_attempt(&mut self, mut user: Box<User>, lane: Lane, end: End) -> Option<Box<User>> {
        note!(self, "call {} ends: {end:?}", lane.call);
        let outcome = match end {
            End::Closed(None) => Outcome::Answered,
            End::Closed(Some(details)) => match details.error {
                None => Outcome::Answered,
                Some(status) => {
                    Outcome::Refused { code: status.code(), not_processed: details.not_processed }
                }
            },
            End::Lost(lost) => Outcome::Lost(lost),
            End::Expired { sent, .. } => Outcome::Expired { sent },
            End::Cancelled(_) => Outcome::Failed { sent: true },
            End::Unsendable(_) => {
                self.report.count(Event::RequestTooLarge);
                Outcome::Failed { sent: false }
            }
            End::HalfClosed | End::Over => self.violation(&format!("call {} ended by itself", lane.call)),
        };
        self.check_outcome(&user, lane, &outcome);
        user.lane = None;
        if !user.has_begun && !matches!(outcome, Outcome::Answered) {
            let verdict = user.attempts.judge(outcome.judged(), user.is_held);
            if verdict != Verdict::Fail {
                self.repeat(&mut user, verdict, &outcome);
                return Some(user);
            }
        }
        self.conclude(&user, &outcome);
        None
    }

    fn repeat(&mut self, user: &mut User, verdict: Verdict, outcome: &Outcome) {
        self.report.count(Event::Repeated);
        if outcome.is_sent() {
            self.report.count(Event::RepeatedSent);
        }
        if user.outbox.accepted > 0 {
            self.report.count(Event::RepeatedStream);
        }
        user.reader = Task::done();
        user.sender = Task::done();
        user.stage = Stage::Wants;
        if verdict == Verdict::AgainAfterBackoff {
            self.report.count(Event::RepeatedLater);
            let millis = self.random.between(1, 60) as u64;
            user.stage = Stage::BackingOff(self.now + Duration::from_millis(millis));
        }
    }

    /// Whether what the connection says about an attempt agrees with what everybody else has seen.
    fn check_outcome(&mut self, user: &User, lane: Lane, outcome: &Outcome) {
        let Pair { ends, is_rough, .. } = &self.pairs[lane.at.pair];
        let (core, is_rough) = (&ends[CLIENT].core, *is_rough);
        let record = &mut self.records[lane.call as usize];
        let attempt = &mut record.attempts[usize::from(lane.attempt)];
        let is_ruled_out = attempt.id > 0 && core.is_ruled_out(attempt.id);
        let received = user.inbox.received;
        let streams = user.plan.kind.streams_answers();
        let wrong = match outcome {
            Outcome::Answered if !attempt.is_begun => Some("was answered, and no handler saw it"),
            Outcome::Answered if streams && received != user.plan.answers => {
                Some("was answered with a part of the stream")
            }
            Outcome::Answered if !streams && user.message.is_none() => Some("has an end and no answer"),
            Outcome::Refused { .. } if streams && received != attempt.items[1] => {
                Some("did not get the items before its end")
            }
            Outcome::Refused { code: Code::ResourceExhausted, not_processed: true }
                if user.plan.conduct != Conduct::Refused =>
            {
                Some("was refused for a limit that the client knows")
            }
            Outcome::Refused { not_processed: true, .. } if attempt.is_begun => {
                Some("was said not to be processed, and a handler saw it")
            }
            Outcome::Refused { not_processed: false, .. } if !attempt.is_begun => {
                Some("was said to be processed, and no handler saw it")
            }
            Outcome::Lost(lost) if lost.sent && !is_rough => Some("was lost, and nothing went wrong"),
            Outcome::Lost(lost) if user.has_begun && !lost.begun => Some("forgot that its answer had begun"),
            Outcome::Lost(lost) if lost.begun && !lost.sent => Some("has an answer, and was not sent"),
            Outcome::Lost(Lost { sent: true, .. }) if !attempt.is_written && !attempt.was_in_flight => {
                Some("was said to be sent, and nothing of it was written")
            }
            Outcome::Expired { sent: true } if !attempt.was_handed => {
                Some("was said to be sent, and was not handed over")
            }
            outcome if outcome.is_sent() || matches!(outcome, Outcome::Refused { .. }) => None,
            _ if attempt.is_begun => Some("was said not to be sent, and a handler saw it"),
            _ if (attempt.is_written || attempt.is_in_flight) && !is_ruled_out => {
                Some("was said not to be sent, and it was")
            }
            _ => None,
        };
        if !outcome.is_sent() {
            attempt.must_not_begin = true;
            // What the server has ruled out may still be written: the server ignores it.
            attempt.must_not_be_written = !attempt.is_written && !attempt.is_in_flight && !is_ruled_out;
            if attempt.was_handed && !attempt.is_written {
                self.report.count(Event::OpenDropped);
            }
        }
        if let Outcome::Lost(Lost { sent: false, .. }) = outcome
            && is_ruled_out
        {
            self.report.count(Event::RuledOut);
        }
        if let Some(wrong) = wrong {
            self.violation(&format!("attempt {} of call {} {wrong}", lane.attempt, lane.call));
        }
    }

    /// The call is over, with this error or answer.
    pub(super) fn conclude(&mut self, user: &User, outcome: &Outcome) {
        let event = match outcome {
            Outcome::Answered => Event::Succeeded,
            Outcome::Lost(lost) if lost.begun => Event::LostBegun,
            Outcome::Lost(lost) if lost.sent => Event::LostSent,
            Outcome::Lost(_) => Event::LostUnsent,
            Outcome::Refused { not_processed: true, .. } => Event::NotProcessed,
            Outcome::Refused { not_processed: false, .. } | Outcome::Failed { .. } => Event::Failed,
            Outcome::Expired { sent: true } => Event::ExpiredSent,
            Outcome::Expired { sent: false } => Event::ExpiredUnsent,
        };
        self.report.count(event);
        if user.plan.kind.streams_answers() {
            let is_whole = matches!(outcome, Outcome::Answered) && user.inbox.received > 3;
            self.report.count(if is_whole { Event::StreamWhole } else { Event::StreamCut });
            if self.settings.windows[CLIENT] == 0 && user.inbox.received > 1 {
                self.report.count(Event::NoWindow);
            }
        }
        let is_sent = user.attempts.maybe_processed() || outcome.is_sent();
        let record = &mut self.records[user.call as usize];
        record.is_unseen = !is_sent;
        let begun = record.begun;
        if begun > 1 {
            self.report.count(Event::RanTwice);
        }
        note!(self, "call {} is over: {outcome:?}, sent: {is_sent}", user.call);
        if !is_sent && begun > 0 {
            self.violation(&format!("call {} was not sent, and ran", user.call));
        }
    }
}
