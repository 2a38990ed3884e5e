//! The wrapper: READ and WRITE end here.

use scst_core::handler::{ControlSettings, ExecCommand, ExecContext, Execution, HandlerShard, Outcome, Parsed};
use scst_core::ids::CmdId;
use scst_core::io::{IoCompletion, IoQueue};
use scst_scsi::{Cdb, DataDirection, SenseData};

/// What a READ or WRITE means to a device besides its data: whether it may run at all, how far it gets, what it moves.
/// It is called once for each of these commands, instead of [`HandlerShard::execute`]; the outcome is the answer, and
/// [`Outcome::transferred`] says how much of the buffer is data-in.
pub type Accounting<D> = fn(&mut D, &ExecCommand<'_>) -> Outcome;

/// The accounting of a device that only its own firmware knows (a passed-through one): everything is good.
pub fn answer_blindly<D>(_: &mut D, cmd: &ExecCommand<'_>) -> Outcome {
    match cmd.parsed.direction {
        DataDirection::FromDevice => Outcome::good(cmd.parsed.length.min(cmd.sg.bytes())),
        _ => Outcome::good(0),
    }
}

/// A device whose READ and WRITE commands are answered at once.
pub struct Perf<D> {
    device: D,
    accounting: Accounting<D>,
    /// Data-in are zeros; otherwise what the buffer had in it.
    zero: bool,
}

impl<D: HandlerShard> Perf<D> {
    /// A device of block commands or a tape. `strict_security`: data-in are zeros.
    pub fn new(device: D, accounting: Accounting<D>, strict_security: bool) -> Self {
        Self { device, accounting, zero: strict_security }
    }
}

/// READ and WRITE of 6, 10, 12 and 16 bytes, and WRITE AND VERIFY. Tapes have those of 6 and 16 bytes, and none of these
/// operation codes means anything else to them.
fn moves_data(cdb: &Cdb) -> bool {
    matches!(cdb.opcode(), 0x08 | 0x0a | 0x28 | 0x2a | 0x2e | 0x88 | 0x8a | 0x8e | 0xa8 | 0xaa | 0xae)
}

impl<D: HandlerShard> HandlerShard for Perf<D> {
    fn peripheral_type(&self) -> u8 {
        self.device.peripheral_type()
    }

    fn parse(&mut self, cdb: &Cdb) -> Result<Parsed, SenseData> {
        self.device.parse(cdb)
    }

    fn execute(&mut self, cmd: ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Execution {
        if !moves_data(cmd.cdb) {
            return self.device.execute(cmd, cx);
        }
        let outcome = (self.accounting)(&mut self.device, &cmd);
        if self.zero && outcome.transferred > 0 {
            cx.mem.fill(cmd.sg, 0, outcome.transferred, 0);
        }
        Execution::Done(outcome)
    }

    fn io_completed(&mut self, cmd: ExecCommand<'_>, completion: IoCompletion, cx: &mut ExecContext<'_>) -> Execution {
        self.device.io_completed(cmd, completion, cx)
    }

    fn cancel(&mut self, cmd: CmdId, io: &mut dyn IoQueue) {
        self.device.cancel(cmd, io);
    }

    fn reset(&mut self) -> ControlSettings {
        self.device.reset()
    }

    fn control(&self) -> ControlSettings {
        self.device.control()
    }
}
