//! Whatever becomes of calls, the connection works on, and nothing stays behind in the tables of either side.

use ipc_runtime::{Channel, Request, tables};
use ipc_tests::clock::{Clock, settle};
use ipc_tests::feed::Feed;
use ipc_tests::probe::{Controls, Failure, Note, ProbeClient, Sizes, note};
use ipc_tests::raw::soon;
use ipc_tests::setup::{Real, ms, text};
use ipc_tests::wire::{self, Body, code};
use prost::Message;

/// One of the ways in which a call can go, and what follows from it.
async fn call(client: ProbeClient, way: u64) {
    let sizes = Sizes { notes: 10, bytes: 1000, ..Sizes::default() };
    match way {
        0 => drop(client.echo(text(10)).await.unwrap()),
        1 => drop(client.hold(text(10)).await),
        2 => drop(client.hold(Request::new(text(10)).with_timeout(ms(20))).await.unwrap_err()),
        3 => drop(client.panic(text(1)).await.unwrap_err()),
        4 => drop(client.fail(Failure { code: 5, ..Failure::default() }).await.unwrap_err()),
        5 => drop(client.echo(text(2 << 20)).await.unwrap_err()),
        6 => drop(client.fill(Sizes { bytes: 2 << 20, ..sizes }).await.unwrap_err()),
        7 => {
            let mut stream = client.count(sizes).await.unwrap().into_inner();
            while stream.message().await.unwrap().is_some() {}
        }
        8 => drop(client.count(Sizes { notes: 1 << 40, ..sizes }).await),
        9 => drop(client.tail(Request::new(text(1)).with_timeout(ms(20))).await),
        10 => drop(client.sum(Feed::of(vec![text(1000); 10])).await.unwrap()),
        11 => drop(client.sum(Feed::of([text(2 << 20)])).await.unwrap_err()),
        12 => drop(client.deaf(Request::new(Feed::of(vec![text(50_000); 20])).with_timeout(ms(20))).await),
        13 => {
            let (_items, feed) = Feed::new();
            drop(client.chat(feed).await);
        }
        14 => {
            let (items, feed) = Feed::new();
            let mut stream = client.chat(feed).await.unwrap().into_inner();
            items.send(text(3)).unwrap();
            assert_eq!(stream.message().await.unwrap(), Some(text(3)));
            items.send(text(2 << 20)).unwrap();
            stream.message().await.unwrap_err();
        }
        _ => {
            let (_items, feed) = Feed::new();
            drop(client.deaf_chat(feed).await);
        }
    }
}

const WAYS: u64 = 16;

#[tokio::test]
async fn after_any_mix_of_ends_nothing_is_left() {
    let clock = Clock::stop();
    let real = Real::with(|_| {}, |server| server.max_concurrent_calls(50)).await;
    let channel = Channel::new(&real.config).unwrap();
    let client = ProbeClient::new(channel.clone());
    // Every way, dropped after so many turns, or not at all.
    for turns in [0, 1, 2, 3, 5, 8, 13, 1000] {
        let calls: Vec<_> = (0..WAYS).map(|way| tokio::spawn(call(client.clone(), way))).collect();
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        clock.advance(if turns == 1000 { 50 } else { 0 }).await;
        for (way, call) in calls.into_iter().enumerate() {
            call.abort();
            if let Err(error) = call.await {
                assert!(!error.is_panic(), "way {way}: {error}");
            }
        }
    }
    settle().await;
    assert_eq!(tables::of_channel(&channel), Some((0, 50)));
    assert_eq!((real.tables.calls(), real.tables.counted_calls()), (0, 0));
    assert_eq!(real.tables.connections(), 1, "all on the same connection");
    soon("a call afterwards", client.echo(text(1))).await.unwrap();

    drop((client, channel));
    settle().await;
    assert_eq!(real.tables.connections(), 0);
}

#[tokio::test]
async fn a_raw_client_leaves_nothing_behind_either() {
    let real = Real::with(|_| {}, |server| server.max_concurrent_calls(10)).await;
    for round in 0..4 {
        let mut raw = real.raw().await;
        let mut id = 0;
        for method in
            ["Echo", "Hold", "Panic", "None", "Count", "Tail", "Sum", "Deaf", "Chat", "DeafChat", "Hold"]
        {
            id += 1;
            let sizes = Sizes { notes: 100, bytes: 100_000, ..Sizes::default() }.encode_to_vec();
            let body: Body = match round {
                0 => wire::open(method, note(1)).into(),
                1 => wire::open(method, sizes).into(),
                2 => wire::open_stream(method).into(),
                _ => wire::open(method, &[0xff][..]).into(),
            };
            raw.send(id, body).await;
            if id % 3 == 0 {
                settle().await;
                raw.send(id, wire::Cancel {}).await;
            }
        }
        assert!(real.tables.calls() <= 10);
        settle().await;
        match round {
            0 => raw.half_close().await,
            1 => raw.send(0, wire::hello()).await,
            _ => {}
        }
        drop(raw);
        settle().await;
        let tables = &real.tables;
        assert_eq!(
            (tables.connections(), tables.calls(), tables.counted_calls()),
            (0, 0, 0),
            "round {round}"
        );
    }
}

#[tokio::test]
async fn calls_whose_server_goes_away_leave_the_channel_empty() {
    let played = ipc_tests::setup::Played::start();
    let calls = [played.echo(), played.echo(), played.echo()];
    let mut raw = played.server.greeted().await;
    for id in 1..=3 {
        raw.opened(id).await;
    }
    assert_eq!(tables::of_channel(&played.channel), Some((3, 97)));
    raw.send(2, wire::refusal(code::NOT_FOUND, false)).await;
    raw.is_quiet().await;
    assert_eq!(tables::of_channel(&played.channel), Some((2, 98)));
    drop(raw);
    for call in calls {
        ipc_tests::setup::done(call).await.unwrap_err();
    }
    assert_eq!(tables::of_channel(&played.channel), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_nothing_is_left_either() {
    let real = Real::with(|_| {}, |server| server.max_concurrent_calls(20)).await;
    let channel = Channel::new(&real.config).unwrap();
    let client = ProbeClient::new(channel.clone());
    for round in 0..30 {
        let calls: Vec<_> =
            (0..WAYS).map(|way| tokio::spawn(call(client.clone(), (way + round) % WAYS))).collect();
        for (turns, call) in calls.into_iter().enumerate() {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            call.abort();
            _ = call.await;
        }
    }
    let empty = || {
        let calls = (real.tables.calls(), real.tables.counted_calls());
        (tables::of_channel(&channel), calls) == (Some((0, 20)), (0, 0))
    };
    let emptied = async {
        while !empty() {
            // Each call gives the last Closes a turn.
            client.echo(text(1)).await.unwrap();
        }
    };
    soon("empty tables", emptied).await;
}

/// The handlers' controls are not kept by anybody once a server has gone.
#[tokio::test]
async fn a_server_that_has_stopped_lets_its_handlers_go() {
    let real = Real::start().await;
    let _served: Note = real.client().echo(text(1)).await.unwrap().into_inner();
    let (probe, server): (Controls, _) = (real.probe.clone(), real.tables.clone());
    real.stopped().await;
    settle().await;
    assert_eq!((server.connections(), server.calls()), (0, 0));
    assert_eq!(probe.owners(), 1);
}
