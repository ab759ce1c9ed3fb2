//! Section 2: frames, and what ends a connection at once.

use bytes::Bytes;
use ipc_runtime::{Code, IpcError};
use ipc_tests::clock::{Clock, settle};
use ipc_tests::probe::{Sizes, note};
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::{Played, Real, cause, done, failed, text};
use ipc_tests::vectors::{self, Invalid};
use ipc_tests::wire::{self, Checksum, Hello, code};
use prost::Message;

/// Sends a vector's bytes and does what it says comes then.
async fn send(vector: &Invalid, peer: &mut RawPeer, clock: &Clock) {
    println!("{}", vector.name);
    peer.write(&vector.bytes).await;
    match vector.then.as_str() {
        "eof" => peer.half_close().await,
        "stall" => {
            clock.advance(10_000).await;
            peer.ping().await;
            clock.advance(20_000).await;
        }
        _ => {}
    }
}

async fn ends_as_it_says(vector: &Invalid, peer: &mut RawPeer) {
    match vector.go_away {
        Some(code) => _ = peer.ends_with(code).await,
        None => peer.ends().await,
    }
}

#[tokio::test]
async fn a_server_ends_the_connection_at_every_invalid_vector() {
    let clock = Clock::stop();
    for vector in vectors::invalid() {
        let real = Real::with(|config| config.crc32_variant = vector.variant(), |server| server).await;
        let mut raw = real.raw().await;
        send(&vector, &mut raw, &clock).await;
        ends_as_it_says(&vector, &mut raw).await;
        assert_eq!(real.probe.calls(), 0, "{}", vector.name);
    }
}

#[tokio::test]
async fn a_client_ends_the_connection_at_every_invalid_vector() {
    let clock = Clock::stop();
    for vector in vectors::invalid() {
        let played = Played::with(
            |config| config.crc32_variant = vector.variant(),
            |channel| channel.unary_timeout(std::time::Duration::from_secs(600)),
        );
        let call = played.echo();
        let hello = Hello { crc32_variant: vector.checksum.number(), ..wire::hello() };
        let mut raw = played.server.greeted_with(hello).await;
        raw.opened(1).await;
        send(&vector, &mut raw, &clock).await;
        ends_as_it_says(&vector, &mut raw).await;
        let damaged = vector.go_away == Some(code::DATA_LOSS);
        let code = if damaged { Code::DataLoss } else { Code::Unavailable };
        let error = failed(done(call).await, code, true);
        vector.assert_error(cause(&error));
    }
}

#[tokio::test]
async fn a_header_above_a_small_limit_is_judged_without_its_body() {
    let real = Real::with(|config| config.max_frame_bytes = 4096, |server| server).await;
    let mut raw = real.raw().await;
    raw.write(&4097_u32.to_le_bytes()).await;
    raw.ends_with(code::RESOURCE_EXHAUSTED).await;

    let played = Played::with(|config| config.max_frame_bytes = 4096, |channel| channel);
    let call = played.echo();
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.write(&4097_u32.to_le_bytes()).await;
    raw.ends_with(code::RESOURCE_EXHAUSTED).await;
    let error = failed(done(call).await, Code::Unavailable, true);
    assert!(matches!(cause(&error), Some(IpcError::TooLarge { size: 4097, max_size: 4096 })), "{error:?}");
}

#[tokio::test]
async fn frames_of_exactly_the_limit_pass_and_one_byte_more_does_not() {
    let real = Real::with(|config| config.max_frame_bytes = 4096, |server| server).await;
    let mut raw = real.raw().await;
    for (id, size) in [(1, 4095), (2, 4096)] {
        raw.write(&wire::frame(Checksum::Ieee, &open_of(id, size))).await;
        raw.closed(id, code::UNIMPLEMENTED, true).await;
    }
    raw.write(&wire::frame(Checksum::Ieee, &open_of(3, 4097))).await;
    raw.ends_with(code::RESOURCE_EXHAUSTED).await;
}

