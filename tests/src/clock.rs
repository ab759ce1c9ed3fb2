//! Time that passes only when a test says so, beside real sockets.
//!
//! Tokio's paused clock jumps ahead whenever nothing runs, even while bytes are on their way through the kernel.
//! A [`Clock`] keeps it from doing that; the test moves it on. Works on the current-thread runtime.

use std::sync::mpsc;
use std::time::Duration;

/// In real time: how long a test with a clock may take before its limits on waiting come into force.
const PATIENCE: Duration = Duration::from_secs(30);

/// Holds the time until it is dropped.
#[derive(Debug)]
pub struct Clock {
    _held: mpsc::Sender<()>,
}

impl Clock {
    /// Stops the time.
    #[must_use]
    pub fn stop() -> Self {
        tokio::time::pause();
        let (held, release) = mpsc::channel::<()>();
        // While a blocking task runs, the paused clock does not advance by itself. A test that hangs gets it
        // moving again, and fails by its own limits.
        tokio::task::spawn_blocking(move || release.recv_timeout(PATIENCE));
        Self { _held: held }
    }

    /// Lets everything that can happen now happen, then a little more than so many milliseconds pass, and what
    /// follows from it. Timers go off in the millisecond after the one they are set to, hence the little more.
    pub async fn advance(&self, millis: u64) {
        self.advance_exactly(millis + 1).await;
    }

    /// As [`advance`](Self::advance), and not a nanosecond more: a timer that is due just then goes off later.
    pub async fn advance_exactly(&self, millis: u64) {
        settle().await;
        tokio::time::advance(Duration::from_millis(millis)).await;
        settle().await;
    }
}

/// Lets everything happen that can happen without time passing. On the current-thread runtime each yield is a turn
/// of all tasks and of the sockets.
pub async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}
