//! daemoneye-agent: finds what it should, and outlives procmond.

use crate::support::{Daemon, Place};
use serde_json::Value;

/// The next alert of `rule` about process `pid`.
async fn alert(agent: &mut Daemon, rule: &str, pid: u32) -> Value {
    loop {
        let alert: Value = serde_json::from_str(&agent.line().await).unwrap();
        if alert["rule"] == rule && alert["pid"] == pid {
            return alert;
        }
    }
}

// Only Linux tells; Windows lets nobody delete the file of a program that runs.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_deleted_executable_is_reported_once_and_kept() {
    let place = Place::new().with_agent("interval_ms: 50\nrules: [deleted-executable]");
    let procmond = place.start_procmond().await;
    let mut agent = place.start_agent(&[]).await;
    let (program, child) = place.run_bystander("innocent");
    std::fs::remove_file(&program).unwrap();

    let pid = child.id().unwrap();
    let line = agent.line_with(&format!("pid {pid} ")).await;
    let expected = format!(
        "HIGH     deleted-executable pid {pid} (innocent): {} was deleted while it runs",
        program.display()
    );
    assert_eq!(line.split_once(' ').unwrap().1, expected);

    let json = place.cli(&["alerts", "--json", "--limit", "100"]).await.success();
    let alerts: Value = serde_json::from_str(&json).unwrap();
    let about: Vec<_> = alerts.as_array().unwrap().iter().filter(|alert| alert["pid"] == pid).collect();
    assert_eq!(about.len(), 1, "{json}");
    assert!(agent.stop().await.success());
    assert!(procmond.stop().await.success());
}

/// A folder in `place` that counts as a temporary one, and the settings that say so.
fn temporary_folder(place: &Place) -> String {
    let folder = place.path("temporary");
    std::fs::create_dir(&folder).unwrap();
    // Text in quotation marks, as Rust escapes it, is YAML.
    format!("interval_ms: 50\ntemporary_folders: [{folder:?}]")
}

#[tokio::test]
async fn every_other_rule_finds_its_process() {
    let place = Place::new();
    let settings = temporary_folder(&place);
    let _procmond = place.start_procmond().await;
    let (program, child) = place.run_bystander("temporary/[kworker]");
    let pid = child.id().unwrap();
    let hash = place.cli(&["hash", program.to_str().unwrap()]).await.success()[..64].to_uppercase();
    let place =
        place.with_agent(&format!("{settings}\nblocked_hashes: {{{hash}: the bystander of this test}}"));

    let mut agent = place.start_agent(&["--json"]).await;
    // One process's alerts come in the order of the rules. No program of Windows' has the name of a kernel thread:
    // they all end in .exe.
    let rules = ["temporary-folder", "kernel-thread-imitation", "blocked-hash"];
    for rule in rules.iter().filter(|rule| cfg!(unix) || **rule != "kernel-thread-imitation") {
        let alert = alert(&mut agent, rule, pid).await;
        assert_eq!(alert["executable_path"], program.to_str().unwrap());
    }
    assert!(agent.stop().await.success());
}

#[tokio::test]
async fn the_agent_outlives_procmond() {
    let place = Place::new();
    let settings = temporary_folder(&place);
    let place = place.with_agent(&format!("{settings}\nrules: [temporary-folder]"));
    let mut agent = place.start_agent(&["--json"]).await;
    let procmond = place.start_procmond().await;
    let (_, first) = place.run_bystander("temporary/first");
    alert(&mut agent, "temporary-folder", first.id().unwrap()).await;

    procmond.kill().await;
    let (_, second) = place.run_bystander("temporary/second");
    let procmond = place.start_procmond().await;
    alert(&mut agent, "temporary-folder", second.id().unwrap()).await;
    assert!(agent.stop().await.success());
    assert!(procmond.stop().await.success());
}

#[tokio::test]
async fn without_procmond_the_agent_is_degraded_and_says_why() {
    let place = Place::new().with_agent("interval_ms: 50");
    let _agent = place.start_agent(&[]).await;
    loop {
        let health = place.cli(&["health-check"]).await;
        assert_eq!(health.status.code(), Some(1));
        if health.stdout.contains("daemoneye-agent  degraded") {
            assert!(health.stdout.contains(&place.procmond()), "{}", health.stdout);
            break;
        }
    }
}
