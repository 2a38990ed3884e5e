//! Connections that rest: what they keep, and that they wake up whatever the pool has left.

use scst_core::Nanos;
use scst_target_iscsi::limits::{LOGIN_READ_AHEAD_BYTES, RESERVED_BUFFERS, REST_AFTER, SEND_HEADER_BYTES};
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

/// What connections have of the pool, without what is set aside for refusals.
fn in_use(world: &World) -> u64 {
    world.reactors[0].pool.statistics().in_use - RESERVED_BUFFERS as u64 * READ_AHEAD
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
    let taken = world.take_buffers();
    let tags: Vec<u32> =
        hosts.iter_mut().map(|host| host.core.submit(Command::new(0, cdb::test_unit_ready()))).collect();
    let mut all: Vec<&mut Host> = hosts.iter_mut().collect();
    world.run(&mut all, |hosts| {
        hosts.iter().zip(&tags).all(|(host, tag)| {
            host.events.iter().any(|e| matches!(e, Event::Completed(o) if o.itt == *tag && o.is_good()))
        })
    });
    world.give_buffers_back(&taken);
    rest(&mut world);
    assert_eq!(in_use(&world), 20 * READ_AHEAD + HEADER);
    for host in hosts {
        host.logout(&mut world);
    }
    world.assert_clean();
}

#[test]
fn who_waits_for_the_lent_header_buffer_takes_one_of_the_pool_when_there_is_one_again() {
    let mut world = without_pings();
    let mut hosts = sessions(&mut world, 4);
    rest(&mut world);
    // The first has its data before the pool is empty, is lent the header buffer, and does not take what it asked for.
    world.slow_disk(Nanos::from_secs(1));
    hosts[0].core.submit(Command::read_blocks(0, 0, 4096, BLOCK));
    hosts[0].flush();
    world.pass(Nanos::from_millis(500));
    let mut taken = world.take_buffers();
    world.pass(Nanos::from_secs(1));
    let (_, others) = hosts.split_at_mut(1);
    let tags: Vec<u32> = others.iter_mut().map(|host| host.core.ping(b"there?", false)).collect();
    let answered = |hosts: &[Host]| {
        let has = |(host, tag): (&Host, &u32)| {
            host.events.iter().any(|e| matches!(e, Event::NopIn { itt, .. } if itt == tag))
        };
        hosts.iter().zip(&tags).map(has).collect::<Vec<_>>()
    };
    let mut exchange = |world: &mut World| {
        for _ in 0..3 {
            others.iter_mut().for_each(Host::exchange);
            world.pass(Nanos::from_millis(100));
        }
        answered(others)
    };
    assert_eq!(exchange(&mut world), [false; 3], "there is no buffer to answer with");
    // Some memory that is not enough tells nobody anything.
    let last = taken.pop().unwrap();
    world.give_buffers_back(&[last]);
    world.kick();
    assert_eq!(exchange(&mut world), [false; 3]);
    world.give_buffers_back(&taken);
    world.kick();
    assert_eq!(exchange(&mut world), [true; 3]);
    for host in hosts {
        host.peer.close();
    }
    world.assert_clean();
}
