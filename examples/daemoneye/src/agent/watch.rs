//! The agent's view of procmond: follows its events, checks each process as it comes, hashes new ones on
//! a schedule, and begins again when procmond went away and came back.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ipc_runtime::{IpcError, Request, Status, Streaming};
use tokio::time::MissedTickBehavior;

use super::Findings;
use super::report::Reporter;
use crate::alerts::identity;
use crate::proto::process_event::Kind;
use crate::proto::{
    DetectionTask, ProcessEvent, ProcessFilter, ProcessMonitorClient, ProcessRecord, TaskType,
    WatchProcessesRequest,
};
use crate::rules::RuleSet;

/// How many processes are hashed by one task: their executables must be read within its deadline.
const HASHED_AT_ONCE: usize = 16;

/// The time before a watch that ended is begun again: one that ends at once must not spin.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Watch {
    monitor: ProcessMonitorClient,
    rules: RuleSet,
    findings: Arc<Findings>,
    reporter: Reporter,
    /// What runs, as procmond last described it.
    running: BTreeMap<u32, ProcessRecord>,
    /// Those of `running` whose executables have to be hashed.
    unhashed: BTreeSet<u32>,
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Procmond(#[from] IpcError),
    #[error("alerts can't be printed: {0}")]
    Output(#[from] io::Error),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Procmond(status.into())
    }
}

impl Watch {
    pub(super) fn new(
        monitor: ProcessMonitorClient,
        rules: RuleSet,
        findings: Arc<Findings>,
        reporter: Reporter,
    ) -> Self {
        Self { monitor, rules, findings, reporter, running: BTreeMap::new(), unhashed: BTreeSet::new() }
    }

    /// Watches for ever, and returns only when nothing can be reported any more.
    pub(super) async fn run(mut self, interval: Duration) -> io::Error {
        loop {
            match self.follow(interval).await {
                Ok(never) => match never {},
                Err(Ended::Output(error)) => return error,
                Err(Ended::Procmond(error)) => self.findings.lost(&error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Follows one stream of events to its end.
    async fn follow(&mut self, interval: Duration) -> Result<std::convert::Infallible, Ended> {
        let mut events = self.open().await?;
        self.running.clear();
        self.unhashed.clear();
        let mut schedule = tokio::time::interval(interval);
        schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Events first, so that those who start together are hashed together.
                biased;
                event = events.message() => match event? {
                    Some(event) => self.on_event(event).await?,
                    None => return Err(Status::unavailable("procmond ended the watch").into()),
                },
                _ = schedule.tick() => self.hash_new().await?,
            }
        }
    }

    /// Waits for procmond as long as it takes, after one attempt that says what it is waiting for.
    async fn open(&self) -> Result<Streaming<ProcessEvent>, IpcError> {
        let request = || Request::new(WatchProcessesRequest::default());
        match self.monitor.watch_processes(request().with_wait_for_ready(false)).await {
            Ok(events) => Ok(events.into_inner()),
            Err(error) => {
                self.findings.lost(&error);
                Ok(self.monitor.watch_processes(request().with_wait_for_ready(true)).await?.into_inner())
            }
        }
    }

    async fn on_event(&mut self, event: ProcessEvent) -> Result<(), Ended> {
        match (event.kind(), event.process) {
            (Kind::Running | Kind::Started | Kind::Changed, Some(process)) => {
                self.report(&process)?;
                self.unhashed.insert(process.pid);
                self.running.insert(process.pid, process);
            }
            (Kind::Exited, Some(process)) => {
                self.running.remove(&process.pid);
                self.unhashed.remove(&process.pid);
                self.findings.lock().log.retain(|reported| *reported != identity(&process));
            }
            (Kind::Complete, _) => {
                self.findings.complete(&self.running);
                self.hash_new().await?;
            }
            // A kind of a later version.
            (Kind::Unspecified, _) | (_, None) => {}
        }
        self.findings.lock().processes = self.running.len() as u64;
        Ok(())
    }

    /// Asks procmond for the hashes of processes that have none yet, if a rule wants them.
    async fn hash_new(&mut self) -> Result<(), Ended> {
        if !self.rules.wants_hashes() {
            self.unhashed.clear();
        }
        while !self.unhashed.is_empty() {
            let pids: Vec<u32> = self.unhashed.iter().copied().take(HASHED_AT_ONCE).collect();
            self.unhashed.retain(|pid| !pids.contains(pid));
            let task = DetectionTask {
                task_id: format!("hash-{}", pids[0]),
                task_type: TaskType::CheckProcessHash.into(),
                process_filter: Some(ProcessFilter { pids, ..Default::default() }),
                ..Default::default()
            };
            let hashed = match self.monitor.execute_task(task).await {
                Ok(result) => result.into_inner(),
                // One that can't be hashed in time must not keep the agent from all others; if procmond
                // is gone, its events say so.
                Err(error) => {
                    tracing::warn!("some executables were not hashed: {error}");
                    continue;
                }
            };
            hashed.processes.iter().try_for_each(|process| self.report(process))?;
        }
        Ok(())
    }

    fn report(&self, process: &ProcessRecord) -> io::Result<()> {
        let findings = self.rules.check(process);
        let log = |finding| self.findings.lock().log.report(process, finding);
        findings.into_iter().filter_map(log).try_for_each(|alert| self.reporter.print(&alert))
    }
}
