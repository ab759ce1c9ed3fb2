//! What operators find in the log: who is refused and why, and what becomes of connections.

use std::io;
use std::sync::{Arc, Mutex};

use ipc_tests::clock::settle;
use ipc_tests::setup::{Played, Real};
use ipc_tests::wire::{self, Hello, code};
use tracing_subscriber::fmt::MakeWriter;

/// What is logged from `info` on, by this thread, until this is dropped.
struct Log {
    said: Said,
    _guard: tracing::subscriber::DefaultGuard,
}

#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Said {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    fn listen() -> Self {
        let said = Said::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(said.clone())
            .with_ansi(false)
            .without_time()
            .with_target(false);
        Self { said, _guard: tracing::subscriber::set_default(subscriber.finish()) }
    }

    fn lines(&self) -> Vec<String> {
        let said = self.said.0.lock().unwrap();
        String::from_utf8_lossy(&said).lines().map(|line| line.trim().to_owned()).collect()
    }
}

#[tokio::test]
async fn who_is_refused_and_why_is_logged_with_its_process_and_user() {
    let real = Real::start().await;
    let log = Log::listen();
    let mut raw = real.silent().await;
    let old = Hello { version: 0, ..wire::hello() };
    raw.write(&wire::frame_of(wire::Checksum::Ieee, 0, old)).await;
    let go_away = raw.ends_with(code::FAILED_PRECONDITION).await;
    let reason = go_away.status.unwrap().message;
    let (pid, uid) = (std::process::id(), rustix::process::geteuid().as_raw());
    let line =
        format!("INFO a client is refused pid={pid} uid={uid} code=FailedPrecondition reason={reason:?}");
    assert_eq!(log.lines(), [line]);
}

#[tokio::test]
async fn a_client_that_is_served_is_not_worth_a_line_and_a_reconnect_is() {
    let played = Played::start();
    let log = Log::listen();
    for _ in 0..2 {
        let call = played.echo();
        let mut raw = played.server.greeted().await;
        raw.opened(1).await;
        drop(raw);
        call.await.unwrap().unwrap_err();
        settle().await;
    }
    let path = &played.config.endpoint_path;
    let lost = format!("INFO connection lost endpoint={path} is_graceful=false");
    assert_eq!(log.lines(), [lost.clone(), format!("INFO connected again endpoint={path}"), lost]);
}
