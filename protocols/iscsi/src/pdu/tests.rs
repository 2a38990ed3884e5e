use proptest::prelude::*;
use scst_scsi::Lun;

use super::*;

/// Every byte that a PDU's fields own survives parse and emit; this many random headers are tried per PDU.
macro_rules! emit_then_parse_is_identity {
    ($($test:ident: $pdu:ident),* $(,)?) => {
        proptest! {
            $(
                #[test]
                fn $test(bytes in prop::collection::vec(any::<u8>(), BHS_LENGTH)) {
                    let mut raw = BasicHeaderSegment::from_slice(&bytes).unwrap();
                    raw.0[0] = raw.0[0] & 0x40 | $pdu::OPCODE;
                    let value = $pdu::parse(&raw);
                    let emitted = value.emit();
                    prop_assert_eq!(emitted.opcode(), $pdu::OPCODE);
                    prop_assert_eq!($pdu::parse(&emitted), value);
                    // Emitting is a function of the fields only.
                    prop_assert_eq!($pdu::parse(&emitted).emit(), emitted);
                }
            )*
        }
    };
}

emit_then_parse_is_identity! {
    scsi_command: ScsiCommand, task_management_request: TaskManagementRequest, data_out: DataOut,
    text_request: TextRequest, login_request: LoginRequest, logout_request: LogoutRequest,
    snack_request: SnackRequest, nop_out: NopOut,
    scsi_response: ScsiResponse, task_management_response: TaskManagementPdu, data_in: DataIn, r2t: R2t,
    async_message: AsyncMessagePdu, text_response: TextResponse, login_response: LoginResponse,
    logout_response: LogoutResponsePdu, reject: Reject, nop_in: NopIn,
}

#[test]
fn a_read_command_has_its_fields_where_the_rfc_says() {
    let mut cdb = [0; 16];
    cdb[0] = 0x28;
    let bhs = ScsiCommand {
        immediate: false,
        last: true,
        read: true,
        write: false,
        attribute: TaskAttributeCode::SIMPLE,
        ahs_length: 8,
        data_length: 0x01_02_03,
        lun: Lun([0, 1, 0, 0, 0, 0, 0, 0]),
        itt: 0x1122_3344,
        expected_length: 4096,
        cmd_sn: 7,
        exp_stat_sn: 9,
        cdb,
    }
    .emit();
    #[rustfmt::skip]
    let expected = [
        0x01, 0xc1, 0, 0, 2, 1, 2, 3, 0, 1, 0, 0, 0, 0, 0, 0,
        0x11, 0x22, 0x33, 0x44, 0, 0, 0x10, 0, 0, 0, 0, 7, 0, 0, 0, 9,
        0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(bhs.0, expected);
    assert_eq!((bhs.ahs_length(), bhs.data_length(), bhs.itt(), bhs.cmd_sn()), (8, 0x01_02_03, 0x1122_3344, 7));
}

#[test]
fn a_login_response_has_its_fields_where_the_rfc_says() {
    let bhs = LoginResponse {
        transit: true,
        continues: false,
        csg: 1,
        nsg: 3,
        version_max: 0,
        version_active: 0,
        data_length: 5,
        isid: [1, 2, 3, 4, 5, 6],
        tsih: 0x0708,
        itt: 1,
        stat_sn: 2,
        exp_cmd_sn: 3,
        max_cmd_sn: 4,
        status: 0x0201,
    }
    .emit();
    assert_eq!(bhs.0[..16], [0x23, 0x87, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bhs.0[24..38], [0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 2, 1]);
}

#[test]
fn a_long_cdb_and_a_read_length_come_as_two_segments() {
    let mut bytes = Vec::new();
    emit_extended_cdb(&mut bytes, &[9; 17]);
    assert_eq!(bytes.len(), 24);
    assert_eq!(bytes[..5], [0, 18, 1, 0, 9]);
    emit_bidirectional_read_length(&mut bytes, 512);
    let all: Vec<_> = AhsIter::new(&bytes).collect();
    assert_eq!(all, [Ok(Ahs::ExtendedCdb(&[9; 17])), Ok(Ahs::BidirectionalReadLength(512))]);
}

#[test]
fn a_segment_that_ends_outside_is_an_error_and_the_last_item() {
    let mut iter = AhsIter::new(&[0, 9, 1, 0]);
    assert_eq!(iter.next(), Some(Err(AhsError)));
    assert_eq!(iter.next(), None);
    assert_eq!(AhsIter::new(&[0, 1, 2, 0]).next(), Some(Err(AhsError)));
    assert_eq!(AhsIter::new(&[0, 1, 77, 0]).next(), Some(Ok(Ahs::Unknown(77))));
}

proptest! {
    #[test]
    fn any_ahs_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        prop_assert!(AhsIter::new(&bytes).count() <= 17);
    }
}
