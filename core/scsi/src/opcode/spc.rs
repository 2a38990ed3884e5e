//! Commands of SPC-6 (and RESERVE and RELEASE of SPC-2) that every device type may have.

use super::descriptor::CommandDescriptor;
use crate::flags::CommandFlags;

const fn row(name: &'static str, usage: &'static [u8]) -> CommandDescriptor {
    CommandDescriptor::new(name, usage)
}

/// Allowed for non-holders under any persistent reservation.
const ANY_PR: CommandFlags = CommandFlags::WRITE_EXCLUSIVE_OK.union(CommandFlags::EXCLUSIVE_ACCESS_OK);
/// Allowed for non-holders under Write Exclusive types only.
const WE: CommandFlags = CommandFlags::WRITE_EXCLUSIVE_OK;
/// Allowed under any reservation of another nexus.
const ANY_RESERVATION: CommandFlags = ANY_PR.union(CommandFlags::RESERVED_OK);
/// SPC-6 5.16.2.4.4: runs in ALUA state standby.
const STANDBY: CommandFlags = CommandFlags::STANDBY_OK;
/// SPC-6 5.16.2.4.5: runs in ALUA states standby and unavailable.
const ANY_STATE: CommandFlags = CommandFlags::STANDBY_OK.union(CommandFlags::UNAVAILABLE_OK);
/// Answered by the mid-level.
const CORE: CommandFlags = CommandFlags::CORE;
/// Alone on the logical unit.
const EXCLUSIVE: CommandFlags = CommandFlags::EXCLUSIVE;
/// Before everything that waits.
const HEAD: CommandFlags = CommandFlags::IMPLICIT_HEAD_OF_QUEUE;
/// Depends on nothing that a barrier protects.
const UNBLOCKED: CommandFlags = CommandFlags::UNBLOCKED;
/// Leaves unit attentions pending.
const NO_UA: CommandFlags = CommandFlags::SKIPS_UNIT_ATTENTION;

/// PERSISTENT RESERVE IN: one service action.
const fn pr_in(name: &'static str, usage: &'static [u8]) -> CommandDescriptor {
    row(name, usage).service_action().allocation(7, 2).flags(ANY_PR.union(CORE).union(STANDBY))
}

/// PERSISTENT RESERVE OUT: one service action. Whether it conflicts is decided by the action itself, not by the table
/// (SPC-6 table 67).
const fn pr_out(name: &'static str, usage: &'static [u8]) -> CommandDescriptor {
    row(name, usage).service_action().parameters(5, 4).flags(ANY_PR.union(CORE).union(EXCLUSIVE).union(STANDBY))
}

/// RESERVE and RELEASE: the mid-level's own.
const fn spc2_reservation(name: &'static str, usage: &'static [u8]) -> CommandDescriptor {
    row(name, usage).flags(ANY_PR.union(CORE).union(EXCLUSIVE).union(STANDBY))
}

/// MAINTENANCE IN: one service action.
const fn maintenance_in(name: &'static str, usage: &'static [u8]) -> CommandDescriptor {
    row(name, usage).service_action().allocation(6, 4)
}

