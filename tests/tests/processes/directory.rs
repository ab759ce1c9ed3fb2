//! The socket's directory, its mode, its name.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_runtime::{Channel, IpcConfig, IpcError, Server};
use ipc_tests::actor::{ActorServer, Handlers};
use tempfile::TempDir;

use crate::actors::{Actor, STRANGER, can_be_others, command, set_mode};

fn config(path: &Path) -> IpcConfig {
    IpcConfig { endpoint_path: path.to_str().expect("text").to_owned(), ..IpcConfig::default() }
}

async fn bind(path: &Path) -> Result<Server, IpcError> {
    Server::builder().add_service(ActorServer::new(Handlers::default())).bind(&config(path)).await
}

async fn refused(path: &Path, kind: ErrorKind, words: &str) {
    match bind(path).await.expect_err("a refusal") {
        IpcError::Io(error) => assert_eq!((error.kind(), error.to_string().as_str()), (kind, words)),
        other => panic!("{other}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("a file").permissions().mode() & 0o7777
}

fn temporary() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_owned();
    (directory, path)
}

#[tokio::test]
async fn a_missing_directory_is_made_for_the_own_user_alone() {
    let (_directory, root) = temporary();
    let path = root.join("a/b/server.sock");
    let server = bind(&path).await.expect("the path");
    assert_eq!([mode(&root.join("a")), mode(&root.join("a/b")), mode(&path)], [0o700, 0o700, 0o600]);
    assert_eq!(mode(&root.join("a/b/server.sock.lock")), 0o600);
    drop(server);
}

#[tokio::test]
async fn modes_are_right_whatever_the_umask() {
    let (_directory, root) = temporary();
    // Only root can use a directory that is made without any rights, to give it some.
    let none = if can_be_others() { &["0777"][..] } else { &[] };
    for umask in ["0", "022", "077"].iter().chain(none) {
        for (kind, options, expected) in [
            ("private", &[][..], [0o700, 0o700, 0o600]),
            ("open", &["--allow-uid", "7"][..], [0o711, 0o711, 0o666]),
        ] {
            let above = root.join(format!("{kind}-{umask}"));
            let path = above.join("own/server.sock");
            let mut server =
                Actor::start(["--umask", umask, "serve", path.to_str().expect("text")].iter().chain(options));
            server.says("ready").await;
            let found = [mode(&above), mode(&above.join("own")), mode(&path)];
            assert_eq!(found, expected, "{kind}, umask {umask}");
            server.finish().await;
        }
    }
}

/// All modes that a socket has been seen with, looked at without a pause.
fn watch(path: PathBuf) -> impl FnOnce() -> Vec<u32> {
    let stop = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&stop);
    let watching = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while !watched.load(Ordering::Relaxed) {
            if let Ok(found) = fs::symlink_metadata(&path) {
                let mode = found.mode() & 0o7777;
                if !seen.contains(&mode) {
                    seen.push(mode);
                }
            }
        }
        seen
    });
    move || {
        stop.store(true, Ordering::Relaxed);
        watching.join().expect("no panic")
    }
}

#[tokio::test]
async fn nobody_else_could_connect_at_any_instant_whatever_the_umask() {
    for umask in ["0", "077", "0777"] {
        let (_directory, root) = temporary();
        let path = root.join("server.sock");
        let mut seen = Vec::new();
        // On a loaded machine the watcher may have slept through a round.
        for _ in 0..50 {
            let watched = watch(path.clone());
            let args = ["--umask", umask, "flicker", path.to_str().expect("text"), "500"];
            let mut server = Actor::start(args);
            server.says("done").await;
            server.finish().await;
            seen = watched();
            if !seen.is_empty() {
                break;
            }
        }
        seen.sort_unstable();
        // Less than 0600 is what the umask 0777 leaves for a moment.
        let fine = seen == [0o600] || umask == "0777" && seen.iter().all(|mode| [0, 0o600].contains(mode));
        assert!(fine && !seen.is_empty(), "umask {umask}: {seen:?}");
    }
}

#[tokio::test]
async fn a_directory_that_others_may_write_in_is_refused_not_repaired() {
    let (_directory, root) = temporary();
    for writable in [0o770, 0o707, 0o720, 0o702, 0o777, 0o1777] {
        let parent = root.join(format!("{writable:o}"));
        fs::create_dir(&parent).expect("a directory");
        set_mode(&parent, writable);
        let path = parent.join("server.sock");
        let words = format!(
            "binding {}: others may write in its directory (mode {writable:o}); use a directory of its own, which is \
             made with mode 0700 if it does not exist yet",
            path.display()
        );
        refused(&path, ErrorKind::PermissionDenied, &words).await;
        assert_eq!(mode(&parent), writable);
        assert_eq!(fs::read_dir(&parent).expect("a directory").count(), 0, "no lock, no socket");
    }
    // Reading is harmless.
    let parent = root.join("755");
    fs::create_dir(&parent).expect("a directory");
    set_mode(&parent, 0o755);
    bind(&parent.join("server.sock")).await.expect("the path");
    assert_eq!(mode(&parent), 0o755);
}

#[tokio::test]
async fn somebody_elses_directory_is_refused() {
    if !can_be_others() {
        return;
    }
    let (_directory, root) = temporary();
    let parent = root.join("theirs");
    fs::create_dir(&parent).expect("a directory");
    std::os::unix::fs::chown(&parent, Some(STRANGER), None).expect("root");
    let path = parent.join("server.sock");
    let words = format!(
        "binding {}: its directory belongs to user {STRANGER}; use a directory of your own, such as one that does not \
         exist yet",
        path.display()
    );
    refused(&path, ErrorKind::PermissionDenied, &words).await;
    assert_eq!(fs::read_dir(&parent).expect("a directory").count(), 0);
}

