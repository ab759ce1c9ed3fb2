//! What a client gives its server, and how it keeps to what the server gives.

use ipc_runtime::{Code, Streaming};
use ipc_tests::feed::Feed;
use ipc_tests::probe::{Note, ProbeClient, Sizes, Total, note};
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::{Played, done, text};
use ipc_tests::wire::{self, Hello, code};
use prost::Message;

use super::MAX_CREDIT;

/// A stream that nobody reads yet.
async fn unread(initial_credit: u64) -> (Played, RawPeer, Streaming<Note>) {
    let played = Played::with(|_| {}, |channel| channel.initial_credit(initial_credit));
    let call = played.call(async |client: ProbeClient| client.count(Sizes::default()).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.send(1, wire::Headers::default()).await;
    let stream = done(call).await.unwrap().into_inner();
    (played, raw, stream)
}

#[tokio::test]
async fn an_item_passes_above_0_and_breaks_the_protocol_at_0() {
    for (window, pass) in [(1, 1), (40, 1), (41, 2), (80, 2), (81, 3)] {
        let (_played, mut raw, mut stream) = unread(window).await;
        for _ in 0..pass {
            raw.send(1, wire::item(note(6))).await;
            raw.is_quiet().await;
        }
        raw.send(1, wire::item(note(6))).await;
        raw.ends_with(code::INTERNAL).await;
        for _ in 0..pass {
            assert_eq!(stream.message().await.unwrap(), Some(text(6)));
        }
        assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn a_message_larger_than_the_window_passes() {
    let (_played, mut raw, mut stream) = unread(1).await;
    raw.send(1, wire::item(note(500_000))).await;
    raw.is_quiet().await;
    assert_eq!(stream.message().await.unwrap(), Some(text(500_000)));
    assert_eq!(raw.credit().await, (1, wire::credit(500_036)));
}

#[tokio::test]
async fn the_message_of_a_close_costs_nothing() {
    let (_played, mut raw, mut stream) = unread(1).await;
    raw.send(1, wire::item(note(6))).await;
    raw.send(1, wire::answer(note(5000))).await;
    raw.is_quiet().await;
    assert_eq!(stream.message().await.unwrap(), Some(text(6)));
    assert_eq!(stream.message().await.unwrap(), Some(text(5000)));
    assert_eq!(stream.message().await.unwrap(), None);
}

#[tokio::test]
async fn credit_comes_back_at_half_a_window_once_items_are_read() {
    let (_played, mut raw, mut stream) = unread(400).await;
    for _ in 0..10 {
        raw.send(1, wire::item(note(6))).await;
    }
    for _ in 0..4 {
        stream.message().await.unwrap();
        raw.is_quiet().await;
    }
    stream.message().await.unwrap();
    assert_eq!(raw.credit().await, (1, wire::credit(200)));
}

#[tokio::test]
async fn with_no_initial_credit_the_reader_asks() {
    let played = Played::with(|_| {}, |channel| channel.initial_credit(0));
    let call = played.call(async |client: ProbeClient| client.count(Sizes::default()).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    // Waiting for the answer to begin asks for its first item, since it may begin with one.
    assert_eq!(raw.credit().await, (1, wire::credit(1)));
    raw.send(1, wire::Headers::default()).await;
    let mut stream = done(call).await.unwrap().into_inner();
    raw.is_quiet().await;
    raw.send(1, wire::item(note(6))).await;
    assert_eq!(stream.message().await.unwrap(), Some(text(6)));
    raw.is_quiet().await;
    for _ in 0..3 {
        let read = tokio::spawn(async move { (stream.message().await, stream) });
        let (id, credit) = raw.credit().await;
        assert!(id == 1 && credit.amount > 0);
        raw.send(1, wire::item(note(6))).await;
        let (message, again) = done(read).await;
        assert_eq!(message.unwrap(), Some(text(6)));
        stream = again;
    }
    raw.send(1, wire::item(note(6))).await;
    raw.ends_with(code::INTERNAL).await;
}

#[tokio::test]
async fn credit_adds_up_to_2_to_the_62_and_no_further() {
    let rows: [(u64, &[u64], bool); 5] = [
        (MAX_CREDIT, &[1], false),
        (MAX_CREDIT - 1, &[1], true),
        (0, &[MAX_CREDIT], true),
        (0, &[MAX_CREDIT, 1], false),
        (1, &[u64::MAX], false),
    ];
    for (initial_credit, credits, fine) in rows {
        let played = Played::start();
        let _call = played.echo();
        let hello = Hello { initial_credit, ..wire::hello() };
        let mut raw = played.server.greeted_with(hello).await;
        raw.opened(1).await;
        raw.send_all(credits.iter().map(|amount| (1, wire::credit(*amount)))).await;
        if fine {
            raw.is_quiet().await;
        } else {
            raw.ends_with(code::INTERNAL).await;
        }
    }
}

#[tokio::test]
async fn a_client_sends_while_its_credit_is_above_0() {
    for (window, items) in [(0, 0), (1, 1), (40, 1), (41, 2), (100, 3)] {
        let played = Played::start();
        let notes = Feed::of(vec![text(6); 10]);
        let call = played.call(async |client: ProbeClient| client.sum(notes).await);
        let hello = Hello { initial_credit: window, ..wire::hello() };
        let mut raw = played.server.greeted_with(hello).await;
        raw.opened(1).await;
        for _ in 0..items {
            raw.has_item(1).await;
        }
        raw.is_quiet().await;
        let debt = items * 40 - window;
        if debt > 0 {
            raw.send(1, wire::credit(debt)).await;
            raw.is_quiet().await;
        }
        raw.send(1, wire::credit(1)).await;
        raw.has_item(1).await;
        raw.is_quiet().await;
        raw.send(1, wire::answer(Total::default().encode_to_vec())).await;
        done(call).await.unwrap();
        raw.is_quiet().await;
    }
}

#[tokio::test]
async fn a_client_sends_an_item_larger_than_the_window() {
    let played = Played::start();
    let notes = Feed::of(vec![text(500_000); 2]);
    let _call = played.call(async |client: ProbeClient| client.sum(notes).await);
    let hello = Hello { initial_credit: 1, ..wire::hello() };
    let mut raw = played.server.greeted_with(hello).await;
    raw.opened(1).await;
    raw.has_item(1).await;
    raw.is_quiet().await;
    raw.send(1, wire::credit(1 << 20)).await;
    raw.has_item(1).await;
    raw.half_closed().await;
}

#[tokio::test]
async fn the_end_of_a_stream_waits_for_no_credit() {
    for (initial_credit, notes) in [(0, 0), (1, 1), (40, 1), (41, 2)] {
        let played = Played::start();
        let feed = Feed::of(vec![text(6); notes]);
        let _call = played.call(async |client: ProbeClient| client.sum(feed).await);
        let mut raw = played.server.greeted_with(Hello { initial_credit, ..wire::hello() }).await;
        raw.opened(1).await;
        for _ in 0..notes {
            raw.has_item(1).await;
        }
        raw.half_closed().await;
    }
}
