//! Where a channel stands, when calls wait, and what errors say.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use ipc_runtime::ChannelState::{self, BackingOff, Closed, Connecting, Idle, Ready};
use ipc_runtime::{Channel, Code, IpcConfig, IpcError, Request, StateChanges};
use ipc_tests::actor::{ActorClient, Nothing};
use ipc_tests::clock::{Clock, settle};
use ipc_tests::probe::ProbeClient;
use ipc_tests::raw::{RawServer, soon};
use ipc_tests::setup::{Outcome, Played, done, failed, place, text};
use ipc_tests::wire::{self, code};
use tokio::task::JoinHandle;

use crate::actors::Actor;

/// What a channel does, one state after the other.
struct Watch(StateChanges);

impl Watch {
    fn new(channel: &Channel) -> Self {
        let changes = channel.state_changes();
        assert_eq!(changes.current(), Idle);
        Self(changes)
    }

    async fn sees(&mut self, state: ChannelState) {
        assert_eq!(soon("a state", self.0.next()).await, Some(state));
    }

    /// Nothing has changed since.
    async fn stays(&mut self, state: ChannelState) {
        settle().await;
        assert_eq!(self.0.current(), state);
        let next = std::pin::pin!(self.0.next());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(next.poll(&mut cx).is_pending());
    }
}

fn channel(config: &IpcConfig) -> Channel {
    Channel::new(config).expect("settings")
}

fn echo(channel: &Channel, wait: bool) -> JoinHandle<Outcome<ipc_tests::probe::Note>> {
    let client = ProbeClient::new(channel.clone());
    tokio::spawn(async move { client.echo(Request::new(text(1)).with_wait_for_ready(wait)).await })
}

#[tokio::test]
async fn a_channel_goes_through_its_states_one_by_one() {
    let clock = Clock::stop();
    let (config, _directory) = place();
    let channel = channel(&config);
    let mut watch = Watch::new(&channel);
    watch.stays(Idle).await;

    // The first call needs a connection.
    let server = RawServer::bind(&config.endpoint_path);
    let call = echo(&channel, false);
    watch.sees(Connecting).await;
    let mut peer = server.accept().await;
    watch.stays(Connecting).await;
    peer.welcome(wire::hello()).await;
    watch.sees(Ready).await;
    peer.opened(1).await;
    peer.send(1, wire::answer("")).await;
    done(call).await.expect("an answer");

    // It is lost, and nobody wants another: the backoff passes by.
    drop(peer);
    watch.sees(BackingOff).await;
    clock.advance(60_000).await;
    watch.stays(BackingOff).await;

    // One who waits for ready makes it connect, back off, and connect again.
    let call = echo(&channel, true);
    watch.sees(Connecting).await;
    drop(server.accept().await);
    watch.sees(BackingOff).await;
    watch.stays(BackingOff).await;
    clock.advance(200).await;
    watch.sees(Connecting).await;
    let mut peer = server.greeted().await;
    watch.sees(Ready).await;
    peer.opened(1).await;

    // A farewell is no failure; what runs comes to its end.
    peer.send(0, wire::go_away(code::UNAVAILABLE, 1)).await;
    watch.sees(Idle).await;
    peer.send(1, wire::answer("")).await;
    done(call).await.expect("an answer");
    peer.ends().await;
    watch.stays(Idle).await;

    channel.close();
    watch.sees(Closed).await;
    let error = failed(done(echo(&channel, true)).await, Code::Unavailable, false);
    let words = format!("calling {}: this channel has been closed; make a new channel", config.endpoint_path);
    assert_eq!(error.to_string(), words);
    watch.stays(Closed).await;
    drop(channel);
    assert_eq!(soon("the end of the states", watch.0.next()).await, None);
}

#[tokio::test]
async fn closing_lets_calls_end_and_stops_what_is_being_connected() {
    let played = Played::start();
    let channel = channel(&played.config);
    let mut watch = Watch::new(&channel);
    let call = echo(&channel, false);
    let mut peer = played.server.greeted().await;
    peer.opened(1).await;
    watch.sees(Ready).await;
    channel.close();
    watch.sees(Closed).await;
    peer.send(1, wire::answer("")).await;
    done(call).await.expect("an answer");
    peer.ends().await;

    let channel = Channel::new(&played.config).expect("settings");
    let mut watch = Watch::new(&channel);
    let call = echo(&channel, true);
    watch.sees(Connecting).await;
    let mut peer = played.server.accept().await;
    channel.close();
    watch.sees(Closed).await;
    failed(done(call).await, Code::Unavailable, false);
    peer.welcome(wire::hello()).await;
    peer.ends().await;
    watch.stays(Closed).await;
}

