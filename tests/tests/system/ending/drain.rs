//! A server that shuts down gracefully.

use ipc_runtime::Code;
use ipc_tests::clock::{Clock, settle};
use ipc_tests::probe::note;
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::{Real, done, failed, hasty, ms, text};
use ipc_tests::wire::{self, Body, code};

async fn hold(real: &Real, raw: &mut RawPeer, id: u64) {
    raw.send(id, wire::open("Hold", note(1))).await;
    real.probe.started("Hold").await;
}

#[tokio::test]
async fn calls_up_to_the_farewells_id_come_to_their_end_and_later_ones_are_ignored() {
    let mut real = Real::start().await;
    let mut raw = real.raw().await;
    hold(&real, &mut raw, 2).await;
    hold(&real, &mut raw, 5).await;
    real.ask_to_stop();
    let go_away = raw.farewell(code::UNAVAILABLE).await;
    assert_eq!(go_away.last_call_id, 5);

    let late: [(u64, Body); 7] = [
        (6, wire::open("Echo", note(1)).into()),
        (7, wire::open("None", note(1)).into()),
        (8, wire::Open { metadata: wire::pair("Bad", ""), ..wire::open("Echo", "") }.into()),
        (9, wire::open_stream("Sum").into()),
        (9, wire::item(note(1)).into()),
        (9, wire::HalfClose {}.into()),
        (9, wire::Cancel {}.into()),
    ];
    raw.send_all(late).await;
    raw.is_quiet().await;
    assert_eq!(real.probe.calls(), 2);

    raw.send(2, wire::Cancel {}).await;
    raw.closed(2, code::CANCELLED, false).await;
    raw.is_quiet().await;
    real.probe.release(1);
    raw.answered(5).await;
    raw.ends().await;
    drop(raw);
    assert_eq!(real.stopped().await.calls_cut, 0);
}

#[tokio::test]
async fn a_connection_without_calls_is_closed_at_once() {
    let mut real = Real::start().await;
    let (mut unused, mut used) = (real.raw().await, real.raw().await);
    used.send(3, wire::open("Echo", note(1))).await;
    used.answered(3).await;
    real.ask_to_stop();
    assert_eq!(unused.ends_with(code::UNAVAILABLE).await.last_call_id, 0);
    assert_eq!(used.ends_with(code::UNAVAILABLE).await.last_call_id, 3);
    drop((unused, used));
    assert_eq!(real.stopped().await.calls_cut, 0);
}

#[tokio::test]
async fn when_the_drain_time_is_over_the_rest_is_cut() {
    let clock = Clock::stop();
    let mut real = Real::with(|_| {}, |server| server.drain_timeout(ms(5000))).await;
    let (mut raw, mut other) = (real.raw().await, real.raw().await);
    hold(&real, &mut raw, 1).await;
    hold(&real, &mut raw, 2).await;
    hold(&real, &mut other, 1).await;
    real.ask_to_stop();
    raw.farewell(code::UNAVAILABLE).await;
    other.farewell(code::UNAVAILABLE).await;
    real.probe.release(1);
    // The first that came is let go first.
    raw.answered(1).await;
    real.probe.finished("Hold").await;
    clock.advance_exactly(4990).await;
    raw.is_quiet().await;
    clock.advance(10).await;
    raw.closed(2, code::UNAVAILABLE, false).await;
    raw.ends().await;
    other.closed(1, code::UNAVAILABLE, false).await;
    other.ends().await;
    real.probe.dropped("Hold").await;
    real.probe.dropped("Hold").await;
    drop((raw, other));
    assert_eq!(real.stopped().await.calls_cut, 2);
}

#[tokio::test]
async fn a_client_of_ours_sees_its_call_through_a_shutdown() {
    let mut real = Real::start().await;
    let client = real.client();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.hold(text(3)).await }
    });
    real.probe.started("Hold").await;
    real.ask_to_stop();
    settle().await;
    // The new call finds a server that refuses who comes.
    failed(client.echo(hasty(1)).await, Code::Unavailable, false);
    real.probe.release(1);
    assert_eq!(done(call).await.unwrap().into_inner(), text(3));
    assert_eq!(real.stopped().await.calls_cut, 0);
    failed(client.echo(hasty(1)).await, Code::Unavailable, false);
}

#[tokio::test]
async fn a_client_of_ours_is_told_that_its_call_was_cut() {
    let clock = Clock::stop();
    let mut real = Real::start().await;
    let client = real.client();
    let call = tokio::spawn(async move { client.hold(text(3)).await });
    real.probe.started("Hold").await;
    real.ask_to_stop();
    clock.advance(10_000).await;
    failed(done(call).await, Code::Unavailable, true);
    real.probe.dropped("Hold").await;
    assert_eq!(real.stopped().await.calls_cut, 1);
}
