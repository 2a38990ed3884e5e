//! The end of a session, also when the storage does not answer.
//!
//! A session that ends aborts its commands. Those that execute end with their operations, which nobody can hurry. After a
//! short time of grace they are parked: the session, its name and its other devices go on without them, and only the
//! device keeps them, with their slot, their nexus and their buffer, until their operations have ended.
//!
//! A parked WRITE may still reach the medium although its initiator takes it for aborted. So before its session goes, a
//! fence is closed on every engine ([`BarrierScope::Fence`]): what overlaps its blocks waits for it. Thus no initiator sees
//! a write after the end of the session that sent it.

use scst_scsi::CommandFlags;

use crate::command::{CommandMarks, CommandState, NONE};
use crate::engine::{Effects, Engine};
use crate::event::{BarrierScope, DeviceUpdate, Effect};
use crate::ids::{CmdId, DeviceId, SessionId};

impl Engine {
    /// A session ends: everything it has is aborted, silently.
    pub(crate) fn session_down(&mut self, id: SessionId, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(id.index, id.generation) else { return };
        if std::mem::replace(&mut session.closing, true) {
            return;
        }
        self.drop_held_back_of(id, fx);
        for cmd in self.commands_of_session(id, |_| true) {
            self.abort(cmd, CommandMarks::SESSION_GONE, None, fx);
        }
        if self.sessions.get(id.index, id.generation).is_some_and(|s| s.commands == 0) {
            self.session_gone(id, fx);
        } else {
            self.closing.push((id, self.now.after(self.config.limits.grace)));
            self.keep_looking();
        }
    }

    /// Parks what sessions that have waited long enough still have. Returns true while sessions are closing.
    pub(crate) fn look_after_closing(&mut self, fx: &mut Effects) -> bool {
        let exists = |engine: &Self, id: SessionId| engine.sessions.get(id.index, id.generation).is_some();
        for (id, at) in std::mem::take(&mut self.closing) {
            if !exists(self, id) {
                continue;
            }
            if at <= self.now {
                for cmd in self.commands_of_session(id, |c| c.state == CommandState::Executing) {
                    self.park(cmd, fx);
                }
            }
            if exists(self, id) {
                self.closing.push((id, at));
            }
        }
        !self.closing.is_empty()
    }

    /// Parks a command: at once if it cannot change the medium any more, else when its fence is closed.
    fn park(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(command) = self.command(id) else { return };
        let Some(device) = command.device else { return };
        let (flags, lba, blocks) = (command.parsed.flags, command.parsed.lba, command.parsed.blocks);
        let fence_comes = command.marks.contains(CommandMarks::FENCED | CommandMarks::OWNS_BARRIER);
        if fence_comes || command.marks.contains(CommandMarks::PARKED) {
            return;
        }
        if flags.intersects(CommandFlags::EXCLUSIVE | CommandFlags::RANGE_LOCK) {
            // It goes on to be alone.
            return self.detach(id, fx);
        }
        // An ORDERED command was alone for its order only, which ends with it.
        self.release_barrier_of(id, DeviceUpdate::default(), fx);
        if !flags.contains(CommandFlags::WRITES_MEDIUM) {
            return self.detach(id, fx);
        }
        let scope = match flags.contains(CommandFlags::MEDIUM_ACCESS) {
            true => BarrierScope::Fence { lba, blocks },
            false => BarrierScope::Fence { lba: 0, blocks: u64::MAX },
        };
        self.request_fence(id, device, scope, fx);
    }

    /// The session lets a command go that still executes.
    pub(crate) fn detach(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(command) = self.command_mut(id) else { return };
        if command.state != CommandState::Executing || command.marks.contains(CommandMarks::PARKED) {
            return;
        }
        command.marks |= CommandMarks::PARKED;
        let (session, driver_tag, device) = (command.session, command.driver_tag, command.device);
        let reserved = std::mem::take(&mut command.reserved);
        fx.push_back(Effect::Parked { session, driver_tag, cmd: id });
        if let Some(device) = device {
            self.count_parked(device, 1, fx);
        }
        self.command_left(session, reserved, fx);
    }

    /// A parked command has ended: nothing is left of it.
    pub(crate) fn unpark(&mut self, id: CmdId, fx: &mut Effects) {
        fx.push_back(Effect::Unparked { cmd: id });
        if let Some(device) = self.command(id).and_then(|c| c.device) {
            self.count_parked(device, -1, fx);
        }
    }

    fn count_parked(&mut self, id: DeviceId, change: i32, fx: &mut Effects) {
        let limit = self.config.limits.parked_per_device;
        let Some(device) = self.device_mut(id) else { return };
        let before = device.parked;
        device.parked = before.saturating_add_signed(change);
        let after = device.parked;
        if (before >= limit) != (after >= limit) {
            self.renew_access(id, None);
        }
        if (before == 0) != (after == 0) {
            fx.push_back(Effect::DeviceStuck { device: id, stuck: after > 0 });
        }
    }

    /// A session has a command less.
    #[inline(always)]
    pub(crate) fn command_left(&mut self, id: SessionId, reserved: u32, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(id.index, id.generation) else { return };
        session.commands -= 1;
        session.ended += 1;
        session.bytes -= u64::from(reserved);
        if session.closing && session.commands == 0 {
            self.session_gone(id, fx);
        }
    }

    /// The last command of a closing session has gone. Nexuses with parked commands stay until those have ended.
    #[cold]
    #[inline(never)]
    fn session_gone(&mut self, id: SessionId, fx: &mut Effects) {
        let Some(session) = self.sessions.remove(id.index, id.generation) else { return };
        if let Some(latency) = &mut self.latency {
            latency.sessions.remove(id.index);
        }
        for slot in session.by_lun.into_iter().filter(|s| *s != NONE) {
            self.retire_nexus(slot, fx);
        }
        self.drop_tmfs_of(id, fx);
        fx.push_back(Effect::SessionClosed { session: id });
    }

    /// Commands whose session went on without them.
    pub fn parked_commands(&self) -> usize {
        self.devices.iter().flatten().map(|device| device.parked as usize).sum()
    }
}
