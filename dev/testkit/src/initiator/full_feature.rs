//! Full feature phase: commands and their data, task management, NOP, text, logout (RFC 7143 clauses 4.2 and 11).

use super::command::{Amount, Command, Outcome, Residual, TaskAttribute};
use super::core::{Core, Phase};
use super::event::{AsyncMessage, Event, R2t, Rejected};
use crate::pdu::{Pdu, RESERVED_TAG, opcode};
use crate::text::{self, Keys};

/// A SCSI command that has not ended.
#[derive(Debug)]
pub(super) struct ScsiTask {
    command: Command,
    cmd_sn: u32,
    expected_length: u32,
    /// Bytes of immediate and of unsolicited data.
    immediate: usize,
    unsolicited: usize,
    outcome: Outcome,
    /// DataSN or R2TSN of the next Data-In or R2T: they share the numbers (RFC 7143 4.2.2.3).
    next_data_sn: u32,
    /// Bytes of the current Data-In sequence.
    burst: u32,
    /// Offset that the next R2T should have.
    next_r2t_offset: u32,
    /// Held R2Ts that are not answered.
    open_r2ts: u32,
}

/// Any other request that has not ended.
#[derive(Debug)]
pub(super) enum OtherTask {
    TaskManagement,
    Nop,
    Logout,
    Text(Vec<u8>),
}

impl Core {
    /// Sends a command, or holds it back until the window opens. Returns its Initiator Task Tag.
    pub fn submit(&mut self, command: Command) -> u32 {
        let itt = self.new_tag();
        let pdu = self.build_command(itt, command);
        if pdu.bhs[0] & 0x40 != 0 {
            self.send_immediate(pdu);
            let cmd_sn = self.cmd_sn;
            self.command_was_sent(itt, cmd_sn);
        } else {
            self.send_numbered(pdu);
        }
        itt
    }

    /// CmdSN that a command was sent with.
    pub fn cmd_sn_of(&self, itt: u32) -> Option<u32> {
        self.tasks.get(&itt).map(|task| task.cmd_sn)
    }

    /// Forgets a command that will never be answered (it was aborted).
    pub fn forget(&mut self, itt: u32) {
        self.tasks.remove(&itt);
        self.waiting.retain(|pdu| pdu.itt() != itt);
    }

    fn build_command(&mut self, itt: u32, command: Command) -> Pdu {
        let parameters = &self.parameters;
        let out_length = command.data_out.len();
        let transfer = if out_length > 0 { out_length as u32 } else { command.read_length };
        let expected_length = command.expected_length.unwrap_or(transfer);
        let first_burst = out_length.min(expected_length as usize).min(parameters.first_burst_length as usize);
        let immediate = match command.plan.immediate {
            Amount::Auto if parameters.immediate_data => {
                first_burst.min(parameters.max_xmit_data_segment_length as usize)
            }
            Amount::Auto => 0,
            Amount::Bytes(bytes) => bytes.min(out_length),
        };
        let unsolicited = match command.plan.unsolicited {
            Amount::Auto if parameters.initial_r2t => 0,
            Amount::Auto => first_burst.saturating_sub(immediate),
            Amount::Bytes(bytes) => bytes.min(out_length - immediate),
        };
        let (read, write) = command.direction_bits.unwrap_or((command.read_length > 0, out_length > 0));
        let is_final = command.plan.final_bit.unwrap_or(unsolicited == 0);
        let attribute = match command.attribute {
            TaskAttribute::Untagged => 0,
            TaskAttribute::Simple => 1,
            TaskAttribute::Ordered => 2,
            TaskAttribute::HeadOfQueue => 3,
            TaskAttribute::Aca => 4,
        };
        let bits = (u8::from(is_final) << 7) | (u8::from(read) << 6) | (u8::from(write) << 5);
        let mut pdu = Pdu::new(opcode::SCSI_COMMAND | (u8::from(command.immediate_delivery) << 6))
            .with_flags(bits | attribute)
            .with_lun(command.lun)
            .with_u32(16, itt)
            .with_u32(20, expected_length)
            .with_data(&command.data_out[..immediate]);
        let head = command.cdb.len().min(16);
        pdu.bhs[32..32 + head].copy_from_slice(&command.cdb[..head]);
        pdu.ahs = additional_headers(&command, out_length > 0);
        let task = ScsiTask {
            cmd_sn: 0,
            expected_length,
            immediate,
            unsolicited,
            outcome: Outcome { itt, ..Outcome::default() },
            next_data_sn: 0,
            burst: 0,
            next_r2t_offset: (immediate + unsolicited) as u32,
            open_r2ts: 0,
            command,
        };
        self.tasks.insert(itt, task);
        pdu
    }

