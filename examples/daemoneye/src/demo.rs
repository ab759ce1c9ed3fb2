//! demo: one command that shows it all. It starts procmond as a process of its own, in a private folder,
//! calls it, shows what it saw and how long that took, and stops it.

use std::io::{self, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use comfy_table::Table;
use ipc_runtime::{Channel, IpcConfig, IpcError};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::client::all_processes;
use crate::daemon::ANNOUNCEMENT;
use crate::latency::{Latency, concurrent, sequential};
use crate::proto::{
    DiagnosticsClient, EchoMessage, GetHealthRequest, ListProcessesRequest, ProcessFilter,
    ProcessMonitorClient,
};
use crate::{human, platform, procmond, tables};

/// How long procmond may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts procmond, calls it, and shows processes and latencies.
#[derive(Debug, clap::Parser)]
#[command(name = "demo", version)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Role>,
    /// How many processes to show
    #[arg(long, value_name = "N", default_value_t = 12)]
    processes: usize,
    /// How many calls to measure, one at a time; five times as many at once
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    calls: u64,
}

/// One program is both sides, so that one `cargo run` is enough.
#[derive(Debug, clap::Subcommand)]
enum Role {
    #[command(hide = true)]
    Procmond(procmond::Args),
}

/// Runs the demonstration, or the procmond that it started.
///
/// # Errors
///
/// Whatever part failed, by name.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if let Some(Role::Procmond(args)) = args.command {
        return procmond::run(args).await;
    }
    let folder = tempfile::Builder::new().prefix("daemoneye-").tempdir()?;
    let endpoint = platform::endpoint_in(folder.path());
    let mut monitor = Procmond::start(&endpoint, folder.path()).await?;
    let config = IpcConfig { endpoint_path: endpoint.clone(), ..Default::default() };
    let channel = Channel::connect(&config).await?;
    let mut out = io::stdout();
    writeln!(out, "procmond runs as process {} and listens on {endpoint}\n", monitor.id())?;

    // Measured first: CPU usage is that of the time since procmond started.
    let latencies = latencies(&channel, args.calls).await?;
    show_processes(&mut out, &channel, args.processes).await?;
    writeln!(out, "{latencies}\nRound trips between two processes, measured by the caller\n")?;

    drop(channel);
    let status = monitor.stop().await?;
    ensure!(status.success(), "procmond ended with {status} instead of cleanly");
    ensure!(!Path::new(&endpoint).exists(), "procmond left {endpoint} behind");
    writeln!(out, "procmond stopped when asked, with {status}")?;
    Ok(())
}

async fn show_processes(out: &mut impl Write, channel: &Channel, limit: usize) -> anyhow::Result<()> {
    let monitor = ProcessMonitorClient::new(channel.clone());
    let health = monitor.get_health(GetHealthRequest {}).await?.into_inner();
    let mut processes = all_processes(&monitor, ProcessFilter::default(), PATIENCE).await?;
    let count = processes.len();
    ensure!(processes.iter().any(|process| process.pid == health.pid), "procmond did not see itself");
    processes.sort_by_key(|process| std::cmp::Reverse(process.memory_usage));
    processes.truncate(limit);
    writeln!(out, "{}", tables::processes(&processes, SystemTime::now()))?;
    writeln!(
        out,
        "The {} largest of {} processes, as {} sees them\n",
        processes.len(),
        human::count(count as u64),
        health.user
    )?;
    Ok(())
}

async fn latencies(channel: &Channel, calls: u64) -> Result<Table, IpcError> {
    let monitor = ProcessMonitorClient::new(channel.clone());
    let echo = DiagnosticsClient::new(channel.clone());
    let list = async || list_once(&monitor).await;
    let rows = [
        ("Echo, one at a time".into(), sequential(calls, async || echo_once(&echo).await, || ()).await?),
        ("Echo, 64 at once".into(), echo_at_once(&echo, calls * 5, 64).await?),
        ("ListProcesses, all".into(), sequential((calls / 100).max(1), list, || ()).await?),
    ];
    Ok(tables::latencies("Call", &rows))
}

async fn echo_once(echo: &DiagnosticsClient) -> Result<usize, IpcError> {
    let payload = bytes::Bytes::from_static(b"sixteen byte ask");
    Ok(echo.echo(EchoMessage { payload }).await?.into_inner().payload.len())
}

async fn echo_at_once(echo: &DiagnosticsClient, calls: u64, at_once: u64) -> Result<Latency, IpcError> {
    let echo = echo.clone();
    let call = move || {
        let echo = echo.clone();
        async move { echo_once(&echo).await }
    };
    concurrent(calls, at_once, call).await
}

async fn list_once(monitor: &ProcessMonitorClient) -> Result<usize, IpcError> {
    let page = monitor.list_processes(ListProcessesRequest::default()).await?.into_inner();
    Ok(prost::Message::encoded_len(&page))
}

/// A running procmond. Dropped, it is killed.
struct Procmond {
    child: Child,
}

impl Procmond {
    /// Returns when clients can connect.
    async fn start(endpoint: &str, folder: &Path) -> anyhow::Result<Self> {
        // A file of its own, so that this machine's settings don't matter. JSON strings are YAML.
        let settings = folder.join("daemoneye.yaml");
        std::fs::write(&settings, format!("ipc:\n  endpoint_path: {}\n", serde_json::to_string(endpoint)?))?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["procmond", "--until-stdin-closes", "--config"])
            .arg(settings)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("procmond could not be started")?;
        let stdout = child.stdout.take().context("procmond has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        match timeout(PATIENCE, lines.next_line()).await {
            Ok(Ok(Some(line))) if line.starts_with(ANNOUNCEMENT) => Ok(Self { child }),
            Ok(Ok(Some(line))) => bail!("procmond said '{line}' instead of where it listens"),
            Ok(Ok(None)) => bail!("procmond ended with {} before it listened", child.wait().await?),
            Ok(Err(error)) => Err(error).context("procmond can't be listened to"),
            Err(_) => bail!("procmond did not listen within {PATIENCE:?}"),
        }
    }

    fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Asks it to stop, by closing its standard input, and waits until it has.
    async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        drop(self.child.stdin.take());
        let ended = timeout(PATIENCE, self.child.wait()).await;
        Ok(ended.with_context(|| format!("procmond did not stop within {PATIENCE:?}"))??)
    }
}
