//! Counts again what an engine keeps count of, for tests.

use scst_scsi::TaskAttribute;

use crate::barrier::BarrierOwner;
use crate::command::{Command, CommandMarks, CommandState, NONE};
use crate::engine::Engine;
use crate::ids::SessionId;

impl Engine {
    /// Compares every count and every derived value of the engine with what it stands for. It looks at everything, so it is for
    /// tests only.
    ///
    /// # Panics
    /// When one of them is wrong.
    pub fn assert_consistent(&self) {
        let count = |of: &dyn Fn(&Command) -> bool| self.commands.iter().filter(|(_, _, c)| of(c)).count();
        for device in self.devices.iter().flatten() {
            let on = |c: &Command| c.device == Some(device.id);
            assert_eq!(
                device.executing as usize,
                count(&|c| on(c) && c.is_executing()),
                "executing on {:?}",
                device.id
            );
            let parked = count(&|c| on(c) && c.marks.contains(CommandMarks::PARKED));
            assert_eq!(device.parked as usize, parked, "parked on {:?}", device.id);
        }
        for (slot, _, nexus) in self.nexuses.iter() {
            let of = |c: &Command| c.nexus == slot;
            let in_order = |c: &Command| of(c) && c.marks.contains(CommandMarks::IN_TASK_SET);
            let with = |attribute| count(&|c| in_order(c) && c.attribute == attribute);
            assert_eq!(Some(nexus.access), self.access_of(slot), "access of {nexus:?}");
            assert_eq!(nexus.commands as usize, count(&of));
            assert_eq!(nexus.in_task_set as usize, count(&in_order));
            assert_eq!(nexus.ordered as usize, with(TaskAttribute::Ordered));
            assert_eq!(nexus.head_of_queue as usize, with(TaskAttribute::HeadOfQueue));
            assert_eq!(nexus.queued as usize, count(&|c| in_order(c) && c.state == CommandState::Queued));
            assert_eq!(
                self.commands_of_nexus(slot, |c| c.marks.contains(CommandMarks::IN_TASK_SET)).len(),
                count(&in_order)
            );
        }
        for (index, generation, session) in self.sessions.iter() {
            let id = SessionId { index, generation };
            let of = |c: &Command| c.session == id && !c.marks.contains(CommandMarks::PARKED);
            assert_eq!(session.commands as usize, count(&of));
            assert_eq!(session.loose.len(), count(&|c| of(c) && c.marks.contains(CommandMarks::LOOSE)));
            let reserved = self.commands.iter().filter(|(_, _, c)| of(c)).map(|(_, _, c)| u64::from(c.reserved));
            assert_eq!(session.bytes, reserved.sum::<u64>());
        }
        let resets = self.owned.iter().filter(|(_, _, owned)| matches!(owned.owner, BarrierOwner::Tmf(_)));
        assert_eq!(self.unit_resets as usize, resets.count(), "barriers of functions");
        let owners = |c: &Command| c.marks.contains(CommandMarks::OWNS_BARRIER) && c.barrier != NONE;
        let owned = self.owned.iter().filter(|(_, _, owned)| matches!(owned.owner, BarrierOwner::Command(_)));
        assert_eq!(owned.count(), count(&owners), "barriers of commands");
    }
}
