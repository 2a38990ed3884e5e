//! A tape without data.
//!
//! Where things are recorded and where the tape stands is one [`Partition`] behind a lock. Nobody ever waits for it:
//! the commands that use it bear EXCLUSIVE, so the mid-level lets one of them run at a time, whatever reactor it is on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use scst_cmdset::params::MAX_RESPONSE_BYTES;
use scst_cmdset::ssc::{self, Partition, TapeCommand, TapeModes, TapeParameters, TapeState};
use scst_cmdset::{DiskCommand, PortIdentity, inquiry, log, opcodes};
use scst_core::handler::{
    ControlSettings, ExecCommand, ExecContext, Execution, HandlerShard, Outcome, Parsed, TASK_MANAGEMENT,
};
use scst_core::ids::CmdId;
use scst_core::io::{IoCompletion, IoQueue};
use scst_scsi::bytes::Writer;
use scst_scsi::{Asc, Cdb, DataDirection, ScsiStatus, SenseData};

use crate::control::{self, Common, locked};
use crate::counters::Counters;

/// What all shards of a tape share.
#[derive(Debug)]
pub(crate) struct TapeDevice {
    tape: TapeParameters,
    partition: Mutex<Partition>,
    modes: Mutex<TapeModes>,
    /// The block length in force; a copy of that in `modes` for READ and WRITE.
    block_length: AtomicU32,
    common: Common,
}

impl TapeDevice {
    pub(crate) fn new(tape: TapeParameters) -> Self {
        let modes = TapeModes::default_of(&tape);
        Self {
            partition: Mutex::new(Partition::new(tape.capacity, tape.early_warning)),
            modes: Mutex::new(modes),
            block_length: AtomicU32::new(modes.block_length),
            common: Common::default(),
            tape,
        }
    }

    fn block_length(&self) -> u32 {
        self.block_length.load(Ordering::Relaxed)
    }

    /// Puts modes into force.
    fn change_modes(&self, modes: TapeModes) -> ControlSettings {
        *locked(&self.modes) = modes;
        self.block_length.store(modes.block_length, Ordering::Relaxed);
        self.common.settle(&modes.control)
    }

    fn state(&self, read_only: bool) -> TapeState {
        let write_protected = read_only || self.common.software_write_protect();
        TapeState { loaded: !self.common.is_ejected(), write_protected }
    }
}

/// A tape's half on one reactor. By itself it is a tape of which every READ gives what is in the buffer.
#[derive(Debug)]
pub(crate) struct TapeShard {
    shared: Arc<TapeDevice>,
    counters: Arc<Counters>,
}

impl TapeShard {
    pub(crate) fn new(shared: &Arc<TapeDevice>) -> Self {
        Self { shared: Arc::clone(shared), counters: shared.common.new_counters() }
    }

    /// READ and WRITE: all that a tape with data does, but for the data.
    pub(crate) fn account(&mut self, cmd: &ExecCommand<'_>) -> Outcome {
        self.admit(cmd).map_or_else(Outcome::check, |command| self.moved(&command, cmd))
    }

    /// Reads the CDB again, and whether the command may run now.
    fn admit(&self, cmd: &ExecCommand<'_>) -> Result<TapeCommand, SenseData> {
        let shared = &*self.shared;
        let parsed = ssc::parse(cmd.cdb, &shared.tape, shared.block_length())?;
        parsed.admit(&shared.tape, &shared.state(cmd.read_only))?;
        Ok(parsed.command)
    }

    fn moved(&self, command: &TapeCommand, cmd: &ExecCommand<'_>) -> Outcome {
        let block_length = self.shared.block_length();
        let (TapeCommand::Read { fixed, length, .. } | TapeCommand::Write { fixed, length }) = *command else {
            return Outcome::check(SenseData::internal_target_failure());
        };
        // The buffer was measured when the command came. If the block length is another one by now, the initiator has
        // to send it again.
        if fixed && u64::from(cmd.parsed.length) != u64::from(length) * u64::from(block_length) {
            return Outcome::status(ScsiStatus::BUSY);
        }
        // Part of a block is no block.
        if cmd.parsed.direction == DataDirection::ToDevice && cmd.sg.bytes() < cmd.parsed.length {
            return Outcome::check(control::incomplete_data());
        }
        let blocks = u64::from(if fixed { length } else { length.min(1) });
        let mut partition = locked(&self.shared.partition);
        if let TapeCommand::Read { sili, .. } = *command {
            let done = partition.read(fixed, sili, length, block_length);
            self.counters.read(blocks);
            let outcome = done.sense.map_or_else(|| Outcome::good(0), Outcome::check);
            // What was read before the sense data is data all the same.
            return Outcome { transferred: done.bytes.min(cmd.sg.bytes()), ..outcome };
        }
        self.counters.write(blocks);
        outcome(partition.write(fixed, length, block_length))
    }

