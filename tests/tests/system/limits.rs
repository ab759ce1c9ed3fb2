//! Section 2, the senders' part: messages at the limit of a frame, and what is cut to fit.

use ipc_runtime::{Channel, Code, IpcError, Request, Streaming};
use ipc_tests::feed::Feed;
use ipc_tests::probe::{Failure, Note, ProbeClient, Sizes, note};
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::{Played, Real, done, failed, text};
use ipc_tests::wire::{self, Body, Envelope, Hello, Metadata, Open, code};
use prost::Message;

/// How many bytes an envelope has.
fn size(call_id: u64, body: impl Into<Body>) -> usize {
    Envelope { call_id, body: Some(body.into()) }.encoded_len()
}

/// The text with which what `envelope` makes of a note comes to exactly this size.
fn text_for(limit: usize, envelope: impl Fn(bytes::Bytes) -> usize) -> usize {
    let text = limit - (envelope(note(3000)) - 3000);
    assert_eq!(envelope(note(text)), limit);
    text
}

/// The Open of a unary call without a deadline.
fn open_size(message: bytes::Bytes) -> usize {
    size(1, wire::open("Echo", message))
}

#[tokio::test]
async fn a_request_may_have_the_smaller_of_both_limits_and_not_a_byte_more() {
    for (own, peer) in [(4096, 1 << 20), (1 << 20, 4096), (4096, 4096)] {
        let played = Played::with(|config| config.max_frame_bytes = own, |channel| channel);
        let hello = Hello { max_frame_bytes: peer, ..wire::hello() };
        let fits = text_for(4096, open_size);
        let mut raw: Option<RawPeer> = None;
        let call = |text_bytes: usize| {
            let request = Request::new(text(text_bytes)).without_timeout();
            played.call(async |client: ProbeClient| client.echo(request).await)
        };
        for (id, text_bytes) in [(1, fits - 1), (2, fits)] {
            let call = call(text_bytes);
            if raw.is_none() {
                raw = Some(played.server.greeted_with(hello.clone()).await);
            }
            let raw = raw.as_mut().unwrap();
            raw.opened(id).await;
            raw.send(id, wire::answer(note(1))).await;
            done(call).await.unwrap();
        }
        let raw = raw.as_mut().unwrap();
        let error = failed(done(call(fits + 1)).await, Code::ResourceExhausted, false);
        assert!(matches!(error, IpcError::TooLarge { size: 4097, max_size: 4096 }), "{error:?}");
        // Nothing of it was written, not even its id is used.
        raw.is_quiet().await;
        let call = call(1);
        raw.opened(3).await;
        raw.send(3, wire::answer(note(1))).await;
        done(call).await.unwrap();
    }
}

#[tokio::test]
async fn metadata_counts_towards_the_limit_of_a_request() {
    let played = Played::with(|config| config.max_frame_bytes = 4096, |channel| channel);
    let mut request = Request::new(text(1));
    request.metadata_mut().append("k", vec![0; 5000]).unwrap();
    let call = played.call(async |client: ProbeClient| client.echo(request).await);
    let mut raw = played.server.greeted().await;
    assert!(matches!(done(call).await, Err(IpcError::TooLarge { max_size: 4096, .. })));
    raw.is_quiet().await;
}

