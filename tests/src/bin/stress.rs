//! Runs real threads and real sockets hard, under a watchdog: `cargo run --release -p ipc-tests --bin stress`.
//!
//! Each round has a server and a client on runtimes of their own, of a kind that chance chooses, and some number of callers
//! on one channel. Callers send messages of up to 1 MiB, one by one or as streams, and give some calls up. A round fails if
//! an answer is not the request, if a request runs twice, if one call lasts too long, or if calls are left over at its end.

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use futures_core::Stream;
use futures_util::StreamExt as _;
use ipc_runtime::{Channel, IpcConfig, Request, Response, Server, Status, Streaming, ipc_service};
use tokio::runtime::{Builder, Runtime};

/// Runs real threads and real sockets hard, under a watchdog.
#[derive(Debug, Parser)]
struct Options {
    /// For so many seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What chance begins with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A call that lasts longer than so many seconds has stood still.
    #[arg(long, default_value_t = 5)]
    patience: u64,
}

/// Some bytes. The first eight are the request's number.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Block {
    #[prost(bytes = "bytes", tag = "1")]
    bytes: Bytes,
}

/// Gives back what it gets.
#[ipc_service(package = "test.stress.v1")]
trait Mirror {
    /// Answers with the request.
    async fn show(&self, request: Request<Block>) -> Result<Response<Block>, Status>;

    /// Answers each block with itself.
    async fn show_each(
        &self,
        request: Request<Streaming<Block>>,
    ) -> Result<Response<impl Stream<Item = Result<Block, Status>> + Send + 'static>, Status>;
}

/// The handlers, which note what they have seen.
#[derive(Debug)]
struct Glass {
    seen: Arc<Mutex<HashSet<u64>>>,
    twice: Arc<AtomicU64>,
}

impl Mirror for Glass {
    async fn show(&self, request: Request<Block>) -> Result<Response<Block>, Status> {
        let block = request.into_inner();
        let is_new = self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(number(&block));
        if !is_new {
            self.twice.fetch_add(1, Ordering::Relaxed);
        }
        if number(&block).is_multiple_of(7) {
            tokio::task::yield_now().await;
        }
        Ok(block.into())
    }

