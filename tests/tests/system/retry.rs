//! Section 9: what a call that fails says of its request, and when it is sent again.

use ipc_runtime::{Code, Request};
use ipc_tests::clock::{Clock, settle};
use ipc_tests::feed::Feed;
use ipc_tests::probe::{Note, ProbeClient, Sizes, Total, note};
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::{Outcome, Played, done, failed, text};
use ipc_tests::wire::{self, Body, GoAway, Hello, code};
use prost::Message;
use tokio::task::JoinHandle;

type Call = JoinHandle<Outcome<Note>>;

/// How a method with some idempotency is called.
const METHODS: [fn(&Played) -> Call; 3] = [
    |played| played.call(async |client: ProbeClient| client.echo(patient(4)).await),
    |played| played.call(async |client: ProbeClient| client.echo_again(patient(4)).await),
    |played| played.call(async |client: ProbeClient| client.echo_freely(patient(4)).await),
];

/// A request that waits for a server that is being reached again.
fn patient(bytes: usize) -> Request<Note> {
    Request::new(text(bytes)).with_wait_for_ready(true)
}

async fn answers(raw: &mut RawPeer, id: u64) {
    raw.opened(id).await;
    raw.send(id, wire::answer(note(4))).await;
}

/// A call of `Echo`, or of one of its twins with some idempotency, with a request that no socket holds at once.
fn large(played: &Played, method: usize) -> Call {
    played.call(async move |client: ProbeClient| match method {
        0 => client.echo(patient(900_000)).await,
        1 => client.echo_again(patient(900_000)).await,
        _ => client.echo_freely(patient(900_000)).await,
    })
}

#[tokio::test]
async fn an_open_that_was_written_in_part_is_sent_again_only_where_the_schema_allows_it() {
    for (method, repeats) in [(0, false), (1, true), (2, true)] {
        let played = Played::start();
        let call = large(&played, method);
        let mut raw = played.server.greeted().await;
        raw.read_some(1).await;
        drop(raw);
        if repeats {
            answers(&mut played.server.greeted().await, 1).await;
            done(call).await.unwrap();
        } else {
            failed(done(call).await, Code::Unavailable, true);
            assert!(played.server.nobody_comes().await);
        }
    }
}

#[tokio::test]
async fn an_open_of_which_no_byte_was_written_is_sent_again() {
    let played = Played::start();
    let first = large(&played, 0);
    let mut raw = played.server.greeted().await;
    raw.read_some(1).await;
    // Waits behind the first, of which the socket takes no more.
    let second = METHODS[0](&played);
    settle().await;
    drop(raw);
    answers(&mut played.server.greeted().await, 1).await;
    done(second).await.unwrap();
    failed(done(first).await, Code::Unavailable, true);
}

#[tokio::test]
async fn an_open_that_is_sent_again_is_not_written_to_the_connection_that_ended() {
    let clock = Clock::stop();
    let played = Played::with(
        |config| (config.read_timeout_ms, config.write_timeout_ms) = (3000, 60_000),
        |channel| channel.unary_timeout(std::time::Duration::from_secs(3600)),
    );
    let first = large(&played, 0);
    let mut raw = played.server.greeted().await;
    raw.read_some(1).await;
    let second = METHODS[0](&played);
    // The server stands still for too long and goes on.
    clock.advance(1000).await;
    clock.advance(2000).await;
    // What was begun is finished, and the second request does not follow.
    raw.opened(1).await;
    raw.ping().await;
    raw.ends_with(code::DEADLINE_EXCEEDED).await;
    clock.advance(5000).await;
    answers(&mut played.server.greeted().await, 1).await;
    done(second).await.unwrap();
    failed(done(first).await, Code::Unavailable, true);
    assert!(played.server.nobody_comes().await);
}

#[tokio::test]
async fn an_open_above_the_farewells_id_is_sent_again_whatever_the_farewell_says() {
    for code in [code::UNAVAILABLE, code::INTERNAL, code::DATA_LOSS] {
        let played = Played::start();
        let first = METHODS[0](&played);
        let mut raw = played.server.greeted().await;
        raw.opened(1).await;
        let second = METHODS[0](&played);
        raw.opened(2).await;
        raw.send_all([(0, wire::go_away(code, 1))]).await;
        raw.half_close().await;
        answers(&mut played.server.greeted().await, 1).await;
        done(second).await.unwrap();
        let expected = if code == code::DATA_LOSS { Code::DataLoss } else { Code::Unavailable };
        failed(done(first).await, expected, true);
    }
}