#[tokio::test]
async fn an_item_of_a_request_that_is_too_large_fails_the_call_and_cancels_it() {
    let played = Played::with(|config| config.max_frame_bytes = 4096, |channel| channel);
    let fits = text_for(4096, |message| size(1, wire::item(message)));
    let feed = Feed::of([text(fits), text(fits + 1), text(1)]);
    let call = played.call(async |client: ProbeClient| client.sum(feed).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    assert_eq!(raw.has_item(1).await, note(fits));
    raw.cancelled(1).await;
    let outcome = done(call).await;
    assert!(matches!(outcome, Err(IpcError::TooLarge { size: 4097, max_size: 4096 })), "{outcome:?}");
    raw.is_quiet().await;

    // The same once the answer has begun.
    let (items, feed) = Feed::new();
    let call = played.call(async |client: ProbeClient| client.chat(feed).await);
    raw.opened(2).await;
    raw.send(2, wire::Headers::default()).await;
    let mut stream: Streaming<Note> = done(call).await.unwrap().into_inner();
    items.send(text(fits + 1)).unwrap();
    raw.cancelled(2).await;
    assert_eq!(stream.message().await.unwrap_err().code(), Code::ResourceExhausted);
    drop(stream);
    raw.is_quiet().await;
}

/// A client that accepts 4096 bytes.
async fn small(real: &Real) -> RawPeer {
    real.raw_with(Hello { max_frame_bytes: 4096, ..wire::hello() }).await
}

async fn fill(raw: &mut RawPeer, id: u64, method: &str, sizes: Sizes) {
    raw.send(id, wire::open(method, sizes.encode_to_vec())).await;
}

#[tokio::test]
async fn a_response_may_have_the_smaller_of_both_limits_and_not_a_byte_more() {
    for own in [4096, 1 << 20] {
        let real = Real::with(|config| config.max_frame_bytes = own, |server| server).await;
        let mut raw = small(&real).await;
        let fits = text_for(4096, |message| size(1, wire::answer(message)));
        for (id, text_bytes) in [(1, fits - 1), (2, fits)] {
            fill(&mut raw, id, "Fill", Sizes { bytes: text_bytes as u64, ..Sizes::default() }).await;
            assert_eq!(raw.answered(id).await, note(text_bytes));
        }
        fill(&mut raw, 3, "Fill", Sizes { bytes: fits as u64 + 1, ..Sizes::default() }).await;
        raw.closed(3, code::RESOURCE_EXHAUSTED, false).await;
        raw.is_quiet().await;
    }
}

#[tokio::test]
async fn a_response_that_fits_without_its_metadata_only_does_not_fit() {
    let real = Real::start().await;
    let mut raw = small(&real).await;
    for (id, sizes) in [
        (1, Sizes { header_bytes: 4096, ..Sizes::default() }),
        (2, Sizes { trailer_bytes: 4096, ..Sizes::default() }),
        (3, Sizes { bytes: 2000, header_bytes: 1000, trailer_bytes: 1100, ..Sizes::default() }),
    ] {
        fill(&mut raw, id, "Fill", sizes).await;
        raw.closed(id, code::RESOURCE_EXHAUSTED, false).await;
    }
    fill(
        &mut raw,
        4,
        "Fill",
        Sizes { bytes: 2000, header_bytes: 1000, trailer_bytes: 900, ..Sizes::default() },
    )
    .await;
    let close = raw.closed(4, code::OK, false).await;
    assert_eq!((close.headers[0].value.len(), close.trailers[0].value.len()), (1000, 900));
}

#[tokio::test]
async fn an_item_headers_or_trailers_that_do_not_fit_end_a_stream() {
    let real = Real::start().await;
    let mut raw = small(&real).await;
    let fits = text_for(4096, |message| size(1, wire::item(message))) as u64;
    let rows = [
        (1, 2, Sizes { notes: 2, bytes: fits, ..Sizes::default() }, code::OK),
        (2, 0, Sizes { notes: 2, bytes: fits + 1, ..Sizes::default() }, code::RESOURCE_EXHAUSTED),
        (3, 0, Sizes { notes: 2, header_bytes: 4096, ..Sizes::default() }, code::RESOURCE_EXHAUSTED),
        (4, 2, Sizes { notes: 2, trailer_bytes: 4096, ..Sizes::default() }, code::RESOURCE_EXHAUSTED),
    ];
    for (id, items, sizes, expected) in rows {
        fill(&mut raw, id, "Count", sizes).await;
        let (got, close) = raw.streamed(id).await;
        let code = close.status.map_or(code::OK, |status| status.code);
        assert_eq!((got.len(), code, close.not_processed), (items, expected, false), "{sizes:?}");
    }
    raw.is_quiet().await;
}

async fn fails(raw: &mut RawPeer, id: u64, failure: Failure) -> (wire::Status, Vec<Metadata>) {
    raw.send(id, wire::open("Fail", failure.encode_to_vec())).await;
    let close = raw.closed(id, code::NOT_FOUND, false).await;
    (close.status.unwrap(), close.trailers)
}

#[tokio::test]
async fn an_error_is_cut_to_fit_details_and_metadata_first_then_its_words() {
    let real = Real::start().await;
    let mut raw = small(&real).await;
    let failure = |message_bytes, detail_bytes, trailer_bytes| Failure {
        code: code::NOT_FOUND,
        message_bytes,
        detail_bytes,
        trailer_bytes,
    };
    let (status, trailers) = fails(&mut raw, 1, failure(1000, 1000, 1000)).await;
    assert_eq!((status.message.len(), status.details.len(), trailers.len()), (1000, 1, 1));
    let (status, trailers) = fails(&mut raw, 2, failure(3000, 5000, 5000)).await;
    assert_eq!((status.message.len(), status.details.len(), trailers.len()), (3000, 0, 0));
    let (status, trailers) = fails(&mut raw, 3, failure(5000, 5000, 5000)).await;
    assert_eq!((status.details.len(), trailers.len()), (0, 0));
    assert!((3900..4096).contains(&status.message.len()), "{}", status.message.len());
    raw.is_quiet().await;
}

#[tokio::test]
async fn limits_hold_between_our_own_sides_too() {
    let real = Real::with(|config| config.max_frame_bytes = 4096, |server| server).await;
    let config = ipc_runtime::IpcConfig { max_frame_bytes: 1 << 20, ..real.config.clone() };
    let client = ProbeClient::new(Channel::new(&config).unwrap());
    let fits = text_for(4096, open_size);
    client.echo(Request::new(text(fits)).without_timeout()).await.unwrap();
    let error = failed(
        client.echo(Request::new(text(fits + 1)).without_timeout()).await,
        Code::ResourceExhausted,
        false,
    );
    assert!(matches!(error, IpcError::TooLarge { size: 4097, max_size: 4096 }), "{error:?}");
    let sizes = Sizes { bytes: 5000, ..Sizes::default() };
    failed(client.fill(sizes).await, Code::ResourceExhausted, true);
    client.echo(text(1)).await.unwrap();
}

#[tokio::test]
async fn an_open_above_what_the_server_says_is_not_sent_even_on_a_large_deadline() {
    // The id and the timeout are part of the envelope: they count, too.
    let played = Played::start();
    let hello = Hello { max_frame_bytes: 4096, ..wire::hello() };
    let with_timeout = |message| {
        let open = Open { timeout_us: 30_000_000, ..wire::open("Echo", message) };
        size(1, open)
    };
    let _clock = ipc_tests::clock::Clock::stop();
    let fits = text_for(4096, with_timeout);
    let note_that_fits = text(fits);
    let call = played.call(async |client: ProbeClient| client.echo(note_that_fits).await);
    let mut raw = played.server.greeted_with(hello).await;
    raw.opened(1).await;
    raw.send(1, wire::answer(note(1))).await;
    done(call).await.unwrap();
    let one_byte_more = text(fits + 1);
    let call = played.call(async |client: ProbeClient| client.echo(one_byte_more).await);
    failed(done(call).await, Code::ResourceExhausted, false);
    raw.is_quiet().await;
}
