//! What the parts of a command cost by themselves: the `inline` sub-command, one thread that reads or writes a file directly, the
//! least that a page-cached block costs; `pass`, one CRC32C over a command's data and headers; fio.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use scst_testkit::rng::Rng;

use crate::histogram::Histogram;
use crate::load::{LoadReport, Operation, Order};
use crate::proc_cpu::cpu_time;
use crate::sys;

/// Options of `inline`.
#[derive(Clone, Debug, Args)]
pub(crate) struct InlineOptions {
    /// The file.
    #[arg(long)]
    pub(crate) file: PathBuf,
    /// READ or WRITE. A WRITE destroys what the file holds.
    #[arg(long = "op", value_enum, default_value = "read")]
    pub(crate) operation: Operation,
    /// Random or sequential.
    #[arg(long, value_enum, default_value = "random")]
    pub(crate) order: Order,
    /// Bytes per call.
    #[arg(long, default_value_t = 4096)]
    pub(crate) size: u32,
    /// Seconds to measure.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
}

/// `pread` or `pwrite` again and again, round a set of buffers as a target would have.
pub(crate) fn run(options: &InlineOptions) -> Result<LoadReport> {
    let writes = options.operation == Operation::Write;
    let file = OpenOptions::new().read(true).write(writes).open(&options.file);
    let file: File = file.with_context(|| format!("opening {}", options.file.display()))?;
    let size = options.size as usize;
    let positions = file.metadata()?.len() / size.max(1) as u64;
    if positions == 0 {
        bail!("{} holds not one block of {size} bytes", options.file.display());
    }
    let mut buffers = vec![Rng::new(1).bytes(size); 32];
    let mut rng = Rng::new(2);
    let mut position = 0;
    let (mut count, start) = (0_u64, Instant::now());
    let (own, time) = (cpu_time(std::process::id())?, Duration::from_secs_f64(options.seconds));
    while start.elapsed() < time {
        for buffer in &mut buffers {
            position = if options.order == Order::Random { rng.below(positions) } else { (position + 1) % positions };
            let at = position * size as u64;
            if writes { file.write_all_at(buffer, at)? } else { file.read_exact_at(buffer, at)? }
        }
        count += buffers.len() as u64;
    }
    let (seconds, used) = (start.elapsed().as_secs_f64(), cpu_time(std::process::id())?.saturating_sub(own));
    Ok(report(count as f64 / seconds, options.size, used.as_secs_f64() / seconds))
}

/// Options of `pass`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PassOptions {
    /// Bytes of data of a command.
    #[arg(long, default_value_t = 4096)]
    pub(crate) size: u32,
    /// Commands of a batch, each with a buffer of its own.
    #[arg(long, default_value_t = 32)]
    pub(crate) depth: usize,
    /// Seconds to measure.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
}

/// One CRC32C over the data of each command of a batch, and over the headers of command and response, again and again.
pub(crate) fn pass(options: &PassOptions) -> Result<LoadReport> {
    const HEADERS: usize = 2 * 48;
    let (data, headers) = (vec![Rng::new(1).bytes(options.size as usize); options.depth], [1u8; HEADERS]);
    let (mut count, mut sum, start) = (0_u64, 0, Instant::now());
    let (own, time) = (cpu_time(std::process::id())?, Duration::from_secs_f64(options.seconds));
    while start.elapsed() < time {
        // Enough between two readings of the clock that they do not count.
        for _ in 0..(1 << 20) / (options.depth * options.size as usize).clamp(1, 1 << 20) + 1 {
            for data in &data {
                sum ^= crc32c::crc32c(std::hint::black_box(data));
                for header in headers.chunks(HEADERS / 2) {
                    sum ^= crc32c::crc32c(std::hint::black_box(header));
                }
            }
            count += data.len() as u64;
        }
    }
    std::hint::black_box(sum);
    let (seconds, used) = (start.elapsed().as_secs_f64(), cpu_time(std::process::id())?.saturating_sub(own));
    Ok(report(count as f64 / seconds, options.size, used.as_secs_f64() / seconds))
}

fn report(iops: f64, size: u32, busy: f64) -> LoadReport {
    let mean = 1e6 / iops;
    LoadReport {
        iops,
        megabytes: iops * f64::from(size) / 1e6,
        latency: [mean; Histogram::QUANTILES],
        target_cpu: busy * mean,
        target_busy: busy,
        least_share: 1.0,
        ..LoadReport::default()
    }
}

/// fio with io_uring on a page-cached file, on one core. Its CPU time is that of the whole process: what fio itself says
/// leaves out the workers to which io_uring hands what it cannot do at once.
pub(crate) fn fio(core: usize, file: &Path, options: &InlineOptions, depth: usize) -> Result<LoadReport> {
    let kind = match (options.order, options.operation) {
        (Order::Random, Operation::Read) => "randread",
        (Order::Random, Operation::Write) => "randwrite",
        (Order::Sequential, Operation::Read) => "read",
        (Order::Sequential, Operation::Write) => "write",
    };
    let mut fio = Command::new("taskset");
    fio.args(["-c", &core.to_string(), "fio", "--name=bench", "--ioengine=io_uring", "--minimal", "--time_based=1"]);
    fio.arg(format!("--filename={}", file.display())).arg(format!("--rw={kind}")).arg(format!("--bs={}", options.size));
    fio.arg(format!("--iodepth={depth}")).arg(format!("--runtime={}ms", (options.seconds * 1000.0) as u64));
    // Batches as a target forms them.
    fio.arg(format!("--iodepth_batch_submit={depth}")).arg(format!("--iodepth_batch_complete_max={depth}"));
    fio.args(["--invalidate=0", "--norandommap=1", "--randrepeat=0"]);
    let before = sys::children_cpu_time()?;
    let output = fio.output().context("starting fio (Debian package fio)")?;
    let used = sys::children_cpu_time()?.saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("fio: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let iops = parse_fio(&text, options.operation).with_context(|| format!("fio said {text:?}"))?;
    Ok(report(iops, options.size, used.as_secs_f64() / options.seconds))
}

/// IOPS from a line of fio's terse format, version 3 (fio(1), TERSE OUTPUT).
fn parse_fio(text: &str, operation: Operation) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("3;"))?;
    line.split(';').nth(if operation == Operation::Read { 7 } else { 48 })?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fio_s_line_is_understood() {
        let mut fields = vec!["0"; 130];
        (fields[0], fields[7], fields[48]) = ("3", "5000", "7000");
        let text = format!("a warning\n{}\n", fields.join(";"));
        assert_eq!(parse_fio(&text, Operation::Read), Some(5000.0));
        assert_eq!(parse_fio(&text, Operation::Write), Some(7000.0));
        assert_eq!(parse_fio("nothing", Operation::Read), None);
    }

    #[test]
    fn a_longer_pass_takes_longer() {
        let pass = |size| pass(&PassOptions { size, depth: 4, seconds: 0.01 }).unwrap();
        assert!(pass(1 << 20).iops < pass(4096).iops);
    }

    #[test]
    fn a_file_is_read_and_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 16).unwrap();
        let options = |operation| InlineOptions {
            file: file.path().to_owned(),
            operation,
            order: Order::Random,
            size: 4096,
            seconds: 0.001,
        };
        assert!(run(&options(Operation::Read)).unwrap().iops > 0.0);
        let untouched = std::fs::read(file.path()).unwrap();
        assert_eq!(untouched, vec![0; 1 << 16]);
        assert!(run(&options(Operation::Write)).unwrap().target_cpu > 0.0);
        assert_ne!(std::fs::read(file.path()).unwrap(), untouched);
    }
}
