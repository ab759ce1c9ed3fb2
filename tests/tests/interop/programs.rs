//! The two programs as processes.

use std::path::Path;
use std::process::Stdio;

use ipc_tests::local;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// `interop-server`, which ends with this.
pub(crate) struct ServerProgram {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    endpoint: String,
    _directory: tempfile::TempDir,
}

impl ServerProgram {
    /// Starts it and waits until clients can connect.
    pub(crate) async fn start(args: &[&str]) -> Self {
        let (endpoint, directory) = local::endpoint();
        let mut child = Command::new(env!("CARGO_BIN_EXE_interop-server"))
            .args(["--until-stdin-closes", "--socket", &endpoint])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).await.unwrap();
        assert_eq!(line, format!("listening on {endpoint}\n"));
        Self { stdin: child.stdin.take(), child, stdout, endpoint, _directory: directory }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> String {
        self.endpoint.clone()
    }

    /// Tells it to end, by SIGTERM.
    #[cfg(unix)]
    pub(crate) fn terminate(&mut self) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        let process = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    }

    /// Tells it to end, by the end of its standard input: Windows has no signals.
    #[cfg(windows)]
    pub(crate) fn terminate(&mut self) {
        drop(self.stdin.take());
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(mut self) -> Ended {
        let _stdin = self.stdin;
        let mut printed = String::new();
        self.stdout.read_to_string(&mut printed).await.unwrap();
        let code = self.child.wait().await.unwrap().code();
        Ended { printed, code, socket_left: Path::new(&self.endpoint).exists() }
    }
}

/// How a server ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    printed: String,
    code: Option<i32>,
    socket_left: bool,
}

impl Ended {
    /// As it should, after having cut this many calls.
    pub(crate) fn well(calls_cut: usize) -> Self {
        Self { printed: format!("ended; calls cut: {calls_cut}\n"), code: Some(0), socket_left: false }
    }
}

/// How a client came out.
pub(crate) struct ClientOutcome {
    pub(crate) printed: String,
    pub(crate) code: Option<i32>,
}

impl ClientOutcome {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.printed.lines().map(str::to_owned).collect()
    }
}

/// Runs `interop-client`.
pub(crate) async fn run_client(socket: &str, args: &[&str]) -> ClientOutcome {
    let output = Command::new(env!("CARGO_BIN_EXE_interop-client"))
        .args(["--socket", socket])
        .args(args)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    ClientOutcome { printed: String::from_utf8(output.stdout).unwrap(), code: output.status.code() }
}
