//! Runs the simulation of connections over many seeds, or replays one with everything that happens.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use ipc_runtime::simulation::{self, Report};

/// Simulates connections, and looks for a seed that breaks a rule.
#[derive(Debug, Parser)]
struct Options {
    /// For so many seconds.
    #[arg(long, conflicts_with = "seeds")]
    seconds: Option<u64>,
    /// So many seeds.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// This one alone, with everything that happens.
    #[arg(long, conflicts_with_all = ["seconds", "seeds"])]
    seed: Option<u64>,
    /// Goes on after a seed that breaks a rule.
    #[arg(long)]
    keep_going: bool,
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// What the threads share.
struct Search {
    next: AtomicU64,
    /// Seeds from here on are not run.
    end: u64,
    until: Option<Instant>,
    keep_going: bool,
    is_over: AtomicBool,
    report: Mutex<Report>,
    broken: Mutex<Vec<u64>>,
}

impl Search {
    fn run(&self) {
        let mut report = Report::default();
        while !self.is_over.load(Ordering::Relaxed) && self.until.is_none_or(|until| Instant::now() < until) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end {
                break;
            }
            if let Ok(one) = std::panic::catch_unwind(|| simulation::run(seed)) {
                report.add(&one);
            } else {
                self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(seed);
                self.is_over.store(!self.keep_going, Ordering::Relaxed);
            }
        }
        self.report.lock().unwrap_or_else(PoisonError::into_inner).add(&report);
    }
}

#[expect(clippy::print_stdout, reason = "it is a program")]
fn main() -> ExitCode {
    // Fewer seeds may well lack something.
    const SEEDS_FOR_ALL: u64 = 20_000;
    let options = Options::parse();
    if let Some(seed) = options.seed {
        println!("{}", simulation::replay(seed, &mut |words| println!("{words}")));
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let seconds = options.seconds.map(Duration::from_secs);
    let count = options.seeds.unwrap_or(if seconds.is_some() { u64::MAX } else { 1000 });
    let search = Search {
        next: AtomicU64::new(options.first_seed),
        end: options.first_seed.saturating_add(count),
        until: seconds.map(|seconds| began + seconds),
        keep_going: options.keep_going,
        is_over: AtomicBool::new(false),
        report: Mutex::default(),
        broken: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| search.run());
        }
    });
    let report = search.report.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{report}{:.1} s", began.elapsed().as_secs_f64());
    let broken = search.broken.into_inner().unwrap_or_else(PoisonError::into_inner);
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
