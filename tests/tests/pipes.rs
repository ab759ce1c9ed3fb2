//! Named pipes, on Windows or under wine: every kind of call, who is told what of whom, busy pipes, and ends.
//!
//! What can't be tested: that another user is kept out (there is one user, and wine enforces no access list; what the
//! list says is a unit test beside the code that makes it), and that another machine is.

#![cfg(windows)]
#![expect(clippy::unwrap_used, reason = "a test that panics says why")]

use std::io;
use std::time::{Duration, Instant};

use ipc_runtime::{Channel, ChannelState, Code, IpcConfig, IpcError, Request, Server, Shutdown};
use ipc_tests::interop::cases::Case;
use ipc_tests::interop::proto::{Empty, SimpleRequest, TestServiceClient, TestServiceServer};
use ipc_tests::interop::service::Interop;
use ipc_tests::wire::{self, Checksum, Open};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient, ServerOptions};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(name: &str) -> IpcConfig {
    let endpoint_path = format!(r"\\.\pipe\ipc-tests\{}-{name}", std::process::id());
    IpcConfig { endpoint_path, ..IpcConfig::default() }
}

/// A server that serves until its sender is dropped.
async fn serve(config: &IpcConfig) -> (oneshot::Sender<()>, JoinHandle<Result<Shutdown, IpcError>>) {
    let builder =
        Server::builder().drain_timeout(Duration::ZERO).add_service(TestServiceServer::new(Interop));
    let server = builder.bind(config).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    (stop, tokio::spawn(server.serve_with_shutdown(stopped)))
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("what should be over long ago")
}

