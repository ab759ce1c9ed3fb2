//! Section 5: metadata is judged before its pairs are built.

use ipc_runtime::Code;
use ipc_tests::clock::settle;
use ipc_tests::probe::{Sizes, note};
use ipc_tests::setup::{Played, Real, done, failed};
use ipc_tests::wire::{self, Checksum, Envelope, Metadata, code};
use prost::Message;

use crate::{Counted, MIB, alone};

/// Almost a whole frame of the smallest pairs.
const PAIRS: usize = 150_000;

/// What may be allocated, one after the other, for a frame of 1 MiB and its refusal.
const ALLOWANCE: usize = 8 * MIB;

fn pairs() -> Vec<Metadata> {
    wire::pair("k", "").into_iter().cycle().take(PAIRS).collect()
}

fn frame(body: impl Into<wire::Body>) -> Vec<u8> {
    let message = Envelope { call_id: 1, body: Some(body.into()) }.encode_to_vec();
    wire::frame(Checksum::Ieee, &message)
}

fn assert_not_built(counted: &Counted) {
    let allocated = counted.allocated();
    assert!(allocated < ALLOWANCE, "{allocated} bytes allocated to refuse {PAIRS} pairs");
}

#[test]
fn a_server_builds_no_pairs_of_too_much_metadata() {
    alone(async {
        let real = Real::start().await;
        let mut raw = real.raw().await;
        let open = frame(wire::Open { metadata: pairs(), ..wire::open("Hold", note(1)) });
        let counted = Counted::from_now();
        raw.write(&open).await;
        settle().await;
        assert_not_built(&counted);
        raw.closed(1, code::RESOURCE_EXHAUSTED, true).await;
    });
}

#[test]
fn a_client_builds_no_pairs_of_too_much_metadata() {
    alone(async {
        let parts = [
            frame(wire::Headers { metadata: pairs() }),
            frame(wire::Close { headers: pairs(), ..wire::answer(note(1)) }),
            frame(wire::Close { trailers: pairs(), ..wire::answer(note(1)) }),
        ];
        for part in parts {
            let played = Played::start();
            let call = played.call(async |client| client.fill(Sizes::default()).await);
            let mut raw = played.server.greeted().await;
            raw.opened(1).await;
            let counted = Counted::from_now();
            raw.write(&part).await;
            settle().await;
            assert_not_built(&counted);
            failed(done(call).await, Code::ResourceExhausted, true);
        }
    });
}
