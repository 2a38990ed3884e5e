//! PDUs after a valid login that no initiator may send.

use scst_testkit::initiator::{Amount, DataOutPlan, Event, Residual, Tamper, tmf};
use scst_testkit::pdu::{Digests, Pdu, RESERVED_TAG, opcode};
use scst_testkit::scsi::cdb::{self, RwFlags};
use scst_testkit::{Command, Initiator};

use crate::stage::{Stage, rogue, tamper_once};

const DATA_DIGEST_ERROR: u8 = 2;
const SNACK_REJECT: u8 = 3;
const PROTOCOL_ERROR: u8 = 4;
const NOT_SUPPORTED: u8 = 5;
const TASK_IN_PROGRESS: u8 = 7;
const INVALID_FIELD: u8 = 9;

/// Sense of data that the protocol forbids (RFC 7143 11.4.7.2).
const UNEXPECTED_DATA: Option<(u8, u8, u8)> = Some((0xb, 0x0c, 0x0c));
const WRONG_AMOUNT: Option<(u8, u8, u8)> = Some((0xb, 0x0c, 0x0d));
/// Protocol service CRC error: a PDU of the sequence was lost.
const LOST: Option<(u8, u8, u8)> = Some((0xb, 0x47, 0x05));
const DATA_CRC: Option<(u8, u8, u8)> = Some((0xb, 0x47, 0x05));

/// The session goes on as if nothing had been.
fn assert_goes_on(host: &mut Initiator) {
    host.core().set_hook(None);
    let data: Vec<u8> = (0..64 * 512_u32).map(|i| (i * 7) as u8).collect();
    host.run(Command::write_blocks(0, 20_000, 512, data.clone())).unwrap();
    assert!(host.run(Command::read_blocks(0, 20_000, 64, 512)).unwrap().data_in == data);
    let strange: Vec<Event> =
        host.take_events().into_iter().filter(|event| !matches!(event, Event::Pinged { .. })).collect();
    assert!(strange.is_empty(), "{strange:?}");
}

fn write_of(bytes: usize) -> Command {
    Command::write_blocks(0, 16_384, 512, vec![0x5a; bytes])
}

/// A WRITE of so many bytes whose data all wait for R2Ts.
fn solicited(bytes: usize) -> Command {
    let plan = DataOutPlan {
        immediate: Amount::Bytes(0),
        unsolicited: Amount::Bytes(0),
        segment: Some(4096),
        ..DataOutPlan::default()
    };
    write_of(bytes).with_plan(plan)
}

#[test]
fn command_numbers_that_are_wrong_are_ignored() {
    let stage = Stage::new("auto", "", &[]);
    let mut rogue = stage.rogue();
    let right = rogue.core().cmd_sn();
    let (_, max) = rogue.core().window();
    // Outside the window, on both sides: not executed and not answered (RFC 7143 4.2.2.1).
    for wrong in [right.wrapping_sub(1), right.wrapping_sub(1000), max + 1, right.wrapping_add(1 << 31)] {
        let mut pdu = Pdu::new(opcode::SCSI_COMMAND).with_flags(0x81).with_u32(16, 0x7777).with_u32(20, 0);
        pdu.set_u32(24, wrong);
        rogue.send_raw(pdu.clone()).unwrap();
        pdu.bhs[0] = opcode::NOP_OUT;
        rogue.send_raw(pdu.with_u32(20, RESERVED_TAG)).unwrap();
    }
    assert_eq!(rogue.ping(b"alive").unwrap(), b"alive");
    assert_goes_on(&mut rogue);

    // A gap: the later ones wait, and come in the order of their numbers.
    let right = rogue.core().cmd_sn();
    rogue.core().set_cmd_sn(right + 1);
    let second = rogue.submit(write_of(512)).unwrap();
    let third = rogue.submit(Command::read_blocks(0, 16_384, 1, 512)).unwrap();
    assert_eq!(rogue.ping(b"still").unwrap(), b"still");
    assert!(rogue.try_outcome(second).is_none() && rogue.try_outcome(third).is_none());
    rogue.core().set_cmd_sn(right);
    let first = rogue.submit(Command::new(0, cdb::test_unit_ready())).unwrap();
    rogue.core().set_cmd_sn(right + 3);
    for tag in [first, second, third] {
        assert!(rogue.wait(tag).unwrap().is_good());
    }
    // A task tag that is in use.
    rogue.tolerate();
    let held = rogue.submit(solicited(4096).with_plan(DataOutPlan { hold: true, ..solicited(1).plan })).unwrap();
    let r2t = rogue.wait_r2t(held).unwrap();
    let same = Pdu::new(opcode::SCSI_COMMAND).with_flags(0x81).with_u32(16, held).with_u32(20, 0);
    let cmd_sn = rogue.core().cmd_sn();
    rogue.send_raw(same.with_u32(24, cmd_sn)).unwrap();
    rogue.core().set_cmd_sn(cmd_sn + 1);
    assert_eq!(rogue.wait_reject().unwrap().reason, TASK_IN_PROGRESS);
    rogue.core().send_data_out(held, r2t.ttt, r2t.offset, r2t.length);
    assert!(rogue.wait(held).unwrap().is_good());
    assert_goes_on(&mut rogue);
    stage.stop();
}

