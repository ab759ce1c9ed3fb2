//! daemoneye-cli: asks the daemons, and shows what they say.

mod alerts;
mod hash;
mod health;
mod ipc_test;
mod processes;
mod watch;

use std::io;
use std::process::ExitCode;

use crate::settings::Flags;

/// The program's name.
pub const PROGRAM: &str = "daemoneye-cli";

/// Asks procmond and daemoneye-agent.
#[derive(Debug, clap::Parser)]
#[command(name = PROGRAM, version)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show this machine's processes
    Processes(processes::Args),
    /// Show processes as they start, change and exit
    Watch(watch::Args),
    /// Show the agent's latest alerts
    Alerts(alerts::Args),
    /// Hash a file with procmond's rights, and compare it with what is expected
    Hash(hash::Args),
    /// Ask both daemons how they are; the exit status is 1 when one is down or degraded
    HealthCheck(health::Args),
    /// Look into the connection itself
    #[command(subcommand)]
    Ipc(Ipc),
}

#[derive(Debug, clap::Subcommand)]
enum Ipc {
    /// Check round trips of every payload size and measure them
    Test(ipc_test::Args),
}

/// Does what the command line says.
///
/// # Errors
///
/// Why it could not be done, and what to do.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match execute(args).await {
        // As in `daemoneye-cli processes | head`: whoever reads has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        outcome => outcome,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let written = error.downcast_ref().map(io::Error::kind);
    let serialized = error.downcast_ref().and_then(serde_json::Error::io_error_kind);
    written.or(serialized) == Some(io::ErrorKind::BrokenPipe)
}

async fn execute(args: Args) -> anyhow::Result<ExitCode> {
    let settings = args.flags.settings()?;
    match args.command {
        Command::Processes(args) => processes::run(args, &settings).await?,
        Command::Watch(args) => watch::run(args, &settings).await?,
        Command::Alerts(args) => alerts::run(&args, &settings).await?,
        Command::Hash(args) => hash::run(args, &settings).await?,
        Command::HealthCheck(args) => return health::run(&args, &settings).await,
        Command::Ipc(Ipc::Test(args)) => ipc_test::run(&args, &settings).await?,
    }
    Ok(ExitCode::SUCCESS)
}
