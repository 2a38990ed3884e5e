//! What disks and tapes have in common: the medium that can be ejected, counters, control settings, short answers.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scst_cmdset::ModeValues;
use scst_cmdset::log::LogData;
use scst_core::handler::{ControlSettings, ExecCommand, ExecContext, Outcome, SideEffects};
use scst_scsi::log::{StartStopPage, StatisticsPage};
use scst_scsi::{Asc, SenseData};

use crate::counters::Counters;

/// Locks a mutex whose value every critical section leaves whole at each step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The part of a device's shared state that does not depend on its type.
#[derive(Debug, Default)]
pub(crate) struct Common {
    ejected: AtomicBool,
    loads: AtomicU32,
    software_write_protect: AtomicBool,
    counters: Mutex<Vec<Arc<Counters>>>,
}

impl Common {
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Acquire)
    }

    /// Ejects or loads the medium. The command is alone on the device.
    pub(crate) fn set_ejected(&self, ejected: bool) -> SideEffects {
        let before = self.ejected.swap(ejected, Ordering::AcqRel);
        let loaded = before && !ejected;
        self.loads.fetch_add(u32::from(loaded), Ordering::Relaxed);
        SideEffects { attention_for_others: loaded.then_some(Asc::NOT_READY_TO_READY_CHANGE), ..SideEffects::default() }
    }

    pub(crate) fn software_write_protect(&self) -> bool {
        self.software_write_protect.load(Ordering::Relaxed)
    }

    /// Takes over what the control mode page says, for commands and for the mid-level.
    pub(crate) fn settle(&self, values: &ModeValues) -> ControlSettings {
        self.software_write_protect.store(values.software_write_protect, Ordering::Relaxed);
        settings(values)
    }

    /// Counters for a new shard.
    pub(crate) fn new_counters(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        locked(&self.counters).push(Arc::clone(&counters));
        counters
    }

    pub(crate) fn log_data(&self) -> LogData {
        let mut statistics = StatisticsPage::default();
        locked(&self.counters).iter().for_each(|counters| counters.add_to(&mut statistics));
        let accumulated_cycles = self.loads.load(Ordering::Relaxed);
        let start_stop = StartStopPage { accumulated_cycles, ..StartStopPage::default() };
        LogData { start_stop, statistics, ..LogData::default() }
    }
}

/// What the mid-level obeys of the control mode page.
pub(crate) fn settings(values: &ModeValues) -> ControlSettings {
    ControlSettings {
        task_set_per_nexus: values.task_set_per_nexus,
        descriptor_sense: values.descriptor_sense,
        task_aborted_status: values.task_aborted_status,
        write_protect: values.software_write_protect,
        restricted_reordering: !values.unrestricted_reordering,
        queue_error: values.queue_error,
    }
}

/// GOOD with side effects.
pub(crate) fn good_with(effects: SideEffects) -> Outcome {
    Outcome { effects, ..Outcome::good(0) }
}

/// PREVENT ALLOW MEDIUM REMOVAL: the mid-level keeps who prevents it.
pub(crate) fn prevent_allow(prevent: bool) -> Outcome {
    good_with(SideEffects { prevent_removal: Some(prevent), ..SideEffects::default() })
}

/// A mode change has been made.
pub(crate) fn mode_selected(changed: bool, control: ControlSettings) -> Outcome {
    good_with(SideEffects {
        attention_for_others: changed.then_some(Asc::MODE_PARAMETERS_CHANGED),
        control: Some(control),
        prevent_removal: None,
    })
}

/// Puts data-in into the buffer, cut where it ends.
pub(crate) fn data_in(cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>, data: &[u8]) -> Outcome {
    Outcome::good(cx.mem.copy_in(cmd.sg, 0, data) as u32)
}

/// The parameter list in the data-out.
///
/// # Errors
/// There are fewer bytes than the CDB says.
pub(crate) fn parameter_list<'b>(
    cmd: &ExecCommand<'_>,
    cx: &ExecContext<'_>,
    length: u16,
    buf: &'b mut [u8],
) -> Result<&'b [u8], SenseData> {
    // No valid list is longer than the buffer: what is cut has been found wrong before its end.
    let length = usize::from(length).min(buf.len());
    if (cmd.sg.bytes() as usize) < length {
        return Err(incomplete_data());
    }
    cx.mem.copy_out(cmd.sg, 0, &mut buf[..length]);
    Ok(&buf[..length])
}

/// The data-out are fewer than the command needs.
pub(crate) fn incomplete_data() -> SenseData {
    SenseData::illegal_request(Asc::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT)
}
