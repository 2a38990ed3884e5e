//! Whatever an initiator sends, to any of the devices.

use super::rig::Rig;
use crate::Kind;
use proptest::prelude::*;
use scst_scsi::ScsiStatus;
use scst_scsi::opcode::{DISK, OPTICAL, OpcodeTable, TAPE};

/// Most bytes of a buffer; a longer transfer is one that the initiator has no room for.
const ROOM: u32 = 64 << 10;

#[derive(Clone, Debug)]
struct Sent {
    cdb: Vec<u8>,
    data: Vec<u8>,
    room: u32,
}

/// A CDB of a row of the table with random bits, mostly such that are evaluated, and often small numbers.
fn sent(table: &'static OpcodeTable) -> impl Strategy<Value = Sent> {
    let data = proptest::collection::vec(any::<u8>(), 0..64);
    let room = prop_oneof![4 => Just(ROOM), 1 => 1..4096_u32];
    (0..table.rows().len(), any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u8>(), data, room).prop_map(
        move |(row, bits, few, how, data, room)| {
            let row = &table.rows()[row];
            let mut cdb: Vec<u8> = row.usage.iter().zip(bits).map(|(usage, bits)| usage & bits).collect();
            if how & 3 != 0 {
                cdb.iter_mut().zip(few).skip(2).for_each(|(byte, few)| *byte &= if few < 32 { few } else { 0 });
            }
            if how & 0xf0 == 0 {
                cdb[1] = bits[1];
            }
            cdb[0] = row.opcode;
            if let (Some(action), true) = (row.service_action, row.opcode != 0x7f) {
                cdb[1] = cdb[1] & 0xe0 | action as u8;
            }
            Sent { cdb, data, room }
        },
    )
}

fn play(kind: Kind, history: &[Sent]) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(kind, |config| config.size = 1 << 20);
    for sent in history {
        let (outcome, data) = rig.run_with(&sent.cdb, &sent.data, Some(sent.room));
        prop_assert!(outcome.transferred <= sent.room);
        prop_assert_eq!(outcome.status == ScsiStatus::CHECK_CONDITION, outcome.sense.is_some());
        let is_read = matches!(sent.cdb[0], 0x08 | 0x28 | 0x88 | 0xa8);
        prop_assert!(!is_read || data.iter().all(|byte| *byte == 0), "{:02x?} shows old data", sent.cdb);
    }
    // Whatever has happened, the device still answers.
    rig.good(&[0x12, 0, 0, 0, 36, 0]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_breaks_a_disk(history in proptest::collection::vec(sent(&DISK), 1..40)) {
        play(Kind::Disk, &history)?;
    }

    #[test]
    fn nothing_breaks_an_optical_memory_device(history in proptest::collection::vec(sent(&OPTICAL), 1..40)) {
        play(Kind::Optical, &history)?;
    }

    #[test]
    fn nothing_breaks_a_tape(history in proptest::collection::vec(sent(&TAPE), 1..40)) {
        play(Kind::Tape, &history)?;
    }
}
