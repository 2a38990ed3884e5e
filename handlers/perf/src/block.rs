//! Disks and optical memory devices without data.

use std::sync::{Arc, Mutex};

use scst_cmdset::lba_status::{LbaStatusList, ProvisioningStatus};
use scst_cmdset::medium::{self, MediumChange};
use scst_cmdset::params::MAX_RESPONSE_BYTES;
use scst_cmdset::{Answers, DiskCommand, DiskParameters, DiskState, Geometry, ModePages, ParsedCommand, PortIdentity};
use scst_core::handler::{
    ControlSettings, ExecCommand, ExecContext, Execution, HandlerShard, Outcome, Parsed, TASK_MANAGEMENT,
};
use scst_core::ids::CmdId;
use scst_core::io::{IoCompletion, IoQueue};
use scst_scsi::{Cdb, DataDirection, SenseData};

use crate::control::{self, Common, locked};
use crate::counters::Counters;

/// What all shards of a device share.
#[derive(Debug)]
pub(crate) struct BlockDevice {
    disk: DiskParameters,
    geometry: Geometry,
    pages: Mutex<ModePages>,
    common: Common,
}

impl BlockDevice {
    pub(crate) fn new(disk: DiskParameters, bytes: u64) -> Self {
        let geometry = Geometry::new(disk.block_size, bytes);
        let pages = Mutex::new(ModePages::new(&disk));
        Self { disk, geometry, pages, common: Common::default() }
    }

    fn state(&self, read_only: bool) -> DiskState {
        DiskState {
            geometry: self.geometry,
            medium_present: !self.common.is_ejected(),
            read_only,
            software_write_protect: self.common.software_write_protect(),
        }
    }
}

/// A device's half on one reactor. By itself it is a device of which every READ gives what is in the buffer.
#[derive(Debug)]
pub(crate) struct BlockShard {
    shared: Arc<BlockDevice>,
    counters: Arc<Counters>,
}

impl BlockShard {
    pub(crate) fn new(shared: &Arc<BlockDevice>) -> Self {
        Self { shared: Arc::clone(shared), counters: shared.common.new_counters() }
    }

    /// READ and WRITE: the checks of a device with data.
    pub(crate) fn account(&mut self, cmd: &ExecCommand<'_>) -> Outcome {
        match self.admit(cmd) {
            Ok((parsed, _)) => self.moved(&parsed, cmd),
            Err(sense) => Outcome::check(sense),
        }
    }

    /// Reads the CDB again, and whether the command may run now.
    fn admit(&self, cmd: &ExecCommand<'_>) -> Result<(ParsedCommand, DiskState), SenseData> {
        let shared = &*self.shared;
        let parsed = scst_cmdset::parse(cmd.cdb, &shared.disk)?;
        let state = shared.state(cmd.read_only);
        parsed.admit(&shared.disk, &state)?;
        // An initiator may send less than it says, as long as that is whole blocks.
        let whole = cmd.sg.bytes().is_multiple_of(shared.disk.block_size) && is_write(&parsed.command);
        if parsed.direction == DataDirection::ToDevice && cmd.sg.bytes() < parsed.length && !whole {
            return Err(control::incomplete_data());
        }
        Ok((parsed, state))
    }

    fn moved(&self, parsed: &ParsedCommand, cmd: &ExecCommand<'_>) -> Outcome {
        if is_write(&parsed.command) {
            self.counters.write(parsed.blocks);
            return Outcome::good(0);
        }
        self.counters.read(parsed.blocks);
        Outcome::good(parsed.length.min(cmd.sg.bytes()))
    }

    fn run(&self, cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Result<Outcome, SenseData> {
        let shared = &*self.shared;
        let (parsed, state) = self.admit(cmd)?;
        let mut buf = [0; MAX_RESPONSE_BYTES as usize];
        Ok(match parsed.command {
            DiskCommand::Read { .. } => self.moved(&parsed, cmd),
            ref write if is_write(write) => self.moved(&parsed, cmd),
            DiskCommand::PreventAllow { prevent } => control::prevent_allow(prevent),
            DiskCommand::StartStop(ref start_stop) => {
                let plan = medium::start_stop(start_stop, &shared.disk, cmd.removal_prevented)?;
                plan.medium.map_or_else(
                    || Outcome::good(0),
                    |change| control::good_with(shared.common.set_ejected(change == MediumChange::Eject)),
                )
            }
            DiskCommand::ModeSelect(ref select) => {
                let list = control::parameter_list(cmd, cx, select.length, &mut buf)?;
                let mut pages = locked(&shared.pages);
                let change = pages.select(&shared.disk, &shared.geometry, select, list)?;
                pages.apply(&change);
                control::mode_selected(change.changed, shared.common.settle(&pages.current))
            }
            DiskCommand::GetLbaStatus { lba, allocation } => {
                let mut list = LbaStatusList::new(lba, allocation, &mut buf);
                list.push(shared.geometry.blocks - lba, ProvisioningStatus::Mapped);
                let length = list.finish();
                control::data_in(cmd, cx, &buf[..length])
            }
            ref command => match self.answer(command, &state, cmd, &mut buf) {
                Some(length) => control::data_in(cmd, cx, &buf[..length?]),
                // What only looks at blocks, or changes them in another way, finds everything as it wants it.
                None => Outcome::good(0),
            },
        })
    }

    /// Builds data-in from values.
    fn answer(
        &self,
        command: &DiskCommand,
        state: &DiskState,
        cmd: &ExecCommand<'_>,
        buf: &mut [u8],
    ) -> Option<Result<usize, SenseData>> {
        let answers = Answers {
            disk: &self.shared.disk,
            state,
            pages: &locked(&self.shared.pages),
            log: &self.shared.common.log_data(),
            port: PortIdentity { target_name: cmd.port.target_name(), relative_port: cmd.port.relative() },
            tmfs: TASK_MANAGEMENT,
        };
        answers.build(command, cmd.cdb, buf)
    }
}

fn is_write(command: &DiskCommand) -> bool {
    matches!(command, DiskCommand::Write { .. } | DiskCommand::WriteAndVerify { .. })
}

impl HandlerShard for BlockShard {
    fn peripheral_type(&self) -> u8 {
        self.shared.disk.device_type.0
    }

    fn parse(&mut self, cdb: &Cdb) -> Result<Parsed, SenseData> {
        let parsed = scst_cmdset::parse(cdb, &self.shared.disk)?;
        Ok(Parsed {
            direction: parsed.direction,
            length: parsed.length,
            flags: parsed.flags,
            lba: parsed.lba,
            blocks: parsed.blocks,
        })
    }

    fn execute(&mut self, cmd: ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Execution {
        Execution::Done(self.run(&cmd, cx).unwrap_or_else(Outcome::check))
    }

    fn io_completed(&mut self, _: ExecCommand<'_>, _: IoCompletion, _: &mut ExecContext<'_>) -> Execution {
        debug_assert!(false, "there are no operations");
        Execution::Done(Outcome::check(SenseData::internal_target_failure()))
    }

    fn cancel(&mut self, _: CmdId, _: &mut dyn IoQueue) {}

    fn reset(&mut self) -> ControlSettings {
        let mut pages = locked(&self.shared.pages);
        pages.reset();
        self.shared.common.settle(&pages.current)
    }

    fn control(&self) -> ControlSettings {
        control::settings(&locked(&self.shared.pages).current)
    }
}
