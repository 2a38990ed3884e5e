//! What commands do to a partition, and the sense data of what they meet (SSC-5).

use scst_scsi::sense::StreamBits;
use scst_scsi::{Asc, SenseData, SenseKey};

use super::command::SpaceOver;
use super::partition::{Next, Partition};

/// How a READ or WRITE went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transferred {
    /// Bytes of data-in.
    pub bytes: u32,
    /// Why it did not end with GOOD; what was transferred before counts all the same.
    pub sense: Option<SenseData>,
}

/// A filemark was met.
fn filemark(residue: i64) -> SenseData {
    SenseData::new(SenseKey::NO_SENSE, Asc::FILEMARK_DETECTED).with_stream(StreamBits::FILEMARK, residue)
}

/// A block has another length than was asked for.
fn incorrect_length(residue: i64) -> SenseData {
    SenseData::new(SenseKey::NO_SENSE, Asc::NO_ADDITIONAL_SENSE_INFORMATION).with_stream(StreamBits::ILI, residue)
}

/// The beginning was met while going back.
fn beginning(residue: i64) -> SenseData {
    SenseData::new(SenseKey::NO_SENSE, Asc::BEGINNING_OF_PARTITION_MEDIUM_DETECTED)
        .with_stream(StreamBits::EOM, residue)
}

impl Partition {
    /// READ(6). `block_length` is the one in force.
    pub fn read(&mut self, fixed: bool, sili: bool, length: u32, block_length: u32) -> Transferred {
        if length == 0 {
            return Transferred { bytes: 0, sense: None };
        }
        if fixed { self.read_fixed(length, block_length) } else { self.read_variable(sili, length, block_length) }
    }

    /// So many blocks of one length; INFORMATION is how many are missing.
    fn read_fixed(&mut self, blocks: u32, block_length: u32) -> Transferred {
        let mut missing = u64::from(blocks);
        let sense = loop {
            match self.ahead() {
                _ if missing == 0 => break None,
                Next::Blocks { length, count } if length == block_length => {
                    let count = count.min(missing);
                    self.forward(count);
                    missing -= count;
                }
                // The position is after the block that does not fit, or the filemark.
                Next::Blocks { .. } => {
                    self.forward(1);
                    break Some(incorrect_length(missing as i64));
                }
                Next::Filemarks(_) => {
                    self.forward(1);
                    break Some(filemark(missing as i64));
                }
                Next::End => break Some(self.end_of_data_sense(missing as i64)),
            }
        };
        Transferred { bytes: (u64::from(blocks) - missing) as u32 * block_length, sense }
    }

    /// One block of any length; INFORMATION is how many bytes are missing, or too many.
    fn read_variable(&mut self, sili: bool, wanted: u32, block_length: u32) -> Transferred {
        let residue = i64::from(wanted);
        match self.ahead() {
            Next::Blocks { length, .. } => {
                self.forward(1);
                // SILI: too short is no matter, too long only if blocks are to have one length.
                let matters = if length > wanted { !sili || block_length != 0 } else { length < wanted && !sili };
                let sense = matters.then(|| incorrect_length(residue - i64::from(length)));
                Transferred { bytes: length.min(wanted), sense }
            }
            Next::Filemarks(_) => {
                self.forward(1);
                Transferred { bytes: 0, sense: Some(filemark(residue)) }
            }
            Next::End => Transferred { bytes: 0, sense: Some(self.end_of_data_sense(residue)) },
        }
    }

    /// BLANK CHECK, with EOM after the early warning.
    fn end_of_data_sense(&self, residue: i64) -> SenseData {
        let bits = if self.is_past_early_warning() { StreamBits::EOM } else { StreamBits::empty() };
        SenseData::new(SenseKey::BLANK_CHECK, Asc::END_OF_DATA_DETECTED).with_stream(bits, residue)
    }

