//! What both daemons have in common: vital signs, the echo service, logging, and saying that they are ready.
//!
//! It must not know processes, rules or alerts.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use ipc_runtime::{Request, Response, Status};
use tracing_subscriber::EnvFilter;

use crate::platform;
use crate::proto::health::State;
use crate::proto::{Counter, Diagnostics, EchoMessage, Health};

/// The version that all programs report.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a daemon says of itself.
#[derive(Debug)]
pub struct Vitals {
    program: &'static str,
    endpoint: String,
    user: String,
    started: Instant,
}

impl Vitals {
    /// The vitals of a daemon that starts now and listens at `endpoint`.
    #[must_use]
    pub fn new(program: &'static str, endpoint: &str) -> Self {
        Self { program, endpoint: endpoint.into(), user: platform::current_user(), started: Instant::now() }
    }

    /// How the daemon is.
    #[must_use]
    pub fn health(&self, state: State, detail: String, counters: &[(&str, u64)]) -> Health {
        Health {
            program: self.program.into(),
            version: VERSION.into(),
            state: state.into(),
            detail,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            endpoint: self.endpoint.clone(),
            pid: std::process::id(),
            user: self.user.clone(),
            counters: counters
                .iter()
                .map(|(name, value)| Counter { name: (*name).into(), value: *value })
                .collect(),
        }
    }
}

/// Sends payloads back, for `daemoneye-cli ipc test`.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl Diagnostics for Echo {
    async fn echo(&self, request: Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

/// Logs to standard error what `RUST_LOG` names, or else `level` and above.
pub fn start_logging(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Tells whoever started this program that clients can connect.
///
/// # Errors
///
/// When standard output is closed.
pub fn announce(endpoint: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{ANNOUNCEMENT}{endpoint}")?;
    out.flush()
}

/// What an announcement begins with, before the endpoint.
pub const ANNOUNCEMENT: &str = "listening on ";
