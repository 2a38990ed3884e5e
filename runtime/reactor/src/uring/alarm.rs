//! The end of a wait, as an operation of the ring that stays.
//!
//! A time-out given to `enter` is a timer that the kernel sets and takes back for every sleep. Deadlines are far (pings,
//! patience with a peer) and sleeps are short, so here one timer stays set, at the earliest deadline that was asked for;
//! it ends at most one sleep too early, and is set anew then.

use io_uring::{opcode, squeue, types};
use scst_core::Nanos;

use super::ops::Tag;

/// See the module.
pub(crate) struct Alarm {
    /// When the timer in the ring goes off.
    set: Option<Nanos>,
    /// Where the kernel reads the time from when the entry is submitted.
    time: Box<types::Timespec>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { set: None, time: Box::new(types::Timespec::new()) }
    }

    /// What has to be submitted so that the ring wakes at `deadline`, at the latest.
    pub(crate) fn at(&mut self, deadline: Nanos) -> Option<squeue::Entry> {
        let earlier = self.set.map(|set| deadline < set);
        if earlier == Some(false) {
            return None;
        }
        self.set = Some(deadline);
        *self.time = types::Timespec::new().sec(deadline.0 / 1_000_000_000).nsec((deadline.0 % 1_000_000_000) as u32);
        let time: *const types::Timespec = &raw const *self.time;
        Some(if earlier.is_none() {
            opcode::Timeout::new(time).flags(types::TimeoutFlags::ABS).build().user_data(Tag::Alarm.encode())
        } else {
            // If it has gone off meanwhile this fails, and its own completion tells.
            opcode::TimeoutUpdate::new(Tag::Alarm.encode(), time)
                .flags(types::TimeoutFlags::ABS)
                .build()
                .user_data(Tag::AlarmMoved.encode())
        })
    }

    /// It has gone off.
    pub(crate) fn gone_off(&mut self) {
        self.set = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_set_once_moved_only_forward_and_set_again_when_it_has_gone_off() {
        let mut alarm = Alarm::new();
        let data = |entry: Option<squeue::Entry>| entry.map(|entry| Tag::decode(entry.get_user_data()).unwrap());
        assert_eq!(data(alarm.at(Nanos(100))), Some(Tag::Alarm));
        assert_eq!(data(alarm.at(Nanos(100))), None);
        assert_eq!(data(alarm.at(Nanos(5_000_000_000))), None, "it goes off early, and then it is set to that");
        assert_eq!(data(alarm.at(Nanos(99))), Some(Tag::AlarmMoved));
        alarm.gone_off();
        assert_eq!(data(alarm.at(Nanos(5_000_000_000))), Some(Tag::Alarm));
    }
}
