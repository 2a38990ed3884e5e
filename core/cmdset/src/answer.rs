//! One call for every command whose answer is data made from values.

use scst_scsi::opcode::SupportedTmfs;
use scst_scsi::{Cdb, SenseData};

use crate::command::DiskCommand;
use crate::log::LogData;
use crate::mode::ModePages;
use crate::params::{DiskParameters, DiskState, PortIdentity};
use crate::{capacity, inquiry, log, mode, opcodes};

/// What the answers are made from.
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a> {
    /// The disk.
    pub disk: &'a DiskParameters,
    /// Its capacity and write protection, for the nexus that asks.
    pub state: &'a DiskState,
    /// Its mode pages.
    pub pages: &'a ModePages,
    /// Its counters.
    pub log: &'a LogData,
    /// The port that the command came through.
    pub port: PortIdentity<'a>,
    /// Task management functions that the mid-level and the transport do.
    pub tmfs: SupportedTmfs,
}

impl Answers<'_> {
    /// Builds the data-in of a command in `buf` ([`MAX_RESPONSE_BYTES`](crate::params::MAX_RESPONSE_BYTES) always
    /// suffice). Returns how many bytes of it to send, or None for commands that are not answered from values: those
    /// that move or look at blocks, take a parameter list, or have no data.
    ///
    /// # Errors
    /// The sense data of a page or option that is not there; see the builders.
    pub fn build(&self, command: &DiskCommand, cdb: &Cdb, buf: &mut [u8]) -> Option<Result<usize, SenseData>> {
        use DiskCommand as C;
        let geometry = &self.state.geometry;
        Some(match *command {
            C::Inquiry { page, allocation } => inquiry::answer(self.disk, &self.port, page, allocation, buf),
            C::ModeSense(sense) => mode::sense(self.disk, self.state, self.pages, &sense, buf),
            C::LogSense(sense) => log::sense(self.log, &sense, buf),
            C::ReadCapacity10 => Ok(capacity::read_capacity_10(geometry, buf)),
            C::ReadCapacity16 { allocation } => Ok(capacity::read_capacity_16(self.disk, geometry, allocation, buf)),
            C::ReportSupportedOpcodes { allocation } => opcodes::report_opcodes(cdb, self.disk, allocation, buf),
            C::ReportSupportedTmf { allocation } => Ok(opcodes::report_tmfs(cdb, self.tmfs, allocation, buf)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{Geometry, MAX_RESPONSE_BYTES, Provisioning};
    use scst_scsi::opcode::DISK;

    fn answers(test: impl FnOnce(&Answers<'_>)) {
        let disk = DiskParameters {
            provisioning: Some(Provisioning {
                granularity: 8,
                alignment: 0,
                max_unmap_blocks: 8192,
                reads_zeros: true,
                anchor: true,
            }),
            ..DiskParameters::new("disk1", "here", 512)
        };
        test(&Answers {
            disk: &disk,
            state: &DiskState {
                geometry: Geometry { block_size: 512, blocks: 0x1000 },
                medium_present: true,
                read_only: false,
                software_write_protect: false,
            },
            pages: &ModePages::new(&disk),
            log: &LogData::default(),
            port: PortIdentity { target_name: "iqn.2024-01.test:t", relative_port: 1 },
            tmfs: SupportedTmfs::ABORT_TASK | SupportedTmfs::LOGICAL_UNIT_RESET,
        });
    }

    fn run(a: &Answers<'_>, cdb: &[u8]) -> Option<Vec<u8>> {
        let cdb = Cdb::new(cdb);
        let parsed = crate::parse(&cdb, a.disk).unwrap();
        let mut buf = [0xee; MAX_RESPONSE_BYTES as usize];
        a.build(&parsed.command, &cdb, &mut buf).map(|n| buf[..n.unwrap()].to_vec())
    }

    #[test]
    fn first_bytes_of_every_answer() {
        answers(|a| {
            assert_eq!(run(a, &[0x12, 0, 0, 0, 5, 0]).unwrap(), [0, 0, 6, 0x12, 91]);
            assert_eq!(run(a, &[0x12, 1, 0, 0, 5, 0]).unwrap(), [0, 0, 0, 7, 0]);
            assert_eq!(run(a, &[0x1a, 0, 8, 0, 4, 0]).unwrap(), [31, 0, 0x10, 8]);
            assert_eq!(run(a, &[0x5a, 8, 8, 0, 0, 0, 0, 0, 8, 0]).unwrap(), [0, 26, 0, 0x10, 0, 0, 0, 0]);
            assert_eq!(run(a, &[0x4d, 0, 0x40, 0, 0, 0, 0, 0, 4, 0]).unwrap(), [0, 0, 0, 4]);
            assert_eq!(run(a, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap(), [0, 0, 0x0f, 0xff, 0, 0, 2, 0]);
            let long = run(a, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0]).unwrap();
            assert_eq!(long, [0, 0, 0, 0, 0, 0, 0x0f, 0xff, 0, 0, 2, 0, 0, 0, 0xc0]);
            assert_eq!(run(a, &[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]).unwrap(), [0x88, 0, 0, 0]);
        });
    }

    #[test]
    fn data_commands_are_not_answered_here() {
        answers(|a| {
            assert_eq!(run(a, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]), None);
            assert_eq!(run(a, &[0x00, 0, 0, 0, 0, 0]), None);
        });
    }

    /// What REPORT SUPPORTED OPERATION CODES lists parses, and what it does not list does not.
    #[test]
    fn the_list_of_operation_codes_is_true() {
        answers(|a| {
            let list = run(a, &[0xa3, 0x0c, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).unwrap();
            assert!(list.len() < MAX_RESPONSE_BYTES as usize);
            let listed: Vec<(u8, u16)> =
                list[4..].chunks(8).map(|d| (d[0], u16::from_be_bytes([d[2], d[3]]))).collect();
            assert_eq!(listed.len(), 44);
            for row in DISK.rows() {
                let mut cdb = [0; 32];
                cdb[0] = row.opcode;
                match row.service_action {
                    Some(action) if row.opcode == 0x7f => {
                        cdb[7] = 0x18;
                        cdb[8..10].copy_from_slice(&action.to_be_bytes());
                    }
                    Some(action) => cdb[1] = action as u8,
                    None => {}
                }
                // One block, for the commands that must have one.
                match row.opcode {
                    0x41 => cdb[8] = 1,
                    0x93 => cdb[13] = 1,
                    _ => {}
                }
                let length = usize::from(row.cdb_length);
                let parsed = crate::parse(&Cdb::new(&cdb[..length]), a.disk);
                let is_listed = listed.contains(&(row.opcode, row.service_action.unwrap_or(0)));
                assert_eq!(parsed.is_ok(), is_listed, "{}: {parsed:?}", row.name);
            }
        });
    }

    #[test]
    fn one_operation_code_with_its_usage_data() {
        answers(|a| {
            let write = run(a, &[0xa3, 0x0c, 1, 0x2a, 0, 0, 0, 0, 1, 0, 0, 0]).unwrap();
            assert_eq!(write[..6], [0, 3, 0, 10, 0x2a, 0x18]);
            let unmap = run(a, &[0xa3, 0x0c, 0x81, 0x42, 0, 0, 0, 0, 1, 0, 0, 0]).unwrap();
            assert_eq!((unmap[..5].to_vec(), unmap.len()), (vec![0, 0x83, 0, 10, 0x42], 4 + 10 + 12));
            let format = run(a, &[0xa3, 0x0c, 3, 0x04, 0, 0, 0, 0, 1, 0, 0, 0]).unwrap();
            assert_eq!(format, [0, 1, 0, 0]);
        });
    }
}
