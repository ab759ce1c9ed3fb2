//! Requests as a server takes them.

use bytes::Bytes;
use ipc_tests::probe::{Sizes, Total, note};
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::Real;
use ipc_tests::wire::{self, Body, code};
use prost::Message;

/// How a request can be split: `o` Open, `O` Open with a message, `e` and `E` the same with the end of the stream,
/// `i` Item, `h` `HalfClose`.
async fn send_split(raw: &mut RawPeer, id: u64, method: &str, split: &str, message: &Bytes) {
    // In one write: what the server says while it has only a part of it would depend on the system.
    let parts = split.chars().map(|part| {
        let open = |with: bool, end_of_stream| wire::Open {
            message: with.then(|| message.clone()),
            end_of_stream,
            ..wire::open_stream(method)
        };
        let body = match part {
            'o' | 'O' => open(part == 'O', false).into(),
            'e' | 'E' => open(part == 'E', true).into(),
            'i' => wire::item(message.clone()).into(),
            'h' => wire::HalfClose {}.into(),
            other => panic!("a part of a request, not {other}"),
        };
        (id, body)
    });
    raw.send_all::<Body>(parts).await;
}

const ONE: [&str; 3] = ["E", "Oh", "oih"];
const NONE: [&str; 2] = ["e", "oh"];
const MORE: [&str; 4] = ["Oih", "oiih", "oiiiih", "Oiiih"];

fn sizes(notes: u64) -> Bytes {
    Sizes { notes, bytes: 3, ..Sizes::default() }.encode_to_vec().into()
}

#[tokio::test]
async fn one_request_however_it_is_split() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    for (id, split) in (1..).zip(ONE) {
        send_split(&mut raw, id, "Echo", split, &note(3)).await;
        assert_eq!(raw.answered(id).await, note(3), "{split}");
    }
    let mut raw = real.raw().await;
    for (id, split) in (1..).zip(ONE) {
        send_split(&mut raw, id, "Count", split, &sizes(2)).await;
        let (items, close) = raw.streamed(id).await;
        assert_eq!((items, close), (vec![note(3), note(3)], wire::Close::default()), "{split}");
    }
}

#[tokio::test]
async fn another_number_of_requests_than_one_is_an_invalid_argument() {
    let real = Real::start().await;
    for method in ["Echo", "Count"] {
        for split in [&NONE[..], &MORE].concat() {
            let mut raw = real.raw().await;
            send_split(&mut raw, 1, method, split, &sizes(1)).await;
            raw.closed(1, code::INVALID_ARGUMENT, true).await;
            raw.is_quiet().await;
        }
    }
    assert_eq!(real.probe.calls(), 0);
}

#[tokio::test]
async fn any_number_of_streamed_requests_however_they_are_split() {
    let real = Real::start().await;
    for (split, notes) in [("e", 0), ("oh", 0), ("E", 1), ("Oh", 1), ("oih", 1), ("Oiih", 3), ("oiiiih", 4)] {
        let mut raw = real.raw().await;
        send_split(&mut raw, 1, "Sum", split, &note(3)).await;
        let total = Total { notes, bytes: 3 * notes }.encode_to_vec();
        assert_eq!(raw.answered(1).await, total, "{split}");

        send_split(&mut raw, 2, "Chat", split, &note(3)).await;
        let (items, close) = raw.streamed(2).await;
        assert_eq!(close, wire::Close::default(), "{split}");
        assert_eq!(items, vec![note(3); usize::try_from(notes).unwrap()], "{split}");
    }
}

#[tokio::test]
async fn ids_may_have_gaps_up_to_the_last_there_is() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    for id in [3, 4, 1000, 1 << 40, u64::MAX] {
        raw.send(id, wire::open("Echo", note(3))).await;
        assert_eq!(raw.answered(id).await, note(3));
    }
}