#[test]
fn data_that_nobody_asked_for_end_the_command_and_nothing_else() {
    let stage = Stage::new("auto", "", &[]);
    let mut rogue = stage.rogue();
    rogue.tolerate();
    let first_burst = rogue.parameters().first_burst_length as usize;

    // More immediate data than the first burst, more unsolicited data than that, and more than the command has.
    let plan = |immediate, unsolicited| DataOutPlan {
        immediate: Amount::Bytes(immediate),
        unsolicited: Amount::Bytes(unsolicited),
        segment: Some(8192),
        ..DataOutPlan::default()
    };
    let all = first_burst + 8192;
    assert_eq!(rogue.execute(write_of(2 * all).with_plan(plan(all, 0))).unwrap().kcq(), WRONG_AMOUNT);
    assert_goes_on(&mut rogue);
    assert_eq!(rogue.execute(write_of(2 * all).with_plan(plan(0, all))).unwrap().kcq(), WRONG_AMOUNT);
    assert_goes_on(&mut rogue);
    let beyond = write_of(16_384).with_plan(plan(16_384, 0)).with_expected_length(8192);
    assert_eq!(rogue.execute(beyond).unwrap().kcq(), WRONG_AMOUNT);
    assert_goes_on(&mut rogue);

    // A Data-Out with a wrong DataSN or offset: a Reject, and the command ends when the sequence does.
    for (field, value, kcq) in [(36, 7, LOST), (40, 512, WRONG_AMOUNT), (40, 0xffff_fe00, WRONG_AMOUNT)] {
        tamper_once(&mut rogue, opcode::DATA_OUT, move |pdu| pdu.set_u32(field, value));
        let outcome = rogue.execute(solicited(65_536)).unwrap();
        assert_eq!(outcome.kcq(), kcq, "field {field}");
        assert_eq!(rogue.wait_reject().unwrap().reason, PROTOCOL_ERROR);
        rogue.take_events();
        assert_goes_on(&mut rogue);
    }

    // More than the R2T asked for, and less.
    for (longer, what) in [(true, "more"), (false, "less")] {
        let held = solicited(65_536).with_plan(DataOutPlan { hold: true, ..solicited(1).plan });
        let length = rogue.parameters().max_burst_length as usize + 65_536;
        let held =
            Command { data_out: vec![1; length], cdb: cdb::write16(0, length as u32 / 512, RwFlags::NONE), ..held };
        let tag = rogue.submit(held).unwrap();
        let r2t = rogue.wait_r2t(tag).unwrap();
        let sent = if longer { length as u32 } else { 4096 };
        rogue.core().send_data_out(tag, r2t.ttt, r2t.offset, sent);
        // The second R2T asks for the rest.
        let rest = rogue.wait_r2t(tag).unwrap();
        rogue.core().send_data_out(tag, rest.ttt, rest.offset, rest.length);
        assert_eq!(rogue.wait(tag).unwrap().kcq(), WRONG_AMOUNT, "{what}");
        rogue.take_events();
        assert_goes_on(&mut rogue);
    }

    // A transfer tag of nobody is rejected; a task tag of nobody may be that of a command that is gone.
    tamper_once(&mut rogue, opcode::DATA_OUT, |pdu| pdu.set_u32(20, 0x1234_5678));
    let tag = rogue.submit(solicited(4096)).unwrap();
    assert_eq!(rogue.wait_reject().unwrap().reason, PROTOCOL_ERROR);
    assert_eq!(rogue.task_management(tmf::ABORT_TASK, 0, Some(tag)).unwrap(), tmf::response::COMPLETE);
    rogue.core().forget(tag);
    let stray = Pdu::new(opcode::DATA_OUT).with_u32(16, 0x6666).with_u32(20, 0x6666).with_data([1; 4096]);
    for _ in 0..100 {
        rogue.send_raw(stray.clone()).unwrap();
    }
    assert_goes_on(&mut rogue);
    stage.stop();
}

