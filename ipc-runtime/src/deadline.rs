//! The deadline a handler runs under, which the calls it makes inherit.
//!
//! It is known in the handler's own task; a task that the handler spawns stands on its own.

use tokio::time::Instant;

tokio::task_local! {
    static INHERITED: Instant;
}

/// The earlier of the own deadline and, unless the call is to outlive it, the handler's.
pub(crate) fn within(own: Option<Instant>, inherits: bool) -> Option<Instant> {
    let inherited = if inherits { INHERITED.try_with(|deadline| *deadline).ok() } else { None };
    match (own, inherited) {
        (Some(own), Some(inherited)) => Some(own.min(inherited)),
        (own, inherited) => own.or(inherited),
    }
}

/// Polls a handler's work with its deadline known to the calls it makes.
pub(crate) fn during<T>(deadline: Option<Instant>, work: impl FnOnce() -> T) -> T {
    match deadline {
        Some(deadline) => INHERITED.sync_scope(deadline, work),
        None => work(),
    }
}
