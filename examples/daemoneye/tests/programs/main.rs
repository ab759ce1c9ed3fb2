//! The programs as processes, over real sockets, on this machine's real processes.

#[cfg(test)]
#[cfg(target_os = "linux")]
mod agent;
#[cfg(test)]
#[cfg(unix)]
mod cli;
#[cfg(test)]
mod demo;
#[cfg(test)]
#[cfg(unix)]
mod ipc_test;
#[cfg(test)]
#[cfg(unix)]
mod support;
