//! What a list of processes is narrowed to: pages that fit a frame, and trees of descendants.
//!
//! Pure, over a snapshot in the order of process ids.

use std::collections::HashSet;

use prost::Message;

use super::Matcher;
use crate::proto::{ListProcessesResponse, ProcessRecord};

/// The matching records above `after_pid` that fit into `max_bytes` and are at most `max_count`.
///
/// A page has at least one record where any matches, so that whoever reads page by page gets on.
#[must_use]
pub fn page(
    snapshot: &[ProcessRecord],
    matcher: &Matcher,
    after_pid: u32,
    max_count: usize,
    max_bytes: usize,
) -> ListProcessesResponse {
    let start = snapshot.partition_point(|record| record.pid <= after_pid);
    let mut response = ListProcessesResponse::default();
    let mut bytes = 0;
    for record in snapshot[start..].iter().filter(|record| matcher.matches(record)) {
        bytes += record.encoded_len() + FIELD_BYTES;
        let full = bytes > max_bytes || response.processes.len() >= max_count;
        if full && !response.processes.is_empty() {
            response.more = true;
            break;
        }
        response.processes.push(record.clone());
    }
    response
}

/// More than the tag and the length that one record costs in its list.
const FIELD_BYTES: usize = 8;

/// The matching processes and all their descendants.
#[must_use]
pub fn trees(snapshot: &[ProcessRecord], matcher: &Matcher) -> Vec<ProcessRecord> {
    let mut members: HashSet<u32> =
        snapshot.iter().filter(|record| matcher.matches(record)).map(|record| record.pid).collect();
    loop {
        let before = members.len();
        let children =
            snapshot.iter().filter(|record| record.ppid.is_some_and(|ppid| members.contains(&ppid)));
        let children: Vec<u32> = children.map(|record| record.pid).collect();
        members.extend(children);
        // Ids are reused, so a parent's can be above its child's: one pass is not always enough.
        if members.len() == before {
            break;
        }
    }
    snapshot.iter().filter(|record| members.contains(&record.pid)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ProcessFilter;

    fn process(pid: u32, parent: u32) -> ProcessRecord {
        ProcessRecord { pid, ppid: Some(parent), name: "x".repeat(90), ..Default::default() }
    }

    fn pids(records: &[ProcessRecord]) -> Vec<u32> {
        records.iter().map(|record| record.pid).collect()
    }

    fn all() -> Matcher {
        Matcher::new(&ProcessFilter::default()).unwrap()
    }

    #[test]
    fn a_page_ends_at_its_count_and_says_whether_more_follow() {
        let snapshot: Vec<_> = (1..=5).map(|pid| process(pid, 0)).collect();
        let first = page(&snapshot, &all(), 0, 3, usize::MAX);
        assert_eq!((pids(&first.processes), first.more), (vec![1, 2, 3], true));
        let last = page(&snapshot, &all(), 3, 3, usize::MAX);
        assert_eq!((pids(&last.processes), last.more), (vec![4, 5], false));
        let exact = page(&snapshot, &all(), 2, 3, usize::MAX);
        assert_eq!((pids(&exact.processes), exact.more), (vec![3, 4, 5], false));
    }

    #[test]
    fn a_page_ends_before_it_is_too_large() {
        let snapshot: Vec<_> = (1..=5).map(|pid| process(pid, 0)).collect();
        let one = snapshot[0].encoded_len() + FIELD_BYTES;
        let two = page(&snapshot, &all(), 0, usize::MAX, 2 * one);
        assert_eq!((pids(&two.processes), two.more), (vec![1, 2], true));
        assert!(two.encoded_len() <= 2 * one);
        let never_none = page(&snapshot, &all(), 0, usize::MAX, 1);
        assert_eq!((pids(&never_none.processes), never_none.more), (vec![1], true));
    }

    #[test]
    fn a_tree_has_all_descendants_whatever_their_ids() {
        // 9 is 5's parent though its id is higher.
        let snapshot =
            [process(1, 0), process(3, 1), process(5, 9), process(6, 5), process(9, 3), process(12, 2)];
        let root = Matcher::new(&ProcessFilter { pids: vec![3], ..Default::default() }).unwrap();
        assert_eq!(pids(&trees(&snapshot, &root)), [3, 5, 6, 9]);
    }
}
