//! PDUs that a target sends. StatSN, ExpCmdSN and MaxCmdSN are at bytes 24, 28 and 32 in all of them.

use scst_scsi::Lun;

use super::codec::{At, Be24, Bit, Bits, pdu};
use super::codes::{AsyncEvent, LogoutResponseCode, RejectReason, TmfResponseCode, opcode};

pdu! {
    /// SCSI Response (RFC 7143 11.4).
    ScsiResponse = opcode::SCSI_RESPONSE, byte1 0x80;
    /// o bit: overflow of the bidirectional read.
    read_overflow: bool = Bit(1, 0x10);
    /// u bit: underflow of the bidirectional read.
    read_underflow: bool = Bit(1, 0x08);
    /// O bit: overflow.
    overflow: bool = Bit(1, 0x04);
    /// U bit: underflow.
    underflow: bool = Bit(1, 0x02);
    /// iSCSI service response: 0 completed at target, 1 target failure.
    response: u8 = Bits(2, 0, 0xff);
    /// SCSI status.
    status: u8 = Bits(3, 0, 0xff);
    /// DataSegmentLength: sense and response data.
    data_length: u32 = Be24(5);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// SNACK tag.
    snack_tag: u32 = At(20);
    /// StatSN.
    stat_sn: u32 = At(24);
    /// ExpCmdSN.
    exp_cmd_sn: u32 = At(28);
    /// MaxCmdSN.
    max_cmd_sn: u32 = At(32);
    /// ExpDataSN: Data-In and R2T PDUs sent for the command.
    exp_data_sn: u32 = At(36);
    /// Bidirectional read residual count.
    read_residual: u32 = At(40);
    /// Residual count.
    residual: u32 = At(44);
}

pdu! {
    /// Task Management Function Response (RFC 7143 11.6).
    TaskManagementPdu = opcode::TASK_MANAGEMENT_RESPONSE, byte1 0x80;
    /// Response.
    response: TmfResponseCode = Bits(2, 0, 0xff);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// StatSN.
    stat_sn: u32 = At(24);
    /// ExpCmdSN.
    exp_cmd_sn: u32 = At(28);
    /// MaxCmdSN.
    max_cmd_sn: u32 = At(32);
}

pdu! {
    /// SCSI Data-In (RFC 7143 11.7).
    DataIn = opcode::DATA_IN, byte1 0;
    /// F bit: end of the sequence.
    last: bool = Bit(1, 0x80);
    /// A bit: asks for a DataACK.
    acknowledge: bool = Bit(1, 0x40);
    /// O bit: overflow.
    overflow: bool = Bit(1, 0x04);
    /// U bit: underflow.
    underflow: bool = Bit(1, 0x02);
    /// S bit: status, residual count and StatSN are valid.
    has_status: bool = Bit(1, 0x01);
    /// SCSI status.
    status: u8 = Bits(3, 0, 0xff);
    /// DataSegmentLength.
    data_length: u32 = Be24(5);
    /// Logical unit number; only with A.
    lun: Lun = At(8);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// Target transfer tag; only with A.
    ttt: u32 = At(20);
    /// StatSN.
    stat_sn: u32 = At(24);
    /// ExpCmdSN.
    exp_cmd_sn: u32 = At(28);
    /// MaxCmdSN.
    max_cmd_sn: u32 = At(32);
    /// DataSN.
    data_sn: u32 = At(36);
    /// Buffer offset.
    buffer_offset: u32 = At(40);
    /// Residual count.
    residual: u32 = At(44);
}

pdu! {
    /// Ready To Transfer (RFC 7143 11.8).
    R2t = opcode::R2T, byte1 0x80;
    /// Logical unit number.
    lun: Lun = At(8);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// Target transfer tag.
    ttt: u32 = At(20);
    /// StatSN; not advanced.
    stat_sn: u32 = At(24);
    /// ExpCmdSN.
    exp_cmd_sn: u32 = At(28);
    /// MaxCmdSN.
    max_cmd_sn: u32 = At(32);
    /// R2TSN.
    r2t_sn: u32 = At(36);
    /// Buffer offset.
    buffer_offset: u32 = At(40);
    /// Desired data transfer length.
    desired_length: u32 = At(44);
}

