//! What a seed stands for: the installation, the load, and what goes wrong.

use scst_core::Nanos;
use scst_protocol_iscsi::params::TargetParameters;
use scst_reactor::sim::{SimConfig, SimRng};
use scst_testkit::LoginConfig;

/// One disk.
#[derive(Clone, Copy, Debug)]
pub struct DiskPlan {
    /// Bytes per block.
    pub block_size: u32,
    /// Blocks that initiators use; the disk is larger.
    pub blocks: u32,
    /// No write cache.
    pub write_through: bool,
    /// UNMAP works.
    pub thin: bool,
}

/// One initiator with one session.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// Its name.
    pub name: String,
    /// Which target.
    pub target: usize,
    /// Tells sessions of one initiator apart.
    pub isid: u16,
    /// Commands in flight.
    pub depth: usize,
    /// Keys that it offers.
    pub keys: Vec<(String, String)>,
    /// It leaves data-out waiting now and then.
    pub hesitant: bool,
}

/// How a stretch of time ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// kill -9.
    Killed,
    /// Loss of power.
    PowerLoss,
    /// Everybody finishes, everything is checked, and the daemon is stopped.
    Stopped,
}

/// A stretch of time between a start of the daemon and its end.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// Commands of all initiators together.
    pub commands: u32,
    /// How it ends.
    pub ending: Ending,
}

/// Chances of interventions, per million and command sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chaos {
    /// A task management function.
    pub functions: u32,
    /// An initiator resets its connection.
    pub resets: u32,
    /// An initiator logs out.
    pub logouts: u32,
    /// An initiator reads nothing for a while.
    pub stalls: u32,
    /// A connection that sends garbage, half a PDU or nothing.
    pub strangers: u32,
    /// LUNs come, go or change access.
    pub maps: u32,
    /// A device is taken away and brought back.
    pub devices: u32,
    /// A target is switched off and on.
    pub targets: u32,
    /// MODE SELECT, RESERVE and the like.
    pub exclusive: u32,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Network, disks, scheduling.
    pub sim: SimConfig,
    /// How many reactors.
    pub reactors: u16,
    /// Disks.
    pub disks: Vec<DiskPlan>,
    /// How many targets; all of them have all disks.
    pub targets: usize,
    /// What targets negotiate.
    pub parameters: TargetParameters,
    /// Commands per nexus.
    pub commands_per_nexus: u32,
    /// Initiators.
    pub clients: Vec<ClientPlan>,
    /// What happens, in order.
    pub epochs: Vec<Epoch>,
    /// What goes wrong.
    pub chaos: Chaos,
    /// Most time between reactors for a message.
    pub mail_delay: Nanos,
    /// Nothing that would explain a lost connection ever happens.
    pub quiet_links: bool,
}

/// Names of targets begin like this.
pub const TARGET: &str = "iqn.2026-01.local.scst:sim";

fn pick<T: Copy>(rng: &mut SimRng, from: &[T]) -> T {
    from[rng.below(from.len() as u64) as usize]
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let rng = &mut SimRng::new(seed ^ 0x5eed_0001);
        let rough = rng.below(10);
        let mut sim = match rough {
            0 => SimConfig::calm(seed),
            1..4 => SimConfig::rough(seed),
            _ => SimConfig::faulty(seed),
        };
        if rough >= 4 && rng.chance(500_000) {
            // Good storage: only then do flushes succeed for long.
            sim.disk.eio = 0;
        }
        if rough >= 4 && rng.chance(300_000) {
            sim.disk.hang = pick(rng, &[2_000, 20_000]);
        }
        let chaos = if rough == 0 { Chaos::default() } else { chaos(rng) };
        let disks: Vec<DiskPlan> = (0..1 + rng.below(2)).map(|_| disk(rng)).collect();
        let targets = 1 + rng.below(2) as usize;
        let digests = rng.chance(400_000);
        let clients = (0..2 + rng.below(4)).map(|n| client(rng, n, targets, digests)).collect();
        let epochs = 1 + rng.below(3);
        let mut plan = Self {
            sim,
            reactors: 1 + rng.below(3) as u16,
            disks,
            targets,
            parameters: parameters(rng, digests),
            commands_per_nexus: pick(rng, &[4, 12, 48]),
            clients,
            epochs: Vec::new(),
            chaos,
            mail_delay: Nanos(pick(rng, &[0, 20_000, 2_000_000])),
            quiet_links: rough == 0,
        };
        for n in 0..epochs {
            let ending = match rng.below(4) {
                _ if n + 1 == epochs => Ending::Stopped,
                0 => Ending::Stopped,
                1 => Ending::Killed,
                _ => Ending::PowerLoss,
            };
            plan.epochs.push(Epoch { commands: rng.between(30, 160) as u32, ending });
        }
        plan
    }

    /// What a client says at login.
    pub fn login(&self, client: &ClientPlan) -> LoginConfig {
        let target = target_name(client.target);
        let mut login = LoginConfig::normal(&client.name, &target).with_isid(client.isid);
        for (key, value) in &client.keys {
            login = login.with_key(key, value);
        }
        login
    }
}

