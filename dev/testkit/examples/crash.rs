//! Kills an `scstd` again and again under a verified load: `crash SCSTD-BINARY ROUNDS`.

use anyhow::{Context, Result, bail, ensure};
use scst_testkit::verify::{RunError, Workload, WorkloadOptions};
use scst_testkit::{Error, Initiator, LoginConfig, Scstd};

const TARGET: &str = "iqn.2026-01.test:crash";
const BLOCKS: u64 = 16_384;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [binary, rounds] = arguments.as_slice() else { bail!("usage: crash SCSTD-BINARY ROUNDS") };
    let config = format!(
        "HANDLER vdisk_fileio {{\n DEVICE disk {{\n filename %DIR%/disk.img\n }}\n}}\n\
         TARGET_DRIVER iscsi {{\n enabled 1\n TARGET {TARGET} {{\n enabled 1\n LUN 0 disk\n }}\n}}\n"
    );
    // The file has to be there before the first start; the process that fails without it still makes the directory.
    let directory = tempfile::tempdir()?;
    let image = directory.path().join("disk.img");
    std::fs::File::create(&image)?.set_len(BLOCKS * 512)?;
    let config = config.replace("%DIR%/disk.img", &image.display().to_string());
    let mut target = Scstd::start(binary, &config)?;
    let login = LoginConfig::normal("iqn.2026-01.test:crash-initiator", TARGET);
    let mut workload = Workload::new(WorkloadOptions::mixed(0, 512, BLOCKS, 21));
    for round in 0..rounds.parse::<u64>()? {
        let mut initiator = Initiator::connect(target.portal(), login.clone()).with_context(|| target.log())?;
        initiator.clear_unit_attentions(0)?;
        workload.verify_all(&mut initiator).with_context(|| format!("after {round} crashes"))?;
        let (mut commands, fatal) = (0, 1000 + 37 * round);
        let result = workload.run_while(&mut initiator, || {
            commands += 1;
            if commands == fatal {
                target.kill().expect("the target can be killed");
            }
            true
        });
        ensure!(
            matches!(result, Err(RunError::Connection(Error::Closed | Error::Io(_)))),
            "the load did not end with the connection: {result:?}, {:?}",
            initiator.core()
        );
        workload.crashed();
        println!("round {round}: {:?}", workload.progress());
        target.spawn()?;
    }
    let mut initiator = Initiator::connect(target.portal(), login)?;
    initiator.clear_unit_attentions(0)?;
    workload.verify_all(&mut initiator)?;
    println!("all acknowledged and flushed writes are there");
    Ok(())
}
