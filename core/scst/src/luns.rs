//! LUN maps of live sessions: what a new snapshot of a target changes.

use std::sync::Arc;

use crate::attention::{POWER_ON, REPORTED_LUNS_CHANGED, attention_sense};
use crate::command::NONE;
use crate::config::{LunEntry, LunMap, TargetConfig};
use crate::engine::{Device, Effects, Engine};
use crate::event::{DeviceUpdate, Effect, ReservationChange};
use crate::ids::{DeviceId, SessionId, TargetId};
use crate::nexus::Nexus;

/// Whether a device takes new nexuses.
pub(crate) fn is_there(devices: &[Option<Device>], id: DeviceId) -> bool {
    devices.get(id.index()).and_then(Option::as_ref).is_some_and(|d| d.id == id && !d.removing)
}

impl Engine {
    /// A target is new or has changed. Sessions keep going; those whose LUNs change are told.
    pub(crate) fn set_target(&mut self, target: Arc<TargetConfig>, fx: &mut Effects) {
        let index = target.id.index();
        if self.targets.len() <= index {
            self.targets.resize(index + 1, None);
        }
        self.targets[index] = Some(Arc::clone(&target));
        for session in self.sessions_of(target.id) {
            if !target.enabled {
                fx.push_back(Effect::CloseSession { session });
                continue;
            }
            let Some(found) = self.sessions.get(session.index, session.generation) else { continue };
            let map = Arc::clone(target.map_for(&found.initiator));
            if *map != *found.map {
                self.replace_map(session, map, fx);
            }
        }
    }

    pub(crate) fn remove_target(&mut self, target: TargetId, fx: &mut Effects) {
        if let Some(slot) = self.targets.get_mut(target.index()) {
            slot.take_if(|found| found.id == target);
        }
        for session in self.sessions_of(target) {
            fx.push_back(Effect::CloseSession { session });
        }
    }

    fn sessions_of(&self, target: TargetId) -> Vec<SessionId> {
        self.sessions
            .iter()
            .filter(|(_, _, s)| s.target == target && !s.closing)
            .map(|(index, generation, _)| SessionId { index, generation })
            .collect()
    }

    fn replace_map(&mut self, session: SessionId, map: Arc<LunMap>, fx: &mut Effects) {
        for slot in self.apply_map(session, map) {
            if self.retire_nexus(slot, fx)
                && let Some(session) = self.sessions.get_mut(session.index, session.generation)
            {
                session.removed.push(slot);
            }
        }
        let slots: Vec<u32> = self
            .sessions
            .get(session.index, session.generation)
            .map(|s| s.by_lun.iter().copied().filter(|s| *s != NONE).collect())
            .unwrap_or_default();
        for slot in slots {
            if let Some(nexus) = self.nexuses.at_mut(slot) {
                nexus.establish(REPORTED_LUNS_CHANGED);
            }
        }
        fx.push_back(Effect::AsyncEvent { session, sense: Box::new(attention_sense(REPORTED_LUNS_CHANGED)) });
    }

    /// Makes a live session see another map; returns nexuses that are in it no more. A LUN that shows another device
    /// than before is a new nexus; one that is as before and that nobody has used stays without one.
    fn apply_map(&mut self, id: SessionId, map: Arc<LunMap>) -> Vec<u32> {
        let Some(session) = self.sessions.get_mut(id.index, id.generation) else { return Vec::new() };
        let mut old = std::mem::take(&mut session.by_lun);
        let old_map = std::mem::replace(&mut session.map, Arc::clone(&map));
        for entry in map.entries() {
            let before = old.get(entry.lun as usize).copied().unwrap_or(NONE);
            if let Some(nexus) = self.nexuses.at_mut(before).filter(|n| n.device == entry.device) {
                nexus.read_only = entry.read_only;
                old[entry.lun as usize] = NONE;
                self.enter(id, entry.lun, before);
                self.renew_access_of(before);
            } else if before != NONE || old_map.get(entry.lun).is_none_or(|e| e.device != entry.device) {
                self.meet(id, entry);
            }
        }
        old.into_iter().filter(|s| *s != NONE).collect()
    }