pdu! {
    /// Asynchronous Message (RFC 7143 11.9).
    AsyncMessagePdu = opcode::ASYNC_MESSAGE, byte1 0x80;
    /// DataSegmentLength: sense and event data.
    data_length: u32 = Be24(5);
    /// Logical unit number.
    lun: Lun = At(8);
    /// Always reserved; the field is at the place of the initiator task tag.
    tag: u32 = At(16);
    /// StatSN.
    stat_sn: u32 = At(24);
    /// ExpCmdSN.
    exp_cmd_sn: u32 = At(28);
    /// MaxCmdSN.
    max_cmd_sn: u32 = At(32);
    /// Event.
    event: AsyncEvent = Bits(36, 0, 0xff);
    /// Vendor code.
    vendor_code: u8 = Bits(37, 0, 0xff);
    /// Parameter1.
    parameter1: u16 = At(38);
    /// Parameter2.
    parameter2: u16 = At(40);
    /// Parameter3.
    parameter3: u16 = At(42);
}

pdu! {
    /// Text Response (RFC 7143 11.11).
    TextResponse = opcode::TEXT_RESPONSE, byte1 0;
    /// F bit.
    last: bool = Bit(1, 0x80);
    /// C bit: the text goes on in the next response.
    continues: bool = Bit(1, 0x40);
    /// DataSegmentLength.
    data_length: u32 = Be24(5);
    /// Logical unit number.
    lun: Lun = At(8);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// Target transfer tag.
    ttt: u32 = At(20);
    /// StatSN.
    stat_sn: u32 = At(24);
    /// ExpCmdSN.
    exp_cmd_sn: u32 = At(28);
    /// MaxCmdSN.
    max_cmd_sn: u32 = At(32);
}

pdu! {
    /// Login Response (RFC 7143 11.13).
    LoginResponse = opcode::LOGIN_RESPONSE, byte1 0;
    /// T bit: the next stage begins.
    transit: bool = Bit(1, 0x80);
    /// C bit: the text goes on in the next response.
    continues: bool = Bit(1, 0x40);
    /// Current stage.
    csg: u8 = Bits(1, 2, 0x03);
    /// Next stage.
    nsg: u8 = Bits(1, 0, 0x03);
    /// Version-max.
    version_max: u8 = Bits(2, 0, 0xff);
    /// Version-active.
    version_active: u8 = Bits(3, 0, 0xff);
    /// DataSegmentLength.
    data_length: u32 = Be24(5);
    /// ISID.
    isid: [u8; 6] = At(8);
    /// TSIH.
    tsih: u16 = At(14);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// StatSN.
    stat_sn: u32 = At(24);
    /// ExpCmdSN.
    exp_cmd_sn: u32 = At(28);
    /// MaxCmdSN.
    max_cmd_sn: u32 = At(32);
    /// Status class in the high byte, status detail in the low byte.
    status: u16 = At(36);
}

pdu! {
    /// Logout Response (RFC 7143 11.15).
    LogoutResponsePdu = opcode::LOGOUT_RESPONSE, byte1 0x80;
    /// Response.
    response: LogoutResponseCode = Bits(2, 0, 0xff);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// StatSN.
    stat_sn: u32 = At(24);
    /// ExpCmdSN.
    exp_cmd_sn: u32 = At(28);
    /// MaxCmdSN.
    max_cmd_sn: u32 = At(32);
    /// Time2Wait in seconds.
    time2wait: u16 = At(40);
    /// Time2Retain in seconds.
    time2retain: u16 = At(42);
}

pdu! {
    /// Reject (RFC 7143 11.17). The data segment is the header that was rejected.
    Reject = opcode::REJECT, byte1 0x80;
    /// Reason.
    reason: RejectReason = Bits(2, 0, 0xff);
    /// DataSegmentLength.
    data_length: u32 = Be24(5);
    /// Always reserved; the field is at the place of the initiator task tag.
    tag: u32 = At(16);
    /// StatSN.
    stat_sn: u32 = At(24);
    /// ExpCmdSN.
    exp_cmd_sn: u32 = At(28);
    /// MaxCmdSN.
    max_cmd_sn: u32 = At(32);
    /// DataSN or R2TSN; 0 unless a DataACK is rejected.
    data_sn: u32 = At(36);
}

pdu! {
    /// NOP-In (RFC 7143 11.19).
    NopIn = opcode::NOP_IN, byte1 0x80;
    /// DataSegmentLength: ping data.
    data_length: u32 = Be24(5);
    /// Logical unit number.
    lun: Lun = At(8);
    /// Initiator task tag of the NOP-Out that this answers, or reserved.
    itt: u32 = At(16);
    /// Target transfer tag; reserved when no answer is wanted.
    ttt: u32 = At(20);
    /// StatSN.
    stat_sn: u32 = At(24);
    /// ExpCmdSN.
    exp_cmd_sn: u32 = At(28);
    /// MaxCmdSN.
    max_cmd_sn: u32 = At(32);
}
