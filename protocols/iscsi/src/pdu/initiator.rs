//! PDUs that an initiator sends.

use scst_scsi::Lun;

use super::codec::{AhsWords, At, Be24, Bit, Bits, pdu};
use super::codes::{LogoutReasonCode, SnackType, TaskAttributeCode, TmfFunction, opcode};

pdu! {
    /// SCSI Command (RFC 7143 11.3).
    ScsiCommand = opcode::SCSI_COMMAND, byte1 0;
    /// I bit.
    immediate: bool = Bit(0, 0x40);
    /// F bit: no unsolicited data PDUs follow.
    last: bool = Bit(1, 0x80);
    /// R bit.
    read: bool = Bit(1, 0x40);
    /// W bit.
    write: bool = Bit(1, 0x20);
    /// ATTR.
    attribute: TaskAttributeCode = Bits(1, 0, 0x07);
    /// TotalAHSLength in bytes.
    ahs_length: u16 = AhsWords;
    /// DataSegmentLength: immediate data.
    data_length: u32 = Be24(5);
    /// Logical unit number.
    lun: Lun = At(8);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// Expected data transfer length.
    expected_length: u32 = At(20);
    /// CmdSN.
    cmd_sn: u32 = At(24);
    /// ExpStatSN.
    exp_stat_sn: u32 = At(28);
    /// First 16 bytes of the CDB.
    cdb: [u8; 16] = At(32);
}

pdu! {
    /// Task Management Function Request (RFC 7143 11.5).
    TaskManagementRequest = opcode::TASK_MANAGEMENT_REQUEST, byte1 0x80;
    /// I bit.
    immediate: bool = Bit(0, 0x40);
    /// Function.
    function: TmfFunction = Bits(1, 0, 0x7f);
    /// DataSegmentLength; should be 0.
    data_length: u32 = Be24(5);
    /// Logical unit number.
    lun: Lun = At(8);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// Referenced task tag.
    referenced_task_tag: u32 = At(20);
    /// CmdSN.
    cmd_sn: u32 = At(24);
    /// ExpStatSN.
    exp_stat_sn: u32 = At(28);
    /// RefCmdSN.
    ref_cmd_sn: u32 = At(32);
    /// ExpDataSN.
    exp_data_sn: u32 = At(36);
}

pdu! {
    /// SCSI Data-Out (RFC 7143 11.7).
    DataOut = opcode::DATA_OUT, byte1 0;
    /// F bit: end of the sequence.
    last: bool = Bit(1, 0x80);
    /// DataSegmentLength.
    data_length: u32 = Be24(5);
    /// Logical unit number; only with a valid target transfer tag.
    lun: Lun = At(8);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// Target transfer tag; reserved in unsolicited data.
    ttt: u32 = At(20);
    /// ExpStatSN.
    exp_stat_sn: u32 = At(28);
    /// DataSN.
    data_sn: u32 = At(36);
    /// Buffer offset.
    buffer_offset: u32 = At(40);
}

pdu! {
    /// Text Request (RFC 7143 11.10).
    TextRequest = opcode::TEXT_REQUEST, byte1 0;
    /// I bit.
    immediate: bool = Bit(0, 0x40);
    /// F bit.
    last: bool = Bit(1, 0x80);
    /// C bit: the text goes on in the next request.
    continues: bool = Bit(1, 0x40);
    /// DataSegmentLength.
    data_length: u32 = Be24(5);
    /// Logical unit number.
    lun: Lun = At(8);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// Target transfer tag.
    ttt: u32 = At(20);
    /// CmdSN.
    cmd_sn: u32 = At(24);
    /// ExpStatSN.
    exp_stat_sn: u32 = At(28);
}

pdu! {
    /// Login Request (RFC 7143 11.12).
    LoginRequest = opcode::LOGIN_REQUEST, byte1 0;
    /// I bit; always set by a correct initiator.
    immediate: bool = Bit(0, 0x40);
    /// T bit: go on to the next stage.
    transit: bool = Bit(1, 0x80);
    /// C bit: the text goes on in the next request.
    continues: bool = Bit(1, 0x40);
    /// Current stage.
    csg: u8 = Bits(1, 2, 0x03);
    /// Next stage.
    nsg: u8 = Bits(1, 0, 0x03);
    /// Version-max.
    version_max: u8 = Bits(2, 0, 0xff);
    /// Version-min.
    version_min: u8 = Bits(3, 0, 0xff);
    /// TotalAHSLength in bytes; should be 0.
    ahs_length: u16 = AhsWords;
    /// DataSegmentLength.
    data_length: u32 = Be24(5);
    /// ISID.
    isid: [u8; 6] = At(8);
    /// TSIH.
    tsih: u16 = At(14);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// Connection ID.
    cid: u16 = At(20);
    /// CmdSN.
    cmd_sn: u32 = At(24);
    /// ExpStatSN.
    exp_stat_sn: u32 = At(28);
}

pdu! {
    /// Logout Request (RFC 7143 11.14).
    LogoutRequest = opcode::LOGOUT_REQUEST, byte1 0x80;
    /// I bit.
    immediate: bool = Bit(0, 0x40);
    /// Reason.
    reason: LogoutReasonCode = Bits(1, 0, 0x7f);
    /// DataSegmentLength; should be 0.
    data_length: u32 = Be24(5);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// Connection to close.
    cid: u16 = At(20);
    /// CmdSN.
    cmd_sn: u32 = At(24);
    /// ExpStatSN.
    exp_stat_sn: u32 = At(28);
}

pdu! {
    /// SNACK Request (RFC 7143 11.16).
    SnackRequest = opcode::SNACK_REQUEST, byte1 0x80;
    /// Type.
    kind: SnackType = Bits(1, 0, 0x0f);
    /// DataSegmentLength; should be 0.
    data_length: u32 = Be24(5);
    /// Logical unit number.
    lun: Lun = At(8);
    /// Initiator task tag.
    itt: u32 = At(16);
    /// Target transfer tag or SNACK tag.
    ttt: u32 = At(20);
    /// ExpStatSN.
    exp_stat_sn: u32 = At(28);
    /// First missing number.
    beg_run: u32 = At(40);
    /// How many are missing; 0: all from there on.
    run_length: u32 = At(44);
}

pdu! {
    /// NOP-Out (RFC 7143 11.18).
    NopOut = opcode::NOP_OUT, byte1 0x80;
    /// I bit.
    immediate: bool = Bit(0, 0x40);
    /// DataSegmentLength: ping data.
    data_length: u32 = Be24(5);
    /// Logical unit number.
    lun: Lun = At(8);
    /// Initiator task tag; reserved when no answer is wanted.
    itt: u32 = At(16);
    /// Target transfer tag of the NOP-In that this answers, or reserved.
    ttt: u32 = At(20);
    /// CmdSN.
    cmd_sn: u32 = At(24);
    /// ExpStatSN.
    exp_stat_sn: u32 = At(28);
}