    /// The command PDU is out: unsolicited data follow it.
    pub(super) fn command_was_sent(&mut self, itt: u32, cmd_sn: u32) {
        let Some(task) = self.tasks.get_mut(&itt) else { return };
        task.cmd_sn = cmd_sn;
        let (offset, length) = (task.immediate as u32, task.unsolicited as u32);
        if length > 0 {
            self.send_sequence(itt, RESERVED_TAG, offset, length);
        }
    }

    /// Sends data for a held R2T (any tag, offset and length, right or wrong).
    pub fn send_data_out(&mut self, itt: u32, ttt: u32, offset: u32, length: u32) {
        if let Some(task) = self.tasks.get_mut(&itt) {
            task.open_r2ts = task.open_r2ts.saturating_sub(1);
        }
        self.send_sequence(itt, ttt, offset, length);
    }

    fn send_sequence(&mut self, itt: u32, ttt: u32, offset: u32, length: u32) {
        let Some(task) = self.tasks.get(&itt) else { return };
        let lun = if ttt == RESERVED_TAG { [0; 8] } else { task.command.lun };
        let limit = self.parameters.max_xmit_data_segment_length as usize;
        let segment = task.command.plan.segment.unwrap_or(limit).max(1);
        let data = &task.command.data_out;
        let (start, end) = ((offset as usize).min(data.len()), (offset as usize + length as usize).min(data.len()));
        let pieces: Vec<Vec<u8>> = data[start..end].chunks(segment).map(<[u8]>::to_vec).collect();
        let last = pieces.len().saturating_sub(1);
        let mut at = start as u32;
        for (number, piece) in pieces.into_iter().enumerate() {
            let advance = piece.len() as u32;
            let pdu = Pdu::new(opcode::DATA_OUT)
                .with_flags(if number == last { 0x80 } else { 0 })
                .with_lun(lun)
                .with_u32(16, itt)
                .with_u32(20, ttt)
                .with_u32(24, 0)
                .with_u32(36, number as u32)
                .with_u32(40, at)
                .with_data(piece);
            at += advance;
            self.send_request(pdu);
        }
    }

    /// Sends a task management request, as an immediate one; `referenced` is the task to abort (and its RefCmdSN).
    pub fn task_management(&mut self, function: u8, lun: [u8; 8], referenced: Option<(u32, u32)>) -> u32 {
        let itt = self.new_tag();
        let (ref_itt, ref_cmd_sn) = referenced.unwrap_or((RESERVED_TAG, 0));
        let pdu = Pdu::new(opcode::TASK_MANAGEMENT)
            .with_flags(0x80 | function)
            .with_lun(lun)
            .with_u32(16, itt)
            .with_u32(20, ref_itt)
            .with_u32(32, ref_cmd_sn);
        self.others.insert(itt, OtherTask::TaskManagement);
        self.send_immediate(pdu);
        itt
    }

    /// Sends a NOP-Out that wants an answer; `numbered` gives it a CmdSN of its own.
    pub fn ping(&mut self, data: &[u8], numbered: bool) -> u32 {
        let itt = self.new_tag();
        self.others.insert(itt, OtherTask::Nop);
        let pdu = Pdu::new(opcode::NOP_OUT).with_u32(16, itt).with_data(data);
        if numbered {
            self.send_numbered(pdu)
        } else {
            self.send_immediate(pdu)
        }
        itt
    }

    /// Sends a text request.
    pub fn text(&mut self, keys: &Keys) -> u32 {
        let itt = self.new_tag();
        self.others.insert(itt, OtherTask::Text(Vec::new()));
        self.send_numbered(Pdu::new(opcode::TEXT).with_u32(16, itt).with_data(text::encode(keys)));
        itt
    }

