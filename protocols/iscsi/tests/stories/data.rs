//! Commands and their data: Data-In, immediate and unsolicited data, R2Ts, residuals, digests.

use scst_protocol_iscsi::connection::{AbortData, TaskResponse};
use scst_protocol_iscsi::event::{CommandEvent, Input, RecvEvent};
use scst_protocol_iscsi::params::{DigestPolicy, TargetParameters};
use scst_protocol_iscsi::pdu::*;
use scst_scsi::sense::SenseFormat;
use scst_scsi::{Asc, ScsiStatus, SenseData, SenseKey};

use crate::common::*;

const UNEXPECTED: Asc = Asc(0x0c0c);
const AMOUNT: Asc = Asc(0x0c0d);
const CRC: Asc = Asc(0x4705);

fn aborted(asc: Asc) -> SenseData {
    SenseData::new(SenseKey::ABORTED_COMMAND, asc)
}

fn opcodes(pdus: &[Pdu]) -> Vec<u8> {
    pdus.iter().map(Pdu::opcode).collect()
}

fn send_read(pair: &mut Pair, itt: u32, length: u32) -> CommandEvent {
    let pdu = pair.command(itt, "r", length);
    command_of(&pair.send(pdu.emit(), &[]))
}

fn finish_write(pair: &mut Pair, command: &CommandEvent) -> ScsiResponse {
    pair.good(command.task, 0, command.write_length);
    let pdus = pair.receive();
    assert_eq!(opcodes(&pdus), [opcode::SCSI_RESPONSE]);
    ScsiResponse::parse(&pdus[0].header)
}

/// The sense data of a CHECK CONDITION.
fn sense_of(pdu: &Pdu) -> SenseData {
    let response = ScsiResponse::parse(&pdu.header);
    assert_eq!(response.status, ScsiStatus::CHECK_CONDITION.0);
    assert_eq!(usize::from(u16::from_be_bytes([pdu.data[0], pdu.data[1]])), pdu.data.len() - 2);
    SenseData::parse(&pdu.data[2..]).unwrap().data
}

fn params(keys: &[(&str, &str)]) -> Pair {
    Pair::new(TargetParameters::default(), keys)
}

#[test]
fn a_short_read_is_one_data_in_with_status() {
    let mut pair = Pair::plain();
    let command = send_read(&mut pair, 1, 5);
    assert_eq!((command.cmd_sn, command.held, command.read_length, command.write_length), (100, false, 5, 0));
    assert_eq!((command.lun, command.cdb.opcode()), (LUN, 0x28));
    pair.buffers.insert(command.task.to_bits(), pattern(5, 1));
    pair.good(command.task, 5, 5);
    let pdus = pair.receive();
    assert_eq!(opcodes(&pdus), [opcode::DATA_IN]);
    assert_eq!(pdus[0].data, pattern(5, 1));
    let expected = DataIn {
        last: true,
        acknowledge: false,
        overflow: false,
        underflow: false,
        has_status: true,
        status: 0,
        data_length: 5,
        lun: Default::default(),
        itt: 1,
        ttt: RESERVED_TAG,
        stat_sn: 501,
        exp_cmd_sn: 101,
        max_cmd_sn: 132,
        data_sn: 0,
        buffer_offset: 0,
        residual: 0,
    };
    assert_eq!(DataIn::parse(&pdus[0].header), expected);
    assert_eq!((pair.finished.as_slice(), pair.session.tasks()), (&[1][..], 0));
}

