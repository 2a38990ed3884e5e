//! The target driver seam.

use scst_scsi::sense::{RawSense, SenseFormat};
use scst_scsi::{Cdb, DataDirection, Lun, ScsiStatus, SenseData, TaskAttribute, TaskManagementResponse};

use crate::buffer::{Extent, SgList};
use crate::ids::{CmdId, SessionId, TmfId};

/// What a transport says of the data phase besides the CDB (iSCSI: R, W and EDTL; SRP: descriptors). Checked against
/// the CDB, never trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpectedTransfer {
    /// Direction.
    pub direction: DataDirection,
    /// Bytes the initiator will send (to device) or has room for (from device).
    pub length: u32,
    /// Room for data-in of a bidirectional command.
    pub read_length: u32,
}

/// A command as a target driver delivers it.
#[derive(Clone, Debug)]
pub struct NewCommand {
    /// The session it came on.
    pub session: SessionId,
    /// The driver's own handle, given back with every request about the command.
    pub driver_tag: u64,
    /// The LUN field, undecoded.
    pub lun: Lun,
    /// The CDB.
    pub cdb: Cdb,
    /// Task attribute.
    pub attribute: TaskAttribute,
    /// What the transport says of the data phase, if it says anything.
    pub expected: Option<ExpectedTransfer>,
    /// Not yet in order (an older command is missing): it gets a buffer and data, but enters the task set only on
    /// `deliver`.
    pub held: bool,
    /// All of its data-out, where the transport has them already: no buffer is taken and no data are requested. They
    /// stay there, untouched, until `respond` or `dropped`. Only for devices of which [`Shard::takes_data_in_place`]
    /// says so.
    ///
    /// [`Shard::takes_data_in_place`]: crate::shard::Shard::takes_data_in_place
    pub data: Option<Extent>,
}

/// A finished command, ready to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The command; the driver reports it back as sent when nothing of its buffer is needed any more.
    pub cmd: CmdId,
    /// The driver's handle.
    pub driver_tag: u64,
    /// The session.
    pub session: SessionId,
    /// SCSI status.
    pub status: ScsiStatus,
    /// Sense data to send with it.
    pub sense: Option<&'a SenseData>,
    /// The sense data of a real device, to be sent as they are instead.
    pub raw_sense: Option<&'a RawSense>,
    /// The format to emit the sense data in.
    pub sense_format: SenseFormat,
    /// Data-in: the first `data_in` bytes of this list.
    pub sg: &'a SgList,
    /// Bytes of data-in to send.
    pub data_in: u32,
    /// Bytes the command would have liked to move in its main direction, for the residual: overflow when larger than
    /// the expected length, underflow when smaller.
    pub wanted: u32,
}

impl Response<'_> {
    /// Writes the sense data to `out`, cut if it is too short. Returns the number of bytes written.
    pub fn emit_sense(&self, out: &mut [u8]) -> usize {
        match (self.raw_sense, self.sense) {
            (Some(raw), _) => {
                let length = raw.bytes().len().min(out.len());
                out[..length].copy_from_slice(&raw.bytes()[..length]);
                length
            }
            (None, Some(sense)) => sense.emit(self.sense_format, out),
            (None, None) => 0,
        }
    }
}

/// What the mid-level asks of a target driver. Calls come while effects are drained; the driver queues work and
/// must not call the engine from inside them.
pub trait TargetDriver {
    /// Fetch `length` bytes of data-out into `sg`; answer with `data_received` (at once when all is there already).
    fn request_data(&mut self, session: SessionId, driver_tag: u64, cmd: CmdId, sg: &SgList, length: u32);
    /// Answer a command. When its buffer is no longer needed: `response_sent`.
    fn respond(&mut self, response: Response<'_>);
    /// A command has ended without an answer (it was aborted): forget `driver_tag`. Its buffer is already gone.
    fn dropped(&mut self, session: SessionId, driver_tag: u64, cmd: CmdId);
    /// A command does not end, and its session goes on without it: forget `driver_tag`. What was lent with the command
    /// ([`NewCommand::data`]) stays untouched until `unparked`, also when the connection and the session are gone.
    fn parked(&mut self, session: SessionId, driver_tag: u64, cmd: CmdId);
    /// A parked command has ended: what was lent with it is the driver's again.
    fn unparked(&mut self, cmd: CmdId);
    /// The command was aborted while its data-out were being fetched: stop fetching and report
    /// `data_received(Err)` when no more byte can arrive in the buffer.
    fn abort_data(&mut self, session: SessionId, driver_tag: u64, cmd: CmdId);
    /// A task management function is complete.
    fn task_management_done(
        &mut self,
        session: SessionId,
        driver_tag: u64,
        tmf: TmfId,
        response: TaskManagementResponse,
    );
    /// Report an event asynchronously; false when the session cannot (a unit attention waits then).
    fn async_event(&mut self, session: SessionId, lun: Lun, sense: &SenseData) -> bool;
    /// End the session's connections (its target is gone, its LUNs were closed by force, ...), then `session_down`.
    fn close_session(&mut self, session: SessionId);
    /// The session has no command left but parked ones: all its state is gone.
    fn session_closed(&mut self, session: SessionId);
}
