//! One server for a path, and nothing at it that is not ours is touched.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use ipc_runtime::{Channel, IpcConfig, IpcError, Server};
use ipc_tests::actor::{ActorClient, ActorServer, Handlers, Nothing};
use ipc_tests::setup::place;
use rustix::fs::FlockOperation;

use crate::actors::{Actor, STRANGER, can_be_others};

async fn bind(config: &IpcConfig) -> Result<Server, IpcError> {
    Server::builder().add_service(ActorServer::new(Handlers::default())).bind(config).await
}

/// Binding must fail, with this kind and these words.
async fn refused(config: &IpcConfig, kind: ErrorKind, words: &str) {
    match bind(config).await.expect_err("a refusal") {
        IpcError::Io(error) => {
            let expected = format!("binding {}: {words}", config.endpoint_path);
            assert_eq!((error.kind(), error.to_string()), (kind, expected));
        }
        other => panic!("{other}"),
    }
}

/// What there is to know of a file without following it.
fn look(path: &str) -> (u64, u64, u32, u32, u64, i64) {
    let found = fs::symlink_metadata(path).expect("a file");
    (found.dev(), found.ino(), found.mode(), found.uid(), found.size(), found.ctime_nsec())
}

/// A socket that nobody listens on any more.
fn leave_stale(path: &str) {
    drop(UnixListener::bind(path).expect("a free path"));
}

fn exists(path: &str) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The process that answers at a path.
async fn who_serves(config: &IpcConfig) -> Option<u32> {
    let channel = Channel::connect(config).await.expect("a server");
    ActorClient::new(channel.clone()).who_am_i(Nothing {}).await.expect("an answer");
    channel.peer_info().expect("a connection").pid
}

#[tokio::test]
async fn a_second_server_learns_path_and_pid_of_the_first_which_notices_nothing() {
    let (config, _directory) = place();
    let first = Actor::serving(&config.endpoint_path).await;
    let before = look(&config.endpoint_path);
    let words = format!(
        "the server with pid {} has this endpoint; stop it or choose another endpoint_path",
        first.pid
    );
    refused(&config, ErrorKind::AddrInUse, &words).await;
    assert_eq!(look(&config.endpoint_path), before);
    assert_eq!(who_serves(&config).await, Some(first.pid));
    // And as two processes.
    let mut second = Actor::start(["serve", &config.endpoint_path]);
    second.says(&format!("error binding {}: {words}", config.endpoint_path)).await;
    assert_eq!(who_serves(&config).await, Some(first.pid));
    assert_eq!(first.finish().await, ["stopped"]);
    assert!(!exists(&config.endpoint_path));
}

#[tokio::test]
async fn two_servers_of_one_process_have_one_path_one_after_the_other() {
    let (config, _directory) = place();
    let first = bind(&config).await.expect("the path");
    let words = format!(
        "the server with pid {} has this endpoint; stop it or choose another endpoint_path",
        std::process::id()
    );
    refused(&config, ErrorKind::AddrInUse, &words).await;
    drop(first);
    bind(&config).await.expect("the path");
}

#[tokio::test]
async fn after_sigkill_the_next_server_binds() {
    let (config, _directory) = place();
    for _ in 0..10 {
        let server = Actor::serving(&config.endpoint_path).await;
        assert_eq!(who_serves(&config).await, Some(server.pid));
        server.kill().await;
        assert!(exists(&config.endpoint_path), "what this test is about");
    }
    let server = Actor::serving(&config.endpoint_path).await;
    assert_eq!(who_serves(&config).await, Some(server.pid));
}

#[tokio::test]
async fn a_stale_socket_is_touched_only_under_the_lock() {
    let (config, _directory) = place();
    leave_stale(&config.endpoint_path);
    let before = look(&config.endpoint_path);
    let lock = File::create(format!("{}.lock", config.endpoint_path)).expect("a file");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("a lock");
    let words = "another server has this endpoint; stop it or choose another endpoint_path";
    refused(&config, ErrorKind::AddrInUse, words).await;
    assert_eq!(look(&config.endpoint_path), before);
    drop(lock);
    let server = bind(&config).await.expect("the path");
    assert_ne!(look(&config.endpoint_path), before);
    drop(server);
}

#[tokio::test]
async fn a_lock_that_names_a_process_that_is_gone_does_not_blame_it() {
    let (config, _directory) = place();
    let gone = Actor::serving(&config.endpoint_path).await;
    let pid = gone.pid;
    gone.kill().await;
    // Another has just taken the lock and not said so yet.
    let path = format!("{}.lock", config.endpoint_path);
    let lock = File::options().write(true).open(path).expect("the lock that was left");
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("a lock");
    let says = async {
        fs::write(format!("{}.lock", config.endpoint_path), format!("{}\n", std::process::id()))
            .expect("a file");
    };
    let words = format!(
        "the server with pid {} has this endpoint; stop it or choose another endpoint_path",
        std::process::id()
    );
    assert_ne!(pid, std::process::id());
    tokio::join!(refused(&config, ErrorKind::AddrInUse, &words), says);
}

