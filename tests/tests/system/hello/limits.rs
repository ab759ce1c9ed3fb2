//! How many connections there may be, before their Hello and after it.

use ipc_runtime::Code;
use ipc_tests::clock::settle;
use ipc_tests::probe::note;
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::{Real, failed, hasty, text};
use ipc_tests::wire::{self, code};

async fn limited(max_connections: usize) -> Real {
    Real::with(|config| config.max_connections = max_connections, |server| server).await
}

/// Says Hello, and is refused for want of room.
async fn is_refused(real: &Real) -> RawPeer {
    let mut raw = real.silent().await;
    raw.send(0, wire::hello()).await;
    let go_away = raw.ends_with(code::RESOURCE_EXHAUSTED).await;
    assert!(go_away.retry_after_ms > 0);
    let message = go_away.status.unwrap().message;
    assert!(message.contains(&real.config.max_connections.to_string()), "{message}");
    raw
}

#[tokio::test]
async fn max_connections_holds_at_its_edge_and_places_come_back() {
    for limit in [1, 2, 16] {
        let real = limited(limit).await;
        let mut served = Vec::new();
        for _ in 0..limit {
            served.push(real.raw().await);
        }
        is_refused(&real).await;
        let last = served.last_mut().unwrap();
        last.half_close().await;
        last.ends().await;
        // The end of its stream says that it does not count any more.
        served.push(real.raw().await);
        is_refused(&real).await;
    }
}

#[tokio::test]
async fn a_connection_does_not_count_while_its_input_is_discarded() {
    let real = limited(1).await;
    let mut first = real.raw().await;
    // Stays open on this side.
    first.send(0, wire::hello()).await;
    first.ends_with(code::INTERNAL).await;
    let mut second = real.raw().await;
    second.is_quiet().await;
    // Those refused don't count either.
    let _refused = is_refused(&real).await;
    second.half_close().await;
    second.ends().await;
    real.raw().await;
}

#[tokio::test]
async fn a_client_that_does_not_wait_hears_of_the_limit() {
    let real = limited(1).await;
    let _served = real.raw().await;
    let error = failed(real.client().echo(hasty(1)).await, Code::ResourceExhausted, false);
    assert!(error.to_string().contains("limit of 1 connections"), "{error}");
}

#[tokio::test]
async fn those_without_a_hello_have_a_limit_of_16_of_their_own() {
    let real = limited(1).await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(real.silent().await);
    }
    settle().await;
    // Refused before anything is read: this one says nothing.
    let mut above = real.silent().await;
    let go_away = above.ends_with(code::RESOURCE_EXHAUSTED).await;
    assert!(go_away.retry_after_ms > 0);

    // The sixteenth was let in, and does not wait any more once it has said Hello.
    let mut last = silent.pop().unwrap();
    last.greet(wire::hello()).await;
    last.send(1, wire::open("Echo", note(1))).await;
    last.answered(1).await;

    // One more may wait now; it counts for max_connections only when it says Hello.
    let mut one_more = real.silent().await;
    one_more.send(0, wire::hello()).await;
    one_more.ends_with(code::RESOURCE_EXHAUSTED).await;

    // Those that leave give their places back.
    silent.clear();
    settle().await;
    for _ in 0..16 {
        silent.push(real.silent().await);
    }
    settle().await;
    let mut last = silent.pop().unwrap();
    last.send(0, wire::ping(1)).await;
    last.ends_with(code::INTERNAL).await;
}

#[tokio::test]
async fn a_server_with_no_room_for_calls_refuses_every_one() {
    let real = Real::with(|_| {}, |server| server.max_concurrent_calls(0)).await;
    let mut raw = real.raw().await;
    raw.send(1, wire::open("Echo", note(1))).await;
    raw.closed(1, code::RESOURCE_EXHAUSTED, true).await;
    failed(real.client().echo(text(1)).await, Code::ResourceExhausted, false);
    assert_eq!(real.probe.calls(), 0);
}
