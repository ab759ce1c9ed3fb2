//! What a server says first, and what it refuses.

use bytes::Bytes;
use ipc_runtime::Crc32Variant;
use ipc_tests::clock::Clock;
use ipc_tests::probe::note;
use ipc_tests::setup::{Real, text};
use ipc_tests::wire::{self, Body, Checksum, Envelope, GoAway, Hello, code};
use prost::Message;

/// The greatest credit.
const MAX_CREDIT: u64 = 1 << 62;

async fn castagnoli() -> Real {
    Real::with(|config| config.crc32_variant = Crc32Variant::Castagnoli, |server| server).await
}

/// The answer to a first frame that is refused.
async fn refusal(real: &Real, first: &[u8], code: i32) -> GoAway {
    let mut raw = real.silent().await;
    raw.write(first).await;
    let go_away = raw.ends_with(code).await;
    assert_eq!((go_away.last_call_id, go_away.retry_after_ms), (0, 0), "{go_away:?}");
    go_away
}

async fn refuses(real: &Real, hello: Hello, code: i32, words: &[&str]) {
    let go_away = refusal(real, &wire::frame_of(Checksum::Ieee, 0, hello), code).await;
    let message = go_away.status.unwrap().message;
    for word in words {
        assert!(message.contains(word), "{word:?} in {message:?}");
    }
}

async fn accepts(real: &Real, hello: Hello) -> Hello {
    let mut raw = real.silent().await;
    let answer = raw.greet(hello).await;
    raw.send(1, wire::open("Echo", note(1))).await;
    raw.answered(1).await;
    answer
}

#[tokio::test]
async fn a_server_says_what_it_accepts_and_serves() {
    let real = Real::with(
        |config| config.max_frame_bytes = 5000,
        |server| server.max_concurrent_calls(7).initial_credit(11).peer_version("1.2"),
    )
    .await;
    let first = accepts(&real, wire::hello()).await;
    let services: Vec<_> = first.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(services, ["test.probe.v1.Probe"]);
    let said = (first.version, first.max_frame_bytes, first.crc32_variant, first.peer_version.as_str());
    assert_eq!(said, (1, 5000, 0, "1.2"));
    assert_eq!((first.max_concurrent_calls, first.initial_credit), (7, 11));

    let second = accepts(&real, wire::hello()).await;
    assert_eq!(second.instance_id, first.instance_id, "drawn once when the server starts");
    let other = accepts(&Real::start().await, wire::hello()).await;
    assert_ne!(other.instance_id, first.instance_id);
}

#[tokio::test]
async fn versions_from_1_on_are_spoken_and_0_is_not() {
    let real = Real::start().await;
    refuses(&real, Hello { version: 0, ..wire::hello() }, code::FAILED_PRECONDITION, &["0", "1"]).await;
    for version in [1, 2, u32::MAX] {
        assert_eq!(accepts(&real, Hello { version, ..wire::hello() }).await.version, 1);
    }
}

#[tokio::test]
async fn checksum_variants_must_agree() {
    for (real, other) in [(Real::start().await, 1), (castagnoli().await, 0)] {
        let hello = Hello { crc32_variant: other, ..wire::hello() };
        refuses(&real, hello, code::FAILED_PRECONDITION, &["ieee", "castagnoli"]).await;
        let hello = Hello { crc32_variant: 7, ..wire::hello() };
        refuses(&real, hello, code::FAILED_PRECONDITION, &[real.config.crc32_variant.as_str(), "7"]).await;
        accepts(&real, Hello { crc32_variant: 1 - other, ..wire::hello() }).await;
    }
}

#[tokio::test]
async fn frames_must_be_4096_bytes_at_least() {
    let real = Real::start().await;
    for max_frame_bytes in [0, 4095] {
        let hello = Hello { max_frame_bytes, ..wire::hello() };
        refuses(&real, hello, code::INVALID_ARGUMENT, &["max_frame_bytes", "4096"]).await;
    }
    for max_frame_bytes in [4096, 4097, u64::MAX] {
        accepts(&real, Hello { max_frame_bytes, ..wire::hello() }).await;
    }
}

#[tokio::test]
async fn credit_may_be_2_to_the_62_at_most() {
    let real = Real::start().await;
    for initial_credit in [MAX_CREDIT + 1, u64::MAX] {
        let hello = Hello { initial_credit, ..wire::hello() };
        refuses(&real, hello, code::INVALID_ARGUMENT, &["initial_credit", "2^62"]).await;
    }
    for initial_credit in [MAX_CREDIT - 1, MAX_CREDIT] {
        accepts(&real, Hello { initial_credit, ..wire::hello() }).await;
    }
}

#[tokio::test]
async fn a_first_frame_that_is_no_hello_is_a_protocol_error() {
    let real = Real::start().await;
    let first: [(u64, Body); 9] = [
        (1, wire::open("Echo", note(1)).into()),
        (1, wire::item("x").into()),
        (1, wire::HalfClose {}.into()),
        (1, wire::Cancel {}.into()),
        (1, wire::credit(1).into()),
        (0, wire::ping(1).into()),
        (0, wire::Pong { nonce: 1 }.into()),
        (0, wire::go_away(code::UNAVAILABLE, 0).into()),
        (1, wire::hello().into()),
    ];
    for (id, body) in first {
        refusal(&real, &wire::frame_of(Checksum::Ieee, id, body), code::INTERNAL).await;
    }
    // An envelope with no body of a known kind is ignored, except as the first frame.
    let unknown = [0x6a, 0x00];
    for message in [&unknown[..], &Envelope { call_id: 7, body: None }.encode_to_vec()] {
        refusal(&real, &wire::frame(Checksum::Ieee, message), code::INTERNAL).await;
    }
    assert_eq!(real.probe.calls(), 0);
}

