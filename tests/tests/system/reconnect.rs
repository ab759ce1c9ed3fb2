//! Sections 7 and 9: clients that wait for their server, and find it again.

use ipc_runtime::{Channel, ChannelState, Code, Request, Server};
use ipc_tests::clock::{Clock, settle};
use ipc_tests::probe::{Controls, Handlers, ProbeClient, ProbeServer, note};
use ipc_tests::raw::{RawServer, soon};
use ipc_tests::setup::{Played, Real, done, failed, hasty, ms, place, text};
use ipc_tests::wire::{self, code};

async fn serve(config: &ipc_runtime::IpcConfig) -> tokio::task::JoinHandle<()> {
    let service = ProbeServer::new(Handlers(Controls::default()));
    let server = Server::builder().add_service(service).bind(config).await.expect("a server");
    tokio::spawn(async move { server.serve().await.map(drop).unwrap_or_default() })
}

#[tokio::test]
async fn without_a_server_a_call_fails_at_once() {
    let (config, _directory) = place();
    let client = ProbeClient::new(Channel::new(&config).unwrap());
    for _ in 0..3 {
        let error = failed(client.echo(text(1)).await, Code::Unavailable, false);
        assert!(error.to_string().contains(&config.endpoint_path), "{error}");
    }
}

#[tokio::test]
async fn a_call_that_waits_for_ready_waits_within_its_deadline() {
    let clock = Clock::stop();
    let (config, _directory) = place();
    let client = ProbeClient::new(Channel::builder(&config).wait_for_ready(true).build().unwrap());
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.echo(Request::new(text(1)).with_timeout(ms(3000))).await }
    });
    clock.advance_exactly(2999).await;
    assert!(!call.is_finished());
    clock.advance(1).await;
    failed(done(call).await, Code::DeadlineExceeded, false);

    let call = tokio::spawn(async move { client.echo(Request::new(text(1)).with_timeout(ms(60_000))).await });
    clock.advance(20_000).await;
    let served = serve(&config).await;
    // Attempts are 5 s apart at most, and a fifth of that.
    clock.advance(6000).await;
    assert!(call.is_finished());
    done(call).await.unwrap();
    served.abort();
}

#[tokio::test]
async fn a_request_may_wait_where_its_channel_does_not_and_the_other_way_round() {
    let (config, _directory) = place();
    let hasty = ProbeClient::new(Channel::new(&config).unwrap());
    let patient = ProbeClient::new(Channel::builder(&config).wait_for_ready(true).build().unwrap());
    let call = tokio::spawn({
        let hasty = hasty.clone();
        async move { hasty.echo(Request::new(text(1)).with_wait_for_ready(true)).await }
    });
    failed(hasty.echo(text(1)).await, Code::Unavailable, false);
    failed(patient.echo(Request::new(text(1)).with_wait_for_ready(false)).await, Code::Unavailable, false);
    let served = serve(&config).await;
    done(call).await.unwrap();
    patient.echo(text(1)).await.unwrap();
    served.abort();
}

#[tokio::test]
async fn a_channel_finds_a_server_that_went_away_and_came_back() {
    let (config, _directory) = place();
    let client = ProbeClient::new(Channel::builder(&config).wait_for_ready(true).build().unwrap());
    for _ in 0..5 {
        let served = serve(&config).await;
        client.echo(text(1)).await.unwrap();
        served.abort();
        _ = served.await;
        settle().await;
    }
}

#[tokio::test]
async fn attempts_are_a_backoff_apart() {
    let clock = Clock::stop();
    let (config, _directory) = place();
    let server = RawServer::bind(&config.endpoint_path);
    let channel = Channel::builder(&config).wait_for_ready(true);
    let client = ProbeClient::new(channel.unary_timeout(ms(600_000)).build().unwrap());
    let call = tokio::spawn(async move { client.echo(text(4)).await });
    drop(server.accept().await);
    // 50 ms × 1.6ⁿ, ± a fifth, 5 s at most.
    let mut wait = 50.0_f64;
    for _ in 0..14 {
        settle().await;
        clock.advance(0).await;
        let (soonest, latest) = (millis(wait * 0.8), millis(wait * 1.2));
        clock.advance_exactly(soonest.saturating_sub(3)).await;
        assert!(server.nobody_comes().await, "sooner than {soonest} ms");
        clock.advance(latest - soonest + 3).await;
        drop(server.accept().await);
        wait = (wait * 1.6).min(5000.0);
    }
    clock.advance(6000).await;
    let mut raw = server.greeted().await;
    raw.opened(1).await;
    raw.send(1, wire::answer(note(4))).await;
    done(call).await.unwrap();
}

fn millis(wait: f64) -> u64 {
    u64::try_from(std::time::Duration::from_secs_f64(wait / 1000.0).as_millis()).unwrap()
}

#[tokio::test]
async fn a_call_during_the_backoff_fails_at_once_unless_it_waits() {
    let _clock = Clock::stop();
    let played = Played::start();
    let call = played.hasty_echo();
    drop(played.server.accept().await);
    failed(done(call).await, Code::Unavailable, false);
    failed(played.client.echo(hasty(1)).await, Code::Unavailable, false);
    assert!(played.server.nobody_comes().await);
}

#[tokio::test]
async fn the_backoff_starts_over_when_a_call_has_been_answered_or_a_connection_has_lasted() {
    let clock = Clock::stop();
    for lasts in [false, true] {
        let played = Played::with(
            |_| {},
            |channel| channel.wait_for_ready(true).unary_timeout(std::time::Duration::from_secs(3600)),
        );
        let call = played.echo();
        // Enough failures for the next wait to be far above 60 ms.
        for _ in 0..8 {
            drop(played.server.accept().await);
            clock.advance(6000).await;
        }
        let mut raw = played.server.greeted().await;
        raw.opened(1).await;
        if lasts {
            clock.advance(5000).await;
        } else {
            raw.send(1, wire::answer(note(4))).await;
        }
        raw.send(0, wire::go_away(code::INTERNAL, 1)).await;
        raw.half_close().await;
        assert_eq!(done(call).await.is_ok(), !lasts);
        let call = played.echo();
        clock.advance(60).await;
        let mut next = played.server.greeted().await;
        next.opened(1).await;
        next.send(1, wire::answer(note(4))).await;
        done(call).await.unwrap();
    }
}

#[tokio::test]
async fn calls_on_one_channel_share_one_connection() {
    let played = Played::start();
    let calls: Vec<_> = (0..20).map(|_| played.echo()).collect();
    let mut raw = played.server.greeted().await;
    for id in 1..=20 {
        raw.opened(id).await;
    }
    assert!(played.server.nobody_comes().await);
    for id in (1..=20).rev() {
        raw.send(id, wire::answer(note(4))).await;
    }
    for call in calls {
        done(call).await.unwrap();
    }
}

#[test]
fn a_channel_outlives_the_runtime_that_it_was_idle_on() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let servers = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let real = servers.block_on(Real::start());
    let channel = Channel::new(&real.config).unwrap();
    for _ in 0..3 {
        let client = ProbeClient::new(channel.clone());
        runtime().block_on(async { soon("an answer", client.echo(text(4))).await.unwrap() });
    }
    assert_eq!(channel.state(), ChannelState::Idle);
}
