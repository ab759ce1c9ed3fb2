//! What a client says first, and how it judges a server's first frame.

use ipc_runtime::{Code, Crc32Variant, IpcError};
use ipc_tests::clock::{Clock, settle};
use ipc_tests::probe::note;
use ipc_tests::setup::{Played, cause, done, failed, text};
use ipc_tests::wire::{self, Body, Checksum, GoAway, Hello, code};

fn castagnoli() -> Played {
    Played::with(|config| config.crc32_variant = Crc32Variant::Castagnoli, |channel| channel)
}

/// A server that says this first is told `code`; the call fails, and was not sent.
async fn turns_away(played: &Played, first: &[u8], code: i32, fails: Code) -> IpcError {
    let call = played.echo();
    let mut raw = played.server.accept().await;
    raw.hello().await;
    raw.write(first).await;
    // The client has said Hello: its later frames have the configured checksum.
    if played.config.crc32_variant == Crc32Variant::Castagnoli {
        raw.receives = Checksum::Castagnoli;
    }
    let go_away = raw.ends_with(code).await;
    assert_eq!(go_away.last_call_id, 0);
    failed(done(call).await, fails, false)
}

async fn refuses(hello: Hello, code: i32, fails: Code) {
    turns_away(&Played::start(), &wire::frame_of(Checksum::Ieee, 0, hello), code, fails).await;
}

#[tokio::test]
async fn a_client_says_hello_at_once_and_accepts_no_calls() {
    let played = Played::with(
        |config| (config.max_frame_bytes, config.crc32_variant) = (5000, Crc32Variant::Castagnoli),
        |channel| channel.initial_credit(11).peer_version("1.2"),
    );
    let _call = played.echo();
    let mut raw = played.server.accept().await;
    let expected = Hello {
        version: 1,
        max_frame_bytes: 5000,
        crc32_variant: 1,
        initial_credit: 11,
        peer_version: "1.2".to_owned(),
        ..Hello::default()
    };
    // With the IEEE checksum, which is what a raw peer expects until the Hellos are through.
    assert_eq!(raw.hello().await, expected);
}

#[tokio::test]
async fn no_call_is_opened_before_the_servers_hello() {
    let played = castagnoli();
    let call = played.echo();
    let mut raw = played.server.accept().await;
    raw.hello().await;
    settle().await;
    raw.send(0, Hello { crc32_variant: 1, ..wire::hello() }).await;
    (raw.sends, raw.receives) = (Checksum::Castagnoli, Checksum::Castagnoli);
    // An Open before the Hello would have had the other checksum.
    raw.opened(1).await;
    raw.send(1, wire::answer(note(4))).await;
    done(call).await.unwrap();
}

#[tokio::test]
async fn a_client_refuses_what_a_server_would() {
    let (precondition, argument) = (code::FAILED_PRECONDITION, code::INVALID_ARGUMENT);
    let hello = wire::hello;
    refuses(Hello { version: 0, ..hello() }, precondition, Code::FailedPrecondition).await;
    refuses(Hello { crc32_variant: 1, ..hello() }, precondition, Code::FailedPrecondition).await;
    refuses(Hello { crc32_variant: 7, ..hello() }, precondition, Code::FailedPrecondition).await;
    refuses(Hello { max_frame_bytes: 4095, ..hello() }, argument, Code::InvalidArgument).await;
    refuses(Hello { initial_credit: (1 << 62) + 1, ..hello() }, argument, Code::InvalidArgument).await;
}

#[tokio::test]
async fn a_client_accepts_the_edges() {
    for hello in [
        Hello { version: u32::MAX, ..wire::hello() },
        Hello { max_frame_bytes: 4096, initial_credit: 1 << 62, ..wire::hello() },
        Hello { max_frame_bytes: u64::MAX, max_concurrent_calls: u32::MAX, ..wire::hello() },
    ] {
        let played = Played::start();
        let call = played.echo();
        let mut raw = played.server.greeted_with(hello).await;
        raw.opened(1).await;
        raw.send(1, wire::answer(note(4))).await;
        done(call).await.unwrap();
    }
}

