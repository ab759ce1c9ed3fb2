//! What a client may not send, and what a server ignores.

use ipc_tests::probe::note;
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::Real;
use ipc_tests::vectors;
use ipc_tests::wire::{self, Body, Checksum, Envelope, Hello, code};
use prost::Message;

/// Call 1 runs; then this frame ends the connection.
async fn breaks(id: u64, body: impl Into<Body>) {
    let real = Real::start().await;
    let mut raw = with_call_1(&real).await;
    let body = body.into();
    println!("{id}: {body:?}");
    raw.send(id, body).await;
    let go_away = raw.ends_with(code::INTERNAL).await;
    assert_eq!((go_away.last_call_id, go_away.retry_after_ms), (1, 0));
    real.probe.dropped("Hold").await;
}

async fn with_call_1(real: &Real) -> RawPeer {
    let mut raw = real.raw().await;
    raw.send(1, wire::open("Hold", note(1))).await;
    real.probe.started("Hold").await;
    raw
}

#[tokio::test]
async fn a_later_hello() {
    breaks(0, wire::hello()).await;
}

#[tokio::test]
async fn bodies_that_only_a_server_may_send() {
    for id in [0, 1, 2, 99] {
        breaks(id, wire::Headers::default()).await;
        breaks(id, wire::answer(note(1))).await;
    }
}

#[tokio::test]
async fn bodies_about_the_connection_with_a_call_id() {
    for id in [1, 2] {
        breaks(id, wire::hello()).await;
        breaks(id, wire::ping(1)).await;
        breaks(id, wire::Pong { nonce: 1 }).await;
        breaks(id, wire::go_away(code::UNAVAILABLE, 0)).await;
    }
}

#[tokio::test]
async fn bodies_about_a_call_without_a_call_id() {
    breaks(0, wire::open("Echo", note(1))).await;
    breaks(0, wire::item(note(1))).await;
    breaks(0, wire::HalfClose {}).await;
    breaks(0, wire::Cancel {}).await;
    breaks(0, wire::credit(1)).await;
}

#[tokio::test]
async fn an_open_whose_id_is_not_above_the_last() {
    breaks(1, wire::open("Echo", note(1))).await;

    // Also where the last one was refused, and where the call is over.
    let rows = [(5, "None", 5), (5, "None", 4), (5, "Echo", 5), (5, "Echo", 2), (u64::MAX, "Echo", u64::MAX)];
    for (last, method, id) in rows {
        let real = Real::start().await;
        let mut raw = real.raw().await;
        raw.send(last, wire::open(method, note(1))).await;
        raw.close().await;
        raw.send(id, wire::open("Echo", note(1))).await;
        let accepted = if method == "Echo" { last } else { 0 };
        assert_eq!(raw.ends_with(code::INTERNAL).await.last_call_id, accepted);
    }
}

#[tokio::test]
async fn frames_for_calls_never_opened_are_ignored() {
    let real = Real::start().await;
    let mut raw = with_call_1(&real).await;
    for id in [2, 99, u64::MAX] {
        raw.send(id, wire::item(note(1))).await;
        raw.send(id, wire::HalfClose {}).await;
        raw.send(id, wire::Cancel {}).await;
        raw.send(id, wire::credit(u64::MAX)).await;
    }
    raw.is_quiet().await;
    // They have not opened anything: these ids are still to be had.
    raw.send(2, wire::open("Echo", note(2))).await;
    assert_eq!(raw.answered(2).await, note(2));
}

#[tokio::test]
async fn an_unasked_pong_is_ignored() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    raw.send(0, wire::Pong { nonce: 77 }).await;
    raw.is_quiet().await;
}

#[tokio::test]
async fn envelopes_with_no_body_of_a_known_kind_are_ignored() {
    let real = Real::start().await;
    let mut raw = with_call_1(&real).await;
    // Field 13 as a message, field 200 as a number.
    for unknown in [&[0x6a, 0x03, b'a', b'b', b'c'][..], &[0xc0, 0x0c, 0x05]] {
        for id in [0, 1, 2, u64::MAX] {
            let mut message = Envelope { call_id: id, body: None }.encode_to_vec();
            message.extend_from_slice(unknown);
            raw.write(&wire::frame(Checksum::Ieee, &message)).await;
        }
    }
    for id in [1, 2] {
        let message = Envelope { call_id: id, body: None }.encode_to_vec();
        raw.write(&wire::frame(Checksum::Ieee, &message)).await;
    }
    raw.is_quiet().await;
    real.probe.release(1);
    raw.answered(1).await;
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    let mut open = wire::open("Echo", note(3)).encode_to_vec();
    open.extend([0xc0, 0x0c, 0x05]);
    // Envelope: call id 1, open = 3, then a field of its own.
    let mut message = vec![0x08, 1, 0x1a, u8::try_from(open.len()).unwrap()];
    message.extend(open);
    message.extend([0xc0, 0x0c, 0x05]);
    raw.write(&wire::frame(Checksum::Ieee, &message)).await;
    assert_eq!(raw.answered(1).await, note(3));
}

#[tokio::test]
async fn frames_that_are_not_canonical_are_taken() {
    for (name, checksum, frame) in vectors::accepted() {
        println!("{name}");
        let real = Real::with(
            |config| {
                if checksum == Checksum::Castagnoli {
                    config.crc32_variant = ipc_runtime::Crc32Variant::Castagnoli;
                }
            },
            |server| server,
        )
        .await;
        let mut raw = real.raw_with(Hello { crc32_variant: checksum.number(), ..wire::hello() }).await;
        raw.write(&frame).await;
        match name.as_str() {
            // Open with the method "/".
            "split_body_merges" => _ = raw.closed(1, code::UNIMPLEMENTED, true).await,
            "body_before_call_id"
            | "overlong_varint"
            | "unknown_body"
            | "no_body"
            | "only_unknown_fields" => {}
            _ => assert_eq!(raw.pong().await, (0, wire::Pong { nonce: 5 })),
        }
        raw.is_quiet().await;
    }
}

#[tokio::test]
async fn an_empty_message_is_a_message_and_an_absent_one_is_none() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    raw.send(1, wire::open("Echo", "")).await;
    assert_eq!(raw.answered(1).await, "");
    raw.send(2, wire::Open { message: None, ..wire::open("Echo", "") }).await;
    raw.closed(2, code::INVALID_ARGUMENT, true).await;
    raw.send(3, wire::open_stream("Sum")).await;
    raw.send(3, wire::item("")).await;
    raw.send(3, wire::HalfClose {}).await;
    // One note, no bytes.
    assert_eq!(raw.answered(3).await, &[0x08, 1][..]);
}

#[tokio::test]
async fn metadata_keeps_its_order_and_its_bytes() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    let all: Vec<u8> = (0..=255).collect();
    let metadata: Vec<_> = [("k", &b"1"[..]), ("0_9.a-z", &all), ("k", b"2"), ("k", b"")]
        .into_iter()
        .flat_map(|(key, value)| wire::pair(key, value.to_vec()))
        .collect();
    raw.send(1, wire::Open { metadata: metadata.clone(), ..wire::open("Echo", note(1)) }).await;
    let close = raw.closed(1, code::OK, false).await;
    assert_eq!(close.headers, metadata);
}
