//! What an I_T_L nexus lets its commands do on the fast path: reservation, unit attentions, write protection and the state
//! of the device, folded into one comparison of a command's flags.
//!
//! A command that does not pass is not refused by this: it takes the slow path, whose checks find out why.

use scst_scsi::{Asc, CommandFlags};

use crate::engine::Engine;
use crate::ids::DeviceId;

/// What takes the slow path whatever the nexus lets.
const SPECIAL: CommandFlags = CommandFlags::EXCLUSIVE.union(CommandFlags::RANGE_LOCK).union(CommandFlags::CORE);

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Access {
    looked_at: CommandFlags,
    /// What they have to be.
    wanted: CommandFlags,
}

impl Default for Access {
    fn default() -> Self {
        Self { looked_at: SPECIAL, wanted: CommandFlags::empty() }
    }
}

impl Access {
    /// Returns true when a command with these flags needs no further check.
    #[inline(always)]
    pub(crate) fn lets(self, flags: CommandFlags) -> bool {
        flags & self.looked_at == self.wanted
    }

    /// Only commands with a flag pass, or also the others.
    fn demand(&mut self, flag: CommandFlags, demanded: bool) {
        self.looked_at.set(flag, demanded);
        self.wanted.set(flag, demanded);
    }

    /// Commands with a flag do not pass, or do.
    fn refuse(&mut self, flag: CommandFlags, refused: bool) {
        self.looked_at.set(flag, refused);
    }

    /// A unit attention condition waits, or none does any more.
    pub(crate) fn attention(&mut self, waits: bool) {
        self.demand(CommandFlags::SKIPS_UNIT_ATTENTION, waits);
    }
}

impl Engine {
    /// Works out again what all nexuses of a device let pass, after something that they share has changed. A unit attention
    /// condition may be cleared on the way.
    pub(crate) fn renew_access(&mut self, device: DeviceId, clear: Option<Asc>) {
        let Some(found) = self.device(device) else { return };
        for at in 0..found.nexuses.len() {
            let Some(slot) = self.device(device).and_then(|d| d.nexuses.get(at).copied()) else { return };
            if let (Some(asc), Some(nexus)) = (clear, self.nexuses.at_mut(slot)) {
                nexus.clear_attention(asc);
            }
            self.renew_access_of(slot);
        }
    }

    /// Works out again what one nexus lets pass.
    pub(crate) fn renew_access_of(&mut self, slot: u32) {
        let access = self.access_of(slot);
        if let (Some(access), Some(nexus)) = (access, self.nexuses.at_mut(slot)) {
            nexus.access = access;
        }
    }

    /// What a nexus lets pass, as follows from its state and that of its device.
    pub(crate) fn access_of(&self, slot: u32) -> Option<Access> {
        let nexus = self.nexuses.at(slot)?;
        let device = self.device(nexus.device)?;
        let (name, limit) = (nexus.id(self.config.reactor), self.config.limits.parked_per_device);
        let mut access = Access::default();
        access.attention(!nexus.attentions().is_empty());
        access.demand(CommandFlags::RESERVED_OK, device.reservation.is_some_and(|holder| holder != name));
        access.refuse(CommandFlags::WRITES_MEDIUM, nexus.read_only || device.control.write_protect);
        access.refuse(CommandFlags::MEDIUM_ACCESS, device.parked >= limit);
        Some(access)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_stops_exactly_the_commands_that_it_is_about() {
        use CommandFlags as F;
        let (read, write, inquiry) =
            (F::MEDIUM_ACCESS, F::MEDIUM_ACCESS.union(F::WRITES_MEDIUM), F::RESERVED_OK.union(F::SKIPS_UNIT_ATTENTION));
        let passes = |access: Access| [read, write, inquiry].map(|flags| access.lets(flags));
        let with = |change: fn(&mut Access)| {
            let mut access = Access::default();
            change(&mut access);
            passes(access)
        };
        assert_eq!(passes(Access::default()), [true, true, true]);
        assert_eq!(with(|a| a.attention(true)), [false, false, true]);
        assert_eq!(with(|a| a.demand(F::RESERVED_OK, true)), [false, false, true]);
        assert_eq!(with(|a| a.refuse(F::WRITES_MEDIUM, true)), [true, false, true]);
        assert_eq!(with(|a| a.refuse(F::MEDIUM_ACCESS, true)), [false, false, true]);
        for flag in [F::EXCLUSIVE, F::RANGE_LOCK, F::CORE] {
            assert!(!Access::default().lets(flag));
        }
        let mut access = Access::default();
        access.attention(true);
        access.attention(false);
        assert_eq!(access, Access::default());
    }
}
