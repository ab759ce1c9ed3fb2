//! The programs as processes, over real endpoints, on this machine's real processes.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod ipc_test;
#[cfg(test)]
mod support;
