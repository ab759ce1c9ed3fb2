//! Detection tasks: [`Tasks`] turns a [`DetectionTask`] into its [`DetectionResult`].
//!
//! A task that can't be done becomes a result that says why. It must not know how tasks arrive.

use std::collections::HashMap;

use prost::Message;

use crate::hash::{self, HashError};
use crate::platform;
use crate::processes::{CollectError, FilterError, Matcher, ProcessTable, Snapshot, listing};
use crate::proto::{DetectionResult, DetectionTask, HashCheck, HashResult, ProcessRecord, TaskType};

/// Does detection tasks over this machine's processes.
#[derive(Clone)]
pub struct Tasks {
    table: ProcessTable,
    max_result_bytes: usize,
}

/// Why a task was not done; its text goes into the result.
#[derive(Debug, thiserror::Error)]
enum TaskError {
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error(transparent)]
    Collect(#[from] CollectError),
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(
        "procmond has no task of type {0}; it does ENUMERATE_PROCESSES, CHECK_PROCESS_HASH, \
         MONITOR_PROCESS_TREE and VERIFY_EXECUTABLE"
    )]
    Unsupported(String),
    #[error("VERIFY_EXECUTABLE needs hash_check with {0}; set it")]
    Incomplete(&'static str),
    #[error("{path} has the {algorithm} hash {actual}, not the expected {expected}")]
    Mismatch { path: String, algorithm: &'static str, actual: String, expected: String },
    #[error(
        "{count} processes take {bytes} bytes, more than the {limit} that fit into one answer; \
         narrow process_filter, or read them page by page with ListProcesses"
    )]
    TooLarge { count: usize, bytes: usize, limit: usize },
}

impl Tasks {
    /// Tasks over `table`, whose results take at most `max_result_bytes`.
    #[must_use]
    pub fn new(table: ProcessTable, max_result_bytes: usize) -> Self {
        Self { table, max_result_bytes }
    }

    /// Does a task.
    pub async fn execute(&self, task: DetectionTask) -> DetectionResult {
        let mut result = DetectionResult { task_id: task.task_id.clone(), ..Default::default() };
        match self.fill(&task, &mut result).await {
            Ok(()) => result.success = true,
            Err(error) => {
                result.processes.clear();
                result.error_message = Some(error.to_string());
            }
        }
        result
    }

    async fn fill(&self, task: &DetectionTask, result: &mut DetectionResult) -> Result<(), TaskError> {
        let matcher = Matcher::new(&task.process_filter.clone().unwrap_or_default())?;
        match TaskType::try_from(task.task_type) {
            Ok(TaskType::EnumerateProcesses) => {
                result.processes = matching(&self.table.snapshot().await?, &matcher);
            }
            Ok(TaskType::MonitorProcessTree) => {
                result.processes = listing::trees(&self.table.snapshot().await?, &matcher);
            }
            Ok(TaskType::CheckProcessHash) => {
                let check = task.hash_check.as_ref();
                hash::check_algorithm(check.map_or("", |check| &check.hash_algorithm))?;
                result.processes = matching(&self.table.snapshot().await?, &matcher);
                add_hashes(&mut result.processes).await;
            }
            Ok(TaskType::VerifyExecutable) => verify(task.hash_check.as_ref(), result).await?,
            Ok(other) => return Err(TaskError::Unsupported(other.as_str_name().into())),
            Err(unknown) => return Err(TaskError::Unsupported(unknown.0.to_string())),
        }
        let (count, bytes, limit) = (result.processes.len(), result.encoded_len(), self.max_result_bytes);
        if bytes > limit { Err(TaskError::TooLarge { count, bytes, limit }) } else { Ok(()) }
    }
}

fn matching(snapshot: &Snapshot, matcher: &Matcher) -> Vec<ProcessRecord> {
    snapshot.iter().filter(|record| matcher.matches(record)).cloned().collect()
}

/// Hashes what each process runs. One whose image can't be read just gets no hash: processes end
/// meanwhile, and others belong to other users.
async fn add_hashes(processes: &mut [ProcessRecord]) {
    let mut of_unchanged: HashMap<String, String> = HashMap::new();
    for process in processes {
        let Some(path) = &process.executable_path else { continue };
        if !process.on_disk_mismatch
            && let Some(hash) = of_unchanged.get(path)
        {
            set_hash(process, hash.clone());
            continue;
        }
        let image = platform::running_image(process.pid, path);
        match hash::of_file(image, hash::MAX_FILE_BYTES).await {
            Ok(hash) => {
                if !process.on_disk_mismatch {
                    of_unchanged.insert(path.clone(), hash.clone());
                }
                set_hash(process, hash);
            }
            Err(error) => tracing::debug!(pid = process.pid, %error, "no hash"),
        }
    }
}

fn set_hash(process: &mut ProcessRecord, hash: String) {
    process.executable_hash = Some(hash);
    process.hash_algorithm = Some(hash::ALGORITHM.into());
}

