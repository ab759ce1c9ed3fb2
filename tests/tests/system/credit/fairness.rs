//! Calls that stall, beside calls that must not.

use ipc_runtime::{IpcConfig, Streaming};
use ipc_tests::clock::settle;
use ipc_tests::feed::Feed;
use ipc_tests::probe::{Note, Sizes, note};
use ipc_tests::raw::soon;
use ipc_tests::setup::{Real, done, text};
use ipc_tests::wire::{self, Body, Checksum, Hello, code};
use prost::Message;

#[tokio::test]
async fn a_stream_that_the_client_does_not_read_stalls_itself_alone() {
    let real = Real::start().await;
    let client = real.client();
    let sizes = || Sizes { notes: 100, bytes: 50_000, ..Sizes::default() };
    let mut unread = Vec::new();
    for _ in 0..8 {
        unread.push(client.count(sizes()).await.unwrap().into_inner());
    }
    for size in 0..100 {
        let echoed = soon("a unary call", client.echo(text(size * 1000))).await.unwrap();
        assert_eq!(echoed.into_inner(), text(size * 1000));
    }
    let mut another = client.count(sizes()).await.unwrap().into_inner();
    assert_eq!(count(&mut another).await, 100);
    for mut stream in unread {
        assert_eq!(count(&mut stream).await, 100);
    }
}

async fn count(stream: &mut Streaming<Note>) -> usize {
    let mut notes = 0;
    while soon("a note", stream.message()).await.unwrap().is_some() {
        notes += 1;
    }
    notes
}

#[tokio::test]
async fn a_stream_that_the_handler_does_not_read_stalls_itself_alone() {
    let real = Real::start().await;
    let client = real.client();
    let deaf: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.deaf(Feed::of(vec![text(50_000); 100])).await })
        })
        .collect();
    for _ in 0..8 {
        real.probe.started("Deaf").await;
    }
    for size in 0..100 {
        soon("a unary call", client.echo(text(size * 1000))).await.unwrap();
    }
    let total = soon("a stream", client.sum(Feed::of(vec![text(50_000); 100]))).await.unwrap();
    assert_eq!(total.into_inner().notes, 100);
    real.probe.release(8);
    for call in deaf {
        done(call).await.unwrap();
    }
}

#[tokio::test]
async fn both_directions_of_many_calls_exhausted_at_once_come_through() {
    for window in [0, 1, 1000, 256 * 1024] {
        let real = Real::with(|_| {}, |server| server.initial_credit(window)).await;
        let channel = ipc_runtime::Channel::builder(&real.config).initial_credit(window).build().unwrap();
        let client = ipc_tests::probe::ProbeClient::new(channel);
        let mut chats = Vec::new();
        for _ in 0..16 {
            chats.push(client.chat(Feed::of(vec![text(20_000); 40])).await.unwrap().into_inner());
        }
        settle().await;
        for chat in &mut chats {
            assert_eq!(count(chat).await, 40);
        }
    }
}

#[tokio::test]
async fn a_server_reads_on_while_it_cannot_write() {
    let real = Real::start().await;
    let mut raw = real.raw_with(Hello { initial_credit: 1 << 40, ..wire::hello() }).await;
    // Fills every buffer on the way to a client that does not read.
    let sizes = Sizes { notes: 1000, bytes: 100_000, ..Sizes::default() };
    for id in 1..=4 {
        raw.send(id, wire::open("Count", sizes.encode_to_vec())).await;
        real.probe.started("Count").await;
    }
    settle().await;
    raw.send(5, wire::open("Hold", note(1))).await;
    real.probe.started("Hold").await;
    for id in 1..=4 {
        raw.send(id, wire::Cancel {}).await;
        real.probe.dropped("Count").await;
    }
    raw.send(5, wire::Cancel {}).await;
    real.probe.dropped("Hold").await;
}

#[tokio::test]
async fn a_server_reads_no_further_while_too_many_pongs_wait() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    // Some frames at a time, whole ones, until the server takes no more of them.
    let mut nonce = 0;
    let mut rest: Vec<u8> = Vec::new();
    loop {
        if rest.is_empty() {
            rest = (nonce..nonce + 1000)
                .flat_map(|n| wire::frame_of(Checksum::Ieee, 0, wire::ping(n)))
                .collect();
            nonce += 1000;
        }
        let written = raw.write_now(&rest).await;
        if written == 0 {
            break;
        }
        rest.drain(..written);
        assert!(nonce < 10_000_000, "the server keeps pongs without bound");
    }
    // Once they are read, it goes on, and has lost none.
    let (left, whole) = (rest.len(), wire::frame_of(Checksum::Ieee, 0, wire::ping(1)).len());
    let missing = left.div_ceil(whole) as u64;
    for expected in 0..nonce - missing {
        assert_eq!(raw.pong().await, (0, wire::Pong { nonce: expected }));
    }
    raw.write(&rest).await;
    for expected in nonce - missing..nonce {
        assert_eq!(raw.pong().await, (0, wire::Pong { nonce: expected }));
    }
    raw.is_quiet().await;
}

#[tokio::test]
async fn many_refusals_wait_as_pongs_do() {
    let real = Real::start().await;
    let mut raw = real.raw().await;
    let (opens, mut refused) = (2000_u64, 0);
    let frames: Vec<_> = (1..=opens).map(|id| (id, Body::from(wire::open("None", note(1))))).collect();
    for chunk in frames.chunks(100) {
        raw.send_all(chunk.iter().cloned()).await;
        for _ in chunk {
            refused += 1;
            raw.closed(refused, code::UNIMPLEMENTED, true).await;
        }
    }
    raw.is_quiet().await;
}

#[tokio::test]
async fn in_memory_streams_stall_themselves_alone_as_well() {
    let probe = ipc_tests::probe::Controls::default();
    let handlers = ipc_tests::probe::Handlers(probe.clone());
    let server = ipc_runtime::Server::builder()
        .add_service(ipc_tests::probe::ProbeServer::new(handlers))
        .initial_credit(100);
    let config = IpcConfig::default();
    let client = ipc_runtime::Channel::builder(&config).initial_credit(100);
    let channel = ipc_runtime::Channel::in_memory_with(server, &config, client).unwrap();
    let client = ipc_tests::probe::ProbeClient::new(channel);
    let mut unread =
        client.count(Sizes { notes: 50, bytes: 90_000, ..Sizes::default() }).await.unwrap().into_inner();
    let stuck = client.clone();
    let deaf = tokio::spawn(async move { stuck.deaf(Feed::of(vec![text(90_000); 50])).await });
    soon("a unary call", client.echo(text(1))).await.unwrap();
    assert_eq!(count(&mut unread).await, 50);
    probe.release(2);
    done(deaf).await.unwrap();
}
