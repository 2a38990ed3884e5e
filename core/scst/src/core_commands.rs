//! Commands that the mid-level answers itself: REPORT LUNS, REQUEST SENSE, RESERVE and RELEASE for every device, and
//! INQUIRY for a LUN that is not there.

use scst_scsi::lun::LunAddressMethod;
use scst_scsi::opcode::PRIMARY;
use scst_scsi::sense::SenseFormat;
use scst_scsi::{Cdb, CommandFlags, DataDirection, Lun, SenseData, SenseKey};

use crate::Nanos;
use crate::attention::{REPORTED_LUNS_CHANGED, attention_sense};
use crate::buffer::{Memory, SgList};
use crate::engine::{Effects, Engine, no_lun};
use crate::event::{DeviceUpdate, Effect, ReservationChange};
use crate::handler::{Outcome, Parsed};
use crate::ids::{CmdId, SessionId};

const REQUEST_SENSE: u8 = 0x03;
const INQUIRY: u8 = 0x12;
const RESERVE_6: u8 = 0x16;
const RELEASE_6: u8 = 0x17;
const RESERVE_10: u8 = 0x56;
const RELEASE_10: u8 = 0x57;
const REPORT_LUNS: u8 = 0xa0;

/// Whether the core answers an operation code, for any device.
static IS_OWN: [bool; 256] = {
    let own = [REQUEST_SENSE, RESERVE_6, RELEASE_6, RESERVE_10, RELEASE_10, REPORT_LUNS];
    let mut set = [false; 256];
    let mut at = 0;
    while at < own.len() {
        set[own[at] as usize] = true;
        at += 1;
    }
    set
};

/// Reads the CDB of a command that the core answers for a device; None: the device handler's business.
#[inline]
pub fn parse_for_device(cdb: &Cdb) -> Option<Result<Parsed, SenseData>> {
    if IS_OWN[usize::from(cdb.opcode())] { parse_own(cdb) } else { None }
}

fn parse_own(cdb: &Cdb) -> Option<Result<Parsed, SenseData>> {
    match cdb.opcode() {
        REQUEST_SENSE => Some(parse_request_sense(cdb)),
        RESERVE_6 | RELEASE_6 => Some(parse_reserve_6(cdb)),
        RESERVE_10 | RELEASE_10 => Some(parse_reserve_10(cdb)),
        REPORT_LUNS => Some(parse_report_luns(cdb)),
        _ => None,
    }
}

/// Reads the CDB of a command to a LUN that is not there (SPC-6 6.6.1, SAM-5 4.7.4).
///
/// # Errors
/// LOGICAL UNIT NOT SUPPORTED for all but INQUIRY, REPORT LUNS and REQUEST SENSE.
pub fn parse_without_lun(cdb: &Cdb) -> Result<Parsed, SenseData> {
    match cdb.opcode() {
        INQUIRY => parse_inquiry(cdb),
        REPORT_LUNS => parse_report_luns(cdb),
        REQUEST_SENSE => parse_request_sense(cdb),
        _ => Err(no_lun()),
    }
}

fn byte(cdb: &Cdb, at: usize) -> u8 {
    cdb.bytes().get(at).copied().unwrap_or(0)
}

fn data_in(cdb: &Cdb, length: u32) -> Parsed {
    let direction = if length == 0 { DataDirection::None } else { DataDirection::FromDevice };
    Parsed { direction, length, flags: flags_of(cdb), ..Parsed::default() }
}

/// What the opcode table says of a command that the core answers.
fn flags_of(cdb: &Cdb) -> CommandFlags {
    PRIMARY.lookup(cdb).map_or(CommandFlags::empty(), |row| row.flags) | CommandFlags::CORE
}

fn parse_inquiry(cdb: &Cdb) -> Result<Parsed, SenseData> {
    let evpd = byte(cdb, 1) & 1 != 0;
    if byte(cdb, 1) & 2 != 0 {
        return Err(SenseData::invalid_field_in_cdb(1, Some(1)));
    }
    if evpd || byte(cdb, 2) != 0 {
        return Err(SenseData::invalid_field_in_cdb(2, None));
    }
    let length = u32::from(byte(cdb, 3)) << 8 | u32::from(byte(cdb, 4));
    Ok(data_in(cdb, length))
}

fn parse_report_luns(cdb: &Cdb) -> Result<Parsed, SenseData> {
    if byte(cdb, 2) > 2 {
        return Err(SenseData::invalid_field_in_cdb(2, None));
    }
    let length = u32::from_be_bytes([byte(cdb, 6), byte(cdb, 7), byte(cdb, 8), byte(cdb, 9)]);
    if length < 16 {
        return Err(SenseData::invalid_field_in_cdb(6, None));
    }
    let length = length.min(REPORT_LUNS_MAX);
    Ok(data_in(cdb, length))
}

/// The longest LUN list there can be.
const REPORT_LUNS_MAX: u32 = 8 + 8 * (crate::config::MAX_LUN + 1);

fn parse_request_sense(cdb: &Cdb) -> Result<Parsed, SenseData> {
    if byte(cdb, 1) & 0xfe != 0 {
        return Err(SenseData::invalid_field_in_cdb(1, None));
    }
    Ok(data_in(cdb, u32::from(byte(cdb, 4))))
}

fn parse_reserve_6(cdb: &Cdb) -> Result<Parsed, SenseData> {
    // Extents were obsolete in SPC-2, third-party reservations need an SCSI ID that iSCSI and others do not have.
    for bit in [0, 4] {
        if byte(cdb, 1) & 1 << bit != 0 {
            return Err(SenseData::invalid_field_in_cdb(1, Some(bit)));
        }
    }
    Ok(Parsed { flags: flags_of(cdb), ..Parsed::default() })
}

