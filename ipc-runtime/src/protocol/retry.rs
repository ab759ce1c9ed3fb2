//! Whether a call may be sent again, and when: the table of the wire protocol, section 9.
//!
//! Only this module decides that. [`CallAttempts`] decides about a call that was opened and has no answer.
//! [`RefusedPolicy`] decides about calls that wait for a connection that could not be made. [`Backoff`] says how long to
//! wait. Nothing here knows the time or draws random numbers.

use std::time::Duration;

use crate::status::Code;

/// A call is written to at most this many connections.
const MAX_ATTEMPTS: u32 = 3;

/// How many attempts one call makes if the server closes the connection before its Hello.
const MAX_CLOSED_BEFORE_HELLO: u32 = 3;

/// If a connection has lasted this long when it is lost, the backoff starts again.
const LASTING: Duration = Duration::from_secs(5);

/// The longest time that a server can make a client wait with `retry_after_ms`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How a call that was opened on a connection ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The connection ended, or the server said farewell.
    Lost {
        /// A byte of the request was handed to the transport, and the server did not say that it will not process it.
        sent: bool,
        /// Headers or an item of the answer have arrived.
        begun: bool,
    },
    /// The server closed the call with an error.
    Refused { code: Code, not_processed: bool },
    /// Anything else: a passed deadline, a cancellation, an invalid answer.
    Failed,
}

/// What a call does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it again, on a new connection if necessary.
    Again,
    /// Send it again after the backoff.
    AgainAfterBackoff,
    /// Give its caller the error.
    Fail,
}

/// The state of a call that is kept over all its attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallAttempts {
    /// The method's `idempotency_level` allows running it twice.
    is_idempotent: bool,
    attempts: u32,
    /// An earlier attempt may have been processed.
    maybe_processed: bool,
}

impl CallAttempts {
    pub(crate) const fn new(is_idempotent: bool) -> Self {
        Self { is_idempotent, attempts: 0, maybe_processed: false }
    }

    /// Notes that the call was opened on a connection.
    pub(crate) const fn note_opened(&mut self) {
        self.attempts += 1;
    }

    /// Whether an earlier attempt may have been processed, whatever the result of the last one.
    pub(crate) const fn maybe_processed(self) -> bool {
        self.maybe_processed
    }

    /// Decides what follows an attempt. `is_held` says whether the whole request can be sent again.
    pub(crate) const fn judge(&mut self, unanswered: Unanswered, is_held: bool) -> Verdict {
        let is_repeatable = is_held && self.attempts < MAX_ATTEMPTS;
        match unanswered {
            Unanswered::Lost { begun: true, sent } => {
                self.maybe_processed |= sent;
                Verdict::Fail
            }
            Unanswered::Lost { sent, begun: false } => {
                self.maybe_processed |= sent;
                if is_repeatable && (!sent || self.is_idempotent) { Verdict::Again } else { Verdict::Fail }
            }
            Unanswered::Refused { code: Code::Unavailable, not_processed: true } if is_repeatable => {
                Verdict::AgainAfterBackoff
            }
            Unanswered::Refused { not_processed, .. } => {
                self.maybe_processed |= !not_processed;
                Verdict::Fail
            }
            Unanswered::Failed => Verdict::Fail,
        }
    }
}

/// Why a connection could not be made. This decides what the waiting calls do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedPolicy {
    /// Trying again can't help. Every waiting call fails.
    Fatal,
    /// The server is full or shutting down. Calls try again, except with `wait_for_ready(false)`.
    Busy,
    /// The server closed the connection before its Hello. By default, calls make a few attempts.
    Closed,
    /// No server can be reached. Calls fail, except with `wait_for_ready(true)`.
    Unreachable,
}

impl RefusedPolicy {
    /// The policy for a server's `GoAway` in place of its Hello.
    pub(crate) const fn of_go_away(code: Code, retry_after_ms: u32) -> Self {
        match code {
            Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied => Self::Fatal,
            Code::ResourceExhausted => Self::Busy,
            Code::Unavailable if retry_after_ms > 0 => Self::Busy,
            _ => Self::Unreachable,
        }
    }

    /// Whether a call that has seen this many refusals gets the last one as its error.
    pub(crate) const fn fails(self, refusals: u32, ready: ReadyPolicy) -> bool {
        match (self, ready) {
            (Self::Closed, ReadyPolicy::Default) => refusals >= MAX_CLOSED_BEFORE_HELLO,
            (Self::Busy, ReadyPolicy::Default)
            | (Self::Busy | Self::Closed | Self::Unreachable, ReadyPolicy::Wait) => false,
            (Self::Fatal, _)
            | (Self::Unreachable, ReadyPolicy::Default)
            | (Self::Busy | Self::Closed | Self::Unreachable, ReadyPolicy::FailAtOnce) => true,
        }
    }
}

/// Whether a call waits for a server that does not serve it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadyPolicy {
    /// It waits for a busy server only.
    Default,
    /// It waits for any server.
    Wait,
    /// It waits for no server.
    FailAtOnce,
}

impl ReadyPolicy {
    /// The policy for a user's `wait_for_ready`, which may be unset.
    pub(crate) const fn of(wait_for_ready: Option<bool>) -> Self {
        match wait_for_ready {
            None => Self::Default,
            Some(true) => Self::Wait,
            Some(false) => Self::FailAtOnce,
        }
    }
}

