//! The `actor` program as the tests hold it: started, listened to, killed.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use ipc_tests::raw::soon;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// A user that is neither root nor the tests' own.
pub(crate) const STRANGER: u32 = 65_533;

/// A running `actor`. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Actor {
    child: Child,
    pub(crate) pid: u32,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

/// The program, to be given arguments.
pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_actor"))
}

impl Actor {
    /// Starts it with these arguments.
    pub(crate) fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::of(command().args(args).stdin(Stdio::piped()))
    }

    /// Starts it as another user.
    pub(crate) fn start_as<S: AsRef<OsStr>>(
        user: u32,
        group: u32,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        let (user, group) = (user.to_string(), group.to_string());
        let mut command = command();
        Self::of(command.args(["--user", &user, &group]).args(args).stdin(Stdio::piped()))
    }

    /// Starts a command that becomes it.
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("a process");
        let output = child.stdout.take().expect("its output");
        Self {
            pid: child.id().expect("a process that runs"),
            input: child.stdin.take(),
            output: BufReader::new(output).lines(),
            child,
        }
    }

    /// A server that can be connected to.
    pub(crate) async fn serving(endpoint: &str) -> Self {
        Self::serving_with(endpoint, &[]).await
    }

    /// A server with options.
    pub(crate) async fn serving_with(endpoint: &str, options: &[&str]) -> Self {
        let mut actor = Self::start(["serve", endpoint].iter().chain(options));
        actor.says("ready").await;
        actor
    }

    /// What it says next.
    pub(crate) async fn line(&mut self) -> String {
        let line = soon("a line of another process", self.output.next_line()).await;
        line.expect("text").expect("a process that says more")
    }

    /// It says this next.
    pub(crate) async fn says(&mut self, expected: &str) {
        assert_eq!(self.line().await, expected);
    }

    /// Sends it a line.
    pub(crate) async fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input");
        input.write_all(format!("{line}\n").as_bytes()).await.expect("a process that reads");
    }

    /// Its log, if the command had it piped.
    pub(crate) fn log(&mut self) -> Lines<BufReader<ChildStderr>> {
        BufReader::new(self.child.stderr.take().expect("its log")).lines()
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        soon("the end of a killed process", self.child.kill()).await.expect("a process to kill");
    }

    /// Ends its input, and waits for it to end by itself; returns what else it says.
    pub(crate) async fn finish(mut self) -> Vec<String> {
        drop(self.input.take());
        let mut lines = Vec::new();
        while let Some(line) = soon("the last words", self.output.next_line()).await.expect("text") {
            lines.push(line);
        }
        let status = soon("the end of a process", self.child.wait()).await.expect("a process");
        assert!(status.success(), "{status}: {lines:?}");
        lines
    }
}

/// Whether this process may become other users; says so where it may not.
pub(crate) fn can_be_others() -> bool {
    let root = cfg!(target_os = "linux") && rustix::process::geteuid().is_root();
    if !root {
        // Past the harness, which would keep it to itself.
        let words = "skipped: a test that is another user takes root, on Linux";
        _ = writeln!(std::io::stderr(), "{words}");
    }
    root
}

/// Lets other users pass through a directory.
pub(crate) fn open_to_all(directory: &Path) {
    set_mode(directory, 0o711);
}

/// Sets a file's mode.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a file of ours");
}
