//! Code points of RFC 7143: newtypes over the byte, with names.

/// Opcodes (RFC 7143 11.2.1.2).
#[expect(missing_docs, reason = "the names are those of the RFC")]
pub mod opcode {
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TASK_MANAGEMENT_REQUEST: u8 = 0x02;
    pub const LOGIN_REQUEST: u8 = 0x03;
    pub const TEXT_REQUEST: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT_REQUEST: u8 = 0x06;
    pub const SNACK_REQUEST: u8 = 0x10;
    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC_MESSAGE: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
}

macro_rules! codes {
    ($( $(#[$meta:meta])* $name:ident { $( $(#[$code_meta:meta])* $code:ident = $value:expr, )* } )*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
            pub struct $name(pub u8);

            impl $name {
                $( $(#[$code_meta])* pub const $code: Self = Self($value); )*
            }

            impl From<u8> for $name {
                fn from(value: u8) -> Self {
                    Self(value)
                }
            }

            impl From<$name> for u8 {
                fn from(value: $name) -> Self {
                    value.0
                }
            }
        )*
    };
}

codes! {
    /// ATTR of a SCSI command (RFC 7143 11.3.1).
    TaskAttributeCode {
        /// Untagged.
        UNTAGGED = 0,
        /// SIMPLE.
        SIMPLE = 1,
        /// ORDERED.
        ORDERED = 2,
        /// HEAD OF QUEUE.
        HEAD_OF_QUEUE = 3,
        /// ACA.
        ACA = 4,
    }

    /// Task management function (RFC 7143 11.5.1, RFC 7144 4.2).
    TmfFunction {
        /// ABORT TASK.
        ABORT_TASK = 1,
        /// ABORT TASK SET.
        ABORT_TASK_SET = 2,
        /// CLEAR ACA.
        CLEAR_ACA = 3,
        /// CLEAR TASK SET.
        CLEAR_TASK_SET = 4,
        /// LOGICAL UNIT RESET.
        LOGICAL_UNIT_RESET = 5,
        /// TARGET WARM RESET.
        TARGET_WARM_RESET = 6,
        /// TARGET COLD RESET.
        TARGET_COLD_RESET = 7,
        /// TASK REASSIGN.
        TASK_REASSIGN = 8,
        /// QUERY TASK (RFC 7144).
        QUERY_TASK = 9,
        /// QUERY TASK SET (RFC 7144).
        QUERY_TASK_SET = 10,
        /// I_T NEXUS RESET (RFC 7144).
        I_T_NEXUS_RESET = 11,
        /// QUERY ASYNCHRONOUS EVENT (RFC 7144).
        QUERY_ASYNC_EVENT = 12,
    }

    /// Response of a task management function (RFC 7143 11.6.1, RFC 7144 4.3).
    TmfResponseCode {
        /// Function complete.
        COMPLETE = 0,
        /// Task does not exist.
        TASK_DOES_NOT_EXIST = 1,
        /// LUN does not exist.
        LUN_DOES_NOT_EXIST = 2,
        /// Task still allegiant.
        TASK_STILL_ALLEGIANT = 3,
        /// Task allegiance reassignment not supported.
        REASSIGN_NOT_SUPPORTED = 4,
        /// Task management function not supported.
        NOT_SUPPORTED = 5,
        /// Function authorization failed.
        AUTHORIZATION_FAILED = 6,
        /// Function succeeded (RFC 7144: the query found something).
        SUCCEEDED = 7,
        /// Function rejected.
        REJECTED = 255,
    }

    /// Reason of a Reject (RFC 7143 11.17.1).
    RejectReason {
        /// Data (payload) digest error.
        DATA_DIGEST_ERROR = 0x02,
        /// SNACK Reject.
        SNACK_REJECT = 0x03,
        /// Protocol error.
        PROTOCOL_ERROR = 0x04,
        /// Command not supported.
        COMMAND_NOT_SUPPORTED = 0x05,
        /// Too many immediate commands.
        TOO_MANY_IMMEDIATE_COMMANDS = 0x06,
        /// Task in progress.
        TASK_IN_PROGRESS = 0x07,
        /// Invalid data ACK.
        INVALID_DATA_ACK = 0x08,
        /// Invalid PDU field.
        INVALID_PDU_FIELD = 0x09,
        /// Long operation reject: out of resources.
        LONG_OPERATION = 0x0a,
        /// Waiting for logout.
        WAITING_FOR_LOGOUT = 0x0c,
    }

    /// Event of an asynchronous message (RFC 7143 11.9.1).
    AsyncEvent {
        /// SCSI asynchronous event.
        SCSI = 0,
        /// Target requests logout.
        LOGOUT_REQUEST = 1,
        /// Target will drop a connection.
        CONNECTION_DROPPED = 2,
        /// Target will drop all connections of the session.
        SESSION_DROPPED = 3,
        /// Target requests parameter negotiation.
        NEGOTIATION_REQUEST = 4,
        /// Fast multi-task abort.
        FAST_ABORT = 5,
        /// Vendor specific.
        VENDOR = 255,
    }

    /// Reason of a logout request (RFC 7143 11.14.1).
    LogoutReasonCode {
        /// Close the session.
        CLOSE_SESSION = 0,
        /// Close the connection.
        CLOSE_CONNECTION = 1,
        /// Remove the connection for recovery.
        REMOVE_FOR_RECOVERY = 2,
    }

    /// Response to a logout request (RFC 7143 11.15.1).
    LogoutResponseCode {
        /// Closed successfully.
        CLOSED = 0,
        /// CID not found.
        CID_NOT_FOUND = 1,
        /// Connection recovery not supported.
        RECOVERY_NOT_SUPPORTED = 2,
        /// Cleanup failed.
        CLEANUP_FAILED = 3,
    }

    /// Type of a SNACK (RFC 7143 11.16.1).
    SnackType {
        /// Data or R2T.
        DATA_R2T = 0,
        /// Status.
        STATUS = 1,
        /// DataACK.
        DATA_ACK = 2,
        /// R-Data.
        R_DATA = 3,
    }
}