#[tokio::test]
async fn a_link_to_a_directory_is_judged_by_what_it_leads_to() {
    let (_directory, root) = temporary();
    for (name, target_mode) in [("good", 0o700), ("bad", 0o777)] {
        let target = root.join(name);
        fs::create_dir(&target).expect("a directory");
        set_mode(&target, target_mode);
        symlink(&target, root.join(format!("to-{name}"))).expect("a link");
    }
    let server = bind(&root.join("to-good/server.sock")).await.expect("the path");
    UnixStream::connect(root.join("good/server.sock")).expect("somebody listens");
    drop(server);
    let path = root.join("to-bad/server.sock");
    let words = format!(
        "binding {}: others may write in its directory (mode 777); use a directory of its own, which is made with \
         mode 0700 if it does not exist yet",
        path.display()
    );
    refused(&path, ErrorKind::PermissionDenied, &words).await;
    // A link that leads nowhere is not followed to make something there.
    symlink(root.join("nowhere"), root.join("to-nowhere")).expect("a link");
    let error = bind(&root.join("to-nowhere/server.sock")).await.expect_err("a refusal").to_string();
    assert!(error.ends_with("No such file or directory (os error 2); cannot open its directory"), "{error}");
    assert!(!root.join("nowhere").exists());
}

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_said() {
    let (_directory, root) = temporary();
    fs::write(root.join("file"), "keep").expect("a file");
    let error = bind(&root.join("file/server.sock")).await.expect_err("a refusal").to_string();
    assert!(error.ends_with("Not a directory (os error 20); cannot open its directory"), "{error}");
}

/// A path of exactly so many bytes.
fn long(root: &Path, bytes: usize) -> PathBuf {
    let name = bytes - root.as_os_str().len() - 1;
    root.join("s".repeat(name))
}

#[tokio::test]
async fn a_path_is_as_long_as_the_platform_has_room_for() {
    let (limit, over) = if cfg!(target_os = "linux") { (107, 108) } else { (103, 104) };
    let (_directory, root) = temporary();
    let path = long(&root, limit);
    let server = bind(&path).await.expect("a path that just fits");
    let serving = tokio::spawn(server.serve());
    Channel::connect(&config(&path)).await.expect("a client that just fits");
    serving.abort();

    let path = long(&root, over);
    let words = format!(
        "endpoint_path {:?} has {over} bytes, a socket path at most {limit}; use a shorter one",
        path.display().to_string()
    );
    refused(&path, ErrorKind::InvalidInput, &words).await;
    assert_eq!(Channel::new(&config(&path)).expect_err("a refusal").to_string(), words);
    assert!(!path.exists());
}

#[tokio::test]
async fn paths_that_are_none_are_refused_by_both_sides() {
    for (path, words) in [
        ("", "endpoint_path is empty; set it to a socket path"),
        ("/tmp/a\0b", "endpoint_path \"/tmp/a\\0b\" has a NUL character; remove it"),
    ] {
        refused(Path::new(path), ErrorKind::InvalidInput, words).await;
        assert_eq!(Channel::new(&config(Path::new(path))).expect_err("a refusal").to_string(), words);
        let fallback = Channel::builder(&IpcConfig::default()).fallback_endpoint(path).build();
        assert_eq!(fallback.expect_err("a refusal").to_string(), words);
    }
    refused(Path::new("/"), ErrorKind::InvalidInput, "endpoint_path \"/\" names no file").await;
    refused(Path::new("/tmp/.."), ErrorKind::InvalidInput, "endpoint_path \"/tmp/..\" names no file").await;
}

#[test]
fn the_system_wide_default_is_below_var_run() {
    let config = IpcConfig::for_app("daemoneye", "procmond").expect("names");
    assert_eq!(config, IpcConfig::default());
    assert_eq!(config.endpoint_path, "/var/run/daemoneye/procmond.sock");
    let error = IpcConfig::for_app("daemon/eye", "procmond").expect_err("a refusal").to_string();
    assert_eq!(
        error,
        "the application \"daemon/eye\" can't be part of a path; use letters, digits, '-', '_' and '.', and no '.' at \
         the front"
    );
}

#[tokio::test]
async fn a_users_default_is_below_xdg_runtime_dir_or_else_a_directory_of_its_own() {
    let uid = rustix::process::geteuid().as_raw();
    for (runtime, expected) in [
        (Some("/run/user/1000"), "/run/user/1000/app/server.sock".to_owned()),
        (None, format!("/fallback/app-{uid}/server.sock")),
        (Some(""), format!("/fallback/app-{uid}/server.sock")),
        (Some("run/user"), format!("/fallback/app-{uid}/server.sock")),
    ] {
        let mut command = command();
        command.env("TMPDIR", "/fallback").env_remove("XDG_RUNTIME_DIR").args([
            "path-for-user",
            "app",
            "server",
        ]);
        if let Some(runtime) = runtime {
            command.env("XDG_RUNTIME_DIR", runtime);
        }
        Actor::of(&mut command).says(&expected).await;
    }
}

#[tokio::test]
async fn the_fallback_for_a_user_is_not_taken_over_from_somebody_else() {
    if !can_be_others() {
        return;
    }
    let (_directory, root) = temporary();
    // Others may make things in the temporary directory, and have.
    set_mode(&root, 0o1777);
    let squatted = root.join(format!("app-{}", rustix::process::geteuid().as_raw()));
    fs::create_dir(&squatted).expect("a directory");
    std::os::unix::fs::chown(&squatted, Some(STRANGER), None).expect("root");
    let error = bind(&squatted.join("server.sock")).await.expect_err("a refusal").to_string();
    assert!(error.contains(&format!("its directory belongs to user {STRANGER}")), "{error}");
}