#[test]
fn unsolicited_data_are_refused_where_they_were_not_agreed() {
    let stage = Stage::new("auto", "", &[]);
    let no_data = rogue().with_key("InitialR2T", "Yes").with_key("ImmediateData", "No");
    let mut rogue = stage.login(no_data);
    rogue.tolerate();
    for (immediate, unsolicited) in [(4096, 0), (0, 4096), (2048, 2048)] {
        let plan = DataOutPlan {
            immediate: Amount::Bytes(immediate),
            unsolicited: Amount::Bytes(unsolicited),
            ..DataOutPlan::default()
        };
        assert_eq!(rogue.execute(write_of(4096).with_plan(plan)).unwrap().kcq(), UNEXPECTED_DATA);
        assert_goes_on(&mut rogue);
    }
    stage.stop();
}

#[test]
fn wrong_digests_are_noticed() {
    let digests = "HeaderDigest CRC32C,None\nDataDigest CRC32C,None";
    let stage = Stage::new("auto", digests, &[]);
    let login = || rogue().with_digests(Digests { header: true, data: true });

    // The data: the PDU is rejected, its command ends, the session stays (RFC 7143 7.8).
    let mut rogue = stage.login(login());
    rogue.tolerate();
    let commands = [
        (opcode::SCSI_COMMAND, write_of(4096)),
        (opcode::DATA_OUT, solicited(4096)),
        (opcode::DATA_OUT, solicited(262_144)),
    ];
    for (code, command) in commands {
        tamper_once(&mut rogue, code, |pdu| pdu.corrupt.data = true);
        assert_eq!(rogue.execute(command).unwrap().kcq(), DATA_CRC);
        assert_eq!(rogue.wait_reject().unwrap().reason, DATA_DIGEST_ERROR);
        assert_goes_on(&mut rogue);
    }
    // A ping with bad data is rejected and forgotten.
    tamper_once(&mut rogue, opcode::NOP_OUT, |pdu| pdu.corrupt.data = true);
    rogue.core().ping(b"bad", true);
    assert_eq!(rogue.wait_reject().unwrap().reason, DATA_DIGEST_ERROR);
    assert_goes_on(&mut rogue);

    // The header: nothing after it can be trusted.
    tamper_once(&mut rogue, opcode::SCSI_COMMAND, |pdu| pdu.corrupt.header = true);
    rogue.submit(write_of(4096)).unwrap();
    rogue.wait_closed().unwrap();
    // No digests at all, where some were agreed, are wrong ones.
    let mut rogue = stage.login(login());
    rogue.core().set_digests(Digests::default());
    rogue.core().ping(&[0; 64], false);
    rogue.flush().unwrap();
    rogue.wait_closed().unwrap();
    stage.assert_healthy();
    stage.stop();
}

#[test]
fn segments_and_headers_that_are_too_long_are_refused() {
    let stage = Stage::new("auto", "MaxRecvDataSegmentLength 65536", &[]);
    // The most additional headers that a header can announce: 1,020 bytes of nothing known.
    let mut rogue = stage.rogue();
    rogue.tolerate();
    let headers: [&[u8]; 4] = [
        &[0; 1020],
        // A segment that ends behind all of them, one of an unknown type, one without a length.
        &[0x03, 0xfc, 1, 0],
        &[0, 5, 0x3f, 0, 0, 0, 0, 0],
        &[0xff, 0xff, 1, 0, 0, 0, 0, 0],
    ];
    for ahs in headers {
        let ahs = ahs.to_vec();
        tamper_once(&mut rogue, opcode::SCSI_COMMAND, move |pdu| pdu.ahs.clone_from(&ahs));
        let tag = rogue.submit(Command::new(0, cdb::test_unit_ready())).unwrap();
        assert_eq!(rogue.wait_reject().unwrap().reason, INVALID_FIELD);
        rogue.core().forget(tag);
        assert_goes_on(&mut rogue);
    }

    // One byte more than was declared, and the most that a header can say.
    for length in [65_537, 0xff_ffff_usize] {
        let mut rogue = stage.rogue();
        let mut header = Pdu::new(opcode::NOP_OUT | 0x40).with_u32(16, 5).to_bytes(Digests::default());
        header[5..8].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
        rogue.send_bytes(&header).unwrap();
        rogue.wait_closed().unwrap();
    }
    stage.assert_healthy();
    stage.stop();
}

