//! Alerts: each finding once, numbered, the latest kept. [`AlertLog`] is the agent's memory of them.
//!
//! It must not know rules' insides, nor where alerts are printed or sent.

use std::collections::{HashSet, VecDeque};
use std::time::SystemTime;

use crate::processes::unix_millis;
use crate::proto::{Alert, ProcessRecord};
use crate::rules::{Finding, Rule};

/// How many alerts are kept for those who ask later.
const KEPT: usize = 256;

/// A process across looks: ids are reused, an id with a start time is not.
pub type Identity = (u32, Option<i64>);

/// The alerts of one run of the agent.
#[derive(Debug, Default)]
pub struct AlertLog {
    /// What was reported of which process; a process may come to run another executable.
    reported: HashSet<(Identity, Option<String>, Rule)>,
    latest: VecDeque<Alert>,
    count: u64,
}

/// What tells `process` from every other, also from later ones with its id.
#[must_use]
pub fn identity(process: &ProcessRecord) -> Identity {
    (process.pid, process.start_time)
}

impl AlertLog {
    /// Makes an alert of a finding, unless the same was reported of the same process and executable before.
    pub fn report(&mut self, process: &ProcessRecord, finding: Finding) -> Option<Alert> {
        if !self.reported.insert((identity(process), process.executable_path.clone(), finding.rule)) {
            return None;
        }
        self.count += 1;
        let alert = Alert {
            sequence: self.count,
            time: unix_millis(SystemTime::now()),
            rule: finding.rule.as_str().into(),
            severity: finding.severity.into(),
            pid: process.pid,
            process_name: process.name.clone(),
            executable_path: process.executable_path.clone(),
            message: finding.message,
        };
        if self.latest.len() == KEPT {
            self.latest.pop_front();
        }
        self.latest.push_back(alert.clone());
        Some(alert)
    }

    /// Forgets what was reported of processes that are gone; their alerts stay.
    pub fn retain(&mut self, is_running: impl Fn(&Identity) -> bool) {
        self.reported.retain(|(process, ..)| is_running(process));
    }

    /// The latest alerts, oldest first, at most `limit` where that is not 0.
    #[must_use]
    pub fn latest(&self, limit: usize) -> Vec<Alert> {
        let skipped = if limit == 0 { 0 } else { self.latest.len().saturating_sub(limit) };
        self.latest.iter().skip(skipped).cloned().collect()
    }

    /// How many alerts there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Severity;

    fn process(pid: u32, start_time: i64) -> ProcessRecord {
        ProcessRecord { pid, start_time: Some(start_time), name: "x".into(), ..Default::default() }
    }

    fn finding(rule: Rule) -> Finding {
        Finding { rule, severity: Severity::High, message: "seen".into() }
    }

    fn report(log: &mut AlertLog, process: &ProcessRecord, rule: Rule) -> Option<u64> {
        log.report(process, finding(rule)).map(|alert| alert.sequence)
    }

    #[test]
    fn the_same_finding_of_the_same_process_is_reported_once() {
        let mut log = AlertLog::default();
        assert_eq!(report(&mut log, &process(7, 1), Rule::BlockedHash), Some(1));
        assert_eq!(report(&mut log, &process(7, 1), Rule::BlockedHash), None);
        assert_eq!(report(&mut log, &process(7, 1), Rule::TemporaryFolder), Some(2));
        assert_eq!(report(&mut log, &process(7, 2), Rule::BlockedHash), Some(3), "the id was reused");
        assert_eq!(log.count(), 3);
    }

    #[test]
    fn what_was_reported_of_running_processes_is_remembered() {
        let mut log = AlertLog::default();
        report(&mut log, &process(7, 1), Rule::BlockedHash);
        report(&mut log, &process(8, 1), Rule::BlockedHash);
        log.retain(|process| *process == (8, Some(1)));
        assert_eq!(report(&mut log, &process(8, 1), Rule::BlockedHash), None);
        assert_eq!(log.reported.len(), 1);
        assert_eq!(log.latest(0).len(), 2);
    }

    #[test]
    fn the_latest_are_kept_in_order() {
        let mut log = AlertLog::default();
        for start in 0..=KEPT {
            report(&mut log, &process(7, i64::try_from(start).unwrap()), Rule::BlockedHash);
        }
        let sequences = |limit| log.latest(limit).iter().map(|alert| alert.sequence).collect::<Vec<_>>();
        assert_eq!(sequences(0), (2..=257).collect::<Vec<_>>());
        assert_eq!(sequences(2), [256, 257]);
    }
}
