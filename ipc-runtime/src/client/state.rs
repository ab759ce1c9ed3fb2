//! [`ChannelState`]: a channel's state, as its users see it.

use tokio::sync::watch;

/// The state of a channel.
///
/// ```text
///            a call, or wait_until_ready            Hello came
///   Idle ------------------------------> Connecting -----------> Ready
///      ^                                  ^      |                 |
///      '------ farewell of the server ----|------|-----------------|
///                                         |      | failed          | lost
///                       time is over and  |      v                 |
///                       a call needs it   '- BackingOff <----------'
/// ```
///
/// [`Channel::close`](crate::Channel::close) leads from every state to `Closed`, which is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelState {
    /// There is no connection, because none was needed yet or the server said farewell.
    Idle,
    /// A connection is being made.
    Connecting,
    /// Connected.
    Ready,
    /// The last attempt to connect failed, or the connection was lost. The next attempt is made 50 ms × 1.6ⁿ later, at
    /// most 5 seconds, or at the time the server asked for. If no call needs it then, the state stays, and the next call
    /// connects at once.
    ///
    /// Until then, after a lost connection, every call waits for the next attempt. After a failed attempt, a new call
    /// does what [`wait_for_ready`](crate::ChannelBuilder::wait_for_ready) says:
    ///
    /// - Not set: it fails at once if no server could be reached. It waits if the server is full, or is shutting down and
    ///   says when to try again, for `read_timeout_ms` if it has no timeout. If the server closed the connection before its
    ///   Hello, the call waits for up to three further attempts.
    /// - `true`: it waits for any server, within its timeout.
    /// - `false`: it fails at once with the error of the last attempt.
    ///
    /// If the server refused permanently, for example with `PERMISSION_DENIED`, a call fails at once in all three cases.
    BackingOff,
    /// Closed by [`Channel::close`](crate::Channel::close).
    Closed,
}

/// The changes of a channel's state; from [`Channel::state_changes`](crate::Channel::state_changes).
#[derive(Debug)]
pub struct StateChanges {
    pub(super) receiver: watch::Receiver<ChannelState>,
    /// The state that was last reported.
    pub(super) reported: ChannelState,
}

impl StateChanges {
    /// The current state.
    #[must_use]
    pub fn current(&self) -> ChannelState {
        *self.receiver.borrow()
    }

    /// Waits until the state differs from the last reported one, and reports it. The first call compares with the state
    /// in which this `StateChanges` was made. If the state changes several times between two calls, only the latest is
    /// reported. `None` once all handles of the channel are gone.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, no change is missed.
    pub async fn next(&mut self) -> Option<ChannelState> {
        loop {
            let now = *self.receiver.borrow_and_update();
            if now != self.reported {
                self.reported = now;
                return Some(now);
            }
            self.receiver.changed().await.ok()?;
        }
    }
}
