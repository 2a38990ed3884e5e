//! Peers that stop in the middle: they never read what they asked for, or never send what they announced.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;

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

/// Peers that hold all the buffers they can get do not keep others from theirs.
fn hogs(command: &Command) {
    const PEERS: u16 = 6;
    let stage = Stage::new("auto", "", &["--max-cmd-mem", "128M"]);
    let witness = stage.witness(6);
    witness.wait_progress(PROGRESS, PATIENCE).unwrap();
    let before = stage.daemon.resident_memory().unwrap();
    let mut peers: Vec<Initiator> = (0..PEERS).map(|n| stage.login(rogue().with_isid(n))).collect();
    for peer in &mut peers {
        fill_window(peer, command);
    }
    let report = witness.wait_progress(PROGRESS, PATIENCE).unwrap();
    let during = stage.daemon.resident_memory().unwrap();
    eprintln!("hogs: {before} before, {during} during, {report:?}");
    assert!(during <= before + (128 << 20) + (16 << 20), "the budget is a bound: {before} {during}");
    stage.assert_healthy();
    drop(peers);
    witness.stop().unwrap();
    stage.assert_healthy();
    stage.stop();
}

#[test]
fn reads_of_8_mib_that_nobody_takes_leave_buffers_to_others() {
    hogs(&Command::read_blocks(0, 0, 16_384, 512));
}

#[test]
fn writes_of_8_mib_that_nobody_sends_leave_buffers_to_others() {
    let plan = DataOutPlan {
        immediate: Amount::Bytes(0),
        unsolicited: Amount::Bytes(0),
        hold: true,
        ..DataOutPlan::default()
    };
    hogs(&Command::write_blocks(0, 16_384, 512, vec![0; 8 << 20]).with_plan(plan));
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
        // Other functions on the way: the rogue's own ABORT TASK, then CLEAR TASK SET and a reset by the host.
        let own = rogue.submit(never_sent(65_536)).unwrap();
        rogue.wait_r2t(own).unwrap();
        assert_eq!(rogue.task_management(tmf::ABORT_TASK, 0, Some(own)).unwrap(), tmf::response::COMPLETE);
        rogue.core().forget(own);
        for function in [tmf::CLEAR_TASK_SET, tmf::LOGICAL_UNIT_RESET, tmf::TARGET_WARM_RESET] {
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