async fn verify(check: Option<&HashCheck>, result: &mut DetectionResult) -> Result<(), TaskError> {
    let check = check.ok_or(TaskError::Incomplete("executable_path and expected_hash"))?;
    let path = &check.executable_path;
    if path.is_empty() {
        return Err(TaskError::Incomplete("executable_path"));
    }
    hash::check_algorithm(&check.hash_algorithm)?;
    let outcome = hash::of_file(path.into(), hash::MAX_FILE_BYTES).await;
    result.hash_result = Some(HashResult {
        hash_value: outcome.as_ref().cloned().unwrap_or_default(),
        algorithm: hash::ALGORITHM.into(),
        file_path: path.clone(),
        success: outcome.is_ok(),
        error_message: outcome.as_ref().err().map(ToString::to_string),
    });
    let actual = outcome?;
    // Nothing expected is a question, not a comparison.
    if check.expected_hash.is_empty() || actual.eq_ignore_ascii_case(&check.expected_hash) {
        return Ok(());
    }
    let expected = check.expected_hash.clone();
    Err(TaskError::Mismatch { path: path.clone(), algorithm: hash::ALGORITHM, actual, expected })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::ProcessFilter;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    async fn run(task: DetectionTask) -> DetectionResult {
        Tasks::new(ProcessTable::open().unwrap(), usize::MAX).execute(task).await
    }

    fn task(task_type: TaskType) -> DetectionTask {
        DetectionTask {
            task_id: "t-1".into(),
            task_type: task_type.into(),
            process_filter: Some(ProcessFilter { pids: vec![std::process::id()], ..Default::default() }),
            ..Default::default()
        }
    }

    fn verification(path: &str, expected: &str) -> DetectionTask {
        let check = HashCheck {
            executable_path: path.into(),
            expected_hash: expected.into(),
            hash_algorithm: String::new(),
        };
        DetectionTask { hash_check: Some(check), ..task(TaskType::VerifyExecutable) }
    }

    #[tokio::test]
    async fn enumeration_returns_what_the_filter_means() {
        let result = run(task(TaskType::EnumerateProcesses)).await;
        assert_eq!((result.task_id.as_str(), result.success, &result.error_message), ("t-1", true, &None));
        assert_eq!(
            result.processes.iter().map(|process| process.pid).collect::<Vec<_>>(),
            [std::process::id()]
        );
        assert_eq!(result.processes[0].executable_hash, None);
    }

    #[tokio::test]
    async fn a_process_is_hashed_by_what_it_runs() {
        let result = run(task(TaskType::CheckProcessHash)).await;
        let executable = std::env::current_exe().unwrap();
        let expected = hash::of_file(executable, hash::MAX_FILE_BYTES).await.unwrap();
        assert_eq!(result.processes[0].executable_hash.as_deref(), Some(expected.as_str()));
        assert_eq!(result.processes[0].hash_algorithm.as_deref(), Some("sha256"));
    }

    #[tokio::test]
    async fn a_file_is_verified_against_its_hash_in_either_case() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "abc").unwrap();
        let path = file.path().to_str().unwrap();
        for expected in [ABC, &ABC.to_uppercase(), ""] {
            let result = run(verification(path, expected)).await;
            assert!(result.success, "{result:?}");
            assert_eq!(result.hash_result.unwrap().hash_value, ABC);
        }
        let result = run(verification(path, "00")).await;
        assert_eq!(
            (result.success, result.error_message.unwrap()),
            (false, format!("{path} has the sha256 hash {ABC}, not the expected 00"))
        );
        assert!(result.hash_result.unwrap().success);
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_a_result_that_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let unfit = format!("{path} is not a regular file; name an executable file");
        let mut md5 = task(TaskType::CheckProcessHash);
        md5.hash_check = Some(HashCheck { hash_algorithm: "md5".into(), ..Default::default() });
        let supported = "it does ENUMERATE_PROCESSES, CHECK_PROCESS_HASH, MONITOR_PROCESS_TREE and \
                         VERIFY_EXECUTABLE";
        let files = task(TaskType::TrackFileOperations);
        let future = DetectionTask { task_type: 77, ..files.clone() };
        let cases = [
            (files, format!("procmond has no task of type TRACK_FILE_OPERATIONS; {supported}")),
            (future, format!("procmond has no task of type 77; {supported}")),
            (md5, "hash algorithm 'md5' is not supported; use sha256".into()),
            (
                task(TaskType::VerifyExecutable),
                "VERIFY_EXECUTABLE needs hash_check with executable_path and expected_hash; set it".into(),
            ),
            (verification(path, ABC), unfit),
        ];
        for (task, expected) in cases {
            let result = run(task).await;
            assert_eq!((result.success, result.error_message), (false, Some(expected)));
        }
    }

    #[tokio::test]
    async fn a_result_above_the_limit_is_refused_and_one_at_it_is_not() {
        let table = ProcessTable::with_max_age(Duration::from_secs(3600)).unwrap();
        let full = Tasks::new(table.clone(), usize::MAX).execute(task(TaskType::EnumerateProcesses)).await;
        // `success` is not set yet when the limit is checked.
        let bytes = DetectionResult { success: false, ..full.clone() }.encoded_len();
        let fits = Tasks::new(table.clone(), bytes).execute(task(TaskType::EnumerateProcesses)).await;
        assert_eq!(fits.processes.len(), 1);
        let refused = Tasks::new(table, bytes - 1).execute(task(TaskType::EnumerateProcesses)).await;
        assert_eq!(refused.processes, []);
        assert_eq!(
            refused.error_message.unwrap(),
            format!(
                "1 processes take {bytes} bytes, more than the {} that fit into one answer; narrow \
                 process_filter, or read them page by page with ListProcesses",
                bytes - 1
            )
        );
    }
}
