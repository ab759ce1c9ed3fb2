//! The program as a process.

use std::process::Command;

#[test]
fn it_greets_the_world() {
    let directory = tempfile::tempdir().unwrap();
    // Its socket is there; a pipe has its own name wherever it is.
    let mut program = Command::new(env!("CARGO_BIN_EXE_from-trait"));
    let output = program.env("TMPDIR", directory.path()).output().unwrap();
    assert_eq!(
        (String::from_utf8(output.stdout).unwrap().as_str(), output.status.code()),
        ("Hello, World!\n", Some(0)),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