fn parse_reserve_10(cdb: &Cdb) -> Result<Parsed, SenseData> {
    for bit in [0, 1, 4] {
        if byte(cdb, 1) & 1 << bit != 0 {
            return Err(SenseData::invalid_field_in_cdb(1, Some(bit)));
        }
    }
    if byte(cdb, 7) != 0 || byte(cdb, 8) != 0 {
        return Err(SenseData::invalid_field_in_cdb(7, None));
    }
    Ok(Parsed { flags: flags_of(cdb), ..Parsed::default() })
}

impl Engine {
    /// Answers a command of `Effect::ExecuteCore`.
    pub fn execute_core(&mut self, now: Nanos, id: CmdId, mem: &mut dyn Memory, fx: &mut Effects) {
        self.now = now;
        let Some(command) = self.command(id) else { return };
        let (opcode, session, slot) = (command.cdb.opcode(), command.session, command.nexus);
        let descriptor = byte(&command.cdb, 1) & 1 != 0;
        let select = byte(&command.cdb, 2);
        let (sg, length) = (command.sg, command.parsed.length);
        if matches!(opcode, RESERVE_6 | RESERVE_10 | RELEASE_6 | RELEASE_10) && !command.is_aborted() {
            self.change_reservation(id, slot, opcode, fx);
            return self.settle(fx);
        }
        let outcome = match opcode {
            // A reset of its nexus has released what it held; this would come after it.
            _ if command.is_aborted() => Outcome::good(0),
            REPORT_LUNS => Outcome::good(self.report_luns(session, select, &sg, length, mem)),
            REQUEST_SENSE => Outcome::good(self.request_sense(slot, descriptor, &sg, length, mem)),
            INQUIRY => Outcome::good(absent_inquiry(&sg, length, mem)),
            _ => Outcome::check(SenseData::invalid_opcode()),
        };
        let place = fx.place();
        if self.executed::<false>(id, &outcome, fx) {
            fx.insert(place, Effect::Respond { cmd: id });
        }
        self.settle(fx);
    }

    /// SPC-6 6.36. Reading the list clears REPORTED LUNS DATA HAS CHANGED.
    fn report_luns(
        &mut self,
        session: SessionId,
        select: u8,
        sg: &SgList,
        allocation: u32,
        mem: &mut dyn Memory,
    ) -> u32 {
        let Some(found) = self.sessions.get(session.index, session.generation) else { return 0 };
        let method = self.target(found.target).map_or(LunAddressMethod::Peripheral, |t| t.addressing);
        // Select report 01h asks for well known logical units only, and there are none.
        let luns = found.map.entries().iter().filter(|e| select != 1 && self.device(e.device).is_some());
        let mut at = 8;
        for entry in luns {
            let lun = Lun::encode(entry.lun, method).unwrap_or_default();
            if at < allocation {
                let room = (allocation - at).min(8) as usize;
                mem.copy_in(sg, at, &lun.0[..room]);
            }
            at += 8;
        }
        let mut header = [0; 8];
        header[..4].copy_from_slice(&(at - 8).to_be_bytes());
        mem.copy_in(sg, 0, &header);
        self.clear_attention(session, REPORTED_LUNS_CHANGED);
        at.min(allocation)
    }

    /// SPC-6 6.39: a pending unit attention is reported and cleared; otherwise there is nothing to tell, because
    /// every CHECK CONDITION carried its sense data.
    fn request_sense(
        &mut self,
        slot: u32,
        descriptor: bool,
        sg: &SgList,
        allocation: u32,
        mem: &mut dyn Memory,
    ) -> u32 {
        let sense = match self.nexuses.at_mut(slot) {
            None => no_lun(),
            Some(nexus) => match nexus.take_attention() {
                None => SenseData::new(SenseKey::NO_SENSE, scst_scsi::Asc(0)),
                Some(asc) => {
                    self.attention_told(slot, asc);
                    attention_sense(asc)
                }
            },
        };
        let mut bytes = [0; 64];
        let format = if descriptor { SenseFormat::Descriptor } else { SenseFormat::Fixed };
        let length = sense.emit(format, &mut bytes).min(allocation as usize);
        mem.copy_in(sg, 0, &bytes[..length]);
        length as u32
    }

    fn change_reservation(&mut self, id: CmdId, slot: u32, opcode: u8, fx: &mut Effects) {
        let reserves = matches!(opcode, RESERVE_6 | RESERVE_10);
        if let Some(nexus) = self.nexuses.at_mut(slot) {
            nexus.holds |= reserves;
        }
        let change = if reserves { ReservationChange::Hold } else { ReservationChange::ReleaseBy };
        let update = DeviceUpdate { reservation: self.nexus_id(slot).map(change), ..DeviceUpdate::default() };
        self.executed_with_update(id, update, fx);
    }
}

/// Standard INQUIRY data of a LUN that is not there: qualifier 011b, type 1Fh.
fn absent_inquiry(sg: &SgList, allocation: u32, mem: &mut dyn Memory) -> u32 {
    let mut data = [0; 36];
    data[0] = 0x7f;
    data[2] = 0x06;
    data[3] = 0x02;
    data[4] = 31;
    data[8..16].copy_from_slice(b"SCST    ");
    data[16..32].fill(b' ');
    data[32..36].fill(b' ');
    let length = data.len().min(allocation as usize);
    mem.copy_in(sg, 0, &data[..length]);
    length as u32
}
