//! How many calls may be open on a connection, and what counts.

use ipc_runtime::Code;
use ipc_tests::probe::note;
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::{Played, Real, done, failed, text};
use ipc_tests::wire::{self, Hello, code};

async fn limited(max_concurrent_calls: u32) -> Real {
    Real::with(|_| {}, |server| server.max_concurrent_calls(max_concurrent_calls)).await
}

async fn hold(real: &Real, raw: &mut RawPeer, id: u64) {
    raw.send(id, wire::open("Hold", note(1))).await;
    real.probe.started("Hold").await;
}

#[tokio::test]
async fn a_call_above_the_limit_is_refused_and_not_processed() {
    for limit in [1, 2, 128] {
        let real = limited(limit).await;
        let mut raw = real.raw().await;
        let above = u64::from(limit) + 1;
        for id in 1..above {
            hold(&real, &mut raw, id).await;
        }
        for id in [above, above + 1] {
            raw.send(id, wire::open("Hold", note(1))).await;
            raw.closed(id, code::RESOURCE_EXHAUSTED, true).await;
        }
        // Each connection has its own.
        let mut other = real.raw().await;
        hold(&real, &mut other, 1).await;

        raw.send(1, wire::Cancel {}).await;
        raw.closed(1, code::CANCELLED, false).await;
        real.probe.dropped("Hold").await;
        hold(&real, &mut raw, above + 2).await;
    }
}

#[tokio::test]
async fn a_call_stops_counting_before_its_close_can_be_read() {
    let real = limited(1).await;
    let mut raw = real.raw().await;
    for id in 1..300 {
        raw.send(id, wire::open("Echo", note(1))).await;
        raw.answered(id).await;
    }
}

#[tokio::test]
async fn refused_opens_never_count() {
    let real = limited(1).await;
    let mut raw = real.raw().await;
    let bad_key = wire::Open { metadata: wire::pair("Bad", ""), ..wire::open("Hold", note(1)) };
    let unknown = wire::open("None", note(1));
    raw.send_all([
        (1, unknown.clone()),
        (2, bad_key.clone()),
        (3, unknown),
        (4, wire::open("Hold", note(1))),
    ])
    .await;
    raw.closed(1, code::UNIMPLEMENTED, true).await;
    raw.closed(2, code::INVALID_ARGUMENT, true).await;
    raw.closed(3, code::UNIMPLEMENTED, true).await;
    real.probe.started("Hold").await;
    raw.send_all((5..10).map(|id| (id, wire::open("Hold", note(1))))).await;
    for id in 5..10 {
        raw.closed(id, code::RESOURCE_EXHAUSTED, true).await;
    }
    real.probe.release(1);
    raw.answered(4).await;
    real.probe.finished("Hold").await;
    hold(&real, &mut raw, 10).await;
}

#[tokio::test]
async fn calls_on_all_connections_together_have_a_limit_too() {
    let real = Real::with(|_| {}, |server| server.max_total_calls(2)).await;
    let (mut first, mut second) = (real.raw().await, real.raw().await);
    hold(&real, &mut first, 1).await;
    hold(&real, &mut second, 1).await;
    first.send(2, wire::open("Hold", note(1))).await;
    first.closed(2, code::RESOURCE_EXHAUSTED, true).await;
    second.half_close().await;
    second.ends().await;
    real.probe.dropped("Hold").await;
    hold(&real, &mut first, 3).await;
}

#[tokio::test]
async fn a_client_queues_calls_above_the_limit() {
    let played = Played::start();
    let calls = [played.echo(), played.echo(), played.echo()];
    let hello = Hello { max_concurrent_calls: 2, ..wire::hello() };
    let mut raw = played.server.greeted_with(hello).await;
    raw.opened(1).await;
    raw.opened(2).await;
    raw.is_quiet().await;
    raw.send(2, wire::answer(note(4))).await;
    raw.opened(3).await;
    raw.send(3, wire::answer(note(4))).await;
    raw.send(1, wire::answer(note(4))).await;
    for call in calls {
        done(call).await.unwrap();
    }
}

#[tokio::test]
async fn for_a_client_a_cancelled_call_counts_until_its_close_arrives() {
    let played = Played::start();
    let first = played.echo();
    let hello = Hello { max_concurrent_calls: 1, ..wire::hello() };
    let mut raw = played.server.greeted_with(hello).await;
    raw.opened(1).await;
    let second = played.echo();
    first.abort();
    raw.cancelled(1).await;
    raw.is_quiet().await;
    raw.send(1, wire::refusal(code::CANCELLED, false)).await;
    raw.opened(2).await;
    raw.send(2, wire::answer(note(4))).await;
    done(second).await.unwrap();
}

#[tokio::test]
async fn a_refusal_for_want_of_slots_goes_to_the_caller() {
    let played = Played::start();
    let call = played.echo();
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.send(1, wire::refusal(code::RESOURCE_EXHAUSTED, true)).await;
    failed(done(call).await, Code::ResourceExhausted, false);
    raw.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancelled_call_counts_until_its_handler_has_really_ended() {
    let real = limited(1).await;
    let mut raw = real.raw().await;
    raw.send(1, wire::open("Block", note(1))).await;
    real.probe.started("Block").await;
    raw.send_all([(1, wire::Cancel {})]).await;
    raw.send(2, wire::open("Echo", note(1))).await;
    raw.closed(2, code::RESOURCE_EXHAUSTED, true).await;
    real.probe.release(1);
    raw.closed(1, code::CANCELLED, false).await;
    real.probe.finished("Block").await;
    raw.send(3, wire::open("Echo", note(3))).await;
    raw.answered(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_whose_connection_has_gone_counts_until_its_handler_has_really_ended() {
    let real = Real::with(|_| {}, |server| server.max_total_calls(1)).await;
    let mut first = real.raw().await;
    first.send(1, wire::open("Block", note(1))).await;
    real.probe.started("Block").await;
    drop(first);
    let mut second = real.raw().await;
    second.send(1, wire::open("Echo", note(1))).await;
    second.closed(1, code::RESOURCE_EXHAUSTED, true).await;
    real.probe.release(1);
    real.probe.finished("Block").await;
}

#[tokio::test]
async fn a_thousand_calls_at_once_all_get_their_own_answer() {
    let real = limited(10).await;
    let client = real.client();
    let calls: Vec<_> = (0..1000)
        .map(|size| {
            let client = client.clone();
            tokio::spawn(async move { client.echo(text(size)).await })
        })
        .collect();
    for (size, call) in calls.into_iter().enumerate() {
        assert_eq!(done(call).await.unwrap().into_inner(), text(size));
    }
}
