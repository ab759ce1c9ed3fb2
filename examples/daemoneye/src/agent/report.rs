//! Alerts on standard output: one line each, for people or as JSON.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use crate::human::printable;
use crate::proto::{Alert, Severity};

/// Prints alerts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reporter {
    json: bool,
}

impl Reporter {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints one alert, complete when this returns.
    pub(super) fn print(self, alert: &Alert) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, alert)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", line(alert))?;
        }
        out.flush()
    }
}

fn line(alert: &Alert) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(alert.time.try_into().unwrap_or_default());
    let severity = Severity::try_from(alert.severity).unwrap_or_default().as_str_name();
    format!(
        "{} {:<8} {} pid {} ({}): {}",
        humantime::format_rfc3339_seconds(time),
        severity.trim_start_matches("SEVERITY_"),
        alert.rule,
        alert.pid,
        printable(&alert.process_name),
        printable(&alert.message),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_one_line() {
        let alert = Alert {
            time: 86_400_000,
            rule: "temporary-folder".into(),
            severity: Severity::Medium.into(),
            pid: 7,
            process_name: "a\nb".into(),
            message: "/tmp/a runs from the temporary folder /tmp".into(),
            ..Default::default()
        };
        assert_eq!(
            line(&alert),
            "1970-01-02T00:00:00Z MEDIUM   temporary-folder pid 7 (a\\nb): \
             /tmp/a runs from the temporary folder /tmp"
        );
    }
}
