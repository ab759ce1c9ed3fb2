//! Detection rules: what is suspicious about one process. [`RuleSet::check`] gives the findings.
//!
//! Pure; it must not know where records come from, nor what becomes of findings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::platform;
use crate::proto::{ProcessRecord, Severity};

/// One kind of suspicion; its name in the configuration is in kebab case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The executable was deleted or replaced since the process started.
    DeletedExecutable,
    /// The executable lies in a folder that every user may write to.
    TemporaryFolder,
    /// A user's program goes by the name of a kernel thread.
    KernelThreadImitation,
    /// The executable's hash is on the block list.
    BlockedHash,
}

impl Rule {
    /// Every rule there is.
    pub const ALL: [Self; 4] =
        [Self::DeletedExecutable, Self::TemporaryFolder, Self::KernelThreadImitation, Self::BlockedHash];

    /// The rule's name in the configuration and in alerts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeletedExecutable => "deleted-executable",
            Self::TemporaryFolder => "temporary-folder",
            Self::KernelThreadImitation => "kernel-thread-imitation",
            Self::BlockedHash => "blocked-hash",
        }
    }
}

/// Which rules run, and what they need to know.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// The rules that run.
    pub rules: BTreeSet<Rule>,
    /// What counts as a temporary folder.
    pub temporary_folders: Vec<PathBuf>,
    /// SHA-256 in lower-case hexadecimal, and what it is the hash of.
    pub blocked_hashes: BTreeMap<String, String>,
}

impl Default for RuleSet {
    fn default() -> Self {
        Self {
            rules: Rule::ALL.into(),
            temporary_folders: platform::TEMPORARY_FOLDERS.iter().map(PathBuf::from).collect(),
            blocked_hashes: BTreeMap::new(),
        }
    }
}

/// Something suspicious about a process.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub rule: Rule,
    /// How bad.
    pub severity: Severity,
    /// What was seen, in one sentence.
    pub message: String,
}

impl RuleSet {
    /// Whether any rule asks for the hashes of executables, which cost reading them.
    #[must_use]
    pub fn wants_hashes(&self) -> bool {
        self.rules.contains(&Rule::BlockedHash) && !self.blocked_hashes.is_empty()
    }

    /// Everything suspicious about a process, in the order of the rules.
    #[must_use]
    pub fn check(&self, process: &ProcessRecord) -> Vec<Finding> {
        self.rules.iter().filter_map(|rule| self.apply(*rule, process)).collect()
    }

    fn apply(&self, rule: Rule, process: &ProcessRecord) -> Option<Finding> {
        let (severity, message) = match rule {
            Rule::DeletedExecutable => deleted_executable(process),
            Rule::TemporaryFolder => self.temporary_folder(process),
            Rule::KernelThreadImitation => kernel_thread_imitation(process),
            Rule::BlockedHash => self.blocked_hash(process),
        }?;
        Some(Finding { rule, severity, message })
    }

    fn temporary_folder(&self, process: &ProcessRecord) -> Option<(Severity, String)> {
        let path = process.executable_path.as_deref()?;
        let folder = self.temporary_folders.iter().find(|folder| Path::new(path).starts_with(folder))?;
        Some((Severity::Medium, format!("{path} runs from the temporary folder {}", folder.display())))
    }

    fn blocked_hash(&self, process: &ProcessRecord) -> Option<(Severity, String)> {
        let hash = process.executable_hash.as_deref()?;
        let known_as = self.blocked_hashes.get(hash)?;
        let path = process.executable_path.as_deref().unwrap_or("its executable");
        Some((Severity::Critical, format!("{path} is on the block list as '{known_as}' (sha256 {hash})")))
    }
}

fn deleted_executable(process: &ProcessRecord) -> Option<(Severity, String)> {
    let path = process.executable_path.as_deref().filter(|_| process.on_disk_mismatch)?;
    Some(if path.starts_with("/memfd:") {
        // Linux names what never was a file so, and calls it deleted.
        (Severity::High, format!("{path} runs from memory, without a file"))
    } else if process.file_exists {
        (Severity::Medium, format!("{path} was replaced while it runs"))
    } else {
        (Severity::High, format!("{path} was deleted while it runs"))
    })
}

fn kernel_thread_imitation(process: &ProcessRecord) -> Option<(Severity, String)> {
    // A kernel thread has neither an executable nor arguments.
    if process.kernel_thread || (process.executable_path.is_none() && process.command_line.is_empty()) {
        return None;
    }
    let names = [Some(process.name.as_str()), process.command_line.first().map(String::as_str)];
    let name = names.into_iter().flatten().find(|name| is_kernel_thread_name(name))?;
    let path = process.executable_path.as_deref().unwrap_or("a user's program");
    Some((Severity::High, format!("{path} goes by the name '{name}', like a kernel thread")))
}

