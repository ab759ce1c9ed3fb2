//! `daemoneye-cli ipc test`: against a daemon that is well, and against every kind of trouble.

use ipc_runtime::{IpcConfig, Server};

use crate::support::{Ended, Place};

async fn test(place: &Place, flags: &[&str]) -> Ended {
    place.cli(&[&["ipc", "test", "--calls", "5"], flags].concat()).await
}

#[tokio::test]
async fn every_payload_comes_back_on_both_checksums() {
    for crc in ["ieee", "castagnoli"] {
        let place = Place::new();
        let procmond = place.start_procmond_with(&["--crc", crc]).await;
        let table = test(&place, &["--crc", crc]).await.success();
        for size in ["0 B", "64 B", "16.0 KiB", "256 KiB", "1.00 MiB", "0 B, 16 at once"] {
            assert!(table.contains(size), "{size} is not in {table}");
        }
        let last = table.lines().last().unwrap();
        let endpoint = place.procmond();
        assert_eq!(
            last,
            format!(
                "ok: 45 round trips to procmond at {endpoint} came back as they were sent ({crc} checksums)"
            )
        );
        assert!(procmond.stop().await.success());
    }
}

#[tokio::test]
async fn a_daemon_that_does_not_run_is_told_from_one_that_does() {
    let place = Place::new();
    let endpoint = place.procmond();
    let none = format!(
        "daemoneye-cli: procmond is not running: there is no {endpoint}\n  remedy: start it with \
         `procmond --endpoint {endpoint}`, or name its endpoint with --endpoint\n"
    );
    assert_eq!(test(&place, &[]).await.failure(), none);
    let procmond = place.start_procmond().await;
    test(&place, &[]).await.success();
    assert!(procmond.stop().await.success());
    assert_eq!(test(&place, &[]).await.failure(), none);
}

// A pipe goes with its server, however that ended.
#[cfg(unix)]
#[tokio::test]
async fn a_socket_that_was_left_behind_is_named() {
    let place = Place::new();
    let endpoint = place.procmond();
    place.start_procmond().await.kill().await;
    assert_eq!(
        test(&place, &[]).await.failure(),
        format!(
            "daemoneye-cli: procmond is not running: {endpoint} is left over from one that did not end \
             cleanly\n  remedy: start procmond again; it replaces the socket\n"
        )
    );
    let procmond = place.start_procmond().await;
    test(&place, &[]).await.success();
    assert!(procmond.stop().await.success());
}

// No file can have a pipe's name.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_no_socket_is_named() {
    let place = Place::new();
    let endpoint = place.procmond();
    std::fs::write(&endpoint, "").unwrap();
    assert_eq!(
        test(&place, &[]).await.failure(),
        format!(
            "daemoneye-cli: {endpoint} is not a socket\n  remedy: name procmond's endpoint with --endpoint, \
             or move that file away\n"
        )
    );
}

#[tokio::test]
async fn a_wrong_checksum_names_the_right_one() {
    let place = Place::new();
    let _procmond = place.start_procmond_with(&["--crc", "castagnoli"]).await;
    let error = test(&place, &["--crc", "ieee"]).await.failure();
    let endpoint = place.procmond();
    assert!(
        error.starts_with(&format!(
            "daemoneye-cli: procmond turns this connection away: refused by {endpoint}: "
        )),
        "{error}"
    );
    assert!(error.contains("ieee") && error.contains("castagnoli"), "{error}");
    assert!(
        error.ends_with(
            "\n  remedy: pass `--crc castagnoli`, or set ipc.crc32_variant to the same on both sides\n"
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_full_daemon_is_named_with_its_limit() {
    let place = Place::new();
    let _procmond = place.start_procmond_with(&["--max-connections", "1"]).await;
    let _agent = place.start_agent(&["--json"]).await;
    // The agent's connection is the one that there may be; it is there once the agent has looked.
    loop {
        let health = place.cli(&["health-check"]).await;
        if health.stdout.contains("daemoneye-agent  serving") {
            break;
        }
    }
    let error = test(&place, &[]).await.failure();
    let endpoint = place.procmond();
    assert!(
        error.starts_with(&format!(
            "daemoneye-cli: procmond turns this connection away: refused by {endpoint}: "
        )),
        "{error}"
    );
    assert!(
        error.ends_with("\n  remedy: end other clients, or raise ipc.max_connections and restart procmond\n"),
        "{error}"
    );
}

#[tokio::test]
async fn something_silent_is_reported_as_not_answering() {
    let place = Place::new();
    let endpoint = place.procmond();
    // It listens, and serves nobody.
    let config = IpcConfig { endpoint_path: endpoint.clone(), ..IpcConfig::default() };
    let _silent = Server::builder().bind(&config).await.unwrap();
    let error = test(&place, &["--read-timeout-ms", "200"]).await.failure();
    assert!(
        error.starts_with(&format!("daemoneye-cli: procmond at {endpoint} does not answer: ")),
        "{error}"
    );
    assert!(
        error
            .ends_with("\n  remedy: see whether procmond is stopped or busy, or raise ipc.read_timeout_ms\n"),
        "{error}"
    );
}

// A pipe has no mode.
#[cfg(unix)]
#[tokio::test]
async fn another_users_socket_is_named_with_its_mode() {
    use std::os::unix::fs::PermissionsExt;

    let place = Place::new();
    let _procmond = place.start_procmond().await;
    let endpoint = place.procmond();
    std::fs::set_permissions(&endpoint, PermissionsExt::from_mode(0o000)).unwrap();
    let ended = test(&place, &[]).await;
    if ended.status.success() {
        // Root may connect to anything.
        assert!(std::process::Command::new("id").arg("-u").output().unwrap().stdout == b"0\n");
        return;
    }
    let error = ended.failure();
    assert!(error.contains(&format!("may not connect to {endpoint}, which belongs to ")), "{error}");
    assert!(error.contains("with mode 0000"), "{error}");
}
