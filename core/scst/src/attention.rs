//! Unit attention conditions of one I_T_L nexus (SAM-5 5.14).

use scst_scsi::{Asc, SenseData, SenseKey};

/// Most conditions that wait for one nexus. Over it, the nexus gets one POWER ON condition instead, which tells the
/// initiator to look at everything again (SAM-5 5.14.2 allows it to stand for lesser ones).
const MAX_PENDING: usize = 16;

/// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
pub(crate) const POWER_ON: Asc = Asc(0x2900);
/// I_T NEXUS LOSS OCCURRED.
pub(crate) const NEXUS_LOSS: Asc = Asc(0x2907);
/// COMMANDS CLEARED BY ANOTHER INITIATOR.
pub(crate) const COMMANDS_CLEARED: Asc = Asc(0x2f00);
/// REPORTED LUNS DATA HAS CHANGED.
pub(crate) const REPORTED_LUNS_CHANGED: Asc = Asc(0x3f0e);

/// What waits to be told, most urgent first. There is one for each nexus, so it is small and allocates nothing.
#[derive(Debug)]
pub(crate) struct AttentionQueue {
    pending: [Asc; MAX_PENDING],
    len: u8,
}

impl Default for AttentionQueue {
    fn default() -> Self {
        Self { pending: [POWER_ON; MAX_PENDING], len: 0 }
    }
}

impl AttentionQueue {
    /// Establishes a condition. The same one is not queued twice; resets and nexus loss go first.
    pub(crate) fn establish(&mut self, asc: Asc) {
        let len = usize::from(self.len);
        if self.pending[..len].contains(&asc) {
            return;
        }
        if len == MAX_PENDING {
            self.pending[0] = POWER_ON;
            self.len = 1;
            return;
        }
        let at = if is_reset(asc) { 0 } else { len };
        self.pending.copy_within(at..len, at + 1);
        self.pending[at] = asc;
        self.len += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Clears and returns the most urgent condition.
    pub(crate) fn take(&mut self) -> Option<Asc> {
        let first = *self.pending[..usize::from(self.len)].first()?;
        self.remove(0);
        Some(first)
    }

    /// Clears one condition wherever it stands.
    pub(crate) fn clear(&mut self, asc: Asc) {
        if let Some(at) = self.pending[..usize::from(self.len)].iter().position(|a| *a == asc) {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        self.pending.copy_within(at + 1..usize::from(self.len), at);
        self.len -= 1;
    }
}

/// SAM-5 5.14.4: conditions of class 29h come before all others.
fn is_reset(asc: Asc) -> bool {
    asc.0 >> 8 == 0x29
}

/// The sense data that report a condition.
pub(crate) fn attention_sense(asc: Asc) -> SenseData {
    SenseData::new(SenseKey::UNIT_ATTENTION, asc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_come_first_and_nothing_comes_twice() {
        let mut queue = AttentionQueue::default();
        for asc in [0x2a01, 0x2a09, 0x2a01, 0x2900, 0x3f0e] {
            queue.establish(Asc(asc));
        }
        queue.clear(Asc(0x2a09));
        let order: Vec<u16> = std::iter::from_fn(|| queue.take()).map(|a| a.0).collect();
        assert_eq!(order, [0x2900, 0x2a01, 0x3f0e]);
    }

    #[test]
    fn too_many_become_one_power_on() {
        let mut queue = AttentionQueue::default();
        for asc in 0..=MAX_PENDING as u16 {
            queue.establish(Asc(0x3000 + asc));
        }
        assert_eq!(queue.take(), Some(POWER_ON));
        assert!(queue.is_empty());
    }
}