#[tokio::test]
async fn a_lock_that_is_a_link_is_not_followed() {
    let (config, directory) = place();
    let elsewhere = directory.path().join("precious");
    fs::write(&elsewhere, "keep").expect("a file");
    symlink(&elsewhere, format!("{}.lock", config.endpoint_path)).expect("a link");
    let error = bind(&config).await.expect_err("a refusal").to_string();
    assert!(error.ends_with("cannot take its lock file (its name with .lock added)"), "{error}");
    assert_eq!(fs::read_to_string(elsewhere).expect("text"), "keep");
}

#[tokio::test]
async fn a_server_that_takes_no_lock_is_not_displaced_either() {
    let (config, _directory) = place();
    let live = UnixListener::bind(&config.endpoint_path).expect("a free path");
    let before = look(&config.endpoint_path);
    let words =
        "a program listens there that does not take the lock; stop it or choose another endpoint_path";
    refused(&config, ErrorKind::AddrInUse, words).await;
    assert_eq!(look(&config.endpoint_path), before);
    // Each question whether it listens was a connection, and nothing was said on it.
    let mut questions = 0;
    live.set_nonblocking(true).expect("a listener");
    while let Ok((mut asked, _)) = live.accept() {
        assert_eq!(std::io::Read::read(&mut asked, &mut [0; 1]).expect("its end"), 0);
        questions += 1;
    }
    assert_eq!(questions, 8);
}

#[tokio::test]
async fn a_server_that_is_ending_is_waited_for() {
    let (config, _directory) = place();
    let ending = tokio::net::UnixListener::bind(&config.endpoint_path).expect("a free path");
    let ends = async {
        drop(ending.accept().await.expect("a question"));
        drop(ending);
    };
    let (bound, ()) = tokio::join!(bind(&config), ends);
    bound.expect("a free path");
}

type Make = fn(&Path);

#[tokio::test]
async fn what_is_no_socket_is_refused_untouched() {
    let there =
        |kind: &str| format!("there is a {kind} at this path; move it away or choose another endpoint_path");
    let make: [(&str, Make); 5] = [
        ("regular file", |path| fs::write(path, "keep").expect("a file")),
        ("directory", |path| fs::create_dir(path).expect("a directory")),
        ("symbolic link", |path| symlink("/nowhere/at/all", path).expect("a link")),
        ("symbolic link", |path| {
            let socket = path.with_extension("stale");
            leave_stale(socket.to_str().expect("text"));
            symlink(socket, path).expect("a link");
        }),
        ("file that is no socket", |path| {
            let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).expect("a fifo");
        }),
    ];
    for (kind, make) in make {
        let (config, directory) = place();
        make(Path::new(&config.endpoint_path));
        let before = look(&config.endpoint_path);
        refused(&config, ErrorKind::AlreadyExists, &there(kind)).await;
        assert_eq!(look(&config.endpoint_path), before);
        if kind == "regular file" {
            assert_eq!(fs::read_to_string(&config.endpoint_path).expect("text"), "keep");
        }
        let stale = directory.path().join("probe.stale");
        assert!(!stale.exists() || fs::metadata(stale).expect("it").file_type().is_socket());
    }
}

#[tokio::test]
async fn somebody_elses_socket_is_refused_untouched() {
    if !can_be_others() {
        return;
    }
    let (config, _directory) = place();
    leave_stale(&config.endpoint_path);
    std::os::unix::fs::chown(&config.endpoint_path, Some(STRANGER), None).expect("root");
    let before = look(&config.endpoint_path);
    let words = format!("there is a socket of user {STRANGER}; have its owner remove it");
    refused(&config, ErrorKind::PermissionDenied, &words).await;
    assert_eq!(look(&config.endpoint_path), before);
}

#[tokio::test]
async fn on_shutdown_the_path_goes_only_if_it_is_still_ours() {
    let (config, _directory) = place();
    let server = Actor::serving(&config.endpoint_path).await;
    assert_eq!(server.finish().await, ["stopped"]);
    assert!(!exists(&config.endpoint_path));

    // Somebody has put a file there meanwhile, or a socket of the same kind.
    for replace in [|path: &str| fs::write(path, "keep").expect("a file"), leave_stale] {
        let server = Actor::serving(&config.endpoint_path).await;
        fs::rename(&config.endpoint_path, format!("{}.moved", config.endpoint_path)).expect("a socket");
        replace(&config.endpoint_path);
        let before = look(&config.endpoint_path);
        assert_eq!(server.finish().await, ["stopped"]);
        assert_eq!(look(&config.endpoint_path), before);
        fs::remove_file(&config.endpoint_path).expect("what was put there");
    }
}
