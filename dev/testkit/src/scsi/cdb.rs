//! CDB builders for everything a disk answers (SPC-6, SBC-5). Each returns the bytes of the wire; nothing is checked,
//! so that a test can build wrong ones by changing a byte.

/// FUA, DPO, protection and group of a READ or WRITE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RwFlags {
    /// Force unit access.
    pub fua: bool,
    /// Disable page out.
    pub dpo: bool,
    /// RDPROTECT, WRPROTECT, VRPROTECT.
    pub protect: u8,
}

impl RwFlags {
    /// No flag.
    pub const NONE: Self = Self { fua: false, dpo: false, protect: 0 };
    /// Force unit access.
    pub const FUA: Self = Self { fua: true, dpo: false, protect: 0 };

    fn byte(self) -> u8 {
        (self.protect << 5) | (u8::from(self.dpo) << 4) | (u8::from(self.fua) << 3)
    }
}

fn cdb6(opcode: u8, byte1: u8, byte2: u8, byte3: u8, byte4: u8) -> Vec<u8> {
    vec![opcode, byte1, byte2, byte3, byte4, 0]
}

fn cdb10(opcode: u8, byte1: u8, lba: u32, length: u16) -> Vec<u8> {
    let mut cdb = vec![opcode, byte1];
    cdb.extend_from_slice(&lba.to_be_bytes());
    cdb.push(0);
    cdb.extend_from_slice(&length.to_be_bytes());
    cdb.push(0);
    cdb
}

fn cdb12(opcode: u8, byte1: u8, lba: u32, length: u32) -> Vec<u8> {
    let mut cdb = vec![opcode, byte1];
    cdb.extend_from_slice(&lba.to_be_bytes());
    cdb.extend_from_slice(&length.to_be_bytes());
    cdb.extend_from_slice(&[0, 0]);
    cdb
}

fn cdb16(opcode: u8, byte1: u8, lba: u64, length: u32) -> Vec<u8> {
    let mut cdb = vec![opcode, byte1];
    cdb.extend_from_slice(&lba.to_be_bytes());
    cdb.extend_from_slice(&length.to_be_bytes());
    cdb.extend_from_slice(&[0, 0]);
    cdb
}

/// TEST UNIT READY.
pub fn test_unit_ready() -> Vec<u8> {
    cdb6(0x00, 0, 0, 0, 0)
}

/// REQUEST SENSE; `descriptor` sets DESC.
pub fn request_sense(descriptor: bool, allocation: u8) -> Vec<u8> {
    cdb6(0x03, u8::from(descriptor), 0, 0, allocation)
}

/// INQUIRY, of standard data or of a VPD page.
pub fn inquiry(page: Option<u8>, allocation: u16) -> Vec<u8> {
    let [high, low] = allocation.to_be_bytes();
    cdb6(0x12, u8::from(page.is_some()), page.unwrap_or(0), high, low)
}

/// REPORT LUNS.
pub fn report_luns(select: u8, allocation: u32) -> Vec<u8> {
    let mut cdb = cdb12(0xa0, 0, 0, allocation);
    cdb[2] = select;
    cdb
}

/// MODE SENSE (6).
pub fn mode_sense6(disable_block_descriptors: bool, control: u8, page: u8, subpage: u8, allocation: u8) -> Vec<u8> {
    cdb6(0x1a, u8::from(disable_block_descriptors) << 3, (control << 6) | page, subpage, allocation)
}

/// MODE SENSE (10).
pub fn mode_sense10(disable_block_descriptors: bool, control: u8, page: u8, subpage: u8, allocation: u16) -> Vec<u8> {
    let mut cdb = cdb10(0x5a, u8::from(disable_block_descriptors) << 3, 0, allocation);
    cdb[2] = (control << 6) | page;
    cdb[3] = subpage;
    cdb
}

/// MODE SELECT (6).
pub fn mode_select6(page_format: bool, save: bool, length: u8) -> Vec<u8> {
    cdb6(0x15, (u8::from(page_format) << 4) | u8::from(save), 0, 0, length)
}

