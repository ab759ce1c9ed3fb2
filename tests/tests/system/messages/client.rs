//! What a server may not send, and what a client ignores.

use ipc_runtime::Code;
use ipc_tests::probe::{Note, note};
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::{Outcome, Played, cause, done, failed, text};
use ipc_tests::wire::{self, Body, Checksum, Envelope, code};
use prost::Message;
use tokio::task::JoinHandle;

/// A client with call 1, unary, open.
async fn with_call_1() -> (Played, RawPeer, JoinHandle<Outcome<Note>>) {
    let played = Played::start();
    let call = played.echo();
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    (played, raw, call)
}

/// After these frames, the last ends the connection.
async fn breaks(frames: Vec<(u64, Body)>) {
    println!("{frames:?}");
    let (_played, mut raw, call) = with_call_1().await;
    raw.send_all(frames).await;
    let go_away = raw.ends_with(code::INTERNAL).await;
    assert_eq!((go_away.last_call_id, go_away.retry_after_ms), (0, 0));
    let error = failed(done(call).await, Code::Unavailable, true);
    assert_eq!(cause(&error).map(ipc_runtime::IpcError::code), Some(Code::Internal), "{error:?}");
}

async fn breaks_with(id: u64, body: impl Into<Body>) {
    breaks(vec![(id, body.into())]).await;
}

#[tokio::test]
async fn a_later_hello() {
    breaks_with(0, wire::hello()).await;
}

#[tokio::test]
async fn bodies_that_only_a_client_may_send() {
    for id in [0, 1, 2] {
        breaks_with(id, wire::open("Echo", note(1))).await;
        breaks_with(id, wire::HalfClose {}).await;
        breaks_with(id, wire::Cancel {}).await;
    }
}

#[tokio::test]
async fn bodies_about_the_connection_with_a_call_id() {
    for id in [1, 2] {
        breaks_with(id, wire::hello()).await;
        breaks_with(id, wire::ping(1)).await;
        breaks_with(id, wire::Pong { nonce: 1 }).await;
        breaks_with(id, wire::go_away(code::UNAVAILABLE, 1)).await;
    }
}

#[tokio::test]
async fn bodies_about_a_call_without_a_call_id() {
    breaks_with(0, wire::Headers::default()).await;
    breaks_with(0, wire::item(note(1))).await;
    breaks_with(0, wire::answer(note(1))).await;
    breaks_with(0, wire::credit(1)).await;
}

#[tokio::test]
async fn headers_after_headers_or_after_an_item() {
    let headers = || Body::from(wire::Headers::default());
    breaks(vec![(1, headers()), (1, headers())]).await;
    breaks(vec![(1, wire::item(note(1)).into()), (1, headers())]).await;
}

#[tokio::test]
async fn frames_for_calls_never_opened() {
    for id in [2, 99, u64::MAX] {
        breaks_with(id, wire::Headers::default()).await;
        breaks_with(id, wire::item(note(1))).await;
        breaks_with(id, wire::answer(note(1))).await;
        breaks_with(id, wire::credit(1)).await;
    }
}

#[tokio::test]
async fn frames_of_a_call_that_is_over_are_dropped() {
    let (played, mut raw, call) = with_call_1().await;
    raw.send(1, wire::answer(note(4))).await;
    done(call).await.unwrap();
    let call = played.echo();
    raw.opened(2).await;
    let late: [Body; 6] = [
        wire::Headers::default().into(),
        wire::item(note(1)).into(),
        wire::Headers::default().into(),
        wire::credit(u64::MAX).into(),
        wire::answer(note(1)).into(),
        wire::refusal(code::INTERNAL, false).into(),
    ];
    raw.send_all(late.into_iter().map(|body| (1, body))).await;
    raw.is_quiet().await;
    raw.send(2, wire::answer(note(4))).await;
    done(call).await.unwrap();
}