#[tokio::test]
async fn an_open_that_was_written_is_sent_again_only_where_the_schema_allows_it() {
    for (method, repeats) in METHODS.into_iter().zip([false, true, true]) {
        for farewell in [None, Some(code::INTERNAL), Some(code::DEADLINE_EXCEEDED), Some(code::UNAVAILABLE)] {
            let played = Played::start();
            let call = method(&played);
            let mut raw = played.server.greeted().await;
            raw.opened(1).await;
            if let Some(code) = farewell {
                raw.send(0, wire::go_away(code, 1)).await;
            }
            raw.half_close().await;
            if repeats {
                answers(&mut played.server.greeted().await, 1).await;
                done(call).await.unwrap();
            } else {
                failed(done(call).await, Code::Unavailable, true);
                assert!(played.server.nobody_comes().await);
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_that_was_not_processed_is_repeated_after_the_backoff_if_it_is_unavailable() {
    let clock = Clock::stop();
    let played = Played::start();
    let call = METHODS[0](&played);
    let mut raw = played.server.greeted().await;
    // 50 ms, then 80 ms, each with a fifth of jitter.
    for (id, (soonest, latest)) in (1..).zip([(40, 60), (64, 96)]) {
        raw.opened(id).await;
        raw.send(id, wire::refusal(code::UNAVAILABLE, true)).await;
        clock.advance_exactly(soonest - 1).await;
        assert_eq!(raw.unread().await, 0);
        clock.advance(latest - soonest + 1).await;
    }
    raw.opened(3).await;
    raw.send(3, wire::refusal(code::UNAVAILABLE, true)).await;
    failed(done(call).await, Code::Unavailable, false);
}

#[tokio::test]
async fn other_refusals_go_to_the_caller() {
    let rows = [
        (code::UNAVAILABLE, false, Code::Unavailable, true),
        (code::RESOURCE_EXHAUSTED, true, Code::ResourceExhausted, false),
        (code::UNIMPLEMENTED, true, Code::Unimplemented, false),
        (code::INTERNAL, true, Code::Internal, false),
        (code::CANCELLED, false, Code::Cancelled, true),
        (code::DEADLINE_EXCEEDED, false, Code::DeadlineExceeded, true),
    ];
    for method in METHODS {
        for (number, not_processed, code, sent) in rows {
            let played = Played::start();
            let call = method(&played);
            let mut raw = played.server.greeted().await;
            raw.opened(1).await;
            raw.send(1, wire::refusal(number, not_processed)).await;
            failed(done(call).await, code, sent);
            raw.is_quiet().await;
        }
    }
}

#[tokio::test]
async fn a_call_whose_answer_has_begun_is_never_sent_again() {
    // Count changes nothing, and could be repeated otherwise.
    for begun in [wire::Headers::default().into(), Body::from(wire::item(note(4)))] {
        let played = Played::start();
        let call = played.call(async |client: ProbeClient| client.count(Sizes::default()).await);
        let mut raw = played.server.greeted().await;
        raw.opened(1).await;
        raw.send(1, begun).await;
        let mut stream = done(call).await.unwrap().into_inner();
        raw.half_close().await;
        let error = loop {
            match stream.message().await {
                Ok(message) => assert_eq!(message, Some(text(4))),
                Err(error) => break ipc_runtime::IpcError::from(error),
            }
        };
        assert_eq!((error.code(), error.request_sent()), (Code::Unavailable, true));
        assert!(played.server.nobody_comes().await);
    }
    // Nor where the caller has seen nothing of it.
    for begun in [wire::Headers::default().into(), Body::from(wire::item(note(4)))] {
        let played = Played::start();
        let call = METHODS[2](&played);
        let mut raw = played.server.greeted().await;
        raw.opened(1).await;
        raw.send(1, begun).await;
        raw.half_close().await;
        failed(done(call).await, Code::Unavailable, true);
        assert!(played.server.nobody_comes().await);
    }
}

#[tokio::test]
async fn a_streamed_answer_that_has_not_begun_is_asked_for_again() {
    let played = Played::start();
    let call = played.call(async |client: ProbeClient| client.count(Sizes::default()).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.half_close().await;
    let mut next = played.server.greeted().await;
    next.opened(1).await;
    next.send(1, wire::Close::default()).await;
    assert_eq!(done(call).await.unwrap().into_inner().message().await.unwrap(), None);
}

#[tokio::test]
async fn a_call_is_written_to_3_connections_at_most() {
    // Lost each time, above the farewell's id each time.
    for (method, last_call_id, sent) in [(METHODS[1], 1, true), (METHODS[0], 0, false)] {
        let clock = Clock::stop();
        let played = Played::start();
        let call = method(&played);
        for _ in 0..3 {
            let mut raw = played.server.greeted().await;
            raw.opened(1).await;
            raw.send(0, wire::go_away(code::INTERNAL, last_call_id)).await;
            raw.half_close().await;
            clock.advance(5000).await;
        }
        failed(done(call).await, Code::Unavailable, sent);
        assert!(played.server.nobody_comes().await);
        drop(clock);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn damage_on_either_side_is_data_loss() {
    let played = Played::start();
    let (first, second) = (METHODS[0](&played), METHODS[0](&played));
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.opened(2).await;
    raw.send(0, wire::go_away(code::DATA_LOSS, 2)).await;
    failed(done(first).await, Code::DataLoss, true);
    failed(done(second).await, Code::DataLoss, true);
    raw.ends().await;

    let played = Played::start();
    let call = METHODS[0](&played);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    let mut frame = wire::frame_of(wire::Checksum::Ieee, 1, wire::answer(note(4)));
    frame[4] ^= 1;
    raw.write(&frame).await;
    raw.ends_with(code::DATA_LOSS).await;
    failed(done(call).await, Code::DataLoss, true);
}

#[tokio::test]
async fn a_streamed_request_is_repeated_while_all_its_items_are_held() {
    let played = Played::start();
    let (items, feed) = Feed::new();
    let call = played.call(async |client: ProbeClient| client.sum(feed).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    for size in 1..=3 {
        items.send(text(size)).unwrap();
        assert_eq!(raw.has_item(1).await, note(size));
    }
    raw.send(0, wire::go_away(code::UNAVAILABLE, 0)).await;
    let mut next = played.server.greeted().await;
    next.opened(1).await;
    for size in 1..=3 {
        assert_eq!(next.has_item(1).await, note(size));
    }
    items.send(text(4)).unwrap();
    drop(items);
    assert_eq!(next.has_item(1).await, note(4));
    next.half_closed().await;
    next.send(1, wire::answer(Total { notes: 4, bytes: 10 }.encode_to_vec())).await;
    assert_eq!(done(call).await.unwrap().into_inner().notes, 4);
}

#[tokio::test]
async fn a_streamed_request_whose_items_are_gone_is_not_repeated() {
    // Too many to hold, or let go because the server has begun to take them.
    for (notes, size) in [(20, 50_000), (2, 6)] {
        let played = Played::start();
        let (items, feed) = Feed::new();
        let call = played.call(async |client: ProbeClient| client.sum(feed).await);
        let mut raw = played.server.greeted_with(Hello { initial_credit: 1 << 40, ..wire::hello() }).await;
        raw.opened(1).await;
        for _ in 0..notes {
            items.send(text(size)).unwrap();
            raw.has_item(1).await;
            raw.send(1, wire::credit(1)).await;
        }
        raw.is_quiet().await;
        items.send(text(1)).unwrap();
        raw.has_item(1).await;
        raw.send(0, wire::go_away(code::UNAVAILABLE, 0)).await;
        failed(done(call).await, Code::Unavailable, false);
        assert!(played.server.nobody_comes().await);
    }
}

#[tokio::test]
async fn refusals_that_cannot_be_mended_fail_all_waiting_calls() {
    let rows = [
        (code::FAILED_PRECONDITION, Code::FailedPrecondition),
        (code::INVALID_ARGUMENT, Code::InvalidArgument),
        (code::PERMISSION_DENIED, Code::PermissionDenied),
    ];
    for (number, code) in rows {
        let played = Played::start();
        let calls = METHODS.map(|method| method(&played));
        let mut raw = played.server.accept().await;
        raw.hello().await;
        raw.send(0, wire::go_away(number, 0)).await;
        for call in calls {
            failed(done(call).await, code, false);
        }
    }
}

#[tokio::test]
async fn other_refusals_are_waited_out_for_as_long_as_the_server_asks() {
    let clock = Clock::stop();
    // The server may ask for a minute at most.
    let rows = [(code::RESOURCE_EXHAUSTED, 2000, 2000), (code::UNAVAILABLE, u32::MAX, 60_000)];
    for (code, retry_after_ms, wait) in rows {
        let played =
            Played::with(|_| {}, |channel| channel.unary_timeout(std::time::Duration::from_secs(3600)));
        let call = METHODS[0](&played);
        let mut raw = played.server.accept().await;
        raw.hello().await;
        raw.send(0, GoAway { retry_after_ms, ..wire::go_away(code, 0) }).await;
        raw.half_close().await;
        clock.advance_exactly(wait - 1).await;
        assert!(played.server.nobody_comes().await);
        clock.advance(1).await;
        answers(&mut played.server.greeted().await, 1).await;
        done(call).await.unwrap();
    }
}
