//! Section 8: a server that shuts down, with clients that are slow or silent.

use std::collections::BTreeSet;

use ipc_tests::clock::{Clock, settle};
use ipc_tests::probe::{Sizes, note};
use ipc_tests::setup::{Real, ms};
use ipc_tests::wire::{self, Body, Hello, code};
use prost::Message;

#[tokio::test]
async fn every_call_that_is_cut_has_its_close_however_late_the_client_reads() {
    const STREAMS: u64 = 4;
    const HELD: u64 = 100;
    let clock = Clock::stop();
    let mut real = Real::with(|_| {}, |server| server.drain_timeout(ms(100))).await;
    let mut raw = real.raw_with(Hello { initial_credit: 1 << 40, ..wire::hello() }).await;
    // Fills every buffer on the way to a client that does not read.
    let sizes = Sizes { notes: 1000, bytes: 100_000, ..Sizes::default() };
    for id in 1..=STREAMS {
        raw.send(id, wire::open("Count", sizes.encode_to_vec())).await;
        real.probe.started("Count").await;
    }
    for id in STREAMS + 1..=STREAMS + HELD {
        raw.send(id, wire::open("Hold", note(1))).await;
        real.probe.started("Hold").await;
    }
    settle().await;
    real.ask_to_stop();
    clock.advance(100).await;
    // Longer than input is discarded for, and less than write_timeout.
    clock.advance(3000).await;
    let mut closed = BTreeSet::new();
    while let Some((id, body)) = raw.next_or_end().await {
        match body {
            Body::Close(close) => {
                assert!(id > 0 && !close.not_processed);
                let status = close.status.map(|status| status.code);
                assert_eq!((closed.insert(id), status), (true, Some(code::UNAVAILABLE)));
            }
            Body::Headers(_) | Body::Item(_) | Body::GoAway(_) | Body::Ping(_) => {}
            other => panic!("{other:?} from a server that shuts down"),
        }
    }
    assert_eq!(closed.len() as u64, STREAMS + HELD);
    drop(raw);
    assert_eq!(real.stopped().await.calls_cut as u64, STREAMS + HELD);
}

#[tokio::test]
async fn answers_that_wait_when_a_shutdown_begins_are_written() {
    let clock = Clock::stop();
    let mut real = Real::with(|_| {}, |server| server.drain_timeout(ms(5000))).await;
    let mut raw = real.raw().await;
    let sizes = Sizes { bytes: 500_000, ..Sizes::default() };
    for id in 1..=20 {
        raw.send(id, wire::open("Fill", sizes.encode_to_vec())).await;
    }
    settle().await;
    real.ask_to_stop();
    clock.advance(3000).await;
    let mut answered = 0;
    while let Some((_, body)) = raw.next_or_end().await {
        if let Body::Close(close) = body {
            assert_eq!(close.status, None);
            answered += 1;
        }
    }
    assert_eq!(answered, 20);
    drop(raw);
    assert_eq!(real.stopped().await.calls_cut, 0);
}

#[tokio::test]
async fn a_connection_without_a_hello_does_not_hold_a_shutdown_up() {
    let clock = Clock::stop();
    let real = Real::with(|_| {}, |server| server.drain_timeout(ms(100))).await;
    let silent = real.silent().await;
    let mut begun = real.silent().await;
    begun.write(&wire::frame_of(wire::Checksum::Ieee, 0, wire::hello())[..5]).await;
    settle().await;
    let stopping = tokio::spawn(real.stopped());
    // The drain time, and a second to read why.
    clock.advance(100).await;
    clock.advance(1000).await;
    clock.advance(0).await;
    assert!(stopping.is_finished());
    drop((silent, begun));
    assert_eq!(stopping.await.unwrap().calls_cut, 0);
}