#[tokio::test]
async fn a_first_frame_that_is_no_hello_is_a_protocol_error() {
    let first: [(u64, Body); 5] = [
        (0, wire::ping(1).into()),
        (1, wire::answer("x").into()),
        (1, wire::open("Echo", "x").into()),
        (1, wire::hello().into()),
        (1, wire::go_away(code::UNAVAILABLE, 0).into()),
    ];
    for (id, body) in first {
        let frame = wire::frame_of(Checksum::Ieee, id, body);
        turns_away(&Played::start(), &frame, code::INTERNAL, Code::Unavailable).await;
    }
    let nothing_known = wire::frame(Checksum::Ieee, &[0x6a, 0x00]);
    turns_away(&Played::start(), &nothing_known, code::INTERNAL, Code::Unavailable).await;
}

#[tokio::test]
async fn a_bad_first_frame_is_answered_as_any_bad_frame() {
    let mut damaged = wire::frame_of(Checksum::Ieee, 0, wire::hello());
    damaged[4] ^= 1;
    let rows: [(&[u8], i32, Code); 4] = [
        (&[0; 8], code::INVALID_ARGUMENT, Code::Unavailable),
        (&wire::frame(Checksum::Ieee, &[0xff; 10]), code::INVALID_ARGUMENT, Code::Unavailable),
        (&65_537_u32.to_le_bytes(), code::RESOURCE_EXHAUSTED, Code::Unavailable),
        (&damaged, code::DATA_LOSS, Code::DataLoss),
    ];
    for (first, code, fails) in rows {
        for played in [Played::start(), castagnoli()] {
            let error = turns_away(&played, first, code, fails).await;
            assert!(cause(&error).is_some(), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_client_waits_5_seconds_for_a_hello_or_read_timeout_if_that_is_shorter() {
    let clock = Clock::stop();
    for (read_timeout_ms, limit) in [(30_000, 5000), (2000, 2000)] {
        let played = Played::with(
            |config| config.read_timeout_ms = read_timeout_ms,
            |channel| channel.unary_timeout(std::time::Duration::from_secs(60)),
        );
        let call = played.echo();
        let mut raw = played.server.accept().await;
        raw.hello().await;
        clock.advance_exactly(limit - 1).await;
        assert!(!call.is_finished());
        clock.advance(1).await;
        raw.ends_with(code::DEADLINE_EXCEEDED).await;
        failed(done(call).await, Code::Unavailable, false);
    }
}

#[tokio::test]
async fn the_end_of_the_stream_in_place_of_a_hello_fails_the_attempt() {
    let played = Played::start();
    let call = played.hasty_echo();
    drop(played.server.accept().await);
    failed(done(call).await, Code::Unavailable, false);
}

#[tokio::test]
async fn a_refusal_has_the_servers_code_and_words() {
    let codes = [
        (code::FAILED_PRECONDITION, Code::FailedPrecondition),
        (code::INVALID_ARGUMENT, Code::InvalidArgument),
        (code::PERMISSION_DENIED, Code::PermissionDenied),
        (code::RESOURCE_EXHAUSTED, Code::ResourceExhausted),
        (code::UNAVAILABLE, Code::Unavailable),
        (code::DATA_LOSS, Code::DataLoss),
    ];
    for (number, code) in codes {
        // In place of a Hello, so with the IEEE checksum whatever is configured.
        for played in [Played::start(), castagnoli()] {
            let call = played.hasty_echo();
            let mut raw = played.server.accept().await;
            raw.hello().await;
            raw.send(0, wire::go_away(number, 0)).await;
            let error = failed(done(call).await, code, false);
            assert!(error.to_string().contains("as the test says"), "{error}");
            raw.ends().await;
        }
    }
}

#[tokio::test]
async fn a_refusal_is_read_although_the_hello_was_not() {
    let played = Played::start();
    let call = played.hasty_echo();
    let mut raw = played.server.accept().await;
    let refusal = GoAway { retry_after_ms: 1, ..wire::go_away(code::RESOURCE_EXHAUSTED, 0) };
    raw.send(0, refusal).await;
    raw.half_close().await;
    failed(done(call).await, Code::ResourceExhausted, false);
}

#[tokio::test]
async fn a_server_that_accepts_no_calls_is_sent_none() {
    let played = Played::start();
    let call = played.echo();
    let hello = Hello { max_concurrent_calls: 0, ..wire::hello() };
    let mut raw = played.server.greeted_with(hello).await;
    failed(done(call).await, Code::ResourceExhausted, false);
    failed(played.client.echo(text(1)).await, Code::ResourceExhausted, false);
    raw.is_quiet().await;
}
