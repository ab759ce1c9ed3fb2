//! Servers on sockets that others made, and descriptors that stay where they belong.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;

use ipc_runtime::{Channel, IpcConfig, IpcError, Server};
use ipc_tests::actor::{ActorClient, ActorServer, Handlers, Nothing};
use ipc_tests::setup::place;
use tokio::process::Command;

use crate::actors::Actor;

/// What systemd does for a service with a socket: the descriptor is number 3, and two variables say so.
const AS_SYSTEMD: &str = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve-activated 3<&0 0</dev/null"#;

fn activated(script: &str, descriptor: impl Into<OwnedFd>) -> Actor {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_actor")]).stdin(Stdio::from(descriptor.into()));
    Actor::of(&mut command)
}

async fn answers(config: &IpcConfig) -> Option<u32> {
    let channel = Channel::connect(config).await.expect("a server");
    ActorClient::new(channel.clone()).who_am_i(Nothing {}).await.expect("an answer");
    channel.peer_info().and_then(|peer| peer.pid)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_takes_the_socket_that_systemd_made() {
    let (config, _directory) = place();
    let listener = UnixListener::bind(&config.endpoint_path).expect("a free path");
    // It may wait in the queue before the server runs.
    let early = tokio::spawn({
        let config = config.clone();
        async move { Channel::connect(&config).await.expect("a server").peer_info() }
    });
    let mut server = activated(AS_SYSTEMD, listener);
    server.says("activated").await;
    early.await.expect("no panic").expect("a connection");
    answers(&config).await;
    server.kill().await;
    assert!(Path::new(&config.endpoint_path).exists(), "the socket is systemd's");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn without_activation_there_is_no_such_server() {
    let mut plain = Actor::start(["serve-activated"]);
    plain.says("not activated").await;
    // Meant for another process, or for nobody that is named.
    for pid in ["LISTEN_PID=1", "LISTEN_PID=", "LISTEN_PID=me", "unset LISTEN_PID;"] {
        let (config, _directory) = place();
        let listener = UnixListener::bind(&config.endpoint_path).expect("a free path");
        let script = format!(r#"{pid} LISTEN_FDS=1 exec "$0" serve-activated 3<&0 0</dev/null"#);
        activated(&script, listener).says("not activated").await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_descriptor_that_is_no_listening_socket_is_refused() {
    let endpoint = IpcConfig::default().endpoint_path;
    let file = std::fs::File::open("/dev/null").expect("a file");
    let words = format!("error taking the socket of {endpoint} from systemd: fd 3 is not a socket");
    activated(AS_SYSTEMD, file).says(&words).await;
    let (connected, _other) = UnixStream::pair().expect("a pair");
    let words = format!("error listening on the given socket for {endpoint}: it does not listen");
    activated(AS_SYSTEMD, connected).says(&words).await;
}

#[tokio::test]
async fn a_server_serves_on_a_listener_of_the_callers() {
    let (config, _directory) = place();
    let listener = UnixListener::bind(&config.endpoint_path).expect("a free path");
    let builder = Server::builder().add_service(ActorServer::new(Handlers::default()));
    let server = Server::from_listener(builder, listener, &config).expect("a server");
    let serving = tokio::spawn(server.serve());
    assert_eq!(answers(&config).await, Some(std::process::id()));
    serving.abort();
    assert!(serving.await.is_err_and(|error| error.is_cancelled()));
    assert!(Path::new(&config.endpoint_path).exists(), "the socket is the caller's");

    let bad = IpcConfig { max_connections: 0, ..config };
    let (listener, _other) = UnixStream::pair().expect("a pair");
    let listener = UnixListener::from(OwnedFd::from(listener));
    let error = Server::from_listener(Server::builder(), listener, &bad).expect_err("a refusal");
    assert!(matches!(&error, IpcError::Io(error) if error.kind() == std::io::ErrorKind::InvalidInput));
    assert_eq!(error.to_string(), "max_connections is 0; set it to at least 1");
}

/// The descriptors of any program that is started here: input, output, errors, the directory that is being listed, and
/// what the tests themselves were started with.
async fn inherited() -> String {
    let child = Command::new("/bin/sh").args(["-c", "echo /dev/fd/*"]).output().await.expect("a shell");
    String::from_utf8(child.stdout).expect("text").trim().to_owned()
}

#[tokio::test]
async fn no_descriptor_gets_into_child_processes() {
    let (config, _directory) = place();
    let mut actor = Actor::start(["serve-and-list-descriptors", &config.endpoint_path]);
    let own: usize = actor.line().await.parse().expect("a number");
    assert!(own >= 10, "listener, lock, directory, two ends of a connection, the runtime's: {own}");
    actor.says(&inherited().await).await;
    actor.finish().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_descriptor_of_systemds_gets_into_child_processes() {
    let (config, _directory) = place();
    let listener = UnixListener::bind(&config.endpoint_path).expect("a free path");
    let script = r#"LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" take-and-list-descriptors 3<&0 0</dev/null"#;
    activated(script, listener).says(&inherited().await).await;
}