#[test]
fn a_long_read_is_cut_by_segment_and_burst() {
    let mut pair = params(&[("MaxRecvDataSegmentLength", "1024"), ("MaxBurstLength", "2560")]);
    let command = send_read(&mut pair, 9, 6000);
    pair.buffers.insert(command.task.to_bits(), pattern(6000, 3));
    pair.good(command.task, 6000, 6000);
    let pdus = pair.receive();
    let got: Vec<_> = pdus
        .iter()
        .map(|p| DataIn::parse(&p.header))
        .map(|d| (d.buffer_offset, d.data_length, d.last, d.data_sn, d.has_status, d.stat_sn))
        .collect();
    let expected = [
        (0, 1024, false, 0, false, 0),
        (1024, 1024, false, 1, false, 0),
        (2048, 512, true, 2, false, 0),
        (2560, 1024, false, 3, false, 0),
        (3584, 1024, false, 4, false, 0),
        (4608, 512, true, 5, false, 0),
        (5120, 880, true, 6, true, 501),
    ];
    assert_eq!(got, expected);
    let all: Vec<u8> = pdus.into_iter().flat_map(|p| p.data).collect();
    assert_eq!(all, pattern(6000, 3));
}

#[test]
fn residuals_of_reads() {
    for (expected_length, data_in, wanted, overflow, underflow, residual) in [
        (512, 512, 512, false, false, 0),
        (512, 36, 36, false, true, 476),
        (512, 512, 4096, true, false, 3584),
        (512, 4096, 4096, true, false, 3584),
    ] {
        let mut pair = Pair::plain();
        let command = send_read(&mut pair, 1, expected_length);
        pair.good(command.task, data_in, wanted);
        let pdu = DataIn::parse(&pair.receive()[0].header);
        assert_eq!((pdu.overflow, pdu.underflow, pdu.residual), (overflow, underflow, residual));
        assert_eq!(pdu.data_length, data_in.min(expected_length));
    }
    // Without data the response itself has the count; without an expected length everything overflows.
    let mut pair = Pair::plain();
    let command = send_read(&mut pair, 1, 512);
    pair.good(command.task, 0, 0);
    let response = ScsiResponse::parse(&pair.receive()[0].header);
    assert_eq!((response.underflow, response.residual, response.exp_data_sn), (true, 512, 0));
    let pdu = pair.command(2, "", 0);
    let command = command_of(&pair.send(pdu.emit(), &[]));
    pair.good(command.task, 0, 8);
    let response = ScsiResponse::parse(&pair.receive()[0].header);
    assert_eq!((response.overflow, response.residual), (true, 8));
}

#[test]
fn sense_data_come_in_a_response_after_the_data() {
    let mut pair = Pair::plain();
    let command = send_read(&mut pair, 1, 1024);
    let sense = SenseData::new(SenseKey::MEDIUM_ERROR, Asc(0x1100)).with_information(7);
    let mut bytes = [0; 32];
    let length = sense.emit(SenseFormat::Fixed, &mut bytes);
    let response = TaskResponse {
        status: ScsiStatus::CHECK_CONDITION,
        sense: &bytes[..length],
        data_in: 512,
        wanted: 512,
        read_wanted: 0,
    };
    assert!(pair.target.queue_response(&mut pair.session, command.task, response));
    assert!(!pair.target.queue_response(&mut pair.session, command.task, response), "only once");
    let pdus = pair.receive();
    assert_eq!(opcodes(&pdus), [opcode::DATA_IN, opcode::SCSI_RESPONSE]);
    assert!(!DataIn::parse(&pdus[0].header).has_status);
    assert_eq!(sense_of(&pdus[1]), sense);
    let response = ScsiResponse::parse(&pdus[1].header);
    assert_eq!((response.underflow, response.residual, response.exp_data_sn), (true, 512, 1));
    assert_eq!(response.stat_sn, 501);
}

#[test]
fn a_write_with_all_data_immediate() {
    let mut pair = Pair::plain();
    let pdu = pair.command(1, "w", 4096);
    let data = pattern(4096, 7);
    let events = pair.send(pdu.emit(), &data);
    let command = command_of(&events);
    assert_eq!(command.immediate_length, 4096);
    assert_eq!(events[1], RecvEvent::DataComplete { task: command.task, user: 1 });
    assert_eq!(pair.buffers[&command.task.to_bits()], data);
    assert!(pair.receive().is_empty());
    assert_eq!(finish_write(&mut pair, &command).status, 0);
}

