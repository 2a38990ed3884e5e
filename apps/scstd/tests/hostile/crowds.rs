//! Many connections at once, and an initiator that works meanwhile.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use scst_target_iscsi::limits::{LOGIN_READ_AHEAD_BYTES, MAX_PENDING_LOGINS, SEND_HEADER_BYTES};
use scst_testkit::hostile::{Crowd, CrowdState, LoginResult, Misbehaviour, login_flood, try_login};
use scst_testkit::process::raise_file_limit;
use scst_testkit::{Initiator, LoginConfig};

use crate::stage::{HOST, PATIENCE, Stage, rogue};

/// Connections of a crowd.
const CROWD: usize = 1000;
/// Connections of a crowd of half-finished logins: more than two reactors keep, and both fill up.
const CROWD_OF_LOGINS: usize = 1500;
/// What the witness has to do while a crowd is there.
const PROGRESS: u64 = 300;
/// Every way to misbehave.
const ALL_KINDS: [Misbehaviour; 10] = [
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

/// Most memory that a thousand connections, four in ten of them with a session, may leave behind the first time: the
/// pages that their buffers have touched stay with the pool, which hands them out again (read-ahead, send buffer, and
/// the data that the announced WRITEs wait for), and so does the heap what their sessions took.
fn memory_of_a_crowd() -> u64 {
    let connection = u64::from(LOGIN_READ_AHEAD_BYTES + SEND_HEADER_BYTES);
    let data = CROWD as u64 / 10 * (64 << 10);
    let heap = CROWD as u64 * 16 * 1024;
    CROWD as u64 * connection + data + heap
}

fn a_crowd_costs_nothing(backend: &str) {
    let stage = Stage::new(backend, "", &[]);
    let portal = stage.daemon.portal();
    raise_file_limit(0).unwrap();
    let witness = stage.witness(1);
    witness.wait_progress(PROGRESS, PATIENCE).unwrap();
    let files = stage.open_files();
    let alone = stage.daemon.resident_memory().unwrap();
    let mut after = Vec::new();
    for round in 0..4 {
        let mut crowd = Crowd::open(portal, &rogue(), &ALL_KINDS, CROWD, round).unwrap();
        witness.wait_progress(PROGRESS, PATIENCE).unwrap();
        let state = crowd.state();
        assert_eq!(state.refused, 0, "{state:?}");
        // Garbage before a login is answered by a close; who only says too little is waited for.
        assert!(state.closed >= CROWD * 3 / 10 && state.open >= CROWD * 3 / 10, "{state:?}");
        drop(crowd);
        stage.wait_open_files(files);
        witness.wait_progress(PROGRESS, PATIENCE).unwrap();
        after.push(stage.daemon.resident_memory().unwrap());
    }
    eprintln!("{backend}: alone {alone}, after each crowd {after:?}, {:?}", witness.report());
    assert!(after[0] <= alone + memory_of_a_crowd(), "{alone} before, {after:?} after, {}", memory_of_a_crowd());
    // The first crowd has paid for the others: what it left is used again.
    assert!(after[3] <= after[0] + (4 << 20), "{after:?}");
    witness.stop().unwrap();
    stage.assert_healthy();
    stage.stop();
}

#[test]
fn a_crowd_costs_no_stall_and_no_memory_with_io_uring_or_what_there_is() {
    a_crowd_costs_nothing("auto");
}

#[test]
fn a_crowd_costs_no_stall_and_no_memory_with_posix() {
    a_crowd_costs_nothing("posix");
}

#[test]
fn half_finished_logins_push_out_each_other_and_nobody_else() {
    let stage = Stage::new("auto", "", &[]);
    raise_file_limit(0).unwrap();
    let witness = stage.witness(2);
    let files = stage.open_files();
    let kinds = [Misbehaviour::Silent, Misbehaviour::HalfHeader, Misbehaviour::HalfText];
    let mut crowd = Crowd::open(stage.daemon.portal(), &rogue(), &kinds, CROWD_OF_LOGINS, 3).unwrap();
    witness.wait_progress(PROGRESS, PATIENCE).unwrap();
    // Two reactors; some of the crowd may still wait to be accepted.
    let most = 2 * MAX_PENDING_LOGINS;
    let deadline = Instant::now() + PATIENCE;
    while crowd.state().open > most {
        assert!(Instant::now() < deadline, "{:?}", crowd.state());
        thread::yield_now();
    }
    assert_eq!(crowd.state(), CrowdState { open: most, closed: CROWD_OF_LOGINS - most, refused: 0 });
    assert_eq!(stage.open_files(), files + most);
    // The next one that means it gets in, and the crowd stays as it is.
    stage.assert_healthy();
    assert!(crowd.state().open >= most - 2, "{:?}", crowd.state());
    // And when nobody comes, time ends them.
    assert_eq!(crowd.wait_all_closed(PATIENCE).unwrap().open, 0);
    stage.wait_open_files(files);
    witness.stop().unwrap();
    stage.stop();
}

#[test]
fn logins_beyond_max_sessions_are_out_of_resources() {
    let stage = Stage::new("auto", "MaxSessions 50", &[]);
    let files = stage.open_files();
    let witness = stage.witness(3);
    let results = login_flood(stage.daemon.portal(), &rogue(), 400, 8);
    let refused = LoginResult::Refused { class: 3, detail: 2 };
    // The witness has the fiftieth.
    assert_eq!(results, BTreeMap::from([(LoginResult::LoggedIn, 49), (refused.clone(), 351)]));
    // Discovery needs no session of the target.
    stage.wait_open_files(files + 1);
    assert_eq!(try_login(stage.daemon.portal(), LoginConfig::discovery(HOST)), LoginResult::LoggedIn);
    witness.stop().unwrap();
    stage.wait_open_files(files);
    let mut sessions: Vec<Initiator> =
        (0..50).map(|n| Initiator::connect(stage.daemon.portal(), rogue().with_isid(n)).unwrap()).collect();
    assert_eq!(try_login(stage.daemon.portal(), rogue().with_isid(50)), refused);
    // Who has a session may log in again with it, and one that goes makes room for another.
    assert_eq!(try_login(stage.daemon.portal(), rogue().with_isid(7)), LoginResult::LoggedIn);
    sessions.remove(9).logout_and_wait().unwrap();
    stage.wait_open_files(files + 48);
    assert_eq!(try_login(stage.daemon.portal(), rogue().with_isid(50)), LoginResult::LoggedIn);
    drop(sessions);
    stage.wait_open_files(files);
    stage.assert_healthy();
    stage.stop();
}

#[test]
fn a_storm_of_logins_of_one_session_leaves_one() {
    let stage = Stage::new("auto", "", &[]);
    let portal = stage.daemon.portal();
    let files = stage.open_files();
    let witness = stage.witness(4);
    let logins: Vec<(LoginResult, Option<Initiator>)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(move || {
                    let login = |_| match Initiator::connect(portal, rogue()) {
                        Ok(initiator) => (LoginResult::LoggedIn, Some(initiator)),
                        Err(error) => (LoginResult::from(Err(error)), None),
                    };
                    (0..50).map(login).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    let mut counts = BTreeMap::new();
    for (result, _) in &logins {
        *counts.entry(result.clone()).or_insert(0) += 1;
    }
    eprintln!("storm: {counts:?}");
    // Everybody gets in, or is told by a close that somebody later has taken the place.
    assert!(counts.keys().all(|r| matches!(r, LoginResult::LoggedIn | LoginResult::Closed)), "{counts:?}");
    // Of all these sessions one is left, besides the witness's.
    stage.wait_open_files(files + 2);
    assert_eq!(stage.open_files(), files + 2);
    drop(logins);
    stage.wait_open_files(files + 1);
    witness.wait_progress(PROGRESS, PATIENCE).unwrap();
    witness.stop().unwrap();
    stage.assert_healthy();
    stage.stop();
}