    /// Sends a logout request: reason 0 closes the session, 1 the connection.
    pub fn logout(&mut self, reason: u8) -> u32 {
        let itt = self.new_tag();
        self.others.insert(itt, OtherTask::Logout);
        let cid = u32::from(self.config.cid) << 16;
        let cid = if reason == 0 { 0 } else { cid };
        self.send_immediate(Pdu::new(opcode::LOGOUT).with_flags(0x80 | reason).with_u32(16, itt).with_u32(20, cid));
        itt
    }

    pub(super) fn on_full_feature_pdu(&mut self, pdu: &Pdu) {
        let code = pdu.opcode();
        let has_status = pdu.flags() & 0x01 != 0;
        let (stat_sn_valid, advances) = match code {
            opcode::DATA_IN => (has_status, true),
            opcode::R2T => (true, false),
            opcode::NOP_IN => (true, pdu.itt() != RESERVED_TAG),
            _ => (true, true),
        };
        if !(0x20..0x40).contains(&code) {
            return self.violation(format!("initiator opcode from the target: {pdu:?}"));
        }
        if pdu.data.len() > self.parameters.max_recv_data_segment_length as usize {
            self.violation(format!("{} bytes of data in {pdu:?}", pdu.data.len()));
        }
        if stat_sn_valid {
            self.take_stat_sn(pdu, advances);
        }
        self.take_window(pdu);
        match code {
            opcode::SCSI_RESPONSE => self.on_response(pdu),
            opcode::DATA_IN => self.on_data_in(pdu),
            opcode::R2T => self.on_r2t(pdu),
            opcode::NOP_IN => self.on_nop_in(pdu),
            opcode::TEXT_RESPONSE => self.on_text_response(pdu),
            opcode::TASK_MANAGEMENT_RESPONSE => {
                self.end_other(pdu, &OtherTask::TaskManagement);
                self.events.push_back(Event::TaskManagement { itt: pdu.itt(), response: pdu.bhs[2] });
            }
            opcode::LOGOUT_RESPONSE => {
                self.end_other(pdu, &OtherTask::Logout);
                self.phase = Phase::LoggedOut;
                let (itt, response) = (pdu.itt(), pdu.bhs[2]);
                let (time2wait, time2retain) = (pdu.u16_at(40), pdu.u16_at(42));
                self.events.push_back(Event::LoggedOut { itt, response, time2wait, time2retain });
            }
            opcode::REJECT => self.on_reject(pdu),
            opcode::ASYNC_MESSAGE => self.on_async(pdu),
            _ => self.violation(format!("unexpected PDU {pdu:?}")),
        }
    }

    fn end_other(&mut self, pdu: &Pdu, kind: &OtherTask) {
        let found = self.others.remove(&pdu.itt());
        if found.is_none_or(|task| std::mem::discriminant(&task) != std::mem::discriminant(kind)) {
            self.violation(format!("answer to nothing we asked: {pdu:?}"));
        }
    }

    fn on_data_in(&mut self, pdu: &Pdu) {
        let (data_sn, offset, flags) = (pdu.u32_at(36), pdu.u32_at(40), pdu.flags());
        let length = pdu.data.len() as u32;
        let Some(task) = self.tasks.get_mut(&pdu.itt()) else {
            return self.violation(format!("Data-In for no command: {pdu:?}"));
        };
        let limit = if task.command.data_out.is_empty() { task.expected_length } else { task.command.read_length };
        task.burst += length;
        let received = task.outcome.data_in.len() as u32;
        let fault = if data_sn != task.next_data_sn {
            Some(format!("DataSN {data_sn}, expected {}", task.next_data_sn))
        } else if offset != received {
            Some(format!("Data-In at offset {offset}, expected {received}"))
        } else if u64::from(offset) + u64::from(length) > u64::from(limit) {
            Some(format!("Data-In up to {}, expected at most {limit}", offset + length))
        } else if task.burst > self.parameters.max_burst_length {
            Some(format!("Data-In sequence of {} bytes", task.burst))
        } else if flags & 0x01 != 0 && flags & 0x80 == 0 {
            Some("status in a Data-In without the F bit".to_owned())
        } else if flags & 0x40 != 0 {
            Some("A bit at error recovery level 0".to_owned())
        } else {
            None
        };
        task.next_data_sn = data_sn.wrapping_add(1);
        task.outcome.data_in_pdus += 1;
        if pdu.is_final() {
            task.burst = 0;
        }
        let end = offset as usize + pdu.data.len();
        if end <= limit as usize {
            if task.outcome.data_in.len() < end {
                task.outcome.data_in.resize(end, 0);
            }
            task.outcome.data_in[offset as usize..end].copy_from_slice(&pdu.data);
        }
        if let Some(fault) = fault {
            self.violation(format!("{fault} in {pdu:?}"));
        }
        if flags & 0x01 != 0 {
            self.complete(pdu, 0, Vec::new(), true);
        }
    }

