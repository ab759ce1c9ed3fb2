//! A server that keeps its connections, and ends them.

use ipc_tests::clock::Clock;
use ipc_tests::probe::{Sizes, note};
use ipc_tests::setup::Real;
use ipc_tests::wire::{self, Body, Hello, code};
use prost::Message;

#[tokio::test]
async fn a_ping_is_answered_with_its_nonce_beside_whatever_runs() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    raw.send(1, wire::open("Hold", note(1))).await;
    real.probe.started("Hold").await;
    for nonce in [0, 1, 7, u64::MAX] {
        raw.send(0, wire::ping(nonce)).await;
        assert_eq!(raw.pong().await, (0, wire::Pong { nonce }));
    }
    raw.send_all((0..1000).map(|nonce| (0, wire::ping(nonce)))).await;
    for nonce in 0..1000 {
        assert_eq!(raw.pong().await, (0, wire::Pong { nonce }));
    }
}

#[tokio::test]
async fn a_ping_goes_out_after_a_third_of_read_timeout_and_the_end_comes_after_all_of_it() {
    let clock = Clock::stop();
    for third in [10_000, 1000] {
        let real = Real::with(|config| config.read_timeout_ms = 3 * third, |server| server).await;
        let mut raw = real.raw().await;
        clock.advance_exactly(third - 1).await;
        assert_eq!(raw.unread().await, 0);
        clock.advance(1).await;
        raw.ping().await;
        // One only.
        clock.advance_exactly(2 * third - 3).await;
        assert_eq!(raw.unread().await, 0);
        clock.advance(3).await;
        let go_away = raw.ends_with(code::DEADLINE_EXCEEDED).await;
        assert_eq!((go_away.last_call_id, go_away.retry_after_ms), (0, 0));

        // Another one, that answers, stays.
        let mut raw = real.raw().await;
        let mut last = None;
        for _ in 0..5 {
            clock.advance(third).await;
            let (id, ping) = raw.ping().await;
            assert_eq!(id, 0);
            assert_ne!(Some(ping.nonce), last);
            last = Some(ping.nonce);
            raw.send(0, wire::Pong { nonce: ping.nonce }).await;
        }
    }
}

#[tokio::test]
async fn anything_that_arrives_breaks_the_silence() {
    let clock = Clock::stop();
    let real = Real::start().await;
    let mut raw = real.raw().await;
    let ignored: [Body; 4] = [
        wire::Pong { nonce: 9 }.into(),
        wire::item("").into(),
        wire::Cancel {}.into(),
        wire::credit(1).into(),
    ];
    for body in ignored.iter().cycle().take(20) {
        clock.advance_exactly(9_000).await;
        assert_eq!(raw.unread().await, 0);
        raw.send(u64::from(!matches!(body, Body::Pong(_))), body.clone()).await;
    }
    raw.is_quiet().await;
}

#[tokio::test]
async fn silence_ends_the_calls_of_the_connection() {
    let clock = Clock::stop();
    let real = Real::start().await;
    let mut raw = real.raw().await;
    raw.send(4, wire::open("Hold", note(1))).await;
    real.probe.started("Hold").await;
    clock.advance(10_000).await;
    raw.ping().await;
    clock.advance(20_000).await;
    assert_eq!(raw.ends_with(code::DEADLINE_EXCEEDED).await.last_call_id, 4);
    real.probe.dropped("Hold").await;
}

#[tokio::test]
async fn a_write_without_progress_ends_the_connection_after_write_timeout() {
    let clock = Clock::stop();
    let real = Real::with(|config| config.write_timeout_ms = 3000, |server| server).await;
    let mut raw = real.raw_with(Hello { initial_credit: 1 << 40, ..wire::hello() }).await;
    let sizes = Sizes { notes: 1000, bytes: 100_000, ..Sizes::default() };
    raw.send(1, wire::open("Count", sizes.encode_to_vec())).await;
    real.probe.started("Count").await;
    clock.advance_exactly(2990).await;
    // Some progress, and the time begins anew.
    raw.read_some(150_000).await;
    clock.advance_exactly(2990).await;
    raw.send(2, wire::open("Hold", note(1))).await;
    real.probe.started("Hold").await;
    clock.advance(10).await;
    real.probe.event().await;
    real.probe.event().await;
    clock.advance(1000).await;
    raw.is_let_go().await;
}

#[tokio::test]
async fn a_farewell_after_an_error_says_the_highest_id_that_was_accepted() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    raw.send(3, wire::open("Hold", note(1))).await;
    real.probe.started("Hold").await;
    raw.send(7, wire::open("None", note(1))).await;
    raw.closed(7, code::UNIMPLEMENTED, true).await;
    raw.send(0, wire::hello()).await;
    assert_eq!(raw.ends_with(code::INTERNAL).await.last_call_id, 3);
    real.probe.dropped("Hold").await;

    let mut raw = real.raw().await;
    raw.send(0, wire::hello()).await;
    assert_eq!(raw.ends_with(code::INTERNAL).await.last_call_id, 0);
}

// A pipe can't be shut down by halves: it is closed at once, and what was said last can still be read.
#[cfg(unix)]
#[tokio::test]
async fn after_its_last_farewell_a_server_discards_what_comes_for_a_second() {
    let clock = Clock::stop();
    let real = Real::start().await;
    let mut raw = real.raw().await;
    raw.send(0, wire::hello()).await;
    raw.ends_with(code::INTERNAL).await;
    for id in 1..10 {
        raw.send(id, wire::open("Echo", note(50_000))).await;
    }
    clock.advance_exactly(990).await;
    raw.send(10, wire::open("Echo", note(1))).await;
    clock.advance(10).await;
    assert!(raw.is_shut().await);
    assert_eq!(real.probe.calls(), 0);
}

#[tokio::test]
async fn a_clients_farewell_is_answered_by_nothing_until_the_stream_ends() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    raw.send(1, wire::open("Hold", note(1))).await;
    real.probe.started("Hold").await;
    raw.send(0, wire::go_away(code::INTERNAL, 0)).await;
    raw.is_quiet().await;
    raw.half_close().await;
    raw.ends().await;
    real.probe.dropped("Hold").await;
}