/// How long to wait before the next attempt to connect: 50 ms × 1.6ⁿ, at most 5 s, ± 20 %, and at least as long as the
/// server asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Starts again, because a call was answered. The next failure counts as the first.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a lost connection that has lasted `lasted`, and returns how long to wait.
    pub(crate) fn after_loss(&mut self, lasted: Duration, retry_after_ms: u32, unit: f64) -> Duration {
        if lasted >= LASTING {
            self.reset();
        }
        self.next(retry_after_ms, unit)
    }

    /// Counts a failure, and returns how long to wait. `unit` is a random number between 0 and 1 for the jitter.
    pub(crate) fn next(&mut self, retry_after_ms: u32, unit: f64) -> Duration {
        let wait = delay(self.failures, unit);
        self.failures = self.failures.saturating_add(1);
        wait.max(Duration::from_millis(retry_after_ms.into()).min(MAX_RETRY_AFTER))
    }
}

fn delay(failures: u32, unit: f64) -> Duration {
    let steps = i32::try_from(failures.min(64)).unwrap_or(64);
    let base = (0.05 * 1.6_f64.powi(steps)).min(5.0);
    // Timers tell whole milliseconds apart.
    let wait = Duration::from_secs_f64(base * (0.8 + 0.4 * unit)).as_millis();
    Duration::from_millis(u64::try_from(wait).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST_SENT: Unanswered = Unanswered::Lost { sent: true, begun: false };
    const LOST_UNSENT: Unanswered = Unanswered::Lost { sent: false, begun: false };

    fn opened(is_idempotent: bool, attempts: u32) -> CallAttempts {
        let mut call = CallAttempts::new(is_idempotent);
        for _ in 0..attempts {
            call.note_opened();
        }
        call
    }

    #[test]
    fn what_can_have_been_seen_is_sent_again_only_where_the_schema_allows_it() {
        assert_eq!(opened(false, 1).judge(LOST_UNSENT, true), Verdict::Again);
        assert_eq!(opened(false, 1).judge(LOST_SENT, true), Verdict::Fail);
        assert_eq!(opened(true, 1).judge(LOST_SENT, true), Verdict::Again);
        assert_eq!(opened(true, 1).judge(LOST_SENT, false), Verdict::Fail);
        let begun = Unanswered::Lost { sent: true, begun: true };
        assert_eq!(opened(true, 1).judge(begun, true), Verdict::Fail);
        assert_eq!(opened(true, 3).judge(LOST_UNSENT, true), Verdict::Fail);
    }

    #[test]
    fn an_attempt_that_may_have_been_processed_is_remembered() {
        let mut call = opened(true, 1);
        call.judge(LOST_SENT, true);
        call.judge(LOST_UNSENT, true);
        assert!(call.maybe_processed());
        let mut call = opened(false, 1);
        call.judge(LOST_UNSENT, true);
        assert!(!call.maybe_processed());
    }

    #[test]
    fn only_unavailable_is_repeated_after_a_refusal() {
        let refused =
            |code, not_processed| opened(true, 1).judge(Unanswered::Refused { code, not_processed }, true);
        assert_eq!(refused(Code::Unavailable, true), Verdict::AgainAfterBackoff);
        assert_eq!(refused(Code::Unavailable, false), Verdict::Fail);
        assert_eq!(refused(Code::ResourceExhausted, true), Verdict::Fail);
    }

    #[test]
    fn a_busy_server_is_asked_again_unless_the_call_does_not_wait() {
        let busy = RefusedPolicy::of_go_away(Code::ResourceExhausted, 0);
        assert_eq!(busy, RefusedPolicy::of_go_away(Code::Unavailable, 1));
        assert!(!busy.fails(100, ReadyPolicy::Default));
        assert!(busy.fails(1, ReadyPolicy::FailAtOnce));
        assert!(RefusedPolicy::of_go_away(Code::Unavailable, 0).fails(1, ReadyPolicy::Default));
        assert!(RefusedPolicy::of_go_away(Code::PermissionDenied, 9).fails(1, ReadyPolicy::Wait));
        assert!(!RefusedPolicy::Closed.fails(2, ReadyPolicy::Default));
        assert!(RefusedPolicy::Closed.fails(3, ReadyPolicy::Default));
    }

    #[test]
    fn the_backoff_grows_by_1_6_up_to_5_seconds_with_a_fifth_of_jitter() {
        let millis = |failures, unit| delay(failures, unit).as_millis();
        assert_eq!([millis(0, 0.5), millis(1, 0.5), millis(2, 0.5)], [50, 80, 128]);
        assert_eq!([millis(0, 0.0), millis(0, 1.0)], [40, 60]);
        assert_eq!([millis(9, 0.5), millis(10, 0.5), millis(u32::MAX, 0.5)], [3435, 5000, 5000]);
    }

    #[test]
    fn a_server_may_ask_for_more_but_not_for_more_than_a_minute() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(2_000, 0.5), Duration::from_secs(2));
        assert_eq!(backoff.next(u32::MAX, 0.5), Duration::from_secs(60));
    }

    #[test]
    fn a_connection_that_lasted_5_seconds_starts_the_backoff_over() {
        let mut backoff = Backoff { failures: 9 };
        assert!(backoff.after_loss(Duration::from_millis(4_999), 0, 0.5) > Duration::from_secs(2));
        assert!(backoff.after_loss(Duration::from_secs(5), 0, 0.5) < Duration::from_millis(61));
    }
}
