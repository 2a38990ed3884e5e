//! Whatever an initiator sends is either a command within the limits or an ILLEGAL REQUEST that points into the CDB.

use proptest::prelude::*;
use scst_cmdset::params::{MAX_RESPONSE_BYTES, MAX_TRANSFER_BYTES};
use scst_cmdset::{
    Answers, DiskCommand, DiskParameters, DiskState, Geometry, ModePages, PortIdentity, Provisioning, log::LogData,
    parse,
};
use scst_scsi::opcode::{DISK, SupportedTmfs};
use scst_scsi::sense::SenseKeySpecific;
use scst_scsi::{Asc, Cdb, DataDirection, SenseData, SenseKey};

fn disks() -> impl Strategy<Value = DiskParameters> {
    (9u32..17, any::<[bool; 4]>(), any::<bool>()).prop_map(|(shift, flags, thin)| DiskParameters {
        removable: flags[0],
        nv_cache: flags[1],
        saves_mode_pages: flags[2],
        normal_aca: flags[3],
        provisioning: thin.then_some(Provisioning {
            granularity: 1,
            alignment: 0,
            max_unmap_blocks: 4096,
            reads_zeros: true,
            anchor: true,
        }),
        ..DiskParameters::new("disk", "", 1 << shift)
    })
}

/// CDBs that get past the operation code often enough: any row's usage data as a mask over random bits, or noise.
fn cdbs() -> impl Strategy<Value = Vec<u8>> {
    let rows = DISK.rows();
    let masked = (0..rows.len(), any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(row, bits, sparse)| {
        let row = &rows[row];
        let mut cdb: Vec<u8> = row.usage.iter().zip(bits).map(|(usage, bits)| usage & bits).collect();
        // Often small numbers, and sometimes an LBA of nearly 2^64: a random one is never near an end of the disk.
        match sparse[0] % 4 {
            0 | 1 => {
                let few = |sparse: u8| if sparse < 16 { sparse } else { 0 };
                cdb.iter_mut().zip(sparse).skip(2).for_each(|(byte, sparse)| *byte &= few(sparse));
            }
            2 => cdb.iter_mut().skip(2).take(7).for_each(|byte| *byte |= 0xff),
            _ => {}
        }
        cdb[0] = row.opcode;
        match row.service_action {
            Some(_) if row.opcode == 0x7f => cdb[7..10].copy_from_slice(&row.usage[7..10]),
            Some(action) => cdb[1] = cdb[1] & 0xe0 | action as u8,
            None => {}
        }
        cdb
    });
    prop_oneof![4 => masked, 1 => proptest::collection::vec(any::<u8>(), 0..33)]
}

fn points_into_the_cdb(sense: &SenseData, cdb: &[u8]) -> bool {
    let legal = [Asc(0x2000), Asc(0x2400)].contains(&sense.asc) && sense.key == SenseKey::ILLEGAL_REQUEST;
    match sense.specific {
        Some(SenseKeySpecific::Field(field)) => {
            legal && field.in_cdb && usize::from(field.byte) <= cdb.len() && field.bit.is_none_or(|bit| bit < 8)
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn a_cdb_is_a_command_within_limits_or_points_at_its_fault(
        disk in disks(), bytes in cdbs(), blocks in 0u64..1 << 40,
    ) {
        let cdb = Cdb::new(&bytes);
        match parse(&cdb, &disk) {
            Err(sense) => prop_assert!(points_into_the_cdb(&sense, &bytes), "{bytes:02x?}: {sense:?}"),
            Ok(parsed) => {
                prop_assert!(parsed.length <= MAX_TRANSFER_BYTES);
                prop_assert_eq!(parsed.length == 0, parsed.direction == DataDirection::None);
                let state = DiskState {
                    geometry: Geometry { block_size: disk.block_size, blocks },
                    medium_present: true,
                    read_only: false,
                    software_write_protect: false,
                };
                match (parsed.admit(&disk, &state), parsed.command.range()) {
                    (Ok(()), Some(range)) => prop_assert!(range.lba.checked_add(range.blocks).unwrap() <= blocks),
                    (Err(sense), Some(range)) if sense.asc == Asc(0x2100) => {
                        let first_bad = sense.information.unwrap();
                        prop_assert!(first_bad >= blocks && first_bad >= range.lba);
                        prop_assert!(range.blocks == 0 || first_bad - range.lba < range.blocks);
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn answers_stay_within_the_data_phase(disk in disks(), bytes in cdbs()) {
        let cdb = Cdb::new(&bytes);
        let Ok(parsed) = parse(&cdb, &disk) else { return Ok(()) };
        let state = DiskState {
            geometry: Geometry { block_size: disk.block_size, blocks: 1 << 20 },
            medium_present: true,
            read_only: false,
            software_write_protect: false,
        };
        let answers = Answers {
            disk: &disk,
            state: &state,
            pages: &ModePages::new(&disk),
            log: &LogData::default(),
            port: PortIdentity { target_name: "iqn.2024-01.test:t", relative_port: 1 },
            tmfs: SupportedTmfs::all(),
        };
        let mut buf = [0; MAX_RESPONSE_BYTES as usize];
        match answers.build(&parsed.command, &cdb, &mut buf) {
            Some(Ok(length)) => prop_assert!(length <= parsed.length as usize, "{:?}: {length}", parsed),
            Some(Err(sense)) => prop_assert_eq!(sense.key, SenseKey::ILLEGAL_REQUEST),
            None => {
                let answered = matches!(parsed.command, DiskCommand::Inquiry { .. } | DiskCommand::ModeSense(_));
                prop_assert!(!answered);
            }
        }
    }
}