/// An envelope of exactly this size, with a method that nobody has.
fn open_of(call_id: u64, size: usize) -> Vec<u8> {
    let with = |padding: usize| {
        let open = wire::Open { message: Some(vec![0; padding].into()), ..wire::open_stream("None") };
        wire::Envelope { call_id, body: Some(open.into()) }.encode_to_vec()
    };
    let padded = with(size - (with(1000).len() - 1000));
    assert_eq!(padded.len(), size);
    padded
}

#[tokio::test]
async fn a_frame_split_into_single_bytes_is_one_frame() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    for byte in wire::frame_of(Checksum::Ieee, 1, wire::open("Echo", note(5))) {
        raw.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.answered(1).await, note(5));
}

#[tokio::test]
async fn a_damaged_open_reaches_no_handler() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    let mut frame = wire::frame_of(Checksum::Ieee, 1, wire::open("Echo", note(5)));
    *frame.last_mut().unwrap() ^= 1;
    raw.write(&frame).await;
    raw.ends_with(code::DATA_LOSS).await;
    assert_eq!(real.probe.calls(), 0);
}

/// Bytes every 5 s keep the connection from being silent, but not the frame from taking too long.
async fn trickle(peer: &mut RawPeer, clock: &Clock) {
    for byte in &wire::frame_of(Checksum::Ieee, 0, wire::ping(1))[..6] {
        peer.write(&[*byte]).await;
        clock.advance(5000).await;
    }
}

#[tokio::test]
async fn a_server_does_not_wait_longer_for_a_frame_that_trickles() {
    let clock = Clock::stop();
    let real = Real::start().await;
    let mut raw = real.raw().await;
    trickle(&mut raw, &clock).await;
    raw.ends_with(code::DEADLINE_EXCEEDED).await;
}

#[tokio::test]
async fn a_client_does_not_wait_longer_for_a_frame_that_trickles() {
    let clock = Clock::stop();
    let played = Played::with(|_| {}, |channel| channel.unary_timeout(std::time::Duration::from_secs(600)));
    let call = played.echo();
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    trickle(&mut raw, &clock).await;
    raw.ends_with(code::DEADLINE_EXCEEDED).await;
    let error = failed(done(call).await, Code::Unavailable, true);
    assert!(matches!(cause(&error), Some(IpcError::Timeout)), "{error:?}");
}

#[tokio::test]
async fn a_frame_that_is_complete_just_in_time_passes() {
    let clock = Clock::stop();
    let real = Real::start().await;
    let mut raw = real.raw().await;
    let frame = wire::frame_of(Checksum::Ieee, 0, wire::ping(7));
    for (at, wait) in [(0, 9_998), (1, 9_998), (2, 9_998), (3, 1)] {
        raw.write(&frame[at..=at]).await;
        clock.advance_exactly(wait).await;
    }
    raw.write(&frame[4..]).await;
    assert_eq!(raw.pong().await, (0, wire::Pong { nonce: 7 }));
}

#[tokio::test]
async fn a_reset_is_the_end_of_the_stream() {
    let played = Played::start();
    let call = played.echo();
    let raw = played.server.greeted().await;
    settle().await;
    // The unread Open makes the system report a reset instead of an end.
    drop(raw);
    let error = failed(done(call).await, Code::Unavailable, true);
    assert!(matches!(cause(&error), Some(IpcError::PeerClosed)), "{error:?}");
}

#[tokio::test]
async fn a_client_finishes_the_frame_of_a_call_that_is_dropped() {
    let played = Played::start();
    let call = played.call(async |client| client.echo(text(900_000)).await);
    let mut raw = played.server.greeted().await;
    raw.read_some(1000).await;
    call.abort();
    settle().await;
    assert_eq!(raw.opened(1).await.message, Some(note(900_000)));
    raw.cancelled(1).await;
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_server_finishes_the_frame_of_a_call_that_is_cancelled() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    let sizes = Sizes { notes: 100, bytes: 900_000, ..Sizes::default() };
    raw.send(1, wire::open("Count", sizes.encode_to_vec())).await;
    raw.read_some(1000).await;
    raw.send(1, wire::Cancel {}).await;
    let (items, close) = raw.streamed(1).await;
    assert_eq!(close.status.unwrap().code, code::CANCELLED);
    let whole: Bytes = note(900_000);
    assert!(items.iter().all(|item| *item == whole));
    raw.is_quiet().await;
}
