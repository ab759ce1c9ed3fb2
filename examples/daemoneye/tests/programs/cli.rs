//! daemoneye-cli against both daemons.

use std::path::Path;

use crate::support::Place;
use serde_json::Value;

#[tokio::test]
async fn processes_shows_what_procmond_sees() {
    let place = Place::new();
    let procmond = place.start_procmond().await;
    let pid = procmond.id().to_string();

    let json = place.cli(&["processes", "--pid", &pid, "--json"]).await.success();
    let processes: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(processes.as_array().unwrap().len(), 1);
    let process = &processes[0];
    assert_eq!(process["pid"], procmond.id());
    assert_eq!(process["ppid"], std::process::id());
    let name = format!("procmond{}", std::env::consts::EXE_SUFFIX);
    assert_eq!(process["name"], name);
    // As this platform writes it: where Windows is cross-compiled for, the compiler's paths are another's.
    let program = std::path::absolute(env!("CARGO_BIN_EXE_procmond")).unwrap();
    assert_eq!(process["executable_path"], program.to_str().unwrap());
    if std::env::var_os("WINDOWS_CHECK_WINE").is_some() {
        eprintln!("not checked: wine tells no command lines of other processes");
    } else {
        assert_eq!(process["command_line"][0], env!("CARGO_BIN_EXE_procmond"));
    }
    assert_eq!(process["on_disk_mismatch"], false);

    let table =
        place.cli(&["processes", "--name", &name, "--sort", "started", "--limit", "1"]).await.success();
    assert!(table.lines().nth(1).unwrap().contains("Memory"), "{table}");
    assert!(table.contains("procmond") && table.contains("1 of "), "{table}");

    let glob = place.cli(&["processes", "--executable", "/[", "--json"]).await.failure();
    assert!(glob.contains("executable_pattern '/[' is no glob"), "{glob}");
    assert!(procmond.stop().await.success());
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let place = Place::new();
    let _procmond = place.start_procmond().await;
    for format in [&[][..], &["--json"]] {
        let ended = place.cli_unread(&[&["processes"], format].concat()).await;
        assert_eq!((ended.status.code(), ended.stderr), (Some(0), String::new()));
    }
}

#[tokio::test]
async fn health_check_fails_unless_both_daemons_are_up() {
    let place = Place::new();
    let none = place.cli(&["health-check"]).await;
    assert_eq!(none.status.code(), Some(1));
    assert!(none.stdout.contains("procmond         down"), "{}", none.stdout);
    assert!(none.stdout.contains("daemoneye-agent  down"), "{}", none.stdout);

    let procmond = place.start_procmond().await;
    let half = place.cli(&["health-check"]).await;
    assert_eq!(half.status.code(), Some(1));
    assert!(half.stdout.contains("procmond         serving"), "{}", half.stdout);

    let agent = place.start_agent(&[]).await;
    let both = place.cli(&["health-check"]).await.success();
    assert!(!both.contains("down"), "{both}");

    let table = place.cli(&["health-check", "--verbose"]).await.success();
    // A pipe is no file whose permissions could be looked at.
    let permissions = if cfg!(unix) { "0600" } else { "unknown" };
    for expected in ["Round trip", "Uptime", permissions, env!("CARGO_PKG_VERSION"), &agent.id().to_string()]
    {
        assert!(table.contains(expected), "{expected} is not in {table}");
    }
    assert!(agent.stop().await.success());
    assert!(procmond.stop().await.success());
    assert!(!Path::new(&place.procmond()).exists());
    assert!(!Path::new(&place.agent()).exists());
}

#[tokio::test]
async fn watch_shows_starts_and_exits() {
    let place = Place::new();
    let procmond = place.start_procmond().await;
    let mut watch = place.watch(&["--executable", place.path("*").to_str().unwrap()]).await;
    let (_, mut child) = place.run_bystander("innocent");
    let pid = child.id().unwrap();
    watch.line_with(&format!("started  {pid:>7} innocent")).await;
    child.kill().await.unwrap();
    watch.line_with(&format!("exited   {pid:>7} innocent")).await;
    assert!(procmond.stop().await.success());
    assert_eq!(watch.ended().await.code(), Some(1));
}

// Only Linux tells that the file of a process has gone while it runs.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn watch_shows_changes() {
    let place = Place::new();
    let procmond = place.start_procmond().await;
    let mut watch = place.watch(&["--executable", place.path("*").to_str().unwrap()]).await;

    let (program, mut child) = place.run_bystander("innocent");
    let (pid, program) = (child.id().unwrap(), program.to_str().unwrap());
    assert_eq!(watch.line().await, format!("started  {pid:>7} innocent {program} 600"));
    std::fs::remove_file(program).unwrap();
    assert_eq!(watch.line().await, format!("changed  {pid:>7} innocent (deleted) {program} 600"));
    child.kill().await.unwrap();
    // A look at the moment of its end can see it without its executable.
    watch.line_with(&format!("exited   {pid:>7} innocent ")).await;

    assert!(procmond.stop().await.success());
    assert_eq!(watch.ended().await.code(), Some(1));
}

#[tokio::test]
async fn hash_verifies_a_file_with_procmonds_eyes() {
    let place = Place::new();
    let _procmond = place.start_procmond().await;
    let file = place.path("abc");
    std::fs::write(&file, "abc").unwrap();
    let path = file.to_str().unwrap();
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    assert_eq!(place.cli(&["hash", path]).await.success(), format!("{abc}  {path}\n"));
    place.cli(&["hash", path, "--expect", abc]).await.success();
    assert_eq!(
        place.cli(&["hash", path, "--expect", "00"]).await.failure(),
        format!("daemoneye-cli: {path} has the sha256 hash {abc}, not the expected 00\n")
    );
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_the_file() {
    let place = Place::new().with_agent("interval: 5");
    let error = place.cli(&["processes"]).await.failure();
    assert!(error.contains("daemoneye.yaml"), "{error}");
    assert!(error.contains("interval"), "{error}");
}