    fn run(&self, cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Result<Outcome, SenseData> {
        let shared = &*self.shared;
        let command = self.admit(cmd)?;
        let mut buf = [0; MAX_RESPONSE_BYTES as usize];
        Ok(match command {
            TapeCommand::Read { .. } | TapeCommand::Write { .. } => self.moved(&command, cmd),
            TapeCommand::WriteFilemarks { count } => outcome(locked(&shared.partition).write_filemarks(count)),
            TapeCommand::Space { over, count } => outcome(locked(&shared.partition).space(over, count)),
            TapeCommand::Locate { object } => outcome(locked(&shared.partition).locate(object)),
            TapeCommand::Rewind => {
                locked(&shared.partition).rewind();
                Outcome::good(0)
            }
            TapeCommand::Erase => {
                locked(&shared.partition).erase();
                Outcome::good(0)
            }
            TapeCommand::LoadUnload { load } => self.load_unload(load, cmd.removal_prevented)?,
            TapeCommand::ReadPosition => {
                let mut out = Writer::new(&mut buf);
                locked(&shared.partition).emit_position(&mut out);
                let length = out.written();
                control::data_in(cmd, cx, &buf[..length])
            }
            TapeCommand::ReadBlockLimits => {
                let length = ssc::read_block_limits(&mut buf);
                control::data_in(cmd, cx, &buf[..length])
            }
            TapeCommand::ReportDensity { allocation, .. } => {
                let length = ssc::report_density(&shared.tape, allocation, &mut buf);
                control::data_in(cmd, cx, &buf[..length])
            }
            TapeCommand::Common(ref command) => self.run_common(command, cmd, cx, &mut buf)?,
        })
    }

    /// The medium is at its beginning after it has been loaded, and leaves from there.
    fn load_unload(&self, load: bool, prevented: bool) -> Result<Outcome, SenseData> {
        if !load && prevented {
            return Err(SenseData::illegal_request(Asc::MEDIUM_REMOVAL_PREVENTED));
        }
        locked(&self.shared.partition).rewind();
        Ok(control::good_with(self.shared.common.set_ejected(!load)))
    }

    /// Commands that devices of all types have.
    fn run_common(
        &self,
        command: &DiskCommand,
        cmd: &ExecCommand<'_>,
        cx: &mut ExecContext<'_>,
        buf: &mut [u8],
    ) -> Result<Outcome, SenseData> {
        let shared = &*self.shared;
        let identity = &shared.tape.identity;
        let length = match *command {
            DiskCommand::TestUnitReady | DiskCommand::SendDiagnostic => return Ok(Outcome::good(0)),
            DiskCommand::PreventAllow { prevent } => return Ok(control::prevent_allow(prevent)),
            DiskCommand::ModeSelect(ref select) => {
                let list = control::parameter_list(cmd, cx, select.length, buf)?;
                // The command is alone on the tape: nothing changes between these lines.
                let modes = *locked(&shared.modes);
                let change = modes.select(select, list)?;
                return Ok(control::mode_selected(change.changed, shared.change_modes(change.modes)));
            }
            DiskCommand::Inquiry { page, allocation } => {
                let port = PortIdentity { target_name: cmd.port.target_name(), relative_port: cmd.port.relative() };
                inquiry::answer(identity, &port, page, allocation, buf)?
            }
            DiskCommand::ModeSense(ref sense) => {
                let modes = *locked(&shared.modes);
                ssc::mode_sense(&shared.tape, &shared.state(cmd.read_only), &modes, sense, buf)?
            }
            DiskCommand::LogSense(ref sense) => log::sense(&shared.common.log_data(), sense, buf)?,
            DiskCommand::ReportSupportedOpcodes { allocation } => {
                opcodes::report_opcodes(cmd.cdb, identity, allocation, buf)?
            }
            DiskCommand::ReportSupportedTmf { allocation } => {
                opcodes::report_tmfs(cmd.cdb, TASK_MANAGEMENT, allocation, buf)
            }
            _ => return Err(SenseData::internal_target_failure()),
        };
        Ok(control::data_in(cmd, cx, &buf[..length]))
    }
}

fn outcome(result: Result<(), SenseData>) -> Outcome {
    result.map_or_else(Outcome::check, |()| Outcome::good(0))
}

impl HandlerShard for TapeShard {
    fn peripheral_type(&self) -> u8 {
        self.shared.tape.identity.device_type.0
    }

    fn parse(&mut self, cdb: &Cdb) -> Result<Parsed, SenseData> {
        let parsed = ssc::parse(cdb, &self.shared.tape, self.shared.block_length())?;
        Ok(Parsed { direction: parsed.direction, length: parsed.length, flags: parsed.flags, lba: 0, blocks: 0 })
    }

    fn execute(&mut self, cmd: ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Execution {
        Execution::Done(self.run(&cmd, cx).unwrap_or_else(Outcome::check))
    }

    fn io_completed(&mut self, _: ExecCommand<'_>, _: IoCompletion, _: &mut ExecContext<'_>) -> Execution {
        debug_assert!(false, "there are no operations");
        Execution::Done(Outcome::check(SenseData::internal_target_failure()))
    }

    fn cancel(&mut self, _: CmdId, _: &mut dyn IoQueue) {}

    /// The modes go back to their defaults; the tape stays where it is, so that nobody writes over its beginning.
    fn reset(&mut self) -> ControlSettings {
        self.shared.change_modes(TapeModes::default_of(&self.shared.tape))
    }

    fn control(&self) -> ControlSettings {
        control::settings(&locked(&self.shared.modes).control)
    }
}
