//! What a server gives its clients, and how it keeps to what they give.

use ipc_tests::probe::{Sizes, Total, note};
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::Real;
use ipc_tests::wire::{self, Hello, code};
use prost::Message;

use super::MAX_CREDIT;

async fn giving(initial_credit: u64) -> Real {
    Real::with(|_| {}, |server| server.initial_credit(initial_credit)).await
}

/// A call whose handler reads nothing.
async fn deaf(real: &Real) -> RawPeer {
    let mut raw = real.raw().await;
    raw.send(1, wire::open_stream("Deaf")).await;
    real.probe.started("Deaf").await;
    raw
}

#[tokio::test]
async fn an_item_passes_above_0_and_breaks_the_protocol_at_0() {
    // An item of 8 bytes costs 40.
    for (window, pass) in [(1, 1), (39, 1), (40, 1), (41, 2), (79, 2), (80, 2), (81, 3)] {
        let real = giving(window).await;
        let mut raw = deaf(&real).await;
        for _ in 0..pass {
            raw.send(1, wire::item(note(6))).await;
            raw.is_quiet().await;
        }
        raw.send(1, wire::item(note(6))).await;
        raw.ends_with(code::INTERNAL).await;
        real.probe.dropped("Deaf").await;
    }
}

#[tokio::test]
async fn an_empty_item_costs_32() {
    let real = giving(64).await;
    let mut raw = deaf(&real).await;
    raw.send(1, wire::item("")).await;
    raw.send(1, wire::item("")).await;
    raw.is_quiet().await;
    raw.send(1, wire::item("")).await;
    raw.ends_with(code::INTERNAL).await;
}

#[tokio::test]
async fn a_message_larger_than_the_window_passes() {
    let real = giving(1).await;
    let mut raw = deaf(&real).await;
    raw.send(1, wire::item(note(500_000))).await;
    raw.is_quiet().await;
    raw.send(1, wire::item("")).await;
    raw.ends_with(code::INTERNAL).await;
}

#[tokio::test]
async fn the_message_of_an_open_costs_nothing() {
    let real = giving(1).await;
    let mut raw = real.raw().await;
    raw.send(1, wire::Open { message: Some(note(5000)), ..wire::open_stream("Deaf") }).await;
    real.probe.started("Deaf").await;
    raw.send(1, wire::item(note(6))).await;
    raw.is_quiet().await;
    raw.send(1, wire::item(note(6))).await;
    raw.ends_with(code::INTERNAL).await;
}

#[tokio::test]
async fn credit_comes_back_at_half_a_window_once_the_handler_has_taken_items() {
    let real = giving(400).await;
    let mut raw = real.raw().await;
    raw.send(1, wire::open_stream("Sum")).await;
    // 5 × 40 is half of the window.
    for _ in 0..4 {
        raw.send(1, wire::item(note(6))).await;
        raw.is_quiet().await;
    }
    raw.send(1, wire::item(note(6))).await;
    assert_eq!(raw.credit().await, (1, wire::credit(200)));
    raw.send(1, wire::HalfClose {}).await;
    assert_eq!(raw.answered(1).await, Total { notes: 5, bytes: 30 }.encode_to_vec());
}

#[tokio::test]
async fn a_sender_that_keeps_to_its_credit_is_never_stuck() {
    for window in [1, 40, 41, 1000] {
        let real = giving(window).await;
        let mut raw = real.raw().await;
        raw.send(1, wire::open_stream("Sum")).await;
        let mut left = i64::try_from(window).unwrap();
        for _ in 0..100 {
            while left <= 0 {
                let (id, credit) = raw.credit().await;
                assert_eq!(id, 1);
                left += i64::try_from(credit.amount).unwrap();
            }
            raw.send(1, wire::item(note(6))).await;
            left -= 40;
        }
        raw.send(1, wire::HalfClose {}).await;
        let (items, close) = raw.streamed(1).await;
        assert!(items.is_empty());
        assert_eq!(close.message.unwrap(), Total { notes: 100, bytes: 600 }.encode_to_vec());
    }
}

#[tokio::test]
async fn with_no_initial_credit_the_handler_asks() {
    let real = giving(0).await;
    let mut raw = real.raw().await;
    raw.send(1, wire::open_stream("Sum")).await;
    for _ in 0..3 {
        let (id, credit) = raw.credit().await;
        assert!(id == 1 && credit.amount > 0);
        raw.send(1, wire::item(note(6))).await;
    }
    raw.credit().await;
    raw.send(1, wire::HalfClose {}).await;
    assert_eq!(raw.answered(1).await, Total { notes: 3, bytes: 18 }.encode_to_vec());

    let mut raw = deaf(&real).await;
    raw.is_quiet().await;
    raw.send(1, wire::item(note(6))).await;
    raw.ends_with(code::INTERNAL).await;
}

