//! The attribute tables: one row per attribute, in the order in which the manual page explains them.

use crate::value::Kind;

/// How far this version carries an attribute out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// It works.
    Works,
    /// Accepted so that existing files load; it changes nothing, and why. A value other than the default is warned of.
    NoEffect(&'static str),
    /// Only the default is accepted; any other value is an error, and why.
    OnlyDefault(&'static str),
    /// Not a setting, and what to do instead.
    Refused(&'static str),
}

/// One attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its name, exactly as written in the file.
    pub name: &'static str,
    /// Its values.
    pub kind: Kind,
    /// The value when it is not given, in normal form; empty for none.
    pub default: &'static str,
    /// It may be given several times, each adding a value.
    pub many: bool,
    /// What this version does with it.
    pub support: Support,
    /// What it does, one sentence.
    pub help: &'static str,
}

/// The rows of one kind of object, in sections that several kinds may share.
pub type Table = &'static [&'static [Rule]];

/// All rows of a table.
pub fn rows(table: Table) -> impl Iterator<Item = &'static Rule> {
    table.iter().copied().flatten()
}

/// The row of an attribute.
pub fn find(table: Table, name: &str) -> Option<&'static Rule> {
    rows(table).find(|r| r.name == name)
}

const fn rule(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Rule {
    Rule { name, kind, default, many: false, support: Support::Works, help }
}

const fn many(name: &'static str, kind: Kind, help: &'static str) -> Rule {
    Rule { name, kind, default: "", many: true, support: Support::Works, help }
}

const fn no_effect(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Rule {
    Rule { name, kind, default, many: false, support: Support::NoEffect(why), help: "Accepted, without effect." }
}

const fn only_default(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Rule {
    let help = "Only the default value is supported by this version.";
    Rule { name, kind, default, many: false, support: Support::OnlyDefault(why), help }
}

const fn action(name: &'static str) -> Rule {
    refused(name, ACTION)
}

const fn refused(name: &'static str, why: &'static str) -> Rule {
    let support = Support::Refused(why);
    Rule { name, kind: Kind::Text(4096), default: "", many: false, support, help: "Not a setting of this version." }
}

const REACTORS: &str = "the daemon has no command threads; see scstd --reactors";
const GROUPING: &str = "each session has its own task state already";
const NUMA: &str = "memory is local to the reactor that serves the session";
const NO_DIF: &str = "protection information (T10-PI) is not supported yet by this version";
const NO_PR_FILE: &str = "persistent reservations are not supported yet by this version";
const NO_DESIGNATOR: &str = "this designator is not supported yet by this version";
const NO_ALUA: &str = "ALUA is not supported yet by this version";
const NO_ISER: &str = "iSER is not supported yet by this version";
const FIXED: &str = "this value is fixed, as in the original";
const ACTION: &str = "this is an action, not a setting; a reload (SIGHUP) reads the size of every file again";

const DEVICE_SIZE: &str = "the size is that of the block device; change it there and reload";
const LOG: &str = "use --log or RUST_LOG";
const NO_FORWARD: &str = "forwarding between cluster nodes is not supported yet by this version";
const BOOL: Kind = Kind::Flag;

/// Attributes at the top of the file.
pub const GLOBAL: Table = &[&[
    rule(
        "setup_id",
        Kind::Number { min: 0, max: u32::MAX as u64 },
        "0",
        "Enters default serial numbers and identifiers instead of the machine's identity: for disks that move.",
    ),
    rule(
        "measure_latency",
        BOOL,
        "0",
        "Measures where the time of commands goes, by session, size and stage; see STATISTICS in scstd(8).",
    ),
    no_effect("threads", Kind::Number { min: 1, max: 4096 }, "1", REACTORS),
    no_effect("max_tasklet_cmd", Kind::Number { min: 0, max: 1 << 20 }, "10", REACTORS),
    rule(
        "poll_us",
        Kind::Number { min: 0, max: 1 << 20 },
        "0",
        "Microseconds that a reactor polls before it sleeps, while commands come that soon: low latency for CPU time.",
    ),
    no_effect("force_global_sgv_pool", BOOL, "0", NUMA),
    no_effect("async_lun_replace", BOOL, "0", "a LUN is replaced without holding up the others"),
    only_default("cluster_name", Kind::Text(64), "", "clusters are not supported yet by this version"),
    no_effect("trace_level", Kind::Text(256), "", LOG),
    refused("suspend", "changes are made per device, nothing needs to be suspended; remove the line"),
    refused("last_sysfs_mgmt_res", "remove the line"),
]];

/// Attributes of `HANDLER`.
pub const HANDLER: Table = &[&[no_effect("trace_level", Kind::Text(256), "", LOG)]];

/// Of disks with a file that others can have.
const SHARE_RW: Rule = rule(
    "share_rw",
    BOOL,
    "0",
    "Others may write the file, too, as in a cluster; else it is locked, and no other DEVICE or program may.",
);

/// Of disks whose writes may be cached.
const CACHE: &[Rule] = &[
    rule("write_through", BOOL, "0", "Every write is durable before it is answered; the disk reports no write cache."),
    rule("nv_cache", BOOL, "0", "The cache survives a power loss: SYNCHRONIZE CACHE and FUA need not reach the disk."),
];

/// Attributes of `DEVICE` under `HANDLER vdisk_fileio`.
pub const VDISK_FILEIO: Table = &[
    &[rule("filename", Kind::Path, "", "The backing file or block device. Required."), SHARE_RW],
    CACHE,
    &[
        rule("o_direct", BOOL, "0", "Opens the file with O_DIRECT, past the page cache."),
        rule(
            "zero_copy_read",
            BOOL,
            "0",
            "READs of 32 KiB and more whose data are in the page cache are sent from there, without a copy into a buffer.",
        ),
        rule("thin_provisioned", BOOL, "0", "Offers UNMAP and WRITE SAME with UNMAP; the file gets holes."),
        no_effect("async", BOOL, "1", "all file I/O is asynchronous"),
        only_default("active", BOOL, "1", "remove the DEVICE to close its file"),
        only_default("bind_alua_state", BOOL, "0", NO_ALUA),
        refused("size", "the size is that of the file; use truncate(1) and reload"),
        refused("size_mb", "the size is that of the file; use truncate(1) and reload"),
        action("resync_size"),
        action("sync"),
        action("gen_tp_soft_threshold_reached_UA"),
    ],
    ROTATES,
    DISK,
    IDENTITY,
];

/// Attributes of `DEVICE` under `HANDLER vdisk_blockio`.
pub const VDISK_BLOCKIO: Table = &[
    &[
        rule("filename", Kind::Path, "", "The block device; it is read and written past the page cache. Required."),
        SHARE_RW,
    ],
    CACHE,
    &[
        rule(
            "thin_provisioned",
            BOOL,
            "0",
            "Offers UNMAP and WRITE SAME with UNMAP, within the limits of the device's queue; no effect where it cannot \
             discard.",
        ),
        rule(
            "rotational",
            BOOL,
            "",
            "The disk reports a rotating medium (VPD page B1h); without it what the device's queue says.",
        ),
        only_default("active", BOOL, "1", "remove the DEVICE to close its file"),
        only_default("bind_alua_state", BOOL, "1", NO_ALUA),
        refused("size", DEVICE_SIZE),
        refused("size_mb", DEVICE_SIZE),
        action("resync_size"),
        action("sync"),
        action("gen_tp_soft_threshold_reached_UA"),
    ],
    DISK,
    IDENTITY,
];

/// Attributes of `DEVICE` under `HANDLER vdisk_nullio`.
pub const VDISK_NULLIO: Table = &[
    &[
        rule("size", Kind::Bytes, "1073741824", "Size of the disk in bytes (suffixes k, M, G, T)."),
        rule("size_mb", Kind::Number { min: 1, max: 1 << 43 }, "", "Size of the disk in MiB; instead of size."),
        rule("read_zero", BOOL, "0", "Reads return zeros; otherwise whatever is in the buffer."),
        rule("dummy", BOOL, "0", "A place holder for LUN 0: no disk, peripheral qualifier 1."),
    ],
    ROTATES,
    DISK,
    IDENTITY,
];

/// Of disks whose storage does not say it.
const ROTATES: &[Rule] = &[rule("rotational", BOOL, "1", "The disk reports a rotating medium (VPD page B1h).")];

/// Attributes of `DEVICE` under `HANDLER dev_disk_perf`.
pub const DEV_DISK_PERF: Table = &[
    &[
        rule("size", Kind::Bytes, "1073741824", "Size of the disk in bytes (suffixes k, M, G, T)."),
        rule("size_mb", Kind::Number { min: 1, max: 1 << 43 }, "", "Size of the disk in MiB; instead of size."),
        rule("blocksize", Kind::PowerOfTwo { min: 512, max: 65536 }, "512", "Logical block size in bytes."),
        rule("rotational", BOOL, "1", "The disk reports a rotating medium (VPD page B1h)."),
    ],
    PERF,
    IDENTITY,
];

/// Attributes of `DEVICE` under `HANDLER dev_modisk_perf`.
pub const DEV_MODISK_PERF: Table = &[
    &[
        rule("size", Kind::Bytes, "1073741824", "Size of the medium in bytes (suffixes k, M, G, T)."),
        rule("size_mb", Kind::Number { min: 1, max: 1 << 43 }, "", "Size of the medium in MiB; instead of size."),
        rule("blocksize", Kind::PowerOfTwo { min: 512, max: 65536 }, "2048", "Size of a logical block in bytes."),
    ],
    PERF,
    IDENTITY,
];

/// Attributes of `DEVICE` under `HANDLER dev_tape_perf`.
pub const DEV_TAPE_PERF: Table = &[
    &[
        rule("size", Kind::Bytes, "1099511627776", "Size of the tape in bytes (suffixes k, M, G, T)."),
        rule("size_mb", Kind::Number { min: 1, max: 1 << 43 }, "", "Size of the tape in MiB; instead of size."),
        rule(
            "blocksize",
            Kind::Number { min: 0, max: 8 << 20 },
            "0",
            "Block length in bytes until an initiator sets another; 0 for blocks of any length.",
        ),
        rule(
            "early_warning",
            Kind::Bytes,
            "",
            "Bytes before the end from which on writes warn of it; without it a hundredth of the size.",
        ),
    ],
    PERF,
    IDENTITY,
];

/// What all devices without data have.
const PERF: &[Rule] = &[
    rule("read_only", BOOL, "0", "Refuses every command that writes."),
    rule(
        "strict_security",
        BOOL,
        "1",
        "Reads return zeros; with 0 whatever is in the buffer, also what other initiators sent, as in the original.",
    ),
    no_effect("threads_num", Kind::Number { min: 0, max: 4096 }, "1", REACTORS),
    no_effect("threads_pool_type", Kind::OneOf(&["per_initiator", "shared"]), "per_initiator", REACTORS),
    no_effect("numa_node_id", Kind::Text(8), "-1", NUMA),
    no_effect(
        "max_tgt_dev_commands",
        Kind::Number { min: 1, max: 65536 },
        "64",
        "the limit is one of the initiator's session",
    ),
    no_effect("pr_file_name", Kind::Path, "", NO_PR_FILE),
    only_default("cluster_mode", BOOL, "0", "clusters are not supported yet by this version"),
    action("block"),
];

/// What all virtual disks have.
const DISK: &[Rule] = &[
    rule("blocksize", Kind::PowerOfTwo { min: 512, max: 65536 }, "512", "Logical block size in bytes."),
    rule("read_only", BOOL, "0", "Refuses every command that writes; a file is opened for reading only."),
    rule("removable", BOOL, "0", "The disk reports a removable medium."),
    only_default("tst", Kind::OneOf(&["0", "1"]), "1", "each initiator has its own task set; MODE SELECT changes it"),
    rule("lb_per_pb_exp", BOOL, "1", "Reports how many logical blocks make a physical one; 0 hides it."),
    rule(
        "opt_trans_len",
        Kind::Number { min: 0, max: 8 << 20 },
        "524288",
        "Optimal transfer length in bytes (VPD page B0h).",
    ),
    only_default("cluster_mode", BOOL, "0", "clusters are not supported yet by this version"),
    only_default("expl_alua", BOOL, "0", NO_ALUA),
    only_default("dif_mode", Kind::Text(64), "", NO_DIF),
    only_default("dif_type", Kind::Number { min: 0, max: 3 }, "0", NO_DIF),
    only_default("dif_static_app_tag", Kind::Text(32), "", NO_DIF),
    only_default("dif_filename", Kind::Text(4096), "", NO_DIF),
    no_effect("numa_node_id", Kind::Text(8), "-1", NUMA),
    no_effect("threads_num", Kind::Number { min: 0, max: 4096 }, "1", REACTORS),
    no_effect("threads_pool_type", Kind::OneOf(&["per_initiator", "shared"]), "per_initiator", REACTORS),
    no_effect(
        "max_tgt_dev_commands",
        Kind::Number { min: 1, max: 65536 },
        "64",
        "the limit is one of the initiator's session",
    ),
    no_effect("pr_file_name", Kind::Path, "", NO_PR_FILE),
    action("block"),
];

/// What the disk says of itself in INQUIRY and the vital product data.
const IDENTITY: &[Rule] = &[
    rule(
        "t10_vend_id",
        Kind::Ascii(8),
        "",
        "T10 vendor identification; without it SCST_FIO, SCST_BIO, SCST_NIO or SCST_PRF.",
    ),
    rule("prod_id", Kind::Ascii(16), "", "Product identification; without it the name of the device."),
    rule("prod_rev_lvl", Kind::Ascii(4), "", "Product revision level."),
    rule(
        "usn",
        Kind::Ascii(20),
        "",
        "Unit serial number (VPD page 80h); without it one made from setup_id and the name.",
    ),
    rule(
        "t10_dev_id",
        Kind::Ascii(127),
        "",
        "Tail of the T10 vendor designator (VPD page 83h); without it made likewise.",
    ),
    rule(
        "naa_id",
        Kind::Hex(&[16, 32]),
        "",
        "NAA designator, 16 digits from 2, 3 or 5 on or 32 from 6 on (VPD page 83h); without it made likewise.",
    ),
    rule("eui64_id", Kind::Hex(&[16]), "", "EUI-64 designator (VPD page 83h); without it made likewise."),
    only_default("vend_specific_id", Kind::Text(32), "", NO_DESIGNATOR),
    only_default("scsi_device_name", Kind::Text(255), "", NO_DESIGNATOR),
    only_default(
        "inq_vend_specific",
        Kind::Text(20),
        "",
        "vendor specific INQUIRY data are not supported yet by this version",
    ),
];

/// Attributes of `TARGET_DRIVER iscsi`.
pub const ISCSI_DRIVER: Table = &[&[
    rule("enabled", BOOL, "0", "Accepts connections. Without it nothing listens."),
    many("IncomingUser", Kind::Account, "User name and secret an initiator needs for discovery (CHAP)."),
    rule(
        "OutgoingUser",
        Kind::Account,
        "",
        "User name and secret with which discovery proves the target (mutual CHAP).",
    ),
    rule("link_local", BOOL, "1", "Discovery lists link-local IPv6 addresses, to initiators on the same link."),
    no_effect("internal_portal", Kind::Text(64), "", "there is no portal that skips CHAP"),
    only_default("iSNSServer", Kind::Text(255), "", "iSNS is not supported yet by this version"),
    no_effect("isns_entity_name", Kind::Text(255), "", "iSNS is not supported yet by this version"),
    no_effect("trace_level", Kind::Text(256), "", LOG),
]];

/// Attributes of `TARGET` under `TARGET_DRIVER iscsi`.
pub const ISCSI_TARGET: Table = &[TARGET, ISCSI_ACCESS, ISCSI_KEYS];

/// What targets of every driver have.
const TARGET: &[Rule] = &[
    rule("enabled", BOOL, "0", "Lets initiators in. A target that is not enabled is not listed."),
    rule("rel_tgt_id", Kind::Number { min: 1, max: 65535 }, "", "Relative target port identifier; default a free one."),
    rule("comment", Kind::Text(1024), "", "Free text."),
    rule(
        "addr_method",
        Kind::OneOf(&["PERIPHERAL", "FLAT"]),
        "PERIPHERAL",
        "How LUNs are written in REPORT LUNS (SAM-5 4.7.7).",
    ),
    only_default("aen_disabled", BOOL, "0", "asynchronous events cannot be switched off yet by this version"),
    no_effect("io_grouping_type", Kind::Text(16), "auto", GROUPING),
    no_effect("cpu_mask", Kind::Mask, "", REACTORS),
    only_default("black_hole", Kind::Number { min: 0, max: 4 }, "0", "dropping commands on purpose is a test aid"),
    only_default("forward_src", BOOL, "0", NO_FORWARD),
    only_default("forward_dst", BOOL, "0", NO_FORWARD),
    only_default("forwarding", BOOL, "0", NO_FORWARD),
];

/// Who may come in, and where.
const ISCSI_ACCESS: &[Rule] = &[
    many("IncomingUser", Kind::Account, "User name and secret of an initiator (CHAP); without any, none is asked for."),
    rule("OutgoingUser", Kind::Account, "", "User name and secret with which the target proves itself (mutual CHAP)."),
    many(
        "allowed_portal",
        Kind::PortalPattern,
        "The target shows only on these portal addresses (*, ? and !, as in INITIATOR); default all.",
    ),
    rule("alias", Kind::Text(255), "", "TargetAlias, told to the initiator at login."),
    only_default("per_portal_acl", BOOL, "0", "groups match initiator names only, in this version"),
    rule(
        "redirect",
        Kind::Redirect,
        "",
        "Sends initiators elsewhere at login: <ip>[:port] temp|perm, an IPv6 address in brackets.",
    ),
];

const BURST: Kind = Kind::Number { min: 512, max: 1_048_576 };

/// Text keys (RFC 7143 section 13) and session parameters.
const ISCSI_KEYS: &[Rule] = &[
    rule("InitialR2T", Kind::YesNo, "No", "Yes: no unsolicited data but immediate data."),
    rule("ImmediateData", Kind::YesNo, "Yes", "Data may come in the command itself."),
    rule("MaxRecvDataSegmentLength", BURST, "1048576", "Most data in one request to the target, in bytes."),
    rule(
        "MaxXmitDataSegmentLength",
        BURST,
        "1048576",
        "Most data in one response, in bytes; the initiator may want less.",
    ),
    rule("MaxBurstLength", BURST, "1048576", "Most data in one solicited burst, in bytes."),
    rule("FirstBurstLength", BURST, "65536", "Most unsolicited data of one command, in bytes."),
    rule("MaxOutstandingR2T", Kind::Number { min: 1, max: 65535 }, "32", "Open requests for data per command."),
    rule("HeaderDigest", DIGEST, "None", "CRC32C, None, or both, most wanted first."),
    rule("DataDigest", DIGEST, "None", "CRC32C, None, or both, most wanted first."),
    rule(
        "QueuedCommands",
        Kind::Number { min: 1, max: 2048 },
        "32",
        "Commands an initiator may have open (the CmdSN window).",
    ),
    rule(
        "RspTimeout",
        Kind::Number { min: 2, max: 65535 },
        "90",
        "Seconds without progress while an answer is due, after which the connection is closed.",
    ),
    rule("NopInInterval", Kind::Number { min: 0, max: 65535 }, "30", "Seconds of silence before a ping; 0 = no pings."),
    rule("NopInTimeout", Kind::Number { min: 2, max: 65535 }, "30", "Seconds an initiator has to answer a ping."),
    rule(
        "MaxSessions",
        Kind::Number { min: 0, max: 65535 },
        "0",
        "Most sessions with this target; 0 = no limit of its own.",
    ),
    only_default("MaxConnections", Kind::Number { min: 1, max: 65535 }, "1", FIXED),
    only_default("DefaultTime2Wait", Kind::Number { min: 0, max: 3600 }, "0", FIXED),
    only_default("DefaultTime2Retain", Kind::Number { min: 0, max: 3600 }, "0", FIXED),
    only_default("DataPDUInOrder", Kind::YesNo, "Yes", FIXED),
    only_default("DataSequenceInOrder", Kind::YesNo, "Yes", FIXED),
    only_default("ErrorRecoveryLevel", Kind::Number { min: 0, max: 2 }, "0", FIXED),
    only_default("OFMarker", Kind::YesNo, "No", FIXED),
    only_default("IFMarker", Kind::YesNo, "No", FIXED),
    only_default("RDMAExtensions", Kind::YesNo, "No", NO_ISER),
    no_effect("TargetRecvDataSegmentLength", BURST, "8192", NO_ISER),
    no_effect("InitiatorRecvDataSegmentLength", BURST, "8192", NO_ISER),
    no_effect("MaxAHSLength", Kind::Number { min: 0, max: 1 << 20 }, "256", NO_ISER),
    no_effect("TaggedBufferForSolicitedDataOnly", Kind::YesNo, "No", NO_ISER),
    no_effect("iSERHelloRequired", Kind::YesNo, "No", NO_ISER),
    no_effect("MaxOutstandingUnexpectedPDUs", Kind::Number { min: 0, max: 1 << 20 }, "0", NO_ISER),
];

const DIGEST: Kind = Kind::ListOf(&["CRC32C", "None"]);

/// Attributes of `GROUP`.
pub const GROUP: Table = &[&[
    no_effect("addr_method", Kind::OneOf(&["PERIPHERAL", "FLAT", "LUN"]), "PERIPHERAL", "the target's own counts"),
    no_effect("io_grouping_type", Kind::Text(16), "auto", GROUPING),
    no_effect("cpu_mask", Kind::Mask, "", REACTORS),
    no_effect("per_sess_dedicated_tgt_threads", BOOL, "0", REACTORS),
    only_default("black_hole", Kind::Number { min: 0, max: 4 }, "0", "dropping commands on purpose is a test aid"),
]];

/// Attributes of `LUN`.
pub const LUN: Table = &[&[rule(
    "read_only",
    BOOL,
    "0",
    "Refuses every command that writes, for those who see the device under this LUN.",
)]];

/// Attributes of `TARGET_GROUP`; read, but ALUA is not there yet.
pub const TARGET_GROUP: Table = &[&[
    rule("group_id", Kind::Number { min: 0, max: 65535 }, "0", "Target port group identifier."),
    rule("preferred", BOOL, "0", "PREF bit."),
    rule(
        "state",
        Kind::OneOf(&["active", "nonoptimized", "standby", "unavailable", "offline", "transitioning"]),
        "active",
        "Access state.",
    ),
]];

/// Attributes of `TARGET` under `TARGET_GROUP`.
pub const TARGET_GROUP_MEMBER: Table = &[&[rule(
    "rel_tgt_id",
    Kind::Number { min: 0, max: 65535 },
    "0",
    "Relative target port identifier of a remote target.",
)]];

/// The tables with their places in the file, for the manual page and for tests.
pub const ALL: &[(&str, Table)] = &[
    ("global", GLOBAL),
    ("HANDLER", HANDLER),
    ("DEVICE (vdisk_fileio)", VDISK_FILEIO),
    ("DEVICE (vdisk_blockio)", VDISK_BLOCKIO),
    ("DEVICE (vdisk_nullio)", VDISK_NULLIO),
    ("DEVICE (dev_disk_perf)", DEV_DISK_PERF),
    ("DEVICE (dev_modisk_perf)", DEV_MODISK_PERF),
    ("DEVICE (dev_tape_perf)", DEV_TAPE_PERF),
    ("TARGET_DRIVER iscsi", ISCSI_DRIVER),
    ("TARGET (iscsi)", ISCSI_TARGET),
    ("GROUP", GROUP),
    ("LUN", LUN),
    ("TARGET_GROUP", TARGET_GROUP),
    ("TARGET (TARGET_GROUP)", TARGET_GROUP_MEMBER),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value;

    #[test]
    fn every_default_is_a_value_in_normal_form() {
        for (place, table) in ALL {
            for rule in rows(table).filter(|r| !r.default.is_empty()) {
                let normal = value::check(rule.kind, rule.default);
                assert_eq!(normal.as_deref(), Ok(rule.default), "{place}: {}", rule.name);
            }
        }
    }

    #[test]
    fn every_name_is_there_once() {
        for (place, table) in ALL {
            let mut names: Vec<&str> = rows(table).map(|r| r.name).collect();
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "{place}");
        }
    }
}
