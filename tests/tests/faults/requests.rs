//! Sections 3 and 5: how many bytes of requests one connection may have open.

use ipc_tests::probe::note;
use ipc_tests::setup::{Played, Real, done, text};
use ipc_tests::wire::{self, Hello, code};

const MIB: usize = 1 << 20;

/// What a server accepts that was told nothing else.
const LIMIT: usize = 16 * MIB;

/// A request of exactly so many bytes.
fn hold(bytes: usize) -> wire::Open {
    let note = (bytes.saturating_sub(8)..bytes).map(note).find(|note| note.len() == bytes);
    wire::open("Hold", note.expect("a note of this size"))
}

#[tokio::test]
async fn the_requests_of_a_connection_are_16_mib_at_most() {
    let real = Real::start().await;
    let mut raw = real.silent().await;
    let hello = raw.greet(wire::hello()).await;
    assert_eq!(hello.max_request_bytes, LIMIT as u64);
    for id in 1..=16 {
        raw.send(id, hold(1_000_000)).await;
        real.probe.started("Hold").await;
    }
    let left = LIMIT - 16 * 1_000_000;
    raw.send(17, hold(left + 1)).await;
    raw.closed(17, code::RESOURCE_EXHAUSTED, true).await;
    raw.send(18, hold(left)).await;
    real.probe.started("Hold").await;
    raw.send(19, hold(3)).await;
    raw.closed(19, code::RESOURCE_EXHAUSTED, true).await;
    // Those of another connection count there.
    let mut other = real.raw().await;
    other.send(1, hold(1_000_000)).await;
    real.probe.started("Hold").await;

    // The first that came is let go first, and makes room.
    real.probe.release(1);
    raw.answered(1).await;
    real.probe.finished("Hold").await;
    raw.send(20, hold(1_000_000)).await;
    real.probe.started("Hold").await;
}

#[tokio::test]
async fn one_request_always_fits_where_no_other_is_open() {
    let real = Real::with(|config| config.max_frame_bytes = 20 * MIB, |server| server).await;
    let mut raw = real.raw_with(Hello { max_frame_bytes: 20 * MIB as u64, ..wire::hello() }).await;
    raw.send(1, hold(17 * MIB)).await;
    real.probe.started("Hold").await;
    raw.send(2, hold(3)).await;
    raw.closed(2, code::RESOURCE_EXHAUSTED, true).await;
    real.probe.release(1);
    raw.answered(1).await;
    raw.send(3, hold(3)).await;
    real.probe.finished("Hold").await;
    real.probe.started("Hold").await;
    raw.send(4, hold(17 * MIB)).await;
    raw.closed(4, code::RESOURCE_EXHAUSTED, true).await;
}

#[tokio::test]
async fn a_client_queues_what_the_server_has_no_room_for() {
    let played = Played::start();
    let call = |bytes: usize| played.call(async move |client| client.echo(text(bytes)).await);
    let calls = [call(600), call(600), call(2000)];
    let mut raw = played.server.greeted_with(Hello { max_request_bytes: 1000, ..wire::hello() }).await;
    for id in 1..=3 {
        raw.opened(id).await;
        raw.is_quiet().await;
        raw.send(id, wire::answer(note(4))).await;
    }
    for call in calls {
        done(call).await.unwrap();
    }
    // What fits goes together.
    let calls = [call(400), call(400)];
    raw.opened(4).await;
    raw.opened(5).await;
    for id in 4..=5 {
        raw.send(id, wire::answer(note(4))).await;
    }
    for call in calls {
        done(call).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_says_no_limit_has_none() {
    let played = Played::start();
    let calls: Vec<_> =
        (0..20).map(|_| played.call(async |client| client.echo(text(1_000_000)).await)).collect();
    let mut raw = played.server.greeted().await;
    for id in 1..=20 {
        raw.opened(id).await;
    }
    for id in 1..=20 {
        raw.send(id, wire::answer(note(4))).await;
    }
    for call in calls {
        done(call).await.unwrap();
    }
}

#[tokio::test]
async fn our_client_never_hears_of_the_limit() {
    let real = Real::start().await;
    let client = real.client();
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.hold(text(1_000_000)).await })
        })
        .collect();
    for _ in 0..16 {
        real.probe.started("Hold").await;
    }
    ipc_tests::clock::settle().await;
    assert_eq!(real.probe.calls(), 16);
    real.probe.release(20);
    for call in calls {
        done(call).await.unwrap();
    }
}
