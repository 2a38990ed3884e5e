//! Data both ways, in every form that iSCSI knows.

use scst_core::Nanos;
use scst_reactor::sim::{PeerState, SimConfig};
use scst_testkit::initiator::{Amount, Command, DataOutPlan, Event, LoginConfig, Residual};
use scst_testkit::pdu::Digests;

use crate::handler::BLOCK;
use crate::harness::{Host, Setup, World, normal, pattern};

fn write(lba: u64, data: &[u8]) -> Command {
    Command::write_blocks(0, lba, BLOCK, data)
}

fn read(lba: u64, bytes: usize) -> Command {
    Command::read_blocks(0, lba, bytes as u32 / BLOCK, BLOCK)
}

/// Writes and reads back, and looks at the disk in between.
fn round_trip(world: &mut World, host: &mut Host, lba: u64, data: &[u8], plan: DataOutPlan) -> u32 {
    let outcome = world.execute(host, write(lba, data).with_plan(plan));
    assert!(outcome.is_good(), "{outcome:?}");
    let mut on_disk = vec![0; data.len()];
    world.disk.peek(lba * u64::from(BLOCK), &mut on_disk);
    assert!(on_disk == data, "the disk has something else");
    let back = world.execute(host, read(lba, data.len()));
    assert!(back.is_good() && back.data_in == data, "read back something else");
    outcome.r2ts
}

#[test]
fn sizes_from_one_block_to_many_bursts() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    for (seed, blocks) in [1, 8, 9, 127, 128, 129, 2048, 2049, 8191].into_iter().enumerate() {
        let data = pattern(seed as u8, blocks * BLOCK as usize);
        let r2ts = round_trip(&mut world, &mut host, 100, &data, DataOutPlan::default());
        // 64 KiB go unasked, the rest in bursts of 1 MiB.
        let expected = (data.len().saturating_sub(65_536)).div_ceil(1 << 20);
        assert_eq!(r2ts, expected as u32, "{blocks} blocks");
    }
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn every_mixture_of_immediate_unsolicited_and_solicited_data_and_digests() {
    for digests in [false, true] {
        for (immediate, initial_r2t) in [("Yes", "No"), ("No", "No"), ("Yes", "Yes"), ("No", "Yes")] {
            let mut setup = Setup::parameters(|p| {
                p.header_digest = scst_protocol_iscsi::params::DigestPolicy::NoneOrCrc32c;
                p.data_digest = scst_protocol_iscsi::params::DigestPolicy::NoneOrCrc32c;
                p.max_recv_data_segment_length = 8192;
                p.max_burst_length = 32_768;
                p.first_burst_length = 16_384;
            });
            setup.sim = SimConfig::rough(7);
            let mut world = setup.build();
            let config = normal()
                .with_key("ImmediateData", immediate)
                .with_key("InitialR2T", initial_r2t)
                .with_digests(Digests { header: digests, data: digests });
            let mut host = world.login(config);
            assert_eq!(host.core.digests(), Digests { header: digests, data: digests });
            for (seed, length) in [512, 4096, 16_384, 16_896, 100 * 512, 300 * 512].into_iter().enumerate() {
                let data = pattern(seed as u8, length);
                round_trip(&mut world, &mut host, 3, &data, DataOutPlan::default());
            }
            host.logout(&mut world);
            world.assert_clean();
        }
    }
}

