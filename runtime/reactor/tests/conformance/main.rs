//! The contract of `Backend`, as stories that every back-end must pass.

mod block;
mod files;
mod mapped;
mod sockets;
mod stage;
mod stuck;

use scst_mem::{BufferPool, CacheConfig, PoolConfig};
use scst_reactor::ReactorConfig;
use scst_reactor::posix::Posix;
use scst_reactor::sim::{SimConfig, SimWorld};
use scst_reactor::uring::Uring;

use stage::Stage;

fn pool() -> BufferPool {
    BufferPool::new(PoolConfig {
        budget: 32 << 20,
        arena_bytes: 4 << 20,
        huge_pages: false,
        zero_fill: false,
        poison: true,
        cache: CacheConfig::default(),
    })
}

/// Depth of storage operations that the stories expect.
const DEPTH: u32 = 32;

fn config(pool: &BufferPool) -> ReactorConfig {
    ReactorConfig { io_depth: DEPTH, sockets: 256, ..ReactorConfig::new(pool.arenas().clone()) }
}

fn uring() -> Stage<Uring> {
    let pool = pool();
    Stage::real(Uring::new(&config(&pool)).expect("io_uring is there"), pool)
}

/// With registered buffers; the pool has to grow while it is used.
fn registered() -> Stage<Uring> {
    let pool = pool();
    let config = ReactorConfig { register_buffers: true, ..config(&pool) };
    Stage::real(Uring::new(&config).expect("io_uring is there"), pool)
}

fn posix() -> Stage<Posix> {
    let pool = pool();
    Stage::real(Posix::new(&config(&pool)).expect("epoll is there"), pool)
}

fn sim(config_of: fn(u64) -> SimConfig) -> Stage<scst_reactor::sim::SimBackend> {
    let pool = pool();
    let world = SimWorld::new(config_of(7));
    Stage::simulated(world.backend_with(&config(&pool)), pool, world)
}

