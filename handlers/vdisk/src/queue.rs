//! What the kernel says of a block device's request queue, in `/sys/dev/block/MAJOR:MINOR`.

use std::fs;
use std::path::Path;

/// Properties of the storage that the disk reports. Zero: unknown, or not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Facts {
    /// Bytes of a physical block; 0 also for a partition that does not begin at one.
    pub(crate) physical_block: u64,
    /// Bytes that are deallocated together.
    pub(crate) discard_granularity: u64,
    /// Bytes from the start of the disk to the first such unit.
    pub(crate) discard_alignment: u64,
    /// Most bytes of one discard; 0 where there is none.
    pub(crate) max_discard: u64,
    /// Most bytes of one operation that deallocates and guarantees zeros; 0 where there is none, and before Linux 6.17.
    pub(crate) max_discard_to_zeroes: u64,
    /// It has a cache that loses data with the power, so durable data need a flush.
    pub(crate) volatile_cache: bool,
    /// The medium rotates; None where nobody knows.
    pub(crate) rotational: Option<bool>,
}

/// Reads what there is under the directory of a device.
pub(crate) fn facts(device: &Path) -> Facts {
    let text = |path: &str| fs::read_to_string(device.join(path)).ok();
    let number = |path: &str| -> Option<u64> { text(path)?.trim().parse().ok() };
    // A partition has no queue of its own.
    let queued = |name: &str| text(&format!("queue/{name}")).or_else(|| text(&format!("../queue/{name}")));
    let queue = |name: &str| -> Option<u64> { queued(name)?.trim().parse().ok() };
    // -1 where it cannot be said: then it is not 0.
    let whole = text("alignment_offset").is_none_or(|offset| offset.trim() == "0");
    Facts {
        physical_block: queue("physical_block_size").filter(|_| whole).unwrap_or(0),
        discard_granularity: queue("discard_granularity").unwrap_or(0),
        discard_alignment: number("discard_alignment").unwrap_or(0),
        max_discard: queue("discard_max_bytes").unwrap_or(0),
        max_discard_to_zeroes: queue("write_zeroes_unmap_max_bytes").unwrap_or(0),
        volatile_cache: queued("write_cache").is_some_and(|cache| cache.trim() == "write back"),
        rotational: queue("rotational").map(|rotational| rotational != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, values: &[(&str, &str)]) {
        for (name, value) in values {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
    }

    #[test]
    fn a_partition_has_the_queue_of_its_disk_and_an_alignment_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("queue/physical_block_size", "4096"),
                ("queue/discard_granularity", "65536"),
                ("queue/discard_max_bytes", "1048576"),
                ("queue/write_zeroes_unmap_max_bytes", "33553920"),
                ("queue/rotational", "0"),
                ("queue/write_cache", "write back"),
                ("discard_alignment", "0"),
                ("alignment_offset", "0"),
                ("part/discard_alignment", "32768"),
                ("part/alignment_offset", "3584"),
            ],
        );
        let disk = Facts {
            physical_block: 4096,
            discard_granularity: 65_536,
            discard_alignment: 0,
            max_discard: 1 << 20,
            max_discard_to_zeroes: 33_553_920,
            volatile_cache: true,
            rotational: Some(false),
        };
        assert_eq!(facts(dir.path()), disk);
        let part = Facts { physical_block: 0, discard_alignment: 32_768, ..disk };
        assert_eq!(facts(&dir.path().join("part")), part);
        assert_eq!(facts(Path::new("/nowhere")), Facts::default());
    }
}