#[test]
fn what_is_not_supported_is_rejected() {
    let stage = Stage::new("auto", "", &[]);
    let mut rogue = stage.rogue();
    rogue.tolerate();
    // Opcodes of nobody, of targets, of vendors; with data, that are skipped.
    for code in [0x07, 0x0f, 0x11, 0x1c, 0x1f, 0x20, 0x21, 0x25, 0x31, 0x3e, 0x3f] {
        rogue.send_raw(Pdu::new(0x40 | code).with_u32(16, 9).with_data(vec![code; 1000])).unwrap();
        let reject = rogue.wait_reject().unwrap();
        assert_eq!((reject.reason, reject.header[0]), (NOT_SUPPORTED, 0x40 | code));
    }
    for kind in 0..4 {
        rogue.send_raw(Pdu::new(opcode::SNACK).with_flags(0x80 | kind).with_u32(16, 9)).unwrap();
        assert_eq!(rogue.wait_reject().unwrap().reason, SNACK_REJECT, "SNACK of type {kind}");
    }
    assert_goes_on(&mut rogue);

    // Functions on tasks and units that are not there.
    let mut manage = |function, lun, task| rogue.task_management(function, lun, task).unwrap();
    use tmf::response as is;
    assert_eq!(manage(tmf::ABORT_TASK, 0, Some(0x4242)), is::TASK_DOES_NOT_EXIST);
    assert_eq!(manage(tmf::ABORT_TASK_SET, 77, None), is::LUN_DOES_NOT_EXIST);
    assert_eq!(manage(tmf::CLEAR_TASK_SET, 77, None), is::LUN_DOES_NOT_EXIST);
    assert_eq!(manage(tmf::LOGICAL_UNIT_RESET, 77, None), is::LUN_DOES_NOT_EXIST);
    assert_eq!(manage(tmf::TASK_REASSIGN, 0, Some(1)), is::REASSIGN_NOT_SUPPORTED);
    for function in [0, 9, 0x40, 0x7f] {
        assert_eq!(manage(function, 0, None), is::NOT_SUPPORTED, "function {function}");
    }
    assert_goes_on(&mut rogue);
    stage.stop();
}

#[test]
fn lengths_that_cannot_be_are_residuals_or_errors() {
    let stage = Stage::new("auto", "", &[]);
    let mut rogue = stage.rogue();
    rogue.tolerate();
    // Four gigabytes announced, one block meant.
    let read = Command::read(0, cdb::read16(0, 1, RwFlags::NONE), 512).with_expected_length(u32::MAX);
    let outcome = rogue.execute(read).unwrap();
    assert_eq!((outcome.is_good(), outcome.data_in.len()), (true, 512));
    assert_eq!(outcome.residual, Residual::Underflow(u32::MAX - 512));
    let write = write_of(4096).with_expected_length(u32::MAX);
    let outcome = rogue.execute(write).unwrap();
    assert!(outcome.is_good(), "{outcome:?}");
    assert_eq!(outcome.residual, Residual::Underflow(u32::MAX - 4096));
    // And meant: more blocks than there are, more than one command may move.
    for (lba, blocks) in [(0, u32::MAX), (u64::MAX, 1), (u64::MAX, u32::MAX), (0, 1 << 23)] {
        let read = Command::read(0, cdb::read16(lba, blocks, RwFlags::NONE), 512).with_expected_length(u32::MAX);
        assert_eq!(rogue.execute(read).unwrap().kcq().map(|kcq| kcq.0), Some(5), "ILLEGAL REQUEST");
        let write = Command::write(0, cdb::write16(lba, blocks, RwFlags::NONE), vec![0; 512]);
        assert_eq!(rogue.execute(write.with_expected_length(u32::MAX)).unwrap().kcq().map(|kcq| kcq.0), Some(5));
    }
    // Every operation code, with nothing but zeros or ones behind it.
    for code in 0..=0xff {
        for fill in [0, 0xff] {
            // FORMAT UNIT and its like would be honest requests to destroy; this disk has none of those.
            let mut cdb = vec![fill; 16];
            cdb[0] = code;
            rogue.execute(Command::read(0, cdb, 64)).unwrap();
        }
    }
    rogue.core().set_hook(Some(Box::new(|_| Tamper::Send)));
    rogue.clear_unit_attentions(0).ok();
    rogue.take_events();
    drop(rogue);
    stage.assert_healthy();
    stage.stop();
}
