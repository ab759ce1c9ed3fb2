//! Section 6: what waits must not keep alive a larger buffer that it arrived in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream;
use ipc_runtime::{Request, Response, Server, Status, Stream, ipc_service};
use ipc_tests::clock::settle;
use ipc_tests::probe::{Sizes, note};
use ipc_tests::raw::{RawPeer, soon};
use ipc_tests::setup::{Played, Real, done, place};
use ipc_tests::wire::{self, Body, Checksum, Envelope};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::{Counted, MIB, alone};

/// What a side may hold beside small messages that wait: buffers to read into and to write from.
const BUFFERS: usize = 8 * MIB;

/// A frame with a large field that nobody knows.
fn padded(call_id: u64, body: impl Into<Body>) -> Vec<u8> {
    let padding = MIB / 2;
    let mut message = Envelope { call_id, body: Some(body.into()) }.encode_to_vec();
    encode_key(100, WireType::LengthDelimited, &mut message);
    encode_varint(padding as u64, &mut message);
    message.resize(message.len() + padding, 0);
    wire::frame(Checksum::Ieee, &message)
}

fn assert_small(counted: &Counted) {
    let growth = counted.growth();
    assert!(growth < BUFFERS, "{growth} bytes held for a few hundred messages of one byte");
}

#[test]
fn an_item_that_a_handler_does_not_read_lets_go_of_the_unknown_fields_beside_it() {
    alone(async {
        let real = Real::start().await;
        let mut raw = real.raw().await;
        raw.send(1, wire::open_stream("Deaf")).await;
        real.probe.started("Deaf").await;
        let item = padded(1, wire::item(note(1)));
        raw.is_quiet().await;
        let counted = Counted::from_now();
        for _ in 0..100 {
            raw.write(&item).await;
        }
        raw.is_quiet().await;
        assert_small(&counted);
    });
}

#[test]
fn a_first_item_that_a_handler_does_not_read_lets_go_of_the_unknown_fields_beside_it() {
    alone(async {
        let real = Real::start().await;
        let mut raw = real.raw().await;
        raw.is_quiet().await;
        let counted = Counted::from_now();
        for id in 1..=100 {
            let open = wire::Open { message: Some(note(1)), ..wire::open_stream("Deaf") };
            raw.write(&padded(id, open)).await;
            real.probe.started("Deaf").await;
        }
        raw.is_quiet().await;
        assert_small(&counted);
    });
}

#[test]
fn an_item_that_a_client_does_not_read_lets_go_of_the_unknown_fields_beside_it() {
    alone(async {
        let played = Played::start();
        let call = played.call(async |client| client.count(Sizes::default()).await);
        let mut raw = played.server.greeted().await;
        raw.opened(1).await;
        raw.send(1, wire::item(note(1))).await;
        let _unread = done(call).await.unwrap().into_inner();
        let item = padded(1, wire::item(note(1)));
        raw.is_quiet().await;
        let counted = Counted::from_now();
        for _ in 0..100 {
            raw.write(&item).await;
        }
        raw.is_quiet().await;
        assert_small(&counted);
    });
}

#[test]
fn items_that_a_handler_does_not_read_let_go_of_the_requests_they_came_with() {
    alone(async {
        let real = Real::start().await;
        let mut raw = real.raw().await;
        raw.send(1, wire::open_stream("Deaf")).await;
        real.probe.started("Deaf").await;
        raw.is_quiet().await;
        let counted = Counted::from_now();
        for id in 2..=200 {
            let together: [(u64, Body); 2] =
                [(1, wire::item(note(1)).into()), (id, wire::open("Echo", note(MIB / 4)).into())];
            raw.send_all(together).await;
            raw.answered(id).await;
        }
        raw.is_quiet().await;
        assert_small(&counted);
    });
}

#[test]
fn items_that_a_client_does_not_read_let_go_of_the_answers_they_came_with() {
    alone(async {
        let played = Played::start();
        let call = played.call(async |client| client.count(Sizes::default()).await);
        let mut raw = played.server.greeted().await;
        raw.opened(1).await;
        raw.send(1, wire::item(note(1))).await;
        let _unread = done(call).await.unwrap().into_inner();
        raw.is_quiet().await;
        let counted = Counted::from_now();
        for id in 2..=200 {
            let call = played.echo();
            raw.opened(id).await;
            let together: [(u64, Body); 2] =
                [(1, wire::item(note(1)).into()), (id, wire::answer(note(MIB / 4)).into())];
            raw.send_all(together).await;
            drop(soon("an answer", call).await.unwrap().unwrap());
        }
        raw.is_quiet().await;
        assert_small(&counted);
    });
}

/// Streams without end.
#[ipc_service(package = "test.memory.v1")]
trait Fountain {
    /// Large messages, each in memory of its own.
    async fn pour(
        &self,
        request: Request<()>,
    ) -> Result<Response<impl Stream<Item = Result<Vec<u8>, Status>> + Send + 'static>, Status>;
}

/// Counts what it has made.
struct Well(Arc<AtomicUsize>);

impl Fountain for Well {
    async fn pour(
        &self,
        _: Request<()>,
    ) -> Result<Response<impl Stream<Item = Result<Vec<u8>, Status>> + Send + 'static>, Status> {
        let made = Arc::clone(&self.0);
        let next = move || {
            made.fetch_add(1, Ordering::SeqCst);
            Ok(vec![7; 900_000])
        };
        Ok(Response::new(stream::repeat_with(next)))
    }
}

#[test]
fn a_stream_makes_no_more_while_its_last_large_item_waits() {
    alone(async {
        const CALLS: usize = 20;
        let (config, _directory) = place();
        let made = Arc::new(AtomicUsize::new(0));
        let builder = Server::builder().add_service(FountainServer::new(Well(Arc::clone(&made))));
        let serving = tokio::spawn(builder.bind(&config).await.unwrap().serve());
        let mut raw = RawPeer::connect(&config.endpoint_path).await;
        raw.greet(wire::hello()).await;
        for id in 1..=CALLS {
            let open =
                wire::Open { method: "/test.memory.v1.Fountain/Pour".to_owned(), ..wire::open("", "") };
            raw.send(id as u64, open).await;
        }
        settle().await;
        // One is being written, so its call has room for another.
        assert_eq!(made.load(Ordering::SeqCst), CALLS + 1);
        serving.abort();
    });
}
