//! What idle sessions and LUNs cost: resident memory and processor time of a daemon that has nothing to do but pings.
//!
//! `cargo build --release -p scstd --examples --bins`, then
//! `target/release/examples/idle target/release/scstd SESSIONS LUNS SECONDS`. It prints one line of a Markdown table.

use std::env;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use scst_testkit::process::{ScstdOptions, raise_file_limit};
use scst_testkit::{Command, Initiator, LoginConfig, Scstd, free_portal};

const TARGET: &str = "iqn.2026-01.example:target";
/// From the last command on, until every connection rests and free buffers are given back.
const SETTLE: Duration = Duration::from_secs(40);
/// Initiators look for pings this often.
const SERVE: Duration = Duration::from_millis(500);

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let binary = arguments.next().context("which scstd?")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |a| a.parse());
    let (sessions, luns, seconds) = (number(1000)?, number(1)?, number(30)?);
    raise_file_limit(0)?;
    let begun = Instant::now();
    let daemon = start(&binary, luns)?;
    let setup = begun.elapsed();
    let empty = memory(&daemon)?;
    let mut hosts = Vec::new();
    for number in 0..sessions {
        let name = format!("iqn.2026-01.example:host{number}");
        let mut host = Initiator::connect(daemon.portal(), LoginConfig::normal(&name, TARGET))?;
        host.clear_unit_attentions(0)?;
        host.run(Command::read_blocks(0, 0, 8, 512))?;
        hosts.push(host);
    }
    let busy = memory(&daemon)?;
    serve(&mut hosts, SETTLE)?;
    daemon.signal("USR2")?;
    serve(&mut hosts, Duration::from_secs(2))?;
    let idle = memory(&daemon)?;
    let (before, measured) = (processor_time(&daemon)?, Instant::now());
    serve(&mut hosts, Duration::from_secs(seconds))?;
    let used = processor_time(&daemon)? - before;
    let percent = used as f64 / measured.elapsed().as_nanos() as f64 * 100.0;
    println!("| sessions | LUNs | set up | empty | after login | idle | per session | processor |");
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| {sessions} | {luns} | {:.2} s | {} KiB | {} KiB | {} KiB | {} B | {percent:.4} % |",
        setup.as_secs_f64(),
        empty >> 10,
        busy >> 10,
        idle >> 10,
        idle.saturating_sub(empty) / sessions.max(1)
    );
    Ok(())
}

fn start(binary: &str, luns: u64) -> Result<Scstd> {
    let devices: String = (0..luns).map(|n| format!("DEVICE d{n}\n")).collect();
    let map: String = (0..luns).map(|n| format!("LUN {n} d{n}\n")).collect();
    let target = format!("TARGET {TARGET} {{\nenabled 1\nMaxSessions 0\n{map}}}\n");
    let arguments = ["--reactors", "2", "--log", "warn,scstd=info"].map(str::to_owned).to_vec();
    Scstd::start_with(ScstdOptions {
        binary: binary.into(),
        config: format!("HANDLER vdisk_nullio {{\n{devices}}}\nTARGET_DRIVER iscsi {{\nenabled 1\n{target}}}\n"),
        portal: free_portal()?,
        arguments,
        environment: Vec::new(),
        launcher: Vec::new(),
    })
}

/// Answers pings for a while.
fn serve(hosts: &mut [Initiator], time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for host in &mut *hosts {
            host.serve()?;
        }
        thread::sleep(SERVE.min(end.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// Private resident bytes.
fn memory(daemon: &Scstd) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", daemon.pid()))?;
    let field = |name: &str| -> Result<u64> {
        let line = rollup.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name}"))?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    };
    Ok(field("Private_Clean:")? + field("Private_Dirty:")?)
}

/// Nanoseconds that all threads have run.
fn processor_time(daemon: &Scstd) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid()))? {
        // Run time, wait time, slices.
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().context("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(sum)
}
