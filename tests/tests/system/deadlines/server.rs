//! Deadlines that a server keeps, and cancellations that it hears.

use ipc_tests::clock::{Clock, settle};
use ipc_tests::feed::Feed;
use ipc_tests::probe::{Event, Sizes, note};
use ipc_tests::raw::{RawPeer, soon};
use ipc_tests::setup::{Real, text};
use ipc_tests::wire::{self, Body, Hello, Open, code};
use prost::Message;

/// The methods whose handlers wait, and whether their answers are streamed.
const WAITING: [(&str, bool); 4] = [("Hold", false), ("Tail", true), ("Deaf", false), ("DeafChat", true)];

async fn waiting(real: &Real, raw: &mut RawPeer, id: u64, open: Open, streams: bool) -> &'static str {
    raw.send(id, open).await;
    let Event::Started(name) = real.probe.event().await else { panic!("a start") };
    if streams {
        assert_eq!(raw.headers().await.0, id);
    }
    name
}

fn timed(method: &str, timeout_us: u64) -> Open {
    Open { timeout_us, ..wire::open(method, note(1)) }
}

#[tokio::test]
async fn at_expiry_the_handler_is_dropped_and_the_call_is_closed() {
    let clock = Clock::stop();
    for (method, streams) in WAITING {
        let real = Real::start().await;
        let mut raw = real.raw().await;
        let name = waiting(&real, &mut raw, 1, timed(method, 1_000_000), streams).await;
        clock.advance_exactly(999).await;
        raw.is_quiet().await;
        clock.advance(1).await;
        real.probe.dropped(name).await;
        raw.closed(1, code::DEADLINE_EXCEEDED, false).await;
        raw.is_quiet().await;
    }
}

#[tokio::test]
async fn a_deadline_covers_the_request_that_does_not_come() {
    let clock = Clock::stop();
    let real = Real::start().await;
    let mut raw = real.raw().await;
    for (id, method) in [(1, "Echo"), (2, "Count")] {
        raw.send(id, Open { timeout_us: 1_000_000, ..wire::open_stream(method) }).await;
        clock.advance(1000).await;
        raw.closed(id, code::DEADLINE_EXCEEDED, true).await;
    }
    assert_eq!(real.probe.calls(), 0);
}

#[tokio::test]
async fn a_deadline_covers_an_answer_that_waits_for_credit() {
    let clock = Clock::stop();
    let real = Real::start().await;
    let mut raw = real.raw_with(Hello { initial_credit: 1, ..wire::hello() }).await;
    let sizes = Sizes { notes: 5, bytes: 6, ..Sizes::default() }.encode_to_vec();
    raw.send(1, Open { timeout_us: 1_000_000, ..wire::open("Count", sizes) }).await;
    raw.headers().await;
    raw.has_item(1).await;
    real.probe.started("Count").await;
    clock.advance(1000).await;
    real.probe.dropped("Count").await;
    raw.closed(1, code::DEADLINE_EXCEEDED, false).await;
}