#[test]
fn unsolicited_data_then_r2ts_bring_the_rest() {
    let mut pair = params(&[
        ("InitialR2T", "No"),
        ("FirstBurstLength", "1536"),
        ("MaxBurstLength", "2048"),
        ("MaxOutstandingR2T", "2"),
    ]);
    let data = pattern(8000, 5);
    let pdu = ScsiCommand { last: false, ..pair.command(1, "w", 8000) };
    let command = command_of(&pair.send(pdu.emit(), &data[..512]));
    assert!(pair.receive().is_empty(), "no R2T before the unsolicited data have ended");
    assert!(pair.send(pair.data_out(1, RESERVED_TAG, 0, 512, false).emit(), &data[512..1024]).is_empty());
    assert!(pair.send(pair.data_out(1, RESERVED_TAG, 1, 1024, true).emit(), &data[1024..1536]).is_empty());
    let mut r2ts: Vec<R2t> = pair.receive().iter().map(|p| R2t::parse(&p.header)).collect();
    assert_eq!(
        r2ts.iter().map(|r| (r.r2t_sn, r.buffer_offset, r.desired_length)).collect::<Vec<_>>(),
        [(0, 1536, 2048), (1, 3584, 2048)]
    );
    assert_eq!((r2ts[0].stat_sn, r2ts[0].itt, r2ts[0].lun), (501, 1, LUN));
    let mut events = Vec::new();
    let mut seen = 2;
    while !r2ts.is_empty() {
        let r2t = r2ts.remove(0);
        let (from, length) = (r2t.buffer_offset, r2t.desired_length);
        let half = length / 2;
        let first = pair.data_out(1, r2t.ttt, 0, from, false);
        events.extend(pair.send(first.emit(), &data[from as usize..][..half as usize]));
        let second = pair.data_out(1, r2t.ttt, 1, from + half, true);
        events.extend(pair.send(second.emit(), &data[(from + half) as usize..(from + length) as usize]));
        let more: Vec<R2t> = pair.receive().iter().map(|p| R2t::parse(&p.header)).collect();
        seen += more.len();
        r2ts.extend(more);
        assert!(r2ts.len() <= 2);
    }
    assert_eq!(seen, 4);
    assert_eq!(events, [RecvEvent::DataComplete { task: command.task, user: 1 }]);
    assert_eq!(pair.buffers[&command.task.to_bits()], data);
    assert_eq!(finish_write(&mut pair, &command).exp_data_sn, 4);
}

#[test]
fn without_immediate_data_everything_is_solicited() {
    let mut pair = params(&[("ImmediateData", "No"), ("InitialR2T", "Yes")]);
    let pdu = pair.command(1, "w", 512);
    let command = command_of(&pair.send(pdu.emit(), &[]));
    let r2t = R2t::parse(&pair.receive()[0].header);
    assert_eq!((r2t.buffer_offset, r2t.desired_length), (0, 512));
    let events = pair.send(pair.data_out(1, r2t.ttt, 0, 0, true).emit(), &pattern(512, 0));
    assert_eq!(events, [RecvEvent::DataComplete { task: command.task, user: 1 }]);
}

#[test]
fn the_driver_decides_how_much_it_wants_and_when() {
    let mut pair = Pair::plain();
    pair.auto_fetch = false;
    let pdu = pair.command(1, "w", 4096);
    let events = pair.send(pdu.emit(), &pattern(1024, 9));
    let command = command_of(&events);
    assert_eq!(events.len(), 1);
    assert_eq!(pair.last_input, Some(Input::WaitForDriver { task: command.task, user: 1 }));
    // The CDB asks for less than the initiator sends: 1000 bytes, and the immediate data have them all.
    assert!(pair.target.request_data(&mut pair.session, 0, command.task, 1000));
    assert_eq!(pair.pump(), [RecvEvent::DataComplete { task: command.task, user: 1 }]);
    assert_eq!(pair.buffers[&command.task.to_bits()][..1000], pattern(1024, 9)[..1000]);
    assert_eq!(pair.buffers[&command.task.to_bits()][1000..], [0; 3096]);
    pair.good(command.task, 0, 1000);
    let response = ScsiResponse::parse(&pair.receive()[0].header);
    assert_eq!((response.underflow, response.residual), (true, 3096));

    // More than the initiator sends is never asked for.
    let pdu = pair.command(2, "w", 512);
    let command = command_of(&pair.send(pdu.emit(), &[]));
    assert!(pair.target.request_data(&mut pair.session, 0, command.task, 100_000));
    assert_eq!(R2t::parse(&pair.receive()[0].header).desired_length, 512);
}