#[tokio::test]
async fn a_backoff_fails_who_does_not_wait_at_once_and_is_waited_out_by_others() {
    let clock = Clock::stop();
    let (config, _directory) = place();
    let channel = channel(&config);
    // One attempt, and nobody there.
    failed(done(echo(&channel, false)).await, Code::Unavailable, false);
    assert_eq!(channel.state(), BackingOff);
    let server = RawServer::bind(&config.endpoint_path);
    // No attempt during the backoff; the first one takes 40 ms at least.
    for _ in 0..3 {
        failed(done(echo(&channel, false)).await, Code::Unavailable, false);
        clock.advance(10).await;
    }
    assert!(server.nobody_comes().await);
    let waiting = echo(&channel, true);
    clock.advance(5).await;
    assert!(server.nobody_comes().await);
    clock.advance(30).await;
    let mut peer = server.greeted().await;
    peer.opened(1).await;
    peer.send(1, wire::answer("")).await;
    done(waiting).await.expect("an answer");
}

#[tokio::test]
async fn a_channel_can_wait_for_all_its_calls() {
    let (config, _directory) = place();
    let channel = Channel::builder(&config).wait_for_ready(true).build().expect("settings");
    let client = ProbeClient::new(channel.clone());
    let call = tokio::spawn(async move { client.echo(text(1)).await });
    let mut states = channel.state_changes();
    while states.current() != BackingOff {
        soon("the first failure", states.next()).await;
    }
    let server = RawServer::bind(&config.endpoint_path);
    let mut peer = server.greeted().await;
    peer.opened(1).await;
    peer.send(1, wire::answer("")).await;
    done(call).await.expect("an answer");
}

#[tokio::test]
async fn connect_or_wait_gets_a_server_that_starts_later() {
    let (config, _directory) = place();
    let waiting = tokio::spawn({
        let config = config.clone();
        async move { Channel::connect_or_wait(&config, Duration::from_secs(60)).await }
    });
    settle().await;
    assert!(!waiting.is_finished());
    let server = Actor::serving(&config.endpoint_path).await;
    let channel = soon("a server", waiting).await.expect("no panic").expect("a connection");
    assert_eq!(channel.state(), Ready);
    assert_eq!(channel.peer_info().and_then(|peer| peer.pid), Some(server.pid));
}

#[tokio::test]
async fn connect_or_wait_says_what_it_waited_for_in_vain() {
    let (config, _directory) = place();
    let begun = Instant::now();
    let error = Channel::connect_or_wait(&config, Duration::from_millis(100)).await.expect_err("nobody");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!((error.code(), error.request_sent()), (Code::DeadlineExceeded, false));
    assert_eq!(
        error.to_string(),
        format!(
            "the deadline passed waiting for {}: No such file or directory (os error 2); nothing was sent; start the \
             server or allow more time",
            config.endpoint_path
        )
    );
}

#[tokio::test]
async fn endpoints_are_tried_in_the_order_of_preference() {
    let (config, directory) = place();
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    let (second, third) = (path("second.sock"), path("third.sock"));
    let channel = Channel::builder(&config).fallback_endpoint(&second).fallback_endpoint(&third);
    let channel = channel.build().expect("settings");
    let error = failed(done(echo(&channel, false)).await, Code::Unavailable, false);
    let words = format!(
        "connecting to {}, {second}, {third}: No such file or directory (os error 2); no server has made this socket: \
         start it, or correct endpoint_path",
        config.endpoint_path
    );
    assert_eq!(error.to_string(), words);

    // Whichever is there, the first of them is taken, for each new connection.
    let served_by = async |expected: &Actor| {
        channel.wait_until_ready(Duration::from_secs(60)).await.expect("a server");
        let actor = ActorClient::new(channel.clone());
        actor.who_am_i(Nothing {}).await.expect("an answer");
        assert_eq!(channel.peer_info().and_then(|peer| peer.pid), Some(expected.pid));
    };
    let last = Actor::serving(&third).await;
    served_by(&last).await;
    let middle = Actor::serving(&second).await;
    let first = Actor::serving(&config.endpoint_path).await;
    // A connection that works is kept.
    served_by(&last).await;
    let mut states = channel.state_changes();
    last.kill().await;
    soon("the loss", states.next()).await;
    served_by(&first).await;
    let mut states = channel.state_changes();
    first.kill().await;
    soon("the loss", states.next()).await;
    served_by(&middle).await;
}

