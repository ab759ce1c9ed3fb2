//! The agent's schedule: look at all processes, hash the new ones if a rule asks for it, report findings.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ipc_runtime::{IpcError, Request};
use tokio::time::MissedTickBehavior;

use super::Findings;
use super::report::Reporter;
use crate::alerts::identity;
use crate::client;
use crate::proto::{Alert, DetectionTask, ProcessFilter, ProcessMonitorClient, ProcessRecord, TaskType};
use crate::rules::RuleSet;

/// How long procmond may take for one answer before the agent says that it is degraded.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many processes are hashed by one task: their executables must be read within its deadline.
const HASHED_AT_ONCE: usize = 16;

pub(super) struct Watch {
    monitor: ProcessMonitorClient,
    rules: RuleSet,
    findings: Arc<Findings>,
    reporter: Reporter,
    /// The hashes of running processes; `None` where there is none to get.
    hashes: HashMap<(u32, Option<i64>), Option<String>>,
}

impl Watch {
    pub(super) fn new(
        monitor: ProcessMonitorClient,
        rules: RuleSet,
        findings: Arc<Findings>,
        reporter: Reporter,
    ) -> Self {
        Self { monitor, rules, findings, reporter, hashes: HashMap::new() }
    }

    /// Looks again and again, and returns only when nothing can be reported any more.
    pub(super) async fn run(mut self, interval: Duration) -> io::Error {
        let mut schedule = tokio::time::interval(interval);
        schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            schedule.tick().await;
            match self.look().await {
                Ok(processes) => {
                    if let Err(error) = self.report(&processes) {
                        return error;
                    }
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    async fn look(&mut self) -> Result<Vec<ProcessRecord>, IpcError> {
        let mut processes = client::all_processes(&self.monitor, ProcessFilter::default(), PATIENCE).await?;
        if self.rules.wants_hashes() {
            self.hash(&mut processes).await?;
        }
        Ok(processes)
    }

    /// Adds the hashes, and asks procmond for those of processes that are new.
    async fn hash(&mut self, processes: &mut [ProcessRecord]) -> Result<(), IpcError> {
        let new: Vec<&ProcessRecord> =
            processes.iter().filter(|process| !self.hashes.contains_key(&identity(process))).collect();
        for batch in new.chunks(HASHED_AT_ONCE) {
            let task = DetectionTask {
                task_id: format!("hash-{}", batch[0].pid),
                task_type: TaskType::CheckProcessHash.into(),
                process_filter: Some(ProcessFilter {
                    pids: batch.iter().map(|process| process.pid).collect(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let result = self.monitor.execute_task(Request::new(task)).await?.into_inner();
            if let Some(error) = result.error_message {
                tracing::warn!(%error, "procmond could not hash");
            }
            // First as having none, so that one that can't be hashed is not asked for every time.
            self.hashes.extend(batch.iter().map(|process| (identity(process), None)));
            self.hashes.extend(
                result.processes.into_iter().map(|process| (identity(&process), process.executable_hash)),
            );
        }
        let running: HashMap<_, _> =
            processes.iter().filter_map(|process| self.hashes.remove_entry(&identity(process))).collect();
        self.hashes = running;
        for process in processes {
            process.executable_hash = self.hashes.get(&identity(process)).cloned().flatten();
        }
        Ok(())
    }

    fn report(&self, processes: &[ProcessRecord]) -> io::Result<()> {
        // Printed after the lock is released: a reader that stalls must not stall the agent's service.
        self.alerts(processes).iter().try_for_each(|alert| self.reporter.print(alert))
    }

    fn alerts(&self, processes: &[ProcessRecord]) -> Vec<Alert> {
        let mut seen = self.findings.lock();
        if let Some(failure) = seen.failure.take() {
            tracing::info!("procmond answers again, after: {failure}");
        }
        seen.looks += 1;
        seen.processes = processes.len() as u64;
        let mut alerts = Vec::new();
        for process in processes {
            for finding in self.rules.check(process) {
                alerts.extend(seen.log.report(process, finding));
            }
        }
        seen.log.retain_running(processes);
        alerts
    }

    fn failed(&self, error: &IpcError) {
        let mut seen = self.findings.lock();
        if seen.failure.is_none() {
            tracing::warn!("procmond does not answer, trying on: {error}");
        }
        seen.failure = Some(error.to_string());
    }
}
