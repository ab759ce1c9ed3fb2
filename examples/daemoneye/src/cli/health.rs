//! `daemoneye-cli health-check`: both daemons, asked at the same time.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ipc_runtime::{Channel, IpcError, Response};

use crate::client::Daemon;
use crate::diagnosis::Diagnosis;
use crate::human;
use crate::proto::health::State;
use crate::proto::{AgentClient, GetHealthRequest, Health, ProcessMonitorClient};
use crate::settings::Settings;
use crate::tables;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show everything the daemons say of themselves
    #[arg(long, short)]
    verbose: bool,
}

/// What one daemon said, or why it said nothing.
struct Report {
    daemon: Daemon,
    answer: Result<(Health, Duration), Diagnosis>,
}

pub(super) async fn run(args: &Args, settings: &Settings) -> anyhow::Result<ExitCode> {
    let (procmond, agent) = tokio::join!(
        ask(Daemon::procmond(settings), async |channel| {
            ProcessMonitorClient::new(channel).get_health(GetHealthRequest {}).await.map(Response::into_inner)
        }),
        ask(Daemon::agent(settings), async |channel| {
            AgentClient::new(channel).get_health(GetHealthRequest {}).await.map(Response::into_inner)
        }),
    );
    let reports = [procmond, agent];
    let text = if args.verbose { verbose(&reports) } else { brief(&reports) };
    io::stdout().lock().write_all(text.as_bytes())?;
    let healthy = reports.iter().all(Report::is_healthy);
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks twice and takes the second answer's time: the first one's includes connecting.
async fn ask(daemon: Daemon, call: impl AsyncFn(Channel) -> Result<Health, IpcError>) -> Report {
    let answer = async {
        let channel = daemon.connect_now().await?;
        call(channel.clone()).await.map_err(|error| daemon.explain(&error))?;
        let begun = Instant::now();
        let health = call(channel).await.map_err(|error| daemon.explain(&error))?;
        Ok((health, begun.elapsed()))
    };
    let answer = answer.await;
    Report { daemon, answer }
}

impl Report {
    fn is_healthy(&self) -> bool {
        self.answer
            .as_ref()
            .is_ok_and(|(health, _)| matches!(health.state(), State::Starting | State::Serving))
    }

    fn state(&self) -> &'static str {
        match &self.answer {
            Err(_) => "down",
            Ok((health, _)) => match health.state() {
                State::Starting => "starting",
                State::Serving => "serving",
                State::Degraded => "degraded",
                State::Unspecified => "unknown",
            },
        }
    }

    /// What to know when it is not well.
    fn detail(&self) -> String {
        match &self.answer {
            Err(diagnosis) => diagnosis.to_string(),
            Ok((health, _)) => health.detail.clone(),
        }
    }
}

fn brief(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        let time = report.answer.as_ref().map(|(_, time)| human::latency(*time)).unwrap_or_default();
        // Writing to a String can't fail.
        let _ = writeln!(text, "{:<16} {:<9} {time}", report.daemon.program, report.state());
        for line in report.detail().lines() {
            let _ = writeln!(text, "  {}", line.trim_start());
        }
    }
    text
}

fn verbose(reports: &[Report]) -> String {
    let mut titles = vec![""];
    titles.extend(reports.iter().map(|report| report.daemon.program));
    let mut table = tables::table(&titles);
    let mut row = |name: &str, value: &dyn Fn(&Report) -> String| {
        let mut cells = vec![name.to_owned()];
        cells.extend(reports.iter().map(value));
        table.add_row(cells);
    };
    let of = |report: &Report, value: &dyn Fn(&Health) -> String| {
        report.answer.as_ref().map(|(health, _)| value(health)).unwrap_or_default()
    };
    row("State", &|report| report.state().into());
    row("Detail", &Report::detail);
    row("Version", &|report| of(report, &|health| health.version.clone()));
    row("Uptime", &|report| of(report, &|health| human::age(Duration::from_millis(health.uptime_ms))));
    row("Endpoint", &|report| report.daemon.config.endpoint_path.clone());
    row("Permissions", &|report| report.daemon.endpoint_file().to_string());
    row("Round trip", &|report| {
        report.answer.as_ref().map(|(_, time)| human::latency(*time)).unwrap_or_default()
    });
    row("Process", &|report| of(report, &|health| health.pid.to_string()));
    row("User", &|report| of(report, &|health| health.user.clone()));
    row("Counters", &|report| {
        of(report, &|health| {
            let lines = health
                .counters
                .iter()
                .map(|counter| format!("{}: {}", counter.name, human::count(counter.value)));
            lines.collect::<Vec<_>>().join("\n")
        })
    });
    format!("{table}\n")
}
