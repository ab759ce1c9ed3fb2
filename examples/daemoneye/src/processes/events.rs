//! What happened between two looks: [`events`] compares snapshots, [`watch`] goes on doing so.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::{Stream, try_unfold};
use tokio::time::{Interval, MissedTickBehavior};

use super::{CollectError, Matcher, ProcessTable};
use crate::proto::process_event::Kind;
use crate::proto::{ProcessEvent, ProcessRecord};

/// The time from one look to the next while anyone watches.
const INTERVAL: Duration = Duration::from_millis(500);

/// All processes that `matcher` means, and from then on what becomes of them.
pub fn watch(
    table: ProcessTable,
    matcher: Matcher,
) -> impl Stream<Item = Result<ProcessEvent, CollectError>> + Send + 'static {
    let mut schedule = tokio::time::interval(INTERVAL);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watch = Watch { table, matcher, schedule, seen: None, pending: VecDeque::new() };
    try_unfold(watch, |mut watch| async {
        let event = watch.next().await?;
        Ok(Some((event, watch)))
    })
}

struct Watch {
    table: ProcessTable,
    matcher: Matcher,
    schedule: Interval,
    /// The latest look's; `None` before the first.
    seen: Option<Vec<ProcessRecord>>,
    pending: VecDeque<ProcessEvent>,
}

impl Watch {
    async fn next(&mut self) -> Result<ProcessEvent, CollectError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            self.schedule.tick().await;
            self.look().await?;
        }
    }

    async fn look(&mut self) -> Result<(), CollectError> {
        let snapshot = self.table.snapshot().await?;
        let now: Vec<_> = snapshot.iter().filter(|process| self.matcher.matches(process)).cloned().collect();
        if let Some(seen) = &self.seen {
            self.pending.extend(events(seen, &now));
        } else {
            self.pending.extend(now.iter().map(|process| event(Kind::Running, Some(process))));
            self.pending.push_back(event(Kind::Complete, None));
        }
        self.seen = Some(now);
        Ok(())
    }
}

/// What happened between two snapshots, both in the order of process ids.
#[must_use]
pub fn events(before: &[ProcessRecord], after: &[ProcessRecord]) -> Vec<ProcessEvent> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    let mut events = Vec::new();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return events,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.pid.cmp(&new.pid),
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        match (old, new) {
            (Some(old), Some(new)) if old.start_time == new.start_time => {
                if !same(old, new) {
                    events.push(event(Kind::Changed, Some(new)));
                }
            }
            (old, new) => {
                events.extend(old.map(|old| event(Kind::Exited, Some(old))));
                events.extend(new.map(|new| event(Kind::Started, Some(new))));
            }
        }
    }
}

fn event(kind: Kind, process: Option<&ProcessRecord>) -> ProcessEvent {
    ProcessEvent { kind: kind.into(), process: process.cloned() }
}

/// Whether nothing changed but what always does: time, memory, CPU usage.
fn same(one: &ProcessRecord, other: &ProcessRecord) -> bool {
    let identity = |process: &ProcessRecord| ProcessRecord {
        cpu_usage: None,
        memory_usage: None,
        collection_time: 0,
        // A parent that exits hands its children on, which is no change of theirs.
        ppid: None,
        ..process.clone()
    };
    identity(one) == identity(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, start_time: i64, name: &str) -> ProcessRecord {
        ProcessRecord { pid, start_time: Some(start_time), name: name.into(), ..Default::default() }
    }

    fn between(before: &[ProcessRecord], after: &[ProcessRecord]) -> Vec<(Kind, u32, Option<i64>)> {
        let with_id = |event: ProcessEvent| {
            let process = event.process.clone().unwrap();
            (event.kind(), process.pid, process.start_time)
        };
        events(before, after).into_iter().map(with_id).collect()
    }

    #[test]
    fn starts_and_exits_are_seen_wherever_they_are() {
        let (a, b, c) = (process(1, 1, "a"), process(5, 1, "b"), process(9, 1, "c"));
        assert_eq!(between(&[], &[]), []);
        assert_eq!(between(&[a.clone(), b.clone()], &[a.clone(), b.clone()]), []);
        assert_eq!(
            between(std::slice::from_ref(&b), &[a.clone(), b.clone(), c.clone()]),
            [(Kind::Started, 1, Some(1)), (Kind::Started, 9, Some(1))]
        );
        assert_eq!(
            between(&[a, b.clone(), c], &[b]),
            [(Kind::Exited, 1, Some(1)), (Kind::Exited, 9, Some(1))]
        );
    }

    #[test]
    fn a_reused_id_is_another_process() {
        assert_eq!(
            between(&[process(5, 1, "a")], &[process(5, 2, "a")]),
            [(Kind::Exited, 5, Some(1)), (Kind::Started, 5, Some(2))]
        );
    }

    #[test]
    fn only_what_matters_is_a_change() {
        let old = process(5, 1, "a");
        let busy = ProcessRecord {
            cpu_usage: Some(50.0),
            memory_usage: Some(1),
            collection_time: 7,
            ppid: Some(1),
            ..old.clone()
        };
        assert_eq!(between(std::slice::from_ref(&old), &[busy]), []);
        for new in [process(5, 1, "b"), ProcessRecord { on_disk_mismatch: true, ..old.clone() }] {
            assert_eq!(between(std::slice::from_ref(&old), &[new]), [(Kind::Changed, 5, Some(1))]);
        }
    }
}