#[tokio::test]
async fn what_comes_after_the_end_of_the_requests_is_dropped() {
    let real = Real::with(|_| {}, |server| server.initial_credit(100)).await;
    let mut raw = real.raw().await;
    // Far more than the credit: it would be a protocol error were it not dropped.
    for (id, split) in [(1, "oihiiiiii"), (2, "Eiiiiiii"), (3, "oihh")] {
        send_split(&mut raw, id, "Sum", split, &note(30)).await;
        let total = Total { notes: 1, bytes: 30 }.encode_to_vec();
        assert_eq!(raw.answered(id).await, total, "{split}");
    }
    raw.send(4, wire::open("Hold", note(1))).await;
    for _ in 0..5 {
        raw.send(4, wire::item(note(1000))).await;
    }
    real.probe.release(1);
    assert_eq!(raw.answered(4).await, note(1));
    raw.is_quiet().await;
}

#[tokio::test]
async fn after_its_close_a_server_ignores_the_rest_of_the_requests() {
    let real = Real::with(|_| {}, |server| server.initial_credit(100)).await;
    real.probe.release(1);
    let mut raw = real.raw().await;
    raw.send(1, wire::open_stream("Deaf")).await;
    assert_eq!(raw.answered(1).await, "");
    let late: [Body; 6] = [
        wire::item(note(90)).into(),
        wire::item(note(90)).into(),
        wire::item(note(90)).into(),
        wire::credit(u64::MAX).into(),
        wire::HalfClose {}.into(),
        wire::Cancel {}.into(),
    ];
    raw.send_all(late.into_iter().map(|body| (1, body))).await;
    raw.is_quiet().await;
}

#[tokio::test]
async fn what_is_not_there_is_unimplemented_and_not_processed() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    let long = format!("/test.probe.v1.Probe/{}", "x".repeat(10_000));
    let paths = [
        "/test.probe.v1.Probe/None",
        "/test.probe.v1.Probe/echo",
        "/test.probe.v1.Probe/",
        "/test.probe.v1.Probe",
        "test.probe.v1.Probe/Echo",
        "/test.probe.v1.None/Echo",
        "/Echo",
        "Echo",
        "/",
        "//",
        "",
        &long,
    ];
    for (id, method) in (1..).zip(paths) {
        let open = wire::Open { method: method.to_owned(), ..wire::open("", note(1)) };
        raw.send(id, open).await;
        let close = raw.closed(id, code::UNIMPLEMENTED, true).await;
        let message = close.status.unwrap().message;
        assert!(message.len() < 400, "{message}");
    }
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_request_that_does_not_decode_is_an_invalid_argument() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    // Field 1 promises more bytes than there are.
    let broken = Bytes::from_static(&[0x0a, 0x05, b'x']);
    // No handler is started for these, but one that reads a stream is before it can tell.
    for (id, method, not_processed) in
        [(1, "Echo", true), (2, "Count", true), (3, "Sum", false), (4, "Chat", false)]
    {
        raw.send(id, wire::open(method, broken.clone())).await;
        let (items, close) = raw.streamed(id).await;
        let status = close.status.unwrap();
        assert_eq!(
            (items.len(), status.code, close.not_processed),
            (0, code::INVALID_ARGUMENT, not_processed),
            "{method}: {status:?}"
        );
    }
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_metadata_key_that_breaks_the_rule_is_an_invalid_argument() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    for (id, key) in (1..).zip(["", "Upper", "with space", "ü", "a:b", "a\0", "a/b"]) {
        let metadata = [wire::pair("fine", "1"), wire::pair(key, "2")].concat();
        raw.send(id, wire::Open { metadata, ..wire::open("Echo", note(1)) }).await;
        raw.closed(id, code::INVALID_ARGUMENT, true).await;
    }
    raw.is_quiet().await;
    assert_eq!(real.probe.calls(), 0);
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_own_call_and_no_other() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    raw.send(1, wire::open("Hold", note(1))).await;
    real.probe.started("Hold").await;
    raw.send(2, wire::open("Panic", note(1))).await;
    raw.closed(2, code::INTERNAL, false).await;
    raw.send(3, wire::open("Echo", note(3))).await;
    raw.answered(3).await;
    real.probe.release(1);
    assert_eq!(raw.answered(1).await, note(1));
}

#[tokio::test]
async fn calls_end_in_the_order_of_their_handlers_not_of_their_ids() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    raw.send(1, wire::open("Hold", note(1))).await;
    real.probe.started("Hold").await;
    for id in 2..50 {
        raw.send(id, wire::open("Echo", note(3))).await;
        raw.answered(id).await;
    }
    real.probe.release(1);
    raw.answered(1).await;
}
