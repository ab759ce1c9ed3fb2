//! Programs that are stopped for longer than their limits, and go on.

use std::time::Duration;

use ipc_tests::raw::RawPeer;
use ipc_tests::setup::place;
use ipc_tests::wire::{self, Body, Pong};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::actors::Actor;

/// What the servers allow of silence, in milliseconds.
const READ_TIMEOUT: &str = "600";

/// Twice as long.
const PAUSE: Duration = Duration::from_millis(1200);

/// How many there are: whether a program looks at its sockets or at its timers first when it goes on is a matter of luck.
const SERVERS: usize = 10;

/// Answers Pings until the peer has answered one.
async fn is_alive(raw: &mut RawPeer) {
    raw.send(0, wire::ping(7)).await;
    loop {
        match raw.next().await {
            (0, Body::Ping(ping)) => raw.send(0, Pong { nonce: ping.nonce }).await,
            (0, Body::Pong(pong)) => return assert_eq!(pong.nonce, 7),
            other => panic!("a Pong, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn servers_that_were_stopped_keep_the_clients_that_spoke_meanwhile() {
    let mut stopped = Vec::new();
    for _ in 0..SERVERS {
        let (config, directory) = place();
        let server = Actor::serving_with(&config.endpoint_path, &["--read-timeout", READ_TIMEOUT]).await;
        let pid = Pid::from_raw(i32::try_from(server.pid).expect("a process id")).expect("a process");
        let mut raw = RawPeer::connect(&config.endpoint_path).await;
        raw.greet(wire::hello()).await;
        kill_process(pid, Signal::STOP).expect("a process of ours");
        stopped.push((server, pid, raw, directory));
    }
    for _ in 0..3 {
        for (_, _, raw, _) in &mut stopped {
            raw.send_all((0..50).map(|nonce| (0, Pong { nonce }))).await;
        }
        // Nobody says anything for as long.
        let begun = Instant::now();
        while let Ok(next) = tokio::time::timeout_at(begun + PAUSE, stopped[0].2.next()).await {
            assert!(matches!(next, (0, Body::Ping(_))), "{next:?} from a program that is stopped");
        }
        for (_, pid, raw, _) in &mut stopped {
            kill_process(*pid, Signal::CONT).expect("a process of ours");
            is_alive(raw).await;
            kill_process(*pid, Signal::STOP).expect("a process of ours");
        }
    }
    for (server, ..) in stopped {
        server.kill().await;
    }
}
