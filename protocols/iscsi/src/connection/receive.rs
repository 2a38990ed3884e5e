//! From bytes to PDUs to events.

use crate::digest::{crc32c, digest_bytes};
use crate::error::{CloseReason, Garbage, Misbehavior};
use crate::event::{CommandEvent, Input, RecvEvent, TaskHandle};
use crate::pdu::{BHS_LENGTH, BasicHeaderSegment, DIGEST_LENGTH, RejectReason, opcode, padding};
use crate::session::Session;
use crate::task::Stage;
use crate::text::MAX_TEXT_LENGTH;

use super::data_out::DataPdu;
use super::{Connection, MAX_SMALL_BYTES, MAX_SMALL_PDUS, RequestData, State};

/// What becomes of a data segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Segment {
    /// It belongs into the buffer of a task.
    Task(DataPdu),
    /// It is collected, then the request is served.
    Gather,
    /// It is thrown away.
    Discard,
}

/// A PDU whose header is done (it is in `Connection::header`) and whose data segment is coming in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    pub(super) segment: Segment,
    /// Bytes of the data segment that are still to come.
    pub(super) left: u32,
    /// Padding and digest after it.
    pub(super) trailer: u8,
    pub(super) crc: u32,
    /// A payload event is out and not all of it has come.
    pub(super) announced: bool,
}

/// A command that has become a task; its event is made of this and its header where it is handed over, once.
#[derive(Clone, Copy)]
pub(super) struct NewTask {
    pub(super) task: TaskHandle,
    /// See [`CommandEvent::held`].
    pub(super) held: bool,
}

enum Step {
    Used(usize),
    Wait(Input),
}

/// What the bytes of a header are.
enum Header {
    /// So many, and there is nothing to tell of them.
    Used(usize),
    /// So many, and they are a command.
    Command(usize, NewTask),
    /// Too few, by so many.
    Incomplete(usize),
    /// Nothing yet: too many answers wait to be sent.
    NoRoom,
}

impl Connection {
    /// Looks at received bytes: returns how many of them are used up, and what they mean or what is needed. Never
    /// consumes payload of a command. Not to be called while a receive straight into a task's buffer is in flight.
    pub fn poll_input(&mut self, session: &mut Session, now: u64, bytes: &[u8]) -> (usize, Input) {
        let mut command = CommandEvent::default();
        let (used, input) = self.poll_input_into(session, now, bytes, &mut command);
        (used, input.unwrap_or_else(|| Input::Event(RecvEvent::Command(Box::new(command)))))
    }

    /// The same, with a place for a command (None: there is one): to hand it on by value, from call to call, costs as
    /// much as to understand it.
    pub fn poll_input_into(
        &mut self,
        session: &mut Session,
        now: u64,
        bytes: &[u8],
        command: &mut CommandEvent,
    ) -> (usize, Option<Input>) {
        let mut used = 0;
        if self.timers.progress {
            self.timers.received(now);
        }
        loop {
            if !self.events.is_empty()
                && let Some(event) = self.next_event(session)
            {
                return (used, Some(Input::Event(event)));
            }
            if self.state != State::Open {
                return (used, Some(Input::Closed));
            }
            let bytes = &bytes[used..];
            let step = match self.incoming {
                None => match self.header(session, now, bytes) {
                    // At once: no event is before it.
                    Header::Command(n, new) => {
                        self.timers.received(now);
                        self.describe(new, &bytes[BHS_LENGTH..], command);
                        return (used + n, None);
                    }
                    Header::Used(n) => Step::Used(n),
                    Header::Incomplete(missing) => return (used, Some(Input::NeedBytes(missing))),
                    Header::NoRoom => return (used, Some(Input::WaitForTransmit)),
                },
                Some(incoming) => self.rest_of_pdu(session, now, incoming, bytes),
            };
            match step {
                Step::Used(n) => {
                    used += n;
                    self.timers.received(now);
                }
                Step::Wait(input) => return (used, Some(input)),
            }
        }
    }

    /// With data digests: the running CRC32C of the payload being received; extend it over the bytes taken
    /// ([`crate::digest::crc32c`]) and give it to `payload_received`. None: no CRC needed.
    pub fn payload_crc(&self) -> Option<u32> {
        if self.parameters.data_digest { self.incoming.as_ref().map(|incoming| incoming.crc) } else { None }
    }

    /// Takes the data-out of a command that has just been reported, if all of them came with it and all of that is
    /// there: `bytes` are the received ones behind its header. Returns how many of them are used up; the first
    /// `write_length` are the data, and no `request_data` is needed. None: nothing has changed, the data have to be
    /// fetched.
    pub fn take_immediate(&mut self, session: &mut Session, command: &CommandEvent, bytes: &[u8]) -> Option<usize> {
        let incoming = self.incoming.as_ref()?;
        let Segment::Task(pdu) = &incoming.segment else { return None };
        let length = command.write_length;
        let whole = pdu.immediate && pdu.last && pdu.length == length && incoming.left == length;
        let used = length as usize + usize::from(incoming.trailer);
        if pdu.task != command.task || !whole || bytes.len() < used {
            return None;
        }
        if self.parameters.data_digest {
            let crc = crc32c(0, &bytes[..length as usize]);
            if !trailer_is_right(&Incoming { crc, ..*incoming }, &bytes[length as usize..used]) {
                return None;
            }
        }
        let out = &mut session.tasks.get_mut(command.task).filter(|t| t.stage == Stage::Open)?.out;
        out.fetch = Some(length);
        out.received = length;
        out.unsolicited_open = false;
        out.reported = true;
        out.waiting_since = None;
        self.incoming = None;
        self.timers.progress = true;
        Some(used)
    }