#[tokio::test]
async fn a_bad_first_frame_is_answered_as_any_bad_frame() {
    let mut damaged = wire::frame_of(Checksum::Ieee, 0, wire::hello());
    damaged[4] ^= 1;
    let rows: [(&[u8], i32); 4] = [
        (&[0; 8], code::INVALID_ARGUMENT),
        (&damaged, code::DATA_LOSS),
        (&wire::frame(Checksum::Ieee, &[0xff; 10]), code::INVALID_ARGUMENT),
        (b"GET / HTTP/1.1\r\n\r\n", code::RESOURCE_EXHAUSTED),
    ];
    for real in [Real::start().await, castagnoli().await] {
        for (first, code) in rows {
            refusal(&real, first, code).await;
        }
    }
}

#[tokio::test]
async fn hellos_have_the_ieee_checksum_and_later_frames_the_configured_one() {
    let real = castagnoli().await;
    let hello = Hello { crc32_variant: 1, ..wire::hello() };
    refusal(&real, &wire::frame_of(Checksum::Castagnoli, 0, hello.clone()), code::DATA_LOSS).await;
    // Reads the server's Hello as IEEE, everything else as Castagnoli.
    accepts(&real, hello.clone()).await;

    let mut raw = real.raw_with(hello).await;
    raw.sends = Checksum::Ieee;
    raw.send(0, wire::ping(1)).await;
    raw.ends_with(code::DATA_LOSS).await;
}

/// A Hello of exactly this many bytes.
fn hello_of(size: usize) -> Vec<u8> {
    let with = |length: usize| {
        let hello = Hello { peer_version: "v".repeat(length), ..wire::hello() };
        Envelope { call_id: 0, body: Some(hello.into()) }.encode_to_vec()
    };
    let hello = with(size - (with(60_000).len() - 60_000));
    assert_eq!(hello.len(), size);
    wire::frame(Checksum::Ieee, &hello)
}

#[tokio::test]
async fn a_hello_has_65536_bytes_at_most_whatever_is_configured() {
    for max_frame_bytes in [4096, 1 << 20] {
        let real = Real::with(|config| config.max_frame_bytes = max_frame_bytes, |server| server).await;
        for size in [65_535, 65_536] {
            let mut raw = real.silent().await;
            raw.write(&hello_of(size)).await;
            raw.hello().await;
        }
        // The length alone decides.
        refusal(&real, &hello_of(65_537)[..4], code::RESOURCE_EXHAUSTED).await;
    }
}

#[tokio::test]
async fn a_server_waits_5_seconds_for_a_hello_or_read_timeout_if_that_is_shorter() {
    let clock = Clock::stop();
    for (read_timeout_ms, limit) in [(30_000, 5000), (5001, 5000), (5000, 5000), (2000, 2000)] {
        let real = Real::with(|config| config.read_timeout_ms = read_timeout_ms, |server| server).await;
        let frame = wire::frame_of(Checksum::Ieee, 0, wire::hello());
        // One in time, one that says nothing, one that does not finish.
        let (mut prompt, mut mute, mut slow) =
            (real.silent().await, real.silent().await, real.silent().await);
        slow.write(&frame[..frame.len() - 1]).await;
        clock.advance_exactly(limit - 1).await;
        prompt.write(&frame).await;
        prompt.hello().await;
        clock.advance(1).await;
        for late in [&mut mute, &mut slow] {
            let go_away = late.ends_with(code::DEADLINE_EXCEEDED).await;
            let message = go_away.status.unwrap().message;
            assert!(message.contains(&limit.to_string()), "{message}");
        }
    }
}

#[tokio::test]
async fn a_server_that_shuts_down_refuses_who_comes() {
    let mut real = Real::start().await;
    let mut raw = real.raw().await;
    raw.send(1, wire::open("Hold", note(1))).await;
    real.probe.started("Hold").await;
    // It has come before, but says Hello afterwards.
    let mut early = real.silent().await;
    ipc_tests::clock::settle().await;
    real.ask_to_stop();
    raw.farewell(code::UNAVAILABLE).await;
    let mut late = real.silent().await;
    for peer in [&mut early, &mut late] {
        // A pipe that is refused is closed in both directions.
        if !cfg!(windows) {
            peer.send(0, wire::hello()).await;
        }
        let go_away = peer.ends_with(code::UNAVAILABLE).await;
        assert!(go_away.retry_after_ms > 0);
        assert!(go_away.status.unwrap().message.contains("shutting down"));
    }
    real.probe.release(1);
    raw.answered(1).await;
    raw.ends().await;
    drop((raw, early, late));
    assert_eq!(real.stopped().await.calls_cut, 0);
}

#[tokio::test]
async fn frames_may_follow_the_hello_in_the_same_write() {
    let real = Real::start().await;
    let mut raw = real.silent().await;
    let frames: [(u64, Body); 2] = [(0, wire::hello().into()), (1, wire::open("Echo", note(2)).into())];
    raw.send_all(frames).await;
    raw.hello().await;
    assert_eq!(raw.answered(1).await, Bytes::from(text(2).encode_to_vec()));
}
