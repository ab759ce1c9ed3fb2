//! Section 5: metadata of one kind is at most 64 KiB, counted as key + value + 32 for each pair.

use ipc_runtime::{Code, Request};
use ipc_tests::probe::{Failure, Sizes, note};
use ipc_tests::setup::{Played, Real, done, failed, text};
use ipc_tests::wire::{self, Metadata, code};
use prost::Message;

/// A value that fills the limit, with a key of one letter.
const FITS: u64 = 65_536 - 33;

fn value(bytes: u64) -> Vec<u8> {
    vec![b'v'; usize::try_from(bytes).unwrap()]
}

/// One pair, or many small ones, of at most 64 KiB, and the same with a little more.
fn at_the_edge() -> [(Vec<Metadata>, Vec<Metadata>); 2] {
    let many = |pairs| wire::pair("k", "").into_iter().cycle().take(pairs).collect();
    // 1985 times 33 is 65 505.
    [(wire::pair("k", value(FITS)), wire::pair("k", value(FITS + 1))), (many(1985), many(1986))]
}

#[tokio::test]
async fn a_server_refuses_a_request_with_too_much_metadata() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    for (id, (fits, above)) in [1, 3].into_iter().zip(at_the_edge()) {
        let open = wire::open("Echo", note(1));
        raw.send(id, wire::Open { metadata: fits.clone(), ..open.clone() }).await;
        let (_, close) = raw.close().await;
        assert_eq!((close.status, close.headers), (None, fits));
        raw.send(id + 1, wire::Open { metadata: above, ..open }).await;
        raw.closed(id + 1, code::RESOURCE_EXHAUSTED, true).await;
    }
    assert_eq!(real.probe.calls(), 2);
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_client_fails_a_call_whose_answer_has_too_much_metadata() {
    let played = Played::start();
    let first = played.echo();
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.send(1, wire::answer(note(4))).await;
    done(first).await.unwrap();
    let mut id = 1;
    for (fits, above) in at_the_edge() {
        let answer = wire::answer(note(4));
        let rows = [
            (wire::Close { headers: fits.clone(), trailers: fits, ..answer.clone() }, true),
            (wire::Close { headers: above.clone(), ..answer.clone() }, false),
            (wire::Close { trailers: above, ..answer }, false),
        ];
        for (close, passes) in rows {
            id += 1;
            let call = played.echo();
            raw.opened(id).await;
            raw.send(id, close).await;
            let outcome = done(call).await;
            if passes {
                outcome.unwrap();
            } else {
                failed(outcome, Code::ResourceExhausted, true);
            }
        }
    }
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_client_fails_a_stream_whose_headers_are_too_much() {
    for (_, above) in at_the_edge() {
        let played = Played::start();
        let call = played.call(async |client| client.tail(text(1)).await);
        let mut raw = played.server.greeted().await;
        raw.opened(1).await;
        raw.send(1, wire::Headers { metadata: above }).await;
        failed(done(call).await, Code::ResourceExhausted, true);
        raw.cancelled(1).await;
        raw.is_quiet().await;
    }
}

#[tokio::test]
async fn a_client_sends_no_request_with_too_much_metadata() {
    let played = Played::start();
    let call = |bytes| {
        let mut request = Request::new(text(4));
        request.metadata_mut().append("k", value(bytes)).unwrap();
        played.call(async |client| client.echo(request).await)
    };
    let fits = call(FITS);
    let mut raw = played.server.greeted().await;
    assert_eq!(raw.opened(1).await.metadata, wire::pair("k", value(FITS)));
    raw.send(1, wire::answer(note(4))).await;
    done(fits).await.unwrap();
    failed(done(call(FITS + 1)).await, Code::ResourceExhausted, false);
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_server_ends_a_call_whose_answer_has_too_much_metadata() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    let sizes = Sizes { notes: 1, bytes: 1, ..Sizes::default() };
    let fits = Sizes { header_bytes: FITS, trailer_bytes: FITS, ..sizes };
    raw.send(1, wire::open("Fill", fits.encode_to_vec())).await;
    let (_, close) = raw.close().await;
    assert_eq!((close.status, close.headers.len(), close.trailers.len()), (None, 1, 1));

    let above = [Sizes { header_bytes: FITS + 1, ..sizes }, Sizes { trailer_bytes: FITS + 1, ..sizes }];
    for (id, sizes) in (2..).zip(above) {
        raw.send(id, wire::open("Fill", sizes.encode_to_vec())).await;
        raw.closed(id, code::RESOURCE_EXHAUSTED, false).await;
    }
    for (id, sizes) in (4..).zip(above) {
        raw.send(id, wire::open("Count", sizes.encode_to_vec())).await;
        let (_, close) = raw.streamed(id).await;
        assert_eq!(close.status.map(|status| status.code), Some(code::RESOURCE_EXHAUSTED));
    }
    raw.is_quiet().await;
}

#[tokio::test]
async fn an_error_with_too_much_metadata_is_cut() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    for (id, trailer_bytes, trailers) in [(1, FITS, 1), (2, FITS + 1, 0)] {
        let failure =
            Failure { code: code::NOT_FOUND, message_bytes: 10, trailer_bytes, ..Failure::default() };
        raw.send(id, wire::open("Fail", failure.encode_to_vec())).await;
        let close = raw.closed(id, code::NOT_FOUND, false).await;
        assert_eq!((close.status.unwrap().message.len(), close.trailers.len()), (10, trailers));
    }
}
