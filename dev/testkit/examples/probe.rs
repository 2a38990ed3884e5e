//! Exercises a running target with the initiator of this crate: `probe ADDR:PORT TARGET LUN [--overwrite [--tolerate]]`.
//!
//! With `--overwrite` the first 8 MiB of the LUN are destroyed by a verifying workload; `--tolerate` counts protocol violations instead
//! of ending at the first.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use scst_testkit::hostile::{oversized_texts, wrong_names};
use scst_testkit::initiator::{Amount, DataOutPlan, tmf};
use scst_testkit::pdu::Digests;
use scst_testkit::verify::{Workload, WorkloadOptions};
use scst_testkit::{Command, Initiator, LoginConfig, scsi};

const NAME: &str = "iqn.2026-01.test:probe";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [portal, target, lun, rest @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: probe ADDR:PORT TARGET LUN [--overwrite]");
    };
    let (portal, lun): (SocketAddr, u32) = (portal.parse()?, lun.parse()?);
    let config = LoginConfig::normal(NAME, target);

    let found = Initiator::discover(portal, LoginConfig::discovery(NAME), "All")?;
    println!("targets: {found:?}");
    let mut initiator = Initiator::connect(portal, config.clone())?;
    println!("parameters: {:?}", initiator.parameters());
    println!("LUNs: {:?}", initiator.report_luns()?);
    println!("unit attentions: {:02x?}", initiator.clear_unit_attentions(lun)?);
    let inquiry = initiator.run(Command::inquiry(lun, None))?;
    println!("INQUIRY: {:?} {:?}", String::from_utf8_lossy(&inquiry.data_in[8..32]), inquiry.residual);
    let capacity = initiator.capacity(lun)?;
    println!("capacity: {capacity:?}");
    println!("bad opcode: {:?}", initiator.execute(Command::new(lun, vec![0xff; 6]))?.sense());
    println!("LUN reset: {}", initiator.task_management(tmf::LOGICAL_UNIT_RESET, lun, None)?);
    println!("unit attentions: {:02x?}", initiator.clear_unit_attentions(lun)?);
    println!("abort of nothing: {}", initiator.task_management(tmf::ABORT_TASK, lun, Some(0x4242))?);
    ensure!(initiator.ping(b"are you there")? == b"are you there", "ping data differ");
    println!("logout: {}", initiator.logout()?);

    for (name, result) in wrong_names(portal, &config).into_iter().chain(oversized_texts(portal, &config)) {
        println!("{name}: {result:?}");
    }
    if rest.iter().any(|one| one == "--overwrite") {
        overwrite(portal, &config, lun, capacity, rest.iter().any(|one| one == "--tolerate"))?;
    }
    Ok(())
}

fn overwrite(
    portal: SocketAddr,
    config: &LoginConfig,
    lun: u32,
    capacity: scsi::param::Capacity,
    tolerate: bool,
) -> Result<()> {
    let blocks = capacity.blocks.min((8 << 20) / u64::from(capacity.block_size));
    let mut workload = Workload::new(WorkloadOptions::mixed(lun, capacity.block_size, blocks, 7));
    let shapes = [
        ("as offered", config.clone()),
        ("digests", config.clone().with_digests(Digests { header: true, data: true })),
        ("R2T only", config.clone().with_key("InitialR2T", "Yes").with_key("ImmediateData", "No")),
        ("small", config.clone().with_key("MaxBurstLength", "4096").with_key("MaxRecvDataSegmentLength", "512")),
        ("split login text", LoginConfig { split_text: Some(100), ..config.clone() }),
    ];
    for (index, (name, config)) in shapes.into_iter().enumerate() {
        let mut initiator = Initiator::connect(portal, config).context(name)?;
        initiator.clear_unit_attentions(lun)?;
        if tolerate {
            initiator.tolerate();
        }
        if index == 0 {
            workload.initialise(&mut initiator)?;
        } else {
            workload.verify_all(&mut initiator)?;
        }
        println!("{name}: {:?}", workload.run(&mut initiator, 2000).context(name)?);
        workload.verify_all(&mut initiator)?;
        println!("  violations: {}", initiator.core().violations().len());
        initiator.logout()?;
    }
    // A held R2T, aborted while the target waits for its data.
    let mut initiator = Initiator::connect(portal, config.clone())?;
    initiator.clear_unit_attentions(lun)?;
    let plan = DataOutPlan {
        immediate: Amount::Bytes(0),
        unsolicited: Amount::Bytes(0),
        hold: true,
        ..DataOutPlan::default()
    };
    let write = Command::write_blocks(lun, 0, capacity.block_size, vec![0; 65_536]).with_plan(plan);
    let tag = initiator.submit(write)?;
    println!("held: {:?}", initiator.wait_r2t(tag)?);
    println!("abort: {}", initiator.task_management(tmf::ABORT_TASK, lun, Some(tag))?);
    initiator.core().forget(tag);
    initiator.run(Command::new(lun, scsi::cdb::test_unit_ready()))?;
    initiator.logout()?;
    Ok(())
}