    fn on_response(&mut self, pdu: &Pdu) {
        let Some(task) = self.tasks.get(&pdu.itt()) else {
            return self.violation(format!("response for no command: {pdu:?}"));
        };
        let count = pdu.u32_at(36);
        if count != 0 && count != task.next_data_sn {
            self.violation(format!("ExpDataSN {count} in {pdu:?}"));
        }
        if !pdu.is_final() {
            self.violation(format!("SCSI response without the F bit: {pdu:?}"));
        }
        let sense = match pdu.data.as_slice() {
            [high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length > rest.len() {
                    self.violation(format!("SenseLength {length} with {} bytes", rest.len()));
                }
                rest[..length.min(rest.len())].to_vec()
            }
            _ => Vec::new(),
        };
        self.complete(pdu, pdu.bhs[2], sense, false);
    }

    fn complete(&mut self, pdu: &Pdu, response: u8, sense_data: Vec<u8>, phase_collapse: bool) {
        let Some(mut task) = self.tasks.remove(&pdu.itt()) else { return };
        let flags = pdu.flags();
        let count = pdu.u32_at(44);
        let residual = match flags & 0x06 {
            0 => Residual::None,
            0x02 => Residual::Underflow(count),
            0x04 => Residual::Overflow(count),
            _ => {
                self.violation(format!("O and U bits together in {pdu:?}"));
                Residual::None
            }
        };
        if !phase_collapse {
            task.outcome.bidirectional_residual = match flags & 0x18 {
                0x08 => Residual::Underflow(pdu.u32_at(40)),
                0x10 => Residual::Overflow(pdu.u32_at(40)),
                _ => Residual::None,
            };
        }
        task.outcome.response = response;
        task.outcome.status = pdu.bhs[3];
        task.outcome.sense_data = sense_data;
        task.outcome.residual = residual;
        task.outcome.phase_collapse = phase_collapse;
        self.check_residual(&task);
        self.events.push_back(Event::Completed(task.outcome));
    }

    /// A command that ended well accounts for every byte (RFC 7143 11.4.5.2).
    fn check_residual(&mut self, task: &ScsiTask) {
        let received = task.outcome.data_in.len() as u32;
        let only_reads = task.command.data_out.is_empty() && task.command.read_length > 0;
        let missing = match task.outcome.residual {
            Residual::Underflow(count) => count,
            _ => 0,
        };
        if missing > task.expected_length {
            self.violation(format!("underflow of {missing} with {} expected", task.expected_length));
        } else if only_reads && task.outcome.is_good() && received + missing != task.expected_length {
            let expected = task.expected_length;
            self.violation(format!("{received} bytes and {:?} of {expected}", task.outcome.residual));
        }
    }