    /// `length` more bytes of the payload announced by [`RecvEvent::Payload`] are in the buffer.
    pub fn payload_received(&mut self, length: u32, crc: Option<u32>) {
        if let Some(incoming) = &mut self.incoming
            && let Segment::Task(pdu) = &mut incoming.segment
        {
            let length = length.min(incoming.left);
            incoming.left -= length;
            pdu.offset += length;
            incoming.crc = crc.unwrap_or(incoming.crc);
            self.timers.progress = true;
        }
    }

    /// The next event that still makes sense.
    #[inline(never)]
    fn next_event(&mut self, session: &Session) -> Option<RecvEvent> {
        loop {
            let event = self.events.pop_front()?;
            let open = |task: TaskHandle| session.tasks.get(task).filter(|t| t.stage == Stage::Open);
            let valid = match &event {
                RecvEvent::Deliver { task, .. } => open(*task).is_some(),
                RecvEvent::DataComplete { task, .. } | RecvEvent::DataError { task, .. } => {
                    open(*task).is_some_and(|t| !t.out.aborted)
                }
                _ => true,
            };
            if valid {
                return Some(event);
            }
        }
    }

    #[inline(never)]
    fn rest_of_pdu(&mut self, session: &mut Session, now: u64, incoming: Incoming, bytes: &[u8]) -> Step {
        if incoming.left > 0 {
            return self.segment(session, incoming, bytes);
        }
        let trailer = usize::from(incoming.trailer);
        if bytes.len() < trailer {
            return Step::Wait(Input::NeedBytes(trailer - bytes.len()));
        }
        self.incoming = None;
        let intact = !self.parameters.data_digest || trailer_is_right(&incoming, &bytes[..trailer]);
        self.end_of_pdu(session, now, &incoming, intact);
        Step::Used(trailer)
    }

    #[inline(always)]
    fn header(&mut self, session: &mut Session, now: u64, bytes: &[u8]) -> Header {
        if self.small_pdus >= MAX_SMALL_PDUS || self.small_bytes >= MAX_SMALL_BYTES {
            return Header::NoRoom;
        }
        let Some(header) = BasicHeaderSegment::from_slice(bytes) else {
            return Header::Incomplete(BHS_LENGTH - bytes.len());
        };
        let covered = BHS_LENGTH + header.ahs_length();
        let total = covered + if self.parameters.header_digest { DIGEST_LENGTH } else { 0 };
        if bytes.len() < total {
            return Header::Incomplete(total - bytes.len());
        }
        // RFC 7143 7.8: without a right header the length is not known either.
        if self.parameters.header_digest && bytes[covered..total] != digest_bytes(crc32c(0, &bytes[..covered])) {
            self.close(CloseReason::Garbage(Garbage::HeaderDigest));
            return Header::Used(total);
        }
        let length = header.data_length();
        if length > self.parameters.max_recv_data_segment_length {
            self.close(CloseReason::Garbage(Garbage::DataSegmentTooLong));
            return Header::Used(total);
        }
        self.header = header;
        if header.opcode() == opcode::SCSI_COMMAND {
            let command = self.start_command(session, now, &bytes[BHS_LENGTH..covered]);
            return command.map_or(Header::Used(total), |command| Header::Command(total, command));
        }
        self.start_other(session, now);
        Header::Used(total)
    }

    /// The data segment comes next, if there is one. Returns whether there is.
    #[inline(always)]
    pub(super) fn expect_segment(&mut self, segment: Segment) -> bool {
        let length = self.header.data_length();
        if length > 0 {
            let digest = if self.parameters.data_digest { DIGEST_LENGTH as u32 } else { 0 };
            let trailer = (padding(length) + digest) as u8;
            self.incoming = Some(Incoming { segment, left: length, trailer, crc: 0, announced: false });
        }
        length > 0
    }

    /// Makes room for the data of a request.
    fn start_gathering(&mut self, now: u64, header: &BasicHeaderSegment) {
        let length = header.data_length() as usize;
        self.gathered = match header.opcode() {
            opcode::NOP_OUT => RequestData::begin(length, &self.requests),
            opcode::TEXT_REQUEST if length <= MAX_TEXT_LENGTH => RequestData::begin(length, &self.requests),
            // A text that is too long is rejected; the others have no use for data.
            _ => RequestData::nothing(),
        };
        if length > 0 {
            self.timers.gathering(now);
        }
    }

