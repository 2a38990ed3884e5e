//! Commands that do not touch the medium: `core/cmdset` builds the answer, this puts it into the buffer.

use scst_cmdset::capacity;
use scst_cmdset::inquiry;
use scst_cmdset::log::{self, LogData};
use scst_cmdset::medium::MediumChange;
use scst_cmdset::mode;
use scst_cmdset::opcodes;
use scst_cmdset::params::MAX_RESPONSE_BYTES;
use scst_cmdset::{DiskCommand, DiskState, ModeChange, PortIdentity};
use scst_core::handler::{ExecCommand, ExecContext, Outcome, SideEffects, TASK_MANAGEMENT};
use scst_scsi::log::{StartStopPage, StatisticsPage};
use scst_scsi::{Asc, SenseData};

use crate::fault;
use crate::shared::Shared;

/// Puts data-in into the buffer, cut where it ends.
pub(crate) fn data_in(cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>, data: &[u8]) -> Outcome {
    Outcome::good(cx.mem.copy_in(cmd.sg, 0, data) as u32)
}

/// Carries out a command that needs no operation.
pub(crate) fn answer(
    shared: &Shared,
    command: &DiskCommand,
    state: &DiskState,
    cmd: &ExecCommand<'_>,
    cx: &mut ExecContext<'_>,
) -> Outcome {
    match *command {
        DiskCommand::PreventAllow { prevent } => prevent_allow(prevent),
        DiskCommand::TestUnitReady | DiskCommand::SendDiagnostic => Outcome::good(0),
        _ => {
            let mut buf = [0; MAX_RESPONSE_BYTES as usize];
            match respond(shared, command, state, cmd, &mut buf) {
                Ok(length) => data_in(cmd, cx, &buf[..length]),
                Err(sense) => Outcome::check(sense),
            }
        }
    }
}

/// Builds data-in; returns their length.
fn respond(
    shared: &Shared,
    command: &DiskCommand,
    state: &DiskState,
    cmd: &ExecCommand<'_>,
    buf: &mut [u8],
) -> Result<usize, SenseData> {
    let disk = &shared.disk;
    match *command {
        DiskCommand::Inquiry { page, allocation } => {
            let port = PortIdentity { target_name: cmd.port.target_name(), relative_port: cmd.port.relative() };
            inquiry::answer(disk, &port, page, allocation, buf)
        }
        DiskCommand::ReadCapacity10 => Ok(capacity::read_capacity_10(&state.geometry, buf)),
        DiskCommand::ReadCapacity16 { allocation } => {
            Ok(capacity::read_capacity_16(disk, &state.geometry, allocation, buf))
        }
        DiskCommand::ModeSense(ref sense) => mode::sense(disk, state, &shared.pages(), sense, buf),
        DiskCommand::LogSense(ref sense) => log::sense(&log_data(shared), sense, buf),
        DiskCommand::ReportSupportedOpcodes { allocation } => opcodes::report_opcodes(cmd.cdb, disk, allocation, buf),
        DiskCommand::ReportSupportedTmf { allocation } => {
            Ok(opcodes::report_tmfs(cmd.cdb, TASK_MANAGEMENT, allocation, buf))
        }
        // The mid-level's own commands do not come here, and those with operations have a plan.
        _ => Err(SenseData::internal_target_failure()),
    }
}

fn log_data(shared: &Shared) -> LogData {
    let mut statistics = StatisticsPage::default();
    shared.each_counters(|counters| {
        statistics.read_commands += counters.read_commands.get();
        statistics.write_commands += counters.write_commands.get();
        statistics.blocks_transmitted += counters.blocks_read.get();
        statistics.blocks_received += counters.blocks_written.get();
    });
    let start_stop = StartStopPage { accumulated_cycles: shared.start_stop_cycles(), ..StartStopPage::default() };
    LogData { start_stop, statistics, ..LogData::default() }
}

/// The mid-level keeps who prevents the removal.
fn prevent_allow(prevent: bool) -> Outcome {
    let mut outcome = Outcome::good(0);
    outcome.effects.prevent_removal = Some(prevent);
    outcome
}

/// Reads the MODE SELECT parameter list.
pub(crate) fn parse_mode_select(
    shared: &Shared,
    cmd: &ExecCommand<'_>,
    cx: &ExecContext<'_>,
) -> Result<ModeChange, SenseData> {
    let parsed = scst_cmdset::parse(cmd.cdb, &shared.disk)?;
    let DiskCommand::ModeSelect(select) = parsed.command else { return Err(SenseData::internal_target_failure()) };
    let mut list = [0; MAX_RESPONSE_BYTES as usize];
    // No valid list is longer than the buffer: what is cut has been found wrong before its end.
    let length = usize::from(select.length).min(list.len());
    if (cmd.sg.bytes() as usize) < length {
        return Err(fault::incomplete_data());
    }
    cx.mem.copy_out(cmd.sg, 0, &mut list[..length]);
    shared.pages().select(&shared.disk, &shared.geometry(), &select, &list[..length])
}

/// Makes a MODE SELECT effective. The command is alone on the logical unit, so nothing has changed since the list was
/// checked.
pub(crate) fn mode_select(
    shared: &Shared,
    cmd: &ExecCommand<'_>,
    cx: &ExecContext<'_>,
) -> Result<SideEffects, Outcome> {
    let change = parse_mode_select(shared, cmd, cx).map_err(Outcome::check)?;
    let control = shared.change_pages(|pages| pages.apply(&change));
    Ok(SideEffects {
        attention_for_others: change.changed.then_some(Asc::MODE_PARAMETERS_CHANGED),
        control: Some(control),
        prevent_removal: None,
    })
}

/// Ejects or loads the medium.
pub(crate) fn change_medium(shared: &Shared, change: MediumChange) -> SideEffects {
    let was_ejected = shared.is_ejected();
    shared.set_ejected(change == MediumChange::Eject);
    let loaded = was_ejected && change == MediumChange::Load;
    SideEffects { attention_for_others: loaded.then_some(Asc::NOT_READY_TO_READY_CHANGE), ..SideEffects::default() }
}
