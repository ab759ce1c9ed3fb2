//! A client that keeps its connection, and ends it.

use ipc_runtime::Code;
use ipc_tests::clock::Clock;
use ipc_tests::feed::Feed;
use ipc_tests::probe::{ProbeClient, Sizes, note};
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::{Played, cause, done, failed, text};
use ipc_tests::wire::{self, Hello, code};

/// A client with call 1, that has no deadline, open.
async fn with_call_1()
-> (Played, RawPeer, tokio::task::JoinHandle<ipc_tests::setup::Outcome<ipc_tests::probe::Note>>) {
    let played = Played::with(|_| {}, |channel| channel.unary_timeout(std::time::Duration::from_secs(3600)));
    let call = played.echo();
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    (played, raw, call)
}

#[tokio::test]
async fn a_ping_is_answered_with_its_nonce() {
    let (_played, mut raw, _call) = with_call_1().await;
    for nonce in [0, 1, u64::MAX] {
        raw.send(0, wire::ping(nonce)).await;
        assert_eq!(raw.pong().await, (0, wire::Pong { nonce }));
    }
}

#[tokio::test]
async fn a_ping_goes_out_after_a_third_of_read_timeout_and_the_end_comes_after_all_of_it() {
    let clock = Clock::stop();
    let (_played, mut raw, call) = with_call_1().await;
    clock.advance_exactly(9_999).await;
    assert_eq!(raw.unread().await, 0);
    clock.advance(1).await;
    let (_, ping) = raw.ping().await;
    raw.send(0, wire::Pong { nonce: ping.nonce }).await;
    clock.advance(10_000).await;
    raw.ping().await;
    clock.advance_exactly(19_990).await;
    assert_eq!(raw.unread().await, 0);
    clock.advance(10).await;
    assert_eq!(raw.ends_with(code::DEADLINE_EXCEEDED).await.last_call_id, 0);
    failed(done(call).await, Code::Unavailable, true);
}

#[tokio::test]
async fn a_write_without_progress_ends_the_connection_after_write_timeout() {
    let clock = Clock::stop();
    let played = Played::with(|config| config.write_timeout_ms = 3000, |channel| channel);
    let feed = Feed::of(vec![text(100_000); 100]);
    let call = played.call(async |client: ProbeClient| client.sum(feed).await);
    let mut raw = played.server.greeted_with(Hello { initial_credit: 1 << 40, ..wire::hello() }).await;
    clock.advance_exactly(2990).await;
    raw.read_some(150_000).await;
    clock.advance_exactly(2990).await;
    assert!(!call.is_finished());
    clock.advance(10).await;
    failed(done(call).await, Code::Unavailable, true);
    clock.advance(1000).await;
    raw.is_let_go().await;
}

#[tokio::test]
async fn after_a_graceful_farewell_old_calls_end_here_and_new_ones_go_elsewhere_at_once() {
    let _clock = Clock::stop();
    let (played, mut raw, first) = with_call_1().await;
    raw.send(0, wire::go_away(code::UNAVAILABLE, 1)).await;
    raw.is_quiet().await;
    let second = played.echo();
    // No time passes before the next connection.
    let mut next = played.server.greeted().await;
    next.opened(1).await;
    next.send(1, wire::answer(note(4))).await;
    done(second).await.unwrap();
    raw.is_quiet().await;
    raw.send(1, wire::answer(note(4))).await;
    done(first).await.unwrap();
    // Its last call has ended, and nothing more will come from here.
    raw.ends().await;
}

#[tokio::test]
async fn of_several_farewells_the_lowest_id_holds() {
    for ids in [[5, 1], [1, 5], [1, 1]] {
        let (played, mut raw, first) = with_call_1().await;
        let second = played.echo();
        raw.opened(2).await;
        for id in ids {
            raw.send(0, wire::go_away(code::UNAVAILABLE, id)).await;
        }
        // Call 2 was not processed, and is sent again.
        let mut next = played.server.greeted().await;
        next.opened(1).await;
        next.send(1, wire::answer(note(4))).await;
        done(second).await.unwrap();
        raw.send(1, wire::answer(note(4))).await;
        done(first).await.unwrap();
    }
}

#[tokio::test]
async fn after_a_farewell_with_an_error_the_connection_ends_at_once() {
    for code in [code::INTERNAL, code::INVALID_ARGUMENT, code::DEADLINE_EXCEEDED] {
        let (_played, mut raw, call) = with_call_1().await;
        raw.send(0, wire::go_away(code, 1)).await;
        let error = failed(done(call).await, Code::Unavailable, true);
        assert!(error.to_string().contains("as the test says"), "{error}");
        assert_eq!(cause(&error).map(|cause| cause.code() as i32), Some(code));
        raw.ends().await;
    }
}

// A pipe can't be shut down by halves: it is closed at once, and what was said last can still be read.
#[cfg(unix)]
#[tokio::test]
async fn after_its_last_farewell_a_client_discards_what_comes_for_a_second() {
    let clock = Clock::stop();
    let (_played, mut raw, call) = with_call_1().await;
    raw.send(0, wire::hello()).await;
    raw.ends_with(code::INTERNAL).await;
    failed(done(call).await, Code::Unavailable, true);
    for _ in 0..10 {
        raw.send(1, wire::answer(note(50_000))).await;
    }
    clock.advance_exactly(990).await;
    raw.send(1, wire::answer(note(1))).await;
    clock.advance(10).await;
    assert!(raw.is_shut().await);
}

// A pipe takes what is written, and says later that nobody will read it: the call counts as sent.
#[cfg(unix)]
#[tokio::test]
async fn a_client_whose_write_fails_first_handles_what_has_arrived() {
    let (played, mut raw, first) = with_call_1().await;
    raw.send(1, wire::answer(note(4))).await;
    drop(raw);
    // Finds out by writing that nobody reads; its Open was not written.
    let second = played.client.echo(text(4));
    let (second, ()) = tokio::join!(second, async {
        let mut next = played.server.greeted().await;
        next.opened(1).await;
        next.send(1, wire::answer(note(4))).await;
    });
    second.unwrap();
    done(first).await.unwrap();
}

#[tokio::test]
async fn a_channel_that_is_dropped_ends_its_connection_once_its_calls_have() {
    let (played, mut raw, call) = with_call_1().await;
    drop(played);
    raw.is_quiet().await;
    raw.send(1, wire::answer(note(4))).await;
    done(call).await.unwrap();
    raw.ends().await;

    let played = Played::start();
    let call = played.call(async |client: ProbeClient| client.count(Sizes::default()).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.send(1, wire::Headers::default()).await;
    let mut stream = done(call).await.unwrap().into_inner();
    drop(played);
    raw.is_quiet().await;
    raw.send(1, wire::Close::default()).await;
    assert_eq!(stream.message().await.unwrap(), None);
    raw.ends().await;
}
