//! Connections that rest: what they keep, and that they wake up whatever the pool has left.

use scst_core::Nanos;
use scst_target_iscsi::limits::{LOGIN_READ_AHEAD_BYTES, REST_AFTER, SEND_HEADER_BYTES};
use scst_testkit::initiator::{Command, Event};
use scst_testkit::scsi::cdb;

use crate::handler::BLOCK;
use crate::harness::{Host, Setup, World, normal};

const READ_AHEAD: u64 = LOGIN_READ_AHEAD_BYTES as u64;
const HEADER: u64 = SEND_HEADER_BYTES as u64;

/// So many sessions that do not ping and have had a command each.
fn sessions(world: &mut World, count: u16) -> Vec<Host> {
    let one = |n| {
        let mut host = world.login(normal().with_isid(n));
        assert!(world.execute(&mut host, Command::read_blocks(0, 0, 8, BLOCK)).is_good());
        host
    };
    (0..count).map(one).collect()
}

fn without_pings() -> World {
    Setup::parameters(|p| p.nop_in_interval = 0).build()
}

fn in_use(world: &World) -> u64 {
    world.reactors[0].pool.statistics().in_use
}

/// Twice the time, and what deadlines may be late.
fn rest(world: &mut World) {
    world.pass(Nanos(REST_AFTER.0 * 5 / 2));
}

#[test]
fn a_connection_that_rests_keeps_a_page_and_one_that_works_its_header_buffer() {
    let mut world = without_pings();
    let mut hosts = sessions(&mut world, 3);
    assert_eq!(in_use(&world), 3 * (READ_AHEAD + HEADER));
    rest(&mut world);
    assert_eq!(in_use(&world), 3 * READ_AHEAD + HEADER, "one header buffer is set aside for all");
    // A ping does not wake it up.
    let tag = hosts[0].core.ping(b"there?", false);
    world.until(&mut hosts[0], |e| matches!(e, Event::NopIn { itt, .. } if *itt == tag));
    world.settle();
    assert_eq!(in_use(&world), 3 * READ_AHEAD + HEADER);
    // A command does.
    assert!(world.execute(&mut hosts[0], Command::new(0, cdb::test_unit_ready())).is_good());
    world.settle();
    assert_eq!(in_use(&world), 3 * READ_AHEAD + 2 * HEADER);
    for host in hosts {
        host.logout(&mut world);
    }
    world.assert_clean();
}

#[test]
fn all_wake_up_with_one_header_buffer_when_commands_have_taken_the_rest() {
    let mut world = without_pings();
    let mut hosts = sessions(&mut world, 20);
    rest(&mut world);
    // The pool is empty: others have it all.
    let pool = &mut world.reactors[0].pool;
    let mut taken = Vec::new();
    for bytes in [1 << 20, 64 << 10, 4096] {
        while let Some(sg) = pool.allocate(bytes) {
            taken.push(sg);
        }
    }
    let tags: Vec<u32> =
        hosts.iter_mut().map(|host| host.core.submit(Command::new(0, cdb::test_unit_ready()))).collect();
    let mut all: Vec<&mut Host> = hosts.iter_mut().collect();
    world.run(&mut all, |hosts| {
        hosts.iter().zip(&tags).all(|(host, tag)| {
            host.events.iter().any(|e| matches!(e, Event::Completed(o) if o.itt == *tag && o.is_good()))
        })
    });
    for sg in &taken {
        world.reactors[0].pool.release(sg);
    }
    rest(&mut world);
    assert_eq!(in_use(&world), 20 * READ_AHEAD + HEADER);
    for host in hosts {
        host.logout(&mut world);
    }
    world.assert_clean();
}
