//! `daemoneye-cli alerts`: what the agent reported lately.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use crate::client::Daemon;
use crate::human::printable;
use crate::proto::{AgentClient, Alert, RecentAlertsRequest, Severity};
use crate::settings::Settings;
use crate::tables;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show only this many, the latest
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let daemon = Daemon::agent(settings);
    let agent = AgentClient::new(daemon.connect().await?);
    let request = RecentAlertsRequest { limit: args.limit };
    let alerts =
        agent.recent_alerts(request).await.map_err(|error| daemon.explain(&error))?.into_inner().alerts;

    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &alerts)?;
        writeln!(out)?;
    } else if alerts.is_empty() {
        writeln!(out, "no alerts")?;
    } else {
        let mut table = tables::table(&["Time", "Severity", "Rule", ">PID", "Name", "What"]);
        table.add_rows(alerts.iter().map(row));
        writeln!(out, "{table}")?;
    }
    Ok(())
}

fn row(alert: &Alert) -> [String; 6] {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(alert.time.try_into().unwrap_or_default());
    [
        humantime::format_rfc3339_seconds(time).to_string(),
        Severity::try_from(alert.severity)
            .unwrap_or_default()
            .as_str_name()
            .trim_start_matches("SEVERITY_")
            .into(),
        alert.rule.clone(),
        alert.pid.to_string(),
        printable(&alert.process_name).into_owned(),
        printable(&alert.message).into_owned(),
    ]
}