#[test]
fn a_command_answered_before_its_data_throws_them_away() {
    let mut pair = Pair::plain();
    pair.auto_fetch = false;
    let pdu = ScsiCommand { last: false, ..pair.command(1, "w", 4096) };
    let command = command_of(&pair.send(pdu.emit(), &pattern(1024, 9)));
    let response =
        TaskResponse { status: ScsiStatus::RESERVATION_CONFLICT, sense: &[], data_in: 0, wanted: 0, read_wanted: 0 };
    assert!(pair.target.queue_response(&mut pair.session, command.task, response));
    let response = ScsiResponse::parse(&pair.receive()[0].header);
    assert_eq!((response.status, response.underflow, response.residual), (0x18, true, 4096));
    assert!(pair.send(pair.data_out(1, RESERVED_TAG, 0, 1024, true).emit(), &pattern(3072, 0)).is_empty());
    assert!(pair.receive().is_empty());
    assert_eq!(send_read(&mut pair, 2, 10).cmd_sn, 101);
}

#[test]
fn data_that_nobody_allowed_get_their_sense() {
    // (keys, direction, expected length, F bit, immediate bytes, sense)
    type Story<'a> = (&'a [(&'a str, &'a str)], &'a str, u32, bool, usize, Asc);
    let stories: [Story<'_>; 6] = [
        (&[("ImmediateData", "No")], "w", 512, true, 512, UNEXPECTED),
        (&[("InitialR2T", "Yes")], "w", 512, false, 0, UNEXPECTED),
        (&[("InitialR2T", "No")], "r", 512, true, 512, UNEXPECTED),
        (&[("InitialR2T", "No")], "", 0, false, 0, UNEXPECTED),
        (&[("InitialR2T", "No")], "w", 512, true, 513, AMOUNT),
        (&[("FirstBurstLength", "512")], "w", 4096, true, 1024, AMOUNT),
    ];
    for (keys, direction, expected, last, immediate, asc) in stories {
        let mut pair = params(keys);
        let pdu = ScsiCommand { last, ..pair.command(1, direction, expected) };
        assert_eq!(pair.send(pdu.emit(), &pattern(immediate, 0)), [], "the mid-level never hears of it");
        let pdus = pair.receive();
        assert_eq!(opcodes(&pdus), [opcode::SCSI_RESPONSE]);
        assert_eq!(sense_of(&pdus[0]), aborted(asc), "{keys:?}");
        assert_eq!(ScsiResponse::parse(&pdus[0].header).exp_cmd_sn, 101);
        assert_eq!(pair.session.tasks(), 0);
    }
}

/// A write with two R2Ts outstanding, and one wrong Data-Out.
fn wrong_data_out(change: impl Fn(&mut DataOut), length: usize) -> (Vec<RecvEvent>, Vec<Pdu>) {
    let mut pair = params(&[("MaxBurstLength", "1024"), ("MaxOutstandingR2T", "2")]);
    let pdu = pair.command(1, "w", 2048);
    pair.send(pdu.emit(), &[]);
    let r2ts: Vec<R2t> = pair.receive().iter().map(|p| R2t::parse(&p.header)).collect();
    let mut pdu = pair.data_out(1, r2ts[0].ttt, 0, 0, true);
    change(&mut pdu);
    let mut events = pair.send(pdu.emit(), &pattern(length, 0));
    assert_eq!(events, [], "the second sequence is still under way");
    events = pair.send(pair.data_out(1, r2ts[1].ttt, 0, 1024, true).emit(), &pattern(1024, 0));
    (events, pair.receive())
}

