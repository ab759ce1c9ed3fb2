//! Section 8: a side that was itself suspended reads what has arrived before it judges its peer, and asks before it
//! closes for silence.

use ipc_runtime::Code;
use ipc_tests::clock::{Clock, settle};
use ipc_tests::probe::note;
use ipc_tests::raw::RawPeer;
use ipc_tests::setup::{Played, Real, done, failed, ms, text};
use ipc_tests::wire::{self, Checksum, Pong, code};

/// Longer than any limit here, in one step: as for a process that was stopped.
async fn pause() {
    tokio::time::advance(ms(5000)).await;
    settle().await;
}

async fn hasty() -> (Real, RawPeer) {
    let real = Real::with(|config| config.read_timeout_ms = 2000, |server| server).await;
    let raw = real.raw().await;
    settle().await;
    (real, raw)
}

/// Answers the Ping that asks whether it is still there.
async fn says_that_it_lives(raw: &mut RawPeer) {
    let (_, ping) = raw.ping().await;
    raw.send(0, Pong { nonce: ping.nonce }).await;
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_server_that_was_suspended_asks_before_it_closes_for_silence() {
    let clock = Clock::stop();
    let (_real, mut raw) = hasty().await;
    pause().await;
    // A third of read_timeout is 666 ms.
    clock.advance_exactly(600).await;
    says_that_it_lives(&mut raw).await;
}

#[tokio::test]
async fn a_server_that_asked_closes_after_a_third_of_read_timeout() {
    let clock = Clock::stop();
    let (_real, mut raw) = hasty().await;
    pause().await;
    raw.ping().await;
    clock.advance_exactly(660).await;
    assert_eq!(raw.unread().await, 0);
    clock.advance(10).await;
    raw.ends_with(code::DEADLINE_EXCEEDED).await;
}

#[tokio::test]
async fn a_client_that_was_suspended_asks_before_it_closes_for_silence() {
    let clock = Clock::stop();
    let played =
        Played::with(|config| config.read_timeout_ms = 2000, |channel| channel.unary_timeout(ms(3_600_000)));
    let call = played.echo();
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    settle().await;
    pause().await;
    clock.advance_exactly(600).await;
    says_that_it_lives(&mut raw).await;
    raw.send(1, wire::answer(note(4))).await;
    done(call).await.unwrap();

    let call = played.echo();
    raw.opened(2).await;
    settle().await;
    pause().await;
    raw.ping().await;
    clock.advance(670).await;
    raw.ends_with(code::DEADLINE_EXCEEDED).await;
    failed(done(call).await, Code::Unavailable, true);
}

#[tokio::test]
async fn what_arrived_while_a_side_was_suspended_counts() {
    let _clock = Clock::stop();
    let (_real, mut raw) = hasty().await;
    raw.send_all((0..50).map(|nonce| (0, Pong { nonce }))).await;
    pause().await;
    raw.is_quiet().await;

    let played = Played::with(|config| config.read_timeout_ms = 2000, |channel| channel);
    let call =
        played.call(async |client| client.echo(ipc_runtime::Request::new(text(4)).without_timeout()).await);
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    settle().await;
    raw.send_all((0..50).map(|nonce| (0, Pong { nonce }))).await;
    pause().await;
    raw.is_quiet().await;
    raw.send(1, wire::answer(note(4))).await;
    done(call).await.unwrap();
}

#[tokio::test]
async fn a_frame_whose_rest_arrived_while_the_server_was_suspended_is_taken() {
    let _clock = Clock::stop();
    let (_real, mut raw) = hasty().await;
    let frame = wire::frame_of(Checksum::Ieee, 1, wire::open("Echo", note(1)));
    raw.write(&frame[..10]).await;
    settle().await;
    raw.write(&frame[10..]).await;
    pause().await;
    raw.answered(1).await;
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_hello_that_arrived_while_the_server_was_suspended_is_taken() {
    let _clock = Clock::stop();
    let real = Real::start().await;
    let mut raw = real.silent().await;
    settle().await;
    raw.send(0, wire::hello()).await;
    tokio::time::advance(ms(6000)).await;
    raw.hello().await;
    raw.is_quiet().await;
}

#[tokio::test]
async fn a_hello_that_arrived_while_the_client_was_suspended_is_taken() {
    let _clock = Clock::stop();
    let played = Played::start();
    let call =
        played.call(async |client| client.echo(ipc_runtime::Request::new(text(4)).without_timeout()).await);
    let mut raw = played.server.accept().await;
    raw.hello().await;
    settle().await;
    raw.send(0, wire::hello()).await;
    tokio::time::advance(ms(6000)).await;
    raw.opened(1).await;
    raw.send(1, wire::answer(note(4))).await;
    done(call).await.unwrap();
}

#[tokio::test]
async fn a_write_that_can_go_on_after_a_pause_goes_on() {
    let _clock = Clock::stop();
    let real = Real::with(|config| config.write_timeout_ms = 2000, |server| server).await;
    let mut raw = real.raw().await;
    let sizes = ipc_tests::probe::Sizes { bytes: 900_000, ..Default::default() };
    raw.send(1, wire::open("Fill", prost::Message::encode_to_vec(&sizes))).await;
    settle().await;
    // The client reads on while the server is suspended.
    raw.read_some(1).await;
    raw.read_now();
    pause().await;
    raw.answered(1).await;
    raw.is_quiet().await;
}