#[tokio::test]
async fn errors_say_endpoint_phase_cause_remedy_and_whether_the_request_left() {
    let (config, _directory) = place();
    let path = &config.endpoint_path;
    let channel = channel(&config);
    let error = failed(done(echo(&channel, false)).await, Code::Unavailable, false);
    assert_eq!(
        error.to_string(),
        format!(
            "connecting to {path}: No such file or directory (os error 2); no server has made this socket: start it, or \
             correct endpoint_path"
        )
    );
    assert!(matches!(&error, IpcError::Io(error) if error.kind() == std::io::ErrorKind::NotFound));

    drop(UnixListener::bind(path).expect("a free path"));
    let error = Channel::connect(&config).await.expect_err("nobody listens");
    assert_eq!((error.code(), error.request_sent()), (Code::Unavailable, false));
    assert_eq!(
        error.to_string(),
        format!(
            "connecting to {path}: Connection refused (os error 111); no server listens on this socket any more: start \
             it again"
        )
    );

    std::fs::remove_file(path).expect("the stale socket");
    let server = RawServer::bind(path);
    let channel = Channel::new(&config).expect("settings");
    let call = echo(&channel, false);
    let mut peer = server.greeted().await;
    peer.opened(1).await;
    drop(peer);
    let error = failed(done(call).await, Code::Unavailable, true);
    assert_eq!(
        error.to_string(),
        format!(
            "lost the connection to {path}: the peer closed the connection; the request may have been processed, so \
             repeat it only if that does no harm"
        )
    );

    let call = echo(&Channel::new(&config).expect("settings"), false);
    server.accept().await.welcome(wire::Hello { version: 0, ..wire::hello() }).await;
    let error = failed(done(call).await, Code::FailedPrecondition, false);
    let words = format!(
        "FAILED_PRECONDITION: refused by {path}: protocol version 0 is not spoken here, version 1 is"
    );
    assert_eq!(error.to_string(), words);
}

#[tokio::test]
async fn a_repeated_call_that_finds_no_server_any_more_says_that_it_may_have_been_processed() {
    let played = Played::start();
    let call = played.call(async |client| client.echo_again(text(1)).await);
    let mut peer = played.server.greeted().await;
    peer.opened(1).await;
    // Processed or not, the server is gone, and stays so.
    std::fs::remove_file(&played.config.endpoint_path).expect("the socket");
    drop(peer);
    let error = failed(done(call).await, Code::Unavailable, true);
    assert_eq!(
        error.to_string(),
        format!(
            "repeating a call to {path}: connecting to {path}: No such file or directory (os error 2); no server has \
             made this socket: start it, or correct endpoint_path; an earlier attempt may have been processed, so repeat \
             it only if that does no harm",
            path = played.config.endpoint_path
        )
    );
}

#[tokio::test]
async fn a_repeated_call_that_is_refused_says_that_it_may_have_been_processed() {
    let played = Played::start();
    let call = played.call(async |client| client.echo_again(text(1)).await);
    let mut peer = played.server.greeted().await;
    peer.opened(1).await;
    drop(peer);
    let mut peer = played.server.greeted().await;
    peer.opened(1).await;
    peer.send(1, wire::refusal(code::RESOURCE_EXHAUSTED, true)).await;
    failed(done(call).await, Code::ResourceExhausted, true);
}

#[tokio::test]
async fn keepalive_finds_a_server_that_has_stopped_without_a_word() {
    let clock = Clock::stop();
    let played = Played::with(|config| config.read_timeout_ms = 9000, |channel| channel);
    let channel = channel(&played.config);
    let mut watch = Watch::new(&channel);
    let ready = tokio::spawn({
        let channel = channel.clone();
        async move { channel.wait_until_ready(Duration::from_secs(60)).await }
    });
    let mut peer = played.server.greeted().await;
    done(ready).await.expect("a connection");
    watch.sees(Ready).await;
    clock.advance(3000).await;
    peer.ping().await;
    clock.advance(6000).await;
    watch.sees(BackingOff).await;
}

#[tokio::test]
async fn a_channel_survives_restarts_and_tells_instances_apart() {
    let (config, _directory) = place();
    let channel = Channel::builder(&config).wait_for_ready(true).build().expect("settings");
    let actor = ActorClient::new(channel.clone());
    let mut instances = Vec::new();
    for _ in 0..3 {
        let server = Actor::serving(&config.endpoint_path).await;
        actor.who_am_i(Nothing {}).await.expect("an answer");
        let peer = channel.peer_info().expect("a connection");
        assert_eq!(peer.pid, Some(server.pid));
        assert!(!instances.contains(&peer.instance_id), "drawn anew by each server");
        instances.push(peer.instance_id);
        assert_eq!(server.finish().await, ["stopped"]);
    }
}