    /// WRITE(6).
    ///
    /// # Errors
    /// See [`Self::write_filemarks`].
    pub fn write(&mut self, fixed: bool, length: u32, block_length: u32) -> Result<(), SenseData> {
        if length == 0 {
            return Ok(());
        }
        let (block, count) = if fixed { (block_length, u64::from(length)) } else { (length, 1) };
        let missing = count - self.record(block, count);
        // INFORMATION counts bytes when the block has a length of its own.
        self.recorded(if fixed { missing } else { missing * u64::from(length) })
    }

    /// WRITE FILEMARKS(6). None at all is a wish to have everything on the medium, where it is.
    ///
    /// # Errors
    /// VOLUME OVERFLOW at the end of the medium; NO SENSE with EOM after the early warning, when all is written.
    pub fn write_filemarks(&mut self, count: u32) -> Result<(), SenseData> {
        if count == 0 {
            return Ok(());
        }
        let missing = u64::from(count) - self.record(0, u64::from(count));
        self.recorded(missing)
    }

    fn recorded(&self, missing: u64) -> Result<(), SenseData> {
        let key = match missing {
            0 if !self.is_past_early_warning() => return Ok(()),
            0 => SenseKey::NO_SENSE,
            _ => SenseKey::VOLUME_OVERFLOW,
        };
        let sense = SenseData::new(key, Asc::END_OF_PARTITION_MEDIUM_DETECTED);
        Err(sense.with_stream(StreamBits::EOM, missing as i64))
    }

    /// SPACE(6).
    ///
    /// # Errors
    /// What ended it early: a filemark (while it counts blocks), the end of data, the beginning. INFORMATION is how many
    /// were not spaced over.
    pub fn space(&mut self, over: SpaceOver, count: i32) -> Result<(), SenseData> {
        match over {
            SpaceOver::ToEndOfData => self.go_to_end(),
            _ if count < 0 => return self.space_back(over, u64::from(count.unsigned_abs())),
            _ => return self.space_ahead(over, u64::from(count.unsigned_abs())),
        }
        Ok(())
    }

    fn space_ahead(&mut self, over: SpaceOver, mut left: u64) -> Result<(), SenseData> {
        while left > 0 {
            match (self.ahead(), over) {
                (Next::Blocks { count, .. }, SpaceOver::Filemarks) => self.forward(count),
                (Next::Blocks { count, .. }, _) | (Next::Filemarks(count), SpaceOver::Filemarks) => {
                    self.forward(count.min(left));
                    left -= count.min(left);
                }
                (Next::Filemarks(_), _) => {
                    self.forward(1);
                    return Err(filemark(left as i64));
                }
                (Next::End, _) => return Err(self.end_of_data_sense(left as i64)),
            }
        }
        Ok(())
    }

    /// Going back ends before the filemark that it meets.
    fn space_back(&mut self, over: SpaceOver, mut left: u64) -> Result<(), SenseData> {
        while left > 0 {
            match (self.behind(), over) {
                (Next::Blocks { count, .. }, SpaceOver::Filemarks) => self.backward(count),
                (Next::Blocks { count, .. }, _) | (Next::Filemarks(count), SpaceOver::Filemarks) => {
                    self.backward(count.min(left));
                    left -= count.min(left);
                }
                (Next::Filemarks(_), _) => {
                    self.backward(1);
                    return Err(filemark(left as i64));
                }
                (Next::End, _) => return Err(beginning(left as i64)),
            }
        }
        Ok(())
    }

    /// LOCATE(10).
    ///
    /// # Errors
    /// END-OF-DATA DETECTED, where the tape then stands.
    pub fn locate(&mut self, object: u32) -> Result<(), SenseData> {
        if self.go_to(u64::from(object)) {
            return Ok(());
        }
        let mut sense = SenseData::new(SenseKey::BLANK_CHECK, Asc::END_OF_DATA_DETECTED);
        if self.is_past_early_warning() {
            sense.stream = StreamBits::EOM;
        }
        Err(sense)
    }

    /// REWIND, and what loading a medium does.
    pub fn rewind(&mut self) {
        self.go_to(0);
    }

    /// ERASE(6): from the position to the end.
    pub fn erase(&mut self) {
        self.cut();
    }
}

#[cfg(test)]
mod tests;
