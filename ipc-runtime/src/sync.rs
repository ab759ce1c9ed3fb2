//! Locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A poisoned lock only says that a panic happened elsewhere. Every update in this crate is complete by itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock of code that is tested under many orders of its threads' steps.
///
/// Unit tests with the feature `interleavings` get shuttle's, which works only inside a test of shuttle's. In every other
/// build it is the standard library's.
pub(crate) mod checked {
    use std::sync::PoisonError;

    #[cfg(all(test, feature = "interleavings", target_os = "linux"))]
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
    #[cfg(not(all(test, feature = "interleavings", target_os = "linux")))]
    pub(crate) use std::sync::{Mutex, MutexGuard};

    /// Like [`lock`](super::lock).
    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
