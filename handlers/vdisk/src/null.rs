//! NULLIO: every operation on the medium is done at once, with nothing behind it.

use scst_cmdset::lba_status::{LbaStatusList, ProvisioningStatus};
use scst_cmdset::params::{MAX_RESPONSE_BYTES, MAX_UNMAP_LIST_BYTES};
use scst_cmdset::{DiskCommand, DiskState};
use scst_core::handler::{ExecCommand, ExecContext, Outcome};

use crate::answer;
use crate::plan::{Plan, Stage};
use crate::shared::Shared;
use crate::task;

/// Carries out a command on a medium that takes everything and gives zeros (or what is in the buffer). Commands that
/// compare find what they look for.
pub(crate) fn execute(
    shared: &Shared,
    command: &DiskCommand,
    state: &DiskState,
    read_zero: bool,
    cmd: &ExecCommand<'_>,
    cx: &mut ExecContext<'_>,
) -> Outcome {
    match *command {
        DiskCommand::Read { .. } => Outcome::good(read(read_zero, cmd, cx)),
        DiskCommand::Unmap { .. } => {
            let mut list = [0; MAX_UNMAP_LIST_BYTES];
            match task::unmap_list(shared, cmd, cx, &mut list) {
                Ok(_) => Outcome::good(0),
                Err(sense) => Outcome::check(sense),
            }
        }
        DiskCommand::GetLbaStatus { lba, allocation } => {
            let mut buf = [0; MAX_RESPONSE_BYTES as usize];
            let mut list = LbaStatusList::new(lba, allocation, &mut buf);
            list.push(state.geometry.blocks.saturating_sub(lba), ProvisioningStatus::Mapped);
            let length = list.finish();
            answer::data_in(cmd, cx, &buf[..length])
        }
        _ => Outcome::good(0),
    }
}

/// READ; returns how many bytes.
pub(crate) fn read(read_zero: bool, cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>) -> u32 {
    let len = cmd.parsed.length.min(cmd.sg.bytes());
    if read_zero {
        cx.mem.fill(cmd.sg, 0, len, 0);
    }
    len
}

/// What is left of a plan when there is no storage: the stages that change the disk itself.
pub(crate) fn without_storage(plan: &Plan) -> Plan {
    plan.only(|stage| matches!(stage, Stage::ModeSelect | Stage::Medium(_)))
}
