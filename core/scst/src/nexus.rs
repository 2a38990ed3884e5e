//! Sessions (I_T nexuses) and their view of each logical unit (I_T_L nexuses).

use std::sync::Arc;

use scst_scsi::Asc;

use crate::access::Access;
use crate::attention::AttentionQueue;
use crate::command::NONE;
use crate::config::{LunEntry, LunMap};
use crate::ids::{DeviceId, NexusId, ReactorId, SessionId, TargetId};
use crate::slab::Vacant;

/// A session of this engine.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) target: TargetId,
    pub(crate) initiator: String,
    /// The LUN map in force.
    pub(crate) map: Arc<LunMap>,
    /// Nexus slot by LUN number, [`NONE`] where there is no LUN, or none that the initiator has used: a nexus is made
    /// with its first command, so that many LUNs cost a session nothing.
    pub(crate) by_lun: Vec<u32>,
    /// Nexuses of LUNs that have left the map while they had commands.
    pub(crate) removed: Vec<u32>,
    /// Slots of its commands that are in no task set (see `members`).
    pub(crate) loose: Vec<u32>,
    /// Commands that have a slot.
    pub(crate) commands: u32,
    /// Commands that have ended.
    pub(crate) ended: u64,
    /// Bytes of buffers that they have or have asked for.
    pub(crate) bytes: u64,
    /// It is going away.
    pub(crate) closing: bool,
    /// The driver takes [`Execution::Mapped`](crate::handler::Execution::Mapped).
    pub(crate) takes_mapped: bool,
}

impl Session {
    pub(crate) fn nexus(&self, lun: u32) -> u32 {
        self.by_lun.get(lun as usize).copied().unwrap_or(NONE)
    }
}

/// One session's view of one logical unit.
#[derive(Debug)]
pub(crate) struct Nexus {
    pub(crate) session: SessionId,
    /// That of the session.
    pub(crate) target: TargetId,
    pub(crate) lun: u32,
    /// See [`NexusId::instance`].
    instance: u32,
    pub(crate) device: DeviceId,
    pub(crate) read_only: bool,
    /// What its commands may do on the fast path.
    pub(crate) access: Access,
    /// See the session's.
    pub(crate) takes_mapped: bool,
    /// The LUN left the map; the slot goes when its last command does.
    pub(crate) removed: bool,
    /// It has told home that it holds a reservation or prevents medium removal.
    pub(crate) holds: bool,
    attentions: AttentionQueue,
    /// Commands that have a slot.
    pub(crate) commands: u32,
    /// Task set: oldest and newest command, by slot.
    pub(crate) oldest: u32,
    pub(crate) newest: u32,
    /// Commands in the task set.
    pub(crate) in_task_set: u32,
    /// Of these, ORDERED and HEAD OF QUEUE ones.
    pub(crate) ordered: u32,
    pub(crate) head_of_queue: u32,
    /// Of these, commands in state `Queued`.
    pub(crate) queued: u32,
}

impl Nexus {
    /// The unit attention conditions that wait for it.
    pub(crate) fn attentions(&self) -> &AttentionQueue {
        &self.attentions
    }

    /// Establishes a unit attention condition.
    pub(crate) fn establish(&mut self, asc: Asc) {
        self.attentions.establish(asc);
        self.access.attention(true);
    }

    /// Clears and returns the most urgent unit attention condition.
    pub(crate) fn take_attention(&mut self) -> Option<Asc> {
        let asc = self.attentions.take();
        self.access.attention(!self.attentions.is_empty());
        asc
    }

    /// Clears one unit attention condition.
    pub(crate) fn clear_attention(&mut self, asc: Asc) {
        self.attentions.clear(asc);
        self.access.attention(!self.attentions.is_empty());
    }

    /// Its name across reactors, of which this is the one that it lives on.
    #[inline]
    pub(crate) fn id(&self, reactor: ReactorId) -> NexusId {
        NexusId { reactor, session: self.session, lun: self.lun, instance: self.instance }
    }

    pub(crate) fn new(session: SessionId, target: TargetId, entry: &LunEntry, instance: u32) -> Self {
        let &LunEntry { lun, device, read_only } = entry;
        Self {
            session,
            target,
            lun,
            instance,
            device,
            read_only,
            access: Access::default(),
            takes_mapped: false,
            removed: false,
            holds: false,
            attentions: AttentionQueue::default(),
            commands: 0,
            oldest: NONE,
            newest: NONE,
            in_task_set: 0,
            ordered: 0,
            head_of_queue: 0,
            queued: 0,
        }
    }
}

impl Vacant for Session {
    fn vacant() -> Self {
        Self {
            target: TargetId(0),
            initiator: String::new(),
            map: Arc::default(),
            by_lun: Vec::new(),
            removed: Vec::new(),
            loose: Vec::new(),
            commands: 0,
            ended: 0,
            bytes: 0,
            closing: false,
            takes_mapped: false,
        }
    }
}

impl Vacant for Nexus {
    fn vacant() -> Self {
        let entry = LunEntry { lun: 0, device: DeviceId(0), read_only: false };
        Self::new(SessionId { index: 0, generation: 0 }, TargetId(0), &entry, 0)
    }
}