    #[inline(never)]
    fn start_other(&mut self, session: &mut Session, now: u64) {
        let header = &{ self.header };
        let segment = match header.opcode() {
            opcode::DATA_OUT => self.start_data_out(session, header),
            opcode::NOP_OUT | opcode::TEXT_REQUEST | opcode::TASK_MANAGEMENT_REQUEST | opcode::LOGOUT_REQUEST => {
                self.start_gathering(now, header);
                Segment::Gather
            }
            opcode::LOGIN_REQUEST => {
                self.close(CloseReason::Misbehaved(Misbehavior::LoginInFullFeature));
                Segment::Discard
            }
            opcode::SNACK_REQUEST => {
                self.reject(RejectReason::SNACK_REJECT, header);
                Segment::Discard
            }
            _ => {
                self.reject(RejectReason::COMMAND_NOT_SUPPORTED, header);
                Segment::Discard
            }
        };
        if self.state != State::Closed && !self.expect_segment(segment) {
            let incoming = Incoming { segment, left: 0, trailer: 0, crc: 0, announced: false };
            self.end_of_pdu(session, now, &incoming, true);
        }
    }

    /// A part of a data segment.
    fn segment(&mut self, session: &Session, incoming: Incoming, bytes: &[u8]) -> Step {
        let mut incoming = incoming;
        if let Segment::Task(pdu) = &incoming.segment {
            let pdu = *pdu;
            match self.place(session, &pdu, incoming.left) {
                Placement::Buffer(length) => {
                    let user = session.user(pdu.task).unwrap_or(0);
                    incoming.announced = true;
                    self.incoming = Some(incoming);
                    let event = RecvEvent::Payload { task: pdu.task, user, offset: pdu.offset, length };
                    return Step::Wait(Input::Event(event));
                }
                Placement::Unknown => {
                    let user = session.user(pdu.task).unwrap_or(0);
                    return Step::Wait(Input::WaitForDriver { task: pdu.task, user });
                }
                Placement::Nowhere { aborted } => {
                    if aborted && incoming.announced {
                        let user = session.user(pdu.task).unwrap_or(0);
                        incoming.announced = false;
                        self.incoming = Some(incoming);
                        return Step::Wait(Input::Event(RecvEvent::DataAborted { task: pdu.task, user }));
                    }
                }
            }
        }
        if bytes.is_empty() {
            return Step::Wait(Input::NeedBytes(1));
        }
        let take = bytes.len().min(incoming.left as usize);
        let part = &bytes[..take];
        if self.parameters.data_digest {
            incoming.crc = crc32c(incoming.crc, part);
        }
        if matches!(incoming.segment, Segment::Gather) {
            self.gathered.push(part);
        }
        if let Segment::Task(pdu) = &mut incoming.segment {
            pdu.offset += take as u32;
        }
        incoming.left -= take as u32;
        self.incoming = Some(incoming);
        Step::Used(take)
    }

    /// Where the next bytes for a task go.
    fn place(&self, session: &Session, pdu: &DataPdu, left: u32) -> Placement {
        let Some(task) = session.tasks.get(pdu.task) else { return Placement::Nowhere { aborted: false } };
        if task.stage != Stage::Open || task.out.error.is_some() || task.out.aborted {
            return Placement::Nowhere { aborted: task.out.aborted };
        }
        match task.out.fetch {
            None => Placement::Unknown,
            Some(fetch) if pdu.offset < fetch => Placement::Buffer(left.min(fetch - pdu.offset)),
            Some(_) => Placement::Nowhere { aborted: false },
        }
    }

    /// All of a PDU is there.
    fn end_of_pdu(&mut self, session: &mut Session, now: u64, incoming: &Incoming, intact: bool) {
        match incoming.segment {
            Segment::Task(pdu) => {
                if !intact {
                    let header = self.header;
                    self.reject(RejectReason::DATA_DIGEST_ERROR, &header);
                }
                if let Some(task) = session.tasks.get(pdu.task)
                    && task.out.aborted
                    && incoming.announced
                {
                    self.events.push_back(RecvEvent::DataAborted { task: pdu.task, user: task.user });
                }
                self.end_of_data_pdu(session, now, &pdu, intact);
            }
            Segment::Gather => {
                self.timers.gathered();
                let header = self.header;
                let data = core::mem::take(&mut self.gathered);
                if intact {
                    self.request_arrived(session, now, &header, data);
                } else {
                    // RFC 7143 7.8: the PDU is dropped; its number must not leave a hole for ever.
                    self.reject(RejectReason::DATA_DIGEST_ERROR, &header);
                    self.skip_number(session, now, &header);
                }
            }
            Segment::Discard => {}
        }
    }
}

fn trailer_is_right(incoming: &Incoming, trailer: &[u8]) -> bool {
    let (pad, digest) = trailer.split_at(trailer.len() - DIGEST_LENGTH);
    digest == digest_bytes(crc32c(incoming.crc, pad))
}

enum Placement {
    Buffer(u32),
    Unknown,
    Nowhere { aborted: bool },
}
