//! Anything at any time, from a seed: nothing may be left behind, and the initiators find no fault.

use scst_core::Nanos;
use scst_protocol_iscsi::params::DigestPolicy;
use scst_reactor::sim::{PeerState, SimConfig};
use scst_testkit::initiator::{Command, DataOutPlan, LoginConfig, tmf};
use scst_testkit::pdu::Digests;

use crate::handler::BLOCK;
use crate::harness::{Host, Setup, World, normal, pattern};

const RUNS: u64 = 150;
const STEPS: usize = 120;
const HOSTS: usize = 4;

fn config(world: &World, host: usize) -> LoginConfig {
    // Two of the hosts are the same nexus: they push each other out.
    let isid = [1, 1, 2, 3][host];
    let digests = Digests { header: world.sim.chance(300_000), data: world.sim.chance(300_000) };
    normal().with_isid(isid).with_digests(digests)
}

fn connect(world: &World, host: usize) -> Host {
    let config = config(world, host);
    let mut host = world.connect(config);
    host.core.start();
    host
}

fn command(world: &World) -> Command {
    let lba = world.sim.random(20_000);
    let blocks = [1, 8, 16, 200, 700][world.sim.random(5) as usize];
    let bytes = (blocks * BLOCK) as usize;
    let plan = DataOutPlan { hold: world.sim.chance(100_000), ..DataOutPlan::default() };
    match world.sim.random(10) {
        0 => Command::new(0, vec![0; 6]),
        1 => Command::write_blocks(0, 1 << 40, BLOCK, pattern(1, bytes)),
        2..=5 => Command::write_blocks(0, lba, BLOCK, pattern(lba as u8, bytes)).with_plan(plan),
        _ => Command::read_blocks(0, lba, blocks, BLOCK),
    }
}

fn act(world: &World, hosts: &mut [Host], tags: &mut [Vec<u32>]) {
    let n = world.sim.random(HOSTS as u64) as usize;
    let ready = hosts[n].is_logged_in() && hosts[n].state == PeerState::Open;
    match world.sim.random(20) {
        0..=11 if ready => {
            let command = command(world);
            tags[n].push(hosts[n].core.submit(command));
        }
        12 | 13 if ready => {
            let functions = [tmf::ABORT_TASK, tmf::ABORT_TASK_SET, tmf::CLEAR_TASK_SET, tmf::LOGICAL_UNIT_RESET];
            let function = functions[world.sim.random(4) as usize];
            let task = tags[n].last().and_then(|itt| Some((*itt, hosts[n].core.cmd_sn_of(*itt)?)));
            if task.is_some() || function != tmf::ABORT_TASK {
                hosts[n].core.task_management(function, [0; 8], task.filter(|_| function == tmf::ABORT_TASK));
            }
        }
        14 if ready => {
            hosts[n].core.ping(b"are you there?", false);
        }
        15 if ready && world.sim.chance(200_000) => {
            hosts[n].core.logout(0);
        }
        16 if world.sim.chance(300_000) => {
            let new = connect(world, n);
            std::mem::replace(&mut hosts[n], new).peer.reset();
            tags[n].clear();
        }
        17 if world.sim.chance(200_000) => {
            // The old connection is left hanging.
            hosts[n] = connect(world, n);
            tags[n].clear();
        }
        18 if hosts[n].state != PeerState::Open => {
            hosts[n] = connect(world, n);
            tags[n].clear();
        }
        _ => {}
    }
}

fn run(seed: u64) {
    let mut setup = Setup { reactors: 2, budget: 3 << 20, sim: SimConfig::rough(seed), ..Setup::default() };
    let parameters = &mut setup.target.parameters;
    parameters.header_digest = DigestPolicy::NoneOrCrc32c;
    parameters.data_digest = DigestPolicy::NoneOrCrc32c;
    parameters.max_recv_data_segment_length = 65_536;
    (parameters.rsp_timeout, parameters.nop_in_interval, parameters.nop_in_timeout) = (10, 5, 5);
    setup.sim.disk.eio = 20_000;
    let mut world = setup.build();
    let mut hosts: Vec<Host> = (0..HOSTS).map(|n| connect(&world, n)).collect();
    let mut tags = vec![Vec::new(); HOSTS];
    for _ in 0..STEPS {
        act(&world, &mut hosts, &mut tags);
        for host in &mut hosts {
            host.exchange();
        }
        world.settle();
        for _ in 0..world.sim.random(12) {
            world.sim.step();
            world.settle();
        }
    }
    for _ in 0..200 {
        for host in &mut hosts {
            host.exchange();
        }
        world.pass(Nanos::from_millis(20));
    }
    for host in hosts {
        host.peer.reset();
    }
    world.assert_clean();
}

#[test]
fn nothing_is_left_behind_whatever_happens() {
    for seed in 0..RUNS {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