/// A client that says nothing yet. The server may be making its next instance.
async fn raw_client(config: &IpcConfig) -> NamedPipeClient {
    soon(async {
        loop {
            match ClientOptions::new().open(&config.endpoint_path) {
                Ok(pipe) => return pipe,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

async fn answers(config: &IpcConfig) {
    let client = TestServiceClient::new(Channel::new(config).unwrap());
    soon(client.empty_call(Empty {})).await.unwrap();
}

#[tokio::test]
async fn all_cases_pass_over_a_pipe() {
    let config = config("cases");
    let (_stop, _server) = serve(&config).await;
    let channel = Channel::new(&config).unwrap();
    for case in Case::all() {
        assert_eq!(case.run(&channel).await, Ok(()), "{case}");
    }
}

#[tokio::test]
async fn the_pipe_has_the_name_that_was_given_and_belongs_to_this_user() {
    let config = config("name");
    let (_stop, _server) = serve(&config).await;
    drop(raw_client(&config).await);
    let channel = soon(Channel::connect(&config)).await.unwrap();
    let server = channel.peer_info().unwrap();
    let sid = server.sid.unwrap();
    assert_eq!(
        IpcConfig::for_user("app", "server").unwrap().endpoint_path,
        format!(r"\\.\pipe\app-{sid}\server")
    );
    assert_eq!((server.pid, server.uid), (Some(std::process::id()), None));
}

#[tokio::test]
async fn a_second_server_of_the_same_pipe_is_refused() {
    if std::env::var_os("WINDOWS_CHECK_WINE").is_some() {
        eprintln!(
            "skipped: wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE, so nothing refuses the second server"
        );
        return;
    }
    let config = config("second");
    let (_stop, _server) = serve(&config).await;
    let error = Server::builder().bind(&config).await.unwrap_err();
    let words = "another server has this pipe; stop it or choose another endpoint_path";
    assert_eq!(error.to_string(), format!("binding {}: {words}", config.endpoint_path));
}

#[tokio::test]
async fn a_call_to_a_pipe_that_nobody_has_made_fails_at_once() {
    let client = TestServiceClient::new(Channel::new(&config("nobody")).unwrap());
    let error = soon(client.empty_call(Empty {})).await.unwrap_err();
    assert_eq!((error.code(), error.request_sent()), (Code::Unavailable, false));
    let words = error.to_string();
    let remedy = "; no server has made this pipe: start it, or correct endpoint_path";
    assert!(words.ends_with(remedy) && !words.contains("socket"), "{error}");
}

#[tokio::test]
async fn clients_that_connect_and_leave_block_no_instance() {
    let config = config("leave");
    let (_stop, _server) = serve(&config).await;
    for _ in 0..20 {
        drop(raw_client(&config).await);
    }
    answers(&config).await;
}

#[tokio::test]
async fn one_that_stays_silent_leaves_the_pipe_to_others() {
    let config = config("silent");
    let (_stop, _server) = serve(&config).await;
    let _silent = raw_client(&config).await;
    answers(&config).await;
}

/// With one blocking thread that is taken, waiting must not need another.
fn without_blocking_threads<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || held.recv());
    let outcome = runtime.block_on(test);
    drop(release);
    outcome
}

#[test]
fn a_busy_pipe_is_waited_for_within_the_limit() {
    without_blocking_threads(async {
        let config = IpcConfig { read_timeout_ms: 300, ..config("busy") };
        let one = ServerOptions::new().max_instances(1).create(&config.endpoint_path).unwrap();
        let _client = raw_client(&config).await;
        let client = TestServiceClient::new(Channel::new(&config).unwrap());
        let call = client.empty_call(Request::new(Empty {}).with_timeout(PATIENCE));
        let error = soon(call).await.unwrap_err();
        assert_eq!((error.code(), error.request_sent()), (Code::Unavailable, false));
        assert!(error.to_string().contains("connecting took longer than 300 ms"), "{error}");
        drop(one);
    });
}

#[test]
fn a_busy_pipe_is_waited_for_no_longer_than_the_call_may_take() {
    without_blocking_threads(async {
        let config = config("busy-call");
        let _one = ServerOptions::new().max_instances(1).create(&config.endpoint_path).unwrap();
        let _client = raw_client(&config).await;
        let client = TestServiceClient::new(Channel::new(&config).unwrap());
        let limit = Duration::from_millis(100);
        let begun = Instant::now();
        let error = soon(client.empty_call(Request::new(Empty {}).with_timeout(limit))).await.unwrap_err();
        assert_eq!((error.code(), error.request_sent()), (Code::DeadlineExceeded, false), "{error}");
        // Without the call's limit it would be the five seconds that connecting may take.
        let took = begun.elapsed();
        assert!((limit..Duration::from_secs(4)).contains(&took), "{took:?}");
    });
}

#[tokio::test]
async fn a_pipe_of_unknown_owner_is_told_nothing() {
    if std::env::var_os("WINDOWS_CHECK_WINE").is_none() {
        eprintln!("skipped: only under wine does a pipe that is made without an access list have no owner");
        return;
    }
    let config = config("owner");
    let mut strange = ServerOptions::new().create(&config.endpoint_path).unwrap();
    let client = TestServiceClient::new(Channel::new(&config).unwrap());
    let error = soon(client.empty_call(Empty {})).await.unwrap_err();
    assert_eq!((error.code(), error.request_sent()), (Code::Unavailable, false));
    assert!(error.to_string().contains("the pipe has no owner"), "{error}");
    soon(strange.connect()).await.unwrap();
    let mut heard = Vec::new();
    assert_eq!((soon(strange.read_to_end(&mut heard)).await.unwrap(), heard), (0, Vec::new()));
}

#[test]
fn a_pipe_that_is_free_again_is_taken_by_one_who_waits() {
    without_blocking_threads(async {
        let config = config("free");
        let one = ServerOptions::new().max_instances(1).create(&config.endpoint_path).unwrap();
        let taker = raw_client(&config).await;
        let channel = Channel::new(&config).unwrap();
        let mut changes = channel.state_changes();
        let client = TestServiceClient::new(channel);
        let call =
            tokio::spawn(
                async move { client.empty_call(Request::new(Empty {}).with_wait_for_ready(true)).await },
            );
        assert_eq!(soon(changes.next()).await, Some(ChannelState::Connecting));
        drop((one, taker));
        let (_stop, _server) = serve(&config).await;
        soon(call).await.unwrap().unwrap();
    });
}

#[test]
fn closing_does_not_wait_for_a_peer_that_does_not_read() {
    without_blocking_threads(async {
        // What can't be written is given up after this.
        let config = IpcConfig { write_timeout_ms: 1000, ..config("unread") };
        let (stop, server) = serve(&config).await;
        let mut client = raw_client(&config).await;
        let request = SimpleRequest { response_size: 500_000, ..SimpleRequest::default() };
        let open = Open {
            method: "/grpc.testing.TestService/UnaryCall".to_owned(),
            message: Some(request.encode_to_vec().into()),
            end_of_stream: true,
            ..Open::default()
        };
        let mut bytes = wire::frame_of(Checksum::Ieee, 0, wire::hello());
        bytes.extend(wire::frame_of(Checksum::Ieee, 1, open));
        client.write_all(&bytes).await.unwrap();
        // It has begun to answer, so more is on its way than the pipe holds.
        soon(client.readable()).await.unwrap();
        drop(stop);
        let limit = Duration::from_secs(5);
        tokio::time::timeout(limit, server).await.expect("an end").unwrap().unwrap();
    });
}

#[tokio::test]
async fn what_was_said_last_is_read_although_the_server_has_closed() {
    // A client asks a full server again for so long.
    let config = IpcConfig { max_connections: 1, read_timeout_ms: 1000, ..config("last-words") };
    let (_stop, _server) = serve(&config).await;
    let first = soon(Channel::connect(&config)).await.unwrap();
    let error = soon(Channel::connect(&config)).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    drop(first);
}

#[tokio::test]
async fn a_server_can_have_the_name_again() {
    let config = config("again");
    for _ in 0..3 {
        let (stop, server) = serve(&config).await;
        answers(&config).await;
        drop(stop);
        soon(server).await.unwrap().unwrap();
    }
    let gone = ClientOptions::new().open(&config.endpoint_path).map(drop).map_err(|error| error.kind());
    assert_eq!(gone, Err(io::ErrorKind::NotFound));
}
