//! Deadlines that a client keeps and tells, and calls that it gives up.

use std::time::Duration;

use ipc_runtime::{Code, IpcError, Request};
use ipc_tests::clock::Clock;
use ipc_tests::feed::Feed;
use ipc_tests::probe::{ProbeClient, Sizes, note};
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::{Played, done, failed, ms, text};
use ipc_tests::wire::{self, Hello, code};

async fn timeout_us(request: Request<ipc_tests::probe::Note>) -> u64 {
    let played = Played::start();
    let _call = played.call(async |client: ProbeClient| client.echo(request).await);
    played.server.greeted().await.opened(1).await.timeout_us
}

#[tokio::test]
async fn what_is_left_travels_in_microseconds_rounded_up() {
    let _clock = Clock::stop();
    let note = || Request::new(text(1));
    assert_eq!(timeout_us(note()).await, 30_000_000, "read_timeout_ms");
    assert_eq!(timeout_us(note().without_timeout()).await, 0);
    for (timeout, expected) in [
        (Duration::from_nanos(1), 1),
        (Duration::from_micros(1), 1),
        (Duration::from_nanos(1001), 2),
        (ms(1), 1000),
        (Duration::from_secs(3600), 3_600_000_000),
    ] {
        assert_eq!(timeout_us(note().with_timeout(timeout)).await, expected);
    }
}

#[tokio::test]
async fn connecting_and_queueing_take_from_the_deadline() {
    let clock = Clock::stop();
    let played = Played::start();
    let request = Request::new(text(1)).with_timeout(ms(1000));
    let first = played.call(async |client: ProbeClient| client.echo(request).await);
    let request = Request::new(text(1)).with_timeout(ms(1000));
    let second = played.call(async |client: ProbeClient| client.echo(request).await);
    let mut raw = played.server.accept().await;
    clock.advance_exactly(400).await;
    raw.welcome(Hello { max_concurrent_calls: 1, ..wire::hello() }).await;
    assert_eq!(raw.opened(1).await.timeout_us, 600_000);
    clock.advance_exactly(250).await;
    raw.send(1, wire::answer(note(1))).await;
    assert_eq!(raw.opened(2).await.timeout_us, 350_000);
    raw.send(2, wire::answer(note(1))).await;
    done(first).await.unwrap();
    done(second).await.unwrap();
}

#[tokio::test]
async fn streaming_calls_have_no_deadline_unless_they_are_given_one() {
    let _clock = Clock::stop();
    for timeout in [None, Some(ms(1500))] {
        let played = Played::start();
        let mut request = Request::new(Sizes::default());
        let mut feed = Request::new(Feed::of([]));
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
            feed.set_timeout(timeout);
        }
        let _count = played.call(async |client: ProbeClient| client.count(request).await);
        let expected = timeout.map_or(0, |_| 1_500_000);
        let mut raw = played.server.greeted().await;
        assert_eq!(raw.opened(1).await.timeout_us, expected);
        let _sum = played.call(async |client: ProbeClient| client.sum(feed).await);
        assert_eq!(raw.opened(2).await.timeout_us, expected);
    }
}

#[tokio::test]
async fn nothing_is_opened_when_nothing_is_left() {
    let clock = Clock::stop();
    // While it connects, while it waits for a slot, and from the start.
    let played = Played::start();
    let hurried = async |client: ProbeClient| client.echo(Request::new(text(1)).with_timeout(ms(1000))).await;
    let call = played.call(hurried);
    let mut raw = played.server.accept().await;
    clock.advance(1000).await;
    failed(done(call).await, Code::DeadlineExceeded, false);
    raw.welcome(Hello { max_concurrent_calls: 1, ..wire::hello() }).await;
    raw.is_quiet().await;

    let _first = played.echo();
    raw.opened(1).await;
    let call = played.call(hurried);
    clock.advance(1000).await;
    failed(done(call).await, Code::DeadlineExceeded, false);
    raw.send(1, wire::answer(note(4))).await;
    raw.is_quiet().await;

    let none = Request::new(text(1)).with_timeout(Duration::ZERO);
    let call = played.call(async |client: ProbeClient| client.echo(none).await);
    clock.advance(0).await;
    failed(done(call).await, Code::DeadlineExceeded, false);
    raw.is_quiet().await;
}