/// `[anything]`, as process lists show kernel threads, or a name that only they have: `kworker/0:1`.
fn is_kernel_thread_name(name: &str) -> bool {
    const WITH_SUFFIX: &[&str] = &[
        "kworker",
        "ksoftirqd",
        "migration",
        "cpuhp",
        "idle_inject",
        "irq",
        "rcuop",
        "rcuos",
        "rcuog",
        "jbd2",
    ];
    const ALONE: &[&str] = &[
        "kthreadd",
        "kswapd0",
        "kcompactd0",
        "khugepaged",
        "kdevtmpfs",
        "kauditd",
        "khungtaskd",
        "oom_reaper",
    ];

    if let Some(inner) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return !inner.is_empty();
    }
    ALONE.contains(&name) || name.split_once('/').is_some_and(|(kind, _)| WITH_SUFFIX.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(path: &str) -> ProcessRecord {
        ProcessRecord {
            pid: 7,
            name: "program".into(),
            executable_path: Some(path.into()),
            command_line: vec![path.into()],
            file_exists: true,
            accessible: true,
            ..Default::default()
        }
    }

    fn findings(process: &ProcessRecord) -> Vec<(Rule, Severity, String)> {
        let hash = ("aa".repeat(32), "EICAR".to_owned());
        let set = RuleSet {
            temporary_folders: vec!["/tmp".into(), "/dev/shm".into()],
            blocked_hashes: [hash].into(),
            ..Default::default()
        };
        set.check(process).into_iter().map(|found| (found.rule, found.severity, found.message)).collect()
    }

    #[test]
    fn an_ordinary_process_is_not_suspicious() {
        let ordinary = ProcessRecord { executable_hash: Some("bb".repeat(32)), ..process("/usr/bin/sleep") };
        assert_eq!(findings(&ordinary), []);
    }

    #[test]
    fn a_deleted_executable_is_worse_than_a_replaced_one() {
        let replaced = ProcessRecord { on_disk_mismatch: true, ..process("/usr/bin/sleep") };
        assert_eq!(
            findings(&replaced),
            [(Rule::DeletedExecutable, Severity::Medium, "/usr/bin/sleep was replaced while it runs".into())]
        );
        let deleted = ProcessRecord { file_exists: false, ..replaced };
        assert_eq!(
            findings(&deleted),
            [(Rule::DeletedExecutable, Severity::High, "/usr/bin/sleep was deleted while it runs".into())]
        );
        let from_memory = ProcessRecord { executable_path: Some("/memfd:x".into()), ..deleted };
        assert_eq!(
            findings(&from_memory),
            [(Rule::DeletedExecutable, Severity::High, "/memfd:x runs from memory, without a file".into())]
        );
    }

    #[test]
    fn only_whole_folder_names_are_temporary() {
        assert_eq!(
            findings(&process("/dev/shm/x/y")),
            [(
                Rule::TemporaryFolder,
                Severity::Medium,
                "/dev/shm/x/y runs from the temporary folder /dev/shm".into()
            )]
        );
        assert_eq!(findings(&process("/tmpfiles/x")), []);
        assert_eq!(findings(&process("/home/tmp/x")), []);
    }

    #[test]
    fn a_kernel_threads_name_on_a_users_program_is_found() {
        for imitation in ["[kworker/0:1]", "kworker/u8:2", "[x]", "kthreadd", "ksoftirqd/3", "irq/9-acpi"] {
            let by_name = ProcessRecord { name: imitation.into(), ..process("/usr/bin/miner") };
            let by_argument =
                ProcessRecord { command_line: vec![imitation.into()], ..process("/usr/bin/miner") };
            let message = format!("/usr/bin/miner goes by the name '{imitation}', like a kernel thread");
            let expected = [(Rule::KernelThreadImitation, Severity::High, message)];
            assert_eq!(findings(&by_name), expected);
            assert_eq!(findings(&by_argument), expected);
        }
        for honest in ["kworkers", "[]", "[", "irqbalance", "/usr/bin/irq/x", "kthreadd2"] {
            let honest = ProcessRecord { command_line: vec![honest.into()], ..process("/usr/bin/honest") };
            assert_eq!(findings(&honest), []);
        }
    }

    #[test]
    fn real_kernel_threads_may_have_their_names() {
        let real = ProcessRecord {
            name: "kworker/0:1".into(),
            executable_path: None,
            command_line: vec![],
            ..process("")
        };
        assert_eq!(findings(&ProcessRecord { kernel_thread: true, ..real.clone() }), []);
        // Where the platform does not say what it is.
        assert_eq!(findings(&real), []);
        // One that hides its executable, but not its arguments.
        let hidden = ProcessRecord { command_line: vec!["kworker/0:1".into()], ..real };
        assert_eq!(
            findings(&hidden)[0].2,
            "a user's program goes by the name 'kworker/0:1', like a kernel thread"
        );
    }

    #[test]
    fn a_hash_on_the_block_list_is_critical() {
        let blocked = ProcessRecord { executable_hash: Some("aa".repeat(32)), ..process("/usr/bin/x") };
        let message = format!("/usr/bin/x is on the block list as 'EICAR' (sha256 {})", "aa".repeat(32));
        assert_eq!(findings(&blocked), [(Rule::BlockedHash, Severity::Critical, message)]);
    }

    #[test]
    fn a_rule_that_is_off_finds_nothing() {
        let set = RuleSet { rules: [Rule::BlockedHash].into(), ..Default::default() };
        assert_eq!(set.check(&process("/tmp/x")), []);
        assert!(!set.wants_hashes());
    }

    #[test]
    fn names_in_the_configuration_and_in_alerts_are_the_same() {
        for rule in Rule::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.as_str());
        }
    }
}
