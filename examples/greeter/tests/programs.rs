//! The two programs as processes.

#![expect(clippy::unwrap_used, reason = "the functions around tests are tests, too")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

/// The server, killed when dropped.
struct Server(Child);

impl Server {
    /// Returns when clients can connect. Its socket is in `directory`; a pipe has its own name wherever it is.
    fn start(directory: &tempfile::TempDir) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
        let mut server =
            Self(command.env("TMPDIR", directory.path()).stderr(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(server.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("greeting at ") && line.ends_with("; stop with Ctrl-C\n"), "{line}");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn client(directory: &tempfile::TempDir, name: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_client")).arg(name).env("TMPDIR", directory.path()).output().unwrap()
}

#[test]
fn the_client_has_someone_greeted_and_says_why_it_cannot() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start(&directory);
    let greeted = client(&directory, "Ann");
    assert_eq!(
        (String::from_utf8(greeted.stdout).unwrap().as_str(), greeted.status.code()),
        ("Hello, Ann!\n", Some(0))
    );
    let refused = client(&directory, "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("whom shall I greet?"), "{refused:?}");
    assert_eq!(refused.status.code(), Some(1));
}