#[test]
fn wrong_sequences_end_the_command_after_all_sequences() {
    type Change = (fn(&mut DataOut), usize, Asc, bool);
    let changes: [Change; 4] = [
        (|_| (), 1000, AMOUNT, false),
        (|_| (), 1025, AMOUNT, false),
        (|p| p.data_sn = 1, 1024, CRC, true),
        (|p| p.buffer_offset = 512, 512, AMOUNT, true),
    ];
    for (change, length, asc, rejected) in changes {
        let (events, pdus) = wrong_data_out(change, length);
        let [RecvEvent::DataError { sense, user: 1, .. }] = events[..] else { panic!("{events:?}") };
        assert_eq!(sense, aborted(asc));
        assert_eq!(opcodes(&pdus), if rejected { vec![opcode::REJECT] } else { vec![] });
    }
}

#[test]
fn unsolicited_data_out_of_order_count_as_lost_to_a_digest_error() {
    // (DataSN of the two PDUs, offset of the second, sense): RFC 7143 7.9, and 11.4.7.2 for the sense.
    let stories: [([u32; 2], u32, Asc); 5] = [
        ([1, 2], 1024, CRC),
        ([0, 0], 1024, CRC),
        ([0, 2], 1024, CRC),
        // A PDU with its number is missing: the offset is another one, too.
        ([0, 2], 1536, CRC),
        ([0, 1], 1536, AMOUNT),
    ];
    for (data_sn, offset, asc) in stories {
        let mut pair = params(&[("InitialR2T", "No")]);
        let pdu = ScsiCommand { last: false, ..pair.command(1, "w", 2048) };
        pair.send(pdu.emit(), &pattern(512, 0));
        let first = pair.data_out(1, RESERVED_TAG, data_sn[0], 512, false);
        let mut events = pair.send(first.emit(), &pattern(512, 0));
        let second = pair.data_out(1, RESERVED_TAG, data_sn[1], offset, true);
        events.extend(pair.send(second.emit(), &pattern(512, 0)));
        let [RecvEvent::DataError { sense, user: 1, .. }] = events[..] else { panic!("{events:?}") };
        assert_eq!(sense, aborted(asc), "{data_sn:?} {offset}");
        assert_eq!(opcodes(&pair.receive()), [opcode::REJECT]);
    }
}

#[test]
fn a_tag_that_no_r2t_has_is_rejected_and_changes_nothing() {
    let mut pair = params(&[]);
    let pdu = pair.command(1, "w", 1024);
    pair.send(pdu.emit(), &[]);
    let r2t = R2t::parse(&pair.receive()[0].header);
    assert_eq!(pair.send(pair.data_out(1, r2t.ttt ^ 1, 0, 0, true).emit(), &pattern(1024, 0)), []);
    let pdus = pair.receive();
    let reject = Reject::parse(&pdus[0].header);
    assert_eq!((reject.reason, pdus[0].data.len(), reject.stat_sn), (RejectReason::PROTOCOL_ERROR, 48, 501));
    let events = pair.send(pair.data_out(1, r2t.ttt, 0, 0, true).emit(), &pattern(1024, 0));
    assert!(matches!(events[..], [RecvEvent::DataComplete { .. }]));
}

