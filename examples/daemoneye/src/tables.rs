//! How results look as tables. It must not know where they come from or where they are printed.

use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Row, Table, presets};

use crate::human;
use crate::latency::Latency;
use crate::processes::unix_millis;
use crate::proto::ProcessRecord;

/// How wide tables are where there is no terminal to fill.
const WIDTH: u16 = 120;

/// An empty table with these column titles; those that begin with `>` are aligned to the right.
#[must_use]
pub fn table(titles: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED.with_rounded_corners());
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(
        titles.iter().map(|title| Cell::new(title.trim_start_matches('>')).add_attribute(Attribute::Bold)),
    );
    for (title, column) in titles.iter().zip(table.column_iter_mut()) {
        if title.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if !std::io::stdout().is_terminal() {
        table.set_width(WIDTH);
    }
    table
}

/// A row whose cells never wrap: what does not fit is cut.
#[must_use]
pub fn line(cells: impl IntoIterator<Item = String>) -> Row {
    let mut row = Row::from(cells);
    row.max_height(1);
    row
}

/// Processes, one a line.
#[must_use]
pub fn processes(records: &[ProcessRecord], now: SystemTime) -> Table {
    let mut table = table(&[">PID", ">Parent", "Name", "User", ">CPU", ">Memory", ">Age", "Command"]);
    table.add_rows(records.iter().map(|record| process_line(record, now)));
    table
}

fn process_line(record: &ProcessRecord, now: SystemTime) -> Row {
    let started = record.start_time.unwrap_or_default();
    let age = u64::try_from(unix_millis(now) / 1000 - started).unwrap_or_default();
    line([
        record.pid.to_string(),
        record.ppid.map(|ppid| ppid.to_string()).unwrap_or_default(),
        human::printable(&record.name).into_owned(),
        record.user_name.as_ref().or(record.user_id.as_ref()).cloned().unwrap_or_default(),
        format!("{:.1}%", record.cpu_usage.unwrap_or_default()),
        human::bytes(record.memory_usage.unwrap_or_default()),
        human::age(Duration::from_secs(age)),
        command(record),
    ])
}

/// What a process was started as, and whether that is still there: one line, safe for a terminal.
#[must_use]
pub fn command(record: &ProcessRecord) -> String {
    let text = match (&record.executable_path, record.command_line.is_empty()) {
        _ if record.kernel_thread => "(kernel thread)".to_owned(),
        (Some(path), true) => path.clone(),
        _ => record.command_line.join(" "),
    };
    let state = match (record.on_disk_mismatch, record.file_exists) {
        (true, false) => "(deleted) ",
        (true, true) => "(replaced) ",
        _ => "",
    };
    format!("{state}{}", human::printable(&text))
}

/// Measured round trips, one kind a line.
#[must_use]
pub fn latencies(kind: &str, rows: &[(String, Latency)]) -> Table {
    let mut table = table(&[kind, ">Calls", ">p50", ">p90", ">p99", ">Max", ">Calls/s", ">Throughput"]);
    for (name, latency) in rows {
        table.add_row(line([
            name.clone(),
            human::count(latency.calls()),
            human::latency(latency.at(0.5)),
            human::latency(latency.at(0.9)),
            human::latency(latency.at(0.99)),
            human::latency(latency.at(1.0)),
            human::count(latency.calls_per_second()),
            format!("{}/s", human::bytes(latency.bytes_per_second())),
        ]));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_one_line_whatever_it_calls_itself() {
        let record = ProcessRecord {
            pid: 42,
            ppid: Some(1),
            name: "evil\n\x1b[31m".into(),
            user_name: Some("root".into()),
            cpu_usage: Some(12.34),
            memory_usage: Some(3 * 1024 * 1024),
            start_time: Some(1_000),
            command_line: vec!["/bin/evil".into(), "x".repeat(500)],
            on_disk_mismatch: true,
            ..Default::default()
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_075);
        let mut table = processes(&[record], now);
        table.set_width(110);
        let text = table.force_no_tty().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        let cells: Vec<_> = lines[3].split(['│', '┆']).map(str::trim).collect();
        assert_eq!(&cells[..7], ["", "42", "1", r"evil\n\u{1b}[31m", "root", "12.3%", "3.00 MiB"]);
        assert_eq!(cells[7], "1m 15s");
        assert!(cells[8].starts_with("(deleted) /bin/evil") && cells[8].ends_with('…'), "{text}");
    }
}
