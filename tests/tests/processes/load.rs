//! Connections that say nothing, say it slowly, or come in floods; too few descriptors; a full
//! queue of waiting connections.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ipc_runtime::{Channel, ChannelState, Code, IpcConfig, IpcError, Request, Server};
use ipc_tests::actor::{ActorClient, ActorServer, Handlers, Nothing};
use ipc_tests::clock::Clock;
use ipc_tests::raw::soon;
use ipc_tests::setup::{Real, hasty, place, text};
use ipc_tests::wire::{self, code};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::task::JoinHandle;

use crate::actors::{Actor, command};

/// Longer than any served client's call may take, whatever others do.
const NOTICEABLE: Duration = Duration::from_secs(1);

/// A served client that calls without a pause. Each call has its answer, in a time that nobody notices.
struct Served {
    calls: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Served {
    async fn start(config: &IpcConfig) -> Self {
        let actor = ActorClient::new(Channel::connect(config).await.expect("a server"));
        let (calls, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counter, stopped) = (Arc::clone(&calls), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let request = Request::new(Nothing {}).with_timeout(NOTICEABLE);
                actor.who_am_i(request).await.expect("an answer");
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { calls, stop, task }
    }

    /// Fails the test if any call has failed; returns how many there were.
    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        soon("the last call", self.task).await.expect("no panic");
        self.calls.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn silent_connections_have_a_cap_of_their_own_and_served_clients_do_not_notice() {
    let clock = Clock::stop();
    let real = Real::with(|config| config.max_connections = 2, |server| server).await;
    let client = real.client();
    client.echo(text(1)).await.expect("an answer");
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(real.silent().await);
        client.echo(text(1)).await.expect("an answer");
    }
    // The next is refused before anything is read, the served client is not.
    let refused = real.silent().await.ends_with(code::RESOURCE_EXHAUSTED).await;
    assert_eq!(refused.status.expect("why").message, "limit of 16 connections that have not said Hello");
    assert!(refused.retry_after_ms > 0);
    client.echo(text(1)).await.expect("an answer");
    // None of them stays for ever, and each makes room.
    clock.advance(5000).await;
    for peer in &mut silent {
        peer.ends_with(code::DEADLINE_EXCEEDED).await;
    }
    real.raw().await;
    client.echo(text(1)).await.expect("an answer");
}

#[tokio::test]
async fn a_byte_a_second_is_no_hello() {
    let clock = Clock::stop();
    let real = Real::start().await;
    let mut slow = real.silent().await;
    let hello = wire::frame_of(wire::Checksum::Ieee, 0, wire::hello());
    for byte in &hello[..5] {
        slow.write(&[*byte]).await;
        clock.advance(990).await;
        real.client().echo(text(1)).await.expect("an answer");
    }
    clock.advance(100).await;
    slow.ends_with(code::DEADLINE_EXCEEDED).await;
}

#[tokio::test]
async fn a_flood_of_connections_is_not_noticed_by_served_clients() {
    let (config, _directory) = place();
    let _server = Actor::serving(&config.endpoint_path).await;
    let served = Served::start(&config).await;
    let (path, calls) = (config.endpoint_path.clone(), Arc::clone(&served.calls));
    let flood = tokio::task::spawn_blocking(move || {
        let (mut kept, mut connections) = (VecDeque::new(), 0);
        // Until it has not been noticed often enough, unless it has been.
        let deadline = Instant::now() + Duration::from_secs(30);
        while (connections < 10_000 || calls.load(Ordering::Relaxed) < 200) && Instant::now() < deadline {
            // Some stay, most go at once.
            kept.push_back(UnixStream::connect(&path).expect("a queue that moves on"));
            connections += 1;
            if kept.len() > 40 {
                kept.pop_front();
            }
        }
        connections
    });
    let connections = soon("the end of a flood", flood).await.expect("no panic");
    let calls = served.stop().await;
    println!("{calls} calls beside {connections} connections");
    assert!(calls >= 200, "{calls}");
    let others = Channel::connect_or_wait(&config, Duration::from_secs(5)).await.expect("the server is well");
    ActorClient::new(others).who_am_i(Nothing {}).await.expect("an answer");
}

/// The processor time that a process has had.
#[cfg(target_os = "linux")]
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields: Vec<_> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn without_descriptors_accepting_neither_spins_nor_stops() {
    let (config, _directory) = place();
    let args = ["--descriptors", "40", "serve", &config.endpoint_path, "--connections", "1000", "--log"];
    let mut server = Actor::of(command().args(args).stdin(Stdio::piped()).stderr(Stdio::piped()));
    server.says("ready").await;
    let mut log = server.log();
    let client = Served::start(&config).await;
    // More than it has descriptors, and no more than wait in its queue.
    let connect = |_| UnixStream::connect(&config.endpoint_path).expect("room in the queue");
    let flood: Vec<_> = (0..80).map(connect).collect();
    let is_attempt = |line: &str| line.contains("cannot accept a connection; pausing");
    while !is_attempt(&soon("the first failure", log.next_line()).await.expect("text").expect("a log")) {}

    // The served client does not notice.
    let before = client.calls.load(Ordering::Relaxed);
    while client.calls.load(Ordering::Relaxed) < before + 100 {
        tokio::task::yield_now().await;
    }
    client.stop().await;

    let (begun, before) = (Instant::now(), cpu_time(server.pid));
    let mut attempts = 0;
    while let Ok(line) =
        tokio::time::timeout_at((begun + Duration::from_secs(1)).into(), log.next_line()).await
    {
        attempts += u32::from(is_attempt(&line.expect("text").expect("a log")));
    }
    assert!((1..50).contains(&attempts), "{attempts} attempts in a second");
    let spent = cpu_time(server.pid).saturating_sub(before);
    assert!(spent < Duration::from_millis(100), "{spent:?} of a processor to wait");

    drop(flood);
    let recovered = Channel::connect_or_wait(&config, Duration::from_secs(1)).await.expect("within a second");
    ActorClient::new(recovered).who_am_i(Nothing {}).await.expect("an answer");
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    assert_eq!(server.finish().await, ["stopped"]);
}

/// A listener that accepts nobody, with its queue full.
fn full_queue(path: &str) -> (UnixListener, Vec<OwnedFd>) {
    let address = SocketAddrUnix::new(path).expect("a path");
    let socket = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket")
    };
    let listener = socket();
    rustix::net::bind(&listener, &address).expect("a free path");
    rustix::net::listen(&listener, 1).expect("a listener");
    let mut waiting = Vec::new();
    loop {
        let client = socket();
        match rustix::net::connect(&client, &address) {
            Ok(()) => waiting.push(client),
            Err(error) => {
                assert_eq!(error, rustix::io::Errno::AGAIN);
                return (listener.into(), waiting);
            }
        }
    }
}

#[tokio::test]
async fn a_full_queue_is_busy_and_never_a_success() {
    let (mut config, _directory) = place();
    config.read_timeout_ms = 300;
    let (_listener, _waiting) = full_queue(&config.endpoint_path);
    let error = Channel::connect(&config).await.expect_err("no connection");
    assert_eq!(
        error.to_string(),
        format!(
            "connecting to {}: connecting took longer than 300 ms; the server is busy, or what listens there does not \
             speak this protocol",
            config.endpoint_path
        )
    );
    assert!(matches!(&error, IpcError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut));
    assert_eq!((error.code(), error.request_sent()), (Code::Unavailable, false));
}

#[tokio::test]
async fn a_client_gets_through_once_a_busy_server_has_time() {
    let (config, _directory) = place();
    let (listener, waiting) = full_queue(&config.endpoint_path);
    let channel = Channel::new(&config).expect("settings");
    let mut states = channel.state_changes();
    let caller = ActorClient::new(channel.clone());
    // It does not wait for ready: busy is not down.
    let call = tokio::spawn(async move { caller.who_am_i(Nothing {}).await });
    assert_eq!(soon("a state", states.next()).await, Some(ChannelState::Connecting));
    let pause = tokio::time::timeout(Duration::from_millis(200), states.next()).await;
    assert!(pause.is_err(), "neither connected nor given up: {pause:?}");
    assert!(!call.is_finished());

    let builder = Server::builder().add_service(ActorServer::new(Handlers::default()));
    let server = Server::from_listener(builder, listener, &config).expect("a server");
    let serving = tokio::spawn(server.serve());
    assert_eq!(soon("a state", states.next()).await, Some(ChannelState::Ready));
    soon("the answer", call).await.expect("no panic").expect("an answer");
    drop(waiting);
    serving.abort();
}

#[tokio::test]
async fn refused_clients_are_told_to_come_back_and_do() {
    let real = Real::with(|config| config.max_connections = 1, |server| server).await;
    let mut first = real.raw().await;
    let channel = Channel::new(&real.config).expect("settings");
    let mut states = channel.state_changes();
    let error = real.client().echo(hasty(1)).await.expect_err("no room");
    assert_eq!(
        error.to_string(),
        format!(
            "RESOURCE_EXHAUSTED: refused by {}: limit of 1 connections reached; raise max_connections on the server",
            real.config.endpoint_path
        )
    );
    assert_eq!((error.code(), error.request_sent()), (Code::ResourceExhausted, false));
    let waiting = channel.clone();
    let waiting = tokio::spawn(async move { waiting.wait_until_ready(Duration::from_secs(60)).await });
    for state in [ChannelState::Connecting, ChannelState::BackingOff] {
        assert_eq!(soon("a state", states.next()).await, Some(state));
    }
    first.half_close().await;
    first.ends().await;
    soon("a place", waiting).await.expect("no panic").expect("a connection");
}
