//! This machine's processes: [`ProcessTable`] takes snapshots of them as [`ProcessRecord`]s.
//!
//! It wraps sysinfo. It must not know who asks, over what, or which processes are of interest.

pub mod events;
mod filter;
pub mod listing;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sysinfo::{
    Process, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, ThreadKind, UpdateKind, Users,
};
use tokio::sync::Mutex;

pub use self::filter::{FilterError, Matcher};
use crate::platform;
use crate::proto::ProcessRecord;

/// Callers within this time share one look at the system: it costs milliseconds, and CPU usage is
/// a difference between two looks.
const MAX_AGE: Duration = Duration::from_millis(250);

/// Where a command line is cut, so that one process can't fill a message.
const MAX_COMMAND_LINE_BYTES: usize = 4096;

/// All processes at one moment, in the order of their ids.
pub type Snapshot = Arc<[ProcessRecord]>;

/// Looks at this machine's processes when asked.
#[derive(Clone)]
pub struct ProcessTable {
    state: Arc<Mutex<State>>,
}

struct State {
    system: System,
    users: Option<Users>,
    latest: Snapshot,
    taken: Instant,
    max_age: Duration,
}

/// Why the processes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The platform gives no access to its process list.
    #[error("this system's process list can't be read; is /proc mounted and readable?")]
    Unreadable,
    /// The look itself ended early.
    #[error("reading the processes was interrupted: {0}; ask again")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl ProcessTable {
    /// Opens the process list and takes a first look, which later CPU usage is measured from.
    ///
    /// # Errors
    ///
    /// [`CollectError::Unreadable`] where the platform shows no processes.
    pub fn open() -> Result<Self, CollectError> {
        Self::with_max_age(MAX_AGE)
    }

    pub(crate) fn with_max_age(max_age: Duration) -> Result<Self, CollectError> {
        let mut state = State {
            system: System::new(),
            users: platform::users(),
            latest: Arc::new([]),
            taken: Instant::now(),
            max_age,
        };
        state.look();
        // This program is a process itself, so a list without any was not read.
        if state.system.processes().is_empty() {
            return Err(CollectError::Unreadable);
        }
        Ok(Self { state: Arc::new(Mutex::new(state)) })
    }

    /// All processes, as they were at most a quarter of a second ago.
    ///
    /// # Errors
    ///
    /// [`CollectError::Interrupted`] when the program is shutting down meanwhile.
    pub async fn snapshot(&self) -> Result<Snapshot, CollectError> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        if state.taken.elapsed() <= state.max_age {
            return Ok(Arc::clone(&state.latest));
        }
        let looked = tokio::task::spawn_blocking(move || {
            state.look();
            Arc::clone(&state.latest)
        });
        Ok(looked.await?)
    }
}

impl State {
    fn look(&mut self) {
        let what = ProcessRefreshKind::nothing()
            .with_cpu()
            .with_memory()
            // A process that called exec has the same id and start time, and all of these anew.
            .with_user(UpdateKind::Always)
            .with_cmd(UpdateKind::Always)
            .with_exe(UpdateKind::Always)
            .without_tasks();
        self.system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
        let now = unix_millis(SystemTime::now());
        // What has ended and only waits for its parent to notice runs no executable any more.
        let running = self.system.processes().values().filter(|process| !has_ended(process));
        let mut records: Vec<_> = running.map(|process| record(process, self.users.as_ref(), now)).collect();
        records.sort_unstable_by_key(|record| record.pid);
        self.latest = records.into();
        self.taken = Instant::now();
    }
}

/// Milliseconds since 1970, as the messages carry a time.
#[must_use]
pub fn unix_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn has_ended(process: &Process) -> bool {
    matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead)
}