fn digest_pair() -> Pair {
    let parameters = TargetParameters {
        header_digest: DigestPolicy::Crc32cOrNone,
        data_digest: DigestPolicy::Crc32cOrNone,
        ..TargetParameters::default()
    };
    Pair::new(parameters, &[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C"), ("InitialR2T", "No")])
}

#[test]
fn digests_guard_both_directions() {
    let mut pair = digest_pair();
    let pdu = pair.command(1, "w", 1001);
    let events = pair.send(pdu.emit(), &pattern(1001, 2));
    assert!(matches!(events[1], RecvEvent::DataComplete { .. }));
    finish_write(&mut pair, &command_of(&events));
    let command = send_read(&mut pair, 2, 333);
    pair.buffers.insert(command.task.to_bits(), pattern(333, 4));
    pair.good(command.task, 333, 333);
    // `receive` checks the digests of what the target sends.
    assert_eq!(pair.receive()[0].data, pattern(333, 4));
}

#[test]
fn a_bad_data_digest_is_rejected_and_ends_the_command() {
    let mut pair = digest_pair();
    let pdu = pair.command(1, "w", 512);
    let mut bytes = frame(pdu.emit(), &[], &pattern(512, 2), true, true);
    *bytes.last_mut().unwrap() ^= 1;
    let events = pair.send_raw(&bytes);
    let RecvEvent::DataError { sense, .. } = events[1] else { panic!("{events:?}") };
    assert_eq!(sense, aborted(Asc(0x4705)));
    let pdus = pair.receive();
    assert_eq!(Reject::parse(&pdus[0].header).reason, RejectReason::DATA_DIGEST_ERROR);
    assert_eq!(pdus[0].data, frame(pdu.emit(), &[], &pattern(512, 2), false, false)[..48]);
}

#[test]
fn bidirectional_commands_have_two_lengths_and_two_residuals() {
    let mut pair = Pair::plain();
    let mut ahs = Vec::new();
    emit_extended_cdb(&mut ahs, &pattern(16, 1));
    emit_bidirectional_read_length(&mut ahs, 600);
    let pdu = pair.command(1, "rw", 1000);
    let events = pair.send_ahs(pdu.emit(), &ahs, &pattern(1000, 3));
    let command = command_of(&events);
    assert_eq!((command.write_length, command.read_length, command.cdb.bytes().len()), (1000, 600, 32));
    assert_eq!(command.cdb.bytes()[16..], pattern(16, 1));
    assert!(matches!(events[1], RecvEvent::DataComplete { .. }));
    let response = TaskResponse { status: ScsiStatus::GOOD, sense: &[], data_in: 500, wanted: 1100, read_wanted: 500 };
    assert!(pair.target.queue_response(&mut pair.session, command.task, response));
    let pdus = pair.receive();
    assert_eq!(opcodes(&pdus), [opcode::DATA_IN, opcode::SCSI_RESPONSE]);
    let response = ScsiResponse::parse(&pdus[1].header);
    assert_eq!((response.overflow, response.residual), (true, 100));
    assert_eq!((response.read_underflow, response.read_residual), (true, 100));
}

#[test]
fn a_long_cdb_comes_whole_and_one_that_no_command_has_is_rejected() {
    let mut pair = Pair::plain();
    let mut ahs = Vec::new();
    emit_extended_cdb(&mut ahs, &pattern(244, 1));
    let pdu = pair.command(1, "r", 512);
    let command = command_of(&pair.send_ahs(pdu.emit(), &ahs, &[]));
    assert_eq!((command.cdb.bytes().len(), &command.cdb.bytes()[16..]), (260, &pattern(244, 1)[..]));
    ahs.clear();
    emit_extended_cdb(&mut ahs, &pattern(245, 1));
    let pdu = pair.command(2, "r", 512);
    assert_eq!(pair.send_ahs(pdu.emit(), &ahs, &[]), []);
    assert_eq!(Reject::parse(&pair.receive()[0].header).reason, RejectReason::INVALID_PDU_FIELD);
}

#[test]
fn an_unknown_header_segment_is_rejected_and_its_number_is_used_up() {
    let mut pair = Pair::plain();
    let pdu = pair.command(1, "r", 512);
    assert_eq!(pair.send_ahs(pdu.emit(), &[0, 1, 99, 0], &[]), []);
    assert_eq!(Reject::parse(&pair.receive()[0].header).reason, RejectReason::INVALID_PDU_FIELD);
    assert!(!send_read(&mut pair, 2, 10).held);
}

#[test]
fn aborted_data_never_reach_the_buffer() {
    let mut pair = params(&[]);
    let pdu = pair.command(1, "w", 1024);
    let command = command_of(&pair.send(pdu.emit(), &[]));
    let r2t = R2t::parse(&pair.receive()[0].header);
    // Half of the PDU is there, and 100 bytes of it are in the buffer already.
    let bytes = frame(pair.data_out(1, r2t.ttt, 0, 0, true).emit(), &[], &pattern(1024, 1), false, false);
    assert_eq!(pair.send_raw(&bytes[..148]), []);
    assert_eq!(pair.target.abort_data(&mut pair.session, command.task), AbortData::Pending);
    assert_eq!(pair.pump(), [RecvEvent::DataAborted { task: command.task, user: 1 }]);
    assert!(pair.target.drop_task(&mut pair.session, command.task));
    pair.buffers.clear();
    assert_eq!(pair.send_raw(&bytes[148..]), []);
    assert!(pair.receive().is_empty());
    assert_eq!((pair.session.tasks(), pair.session.max_cmd_sn()), (0, 132));

    // Nothing on its way: done at once, and what comes later is ignored.
    let pdu = pair.command(2, "w", 1024);
    let command = command_of(&pair.send(pdu.emit(), &[]));
    let r2t = R2t::parse(&pair.receive()[0].header);
    assert_eq!(pair.target.abort_data(&mut pair.session, command.task), AbortData::Done);
    assert_eq!(pair.send(pair.data_out(2, r2t.ttt, 0, 0, true).emit(), &pattern(1024, 1)), []);
    assert!(!pair.target.request_data(&mut pair.session, 0, command_stale(command).task, 1));
}

fn command_stale(mut command: CommandEvent) -> CommandEvent {
    command.task.generation += 1;
    command
}

#[test]
fn many_answers_leave_in_small_portions() {
    let mut pair = Pair::plain();
    pair.room = 256;
    let mut expected = Vec::new();
    for itt in 0..20 {
        let command = send_read(&mut pair, itt, 700);
        pair.buffers.insert(command.task.to_bits(), pattern(700, itt as u8));
        pair.good(command.task, 700, 700);
        expected.extend(pattern(700, itt as u8));
    }
    let pdus = pair.receive();
    assert_eq!(pdus.len(), 20);
    let stat_sns: Vec<u32> = pdus.iter().map(|p| DataIn::parse(&p.header).stat_sn).collect();
    assert_eq!(stat_sns, (501..521).collect::<Vec<_>>());
    assert_eq!(pdus.into_iter().flat_map(|p| p.data).collect::<Vec<_>>(), expected);
    assert_eq!(pair.finished, (1..=20).collect::<Vec<_>>());
}

#[test]
fn immediate_data_that_are_there_can_be_taken_with_the_command() {
    for digests in [false, true] {
        let mut pair = if digests { digest_pair() } else { Pair::plain() };
        let data = pattern(1021, 3);
        let header = pair.command(1, "w", 1021).emit();
        let bytes = frame(header, &[], &data, digests, digests);
        let (used, input) = pair.target.poll_input(&mut pair.session, 0, &bytes);
        let Input::Event(RecvEvent::Command(command)) = input else { panic!("{input:?}") };
        let rest = &bytes[used..];
        assert_eq!(&rest[..1021], data, "digests {digests}");
        let connection = &mut pair.target;
        assert_eq!(connection.take_immediate(&mut pair.session, &command, &rest[..rest.len() - 1]), None, "not whole");
        if digests {
            let mut broken = rest.to_vec();
            broken[17] ^= 1;
            assert_eq!(connection.take_immediate(&mut pair.session, &command, &broken), None, "a wrong digest");
        }
        assert_eq!(connection.take_immediate(&mut pair.session, &command, rest), Some(rest.len()));
        let (used, input) = connection.poll_input(&mut pair.session, 0, &[]);
        assert!(matches!((used, &input), (0, Input::NeedBytes(48))), "nothing more is told of the data: {input:?}");
        assert_eq!(finish_write(&mut pair, &command).status, 0);
    }
}
