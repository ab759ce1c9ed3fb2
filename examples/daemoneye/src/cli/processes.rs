//! `daemoneye-cli processes`: a table, or JSON.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use clap::ValueEnum;

use crate::client::{Daemon, all_processes};
use crate::human;
use crate::proto::{ProcessFilter, ProcessMonitorClient, ProcessRecord};
use crate::settings::Settings;
use crate::tables;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to sort by; the largest or newest comes first, ids and names rise
    #[arg(long, value_enum, default_value_t = Sort::Memory)]
    sort: Sort,
    /// Show only this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Only processes of this name; may be repeated
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Only the process with this id; may be repeated
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Only processes whose executable's path matches, such as `/usr/**`
    #[arg(long, value_name = "GLOB")]
    executable: Option<String>,
    /// Print a JSON array of all that is known
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Memory,
    Cpu,
    Started,
    Pid,
    Name,
}

pub(super) async fn run(args: Args, settings: &Settings) -> anyhow::Result<()> {
    let daemon = Daemon::procmond(settings);
    let monitor = ProcessMonitorClient::new(daemon.connect().await?);
    let filter =
        ProcessFilter { process_names: args.name, pids: args.pid, executable_pattern: args.executable };
    let timeout = Duration::from_millis(settings.ipc.read_timeout_ms);
    let mut processes =
        all_processes(&monitor, filter, timeout).await.map_err(|error| daemon.explain(&error))?;
    let found = processes.len();
    sort(&mut processes, args.sort);
    processes.truncate(args.limit.unwrap_or(usize::MAX));

    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &processes)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", tables::processes(&processes, SystemTime::now()))?;
        writeln!(
            out,
            "{} of {} processes",
            human::count(processes.len() as u64),
            human::count(found as u64)
        )?;
    }
    Ok(())
}

fn sort(processes: &mut [ProcessRecord], by: Sort) {
    match by {
        Sort::Memory => processes.sort_by_key(|process| Reverse(process.memory_usage)),
        Sort::Cpu => processes.sort_by(|a, b| {
            let usage = |process: &ProcessRecord| process.cpu_usage.unwrap_or_default();
            usage(b).total_cmp(&usage(a))
        }),
        Sort::Started => processes.sort_by_key(|process| Reverse(process.start_time)),
        Sort::Pid => processes.sort_by_key(|process| process.pid),
        Sort::Name => processes.sort_by(|a, b| a.name.cmp(&b.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_and_newest_come_first_and_names_rise() {
        let process = |pid, name: &str, memory, cpu, start| ProcessRecord {
            pid,
            name: name.into(),
            memory_usage: Some(memory),
            cpu_usage: Some(cpu),
            start_time: Some(start),
            ..Default::default()
        };
        let mut processes =
            [process(1, "b", 10, 0.5, 5), process(2, "c", 30, 0.1, 9), process(3, "a", 20, 9.0, 7)];
        for (by, order) in [
            (Sort::Memory, [2, 3, 1]),
            (Sort::Cpu, [3, 1, 2]),
            (Sort::Started, [2, 3, 1]),
            (Sort::Pid, [1, 2, 3]),
            (Sort::Name, [3, 1, 2]),
        ] {
            sort(&mut processes, by);
            assert_eq!(processes.each_ref().map(|process| process.pid), order, "{by:?}");
        }
    }
}
