//! READ CAPACITY (SBC-4 5.20, 5.21).

use scst_scsi::bytes::Writer;

use crate::params::{DiskParameters, Geometry, finish};

/// READ CAPACITY (10). A disk that is too large for 32 bits answers FFFFFFFFh, which sends the initiator to the long
/// command; so does, with the wrap below, a disk without blocks.
pub fn read_capacity_10(geometry: &Geometry, buf: &mut [u8]) -> usize {
    let last = geometry.blocks.wrapping_sub(1);
    let mut out = Writer::new(buf);
    out.u32(u32::try_from(last).unwrap_or(u32::MAX)).u32(geometry.block_size);
    out.written()
}

/// READ CAPACITY (16). A disk without blocks has the last LBA FFFFFFFFFFFFFFFFh: one less than zero.
pub fn read_capacity_16(disk: &DiskParameters, geometry: &Geometry, allocation: u32, buf: &mut [u8]) -> usize {
    let mut out = Writer::new(buf);
    out.u64(geometry.blocks.wrapping_sub(1)).u32(geometry.block_size);
    // No protection information.
    out.u8(0);
    out.u8(disk.physical_exponent & 0x0f);
    // LBPME and LBPRZ; LOWEST ALIGNED LOGICAL BLOCK ADDRESS is 0.
    out.u16(disk.provisioning.map_or(0, |p| 0x8000 | if p.reads_zeros { 0x4000 } else { 0 }));
    out.zeros(16);
    finish(&out, allocation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Provisioning;

    fn ten(blocks: u64) -> [u8; 8] {
        let mut buf = [0; 8];
        assert_eq!(read_capacity_10(&Geometry { block_size: 4096, blocks }, &mut buf), 8);
        buf
    }

    #[test]
    fn the_short_form_says_ffffffff_when_it_cannot_tell() {
        assert_eq!(ten(0x0102_0304), [0x01, 0x02, 0x03, 0x03, 0, 0, 0x10, 0]);
        assert_eq!(ten(0xffff_ffff)[..4], [0xff, 0xff, 0xff, 0xfe]);
        assert_eq!(ten(0x1_0000_0000)[..4], [0xff; 4]);
        assert_eq!(ten(1 << 40)[..4], [0xff; 4]);
        assert_eq!(ten(0)[..4], [0xff; 4]);
    }

    #[test]
    fn the_long_form_tells_provisioning_and_physical_blocks() {
        let mut disk = DiskParameters::new("d", "", 512);
        let geometry = Geometry { block_size: 512, blocks: 0x01_0000_0000 };
        let mut buf = [0xee; 32];
        assert_eq!(read_capacity_16(&disk, &geometry, u32::MAX, &mut buf), 32);
        let mut want = vec![0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0];
        want.resize(32, 0);
        assert_eq!(buf, want[..]);

        disk.physical_exponent = 3;
        disk.provisioning =
            Some(Provisioning { granularity: 8, alignment: 0, max_unmap_blocks: 1, reads_zeros: true, anchor: false });
        assert_eq!(read_capacity_16(&disk, &geometry, 16, &mut buf), 16);
        assert_eq!(buf[12..16], [0x00, 0x03, 0xc0, 0x00]);
    }
}
