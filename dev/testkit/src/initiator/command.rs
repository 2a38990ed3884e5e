//! A SCSI command as a test states it, and what came back.

use crate::scsi::{self, Sense, cdb::RwFlags, status};

/// Task attribute field of a SCSI Command PDU (RFC 7143 11.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum TaskAttribute {
    Untagged,
    #[default]
    Simple,
    Ordered,
    HeadOfQueue,
    Aca,
}

/// How many bytes to send unasked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Amount {
    /// As much as negotiated.
    #[default]
    Auto,
    /// So much, whether allowed or not.
    Bytes(usize),
}

/// How data-out travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DataOutPlan {
    /// Immediate data.
    pub immediate: Amount,
    /// Unsolicited Data-Out PDUs, beyond the immediate data.
    pub unsolicited: Amount,
    /// Do not answer R2Ts: an [`Event::R2t`](super::Event::R2t) tells of each, `Core::send_data_out` answers.
    pub hold: bool,
    /// Longest data segment of a Data-Out PDU; None: what the target takes.
    pub segment: Option<usize>,
    /// Force the F bit of the command PDU to this value.
    pub final_bit: Option<bool>,
}

/// A SCSI command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// The eight LUN bytes.
    pub lun: [u8; 8],
    /// The CDB, of any length; more than 16 bytes go into an additional header segment.
    pub cdb: Vec<u8>,
    /// Task attribute.
    pub attribute: TaskAttribute,
    /// I bit: not counted in CmdSN.
    pub immediate_delivery: bool,
    /// Data to send.
    pub data_out: Vec<u8>,
    /// Bytes expected from the target.
    pub read_length: u32,
    /// Replaces the Expected Data Transfer Length of the header (which follows from the two fields above).
    pub expected_length: Option<u32>,
    /// Replaces the R and W bits (RFC 7143 11.3.1) as (read, write).
    pub direction_bits: Option<(bool, bool)>,
    /// How data-out travel.
    pub plan: DataOutPlan,
}

impl Command {
    /// A command without data.
    pub fn new(lun: u32, cdb: Vec<u8>) -> Self {
        Self {
            lun: scsi::lun(lun),
            cdb,
            attribute: TaskAttribute::default(),
            immediate_delivery: false,
            data_out: Vec::new(),
            read_length: 0,
            expected_length: None,
            direction_bits: None,
            plan: DataOutPlan::default(),
        }
    }

    /// A command with data-in.
    pub fn read(lun: u32, cdb: Vec<u8>, length: u32) -> Self {
        Self { read_length: length, ..Self::new(lun, cdb) }
    }

    /// A command with data-out.
    pub fn write(lun: u32, cdb: Vec<u8>, data: impl Into<Vec<u8>>) -> Self {
        Self { data_out: data.into(), ..Self::new(lun, cdb) }
    }

    /// READ (16) of blocks.
    pub fn read_blocks(lun: u32, lba: u64, blocks: u32, block_size: u32) -> Self {
        Self::read(lun, scsi::cdb::read16(lba, blocks, RwFlags::NONE), blocks * block_size)
    }

    /// WRITE (16) of whole blocks.
    pub fn write_blocks(lun: u32, lba: u64, block_size: u32, data: impl Into<Vec<u8>>) -> Self {
        let data = data.into();
        let blocks = data.len() as u32 / block_size;
        Self::write(lun, scsi::cdb::write16(lba, blocks, RwFlags::NONE), data)
    }

    /// SYNCHRONIZE CACHE of the whole medium.
    pub fn flush(lun: u32) -> Self {
        Self::new(lun, scsi::cdb::synchronize_cache16(0, 0, false))
    }

    /// INQUIRY.
    pub fn inquiry(lun: u32, page: Option<u8>) -> Self {
        Self::read(lun, scsi::cdb::inquiry(page, 1024), 1024)
    }

    /// The same with another task attribute.
    #[must_use]
    pub fn with_attribute(mut self, attribute: TaskAttribute) -> Self {
        self.attribute = attribute;
        self
    }

    /// The same with a plan for data-out.
    #[must_use]
    pub fn with_plan(mut self, plan: DataOutPlan) -> Self {
        self.plan = plan;
        self
    }

    /// The same as an immediate command.
    #[must_use]
    pub fn immediate(mut self) -> Self {
        self.immediate_delivery = true;
        self
    }

    /// The same with a given Expected Data Transfer Length.
    #[must_use]
    pub fn with_expected_length(mut self, length: u32) -> Self {
        self.expected_length = Some(length);
        self
    }
}

/// Residual count of a response (RFC 7143 11.4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Residual {
    /// All bytes moved.
    #[default]
    None,
    /// So many bytes were not transferred.
    Underflow(u32),
    /// So many bytes did not fit.
    Overflow(u32),
}

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Its Initiator Task Tag.
    pub itt: u32,
    /// iSCSI response: 0 completed at target, 1 target failure.
    pub response: u8,
    /// SCSI status.
    pub status: u8,
    /// Sense data, without the length in front.
    pub sense_data: Vec<u8>,
    /// Data that came in.
    pub data_in: Vec<u8>,
    /// Residual of the write or read direction.
    pub residual: Residual,
    /// Residual of the read direction of a bidirectional command.
    pub bidirectional_residual: Residual,
    /// Status came in the last Data-In PDU.
    pub phase_collapse: bool,
    /// Number of Data-In PDUs.
    pub data_in_pdus: u32,
    /// Number of R2T PDUs.
    pub r2ts: u32,
}

impl Outcome {
    /// Completed with GOOD.
    pub fn is_good(&self) -> bool {
        self.response == 0 && self.status == status::GOOD
    }

    /// Decoded sense data.
    pub fn sense(&self) -> Option<Sense> {
        Sense::decode(&self.sense_data)
    }

    /// Sense key, ASC, ASCQ of a CHECK CONDITION; None with any other status.
    pub fn kcq(&self) -> Option<(u8, u8, u8)> {
        if self.status == status::CHECK_CONDITION { self.sense().map(|sense| sense.kcq()) } else { None }
    }
}
