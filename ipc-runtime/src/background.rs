//! The crate's own tasks. All are of one type, so that tokio's part of a task is compiled once for them; a task for each
//! call is not among them.

use std::pin::Pin;

pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs `task` to its end, whoever waits for what.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    let task: Task = Box::pin(task);
    tokio::spawn(task);
}
