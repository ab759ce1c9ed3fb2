//! Calls take turns: small ones with large ones, readers with everybody else. Judged by order, not by time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

use ipc_runtime::{Channel, Request, Response, Server, Status, Streaming, ipc_service};
use ipc_tests::clock::settle;
use ipc_tests::probe::{Sizes, note};
use ipc_tests::raw::{RawPeer, soon};
use ipc_tests::setup::{Played, Real, done, place, text};
use ipc_tests::wire::{self, Body, Hello};
use prost::Message;
use tokio::sync::{Notify, Semaphore};

/// Callers that each make one large call after the other.
const LARGE: usize = 16;

#[tokio::test]
async fn a_small_request_takes_its_turn_beside_callers_of_large_ones() {
    let played = Played::start();
    let callers: Vec<_> = (0..LARGE)
        .map(|_| played.call(async |client| while client.echo(text(900_000)).await.is_ok() {}))
        .collect();
    let mut raw = played.server.greeted().await;
    // All of them are at it.
    for _ in 0..2 * LARGE {
        let (id, _) = raw.open().await;
        raw.send(id, wire::answer(note(4))).await;
    }
    let small = played.call(async |client| client.echo_again(text(64)).await);
    settle().await;
    let mut before = 0;
    loop {
        let (id, open) = raw.open().await;
        raw.send(id, wire::answer(note(4))).await;
        if open.method.ends_with("EchoAgain") {
            break;
        }
        before += 1;
        // Each of the others once, and what had gone ahead.
        assert!(before <= 2 * LARGE, "{before} large requests went first");
    }
    done(small).await.unwrap();
    callers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_small_call_is_answered_beside_large_ones() {
    let real = Real::start().await;
    let client = real.client();
    client.echo(text(1)).await.unwrap();
    let passed = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..LARGE)
        .map(|_| {
            let (client, passed) = (client.clone(), Arc::clone(&passed));
            tokio::spawn(async move {
                // Enough of them that the small call has no chance once they are through.
                for _ in 0..20 {
                    client.echo(text(1_000_000)).await.unwrap();
                    passed.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    while passed.load(Ordering::SeqCst) < LARGE {
        tokio::task::yield_now().await;
    }
    let before = passed.load(Ordering::SeqCst);
    client.echo(text(64)).await.unwrap();
    let others = passed.load(Ordering::SeqCst) - before;
    assert!(others <= 4 * LARGE, "{others} large calls went first");
    callers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_small_answer_takes_its_turn_beside_streams() {
    const STREAMS: u64 = 8;
    let real = Real::start().await;
    let mut raw = real.raw_with(Hello { initial_credit: 1 << 40, ..wire::hello() }).await;
    let sizes = Sizes { notes: 1000, bytes: 100_000, ..Sizes::default() };
    for id in 1..=STREAMS {
        raw.send(id, wire::open("Count", sizes.encode_to_vec())).await;
        real.probe.started("Count").await;
    }
    // All of them are at it.
    for _ in 0..4 * STREAMS {
        assert!(matches!(raw.next().await, (_, Body::Headers(_) | Body::Item(_))));
    }
    let small = STREAMS + 1;
    raw.send(small, wire::open("Echo", note(1))).await;
    settle().await;
    let mut before = 0;
    while !matches!(raw.next().await, (id, Body::Close(_)) if id == small) {
        before += 1;
        // What had gone ahead fills the socket and the queue; then each stream once.
        assert!(before <= 4 * STREAMS, "{before} items went first");
    }
}

/// How many of these there are to be read in one go.
const ITEMS: usize = 1000;

/// Reads until the end of a stream, and says how many items the first turn had.
async fn first_turn<T>(mut stream: Streaming<T>) -> usize {
    let read = AtomicUsize::new(0);
    let mut reading = std::pin::pin!(async {
        while let Ok(Some(_)) = stream.message().await {
            read.fetch_add(1, Ordering::SeqCst);
        }
    });
    // A turn of its own.
    tokio::task::yield_now().await;
    let over = std::future::poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx).is_ready())).await;
    let first = read.load(Ordering::SeqCst);
    if !over {
        reading.await;
    }
    assert_eq!(read.load(Ordering::SeqCst), ITEMS, "nothing is lost by it");
    first
}

fn assert_yields(first: usize) {
    // What tokio gives a task for one turn is 128.
    assert!((1..=200).contains(&first), "{first} items in one turn");
}

#[tokio::test]
async fn a_client_that_reads_a_stream_lets_others_have_their_turns() {
    let played = Played::start();
    let call = played.call(async |client| client.count(Sizes::default()).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    raw.send_all((0..ITEMS).map(|_| (1, wire::item(note(1))))).await;
    raw.send(1, wire::Close::default()).await;
    let stream = done(call).await.unwrap().into_inner();
    raw.is_quiet().await;
    assert_yields(first_turn(stream).await);
}

/// What only tests of turns need.
#[ipc_service(package = "test.faults.v1")]
trait Turns {
    /// Reads everything once it is let go, and says how many items the first turn had.
    async fn read(&self, items: Request<Streaming<u32>>) -> Result<Response<u32>, Status>;

    /// Answers at once with 0, or keeps its thread until it is let go, and says 1 if that came to pass.
    async fn compute(&self, keep: Request<bool>) -> Result<Response<u32>, Status>;
}

/// How many computations may end, and word of it.
type LetGo = (Mutex<usize>, Condvar);

struct Handler {
    read: Arc<Notify>,
    computing: Arc<Semaphore>,
    let_go: Arc<LetGo>,
}

impl Turns for Handler {
    async fn read(&self, items: Request<Streaming<u32>>) -> Result<Response<u32>, Status> {
        self.read.notified().await;
        Ok(u32::try_from(first_turn(items.into_inner()).await).unwrap().into())
    }

    async fn compute(&self, keep: Request<bool>) -> Result<Response<u32>, Status> {
        if !keep.into_inner() {
            return Ok(0.into());
        }
        self.computing.add_permits(1);
        // Tokio does not know that this thread does nothing for it.
        let (let_go, changed) = &*self.let_go;
        let waiting = let_go.lock().unwrap();
        let (mut let_go, timeout) =
            changed.wait_timeout_while(waiting, Duration::from_secs(5), |let_go| *let_go == 0).unwrap();
        *let_go = let_go.saturating_sub(1);
        Ok(u32::from(!timeout.timed_out()).into())
    }
}

struct Served {
    config: ipc_runtime::IpcConfig,
    read: Arc<Notify>,
    computing: Arc<Semaphore>,
    let_go: Arc<LetGo>,
    _directory: tempfile::TempDir,
}

async fn serve() -> Served {
    let (config, directory) = place();
    let (read, computing) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let let_go = Arc::new(LetGo::default());
    let handler =
        Handler { read: Arc::clone(&read), computing: Arc::clone(&computing), let_go: Arc::clone(&let_go) };
    let server = Server::builder().add_service(TurnsServer::new(handler)).bind(&config).await.unwrap();
    tokio::spawn(server.serve());
    Served { config, read, computing, let_go, _directory: directory }
}

#[tokio::test]
async fn a_handler_that_reads_a_stream_lets_others_have_their_turns() {
    let served = serve().await;
    let mut raw = RawPeer::connect(&served.config.endpoint_path).await;
    raw.greet(wire::hello()).await;
    let method = "/test.faults.v1.Turns/Read".to_owned();
    raw.send(1, wire::Open { method, ..wire::open_stream("") }).await;
    let item = 7_u32.encode_to_vec();
    raw.send_all((0..ITEMS).map(|_| (1, wire::item(item.clone())))).await;
    raw.send(1, wire::HalfClose {}).await;
    raw.is_quiet().await;
    served.read.notify_one();
    let first = loop {
        match raw.next().await {
            (1, Body::Credit(_)) => {}
            (1, Body::Close(close)) => break u32::decode(close.message.unwrap()).unwrap(),
            other => panic!("an answer, not {other:?}"),
        }
    };
    assert_yields(usize::try_from(first).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_method_that_was_quick_so_far_stalls_no_other_client_when_it_computes() {
    // One worker fewer than there are is kept.
    const COMPUTING: usize = 3;
    let served = serve().await;
    let mut clients = Vec::new();
    for _ in 0..COMPUTING {
        clients.push(TurnsClient::new(Channel::connect(&served.config).await.unwrap()));
    }
    let other = TurnsClient::new(Channel::connect(&served.config).await.unwrap());
    for _ in 0..100 {
        for client in &clients {
            for _ in 0..20 {
                assert_eq!(client.compute(false).await.unwrap().into_inner(), 0);
            }
        }
        let computing: Vec<_> = clients
            .iter()
            .map(|client| {
                let client = client.clone();
                tokio::spawn(async move { client.compute(true).await })
            })
            .collect();
        for _ in 0..COMPUTING {
            soon("the computation", served.computing.acquire()).await.unwrap().forget();
        }
        // Of another client, and of one that waits for its computation.
        for client in [&other, &clients[0]].into_iter().cycle().take(10) {
            assert_eq!(soon("an answer", client.compute(false)).await.unwrap().into_inner(), 0);
        }
        *served.let_go.0.lock().unwrap() += COMPUTING;
        served.let_go.1.notify_all();
        for computing in computing {
            assert_eq!(done(computing).await.unwrap().into_inner(), 1, "the others waited for it");
        }
    }
}
