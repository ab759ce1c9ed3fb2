//! The programs as processes, each in a folder of its own, and a wait for every event.
//!
//! No test sleeps: each waits for a line or an end, and fails after [`PATIENCE`].

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Longer than any machine takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a settings file, and the endpoints that it names.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("daemoneye-test-").tempdir().unwrap();
        Self { folder }.with_agent("")
    }

    /// The same place, whose settings have these lines more under `agent:`.
    pub(crate) fn with_agent(self, lines: &str) -> Self {
        let mut text = format!(
            "ipc:\n  endpoint_path: {}\nagent:\n  endpoint_path: {}\n",
            self.procmond(),
            self.agent()
        );
        lines.lines().for_each(|line| writeln!(text, "  {line}").unwrap());
        std::fs::write(self.settings(), text).unwrap();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name.split('/').collect::<PathBuf>())
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.path("daemoneye.yaml")
    }

    /// procmond's endpoint.
    pub(crate) fn procmond(&self) -> String {
        self.endpoint("procmond")
    }

    /// The agent's endpoint.
    pub(crate) fn agent(&self) -> String {
        self.endpoint("agent")
    }

    /// A socket in the folder, on Windows a pipe with the folder's name.
    fn endpoint(&self, name: &str) -> String {
        if cfg!(windows) {
            format!(r"\\.\pipe\{}\{name}", self.folder.path().file_name().unwrap().display())
        } else {
            self.path(&format!("{name}.sock")).to_str().unwrap().into()
        }
    }

    pub(crate) async fn start_procmond(&self) -> Daemon {
        self.start_procmond_with(&[]).await
    }

    pub(crate) async fn start_procmond_with(&self, flags: &[&str]) -> Daemon {
        let mut procmond = Daemon::start(env!("CARGO_BIN_EXE_procmond"), &self.settings(), flags);
        assert_eq!(procmond.line().await, format!("listening on {}", self.procmond()));
        procmond
    }

    pub(crate) async fn start_agent(&self, flags: &[&str]) -> Daemon {
        let mut agent = Daemon::start(env!("CARGO_BIN_EXE_daemoneye-agent"), &self.settings(), flags);
        if !flags.contains(&"--json") {
            assert_eq!(agent.line().await, format!("listening on {}", self.agent()));
        }
        agent
    }

    /// Runs the command line to its end.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Ended {
        let mut command = command(env!("CARGO_BIN_EXE_daemoneye-cli"), &self.settings());
        let output =
            timeout(PATIENCE, command.args(arguments).output()).await.expect("the command line hangs");
        Ended::new(output.unwrap())
    }

    /// The same, with nobody who reads what it prints.
    pub(crate) async fn cli_unread(&self, arguments: &[&str]) -> Ended {
        let mut command = command(env!("CARGO_BIN_EXE_daemoneye-cli"), &self.settings());
        let mut child =
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        Ended::new(
            timeout(PATIENCE, child.wait_with_output()).await.expect("the command line hangs").unwrap(),
        )
    }

    /// Runs `daemoneye-cli watch`, and returns once it watches.
    pub(crate) async fn watch(&self, flags: &[&str]) -> Daemon {
        let mut command = command(env!("CARGO_BIN_EXE_daemoneye-cli"), &self.settings());
        command.arg("watch").args(flags);
        let mut watch = Daemon::spawn(command);
        watch.line_with("watching ").await;
        watch
    }

    /// A copy of a harmless program under another name, running until it is dropped.
    pub(crate) fn run_bystander(&self, name: &str) -> (PathBuf, Child) {
        let copy = self.path(name).with_extension(std::env::consts::EXE_EXTENSION);
        if cfg!(windows) {
            // What sleeps there for a time is part of the shell.
            std::fs::copy(env!("CARGO_BIN_EXE_procmond"), &copy).unwrap();
            let mut command = command(copy.to_str().unwrap(), &self.settings());
            command.args(["--until-stdin-closes", "--endpoint", &self.endpoint(name)]);
            return (copy, command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
        }
        // Not copied here: a descriptor open for writing that another child inherits would make it busy.
        assert!(std::process::Command::new("cp").arg("/bin/sleep").arg(&copy).status().unwrap().success());
        let child = Command::new(&copy).arg("600").kill_on_drop(true).spawn().unwrap();
        (copy, child)
    }
}

fn command(program: &str, settings: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--config").arg(settings).env("RUST_LOG", "error").env_remove("NO_COLOR").kill_on_drop(true);
    command
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    fn new(output: Output) -> Self {
        Self {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Its standard output, if it ended well.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert!(self.status.success(), "{self:?}");
        self.stdout
    }

    /// Its standard error, if it ended with status 1.
    #[track_caller]
    pub(crate) fn failure(self) -> String {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        self.stderr
    }
}

/// A daemon, killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Daemon {
    fn start(program: &str, settings: &Path, flags: &[&str]) -> Self {
        let mut command = command(program, settings);
        command.arg("--until-stdin-closes").args(flags);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { stdin: child.stdin.take(), child, lines }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// The next line that it prints.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("it prints nothing");
        line.unwrap().expect("it ended")
    }

    /// The next line with `text` in it.
    pub(crate) async fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.line().await;
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap()
    }

    /// Ends it without a chance to clean up.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}
