//! Answers as a client takes them, and requests as it sends them.

use ipc_runtime::{Code, IpcError, Request};
use ipc_tests::clock::settle;
use ipc_tests::feed::Feed;
use ipc_tests::probe::{ProbeClient, Sizes, Total, note};
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::{Outcome, Played, done, failed, text};
use ipc_tests::wire::{self, Body, Close, code};
use prost::Message;

/// How an answer can be split: `h` Headers, `i` Item, `c` Close, `C` Close with a message.
async fn answer(raw: &mut RawPeer, parts: &str) {
    let part = |part| match part {
        'h' => wire::Headers::default().into(),
        'i' => wire::item(total()).into(),
        'c' => Close::default().into(),
        'C' => wire::answer(total()).into(),
        other => panic!("a part of an answer, not {other}"),
    };
    let parts: Vec<Body> = parts.chars().map(part).collect();
    raw.send_all(parts.into_iter().map(|body| (1, body))).await;
}

fn total() -> Vec<u8> {
    Total { notes: 3, bytes: 0 }.encode_to_vec()
}

/// What a call of each kind that has one response gives for this answer.
async fn single(parts: &str) -> Outcome<Total> {
    let played = Played::start();
    let call = played.call(async |client: ProbeClient| client.sum(Feed::of([text(1)])).await);
    let mut raw = played.server.greeted().await;
    let open = raw.opened(1).await;
    assert_eq!((open.message, open.end_of_stream), (None, false));
    assert_eq!(raw.has_item(1).await, note(1));
    raw.half_closed().await;
    answer(&mut raw, parts).await;
    let outcome = done(call).await;
    let unary = unary(parts).await;
    match (&outcome, &unary) {
        (Ok(_), unary) => assert!(unary.is_ok(), "{unary:?}"),
        (Err(error), unary) => {
            let unary = unary.as_ref().unwrap_err();
            assert_eq!((unary.code(), unary.request_sent()), (error.code(), error.request_sent()));
        }
    }
    outcome
}

async fn unary(parts: &str) -> Result<(), IpcError> {
    let played = Played::start();
    let call = played.call(async |client: ProbeClient| client.hold(text(1)).await.map(drop));
    let mut raw = played.server.greeted().await;
    let open = raw.opened(1).await;
    assert_eq!((open.message, open.end_of_stream), (Some(note(1)), true));
    // Only a note has bytes in field 1: this is one, too, to whom it may concern.
    let note = note(4);
    for part in parts.chars() {
        let body: Body = match part {
            'h' => wire::Headers::default().into(),
            'i' => wire::item(note.clone()).into(),
            'c' => Close::default().into(),
            _ => wire::answer(note.clone()).into(),
        };
        raw.send(1, body).await;
    }
    done(call).await
}

#[tokio::test]
async fn one_response_however_it_is_split() {
    for parts in ["C", "hC", "ic", "hic"] {
        assert_eq!(single(parts).await.unwrap().into_inner().notes, 3, "{parts}");
    }
}

#[tokio::test]
async fn another_number_of_responses_than_one_is_internal() {
    for parts in ["c", "hc", "iC", "hiC", "iic", "iiic", "hiiiC"] {
        println!("{parts}");
        failed(single(parts).await, Code::Internal, true);
    }
}

#[tokio::test]
async fn any_number_of_streamed_responses_however_they_are_split() {
    for (parts, messages) in
        [("c", 0), ("hc", 0), ("C", 1), ("hC", 1), ("ic", 1), ("iic", 2), ("iiC", 3), ("hiiiiC", 5)]
    {
        let played = Played::start();
        let count = played.call(async |client: ProbeClient| client.count(Sizes::default()).await);
        let mut raw = played.server.greeted().await;
        raw.opened(1).await;
        streams(&mut raw, parts, messages, count).await;

        let played = Played::start();
        let chat = played.call(async |client: ProbeClient| client.chat(Feed::of([])).await);
        let mut raw = played.server.greeted().await;
        let open = raw.opened(1).await;
        assert_eq!((open.message, open.end_of_stream), (None, false));
        raw.half_closed().await;
        streams(&mut raw, parts, messages, chat).await;
    }
}

type Call = tokio::task::JoinHandle<Outcome<ipc_runtime::Streaming<ipc_tests::probe::Note>>>;

async fn streams(raw: &mut RawPeer, parts: &str, messages: usize, call: Call) {
    for part in parts.chars() {
        let body: Body = match part {
            'h' => wire::Headers::default().into(),
            'i' => wire::item(note(4)).into(),
            'c' => Close::default().into(),
            _ => wire::answer(note(4)).into(),
        };
        raw.send(1, body).await;
    }
    let mut stream = done(call).await.unwrap().into_inner();
    for _ in 0..messages {
        assert_eq!(stream.message().await.unwrap(), Some(text(4)), "{parts}");
    }
    assert_eq!(stream.message().await.unwrap(), None, "{parts}");
    raw.is_quiet().await;
}

