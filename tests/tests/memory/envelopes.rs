//! Sections 5 and 6: what is kept of one envelope is bounded by what it says, not by the bytes around it.

use ipc_runtime::bench::{Kept, keep};
use ipc_tests::wire::{self, Body, Envelope};
use prost::Message;
use prost_types::Any;

use crate::chance::{put_sized, run};
use crate::{MIB, alone, held};

/// What an envelope takes beside what is in it.
const SMALL: usize = 1024;

/// Metadata of one kind counts at most 64 KiB. A pair counts 32 beyond its bytes, and takes 64 in a list with room to
/// spare. The bytes may stay in a frame of twice the size.
const METADATA: usize = 4 * 64 * 1024;

/// A status keeps at most 1024 details: each takes 48 bytes in a list, and two small pieces of memory.
const DETAILS: usize = 1024 * (48 + 2 * 16);

/// How much is kept of an envelope, and whether there is one.
fn kept(bytes: &[u8]) -> (Option<Kept>, usize) {
    held(|| keep(bytes))
}

fn padded(body: impl Into<Body>, padding: usize) -> Vec<u8> {
    let mut bytes = Envelope { call_id: 1, body: Some(body.into()) }.encode_to_vec();
    put_sized(&mut bytes, 100, &vec![0; padding]);
    bytes
}

fn assert_keeps(what: &str, bytes: &[u8], most: usize) {
    let (found, size) = kept(bytes);
    assert!(found.is_some(), "{what} is an envelope");
    assert!(size <= most, "{size} bytes kept of {what}, {} bytes long", bytes.len());
}

/// The most that may be kept of any envelope.
fn bound(bytes: &[u8]) -> usize {
    let services = 2 * 32 * bytes.len();
    let said = match Envelope::decode(bytes).ok().and_then(|envelope| envelope.body) {
        Some(Body::Hello(_)) => services + bytes.len(),
        Some(Body::Open(open)) => 2 * open.message.map_or(0, |message| message.len()) + METADATA,
        Some(Body::Headers(_)) => METADATA,
        Some(Body::Item(item)) => 2 * item.message.len(),
        Some(Body::Close(close)) => {
            let message = 2 * close.message.map_or(0, |message| message.len());
            message + 2 * METADATA + status_bound(close.status.as_ref())
        }
        Some(Body::GoAway(go_away)) => status_bound(go_away.status.as_ref()),
        Some(Body::HalfClose(_) | Body::Cancel(_) | Body::Credit(_) | Body::Ping(_) | Body::Pong(_))
        | None => 0,
    };
    said + SMALL
}

/// Words and details are copied as they are; a field that comes twice keeps the longer one's room.
fn status_bound(status: Option<&wire::Status>) -> usize {
    let Some(status) = status else { return 0 };
    let details = status.details.iter().map(|detail| detail.type_url.len() + detail.value.len());
    status.message.len() + details.sum::<usize>() + DETAILS
}

#[test]
fn an_item_keeps_itself_alone() {
    alone(async {
        for (length, padding) in [(0, MIB), (1, MIB), (1, 300), (1000, 900), (1000, MIB), (MIB / 2, MIB / 2)]
        {
            let most = 2 * length + SMALL;
            assert_keeps("an item", &padded(wire::item(vec![7; length]), padding), most);
            assert_keeps("a request", &padded(wire::open("Echo", vec![7; length]), padding), most);
            assert_keeps("an answer", &padded(wire::answer(vec![7; length]), padding), most);
        }
    });
}

#[test]
fn metadata_keeps_a_few_times_its_limit_at_most() {
    alone(async {
        for (value, pairs) in [(0, 1986), (0, 1987), (0, 100_000), (100, 490), (60_000, 1), (900_000, 1)] {
            let metadata: Vec<_> = wire::pair("k", vec![7; value]).into_iter().cycle().take(pairs).collect();
            for padding in [0, MIB] {
                let headers = wire::Headers { metadata: metadata.clone() };
                assert_keeps("headers", &padded(headers, padding), METADATA + SMALL);
                let open = wire::Open { metadata: metadata.clone(), ..wire::open("Echo", "") };
                assert_keeps("a request", &padded(open, padding), METADATA + SMALL);
                let trailers = wire::Close { trailers: metadata.clone(), ..wire::answer("") };
                assert_keeps("an end", &padded(trailers, padding), METADATA + SMALL);
            }
        }
    });
}

#[test]
fn a_status_keeps_its_words_and_a_thousand_details_at_most() {
    alone(async {
        for details in [1, 1024, 1025, 400_000] {
            let status = wire::Status { details: vec![Any::default(); details], ..wire::status(13) };
            let close = wire::Close { status: Some(status.clone()), ..wire::Close::default() };
            assert_keeps("an end", &padded(close, 0), DETAILS + SMALL);
            let go_away = wire::GoAway { status: Some(status), ..wire::GoAway::default() };
            assert_keeps("a farewell", &padded(go_away, 0), DETAILS + SMALL);
        }
        let detail = Any { type_url: "t".to_owned(), value: vec![7; MIB / 2] };
        let status = wire::Status { details: vec![detail], ..wire::status(13) };
        let close = wire::Close { status: Some(status), ..wire::Close::default() };
        assert_keeps("an end with one large detail", &padded(close, 0), MIB / 2 + DETAILS + SMALL);
    });
}

#[test]
fn envelopes_from_chance_keep_no_more_than_they_say() {
    alone(async {
        run(1_000, |bytes| {
            let (_found, size) = kept(bytes);
            let most = bound(bytes);
            assert!(size <= most, "{size} bytes kept of {}, {most} allowed", bytes.len());
        });
    });
}