#[tokio::test]
async fn an_unasked_pong_and_unknown_bodies_are_ignored() {
    let (_played, mut raw, call) = with_call_1().await;
    raw.send(0, wire::Pong { nonce: 77 }).await;
    for id in [0, 1, 2, u64::MAX] {
        let mut message = Envelope { call_id: id, body: None }.encode_to_vec();
        message.extend([0x6a, 0x03, b'a', b'b', b'c']);
        raw.write(&wire::frame(Checksum::Ieee, &message)).await;
    }
    let message = Envelope { call_id: 3, body: None }.encode_to_vec();
    raw.write(&wire::frame(Checksum::Ieee, &message)).await;
    raw.is_quiet().await;
    raw.send(1, wire::answer(note(4))).await;
    assert_eq!(done(call).await.unwrap().into_inner(), text(4));
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let (_played, mut raw, call) = with_call_1().await;
    let mut close = wire::answer(note(4)).encode_to_vec();
    close.extend([0xc0, 0x0c, 0x05]);
    let mut message = vec![0x08, 1, 0x3a, u8::try_from(close.len()).unwrap()];
    message.extend(close);
    raw.write(&wire::frame(Checksum::Ieee, &message)).await;
    assert_eq!(done(call).await.unwrap().into_inner(), text(4));
}

#[tokio::test]
async fn codes_beyond_grpcs_are_unknown_and_a_present_ok_is_a_success() {
    let rows =
        [(17, Code::Unknown), (-1, Code::Unknown), (i32::MAX, Code::Unknown), (16, Code::Unauthenticated)];
    for (number, code) in rows {
        let (_played, mut raw, call) = with_call_1().await;
        raw.send(1, wire::refusal(number, false)).await;
        failed(done(call).await, code, true);
    }
    let (_played, mut raw, call) = with_call_1().await;
    raw.send(1, wire::Close { status: Some(wire::status(code::OK)), ..wire::answer(note(4)) }).await;
    done(call).await.unwrap();
}

#[tokio::test]
async fn a_message_beside_an_error_is_ignored() {
    let (_played, mut raw, call) = with_call_1().await;
    raw.send(1, wire::Close { message: Some(note(4)), ..wire::refusal(code::NOT_FOUND, false) }).await;
    let error = failed(done(call).await, Code::NotFound, true);
    assert_eq!(error.to_string(), "NOT_FOUND: as the test says");

    let played = Played::start();
    let call = played.call(async |client| client.count(ipc_tests::probe::Sizes::default()).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.send(1, wire::Headers::default()).await;
    raw.send(1, wire::Close { message: Some(note(4)), ..wire::refusal(code::NOT_FOUND, false) }).await;
    let mut stream = done(call).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_status_brings_its_words_details_and_metadata() {
    let (_played, mut raw, call) = with_call_1().await;
    let detail = prost_types::Any { type_url: "x/y".to_owned(), value: vec![0, 255] };
    let status =
        wire::Status {
            code: code::NOT_FOUND, message: "Grüße 😈".to_owned(), details: vec![detail.clone()]
        };
    let metadata: Vec<_> = [wire::pair("a", "1"), wire::pair("a", "2")].concat();
    raw.send(1, wire::Close { status: Some(status), trailers: metadata, ..wire::Close::default() }).await;
    let error = failed(done(call).await, Code::NotFound, true);
    let ipc_runtime::IpcError::Status(status) = error else { panic!("a status, not {error:?}") };
    assert_eq!((status.message(), status.details()), ("Grüße 😈", &[detail][..]));
    assert_eq!(status.metadata().get_all("a").collect::<Vec<_>>(), ["1", "2"]);
}

#[tokio::test]
async fn an_empty_message_is_a_message() {
    let (_played, mut raw, call) = with_call_1().await;
    raw.send(1, wire::answer("")).await;
    assert_eq!(done(call).await.unwrap().into_inner(), Note::default());
}
