//! The demonstration, as a stranger runs it.

use std::process::Command;

#[test]
fn the_demo_shows_processes_and_latencies_and_ends_well() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).args(["--calls", "50"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for expected in
        ["procmond runs as process ", "Memory", "Echo, one at a time", "p99", "procmond stopped when asked"]
    {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
}
