//! Plays simulated runs of the daemon; see the library.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use scst_sim::run;
use scst_sim::scene::Counters;

/// Plays seeded runs of the whole daemon in virtual time and checks every promise.
#[derive(Parser, Debug)]
#[command(version)]
struct Options {
    /// How many runs, with seeds that follow each other
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// The first seed; without it, one that was never used
    #[arg(long)]
    seed: Option<u64>,
    /// Threads
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Print everything that happens
    #[arg(long)]
    trace: bool,
    /// Stop after so many violations
    #[arg(long, default_value_t = 5)]
    most: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
    let first = options.seed.unwrap_or_else(fresh);
    println!("seeds {first} to {}", first.saturating_add(options.runs - 1));
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let total = Mutex::new((Counters::default(), Vec::new()));
    std::thread::scope(|threads| {
        for _ in 0..options.jobs.max(1) {
            threads.spawn(|| work(&options, first, &next, &total));
        }
    });
    let (counters, failed) = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let played = next.load(Ordering::Relaxed).min(options.runs);
    println!("{played} runs in {:.1?}: {counters:?}", began.elapsed());
    if failed.is_empty() {
        println!("no violation");
        return ExitCode::SUCCESS;
    }
    println!("{} violations; to see one again:", failed.len());
    for seed in failed {
        println!("  scst-sim --seed {seed} --trace");
    }
    ExitCode::FAILURE
}

fn work(options: &Options, first: u64, next: &AtomicU64, total: &Mutex<(Counters, Vec<u64>)>) {
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        if at >= options.runs {
            return;
        }
        let seed = first.wrapping_add(at);
        let result = panic::catch_unwind(AssertUnwindSafe(|| run::run(seed, options.trace)))
            .unwrap_or_else(|_| Err("a panic".to_owned()));
        let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match result {
            Ok(counters) => total.0.add(&counters),
            Err(complaint) => {
                println!("seed {seed}: {complaint}");
                total.1.push(seed);
                if total.1.len() >= options.most {
                    next.store(options.runs, Ordering::Relaxed);
                }
            }
        }
    }
}