/// MODE SELECT (10).
pub fn mode_select10(page_format: bool, save: bool, length: u16) -> Vec<u8> {
    cdb10(0x55, (u8::from(page_format) << 4) | u8::from(save), 0, length)
}

/// LOG SENSE, current cumulative values.
pub fn log_sense(page: u8, subpage: u8, parameter: u16, allocation: u16) -> Vec<u8> {
    let mut cdb = cdb10(0x4d, 0, 0, allocation);
    cdb[2] = 0x40 | page;
    cdb[3] = subpage;
    cdb[5..7].copy_from_slice(&parameter.to_be_bytes());
    cdb
}

/// READ (6); 256 blocks are written as 0.
pub fn read6(lba: u32, blocks: u8) -> Vec<u8> {
    cdb6(0x08, (lba >> 16) as u8 & 0x1f, (lba >> 8) as u8, lba as u8, blocks)
}

/// WRITE (6).
pub fn write6(lba: u32, blocks: u8) -> Vec<u8> {
    cdb6(0x0a, (lba >> 16) as u8 & 0x1f, (lba >> 8) as u8, lba as u8, blocks)
}

/// READ (10).
pub fn read10(lba: u32, blocks: u16, flags: RwFlags) -> Vec<u8> {
    cdb10(0x28, flags.byte(), lba, blocks)
}

/// READ (12).
pub fn read12(lba: u32, blocks: u32, flags: RwFlags) -> Vec<u8> {
    cdb12(0xa8, flags.byte(), lba, blocks)
}

/// READ (16).
pub fn read16(lba: u64, blocks: u32, flags: RwFlags) -> Vec<u8> {
    cdb16(0x88, flags.byte(), lba, blocks)
}

/// WRITE (10).
pub fn write10(lba: u32, blocks: u16, flags: RwFlags) -> Vec<u8> {
    cdb10(0x2a, flags.byte(), lba, blocks)
}

/// WRITE (12).
pub fn write12(lba: u32, blocks: u32, flags: RwFlags) -> Vec<u8> {
    cdb12(0xaa, flags.byte(), lba, blocks)
}

/// WRITE (16).
pub fn write16(lba: u64, blocks: u32, flags: RwFlags) -> Vec<u8> {
    cdb16(0x8a, flags.byte(), lba, blocks)
}