#[test]
fn many_commands_at_once_keep_their_data_apart() {
    let mut setup = Setup::parameters(|p| p.queued_commands = 32);
    setup.sim = SimConfig::rough(11);
    let mut world = setup.build();
    let mut host = world.login(normal());
    let tags: Vec<u32> = (0..200u64).map(|i| host.core.submit(write(i * 8, &pattern(i as u8, 4096)))).collect();
    for itt in tags {
        assert!(world.finish(&mut host, itt).is_good());
    }
    let tags: Vec<u32> = (0..200u64).map(|i| host.core.submit(read(i * 8, 4096))).collect();
    for (i, itt) in tags.into_iter().enumerate() {
        let outcome = world.finish(&mut host, itt);
        assert!(outcome.is_good() && outcome.data_in == pattern(i as u8, 4096), "command {i}");
        assert!(outcome.phase_collapse);
    }
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn a_pdu_may_come_in_any_pieces() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    let data = pattern(9, 3 * 4096);
    let itt = host.core.submit(write(40, &data));
    let bytes = host.core.take_output();
    for piece in bytes.chunks(7) {
        host.peer.send(piece);
        world.pass(scst_core::Nanos::from_millis(3));
    }
    assert!(world.finish(&mut host, itt).is_good());
    let back = world.execute(&mut host, read(40, data.len()));
    assert!(back.data_in == data);
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn data_that_a_rejected_command_brings_along_are_thrown_away() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    // Beyond the end of the disk: CHECK CONDITION, and 32 KiB of payload that nobody wants.
    let bad = host.core.submit(write(1 << 40, &pattern(1, 32 << 10)));
    let good = host.core.submit(write(0, &pattern(2, 4096)));
    let outcome = world.finish(&mut host, bad);
    assert_eq!(outcome.kcq(), Some((5, 0x21, 0)));
    assert!(world.finish(&mut host, good).is_good());
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn an_early_command_with_unwanted_data_does_not_keep_the_older_one_out() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    let older = host.core.submit(write(0, &pattern(2, 4096)));
    let first = host.core.take_output();
    let bad = host.core.submit(write(1 << 40, &pattern(1, 32 << 10)));
    let second = host.core.take_output();
    host.peer.send(&second);
    world.pass(scst_core::Nanos::from_millis(10));
    host.peer.send(&first);
    assert!(world.finish(&mut host, older).is_good());
    assert_eq!(world.finish(&mut host, bad).kcq(), Some((5, 0x21, 0)));
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn without_a_command_slot_the_answer_is_busy() {
    let limits = scst_core::engine::Limits { commands: 2, ..Default::default() };
    let mut world = Setup { limits, ..Setup::default() }.build();
    let mut host = world.login(normal());
    let tags: Vec<u32> = (0..8u64).map(|i| host.core.submit(write(i * 8, &pattern(1, 4096)))).collect();
    let statuses: Vec<u8> = tags.into_iter().map(|itt| world.finish(&mut host, itt).status).collect();
    assert_eq!(statuses[..2], [0, 0]);
    assert!(statuses[2..].iter().all(|s| *s == 0x08 || *s == 0), "{statuses:?}");
    assert!(statuses.contains(&0x08));
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn residuals_tell_what_was_not_transferred() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    let less = world.execute(&mut host, Command::read(0, read(0, 512).cdb, 2048));
    assert!(less.is_good());
    assert_eq!((less.data_in.len(), less.residual), (512, Residual::Underflow(1536)));
    let more = world.execute(&mut host, Command::read(0, read(0, 2048).cdb, 512));
    assert_eq!((more.data_in.len(), more.residual), (512, Residual::Overflow(1536)));
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn a_wrong_data_digest_ends_the_command_and_nothing_else() {
    let mut world = Setup::parameters(|p| {
        p.data_digest = scst_protocol_iscsi::params::DigestPolicy::Crc32cOnly;
    })
    .build();
    let mut host = world.login(normal().with_digests(Digests { header: false, data: true }));
    let itt = host.core.submit(write(0, &pattern(5, 4096)));
    let mut bytes = host.core.take_output();
    let last = bytes.len() - 1;
    bytes[last] ^= 0xff;
    host.peer.send(&bytes);
    let outcome = world.finish(&mut host, itt);
    assert_eq!(outcome.kcq(), Some((0xb, 0x47, 0x05)));
    host.events.retain(|e| !matches!(e, Event::Rejected(_)));
    let mut disk = vec![1; 4096];
    world.disk.peek(0, &mut disk);
    assert!(disk.iter().all(|b| *b == 0), "bad data reached the disk");
    assert!(world.execute(&mut host, write(0, &pattern(6, 4096))).is_good());
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn solicited_data_come_only_when_asked_for() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    let plan =
        DataOutPlan { immediate: Amount::Bytes(0), unsolicited: Amount::Bytes(0), hold: true, ..Default::default() };
    let data = pattern(3, 64 << 10);
    let itt = host.core.submit(write(8, &data).with_plan(plan));
    let Event::R2t(r2t) = world.until(&mut host, |e| matches!(e, Event::R2t(_))) else { panic!() };
    assert_eq!((r2t.itt, r2t.offset, r2t.length), (itt, 0, 64 << 10));
    host.core.send_data_out(itt, r2t.ttt, r2t.offset, r2t.length);
    assert!(world.finish(&mut host, itt).is_good());
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn a_connection_without_room_to_receive_goes_on_when_the_pool_has_some_again() {
    let mut world = Setup::parameters(|p| p.nop_in_interval = 0).build();
    let mut host = world.login(normal());
    world.slow_disk(Nanos::from_secs(30));
    let taken = world.take_buffers();
    // The data of the first stay in the read-ahead until they are on the disk, and the others fill what is left of it.
    let tags: Vec<u32> = (0..3).map(|i| host.core.submit(write(i * 8, &pattern(i as u8, 2048)))).collect();
    let ping = host.core.ping(b"there?", false);
    let ponged = |host: &Host| host.events.iter().any(|e| matches!(e, Event::NopIn { itt, .. } if *itt == ping));
    let mut exchange = |world: &mut World| {
        for _ in 0..3 {
            host.exchange();
            world.pass(Nanos::from_millis(100));
        }
        ponged(&host)
    };
    assert!(!exchange(&mut world), "there is no room to receive it");
    world.give_buffers_back(&taken);
    world.kick();
    assert!(exchange(&mut world), "the disk is not done with the first write, but there is room again");
    assert!(world.finish(&mut host, tags[0]).is_good());
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn a_small_pool_slows_down_and_does_not_hang() {
    // Room for a handful of these: the rest get TASK SET FULL or BUSY and are tried again.
    let mut world = Setup { budget: 1 << 20, ..Setup::default() }.build();
    let mut host = world.login(normal());
    let mut left: Vec<u64> = (0..40).collect();
    let mut rounds = 0;
    while !left.is_empty() {
        let tags: Vec<(u64, u32)> =
            left.iter().map(|&i| (i, host.core.submit(write(i * 128, &pattern(i as u8, 64 << 10))))).collect();
        left.clear();
        for (i, itt) in tags {
            let outcome = world.finish(&mut host, itt);
            match outcome.status {
                0 => {}
                0x08 | 0x28 => left.push(i),
                other => panic!("status {other:#x}"),
            }
        }
        rounds += 1;
        assert!(rounds < 100);
    }
    for i in 0..40u64 {
        let mut disk = vec![0; 64 << 10];
        world.disk.peek(i * 128 * 512, &mut disk);
        assert!(disk == pattern(i as u8, 64 << 10), "write {i}");
    }
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn an_idle_initiator_is_pinged_and_a_dead_one_is_dropped() {
    let mut world = Setup::parameters(|p| (p.nop_in_interval, p.nop_in_timeout) = (5, 5)).build();
    let mut host = world.login(normal());
    world.until(&mut host, |e| matches!(e, Event::Pinged { .. }));
    world.until(&mut host, |e| matches!(e, Event::Pinged { .. }));
    assert!(host.is_logged_in());
    let mut config: LoginConfig = normal().with_isid(9);
    config.answer_nop_in = false;
    let mut dead = world.login(config);
    world.run(&mut [&mut host, &mut dead], |hosts| hosts[1].state != PeerState::Open);
    assert!(host.is_logged_in() && host.state == PeerState::Open);
    // Deadlines come up together: its own ping is on the way, and the answer to it crosses the end.
    host.logout(&mut world);
    world.assert_clean();
}
