//! A server is killed in mid-call 500 times, and what ran is compared with what callers were told.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipc_runtime::{Channel, Code, IpcError, Request};
use ipc_tests::actor::{ActorClient, Entry};
use ipc_tests::raw::soon;
use ipc_tests::setup::place;
use tokio::sync::Notify;

use crate::actors::Actor;

/// Servers that are killed side by side, each with its own ledger, and how often each.
const LANES: usize = 10;
const KILLS: u64 = 50;

/// What calls while the server comes and goes.
const CALLERS: usize = 3;

/// The server holds such a call until it is killed, and says so.
const FOR_EVER: u32 = 60_000_000;

/// What a caller was told in the end.
#[derive(Clone, Copy, Debug)]
struct Record {
    number: u64,
    idempotent: bool,
    held: bool,
    error: Option<(Code, bool)>,
}

/// A client of a server that is killed, and what became of its calls.
struct Lane {
    channel: Channel,
    drawn: AtomicU64,
    records: Mutex<Vec<Record>>,
    answered: Notify,
    stop: AtomicBool,
}

impl Lane {
    /// Makes a call and writes down how it ended.
    async fn call(&self, idempotent: bool, wait: bool, hold_us: u32) -> Record {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let actor = ActorClient::new(self.channel.clone());
        let request = Request::new(Entry { number, hold_us }).with_wait_for_ready(wait);
        let outcome = if idempotent { actor.put_again(request).await } else { actor.put(request).await };
        let told = |error: &IpcError| (error.code(), error.request_sent());
        let error = outcome.as_ref().err().map(told);
        let record = Record { number, idempotent, held: hold_us == FOR_EVER, error };
        self.records.lock().expect("no panic").push(record);
        if error.is_none() {
            self.answered.notify_one();
        }
        record
    }

    /// Calls until it is told to stop, methods of both kinds, waiting for the server or not.
    async fn keep_calling(self: Arc<Self>) {
        for turn in 0_u32.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let record = self.call(turn % 2 == 0, turn % 4 < 2, turn * 7919 % 2000).await;
            if record.error.is_some() {
                // Failing fast again and again would show nothing new.
                let ready = self.channel.wait_until_ready(Duration::from_secs(60));
                soon("the next server", ready).await.expect("a connection");
            }
        }
    }

    /// Waits for an answer that comes from now on.
    async fn works(&self) {
        // One may be left from before.
        for _ in 0..2 {
            soon("an answer", self.answered.notified()).await;
        }
    }
}

/// Kills a server again and again while it holds a call; returns what became of all calls, and the ledger.
async fn run() -> (Vec<Record>, HashMap<u64, usize>) {
    let (config, directory) = place();
    let ledger: PathBuf = directory.path().join("ledger");
    let start = async || {
        let options = ["--ledger", ledger.to_str().expect("text")];
        Actor::serving_with(&config.endpoint_path, &options).await
    };
    let lane = Arc::new(Lane {
        channel: Channel::new(&config).expect("settings"),
        drawn: AtomicU64::new(0),
        records: Mutex::default(),
        answered: Notify::new(),
        stop: AtomicBool::new(false),
    });
    let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(Arc::clone(&lane).keep_calling())).collect();
    for kill in 0..KILLS {
        let mut server = start().await;
        lane.works().await;
        let held = {
            let lane = Arc::clone(&lane);
            tokio::spawn(async move { lane.call(false, true, FOR_EVER).await })
        };
        let said = server.line().await;
        server.kill().await;
        let record = soon("the end of a call", held).await.expect("no panic");
        assert_eq!(said, format!("holding {}", record.number));
        if kill == 0 {
            // Nobody is there, and it does not wait.
            let record = lane.call(true, false, 0).await;
            assert_eq!(record.error, Some((Code::Unavailable, false)));
        }
    }
    let server = start().await;
    lane.works().await;
    lane.stop.store(true, Ordering::Relaxed);
    for caller in callers {
        soon("the last call", caller).await.expect("no panic");
    }
    server.finish().await;
    let records = lane.records.lock().expect("no panic").clone();
    assert_eq!(records.len() as u64, lane.drawn.load(Ordering::Relaxed), "a call has vanished");
    let mut ran = HashMap::new();
    for entry in std::fs::read(ledger).expect("the ledger").chunks(8) {
        let number = u64::from_le_bytes(entry.try_into().expect("whole entries"));
        *ran.entry(number).or_default() += 1;
    }
    (records, ran)
}

/// What a caller was told is what the ledger says.
fn check(record: &Record, ran: usize) {
    let most = if record.idempotent { 3 } else { 1 };
    assert!(ran <= most, "ran {ran} times: {record:?}");
    match record.error {
        None => assert!(ran >= 1, "never ran: {record:?}"),
        Some((code, sent)) => {
            assert_eq!(code, Code::Unavailable, "{record:?}");
            assert!(sent || ran == 0, "ran {ran} times: {record:?}");
        }
    }
    if record.held {
        assert_eq!((record.error, ran), (Some((Code::Unavailable, true)), 1), "{record:?}");
    }
}

#[tokio::test]
async fn killed_in_mid_call_500_times_nothing_runs_twice_that_must_not_and_nothing_vanishes() {
    let lanes: Vec<_> = (0..LANES).map(|_| tokio::spawn(run())).collect();
    let (mut held, mut unsent, mut repeated, mut lost) = (0, 0, 0, 0);
    for lane in lanes {
        let (records, ran) = lane.await.expect("a lane in order");
        let known = records.iter().map(|record| record.number).collect::<std::collections::HashSet<_>>();
        assert!(ran.keys().all(|number| known.contains(number)), "something ran that nobody called");
        for record in &records {
            let ran = ran.get(&record.number).copied().unwrap_or_default();
            check(record, ran);
            held += u64::from(record.held);
            unsent += u64::from(record.error.is_some_and(|(_, sent)| !sent));
            lost += u64::from(!record.held && record.error.is_some_and(|(_, sent)| sent));
            repeated += u64::from(ran > 1 && record.error.is_none());
        }
    }
    println!("{held} held, {lost} more lost, {unsent} not sent, {repeated} repeated with success");
    assert_eq!(held, LANES as u64 * KILLS);
    // What the test would be worthless without.
    assert!(lost > 0 && unsent > 0 && repeated > 0, "{lost}, {unsent}, {repeated}");
}
