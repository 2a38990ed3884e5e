//! The wrapper around a device that it knows nothing of.

use std::cell::RefCell;
use std::rc::Rc;

use super::rig::{OLD, Rig};
use crate::{Perf, answer_blindly};
use scst_core::handler::{ControlSettings, ExecCommand, ExecContext, Execution, HandlerShard, Outcome, Parsed};
use scst_core::ids::CmdId;
use scst_core::io::{IoCompletion, IoQueue};
use scst_scsi::opcode::OpcodeTable;
use scst_scsi::{Cdb, DataDirection, DeviceType, SenseData};

/// A device that writes down what reaches it.
struct Witness {
    device_type: DeviceType,
    seen: Rc<RefCell<Vec<u8>>>,
}

impl HandlerShard for Witness {
    fn peripheral_type(&self) -> u8 {
        self.device_type.0
    }
    fn parse(&mut self, cdb: &Cdb) -> Result<Parsed, SenseData> {
        let row = OpcodeTable::for_device(self.device_type).lookup(cdb).map_err(|error| error.sense())?;
        let length = row.data_length(cdb, 512) as u32;
        let direction = if length == 0 { DataDirection::None } else { row.direction };
        Ok(Parsed { direction, length, flags: row.flags, ..Parsed::default() })
    }
    fn execute(&mut self, cmd: ExecCommand<'_>, _: &mut ExecContext<'_>) -> Execution {
        self.seen.borrow_mut().push(cmd.cdb.opcode());
        Execution::Done(Outcome::good(0))
    }
    fn io_completed(&mut self, _: ExecCommand<'_>, _: IoCompletion, _: &mut ExecContext<'_>) -> Execution {
        unreachable!("it has no operations")
    }
    fn cancel(&mut self, _: CmdId, _: &mut dyn IoQueue) {}
    fn reset(&mut self) -> ControlSettings {
        self.seen.borrow_mut().push(0xff);
        ControlSettings::default()
    }
    fn control(&self) -> ControlSettings {
        ControlSettings { queue_error: 3, ..ControlSettings::default() }
    }
}

fn wrapped(device_type: DeviceType, strict: bool) -> (Rig, Rc<RefCell<Vec<u8>>>) {
    let seen = Rc::default();
    let device = Witness { device_type, seen: Rc::clone(&seen) };
    (Rig::over(Box::new(Perf::new(device, answer_blindly, strict))), seen)
}

#[test]
fn data_commands_never_reach_the_device_and_all_others_do() {
    for device_type in [DeviceType::DISK, DeviceType::OPTICAL, DeviceType::TAPE] {
        let (mut rig, seen) = wrapped(device_type, true);
        let table = OpcodeTable::for_device(device_type);
        let mut expected = Vec::new();
        for row in table.rows().iter().filter(|row| row.opcode != 0x7f) {
            let mut cdb = vec![0; usize::from(row.cdb_length)];
            cdb[0] = row.opcode;
            cdb[1] = row.service_action.unwrap_or(0) as u8;
            rig.good(&cdb);
            // By name: READ(n), WRITE(n), WRITE AND VERIFY(n).
            let is_data = ["READ(", "WRITE(", "WRITE AND VERIFY("].iter().any(|head| row.name.starts_with(head));
            if !is_data {
                expected.push(row.opcode);
            }
        }
        assert_eq!(*seen.borrow(), expected, "{device_type:?}");
    }
}

#[test]
fn data_in_are_zeros_or_what_was_in_the_buffer() {
    let read = [0x28, 0, 0, 0, 0, 7, 0, 0, 2, 0];
    let (mut strict, _) = wrapped(DeviceType::DISK, true);
    assert_eq!(strict.good(&read), [0; 1024]);
    assert_eq!(strict.run_with(&read, &[], Some(700)).1, [0; 700], "no more than there is room for");
    let (mut loose, _) = wrapped(DeviceType::DISK, false);
    assert_eq!(loose.good(&read), [OLD; 1024]);
}

#[test]
fn settings_and_resets_are_those_of_the_device() {
    let (mut rig, seen) = wrapped(DeviceType::TAPE, true);
    assert_eq!((rig.shard.peripheral_type(), rig.shard.control().queue_error), (1, 3));
    rig.shard.reset();
    assert_eq!(*seen.borrow(), [0xff]);
}
