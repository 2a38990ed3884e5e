//! What the control plane tells every engine: immutable snapshots of targets, groups and LUN maps.
//!
//! A change is a new snapshot; the engine finds the difference for its live sessions itself.

use std::sync::Arc;

use scst_scsi::lun::LunAddressMethod;

use crate::ids::{DeviceId, TargetId};

pub mod pattern;

/// Largest LUN number (14 bits of flat space addressing, as the original).
pub const MAX_LUN: u32 = 16383;

/// One row of a LUN map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LunEntry {
    /// LUN number, at most [`MAX_LUN`].
    pub lun: u32,
    /// The device behind it.
    pub device: DeviceId,
    /// Writes through this LUN are refused.
    pub read_only: bool,
}

/// LUNs that a set of initiators sees, sorted by number, each number once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LunMap {
    entries: Vec<LunEntry>,
}

impl LunMap {
    /// Builds a map. Of two rows with the same number the later one counts; rows above [`MAX_LUN`] are left out.
    pub fn new(rows: impl IntoIterator<Item = LunEntry>) -> Self {
        let mut entries: Vec<LunEntry> = rows.into_iter().filter(|r| r.lun <= MAX_LUN).collect();
        entries.reverse();
        entries.sort_by_key(|e| e.lun);
        entries.dedup_by_key(|e| e.lun);
        Self { entries }
    }

    /// The row of a LUN number.
    pub fn get(&self, lun: u32) -> Option<&LunEntry> {
        let at = self.entries.binary_search_by_key(&lun, |e| e.lun).ok()?;
        self.entries.get(at)
    }

    /// The rows in order of LUN number.
    pub fn entries(&self) -> &[LunEntry] {
        &self.entries
    }
}

/// Initiators that see a LUN map of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitiatorGroup {
    /// Name of the group.
    pub name: String,
    /// Patterns of initiator names, see [`pattern`].
    pub initiators: Vec<String>,
    /// What they see.
    pub luns: Arc<LunMap>,
}

/// One target as the engines see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetConfig {
    /// Its number.
    pub id: TargetId,
    /// Its name (for iSCSI the target name).
    pub name: String,
    /// Whether new sessions are let in; live ones are closed when this turns false.
    pub enabled: bool,
    /// Relative target port identifier, 1 to 65535; 0 while disabled.
    pub relative_port: u16,
    /// How LUN numbers are written in REPORT LUNS.
    pub addressing: LunAddressMethod,
    /// LUNs for initiators that are in no group.
    pub luns: Arc<LunMap>,
    /// Initiator groups, searched in order.
    pub groups: Vec<InitiatorGroup>,
}

impl TargetConfig {
    /// The LUN map of an initiator: the first group that matches, else the target's own.
    pub fn map_for(&self, initiator: &str) -> &Arc<LunMap> {
        let group = self.groups.iter().find(|g| pattern::list_takes(&g.initiators, &[initiator]));
        group.map_or(&self.luns, |g| &g.luns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(patterns: &[&str]) -> Vec<String> {
        patterns.iter().map(|p| (*p).to_string()).collect()
    }

    #[test]
    fn groups_come_before_the_target_and_in_order() {
        let map = |device| Arc::new(LunMap::new([LunEntry { lun: 0, device: DeviceId(device), read_only: false }]));
        let target = TargetConfig {
            id: TargetId(0),
            name: "iqn.t".into(),
            enabled: true,
            relative_port: 1,
            addressing: LunAddressMethod::Peripheral,
            luns: map(0),
            groups: vec![
                InitiatorGroup { name: "one".into(), initiators: group(&["iqn.x:*"]), luns: map(1) },
                InitiatorGroup { name: "two".into(), initiators: group(&["iqn.*"]), luns: map(2) },
            ],
        };
        for (initiator, device) in [("iqn.X:1", 1), ("iqn.y", 2), ("eui.0", 0)] {
            assert_eq!(target.map_for(initiator).entries()[0].device, DeviceId(device));
        }
    }

    #[test]
    fn a_map_is_sorted_and_its_last_row_wins() {
        let row = |lun, device| LunEntry { lun, device: DeviceId(device), read_only: false };
        let map = LunMap::new([row(5, 1), row(0, 2), row(5, 3), row(MAX_LUN + 1, 4)]);
        assert_eq!(map.entries(), [row(0, 2), row(5, 3)]);
        assert_eq!((map.get(5), map.get(4)), (Some(&row(5, 3)), None));
    }
}