#[tokio::test]
async fn at_expiry_the_call_fails_here_and_is_cancelled_there() {
    let clock = Clock::stop();
    let played = Played::start();
    let request = Request::new(text(1)).with_timeout(ms(1000));
    let call = played.call(async |client: ProbeClient| client.echo(request).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    clock.advance_exactly(999).await;
    assert!(!call.is_finished());
    clock.advance(1).await;
    let error = failed(done(call).await, Code::DeadlineExceeded, true);
    assert!(matches!(error, IpcError::Timeout), "{error:?}");
    raw.cancelled(1).await;
    // Its answer comes too late.
    raw.send(1, wire::answer(note(1))).await;
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_deadline_covers_a_request_that_cannot_be_written() {
    let clock = Clock::stop();
    let played = Played::with(|config| config.write_timeout_ms = 100_000, |channel| channel);
    let request = Request::new(text(900_000)).with_timeout(ms(1000));
    let call = played.call(async |client: ProbeClient| client.echo(request).await);
    let mut raw = played.server.greeted().await;
    clock.advance(1000).await;
    failed(done(call).await, Code::DeadlineExceeded, true);
    // The frame is finished all the same.
    raw.opened(1).await;
    raw.cancelled(1).await;
}

#[tokio::test]
async fn an_open_of_which_no_byte_was_handed_over_is_dropped_with_its_call() {
    let clock = Clock::stop();
    let played = Played::with(|config| config.write_timeout_ms = 100_000, |channel| channel);
    let first = played.call(async |client: ProbeClient| client.echo(text(900_000)).await);
    let mut raw = played.server.greeted().await;
    clock.advance(0).await;
    // Behind a frame that the transport does not take whole.
    let late = Request::new(text(1)).with_timeout(ms(1000));
    let late = played.call(async |client: ProbeClient| client.echo(late).await);
    let dropped = played.call(async |client: ProbeClient| client.echo(text(1)).await);
    clock.advance(0).await;
    dropped.abort();
    clock.advance(1000).await;
    failed(done(late).await, Code::DeadlineExceeded, false);
    let (id, _) = raw.open().await;
    raw.is_quiet().await;
    raw.send(id, wire::answer(note(4))).await;
    done(first).await.unwrap();
}

#[tokio::test]
async fn a_deadline_ends_a_stream_that_has_begun() {
    let clock = Clock::stop();
    let played = Played::start();
    let request = Request::new(Sizes::default()).with_timeout(ms(1000));
    let call = played.call(async |client: ProbeClient| client.count(request).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.send(1, wire::item(note(4))).await;
    let mut stream = done(call).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap(), Some(text(4)));
    let read = tokio::spawn(async move { stream.message().await.unwrap_err().code() });
    clock.advance(1000).await;
    assert_eq!(done(read).await, Code::DeadlineExceeded);
    raw.cancelled(1).await;
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_deadline_ends_a_request_that_waits_for_credit_or_for_its_items() {
    let clock = Clock::stop();
    for initial_credit in [0, 1 << 20] {
        let played = Played::start();
        let (items, feed) = Feed::new();
        items.send(text(1)).unwrap();
        let request = Request::new(feed).with_timeout(ms(1000));
        let call = played.call(async |client: ProbeClient| client.sum(request).await);
        let mut raw = played.server.greeted_with(Hello { initial_credit, ..wire::hello() }).await;
        raw.opened(1).await;
        if initial_credit > 0 {
            raw.has_item(1).await;
        }
        clock.advance(1000).await;
        failed(done(call).await, Code::DeadlineExceeded, true);
        raw.cancelled(1).await;
        assert!(items.is_closed(), "the stream of requests is dropped");
    }
}

/// Begins a call, drops it as `give_up` says, and expects its Cancel and nothing else.
async fn gives_up<T: Send + 'static>(
    call: impl FnOnce(ProbeClient) -> std::pin::Pin<Box<dyn Future<Output = T> + Send>>,
    answer: impl AsyncFnOnce(&mut RawPeer),
) {
    let played = Played::start();
    let call = played.call(call);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    answer(&mut raw).await;
    call.abort();
    _ = call.await;
    raw.cancelled(1).await;
    raw.is_quiet().await;
    raw.send(1, wire::refusal(code::CANCELLED, false)).await;
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled() {
    let nothing = async |_: &mut RawPeer| {};
    let begins = async |raw: &mut RawPeer| raw.send(1, wire::Headers::default()).await;
    gives_up(|client| Box::pin(async move { client.echo(text(1)).await }), nothing).await;
    gives_up(|client| Box::pin(async move { client.count(Sizes::default()).await }), nothing).await;
    let (_items, feed) = Feed::new();
    gives_up(|client| Box::pin(async move { client.sum(feed).await }), nothing).await;
    let (_items, feed) = Feed::new();
    gives_up(|client| Box::pin(async move { client.chat(feed).await }), nothing).await;
    // Streams that have begun, dropped at once, or by a task that holds them.
    gives_up(|client| Box::pin(async move { drop(client.count(Sizes::default()).await) }), begins).await;
    let (_items, feed) = Feed::new();
    let held = |client: ProbeClient| async move {
        let _stream = client.chat(feed).await;
        std::future::pending::<()>().await;
    };
    gives_up(|client| Box::pin(held(client)), begins).await;
}

#[tokio::test]
async fn a_call_that_has_ended_is_not_cancelled() {
    let played = Played::start();
    let call = played.call(async |client: ProbeClient| client.count(Sizes::default()).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.send(1, wire::item(note(4))).await;
    raw.send(1, wire::Close::default()).await;
    let stream = done(call).await.unwrap();
    raw.is_quiet().await;
    // Its items were not even read.
    drop(stream);
    raw.is_quiet().await;
}