/// Each story on each back-end. The simulated one plays it calmly, and with everything that may happen without being
/// an error.
macro_rules! conformance {
    ($($module:ident :: $story:ident),* $(,)?) => {
        mod on_uring {
            $(#[test] fn $story() { crate::$module::$story(crate::uring); })*
        }
        mod on_posix {
            $(#[test] fn $story() { crate::$module::$story(crate::posix); })*
        }
        mod on_sim {
            $(#[test] fn $story() { crate::$module::$story(|| crate::sim(crate::SimConfig::calm)); })*
        }
        mod on_rough_sim {
            $(#[test] fn $story() { crate::$module::$story(|| crate::sim(crate::SimConfig::rough)); })*
        }
    };
}

conformance! {
    sockets::bytes_are_echoed_through_many_extents,
    sockets::a_large_send_completes_whole,
    sockets::a_receive_completes_with_what_there_is,
    sockets::the_end_of_the_stream_is_zero_bytes,
    sockets::a_reset_fails_what_is_in_flight,
    sockets::close_ends_what_is_in_flight_first,
    sockets::an_idle_socket_closes_and_its_id_is_dead,
    sockets::a_listener_closes_under_an_accept,
    sockets::what_was_sent_before_close_arrives,
    sockets::our_half_ends_and_the_other_goes_on,
    sockets::wrong_requests_are_answered_not_obeyed,
    sockets::a_connection_moves_to_another_back_end,
    sockets::many_connections_at_once,
    sockets::the_table_of_sockets_has_a_limit,
    sockets::a_waker_ends_the_wait,
    sockets::a_deadline_ends_the_wait,
    sockets::both_address_families,
    files::what_was_written_is_read_back,
    files::the_end_of_the_file_gives_a_short_read,
    files::discard_and_zero_read_as_zeros,
    files::holes_are_told_from_data,
    files::every_operation_completes_once_even_when_cancelled,
    files::above_the_depth_the_queue_is_full,
    files::a_file_stays_until_its_operations_end,
    files::flushes_of_an_opening_all_end_and_none_well_after_a_failure,
    files::an_unknown_file_and_a_wild_buffer_are_errors,
    mapped::pages_are_sent_as_they_are_at_that_moment,
    mapped::a_file_that_is_cut_under_a_send_breaks_only_that,
}

/// What only real back-ends have.
macro_rules! on_real_back_ends {
    ($($module:ident :: $story:ident),* $(,)?) => {
        mod on_real_back_ends {
            $(mod $story {
                #[test] fn uring() { crate::$module::$story(crate::uring()); }
                #[test] fn registered() { crate::$module::$story(crate::registered()); }
                #[test] fn posix() { crate::$module::$story(crate::posix()); }
            })*
        }
    };
}

on_real_back_ends! {
    block::a_block_device_past_the_page_cache,
    stuck::files_that_hang_hold_up_no_other,
    stuck::what_waits_for_a_thread_of_a_file_that_hangs_is_cancelled,
    block::what_is_misaligned_is_an_error_of_its_own_operation,
    files::a_flush_under_way_is_not_cancelled_and_one_that_waits_is,
}

mod real {
    use scst_core::Nanos;
    use scst_reactor::backend::{Backend, Completion, SocketToken};
    use scst_reactor::{AnyBackend, BackendChoice, open};

    #[test]
    fn a_back_end_may_be_built_on_one_thread_and_used_on_another() {
        for choice in [BackendChoice::Auto, BackendChoice::Uring, BackendChoice::Posix] {
            let pool = crate::pool();
            let mut backend = open(choice, &crate::config(&pool)).unwrap();
            let waker = backend.waker();
            let thread = std::thread::spawn(move || {
                let mut out = Vec::new();
                backend.wait(None, &mut out).unwrap();
                (out, backend.name())
            });
            waker.wake();
            let (out, name) = thread.join().unwrap();
            assert_eq!(out, [Completion::Woken]);
            match choice {
                BackendChoice::Posix => assert_eq!(name, "posix"),
                BackendChoice::Auto | BackendChoice::Uring => assert_eq!(name, "uring"),
            }
        }
    }

    #[test]
    fn dropping_a_back_end_ends_what_is_in_flight() {
        for choice in [BackendChoice::Uring, BackendChoice::Posix] {
            let mut pool = crate::pool();
            let mut backend: AnyBackend = open(choice, &crate::config(&pool)).unwrap();
            let listener = backend.listen("127.0.0.1:0".parse().unwrap()).unwrap();
            let addr = backend.local_addr(listener).unwrap();
            let _peer = std::net::TcpStream::connect(addr).unwrap();
            backend.accept(listener, SocketToken(1));
            let mut out = Vec::new();
            backend.wait(None, &mut out).unwrap();
            let Completion::Accepted { result: Ok(socket), .. } = out[0] else { panic!("{out:?}") };
            backend.accept(listener, SocketToken(2));
            let sg = pool.allocate(4096).unwrap();
            backend.recv(socket, sg.extents(), &mut pool, SocketToken(3));
            out.clear();
            backend.wait(Some(backend.now()), &mut out).unwrap();
            assert_eq!(out, []);
            drop(backend);
        }
    }

    #[test]
    fn a_deadline_may_come_nearer_and_go_away_from_wait_to_wait() {
        const HOUR: Nanos = Nanos::from_secs(3600);
        for choice in [BackendChoice::Uring, BackendChoice::Posix] {
            let mut backend = open(choice, &crate::config(&crate::pool())).unwrap();
            let waker = backend.waker();
            let mut out = Vec::new();
            for round in 0..10 {
                // An event ends a wait that had far to go. The next one is short, and not held up by what was set before.
                waker.wake();
                let far = (round % 2 == 0).then(|| backend.now().after(HOUR));
                backend.wait(far, &mut out).unwrap();
                assert_eq!(std::mem::take(&mut out), [Completion::Woken]);
                for _ in 0..3 {
                    let near = backend.now().after(Nanos::from_millis(2));
                    backend.wait(Some(near), &mut out).unwrap();
                    assert_eq!(out, []);
                    assert!(backend.now() >= near, "not before its time, whatever was set before");
                }
            }
        }
    }

    #[test]
    fn a_reactor_that_spins_hears_the_same() {
        for choice in [BackendChoice::Uring, BackendChoice::Posix] {
            let pool = crate::pool();
            let config = scst_reactor::ReactorConfig { spin: Nanos(200_000), ..crate::config(&pool) };
            let mut backend = open(choice, &config).unwrap();
            let waker = backend.waker();
            let thread = std::thread::spawn(move || {
                for _ in 0..1000 {
                    waker.wake();
                }
            });
            let mut out = Vec::new();
            backend.wait(None, &mut out).unwrap();
            thread.join().unwrap();
            assert!(out.iter().all(|c| *c == Completion::Woken));
        }
    }
}