/// READ (32) and its like: a variable-length CDB (SPC-6 4.2.5) with service action, LBA and length.
pub fn variable32(service_action: u16, flags: RwFlags, lba: u64, blocks: u32) -> Vec<u8> {
    let mut cdb = vec![0; 32];
    cdb[0] = 0x7f;
    cdb[7] = 0x18;
    cdb[8..10].copy_from_slice(&service_action.to_be_bytes());
    cdb[10] = flags.byte();
    cdb[12..20].copy_from_slice(&lba.to_be_bytes());
    cdb[28..32].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// WRITE AND VERIFY (10), with BYTCHK.
pub fn write_and_verify10(lba: u32, blocks: u16, byte_check: u8) -> Vec<u8> {
    cdb10(0x2e, byte_check << 1, lba, blocks)
}

/// WRITE AND VERIFY (12).
pub fn write_and_verify12(lba: u32, blocks: u32, byte_check: u8) -> Vec<u8> {
    cdb12(0xae, byte_check << 1, lba, blocks)
}

/// WRITE AND VERIFY (16).
pub fn write_and_verify16(lba: u64, blocks: u32, byte_check: u8) -> Vec<u8> {
    cdb16(0x8e, byte_check << 1, lba, blocks)
}

/// VERIFY (10), with BYTCHK (0: medium only, 1: data sent, 3: one block sent).
pub fn verify10(lba: u32, blocks: u16, byte_check: u8) -> Vec<u8> {
    cdb10(0x2f, byte_check << 1, lba, blocks)
}

/// VERIFY (12).
pub fn verify12(lba: u32, blocks: u32, byte_check: u8) -> Vec<u8> {
    cdb12(0xaf, byte_check << 1, lba, blocks)
}

/// VERIFY (16).
pub fn verify16(lba: u64, blocks: u32, byte_check: u8) -> Vec<u8> {
    cdb16(0x8f, byte_check << 1, lba, blocks)
}

/// SYNCHRONIZE CACHE (10); 0 blocks: to the end of the medium.
pub fn synchronize_cache10(lba: u32, blocks: u16, immediate: bool) -> Vec<u8> {
    cdb10(0x35, u8::from(immediate) << 1, lba, blocks)
}

/// SYNCHRONIZE CACHE (16).
pub fn synchronize_cache16(lba: u64, blocks: u32, immediate: bool) -> Vec<u8> {
    cdb16(0x91, u8::from(immediate) << 1, lba, blocks)
}

/// PRE-FETCH (10).
pub fn prefetch10(lba: u32, blocks: u16, immediate: bool) -> Vec<u8> {
    cdb10(0x34, u8::from(immediate) << 1, lba, blocks)
}

/// PRE-FETCH (16).
pub fn prefetch16(lba: u64, blocks: u32, immediate: bool) -> Vec<u8> {
    cdb16(0x90, u8::from(immediate) << 1, lba, blocks)
}

/// READ CAPACITY (10).
pub fn read_capacity10() -> Vec<u8> {
    cdb10(0x25, 0, 0, 0)
}

/// READ CAPACITY (16).
pub fn read_capacity16(allocation: u32) -> Vec<u8> {
    cdb16(0x9e, 0x10, 0, allocation)
}

/// GET LBA STATUS.
pub fn get_lba_status(lba: u64, allocation: u32) -> Vec<u8> {
    cdb16(0x9e, 0x12, lba, allocation)
}

/// UNMAP.
pub fn unmap(anchor: bool, parameter_length: u16) -> Vec<u8> {
    cdb10(0x42, u8::from(anchor), 0, parameter_length)
}

/// Flags of WRITE SAME.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WriteSameFlags {
    /// ANCHOR.
    pub anchor: bool,
    /// UNMAP.
    pub unmap: bool,
    /// No data-out buffer, (16) only.
    pub ndob: bool,
}

impl WriteSameFlags {
    fn byte(self) -> u8 {
        (u8::from(self.anchor) << 4) | (u8::from(self.unmap) << 3) | u8::from(self.ndob)
    }
}

/// WRITE SAME (10).
pub fn write_same10(lba: u32, blocks: u16, flags: WriteSameFlags) -> Vec<u8> {
    cdb10(0x41, flags.byte(), lba, blocks)
}

/// WRITE SAME (16).
pub fn write_same16(lba: u64, blocks: u32, flags: WriteSameFlags) -> Vec<u8> {
    cdb16(0x93, flags.byte(), lba, blocks)
}

/// COMPARE AND WRITE: twice `blocks` are sent.
pub fn compare_and_write(lba: u64, blocks: u8, flags: RwFlags) -> Vec<u8> {
    let mut cdb = cdb16(0x89, flags.byte(), lba, 0);
    cdb[13] = blocks;
    cdb
}

/// ORWRITE (16).
pub fn orwrite16(lba: u64, blocks: u32, flags: RwFlags) -> Vec<u8> {
    cdb16(0x8b, flags.byte(), lba, blocks)
}

/// START STOP UNIT.
pub fn start_stop_unit(immediate: bool, power_condition: u8, load_eject: bool, start: bool) -> Vec<u8> {
    let byte4 = (power_condition << 4) | (u8::from(load_eject) << 1) | u8::from(start);
    cdb6(0x1b, u8::from(immediate), 0, 0, byte4)
}

/// PREVENT ALLOW MEDIUM REMOVAL.
pub fn prevent_allow(prevent: bool) -> Vec<u8> {
    cdb6(0x1e, 0, 0, 0, u8::from(prevent))
}

/// SEND DIAGNOSTIC, the default self-test.
pub fn send_diagnostic_self_test() -> Vec<u8> {
    cdb6(0x1d, 0x04, 0, 0, 0)
}

