//! Looking at the files of all devices, on a thread that nothing waits for.
//!
//! A look asks the file system, which may not answer. Then the device whose file it is is left out, and the others are looked at by
//! another thread, so that there are never more threads than devices that do not answer, and one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use scst_core::ids::DeviceId;

use crate::disk::Disk;

/// Turns that a round of looks may last before the others are looked at without it.
const PATIENCE: u32 = 3;
/// Nothing, as the number of a device.
const NONE: u32 = u32::MAX;

/// Looks at files, again and again.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    round: Option<Arc<Round>>,
    /// Turns that the round has lasted.
    lasted: u32,
    /// Rounds that wait for one device each.
    stuck: BTreeMap<DeviceId, Arc<Round>>,
}

/// One look at each of some devices.
#[derive(Debug)]
struct Round {
    /// The device that is being looked at.
    at: AtomicU32,
    /// It is to end after this device.
    is_given_up: AtomicBool,
    is_over: AtomicBool,
}

impl Lookout {
    /// Begins to look at these devices, unless that is still going on. To be called at each turn.
    pub(super) fn look(&mut self, disks: impl Iterator<Item = (DeviceId, Disk)>) {
        self.stuck.retain(|_, round| !round.is_over.load(Ordering::Acquire));
        if let Some(round) = self.round.take_if(|round| !round.is_over.load(Ordering::Acquire)) {
            self.lasted += 1;
            let at = round.at.load(Ordering::Acquire);
            if self.lasted < PATIENCE || at == NONE {
                self.round = Some(round);
                return;
            }
            round.is_given_up.store(true, Ordering::Release);
            self.stuck.insert(DeviceId(at), round);
        }
        let disks: Vec<_> = disks.filter(|(id, _)| !self.stuck.contains_key(id)).collect();
        let round = Round { at: AtomicU32::new(NONE), is_given_up: false.into(), is_over: false.into() };
        let round = Arc::new(round);
        let own = Arc::clone(&round);
        let spawned = thread::Builder::new().name("lookout".to_owned()).spawn(move || own.run(&disks));
        // Without a thread the next turn tries again.
        self.round = spawned.is_ok().then_some(round);
        self.lasted = 0;
    }
}

impl Round {
    fn run(&self, disks: &[(DeviceId, Disk)]) {
        for (id, disk) in disks {
            self.at.store(id.0, Ordering::Release);
            disk.look();
            if self.is_given_up.load(Ordering::Acquire) {
                break;
            }
        }
        self.is_over.store(true, Ordering::Release);
    }
}