#[tokio::test]
async fn credit_adds_up_to_2_to_the_62_and_no_further() {
    let rows: [(u64, &[u64], bool); 7] = [
        (MAX_CREDIT, &[], true),
        (MAX_CREDIT, &[1], false),
        (MAX_CREDIT - 1, &[1], true),
        (0, &[MAX_CREDIT], true),
        (0, &[MAX_CREDIT, 1], false),
        (0, &[MAX_CREDIT + 1], false),
        (1, &[u64::MAX], false),
    ];
    for (initial_credit, credits, fine) in rows {
        for method in ["Hold", "Deaf", "Tail"] {
            let real = Real::start().await;
            let mut raw = real.raw_with(Hello { initial_credit, ..wire::hello() }).await;
            raw.send(1, wire::open(method, note(1))).await;
            real.probe.started(method).await;
            if method == "Tail" {
                raw.headers().await;
            }
            raw.send_all(credits.iter().map(|amount| (1, wire::credit(*amount)))).await;
            if fine {
                raw.is_quiet().await;
            } else {
                raw.ends_with(code::INTERNAL).await;
            }
        }
    }
}

#[tokio::test]
async fn credit_for_a_call_that_is_over_is_ignored() {
    let real = Real::start().await;
    let mut raw = real.raw_with(Hello { initial_credit: MAX_CREDIT, ..wire::hello() }).await;
    raw.send(1, wire::open("Echo", note(1))).await;
    raw.answered(1).await;
    raw.send(1, wire::credit(u64::MAX)).await;
    raw.is_quiet().await;
}

async fn counting(initial_credit: u64, sizes: Sizes) -> (Real, RawPeer) {
    let real = Real::start().await;
    let mut raw = real.raw_with(Hello { initial_credit, ..wire::hello() }).await;
    raw.send(1, wire::open("Count", sizes.encode_to_vec())).await;
    raw.headers().await;
    (real, raw)
}

#[tokio::test]
async fn a_server_sends_while_its_credit_is_above_0() {
    // An item of 8 bytes costs 40.
    let sizes = Sizes { notes: 1000, bytes: 6, ..Sizes::default() };
    for (window, items) in [(0, 0), (1, 1), (40, 1), (41, 2), (100, 3)] {
        let (_real, mut raw) = counting(window, sizes).await;
        for _ in 0..items {
            raw.has_item(1).await;
        }
        raw.is_quiet().await;
        // Brings it to 0, which is not enough; then to 1.
        let debt = items * 40 - window;
        if debt > 0 {
            raw.send(1, wire::credit(debt)).await;
            raw.is_quiet().await;
        }
        raw.send(1, wire::credit(1)).await;
        raw.has_item(1).await;
        raw.is_quiet().await;
    }
}

#[tokio::test]
async fn a_server_sends_an_item_larger_than_the_window() {
    let sizes = Sizes { notes: 2, bytes: 500_000, ..Sizes::default() };
    let (_real, mut raw) = counting(1, sizes).await;
    assert_eq!(raw.has_item(1).await, note(500_000));
    raw.is_quiet().await;
    raw.send(1, wire::credit(1 << 20)).await;
    let (items, close) = raw.streamed(1).await;
    assert_eq!((items.len(), close), (1, wire::Close::default()));
}

#[tokio::test]
async fn unary_answers_cost_no_credit() {
    let real = Real::start().await;
    let mut raw = real.raw_with(Hello { initial_credit: 0, ..wire::hello() }).await;
    raw.send(1, wire::open("Echo", note(5000))).await;
    assert_eq!(raw.answered(1).await, note(5000));
    raw.send(2, wire::open("Sum", note(5000))).await;
    assert_eq!(raw.answered(2).await, Total { notes: 1, bytes: 5000 }.encode_to_vec());
}

#[tokio::test]
async fn the_end_of_a_stream_waits_for_no_credit() {
    for (window, notes) in [(0, 0), (1, 1), (40, 1), (41, 2)] {
        let sizes = Sizes { notes, bytes: 6, ..Sizes::default() };
        let (real, mut raw) = counting(window, sizes).await;
        let (items, close) = raw.streamed(1).await;
        assert_eq!((items.len() as u64, close), (notes, wire::Close::default()));
        real.probe.started("Count").await;
        real.probe.finished("Count").await;
    }
}
