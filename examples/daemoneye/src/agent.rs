//! daemoneye-agent: runs detection rules over the processes that procmond sees.

mod report;
mod watch;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipc_runtime::{Channel, IpcError, Request, Response, Server, Status};

use self::report::Reporter;
use self::watch::Watch;
use crate::alerts::{AlertLog, identity};
use crate::daemon::{self, Echo, Vitals};
use crate::platform::StopRequest;
use crate::proto::health::State;
use crate::proto::{
    Agent, AgentServer, DiagnosticsServer, GetHealthRequest, Health, ProcessMonitorClient, ProcessRecord,
    RecentAlertsRequest, RecentAlertsResponse,
};
use crate::settings::Flags;

/// The program's name.
pub const PROGRAM: &str = "daemoneye-agent";

/// Runs detection rules over what procmond sees and prints an alert for each new finding.
#[derive(Debug, clap::Parser)]
#[command(name = PROGRAM, version)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
    /// The time from one look at executables to the next (`agent.interval_ms`)
    #[arg(long, value_name = "MS")]
    interval_ms: Option<u64>,
    /// Print alerts as JSON, one object a line, and nothing else
    #[arg(long)]
    json: bool,
    /// Also stop when standard input ends, for a parent process that wants to take this one along
    #[arg(long)]
    until_stdin_closes: bool,
}

/// Watches until it is asked to stop.
///
/// # Errors
///
/// When the settings or the agent's own endpoint can't be used, or its output is closed. That
/// procmond is not there is no error: it is waited for.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut settings = args.flags.settings()?;
    settings.agent.interval_ms = args.interval_ms.unwrap_or(settings.agent.interval_ms);
    let stop = StopRequest::listen(args.until_stdin_closes)?;
    let (interval, rules, own) =
        (settings.agent.interval()?, settings.agent.rule_set()?, settings.agent_ipc());
    let channel = Channel::builder(&settings.ipc).peer_version(daemon::VERSION).build()?;

    let findings = Arc::new(Findings::default());
    let service =
        AgentService { vitals: Vitals::new(PROGRAM, &own.endpoint_path), findings: Arc::clone(&findings) };
    let server = Server::builder()
        .peer_version(daemon::VERSION)
        .add_service(AgentServer::new(service))
        .add_service(DiagnosticsServer::new(Echo))
        .bind(&own)
        .await?;
    if !args.json {
        daemon::announce(&own.endpoint_path)?;
    }
    tracing::info!(procmond = settings.ipc.endpoint_path, "watching");

    let watch = Watch::new(ProcessMonitorClient::new(channel), rules, findings, Reporter::new(args.json));
    tokio::select! {
        end = server.serve_with_shutdown(stop.requested()) => drop(end?),
        failed = watch.run(interval) => return Err(failed.into()),
    }
    Ok(())
}

/// What the agent has seen, shared by its watch and its service.
#[derive(Debug, Default)]
struct Findings {
    inner: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    log: AlertLog,
    processes: u64,
    /// Whether all processes have been seen once.
    complete: bool,
    /// Why procmond is not being watched, if it is not.
    failure: Option<String>,
}

impl Findings {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Every state in between is one that can be shown.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All processes that run are known.
    fn complete(&self, running: &BTreeMap<u32, ProcessRecord>) {
        let mut seen = self.lock();
        seen.complete = true;
        if let Some(failure) = seen.failure.take() {
            tracing::info!("watching again, after: {failure}");
        }
        let running: HashSet<_> = running.values().map(identity).collect();
        seen.log.retain(|reported| running.contains(reported));
    }

    /// procmond can't be watched.
    fn lost(&self, error: &IpcError) {
        let mut seen = self.lock();
        if seen.failure.is_none() {
            tracing::warn!("not watching, and waiting for procmond: {error}");
        }
        seen.failure = Some(error.to_string());
    }
}

struct AgentService {
    vitals: Vitals,
    findings: Arc<Findings>,
}

impl Agent for AgentService {
    async fn get_health(&self, _request: Request<GetHealthRequest>) -> Result<Response<Health>, Status> {
        let seen = self.findings.lock();
        let state = match (&seen.failure, seen.complete) {
            (Some(_), _) => State::Degraded,
            (None, false) => State::Starting,
            (None, true) => State::Serving,
        };
        let counters = [("processes", seen.processes), ("alerts", seen.log.count())];
        Ok(Response::new(self.vitals.health(state, seen.failure.clone().unwrap_or_default(), &counters)))
    }

    async fn recent_alerts(
        &self,
        request: Request<RecentAlertsRequest>,
    ) -> Result<Response<RecentAlertsResponse>, Status> {
        let limit = request.get_ref().limit as usize;
        Ok(Response::new(RecentAlertsResponse { alerts: self.findings.lock().log.latest(limit) }))
    }
}
