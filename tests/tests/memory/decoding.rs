//! Section 5: what requests come to in memory once they are decoded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ipc_runtime::{Request, Response, Server, Status, ipc_service};
use ipc_tests::clock::{Clock, settle};
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::place;
use ipc_tests::wire::{self, Body, Cancel, HalfClose, Open, code};
use tokio::task::AbortHandle;

use crate::{Counted, MIB, Thing, alone};

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Sack {
    #[prost(message, repeated, tag = "1")]
    things: Vec<Thing>,
}

/// Keeps what it is given.
#[ipc_service(package = "test.memory.v1")]
trait Cellar {
    /// For ever.
    async fn keep(&self, sack: Request<Sack>) -> Result<Response<Sack>, Status>;
}

struct Keeper(Arc<AtomicUsize>);

impl Cellar for Keeper {
    async fn keep(&self, sack: Request<Sack>) -> Result<Response<Sack>, Status> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
        Ok(sack.into_inner().into())
    }
}

/// Half a MiB on the wire, 16 MiB in memory.
fn request() -> Open {
    let method = "/test.memory.v1.Cellar/Keep".to_owned();
    Open { method, ..wire::open("", [0x0a, 0x00].repeat(1 << 18)) }
}

/// How many are kept, a client, and the server, until that is aborted.
async fn cellar() -> (Arc<AtomicUsize>, RawPeer, AbortHandle) {
    let (config, directory) = place();
    let kept = Arc::new(AtomicUsize::new(0));
    let builder = Server::builder().add_service(CellarServer::new(Keeper(Arc::clone(&kept))));
    let server = builder.bind(&config).await.unwrap();
    let serving = tokio::spawn(async move {
        let _directory = directory;
        server.serve().await
    });
    let mut raw = RawPeer::connect(&config.endpoint_path).await;
    raw.greet(wire::hello()).await;
    (kept, raw, serving.abort_handle())
}

#[test]
fn decoded_requests_of_a_connection_take_no_more_than_their_budget() {
    alone(async {
        const CALLS: usize = 16;
        let clock = Clock::stop();
        let (kept, mut raw, serving) = cellar().await;
        let counted = Counted::from_now();
        for id in 1..=CALLS {
            raw.send(id as u64, request()).await;
            settle().await;
        }
        let kept = kept.load(Ordering::SeqCst);
        // Each is estimated at 64 MiB of the 136.
        assert_eq!(kept, 2);
        let growth = counted.growth();
        // There are buffers beside the budget.
        assert!(growth < 144 * MIB, "{growth} bytes held by {kept} calls");
        // The rest waits for room, as long as for a write.
        clock.advance(10_000).await;
        for _ in kept..CALLS {
            let (id, Body::Close(close)) = raw.next().await else { panic!("a refusal") };
            let said = close.status.map(|status| status.code);
            assert_eq!((said, close.not_processed), (Some(code::RESOURCE_EXHAUSTED), true), "call {id}");
        }
        serving.abort();
    });
}

/// A request that comes as an item is charged like one that comes with its call.
#[test]
fn requests_in_parts_are_charged_until_their_calls_end() {
    alone(async {
        let clock = Clock::stop();
        let (kept, mut raw, serving) = cellar().await;
        let Open { method, message, .. } = request();
        let item = message.unwrap();
        // Each is estimated at 64 MiB of the 136.
        for id in 1..=4 {
            raw.send(id, Open { method: method.clone(), ..Open::default() }).await;
            raw.send(id, wire::item(item.clone())).await;
            raw.send(id, HalfClose {}).await;
            settle().await;
        }
        assert_eq!(kept.load(Ordering::SeqCst), 2);
        // Whose turn it is gets the room of one that ends.
        raw.send(1, Cancel {}).await;
        let (1, Body::Close(close)) = raw.next().await else { panic!("the end of the first") };
        assert_eq!(close.status.map(|status| status.code), Some(code::CANCELLED));
        settle().await;
        assert_eq!(kept.load(Ordering::SeqCst), 3);
        clock.advance(10_000).await;
        let (4, Body::Close(close)) = raw.next().await else { panic!("the refusal of the last") };
        assert_eq!(close.status.map(|status| status.code), Some(code::RESOURCE_EXHAUSTED));
        serving.abort();
    });
}