    fn on_r2t(&mut self, pdu: &Pdu) {
        let r2t =
            R2t { itt: pdu.itt(), ttt: pdu.ttt(), sn: pdu.u32_at(36), offset: pdu.u32_at(40), length: pdu.u32_at(44) };
        let Some(task) = self.tasks.get_mut(&r2t.itt) else {
            return self.violation(format!("R2T for no command: {pdu:?}"));
        };
        task.open_r2ts += 1;
        let end = u64::from(r2t.offset) + u64::from(r2t.length);
        let fault = if r2t.sn != task.next_data_sn {
            Some(format!("R2TSN {}, expected {}", r2t.sn, task.next_data_sn))
        } else if r2t.length == 0 || r2t.length > self.parameters.max_burst_length {
            Some(format!("R2T for {} bytes", r2t.length))
        } else if end > u64::from(task.expected_length) {
            Some(format!("R2T up to {end} of {}", task.expected_length))
        } else if self.parameters.data_sequence_in_order && r2t.offset != task.next_r2t_offset {
            Some(format!("R2T at {}, expected {}", r2t.offset, task.next_r2t_offset))
        } else if task.open_r2ts > self.parameters.max_outstanding_r2t {
            Some(format!("{} R2Ts outstanding", task.open_r2ts))
        } else if r2t.ttt == RESERVED_TAG {
            Some("R2T with the reserved tag".to_owned())
        } else {
            None
        };
        task.next_data_sn = r2t.sn.wrapping_add(1);
        task.next_r2t_offset = end as u32;
        task.outcome.r2ts += 1;
        let hold = task.command.plan.hold;
        if let Some(fault) = fault {
            self.violation(format!("{fault} in {pdu:?}"));
        }
        if hold {
            self.events.push_back(Event::R2t(r2t));
        } else {
            self.send_data_out(r2t.itt, r2t.ttt, r2t.offset, r2t.length);
        }
    }

    fn on_nop_in(&mut self, pdu: &Pdu) {
        let (itt, ttt) = (pdu.itt(), pdu.ttt());
        if itt != RESERVED_TAG {
            self.end_other(pdu, &OtherTask::Nop);
            self.events.push_back(Event::NopIn { itt, data: pdu.data.clone() });
            return;
        }
        self.events.push_back(Event::Pinged { ttt, data: pdu.data.clone() });
        if ttt != RESERVED_TAG && self.config.answer_nop_in {
            self.send_immediate(Pdu::new(opcode::NOP_OUT).with_lun(pdu.lun()).with_u32(20, ttt));
        }
    }

    fn on_text_response(&mut self, pdu: &Pdu) {
        let itt = pdu.itt();
        let Some(OtherTask::Text(received)) = self.others.get_mut(&itt) else {
            return self.violation(format!("text response to nothing: {pdu:?}"));
        };
        received.extend_from_slice(&pdu.data);
        let (is_final, continues) = (pdu.is_final(), pdu.flags() & 0x40 != 0);
        if is_final && continues {
            self.violation("F and C bits together in a text response".to_owned());
        }
        if !is_final {
            if pdu.ttt() == RESERVED_TAG {
                self.violation("more text to come, but no Target Transfer Tag".to_owned());
            }
            let more = Pdu::new(opcode::TEXT).with_lun(pdu.lun()).with_u32(16, itt).with_u32(20, pdu.ttt());
            return self.send_numbered(more);
        }
        let Some(OtherTask::Text(received)) = self.others.remove(&itt) else { return };
        match text::decode(&received) {
            Ok(keys) => self.events.push_back(Event::Text { itt, keys }),
            Err(error) => self.violation(format!("text response: {error}")),
        }
    }

    pub(super) fn on_reject(&mut self, pdu: &Pdu) {
        self.events.push_back(Event::Rejected(Rejected { reason: pdu.bhs[2], header: pdu.data.clone() }));
    }

    fn on_async(&mut self, pdu: &Pdu) {
        self.events.push_back(Event::Async(AsyncMessage {
            event: pdu.bhs[36],
            vendor_code: pdu.bhs[37],
            parameters: [pdu.u16_at(38), pdu.u16_at(40), pdu.u16_at(42)],
            lun: pdu.lun(),
            data: pdu.data.clone(),
        }));
    }
}

/// Extended CDB (RFC 7143 11.2.2.3) and bidirectional read length (11.2.2.4).
fn additional_headers(command: &Command, writes: bool) -> Vec<u8> {
    let mut ahs = Vec::new();
    if let Some(rest) = command.cdb.get(16..).filter(|rest| !rest.is_empty()) {
        ahs.extend_from_slice(&(rest.len() as u16 + 1).to_be_bytes());
        ahs.extend_from_slice(&[1, 0]);
        ahs.extend_from_slice(rest);
        ahs.resize(ahs.len().next_multiple_of(4), 0);
    }
    if writes && command.read_length > 0 {
        ahs.extend_from_slice(&[0, 5, 2, 0]);
        ahs.extend_from_slice(&command.read_length.to_be_bytes());
    }
    ahs
}