/// Name of a target.
pub fn target_name(target: usize) -> String {
    format!("{TARGET}{target}")
}

fn chaos(rng: &mut SimRng) -> Chaos {
    let mut often = |ppm: u32| if rng.chance(600_000) { ppm } else { 0 };
    Chaos {
        functions: often(60_000),
        resets: often(8_000),
        logouts: often(8_000),
        stalls: often(8_000),
        strangers: often(15_000),
        maps: often(10_000),
        devices: often(6_000),
        targets: often(4_000),
        exclusive: often(30_000),
    }
}

fn disk(rng: &mut SimRng) -> DiskPlan {
    DiskPlan {
        block_size: pick(rng, &[512, 512, 4096]),
        blocks: pick(rng, &[8, 24, 64, 160]),
        write_through: rng.chance(150_000),
        thin: rng.chance(500_000),
    }
}

fn parameters(rng: &mut SimRng, digests: bool) -> TargetParameters {
    let mut parameters = TargetParameters {
        initial_r2t: rng.chance(300_000),
        immediate_data: rng.chance(800_000),
        max_burst_length: pick(rng, &[1024, 8192, 65_536, 1_048_576]),
        first_burst_length: pick(rng, &[512, 4096, 65_536]),
        max_outstanding_r2t: pick(rng, &[1, 4]),
        max_recv_data_segment_length: pick(rng, &[512, 8192, 262_144]),
        queued_commands: pick(rng, &[4, 32]),
        ..TargetParameters::default()
    };
    parameters.first_burst_length = parameters.first_burst_length.min(parameters.max_burst_length);
    if digests {
        for name in ["HeaderDigest", "DataDigest"] {
            let set = parameters.set(name, "CRC32C,None");
            debug_assert!(set.is_ok(), "{set:?}");
        }
    }
    parameters
}

fn client(rng: &mut SimRng, number: u64, targets: usize, digests: bool) -> ClientPlan {
    // Names are shared now and then: several sessions of one initiator.
    let host = if rng.chance(300_000) { 0 } else { number };
    let yes_no = |yes| if yes { "Yes" } else { "No" }.to_owned();
    let burst = pick(rng, &[1024, 16_384, 262_144]);
    let first = pick(rng, &[512, 4096, 65_536]).min(burst);
    let mut keys = vec![
        ("InitialR2T".to_owned(), yes_no(rng.chance(300_000))),
        ("ImmediateData".to_owned(), yes_no(rng.chance(800_000))),
        ("MaxBurstLength".to_owned(), burst.to_string()),
        ("FirstBurstLength".to_owned(), first.to_string()),
        ("MaxRecvDataSegmentLength".to_owned(), pick(rng, &[512, 4096, 262_144]).to_string()),
        ("MaxOutstandingR2T".to_owned(), pick(rng, &[1, 8]).to_string()),
    ];
    if digests && rng.chance(600_000) {
        keys.push(("HeaderDigest".to_owned(), "CRC32C".to_owned()));
        keys.push(("DataDigest".to_owned(), "CRC32C".to_owned()));
    }
    ClientPlan {
        name: format!("iqn.2026-01.local.host:{host}"),
        target: rng.below(targets as u64) as usize,
        isid: number as u16 + 1,
        depth: 1 + rng.below(10) as usize,
        keys,
        hesitant: rng.chance(300_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_and_the_last_stretch_is_checked() {
        for seed in 0..200 {
            let plan = Plan::new(seed);
            assert_eq!(format!("{plan:?}"), format!("{:?}", Plan::new(seed)));
            assert_eq!(plan.epochs.last().map(|e| e.ending), Some(Ending::Stopped));
            assert!((1..=3).contains(&plan.reactors) && plan.clients.len() >= 2);
        }
    }
}
