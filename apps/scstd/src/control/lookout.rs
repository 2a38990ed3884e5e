//! Looking at the files of all devices, on a thread that nothing waits for.
//!
//! A look asks the file system, which may not answer. Then the device whose file it is is left out, and the others are looked at by
//! another thread, so that there are never more threads than devices that do not answer, and one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use scst_core::ids::DeviceId;

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
    /// Begins to look at devices, one after the other, unless that is still going on. To be called at each turn.
    pub(super) fn look<F: FnOnce() + Send + 'static>(&mut self, looks: impl Iterator<Item = (DeviceId, F)>) {
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
        let looks: Vec<_> = looks.filter(|(id, _)| !self.stuck.contains_key(id)).collect();
        let round = Round { at: AtomicU32::new(NONE), is_given_up: false.into(), is_over: false.into() };
        let round = Arc::new(round);
        let own = Arc::clone(&round);
        let spawned = thread::Builder::new().name("lookout".to_owned()).spawn(move || own.run(looks));
        // Without a thread the next turn tries again.
        self.round = spawned.is_ok().then_some(round);
        self.lasted = 0;
    }
}

impl Round {
    fn run<F: FnOnce()>(&self, looks: Vec<(DeviceId, F)>) {
        for (id, look) in looks {
            self.at.store(id.0, Ordering::Release);
            look();
            if self.is_given_up.load(Ordering::Acquire) {
                break;
            }
        }
        self.is_over.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Looks at devices 0 to 2; the first of them waits for `answer`.
    fn turn(lookout: &mut Lookout, seen: &Sender<u32>, answer: &Arc<Mutex<Receiver<()>>>) {
        let looks = (0..3).map(|n| {
            let (seen, answer) = (seen.clone(), Arc::clone(answer));
            let look = move || {
                if n == 0 {
                    drop(answer.lock().map(|answer| answer.recv()));
                }
                seen.send(n).unwrap();
            };
            (DeviceId(n), look)
        });
        lookout.look(looks);
    }

    /// Waits until nothing is looked at but by those that are stuck.
    fn until_over(lookout: &Lookout) {
        while lookout.round.as_ref().is_some_and(|round| !round.is_over.load(Ordering::Acquire)) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_device_that_does_not_answer_is_left_out_until_it_does() {
        let (mut lookout, (seen, sees), (answers, answer)) = (Lookout::default(), channel(), channel());
        let answer = Arc::new(Mutex::new(answer));
        while lookout.stuck.is_empty() {
            turn(&mut lookout, &seen, &answer);
            thread::yield_now();
        }
        assert_eq!(lookout.stuck.keys().collect::<Vec<_>>(), [&DeviceId(0)]);
        let next = || sees.recv().unwrap();
        assert_eq!([next(), next()], [1, 2], "the others are looked at without it");
        until_over(&lookout);
        turn(&mut lookout, &seen, &answer);
        assert_eq!([next(), next()], [1, 2]);
        until_over(&lookout);
        // It answers, now and from now on.
        drop(answers);
        assert_eq!(next(), 0);
        while lookout.stuck.values().any(|round| !round.is_over.load(Ordering::Acquire)) {
            thread::yield_now();
        }
        turn(&mut lookout, &seen, &answer);
        assert_eq!([next(), next(), next()], [0, 1, 2]);
        assert!(lookout.stuck.is_empty());
    }
}
