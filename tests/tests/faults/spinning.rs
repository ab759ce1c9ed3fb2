//! Connecting or writing fails, or panics: calls wait for a better time or fail, and nothing is tried without a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ipc_runtime::{Channel, Request};
use ipc_tests::clock::{Clock, settle};
use ipc_tests::probe::ProbeClient;
use ipc_tests::raw::soon;
use ipc_tests::setup::{Played, ms, place, text};
use tokio::runtime::Builder;

/// Counts how often a future is polled.
async fn counted<T>(polls: Arc<AtomicUsize>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| {
        polls.fetch_add(1, Ordering::SeqCst);
        work.as_mut().poll(cx)
    })
    .await
}

#[tokio::test]
async fn a_call_beside_a_writer_that_has_ended_does_not_spin() {
    let _clock = Clock::stop();
    let played = Played::start();
    let first = played.echo();
    let mut raw = played.server.greeted().await;
    raw.opened(1).await;
    // Writing fails from here on, and there is nothing to be read.
    raw.stop_reading();
    // Finds that out.
    let second = played.echo();
    settle().await;
    let polls = Arc::new(AtomicUsize::new(0));
    let (counter, client) = (Arc::clone(&polls), played.client.clone());
    let call = tokio::spawn(counted(counter, async move { client.echo(text(4)).await }));
    settle().await;
    let before = polls.load(Ordering::SeqCst);
    settle().await;
    assert_eq!(polls.load(Ordering::SeqCst), before, "polled although nothing has happened");
    drop((first, second, call));
}

/// A listener that belongs to another user; `None` where that can't be.
#[cfg(target_os = "linux")]
fn of_a_stranger(path: &str) -> Option<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    use rustix::process::{Uid, geteuid};

    if !geteuid().is_root() {
        eprintln!("skipped: another user takes root");
        return None;
    }
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    // Users are of threads, and a listener's is the one who listened.
    let listening = move || {
        let stranger = Uid::from_raw(54_321);
        rustix::thread::set_thread_res_uid(stranger, stranger, stranger).unwrap();
        listen(&socket, 16).unwrap();
        socket
    };
    Some(std::thread::spawn(listening).join().unwrap())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_rule_that_panics_is_asked_once_for_an_attempt() {
    let clock = Clock::stop();
    let (config, _directory) = place();
    let Some(_listener) = of_a_stranger(&config.endpoint_path) else { return };
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let rule = move |_: &ipc_runtime::PeerInfo| {
        counter.fetch_add(1, Ordering::SeqCst);
        panic!("as the test wants it");
    };
    let client = ProbeClient::new(Channel::builder(&config).allow(rule).build().unwrap());
    let call = tokio::spawn(async move { client.echo(text(4)).await });
    settle().await;
    assert_eq!(asked.load(Ordering::SeqCst), 1, "times without a pause");
    clock.advance(30_000).await;
    assert!(call.is_finished());
}

// The listener's queue takes a client although nobody accepts it.
#[test]
fn a_runtime_without_io_fails_a_call_and_not_over_and_over() {
    let (config, _directory) = place();
    let _listener = std::os::unix::net::UnixListener::bind(&config.endpoint_path).unwrap();
    let client = ProbeClient::new(Channel::new(&config).unwrap());
    Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
        let polls = Arc::new(AtomicUsize::new(0));
        let request = Request::new(text(4)).with_timeout(ms(1000));
        let call = tokio::spawn(counted(Arc::clone(&polls), async move { client.echo(request).await }));
        let outcome = soon("the call's end", call).await.unwrap();
        let polls = polls.load(Ordering::SeqCst);
        assert!(polls < 20, "{polls} turns");
        assert!(!outcome.unwrap_err().request_sent());
    });
}