fn record(process: &Process, users: Option<&Users>, now: i64) -> ProcessRecord {
    let pid = process.pid().as_u32();
    let kernel_thread = process.thread_kind() == Some(ThreadKind::Kernel);
    let image =
        if kernel_thread { platform::Image::default() } else { platform::Image::of(pid, process.exe()) };
    let user = process.user_id();
    let known = user.and_then(|id| users?.get_user_by_id(id));
    ProcessRecord {
        pid,
        ppid: process.parent().map(sysinfo::Pid::as_u32),
        name: name(process, &image),
        file_exists: image.exists,
        on_disk_mismatch: image.changed,
        accessible: kernel_thread || image.path.is_some(),
        executable_path: image.path.map(|path| path.to_string_lossy().into_owned()),
        command_line: command_line(process.cmd()),
        start_time: i64::try_from(process.start_time()).ok(),
        cpu_usage: Some(f64::from(process.cpu_usage())),
        memory_usage: Some(process.memory()),
        executable_hash: None,
        hash_algorithm: None,
        user_id: user.map(|id| id.to_string()),
        user_name: known.map(|user| user.name().to_owned()),
        collection_time: now,
        kernel_thread,
    }
}

/// A process's name, or its file's where the system had none yet when the process was seen first.
fn name(process: &Process, image: &platform::Image) -> String {
    let file = || image.path.as_deref().and_then(Path::file_name);
    let name = Some(process.name()).filter(|name| !name.is_empty()).or_else(file);
    name.unwrap_or_default().to_string_lossy().into_owned()
}

fn command_line(arguments: &[OsString]) -> Vec<String> {
    let mut room = MAX_COMMAND_LINE_BYTES;
    let mut kept = Vec::new();
    for argument in arguments {
        let mut argument = argument.to_string_lossy().into_owned();
        if argument.len() > room {
            // `str::floor_char_boundary` does this from Rust 1.91 on. Byte 0 is always a boundary.
            let boundary = (0..=room).rev().find(|&at| argument.is_char_boundary(at));
            argument.truncate(boundary.unwrap_or(0));
            kept.push(argument);
            break;
        }
        room -= argument.len();
        kept.push(argument);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_process_is_in_the_table_as_it_is() {
        let snapshot = ProcessTable::open().unwrap().snapshot().await.unwrap();
        let me = snapshot.iter().find(|record| record.pid == std::process::id()).unwrap();
        let executable = std::env::current_exe().unwrap();
        assert_eq!(me.executable_path.as_deref(), executable.to_str());
        assert!(me.file_exists && me.accessible && !me.on_disk_mismatch && !me.kernel_thread);
        // wine 8 shows neither arguments nor relations nor users.
        if std::env::var_os("WINDOWS_CHECK_WINE").is_none() {
            assert_eq!(me.command_line, std::env::args().collect::<Vec<_>>());
            assert!(me.ppid.is_some() && me.user_id.is_some());
        }
        assert!(me.memory_usage.unwrap() > 0 && me.start_time.unwrap() > 0);
        assert!(snapshot.is_sorted_by_key(|record| record.pid));
    }

    #[tokio::test]
    async fn callers_at_the_same_time_share_one_look() {
        let table = ProcessTable::with_max_age(Duration::from_secs(3600)).unwrap();
        let (one, other) = tokio::join!(table.snapshot(), table.snapshot());
        assert!(Arc::ptr_eq(&one.unwrap(), &other.unwrap()));

        let table = ProcessTable::with_max_age(Duration::ZERO).unwrap();
        let (one, other) = tokio::join!(table.snapshot(), table.snapshot());
        assert!(!Arc::ptr_eq(&one.unwrap(), &other.unwrap()));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_process_that_only_waits_for_its_parent_is_not_listed() {
        use std::io::Read;
        let mut command = std::process::Command::new("true");
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        // Its output ends when it does; its parent has not waited for it.
        child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        while !state().contains(") Z ") {
            std::thread::yield_now();
        }
        let snapshot = ProcessTable::open().unwrap().snapshot().await.unwrap();
        assert!(snapshot.iter().all(|process| process.pid != child.id()));
        child.wait().unwrap();
    }

    #[test]
    fn a_long_command_line_is_cut_between_characters() {
        let cut = command_line(&["a".repeat(4095).into(), "é".into(), "never".into()]);
        assert_eq!(cut, ["a".repeat(4095), String::new()]);
        let kept = command_line(&["a".repeat(4094).into(), "é".into()]);
        assert_eq!(kept, ["a".repeat(4094), "é".to_owned()]);
    }
}