/// REPORT SUPPORTED OPERATION CODES; `options` 0 all, 1 one code, 2 code and service action, 3 either.
pub fn report_opcodes(timeouts: bool, options: u8, opcode: u8, service_action: u16, allocation: u32) -> Vec<u8> {
    let mut cdb = cdb12(0xa3, 0x0c, 0, allocation);
    cdb[2] = (u8::from(timeouts) << 7) | options;
    cdb[3] = opcode;
    cdb[4..6].copy_from_slice(&service_action.to_be_bytes());
    cdb
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
pub fn report_task_management(extended: bool, allocation: u32) -> Vec<u8> {
    let mut cdb = cdb12(0xa3, 0x0d, 0, allocation);
    cdb[2] = u8::from(extended) << 7;
    cdb
}

/// REPORT TARGET PORT GROUPS.
pub fn report_target_port_groups(allocation: u32) -> Vec<u8> {
    cdb12(0xa3, 0x0a, 0, allocation)
}

/// RESERVE (6) (SPC-2).
pub fn reserve6() -> Vec<u8> {
    cdb6(0x16, 0, 0, 0, 0)
}

/// RELEASE (6) (SPC-2).
pub fn release6() -> Vec<u8> {
    cdb6(0x17, 0, 0, 0, 0)
}

/// RESERVE (10) (SPC-2).
pub fn reserve10() -> Vec<u8> {
    cdb10(0x56, 0, 0, 0)
}

/// RELEASE (10) (SPC-2).
pub fn release10() -> Vec<u8> {
    cdb10(0x57, 0, 0, 0)
}

/// PERSISTENT RESERVE IN: 0 keys, 1 reservation, 2 capabilities, 3 full status.
pub fn persistent_reserve_in(service_action: u8, allocation: u16) -> Vec<u8> {
    cdb10(0x5e, service_action, 0, allocation)
}

/// PERSISTENT RESERVE OUT: 0 register, 1 reserve, 2 release, 3 clear, 4 preempt, 5 preempt and abort,
/// 6 register and ignore, 7 register and move.
pub fn persistent_reserve_out(service_action: u8, kind: u8, parameter_length: u32) -> Vec<u8> {
    let mut cdb = cdb10(0x5f, service_action, 0, 0);
    cdb[2] = kind;
    cdb[5..9].copy_from_slice(&parameter_length.to_be_bytes());
    cdb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_the_standard() {
        assert_eq!(read6(0x12_3456, 8), [0x08, 0x12, 0x34, 0x56, 8, 0]);
        assert_eq!(read10(0x0102_0304, 0x0506, RwFlags::FUA), [0x28, 0x08, 1, 2, 3, 4, 0, 5, 6, 0]);
        assert_eq!(write12(1, 2, RwFlags::NONE), [0xaa, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0]);
        assert_eq!(write16(1, 2, RwFlags::NONE), [0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0]);
        assert_eq!(read_capacity16(32), [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0]);
        assert_eq!(inquiry(Some(0xb0), 0x1234), [0x12, 1, 0xb0, 0x12, 0x34, 0]);
        assert_eq!(report_luns(2, 16), [0xa0, 0, 2, 0, 0, 0, 0, 0, 0, 16, 0, 0]);
        assert_eq!(unmap(true, 24), [0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0]);
        assert_eq!(compare_and_write(7, 1, RwFlags::NONE), [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0]);
        assert_eq!(persistent_reserve_out(1, 5, 24), [0x5f, 1, 5, 0, 0, 0, 0, 0, 24, 0]);
        assert_eq!(mode_sense10(true, 1, 0x3f, 0xff, 0x100), [0x5a, 8, 0x7f, 0xff, 0, 0, 0, 1, 0, 0]);
        assert_eq!(log_sense(0x0d, 0, 1, 64), [0x4d, 0, 0x4d, 0, 0, 0, 1, 0, 64, 0]);
        assert_eq!(report_opcodes(true, 3, 0x9e, 0x10, 512), [0xa3, 0xc, 0x83, 0x9e, 0, 0x10, 0, 0, 2, 0, 0, 0]);
        assert_eq!(variable32(9, RwFlags::NONE, 1, 2)[7..10], [0x18, 0, 9]);
    }
}
