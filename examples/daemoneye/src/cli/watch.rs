//! `daemoneye-cli watch`: processes as they start, change and exit.

use std::io::{self, Write};

use anyhow::bail;
use ipc_runtime::IpcError;
use serde_json::json;

use crate::client::Daemon;
use crate::human::{self, printable};
use crate::proto::process_event::Kind;
use crate::proto::{ProcessEvent, ProcessFilter, ProcessMonitorClient, ProcessRecord, WatchProcessesRequest};
use crate::settings::Settings;
use crate::tables;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only processes of this name; may be repeated
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Only processes whose executable's path matches, such as `/usr/**`
    #[arg(long, value_name = "GLOB")]
    executable: Option<String>,
    /// Also show what runs already
    #[arg(long)]
    all: bool,
    /// Print events as JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs until procmond ends, or this program is interrupted.
pub(super) async fn run(args: Args, settings: &Settings) -> anyhow::Result<()> {
    let daemon = Daemon::procmond(settings);
    let monitor = ProcessMonitorClient::new(daemon.connect().await?);
    let filter =
        ProcessFilter { process_names: args.name, executable_pattern: args.executable, pids: vec![] };
    let request = WatchProcessesRequest { filter: Some(filter) };
    let mut events =
        monitor.watch_processes(request).await.map_err(|error| daemon.explain(&error))?.into_inner();
    let mut running = 0_u64;
    loop {
        let event = match events.message().await {
            Ok(Some(event)) => event,
            Ok(None) => bail!("procmond ended the watch; begin it again"),
            Err(status) => return Err(daemon.explain(&IpcError::from(status)).into()),
        };
        if event.kind() == Kind::Running {
            running += 1;
            if !args.all {
                continue;
            }
        }
        let mut out = io::stdout().lock();
        match (&event.process, args.json) {
            (_, true) => writeln!(out, "{}", json!({ "event": name(&event), "process": event.process }))?,
            (Some(process), false) => writeln!(out, "{}", line(&event, process))?,
            (None, false) => writeln!(out, "watching {} processes", human::count(running))?,
        }
        out.flush()?;
    }
}

fn name(event: &ProcessEvent) -> String {
    event.kind().as_str_name().trim_start_matches("KIND_").to_ascii_lowercase()
}

fn line(event: &ProcessEvent, process: &ProcessRecord) -> String {
    let name = name(event);
    format!("{name:<8} {:>7} {} {}", process.pid, printable(&process.name), tables::command(process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let process = ProcessRecord {
            pid: 42,
            name: "a\nb".into(),
            command_line: vec!["/bin/a".into(), "-x".into()],
            on_disk_mismatch: true,
            ..Default::default()
        };
        let event = ProcessEvent { kind: Kind::Changed.into(), process: None };
        assert_eq!(line(&event, &process), "changed       42 a\\nb (deleted) /bin/a -x");
    }
}
