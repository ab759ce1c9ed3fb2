//! [`ChannelState`]: where a channel stands, as its users see it.

use tokio::sync::watch;

/// Where a channel stands.
///
/// ```text
///            a call, or wait_until_ready            Hello came
///   Idle ------------------------------> Connecting -----------> Ready
///    ^ ^                                  ^      |                 |
///    | '------ farewell of the server ----|------|-----------------|
///    |                                    |      | failed          | lost
///    |                  time is over and  |      v                 |
///    |                  somebody wants it '- BackingOff <----------'
///    '- (nobody does: it stays BackingOff, which then holds nobody up)
/// ```
///
/// `Closed` is reached from everywhere by [`Channel::close`](crate::Channel::close), and is left by nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChannelState {
    /// No connection: none was wanted yet, or the server said farewell.
    Idle,
    /// A connection is being made.
    Connecting,
    /// Connected.
    Ready,
    /// The server could not be reached, or the connection was lost; the next attempt is made after 50 ms × 1.6ⁿ, at
    /// most 5 seconds, or when the server asked for. Calls that do not wait for ready fail at once.
    BackingOff,
    /// Closed by [`Channel::close`](crate::Channel::close).
    Closed,
}

/// A channel's states as they change; from [`Channel::state_changes`](crate::Channel::state_changes).
#[derive(Debug)]
pub struct StateChanges {
    pub(super) receiver: watch::Receiver<ChannelState>,
    /// The state that was reported last.
    pub(super) reported: ChannelState,
}

impl StateChanges {
    /// The state now.
    #[must_use]
    pub fn current(&self) -> ChannelState {
        *self.receiver.borrow()
    }

    /// Waits until the state is another than the one reported last, which at first is the one when this was made. Of
    /// states that pass faster than they are asked for, only the latest is reported. `None` once all handles of the
    /// channel are gone.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, no change is missed.
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