    /// The LUN of a live session that has no nexus yet, if its device is there.
    pub(crate) fn unmet(&self, session: SessionId, lun: u32) -> Option<LunEntry> {
        let session = self.sessions.get(session.index, session.generation)?;
        let entry = session.map.get(lun)?;
        (session.nexus(lun) == NONE && is_there(&self.devices, entry.device)).then_some(*entry)
    }

    /// Makes the nexus of a LUN that is used for the first time. What has happened to the unit since the session began
    /// is covered by POWER ON (SAM-5 5.14.2). False when a limit is reached or the device is not there.
    pub(crate) fn meet(&mut self, id: SessionId, entry: &LunEntry) -> bool {
        if !is_there(&self.devices, entry.device) {
            return false;
        }
        let Some(device) = self.devices.get_mut(entry.device.index()).and_then(Option::as_mut) else { return false };
        let Some(session) = self.sessions.get(id.index, id.generation) else { return false };
        let mut nexus = Nexus::new(id, session.target, entry, self.nexuses_made);
        self.nexuses_made = self.nexuses_made.wrapping_add(1);
        nexus.takes_mapped = session.takes_mapped;
        nexus.establish(POWER_ON);
        let Some((slot, _)) = self.nexuses.insert(nexus) else { return false };
        device.nexuses.push(slot);
        self.enter(id, entry.lun, slot);
        self.renew_access_of(slot);
        true
    }

    fn enter(&mut self, id: SessionId, lun: u32, slot: u32) {
        let Some(session) = self.sessions.get_mut(id.index, id.generation) else { return };
        let at = lun as usize;
        if session.by_lun.len() <= at {
            session.by_lun.resize(at + 1, NONE);
        }
        session.by_lun[at] = slot;
    }

    /// A nexus is in no map any more. Returns true when it stays until its last command has ended.
    pub(crate) fn retire_nexus(&mut self, slot: u32, fx: &mut Effects) -> bool {
        let Some(nexus) = self.nexuses.at_mut(slot) else { return false };
        if nexus.commands == 0 {
            self.drop_nexus(slot, fx);
            return false;
        }
        nexus.removed = true;
        self.release_holds(slot, fx);
        true
    }

    /// Frees a nexus without commands. A reservation it held is released (SPC-2 5.5.1: loss of the nexus).
    #[cold]
    #[inline(never)]
    pub(crate) fn drop_nexus(&mut self, slot: u32, fx: &mut Effects) {
        self.release_holds(slot, fx);
        let Some((index, generation)) = self.nexuses.name(slot) else { return };
        let Some(nexus) = self.nexuses.remove(index, generation) else { return };
        debug_assert_eq!(nexus.in_task_set, 0);
        if nexus.removed
            && let Some(session) = self.sessions.get_mut(nexus.session.index, nexus.session.generation)
        {
            session.removed.retain(|removed| *removed != slot);
        }
        if let Some(device) = self.device_mut(nexus.device)
            && let Some(at) = device.nexuses.iter().position(|n| *n == slot)
        {
            device.nexuses.swap_remove(at);
        }
        self.try_remove_device(nexus.device, fx);
    }

    /// Releases a nexus's reservation and lets the medium go. The news that it has them may still be on their way: those
    /// that it has them no more go the same way, behind them.
    pub(crate) fn release_holds(&mut self, slot: u32, fx: &mut Effects) {
        let Some(name) = self.nexus_id(slot) else { return };
        let Some(nexus) = self.nexuses.at_mut(slot).filter(|n| n.holds) else { return };
        nexus.holds = false;
        let device = nexus.device;
        let update = DeviceUpdate {
            reservation: Some(ReservationChange::ReleaseBy(name)),
            prevention: Some((name, false)),
            ..DeviceUpdate::default()
        };
        self.update_device(device, update, fx);
    }
}