    async fn show_each(
        &self,
        request: Request<Streaming<Block>>,
    ) -> Result<Response<impl Stream<Item = Result<Block, Status>> + Send + 'static>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

fn number(block: &Block) -> u64 {
    block.bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Numbers that look random (splitmix64).
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let at = self.next() % choices.len() as u64;
        choices[usize::try_from(at).unwrap_or(0)]
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// What a round is made of.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Workers of the server's and the client's runtime; 0: a current-thread one.
    workers: (usize, usize),
    callers: usize,
    largest: usize,
    /// How many calls of a hundred are given up, and how many are streams.
    given_up: u64,
    streamed: u64,
}

impl Plan {
    fn new(chance: &mut Chance) -> Self {
        const MEMORY: usize = 64 << 20;
        let kinds = [0, 0, 1, 2, 3, 4];
        let workers = (chance.one_of(&kinds), chance.one_of(&kinds));
        let largest = chance.one_of(&[8, 64, 4096, 20_000, 64 << 10, 256 << 10, (1 << 20) - 1024]);
        let callers = chance.one_of(&[1, 2, 3, 5, 16, 64, 256, 1000]).min(MEMORY / largest);
        let given_up = chance.one_of(&[0, 0, 5, 30]);
        Self { workers, callers, largest, given_up, streamed: chance.one_of(&[0, 0, 10, 50]) }
    }
}

/// What all rounds came to.
#[derive(Debug, Default)]
struct Totals {
    calls: AtomicU64,
    given_up: AtomicU64,
    streams: AtomicU64,
    bytes: AtomicU64,
    /// The longest call, in microseconds.
    longest: AtomicU64,
    /// Numbers of requests.
    next: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Totals {
    fn fail(&self, words: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(words);
    }
}

fn runtime(workers: usize) -> Runtime {
    let mut builder = if workers == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().expect("a runtime")
}

fn block(chance: &mut Chance, plan: &Plan, totals: &Totals) -> Block {
    let number = totals.next.fetch_add(1, Ordering::Relaxed) + 1;
    // Most are small, so that small ones are beside large ones.
    let most = if chance.percent(50) { plan.largest.min(64) } else { plan.largest };
    let length = 8 + usize::try_from(chance.next()).unwrap_or(0) % most.max(1);
    let mut bytes = vec![number.to_le_bytes()[0]; length];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Block { bytes: bytes.into() }
}

async fn one_call(client: &MirrorClient, chance: &mut Chance, plan: &Plan, totals: &Totals) {
    let began = Instant::now();
    let is_stream = chance.percent(plan.streamed);
    let sent: Vec<_> = (0..if is_stream { 1 + chance.next() % 20 } else { 1 })
        .map(|_| block(chance, plan, totals))
        .collect();
    let bytes: usize = sent.iter().map(|block| block.bytes.len()).sum();
    let call = async {
        if !is_stream {
            return Ok(vec![client.show(sent[0].clone()).await?.into_inner()]);
        }
        let requests = futures_util::stream::iter(sent.clone());
        let answers = client.show_each(requests).await?.into_inner();
        answers.collect::<Vec<_>>().await.into_iter().map(|answer| answer.map_err(Into::into)).collect()
    };
    let answered = if chance.percent(plan.given_up) {
        let patience = Duration::from_micros(chance.next() % 2000);
        tokio::time::timeout(patience, call).await.ok()
    } else {
        Some(call.await)
    };
    match answered {
        None => _ = totals.given_up.fetch_add(1, Ordering::Relaxed),
        Some(Err(error)) => {
            let error: ipc_runtime::IpcError = error;
            totals.fail(format!("{plan:?}: {error}"));
        }
        Some(Ok(answers)) if answers != sent => totals.fail(format!("{plan:?}: another answer")),
        Some(Ok(_)) => _ = totals.bytes.fetch_add(2 * bytes as u64, Ordering::Relaxed),
    }
    if is_stream {
        totals.streams.fetch_add(1, Ordering::Relaxed);
    }
    totals.calls.fetch_add(1, Ordering::Relaxed);
    let lasted = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    totals.longest.fetch_max(lasted, Ordering::Relaxed);
}

/// One server and one client, until their time is over.
fn round(plan: Plan, seed: u64, time: Duration, patience: Duration, totals: &Arc<Totals>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let endpoint_path =
        if cfg!(windows) { format!(r"\\.\pipe\stress-{seed}") } else { path.display().to_string() };
    let config = IpcConfig { endpoint_path, ..IpcConfig::default() };
    let twice = Arc::new(AtomicU64::new(0));
    let glass = Glass { seen: Arc::default(), twice: Arc::clone(&twice) };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (bound, is_bound) = std::sync::mpsc::channel();
    let server = thread::spawn({
        let config = config.clone();
        move || {
            runtime(plan.workers.0).block_on(async {
                let server = Server::builder().add_service(MirrorServer::new(glass)).bind(&config).await;
                let server = server.expect("an endpoint");
                bound.send(()).expect("somebody waits");
                // Spawned, so that it is not only the thread that blocks on it that works.
                let serving = tokio::spawn(server.serve_with_shutdown(stopped));
                serving.await.expect("no panic").expect("an end").calls_cut
            })
        }
    });
    is_bound.recv().expect("a server");
    let is_over = Arc::new(AtomicBool::new(false));
    let (ended, has_ended) = std::sync::mpsc::channel();
    let client = thread::spawn({
        let (totals, is_over) = (Arc::clone(totals), Arc::clone(&is_over));
        move || {
            runtime(plan.workers.1).block_on(async {
                let client = MirrorClient::new(Channel::new(&config).expect("a channel"));
                let mut callers = tokio::task::JoinSet::new();
                for caller in 0..plan.callers {
                    let (client, totals, is_over) =
                        (client.clone(), Arc::clone(&totals), Arc::clone(&is_over));
                    let mut chance = Chance(seed ^ ((caller as u64) << 32));
                    callers.spawn(async move {
                        while !is_over.load(Ordering::Relaxed) {
                            one_call(&client, &mut chance, &plan, &totals).await;
                        }
                    });
                }
                while let Some(joined) = callers.join_next().await {
                    joined.expect("no panic");
                }
            });
            _ = ended.send(());
        }
    });
    thread::sleep(time);
    is_over.store(true, Ordering::Relaxed);
    if has_ended.recv_timeout(patience).is_err() {
        totals.fail(format!("{plan:?}, seed {seed}: a call has stood still for {patience:?}"));
        return;
    }
    client.join().expect("no panic");
    _ = stop.send(());
    let cut = server.join().expect("no panic");
    if cut > 0 {
        totals.fail(format!("{plan:?}, seed {seed}: {cut} calls were left over"));
    }
    let twice = twice.load(Ordering::Relaxed);
    if twice > 0 {
        totals.fail(format!("{plan:?}, seed {seed}: {twice} requests ran twice"));
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let patience = Duration::from_secs(options.patience);
    let until = Instant::now() + Duration::from_secs(options.seconds);
    let totals = Arc::new(Totals::default());
    let mut chance = Chance(options.seed);
    let mut rounds = 0_u64;
    while Instant::now() < until && totals.failures.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    {
        let plan = Plan::new(&mut chance);
        round(plan, chance.next(), Duration::from_millis(500), patience, &totals);
        rounds += 1;
    }
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    println!(
        "{rounds} rounds, {} calls, {} of them streams, {} given up, {} MiB, the longest {} ms",
        count(&totals.calls),
        count(&totals.streams),
        count(&totals.given_up),
        count(&totals.bytes) >> 20,
        count(&totals.longest) / 1000
    );
    let mut failures = totals.failures.lock().unwrap_or_else(PoisonError::into_inner);
    if count(&totals.longest) > options.patience * 1_000_000 {
        failures.push(format!("a call lasted longer than {patience:?}"));
    }
    for failure in failures.iter().take(5) {
        println!("{failure}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
