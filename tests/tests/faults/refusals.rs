//! Section 9: a server that is there but has no room is asked again.

use ipc_runtime::{Code, Request};
use ipc_tests::clock::{Clock, settle};
use ipc_tests::probe::{ProbeClient, Sizes, note};
use ipc_tests::raw::{RawPeer, RawServer};
use ipc_tests::setup::{Played, Real, done, failed, ms, text};
use ipc_tests::wire::{self, GoAway, code};

/// The refusals that pass.
const PASSING: [(i32, u32, Code); 3] = [
    (code::RESOURCE_EXHAUSTED, 0, Code::ResourceExhausted),
    (code::RESOURCE_EXHAUSTED, 250, Code::ResourceExhausted),
    (code::UNAVAILABLE, 250, Code::Unavailable),
];

async fn refuses(server: &RawServer, code: i32, retry_after_ms: u32) {
    let mut raw = server.accept().await;
    raw.hello().await;
    raw.send(0, GoAway { retry_after_ms, ..wire::go_away(code, 0) }).await;
    raw.half_close().await;
    raw.ends().await;
}

async fn answers(raw: &mut RawPeer) {
    raw.opened(1).await;
    raw.send(1, wire::answer(note(4))).await;
}

#[tokio::test]
async fn a_client_without_a_place_asks_again_until_there_is_one() {
    let clock = Clock::stop();
    for (code, retry_after_ms, _) in PASSING {
        let played = Played::start();
        let call = played.echo();
        for _ in 0..5 {
            refuses(&played.server, code, retry_after_ms).await;
            assert!(played.server.nobody_comes().await, "at once");
            // The backoff is at most 50 ms × 1.6⁴ and a fifth here.
            clock.advance(400).await;
        }
        answers(&mut played.server.greeted().await).await;
        done(call).await.unwrap();
    }
}

#[tokio::test]
async fn at_its_deadline_a_call_fails_with_the_last_refusal() {
    let clock = Clock::stop();
    for (code, _, fails) in PASSING {
        let played = Played::start();
        let call = played.call(async |client: ProbeClient| {
            client.echo(Request::new(text(4)).with_timeout(ms(3000))).await
        });
        refuses(&played.server, code, 1000).await;
        clock.advance(1200).await;
        refuses(&played.server, code, 60_000).await;
        clock.advance(1800).await;
        assert!(call.is_finished());
        let error = failed(done(call).await, fails, false);
        assert!(error.to_string().contains("as the test says"), "{error}");
    }
}

#[tokio::test]
async fn a_call_without_a_deadline_asks_for_as_long_as_read_timeout() {
    let clock = Clock::stop();
    for (code, _, fails) in PASSING {
        let played = Played::with(|config| config.read_timeout_ms = 4000, |channel| channel);
        let call = played.call(async |client: ProbeClient| client.count(Sizes::default()).await);
        // Four times more within the 4 s, and then not again.
        for _ in 0..4 {
            refuses(&played.server, code, 500).await;
            clock.advance(900).await;
        }
        refuses(&played.server, code, 500).await;
        clock.advance(450).await;
        assert!(call.is_finished());
        assert!(played.server.nobody_comes().await);
        failed(done(call).await, fails, false);
    }
}

#[tokio::test]
async fn a_caller_that_does_not_wait_has_the_refusal_at_once() {
    let clock = Clock::stop();
    for (code, retry_after_ms, fails) in PASSING {
        let played = Played::start();
        let call = played.call(async |client: ProbeClient| {
            client.echo(Request::new(text(4)).with_wait_for_ready(false)).await
        });
        refuses(&played.server, code, retry_after_ms).await;
        failed(done(call).await, fails, false);
        // As has one that comes during the backoff.
        let request = Request::new(text(4)).with_wait_for_ready(false);
        failed(played.client.echo(request).await, fails, false);
        assert!(played.server.nobody_comes().await);
    }
    drop(clock);
}

#[tokio::test]
async fn a_refusal_that_does_not_ask_to_come_back_fails_fast() {
    let _clock = Clock::stop();
    let played = Played::start();
    let call = played.echo();
    refuses(&played.server, code::UNAVAILABLE, 0).await;
    failed(done(call).await, Code::Unavailable, false);
    assert!(played.server.nobody_comes().await);
}

#[tokio::test]
async fn a_connection_that_is_closed_before_any_hello_is_asked_three_times_for_a_call() {
    let clock = Clock::stop();
    for closed in 1..=3 {
        let played = Played::start();
        let call = played.echo();
        for _ in 0..closed {
            drop(played.server.accept().await);
            settle().await;
            clock.advance(200).await;
        }
        if closed < 3 {
            answers(&mut played.server.greeted().await).await;
            done(call).await.unwrap();
        } else {
            failed(done(call).await, Code::Unavailable, false);
            clock.advance(5000).await;
            assert!(played.server.nobody_comes().await);
        }
    }
}

#[tokio::test]
async fn a_caller_that_does_not_wait_asks_once_where_a_connection_is_closed_before_any_hello() {
    let _clock = Clock::stop();
    let played = Played::start();
    let call = played.call(async |client: ProbeClient| {
        client.echo(Request::new(text(4)).with_wait_for_ready(false)).await
    });
    drop(played.server.accept().await);
    failed(done(call).await, Code::Unavailable, false);
    assert!(played.server.nobody_comes().await);
}

#[tokio::test]
async fn short_lived_clients_above_the_limit_are_all_served() {
    const CLIENTS: usize = 40;
    let clock = Clock::stop();
    let real = Real::with(|config| config.max_connections = 4, |server| server).await;
    let calls: Vec<_> = (0..CLIENTS)
        .map(|_| {
            // A channel of its own, that goes with its one answer.
            let client = real.client();
            tokio::spawn(async move { client.echo(text(4)).await })
        })
        .collect();
    // Well within read_timeout, which is the deadline.
    for _ in 0..200 {
        clock.advance(100).await;
    }
    for call in calls {
        done(call).await.unwrap();
    }
    assert_eq!(real.probe.calls(), CLIENTS);
}