/// The rows.
pub(super) const ROWS: &[CommandDescriptor] = &[
    row("TEST UNIT READY", &[0x00, 0, 0, 0, 0, 0x04]).flags(ANY_RESERVATION.union(HEAD).union(UNBLOCKED)),
    row("REQUEST SENSE", &[0x03, 0x01, 0, 0, 0xff, 0x04])
        .allocation(4, 1)
        .flags(ANY_RESERVATION.union(CORE).union(NO_UA).union(ANY_STATE).union(UNBLOCKED)),
    row("INQUIRY", &[0x12, 0x01, 0xff, 0xff, 0xff, 0x04])
        .allocation(3, 2)
        .flags(ANY_RESERVATION.union(HEAD).union(NO_UA).union(ANY_STATE).union(UNBLOCKED)),
    row("MODE SELECT(6)", &[0x15, 0x11, 0, 0, 0xff, 0x04]).parameters(4, 1).flags(EXCLUSIVE.union(STANDBY)),
    spc2_reservation("RESERVE(6)", &[0x16, 0, 0, 0, 0, 0x04]),
    spc2_reservation("RELEASE(6)", &[0x17, 0, 0, 0, 0, 0x04]).flags(CommandFlags::RESERVED_OK),
    row("MODE SENSE(6)", &[0x1a, 0x08, 0xff, 0xff, 0xff, 0x04]).allocation(4, 1).flags(WE.union(STANDBY)),
    row("RECEIVE DIAGNOSTIC RESULTS", &[0x1c, 0x01, 0xff, 0xff, 0xff, 0x04]).allocation(3, 2).flags(WE.union(STANDBY)),
    row("SEND DIAGNOSTIC", &[0x1d, 0xf7, 0, 0xff, 0xff, 0x04]).parameters(3, 2).flags(STANDBY),
    row("WRITE BUFFER", &[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x04])
        .parameters(6, 3)
        .flags(ANY_STATE),
    row("READ BUFFER(10)", &[0x3c, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x04])
        .allocation(6, 3)
        .flags(WE.union(ANY_STATE)),
    row("LOG SELECT", &[0x4c, 0x03, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0x04])
        .parameters(7, 2)
        .flags(EXCLUSIVE.union(STANDBY)),
    row("LOG SENSE", &[0x4d, 0x01, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x04])
        .allocation(7, 2)
        .flags(ANY_RESERVATION.union(STANDBY)),
    row("MODE SELECT(10)", &[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04])
        .parameters(7, 2)
        .flags(EXCLUSIVE.union(STANDBY)),
    spc2_reservation("RESERVE(10)", &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0x04]),
    spc2_reservation("RELEASE(10)", &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0x04]).flags(CommandFlags::RESERVED_OK),
    row("MODE SENSE(10)", &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0x04])
        .allocation(7, 2)
        .flags(WE.union(STANDBY)),
    pr_in("PERSISTENT RESERVE IN, READ KEYS", &[0x5e, 0x00, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04]),
    pr_in("PERSISTENT RESERVE IN, READ RESERVATION", &[0x5e, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04]),
    pr_in("PERSISTENT RESERVE IN, REPORT CAPABILITIES", &[0x5e, 0x02, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04]),
    pr_in("PERSISTENT RESERVE IN, READ FULL STATUS", &[0x5e, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04]),
    pr_out("PERSISTENT RESERVE OUT, REGISTER", &[0x5f, 0x00, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04]),
    pr_out("PERSISTENT RESERVE OUT, RESERVE", &[0x5f, 0x01, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04]),
    pr_out("PERSISTENT RESERVE OUT, RELEASE", &[0x5f, 0x02, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04]),
    pr_out("PERSISTENT RESERVE OUT, CLEAR", &[0x5f, 0x03, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04]),
    pr_out("PERSISTENT RESERVE OUT, PREEMPT", &[0x5f, 0x04, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04]),
    pr_out("PERSISTENT RESERVE OUT, PREEMPT AND ABORT", &[0x5f, 0x05, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04]),
    pr_out(
        "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY",
        &[0x5f, 0x06, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04],
    ),
    pr_out("PERSISTENT RESERVE OUT, REGISTER AND MOVE", &[0x5f, 0x07, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04]),
    row("EXTENDED COPY(LID1)", &[0x83, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .service_action()
        .parameters(10, 4)
        .timeout(300),
    row("EXTENDED COPY(LID4)", &[0x83, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .service_action()
        .parameters(10, 4)
        .timeout(300),
    row("RECEIVE COPY STATUS(LID1)", &[0x84, 0x00, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .service_action()
        .allocation(10, 4)
        .flags(ANY_PR),
    row("RECEIVE COPY OPERATING PARAMETERS", &[0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .service_action()
        .allocation(10, 4)
        .flags(ANY_PR),
    row(
        "RECEIVE COPY FAILURE DETAILS(LID1)",
        &[0x84, 0x04, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
    )
    .service_action()
    .allocation(10, 4)
    .flags(ANY_PR),
    row("REPORT LUNS", &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .allocation(6, 4)
        .flags(ANY_RESERVATION.union(CORE).union(HEAD).union(NO_UA).union(ANY_STATE).union(UNBLOCKED)),
    maintenance_in("REPORT IDENTIFYING INFORMATION", &[0xa3, 0x05, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x04])
        .flags(ANY_PR),
    maintenance_in("REPORT TARGET PORT GROUPS", &[0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .flags(ANY_PR.union(CORE).union(ANY_STATE)),
    maintenance_in("REPORT ALIASES", &[0xa3, 0x0b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04]).flags(ANY_PR),
    maintenance_in(
        "REPORT SUPPORTED OPERATION CODES",
        &[0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
    )
    .flags(WE.union(UNBLOCKED)),
    maintenance_in(
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
        &[0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
    )
    .flags(WE.union(UNBLOCKED)),
    maintenance_in("REPORT PRIORITY", &[0xa3, 0x0e, 0xc0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04]).flags(ANY_PR),
    maintenance_in("REPORT TIMESTAMP", &[0xa3, 0x0f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04]).flags(ANY_PR),
    row("SET TARGET PORT GROUPS", &[0xa4, 0x0a, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .service_action()
        .parameters(6, 4)
        .flags(CORE.union(EXCLUSIVE).union(ANY_STATE)),
    row("SET TIMESTAMP", &[0xa4, 0x0f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04]).service_action().parameters(6, 4),
];