#[tokio::test]
async fn no_timeout_and_one_beyond_the_clock_are_none() {
    let clock = Clock::stop();
    let real = Real::start().await;
    let mut raw = real.raw().await;
    for (id, timeout_us) in [(1, 0), (2, u64::MAX), (3, u64::MAX - 1)] {
        raw.send(id, timed("Hold", timeout_us)).await;
        real.probe.started("Hold").await;
    }
    // As long as it takes, the client answering its pings.
    for _ in 0..10 {
        clock.advance(10_000).await;
        let (_, ping) = raw.ping().await;
        raw.send(0, wire::Pong { nonce: ping.nonce }).await;
    }
    real.probe.release(3);
    for id in 1..=3 {
        raw.answered(id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_expired_call_is_closed_when_its_handler_has_really_ended() {
    let real = Real::with(|_| {}, |server| server.max_concurrent_calls(1)).await;
    let mut raw = real.raw().await;
    raw.send(1, timed("Block", 300_000)).await;
    real.probe.started("Block").await;
    tokio::time::sleep(std::time::Duration::from_millis(310)).await;
    raw.send(2, wire::open("Echo", note(1))).await;
    raw.closed(2, code::RESOURCE_EXHAUSTED, true).await;
    real.probe.release(1);
    raw.closed(1, code::DEADLINE_EXCEEDED, false).await;
}

#[tokio::test]
async fn a_cancelled_call_drops_its_handler_and_is_closed() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    for (id, (method, streams)) in (1..).zip(WAITING) {
        let name = waiting(&real, &mut raw, id, wire::open(method, note(1)), streams).await;
        raw.send(id, wire::Cancel {}).await;
        real.probe.dropped(name).await;
        raw.closed(id, code::CANCELLED, false).await;
        // It is over: once more does nothing.
        raw.send(id, wire::Cancel {}).await;
        raw.is_quiet().await;
    }
}

#[tokio::test]
async fn a_call_cancelled_before_its_request_is_whole_reaches_no_handler() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    for (id, method) in [(1, "Echo"), (2, "Count")] {
        let frames: [(u64, Body); 2] = [(id, wire::open_stream(method).into()), (id, wire::Cancel {}.into())];
        raw.send_all(frames).await;
        raw.closed(id, code::CANCELLED, true).await;
    }
    assert_eq!(real.probe.calls(), 0);
}

#[tokio::test]
async fn a_call_that_waits_for_credit_or_requests_hears_its_cancellation() {
    let real = Real::start().await;
    let mut raw = real.raw_with(Hello { initial_credit: 1, ..wire::hello() }).await;
    let sizes = Sizes { notes: 5, bytes: 6, ..Sizes::default() }.encode_to_vec();
    raw.send(1, wire::open("Count", sizes)).await;
    raw.headers().await;
    raw.has_item(1).await;
    real.probe.started("Count").await;
    raw.send(1, wire::Cancel {}).await;
    real.probe.dropped("Count").await;
    raw.closed(1, code::CANCELLED, false).await;

    raw.send(2, wire::open_stream("Sum")).await;
    raw.send(2, wire::item(note(1))).await;
    raw.is_quiet().await;
    raw.send(2, wire::Cancel {}).await;
    raw.closed(2, code::CANCELLED, false).await;
}

#[tokio::test]
async fn the_end_of_the_stream_cancels_all_its_calls_and_no_others() {
    for gone in [false, true] {
        let real = Real::start().await;
        let (mut raw, mut other) = (real.raw().await, real.raw().await);
        let mut names = Vec::new();
        for (id, (method, streams)) in (1..).zip(WAITING) {
            names.push(waiting(&real, &mut raw, id, wire::open(method, note(1)), streams).await);
        }
        waiting(&real, &mut other, 1, wire::open("Hold", note(1)), false).await;
        if gone {
            drop(raw);
        } else {
            raw.half_close().await;
        }
        for _ in 0..names.len() {
            let Event::Dropped(name) = real.probe.event().await else { panic!("a drop") };
            names.retain(|known| *known != name);
        }
        assert!(names.is_empty(), "{names:?}");
        real.probe.release(1);
        other.answered(1).await;
        real.probe.finished("Hold").await;
    }
}

#[tokio::test]
async fn a_call_that_a_client_of_ours_drops_drops_its_handler() {
    let real = Real::start().await;
    let client = real.client();
    for _ in 0..20 {
        let call = tokio::spawn({
            let client = client.clone();
            async move { client.hold(text(1)).await }
        });
        real.probe.started("Hold").await;
        call.abort();
        real.probe.dropped("Hold").await;

        let stream = client.tail(text(1)).await.unwrap();
        real.probe.started("Tail").await;
        drop(stream);
        real.probe.dropped("Tail").await;

        let (_items, feed) = Feed::new();
        let stream = client.deaf_chat(feed).await.unwrap();
        real.probe.started("DeafChat").await;
        drop(stream);
        real.probe.dropped("DeafChat").await;
    }
    soon("a call afterwards", client.echo(text(1))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn rapid_open_and_cancel_runs_no_more_handlers_than_the_limit() {
    const CALLS: u64 = 500;
    let real = Real::with(|_| {}, |server| server.max_concurrent_calls(3)).await;
    let mut raw = real.raw().await;
    let frames = (1..=CALLS)
        .flat_map(|id| [(id, Body::from(wire::open("Block", note(1)))), (id, Body::from(wire::Cancel {}))]);
    raw.send_all(frames).await;
    real.probe.release(usize::try_from(CALLS).unwrap());
    // Each is closed once: refused, or cancelled by the time it was let go.
    let mut open: std::collections::BTreeSet<_> = (1..=CALLS).collect();
    while !open.is_empty() {
        let (id, close) = raw.close().await;
        assert!(open.remove(&id), "call {id} is closed twice");
        let (code, refused) = (close.status.unwrap().code, close.not_processed);
        assert!(
            matches!((code, refused), (code::RESOURCE_EXHAUSTED, true) | (code::CANCELLED, _)),
            "{code} {refused}"
        );
    }
    assert!(real.probe.most_at_once() <= 3, "{}", real.probe.most_at_once());
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_client_of_ours_that_drops_rapidly_is_never_refused() {
    let real = Real::with(|_| {}, |server| server.max_concurrent_calls(3)).await;
    let client = real.client();
    for round in 0..200 {
        let call = tokio::spawn({
            let client = client.clone();
            async move { client.hold(text(1)).await }
        });
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        call.abort();
    }
    settle().await;
    assert!(real.probe.most_at_once() <= 3);
    for _ in 0..10 {
        soon("a call", client.echo(text(1))).await.unwrap();
    }
}
