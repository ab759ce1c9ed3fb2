//! What drives connections goes away or stands still: calls end all the same, and nothing stays behind.

use std::task::Poll;

use ipc_runtime::tables::ServerTables;
use ipc_runtime::{Channel, Code, Request, Server};
use ipc_tests::clock::settle;
use ipc_tests::feed::Feed;
use ipc_tests::probe::{Controls, Handlers, ProbeClient, ProbeServer, Sizes, note};
use ipc_tests::raw::{RawPeer, RawServer, soon};
use ipc_tests::setup::{done, ms, place, text};
use ipc_tests::wire::{self, Hello};
use prost::Message;
use tokio::runtime::{Builder, Runtime};

/// A runtime that does something only while it is waited for.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A channel whose connection a runtime drives, and its server's end of it.
fn connected(driver: &Runtime, hello: Hello) -> (ProbeClient, RawServer, RawPeer, tempfile::TempDir) {
    driver.block_on(async {
        let (config, directory) = place();
        let server = RawServer::bind(&config.endpoint_path);
        let channel = Channel::new(&config).unwrap();
        let (ready, raw) = tokio::join!(channel.wait_until_ready(ms(30_000)), server.greeted_with(hello));
        ready.unwrap();
        (ProbeClient::new(channel), server, raw, directory)
    })
}

#[tokio::test]
async fn a_server_that_is_dropped_while_answers_wait_for_room_lets_go_of_everything() {
    let (config, _directory) = place();
    let probe = Controls::default();
    let builder = Server::builder().add_service(ProbeServer::new(Handlers(probe.clone())));
    let server = builder.bind(&config).await.unwrap();
    let tables = ServerTables::of(&server);
    let serving = tokio::spawn(server.serve());
    let mut raw = RawPeer::connect(&config.endpoint_path).await;
    raw.greet(wire::hello()).await;
    // More than every buffer on the way to a client that does not read.
    let sizes = Sizes { bytes: 1_000_000, ..Sizes::default() };
    for id in 1..=10 {
        raw.send(id, wire::open("Fill", sizes.encode_to_vec())).await;
    }
    settle().await;
    assert_eq!(probe.calls(), 10);
    assert!(tables.calls() > 0, "answers wait");
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    if cfg!(windows) {
        // A pipe lets go of its server once what it has taken is read.
        assert!(raw.rest().await < 1_000_000);
    } else {
        assert!(raw.is_shut().await);
    }
    assert_eq!((tables.connections(), tables.calls(), tables.counted_calls()), (0, 0, 0));
    // The test has the one, and the tables hold what is served.
    drop(tables);
    assert_eq!(probe.owners(), 1);
}

#[test]
fn calls_that_wait_for_room_end_when_the_runtime_of_their_connection_goes_away() {
    let driver = runtime();
    let hello = Hello { initial_credit: 1 << 40, ..wire::hello() };
    let (client, server, raw, _directory) = connected(&driver, hello);
    runtime().block_on(async {
        let calls: Vec<_> = (0..10)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(
                    async move { client.echo(Request::new(text(1_000_000)).without_timeout()).await },
                )
            })
            .collect();
        let streamed = client.clone();
        let feed = Feed::of(vec![text(1_000_000); 10]);
        let stream = tokio::spawn(async move { streamed.sum(feed).await });
        settle().await;
        // There is no other connection to be had.
        drop(server);
        driver.shutdown_background();
        for call in calls {
            assert_eq!(done(call).await.unwrap_err().code(), Code::Unavailable);
        }
        assert_eq!(done(stream).await.unwrap_err().code(), Code::Unavailable);
    });
    drop(raw);
}

#[test]
fn an_attempt_whose_runtime_goes_away_before_it_begins_is_made_anew() {
    let (config, _directory) = place();
    let channel = Channel::new(&config).unwrap();
    let client = ProbeClient::new(channel.clone());
    let patient = || Request::new(text(4)).with_wait_for_ready(true);
    let mut first = Box::pin(client.echo(patient()));
    let gone = runtime();
    gone.block_on(std::future::poll_fn(|cx| {
        assert!(first.as_mut().poll(cx).is_pending());
        // The runtime has no turn in which it could begin what was asked for.
        Poll::Ready(())
    }));
    drop(gone);
    runtime().block_on(async {
        let server = RawServer::bind(&config.endpoint_path);
        let second = tokio::spawn({
            let client = client.clone();
            async move { client.echo(patient()).await }
        });
        let mut raw = server.greeted().await;
        raw.open().await;
        raw.send(1, wire::answer(note(4))).await;
        // Whichever of the two came first.
        let other = async {
            raw.open().await;
            raw.send(2, wire::answer(note(4))).await;
        };
        let (first, ()) = soon("both calls", async { tokio::join!(first, other) }).await;
        first.unwrap();
        done(second).await.unwrap();
    });
}

#[test]
fn a_deadline_holds_although_nobody_polls_the_runtime_of_the_connection() {
    let driver = runtime();
    let (client, _server, _raw, _directory) = connected(&driver, wire::hello());
    // Its time passes whenever nothing else is left to happen.
    let other = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    other.block_on(async {
        let call = soon("the deadline", client.echo(Request::new(text(4)).with_timeout(ms(1000)))).await;
        assert_eq!(call.unwrap_err().code(), Code::DeadlineExceeded);
        let stream = async {
            let request = Request::new(Sizes::default()).with_timeout(ms(1000));
            client.count(request).await.map(drop)
        };
        let stream = soon("the deadline", stream).await;
        assert_eq!(stream.unwrap_err().code(), Code::DeadlineExceeded);
    });
}
