//! Peers that stop in the middle: they never read what they asked for, or never send what they announced.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Instant;

use scst_testkit::hostile::Witness;
use scst_testkit::initiator::{Amount, DataOutPlan, tmf};
use scst_testkit::pdu::{Digests, Pdu, opcode};
use scst_testkit::scsi::cdb::{self, RwFlags};
use scst_testkit::{Command, Initiator};

use crate::stage::{PATIENCE, Stage, rogue};

const PROGRESS: u64 = 200;

/// Writes until the peer takes no more, although others made progress meanwhile. Returns how much it took.
fn write_until_held_back(stream: &TcpStream, bytes: &[u8], limit: usize, witness: &Witness) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (mut taken, mut at, mut stuck) = (0, 0, 0);
    let mut stream = stream;
    while stuck < 3 && taken < limit {
        match stream.write(&bytes[at..]) {
            Ok(sent) => (taken, at, stuck) = (taken + sent, (at + sent) % bytes.len(), 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                stuck += 1;
                witness.wait_progress(PROGRESS, PATIENCE).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    taken
}

#[test]
fn peers_that_never_read_are_held_back() {
    /// Such peers.
    const PEERS: usize = 20;
    /// More than the socket buffers of both sides hold (tcp_rmem and tcp_wmem end at 6 MiB and 4 MiB).
    const LIMIT: usize = 64 << 20;
    for backend in ["auto", "posix"] {
        let stage = Stage::new(backend, "", &[]);
        let witness = stage.witness(5);
        witness.wait_progress(PROGRESS, PATIENCE).unwrap();
        let before = stage.daemon.resident_memory().unwrap();
        let ping = Pdu::new(opcode::NOP_OUT | 0x40).with_u32(16, 7).with_u32(24, 2).with_data(vec![1; 4096]);
        let pings = ping.to_bytes(Digests::default()).repeat(64);
        let peers: Vec<Initiator> = (0..PEERS).map(|n| stage.login(rogue().with_isid(n as u16))).collect();
        let taken: Vec<usize> =
            peers.iter().map(|peer| write_until_held_back(peer.stream(), &pings, LIMIT, &witness)).collect();
        assert!(taken.iter().all(|&bytes| bytes < LIMIT), "{taken:?}");
        let after = stage.daemon.resident_memory().unwrap();
        eprintln!("{backend}: {before} before, {after} with {PEERS} peers that sent {taken:?} bytes of pings");
        // At most 256 KiB of answers and 64 KiB of read-ahead each, and as much again for what the heap and the pool
        // round up.
        assert!(after <= before + PEERS as u64 * 2 * (320 << 10), "{before} {after}");
        drop(peers);
        witness.wait_progress(PROGRESS, PATIENCE).unwrap();
        witness.stop().unwrap();
        stage.assert_healthy();
        stage.stop();
    }
}

/// Sends as many of one command as the window has, and reads no answer.
fn fill_window(peer: &mut Initiator, command: &Command) {
    let (_, max) = peer.core().window();
    while peer.core().cmd_sn() != max + 1 {
        peer.core().submit(command.clone());
    }
    peer.flush().unwrap();
}

/// Peers that hold all the buffers they can get, large ones and then whatever still fits, and what others get: their
/// logins, task management, an answer to each command, and the memory back in the end.
fn hogs(command: impl Fn(u32) -> Command) {
    const PEERS: u16 = 12;
    let stage = Stage::new("auto", "", &["--max-cmd-mem", "128M"]);
    let witness = stage.witness(6);
    witness.wait_progress(PROGRESS, PATIENCE).unwrap();
    let before = stage.daemon.resident_memory().unwrap();
    let mut peers: Vec<Initiator> = (0..PEERS).map(|n| stage.login(rogue().with_isid(n))).collect();
    for (peer, shift) in peers.iter_mut().zip([0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10]) {
        fill_window(peer, &command(16_384 >> shift));
    }
    for peer in &peers {
        wait_until_read(peer, &stage);
    }
    // Commands of others may be told BUSY or TASK SET FULL now, but whoever wants to log in, ask and manage can.
    let during = stage.daemon.resident_memory().unwrap();
    assert!(during <= before + (128 << 20) + (16 << 20), "the budget is a bound: {before} {during}");
    let mut host = stage.host();
    assert_eq!(host.task_management(tmf::ABORT_TASK, 0, Some(0x4242)).unwrap(), tmf::response::TASK_DOES_NOT_EXIST);
    host.logout_and_wait().unwrap();
    drop(peers);
    let report = witness.wait_progress(PROGRESS, PATIENCE).unwrap();
    eprintln!("hogs: {before} before, {during} during, {report:?}");
    witness.stop().unwrap();
    stage.assert_healthy();
    stage.stop();
}

#[test]
fn reads_that_nobody_takes_keep_nobody_out() {
    hogs(|blocks| Command::read_blocks(0, 0, blocks, 512));
}

#[test]
fn writes_that_nobody_sends_keep_nobody_out() {
    let plan = DataOutPlan {
        immediate: Amount::Bytes(0),
        unsolicited: Amount::Bytes(0),
        hold: true,
        ..DataOutPlan::default()
    };
    hogs(|blocks| Command::write_blocks(0, 16_384, 512, vec![0; 512 * blocks as usize]).with_plan(plan));
}

/// A WRITE whose R2T is never answered.
fn never_sent(bytes: usize) -> Command {
    let plan = DataOutPlan {
        immediate: Amount::Bytes(0),
        unsolicited: Amount::Bytes(0),
        hold: true,
        segment: Some(8192),
        ..DataOutPlan::default()
    };
    Command::write_blocks(0, 1000, 512, vec![0xee; bytes]).with_plan(plan)
}

#[test]
fn a_reset_ends_commands_whose_data_never_come() {
    for backend in ["auto", "posix"] {
        let stage = Stage::new(backend, "", &[]);
        let mut host = stage.host();
        let mut rogue = stage.rogue();
        // The one that sent them may abort them one by one; another one ends all of them.
        let own = rogue.submit(never_sent(65_536)).unwrap();
        rogue.wait_r2t(own).unwrap();
        assert_eq!(rogue.task_management(tmf::ABORT_TASK, 0, Some(own)).unwrap(), tmf::response::COMPLETE);
        rogue.core().forget(own);
        for function in [tmf::LOGICAL_UNIT_RESET, tmf::TARGET_WARM_RESET] {
            let tags: Vec<_> = (0..8).map(|_| rogue.submit(never_sent(65_536)).unwrap()).collect();
            let r2ts: Vec<_> = tags.iter().map(|&tag| rogue.wait_r2t(tag).unwrap()).collect();
            assert_eq!(host.task_management(function, 0, None).unwrap(), tmf::response::COMPLETE, "{function}");
            host.clear_unit_attentions(0).unwrap();
            // The data come after all; they must not get to the medium.
            let data = vec![0x11; 128 * 512];
            host.run(Command::write_blocks(0, 1000, 512, data.clone())).unwrap();
            for r2t in r2ts {
                rogue.core().send_data_out(r2t.itt, r2t.ttt, r2t.offset, r2t.length);
            }
            for &tag in &tags {
                rogue.core().forget(tag);
            }
            assert_eq!(rogue.ping(b"after the data").unwrap(), b"after the data");
            assert!(!rogue.clear_unit_attentions(0).unwrap().is_empty(), "the rogue is told");
            assert!(host.run(Command::read_blocks(0, 1000, 128, 512)).unwrap().data_in == data);
        }
        stage.stop();
    }
}

/// Waits until the daemon has taken all bytes of a connection, so that a reset over another one cannot overtake them.
fn wait_until_read(initiator: &Initiator, stage: &Stage) {
    let (here, there) = (initiator.stream().local_addr().unwrap().port(), stage.daemon.portal().port());
    let deadline = Instant::now() + PATIENCE;
    let queues = |local: u16, remote: u16| {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let ends = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[1].ends_with(&format!(":{local:04X}")) && fields[2].ends_with(&format!(":{remote:04X}"))
        };
        let line = table.lines().skip(1).find(ends).unwrap();
        line.split_whitespace().nth(4).unwrap().to_owned()
    };
    // "tx_queue:rx_queue": nothing on the way, nothing unread.
    let none = "00000000";
    while !queues(here, there).starts_with(none) || !queues(there, here).ends_with(none) {
        assert!(Instant::now() < deadline, "the daemon does not read");
        std::thread::yield_now();
    }
}

#[test]
fn a_reset_does_not_wait_for_ever_for_half_a_data_pdu() {
    for backend in ["auto", "posix"] {
        let stage = Stage::new(backend, "", &[]);
        let mut host = stage.host();
        let mut rogue = stage.rogue();
        let tag = rogue.submit(never_sent(65_536)).unwrap();
        let r2t = rogue.wait_r2t(tag).unwrap();
        let pdu = Pdu::new(opcode::DATA_OUT).with_u32(16, tag).with_u32(20, r2t.ttt).with_data(vec![0xdd; 65_536]);
        rogue.send_bytes(&pdu.with_u32(28, 0).to_bytes(Digests::default())[..30_000]).unwrap();
        wait_until_read(&rogue, &stage);
        // The data go straight into the buffer of the command: it cannot be given to others before they end. So the
        // connection has to (`ABORT_DATA_TIMEOUT`).
        assert_eq!(host.task_management(tmf::LOGICAL_UNIT_RESET, 0, None).unwrap(), tmf::response::COMPLETE);
        rogue.wait_closed().unwrap();
        host.clear_unit_attentions(0).unwrap();
        stage.assert_healthy();
        stage.stop();
    }
}

#[test]
fn the_daemon_stops_whatever_hangs_around() {
    for backend in ["auto", "posix"] {
        let stage = Stage::new(backend, "", &[]);
        // Data that never come, half a data PDU, answers that nobody reads, half a header, half a login, nothing.
        let mut never = stage.rogue();
        let tag = never.submit(never_sent(65_536)).unwrap();
        never.wait_r2t(tag).unwrap();
        let mut half = stage.login(rogue().with_isid(2));
        let tag = half.submit(never_sent(65_536)).unwrap();
        let r2t = half.wait_r2t(tag).unwrap();
        let pdu = Pdu::new(opcode::DATA_OUT).with_u32(16, tag).with_u32(20, r2t.ttt).with_data(vec![0xdd; 65_536]);
        half.send_bytes(&pdu.to_bytes(Digests::default())[..30_000]).unwrap();
        let mut unread = stage.login(rogue().with_isid(3));
        fill_window(&mut unread, &Command::read(0, cdb::read16(0, 2048, RwFlags::NONE), 1 << 20));
        let mut header = stage.login(rogue().with_isid(4));
        header.send_bytes(&[1; 20]).unwrap();
        let mut login = Initiator::open(stage.daemon.portal(), rogue().with_isid(5)).unwrap();
        login.send_bytes(&[0x43; 20]).unwrap();
        let silent = TcpStream::connect(stage.daemon.portal()).unwrap();
        stage.assert_healthy();
        stage.stop();
        drop((never, half, unread, header, login, silent));
    }
}