#[tokio::test]
async fn the_end_of_the_requests_is_said_once() {
    let played = Played::start();
    let call = played.call(async |client: ProbeClient| client.chat(Feed::of([text(1)])).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.has_item(1).await;
    raw.half_closed().await;
    raw.send(1, wire::Headers::default()).await;
    let _stream = done(call).await.unwrap();
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_stream_without_its_close_never_ends_well() {
    for parts in ["h", "i", "hiii"] {
        let played = Played::start();
        let call = played.call(async |client: ProbeClient| client.count(Sizes::default()).await);
        let mut raw = played.server.greeted().await;
        raw.opened(1).await;
        for part in parts.chars() {
            let body: Body =
                if part == 'h' { wire::Headers::default().into() } else { wire::item(note(4)).into() };
            raw.send(1, body).await;
        }
        raw.half_close().await;
        let mut stream = done(call).await.unwrap().into_inner();
        for _ in parts.matches('i') {
            assert_eq!(stream.message().await.unwrap(), Some(text(4)));
        }
        assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn ids_rise_from_1_and_none_is_used_twice() {
    let played = Played::start();
    let _first = played.echo();
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    for id in 2..20 {
        let call = played.echo();
        raw.opened(id).await;
        raw.send(id, wire::answer(note(4))).await;
        done(call).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_sends_nothing_for_a_call_that_is_closed() {
    let played = Played::start();
    let (items, feed) = Feed::new();
    let call = played.call(async |client: ProbeClient| client.chat(feed).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    items.send(text(1)).unwrap();
    raw.has_item(1).await;
    raw.send(1, wire::Headers::default()).await;
    let mut stream = done(call).await.unwrap().into_inner();
    raw.send(1, wire::refusal(code::NOT_FOUND, false)).await;
    assert_eq!(stream.message().await.unwrap_err().code(), Code::NotFound);
    _ = items.send(text(1));
    settle().await;
    drop((items, stream));
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_bad_metadata_key_from_a_server_fails_the_call_and_nothing_else() {
    for key in ["", "Upper", "ü"] {
        let bad = || wire::pair(key, "1");
        let answers: [Vec<Body>; 4] = [
            vec![wire::Headers { metadata: bad() }.into(), wire::answer(note(4)).into()],
            vec![Close { headers: bad(), ..wire::answer(note(4)) }.into()],
            vec![Close { trailers: bad(), ..wire::answer(note(4)) }.into()],
            vec![Close { trailers: bad(), ..wire::refusal(code::NOT_FOUND, false) }.into()],
        ];
        let played = Played::start();
        let mut raw: Option<RawPeer> = None;
        for (id, answer) in (1..).zip(answers) {
            let call = played.echo();
            if raw.is_none() {
                raw = Some(played.server.greeted().await);
            }
            let raw = raw.as_mut().unwrap();
            raw.opened(id).await;
            raw.send_all(answer.into_iter().map(|body| (id, body))).await;
            failed(done(call).await, Code::Internal, true);
            raw.is_quiet().await;
        }
    }
}

#[tokio::test]
async fn a_bad_key_at_the_end_of_a_stream_fails_it() {
    let played = Played::start();
    let call = played.call(async |client: ProbeClient| client.count(Sizes::default()).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.send(1, wire::item(note(4))).await;
    raw.send(1, Close { trailers: wire::pair("Upper", "1"), ..Close::default() }).await;
    let mut stream = done(call).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap(), Some(text(4)));
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Internal);
}

#[tokio::test]
async fn a_response_that_does_not_decode_fails_its_call() {
    let played = Played::start();
    let call = played.echo();
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.send(1, wire::answer(&[0x0a, 0x05][..])).await;
    let error = failed(done(call).await, Code::Internal, true);
    assert!(matches!(error, IpcError::Decode(_)), "{error:?}");
    raw.is_quiet().await;
}

#[tokio::test]
async fn metadata_comes_before_and_after_a_response() {
    let played = Played::start();
    let mut request = Request::new(text(1));
    for (key, value) in [("k", "1"), ("j", "2"), ("k", "3")] {
        request.metadata_mut().append(key, value).unwrap();
    }
    let call = played.call(async |client: ProbeClient| client.echo(request).await);
    let mut raw = played.server.greeted().await;
    let expected = [wire::pair("k", "1"), wire::pair("j", "2"), wire::pair("k", "3")].concat();
    assert_eq!(raw.opened(1).await.metadata, expected);
    raw.send(1, Close { headers: expected, trailers: wire::pair("t", "4"), ..wire::answer(note(4)) }).await;
    let response = done(call).await.unwrap();
    assert_eq!(response.metadata().get_all("k").collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(response.trailers().get("t"), Some("4"));
}
