//! libiscsi's `iscsi-test-cu` against scstd on loopback, over the whole ALL suite and on each I/O back-end.
//!
//! The tool passes a test that it skips, so its output is read closely: [`parse`] finds what each test really did, and
//! [`expect`] holds it against the checked-in list of skips and of suites that the project does not cover yet.

mod expect;
mod parse;

use std::fs::{self, File};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use clap::Args;
use scst_testkit::LoopDevice;
use scst_vmtest::scstd::{Scstd, Start};

use crate::stage::Tally;
use crate::{Daemon, cargo};
use expect::Expectations;
use parse::{Test, Verdict};

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Arguments {
    /// I/O back-ends to run on: uring, posix (default: both)
    #[arg(long = "backend")]
    backends: Vec<String>,
    /// Only these tests, as FAMILY[.SUITE[.TEST]]; what the list of skips says is then not checked
    #[arg(long)]
    only: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

/// One run of the tool: on which LUN, and which tests. What one kind of disk skips another one runs.
struct Pass {
    name: &'static str,
    lun: u64,
    tests: &'static str,
    /// Whether the tool is shown two ways to the disk.
    multipath: bool,
}

const PASSES: &[Pass] = &[
    Pass { name: "disk", lun: 0, tests: "ALL", multipath: true },
    Pass { name: "removable", lun: 1, tests: "ALL", multipath: false },
    Pass { name: "blockio", lun: 3, tests: "ALL", multipath: false },
    Pass { name: "read-only", lun: 2, tests: "ALL.ReadOnly", multipath: false },
];

const TARGET: &str = "iqn.2024-01.test:conformance";

/// Of each disk.
const BYTES: u64 = 256 << 20;

/// For one run of the tool, which takes half a minute.
const LIMIT_SECONDS: u64 = 150;

pub(crate) fn run(arguments: &Arguments) -> Result<Tally> {
    let list = cargo::root().join("dev/xtask/conformance.txt");
    let expectations =
        Expectations::parse(&fs::read_to_string(&list)?).with_context(|| format!("in {}", list.display()))?;
    let program = arguments.daemon.program()?;
    let both = ["uring", "posix"].map(str::to_owned);
    let backends = if arguments.backends.is_empty() { &both[..] } else { &arguments.backends };
    // Side by side: the tool spends most of its time waiting for answers that must not come.
    let results: Vec<Result<Vec<_>>> = thread::scope(|scope| {
        let (program, only) = (&program, arguments.only.as_deref());
        let running: Vec<_> =
            backends.iter().map(|backend| scope.spawn(move || run_backend(program, backend, only))).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let mut tally = Tally::default();
    for (backend, tests) in backends.iter().zip(results) {
        let verdict = expectations.judge(&tests?, arguments.only.is_none());
        print!("back-end {backend}:\n{verdict}");
        tally.passed += verdict.passed;
        tally.failed += verdict.complaints.len() as u64;
    }
    Ok(tally)
}

/// All tests on one back-end, each with the name of its pass.
fn run_backend(program: &Path, backend: &str, only: Option<&str>) -> Result<Vec<(&'static str, Test)>> {
    let directory = cargo::target_directory().join("conformance").join(backend);
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    let device = LoopDevice::new(&directory.join("blockio.img"), BYTES, 512)?;
    let config = config(&directory, device.path())?;
    // Two portals: the multipath tests want two ways to the same disk.
    let scstd = Scstd::start(Start { binary: program, directory: &directory, config: &config, backend, portals: 2 })?;
    let mut all = Vec::new();
    for pass in PASSES.iter().filter(|pass| only.is_none_or(|only| only.starts_with(pass.tests))) {
        let selected = only.unwrap_or(pass.tests);
        let log = directory.join(format!("{}.log", pass.name));
        let tests = run_tool(&scstd, pass, selected, &log)
            .with_context(|| format!("back-end {backend}, {}; the output is in {}", pass.name, log.display()))?;
        println!("back-end {backend}, {}: {}", pass.name, Counts::of(&tests));
        all.extend(tests.into_iter().map(|test| (pass.name, test)));
    }
    scstd.stop()?;
    Ok(all)
}

/// Four disks, all thin-provisioned: three over files, of which one is removable and one read-only, and one over a block
/// device past the page cache.
fn config(directory: &Path, device: &Path) -> Result<String> {
    let mut devices = String::new();
    for (name, attribute) in [("disk", ""), ("removable", "removable 1"), ("read-only", "")] {
        let file = directory.join(format!("{name}.img"));
        File::create(&file)?.set_len(BYTES)?;
        let file = file.display();
        devices.push_str(&format!(
            "    DEVICE {name} {{\n        filename {file}\n        thin_provisioned 1\n        {attribute}\n    }}\n"
        ));
    }
    Ok(format!(
        "HANDLER vdisk_fileio {{\n{devices}}}\nHANDLER vdisk_blockio {{\n    DEVICE blockio {{\n        filename {}\n        \
         thin_provisioned 1\n    }}\n}}\nTARGET_DRIVER iscsi {{\n    enabled 1\n    TARGET {TARGET} {{\n        \
         enabled 1\n        LUN 0 disk\n        LUN 1 removable\n        LUN 2 read-only {{\n            read_only 1\n        \
         }}\n        LUN 3 blockio\n    }}\n}}\n",
        device.display()
    ))
}

fn run_tool(scstd: &Scstd, pass: &Pass, selected: &str, log: &Path) -> Result<Vec<Test>> {
    let output = File::create(log)?;
    let mut tool = Command::new("timeout");
    tool.args([&LIMIT_SECONDS.to_string(), "iscsi-test-cu", "--dataloss", "--allow-sanitize", "--Verbose-scsi"]);
    tool.args(["--test", selected, &scstd.url(0, TARGET, pass.lun)]);
    if pass.multipath {
        tool.arg(scstd.url(1, TARGET, pass.lun));
    }
    // Its exit status only says that some test failed or that it could not start; the output says both.
    tool.stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .context("cannot start iscsi-test-cu; `cargo xtask setup` installs it")?;
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let tests = parse::tests(&text);
    let announced = announced(selected)?;
    ensure!(
        tests.len() == announced && announced > 0,
        "{} of {announced} tests ran; the output ends with\n{}\n{}",
        tests.len(),
        text.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"),
        scstd.log_tail()
    );
    Ok(tests)
}

/// How many tests the tool knows under a name.
fn announced(selected: &str) -> Result<usize> {
    let listing = cargo::output(Command::new("iscsi-test-cu").arg("--list"))?;
    let below = |line: &&str| line.strip_prefix(selected).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    Ok(listing.lines().filter(below).filter(|line| line.matches('.').count() == 2).count())
}

/// What the tests of one run did.
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    fn of(tests: &[Test]) -> Self {
        let count = |verdict: Verdict| tests.iter().filter(|test| test.verdict == verdict).count();
        Self { passed: count(Verdict::Passed), failed: count(Verdict::Failed), skipped: count(Verdict::Skipped) }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{} run, {passed} passed, {failed} failed, {skipped} skipped", passed + failed + skipped)
    }
}
