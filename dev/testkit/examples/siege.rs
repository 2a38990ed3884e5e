//! Attacks a running target while a verifying initiator works: `siege ADDR:PORT TARGET LUN COUNT`.
//!
//! Destroys the first 4 MiB of the LUN.

use std::time::Duration;

use anyhow::{Result, bail};
use scst_testkit::hostile::{Crowd, Misbehaviour, Witness, login_flood};
use scst_testkit::verify::WorkloadOptions;
use scst_testkit::{Initiator, LoginConfig};

const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [portal, target, lun, count] = arguments.as_slice() else {
        bail!("usage: siege ADDR:PORT TARGET LUN COUNT");
    };
    let (portal, lun, count) = (portal.parse()?, lun.parse()?, count.parse()?);
    let login = LoginConfig::normal("iqn.2026-01.test:witness", target);
    let hostile = LoginConfig::normal("iqn.2026-01.test:hostile", target);
    let block_size = {
        let mut initiator = Initiator::connect(portal, login.clone())?;
        initiator.clear_unit_attentions(lun)?;
        initiator.capacity(lun)?.block_size
    };
    let options = WorkloadOptions::mixed(lun, block_size, (4 << 20) / u64::from(block_size), 11);
    let witness = Witness::start(portal, login, options, true)?;
    println!("alone: {:?}", witness.wait_progress(2000, PATIENCE)?);
    let kinds = [
        Misbehaviour::Silent,
        Misbehaviour::Garbage(500),
        Misbehaviour::HalfHeader,
        Misbehaviour::HalfText,
        Misbehaviour::HugeLength,
        Misbehaviour::CommandFirst,
        Misbehaviour::LoginThenSilent,
        Misbehaviour::LoginThenHalfCommand,
        Misbehaviour::LoginThenNoData,
        Misbehaviour::LoginThenGarbage(500),
    ];
    for kind in kinds {
        let mut crowd = Crowd::open(portal, &hostile, &[kind], count, 5)?;
        witness.wait_progress(500, PATIENCE)?;
        println!("{kind:?}: {:?}", crowd.state());
    }
    let mut crowd = Crowd::open(portal, &hostile, &kinds, count, 6)?;
    println!("all kinds: {:?} {:?}", witness.wait_progress(2000, PATIENCE)?, crowd.state());
    drop(crowd);
    println!("logins: {:?}", login_flood(portal, &hostile, count, 8));
    println!("after: {:?}", witness.wait_progress(2000, PATIENCE)?);
    println!("verified: {:?}", witness.stop()?);
    Ok(())
}
