//! START STOP UNIT (SBC-4 5.31): what it does to a virtual medium.

use scst_scsi::{Asc, SenseData};

use crate::command::StartStop;
use crate::params::DiskParameters;

/// What happens to the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MediumChange {
    /// It leaves: further commands end with MEDIUM NOT PRESENT.
    Eject,
    /// It comes back, with unit attention NOT READY TO READY CHANGE for every nexus.
    Load,
}

/// What a START STOP UNIT is to do, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartStopPlan {
    /// Write cached data back.
    pub flush: bool,
    /// Eject or load the medium. Ejecting one that is gone, or loading one that is there, does nothing.
    pub medium: Option<MediumChange>,
}

/// Reads a START STOP UNIT command. Power conditions change nothing on a virtual disk: it is always ready.
///
/// # Errors
/// INVALID FIELD IN CDB at LOEJ for a medium that is not removable; MEDIUM REMOVAL PREVENTED while any nexus prevents
/// it (`prevented`).
pub fn start_stop(command: &StartStop, disk: &DiskParameters, prevented: bool) -> Result<StartStopPlan, SenseData> {
    // With any other POWER CONDITION, LOEJ and START are ignored.
    if command.power_condition != 0 {
        return Ok(StartStopPlan { flush: false, medium: None });
    }
    let medium = if command.load_eject {
        if !disk.removable {
            return Err(SenseData::invalid_field_in_cdb(4, Some(1)));
        }
        if prevented {
            return Err(SenseData::illegal_request(Asc::MEDIUM_REMOVAL_PREVENTED));
        }
        Some(if command.start { MediumChange::Load } else { MediumChange::Eject })
    } else {
        None
    };
    Ok(StartStopPlan { flush: !command.start && !command.no_flush, medium })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EJECT: StartStop =
        StartStop { immed: false, power_condition: 0, no_flush: false, load_eject: true, start: false };

    fn removable() -> DiskParameters {
        DiskParameters { removable: true, ..DiskParameters::new("d", "", 512) }
    }

    #[test]
    fn eject_flushes_first_and_load_does_not() {
        let plan = |command| start_stop(&command, &removable(), false).unwrap();
        assert_eq!(plan(EJECT), StartStopPlan { flush: true, medium: Some(MediumChange::Eject) });
        let load = StartStop { start: true, ..EJECT };
        assert_eq!(plan(load), StartStopPlan { flush: false, medium: Some(MediumChange::Load) });
        let quick = StartStop { no_flush: true, ..EJECT };
        assert_eq!(plan(quick), StartStopPlan { flush: false, medium: Some(MediumChange::Eject) });
    }

    #[test]
    fn stop_without_loej_is_a_flush() {
        let stop = StartStop { load_eject: false, ..EJECT };
        let fixed = DiskParameters::new("d", "", 512);
        assert_eq!(start_stop(&stop, &fixed, true), Ok(StartStopPlan { flush: true, medium: None }));
        let start = StartStop { start: true, ..stop };
        assert_eq!(start_stop(&start, &fixed, true), Ok(StartStopPlan { flush: false, medium: None }));
    }

    #[test]
    fn prevention_holds_for_eject_and_load() {
        let prevented = Err(SenseData::illegal_request(Asc(0x5302)));
        assert_eq!(start_stop(&EJECT, &removable(), true), prevented);
        assert_eq!(start_stop(&StartStop { start: true, ..EJECT }, &removable(), true), prevented);
    }

    #[test]
    fn power_conditions_never_eject() {
        for power_condition in 1..16 {
            let command = StartStop { power_condition, ..EJECT };
            let nothing = Ok(StartStopPlan { flush: false, medium: None });
            assert_eq!(start_stop(&command, &removable(), true), nothing);
        }
    }

    #[test]
    fn a_fixed_disk_has_no_tray() {
        let fixed = DiskParameters::new("d", "", 512);
        assert_eq!(start_stop(&EJECT, &fixed, false), Err(SenseData::invalid_field_in_cdb(4, Some(1))));
    }
}
