//! However the bytes are cut, they mean the same; whatever the bytes are, nothing panics.

use proptest::prelude::*;
use scst_protocol_iscsi::event::RecvEvent;
use scst_protocol_iscsi::params::{DigestPolicy, TargetParameters};
use scst_protocol_iscsi::pdu::*;

use crate::common::*;

fn pair(digests: bool) -> Pair {
    let policy = if digests { DigestPolicy::Crc32cOnly } else { DigestPolicy::NoneOnly };
    let digest = if digests { "CRC32C" } else { "None" };
    let parameters = TargetParameters { header_digest: policy, data_digest: policy, ..TargetParameters::default() };
    Pair::new(parameters, &[("HeaderDigest", digest), ("DataDigest", digest), ("InitialR2T", "No")])
}

/// A stream with every kind of segment: immediate data, unsolicited data, text, ping, header segments, rejects.
fn stream(pair: &mut Pair, digests: bool) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut put = |header: BasicHeaderSegment, ahs: &[u8], data: &[u8]| {
        wire.extend(frame(header, ahs, data, digests, digests));
    };
    let first = ScsiCommand { last: false, ..pair.command(1, "w", 700) };
    put(first.emit(), &[], &pattern(101, 1));
    put(pair.data_out(1, RESERVED_TAG, 0, 101, false).emit(), &[], &pattern(202, 2));
    let ping =
        NopOut { immediate: true, data_length: 0, lun: LUN, itt: 9, ttt: RESERVED_TAG, cmd_sn: 0, exp_stat_sn: 0 };
    put(ping.emit(), &[], b"ping!");
    let mut ahs = Vec::new();
    emit_extended_cdb(&mut ahs, &pattern(16, 9));
    put(pair.command(2, "r", 4096).emit(), &ahs, &[]);
    put(pair.data_out(1, RESERVED_TAG, 1, 303, true).emit(), &[], &pattern(397, 3));
    let held = pair.cmd_sn;
    pair.cmd_sn += 1;
    put(pair.command(4, "w", 50).emit(), &[], &pattern(50, 4));
    put(ScsiCommand { cmd_sn: held, ..pair.command(3, "", 0) }.emit(), &[], &[]);
    let mut unknown = BasicHeaderSegment::default();
    unknown.0[0] = 0x1d;
    put(unknown, &[], &pattern(33, 5));
    wire
}

type Outcome = (Vec<RecvEvent>, Vec<Vec<u8>>, Vec<Pdu>);

fn outcome(mut pair: Pair, wire: &[u8], fragment: usize) -> Outcome {
    pair.fragment = fragment;
    let events = pair.send_raw(wire);
    assert!(pair.to_target.is_empty());
    let buffers = pair.buffers.values().cloned().collect();
    (events, buffers, pair.receive())
}

#[test]
fn every_fragment_size_yields_the_same() {
    for digests in [false, true] {
        let mut model = pair(digests);
        let wire = stream(&mut model, digests);
        let whole = outcome(pair(digests), &wire, usize::MAX);
        assert_eq!(whole.0.len(), 7, "{:?}", whole.0);
        assert_eq!(whole.2.len(), 2);
        for fragment in 1..300 {
            assert_eq!(outcome(pair(digests), &wire, fragment), whole, "fragments of {fragment}");
        }
    }
}

#[test]
fn every_cut_in_two_yields_the_same() {
    let mut model = pair(true);
    let wire = stream(&mut model, true);
    let whole = outcome(pair(true), &wire, usize::MAX);
    for cut in 1..wire.len() {
        let mut pair = pair(true);
        let mut events = pair.send_raw(&wire[..cut]);
        events.extend(pair.send_raw(&wire[cut..]));
        assert_eq!(events, whole.0, "cut at {cut}");
        assert_eq!(pair.receive(), whole.2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Headers with random fields after a login: no panic, and the connection always comes to a rest.
    #[test]
    fn random_pdus_never_panic(
        pdus in prop::collection::vec(
            (0u8..8, prop::collection::vec(any::<u8>(), 48), 0usize..300, any::<bool>()), 1..30),
        fragment in 1usize..100,
    ) {
        let mut pair = pair(false);
        pair.fragment = fragment;
        let mut tasks = Vec::new();
        for (op, mut header, length, answer) in pdus {
            let opcodes = [0x01, 0x41, 0x05, 0x02, 0x04, 0x00, 0x10, 0x42];
            header[0] = opcodes[usize::from(op)];
            header[4] = 0;
            // Tags and numbers from a small range, so that PDUs meet.
            header[16..19].fill(0);
            header[19] &= 3;
            let cmd_sn = FIRST_CMD_SN + u32::from(header[27] & 7);
            header[24..28].copy_from_slice(&cmd_sn.to_be_bytes());
            header[20..22].fill(0);
            let events = pair.send(BasicHeaderSegment::from_slice(&header).unwrap(), &pattern(length, 0));
            for event in events {
                match event {
                    RecvEvent::Command(command) => tasks.push(command),
                    RecvEvent::TaskManagement(tmf) => pair.target.task_management_response(
                        &mut pair.session,
                        tmf.tag,
                        scst_scsi::TaskManagementResponse::Complete,
                    ),
                    _ => {}
                }
            }
            if answer {
                for task in tasks.drain(..) {
                    let data_in = task.read_length.min(10_000);
                    pair.buffers.insert(task.task.to_bits(), vec![0; data_in as usize]);
                    let response = scst_protocol_iscsi::connection::TaskResponse {
                        status: scst_scsi::ScsiStatus::GOOD,
                        sense: &[],
                        data_in,
                        wanted: data_in,
                        read_wanted: data_in,
                    };
                    pair.target.queue_response(&mut pair.session, task.task, response);
                }
                pair.receive();
            }
        }
        let window = pair.session.max_cmd_sn().wrapping_sub(pair.session.exp_cmd_sn()).wrapping_add(1);
        prop_assert!(window <= 32);
        prop_assert!(pair.session.tasks() <= 48);
    }
}
