//! Runs the simulation of the runtime over many seeds, or replays one with everything that happens.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use ipc_tests::runtime_simulation::{self, Report};

/// One seed that takes longer than this, in real time, hangs.
const HANGS: Duration = Duration::from_secs(20);

/// Simulates the runtime, and looks for a seed that breaks a rule.
#[derive(Debug, Parser)]
struct Options {
    /// So many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// This one alone, with everything that happens.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Goes on after a seed that breaks a rule.
    #[arg(long)]
    keep_going: bool,
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

struct Search {
    next: AtomicU64,
    end: u64,
    keep_going: bool,
    is_over: AtomicBool,
    report: Mutex<Report>,
    broken: Mutex<Vec<u64>>,
    /// What each thread is at, and since when.
    current: Vec<Mutex<Option<(u64, Instant)>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Search {
    fn run(&self, thread: usize) {
        while !self.is_over.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end {
                break;
            }
            *lock(&self.current[thread]) = Some((seed, Instant::now()));
            if let Ok(one) = std::panic::catch_unwind(|| runtime_simulation::run(seed, false)) {
                lock(&self.report).add(&one);
            } else {
                lock(&self.broken).push(seed);
                self.is_over.store(!self.keep_going, Ordering::Relaxed);
            }
        }
        *lock(&self.current[thread]) = None;
    }

    /// Waits for all threads. A seed that never ends can't be stopped, so the program ends then.
    #[expect(clippy::print_stdout, reason = "it is a program")]
    fn watch(&self) {
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let current: Vec<_> = self.current.iter().filter_map(|current| *lock(current)).collect();
            if current.is_empty() {
                return;
            }
            if let Some((seed, _)) = current.iter().find(|(_, since)| since.elapsed() > HANGS) {
                println!("seed {seed} hangs; replay it with --seed {seed}");
                std::process::exit(1);
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "it is a program")]
fn main() -> ExitCode {
    // Fewer seeds may well lack something.
    const SEEDS_FOR_ALL: u64 = 1000;
    let options = Options::parse();
    if let Some(seed) = options.seed {
        println!("{}", runtime_simulation::run(seed, true));
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let search = Search {
        next: AtomicU64::new(options.first_seed),
        end: options.first_seed.saturating_add(options.seeds),
        keep_going: options.keep_going,
        is_over: AtomicBool::new(false),
        report: Mutex::default(),
        broken: Mutex::default(),
        current: (0..options.threads).map(|_| Mutex::new(Some((0, began)))).collect(),
    };
    std::thread::scope(|scope| {
        let search = &search;
        for thread in 0..options.threads {
            scope.spawn(move || search.run(thread));
        }
        search.watch();
    });
    let report = search.report.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{report}{:.1} s", began.elapsed().as_secs_f64());
    let mut broken = search.broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    broken.sort_unstable();
    if !broken.is_empty() {
        println!("seeds that broke a rule: {broken:?}; replay one with --seed");
        return ExitCode::FAILURE;
    }
    let missing = report.missing();
    if report.seeds >= SEEDS_FOR_ALL && !missing.is_empty() {
        println!("this never happened: {missing:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
