//! What an operator reads when a file is wrong: exact texts and positions.

use scst_config::{Configuration, DriverKind, Severity, parse};

/// The errors of a file that cannot be applied, without their excerpts.
fn errors(text: &str) -> Vec<String> {
    let invalid = parse("scst.conf", text.as_bytes()).unwrap_err();
    let errors = invalid.diagnostics.iter().filter(|d| d.severity == Severity::Error);
    errors.map(|d| format!("{}:{}: {}: {}", d.span.line, d.span.column, d.object, d.message)).collect()
}

fn warnings(text: &str) -> Vec<String> {
    let parsed = parse("scst.conf", text.as_bytes()).unwrap();
    parsed.warnings.iter().map(|d| format!("{}:{}: {}: {}", d.span.line, d.span.column, d.object, d.message)).collect()
}

const DISK: &str = "HANDLER vdisk_fileio { \n DEVICE disk1 { \n filename /d/1 \n } \n }\n";

fn in_target(body: &str) -> String {
    format!("{DISK}TARGET_DRIVER iscsi {{\nenabled 1\nTARGET iqn.2026-01.example:t {{\nenabled 1\n{body}\n}}\n}}\n")
}

#[test]
fn the_whole_message_with_caret_and_remedy() {
    let text = "HANDLER vdisk_fileio {\n\tDEVICE disk1 {\n\t\tfilename /d/1\n\t\tblocksize 513\n\t}\n}\n";
    let invalid = parse("/etc/scst.conf", text.as_bytes()).unwrap_err();
    assert_eq!(
        invalid.to_string(),
        "/etc/scst.conf:4:13: error: DEVICE disk1: blocksize: \"513\" is not valid\n\
         \x20 4 | \t\tblocksize 513\n\
         \x20   | \t\t          ^^^\n\
         \x20 = expected: a power of two from 512 to 65536\n\
         /etc/scst.conf: 1 error"
    );
}

#[test]
fn names_that_are_not_known() {
    assert_eq!(
        errors("HANDLER vdisk_filio { DEVICE d }\n TARGET_DRIVER scsi\nHandler x {\n}"),
        [
            "1:9: HANDLER vdisk_filio: the device handler \"vdisk_filio\" is not in this version",
            "2:16: TARGET_DRIVER scsi: the target driver \"scsi\" is not in this version",
            "3:1: : there is no attribute \"Handler\" here",
        ]
    );
    let invalid = parse("f", b"HANDLER vdisk_fileio { \n DEVICE d { \n filname /x \n }\n}").unwrap_err();
    let remedies: Vec<&str> = invalid.diagnostics.iter().map(|d| d.remedy.as_str()).collect();
    assert_eq!(remedies, ["add the line: filename /path/of/the/file", "did you mean filename?"]);
}

#[test]
fn keywords_need_their_arguments() {
    assert_eq!(
        errors(&in_target("LUN 0 disk1\nLUN 0\nLUN 0 disk1 disk2\nGROUP\nlun 0 disk1\nalias")),
        [
            "11:1: TARGET iqn.2026-01.example:t: LUN needs more after it",
            "12:13: TARGET iqn.2026-01.example:t: LUN: \"disk2\" is one word too many",
            "13:1: TARGET iqn.2026-01.example:t: GROUP needs more after it",
            "14:1: TARGET iqn.2026-01.example:t: there is no attribute \"lun\" here",
            "15:1: TARGET iqn.2026-01.example:t: alias has no value",
        ]
    );
}

#[test]
fn luns_are_checked_against_devices_and_each_other() {
    assert_eq!(
        errors(&in_target("LUN 0 disk1\nLUN 0 disk1\nLUN 16384 disk1\nLUN x disk1\nLUN 1 disk2\nLUN 16383 disk1")),
        [
            "11:5: TARGET iqn.2026-01.example:t, LUN 0: LUN 0 is there already, for device disk1",
            "12:5: TARGET iqn.2026-01.example:t, LUN 16384: \"16384\" is not a LUN number",
            "13:5: TARGET iqn.2026-01.example:t, LUN x: \"x\" is not a LUN number",
            "14:7: TARGET iqn.2026-01.example:t, LUN 1: there is no device \"disk2\"",
        ]
    );
}

#[test]
fn duplicates() {
    let text = format!("{DISK}HANDLER vdisk_nullio {{\nDEVICE disk1\n}}\nthreads 1\nthreads 1\n");
    assert_eq!(
        errors(&text),
        [
            "7:8: DEVICE disk1: a device \"disk1\" is there already, in line 2",
            "10:1: : threads is given twice; this time \"1\""
        ]
    );
    let group = "GROUP g {\nINITIATOR iqn.a\nINITIATOR IQN.A\n}\nGROUP g {\n}\nrel_tgt_id 1\nrel_tgt_id 2";
    assert_eq!(
        errors(&in_target(group)),
        [
            "12:11: TARGET iqn.2026-01.example:t, GROUP g: the initiator \"iqn.a\" is there twice in this group",
            "14:7: TARGET iqn.2026-01.example:t, GROUP g: a group \"g\" is there already in this target",
            "17:1: TARGET iqn.2026-01.example:t: rel_tgt_id is given twice; this time \"2\"",
        ]
    );
}

#[test]
fn what_this_version_cannot_do_is_said_not_ignored() {
    let text = "DEVICE_GROUP dg {\n DEVICE d\n TARGET_GROUP tg {\n state active\n TARGET iqn.x {\n rel_tgt_id 1\n}\n}\n}\nALUA {\n}\n[HANDLER vdisk]\n";
    assert_eq!(
        errors(text),
        [
            "1:1: DEVICE_GROUP dg: DEVICE_GROUP is not supported yet by this version (it needs ALUA)",
            "2:9: DEVICE_GROUP dg: there is no device \"d\"",
            "10:1: ALUA: ALUA is not supported yet by this version",
            "12:1: : [HANDLER: this is the format of SCST 1.0",
        ]
    );
    let (configuration, _, _) = scst_config::read("f", text.as_bytes());
    let group = &configuration.device_groups["dg"].target_groups["tg"];
    assert_eq!(group.attributes.text("state"), Some("active"));
    assert_eq!(group.targets["iqn.x"].number("rel_tgt_id"), Some(1));
    assert_eq!(
        errors(&in_target("ErrorRecoveryLevel 2\nHW_TARGET\nforward_src 1\nLUN 0 disk1")),
        [
            "10:20: TARGET iqn.2026-01.example:t: ErrorRecoveryLevel \"2\": only the default \"0\" is possible",
            "11:1: TARGET iqn.2026-01.example:t: HW_TARGET is for hardware targets",
            "12:13: TARGET iqn.2026-01.example:t: forward_src \"1\": only the default \"0\" is possible",
        ]
    );
}

#[test]
fn values_across_lines() {
    assert_eq!(
        errors(&in_target("MaxBurstLength 512\nLUN 0 disk1")),
        ["8:8: TARGET iqn.2026-01.example:t: FirstBurstLength is larger than MaxBurstLength"]
    );
    assert_eq!(
        errors("HANDLER vdisk_nullio {\nDEVICE a {\nsize 1000\n}\nDEVICE b {\nsize 1G\nsize_mb 1\n}\n}\n"),
        [
            "2:8: DEVICE a: size 1000 is not a multiple of the block size 512, or it is 0",
            "5:8: DEVICE b: both size and size_mb are given",
        ]
    );
}

#[test]
fn devices_without_data() {
    let text =
        |handler: &str, name: &str, lines: &str| format!("HANDLER {handler} {{\nDEVICE {name} {{\n{lines}\n}}\n}}\n");
    let good = |handler: &str, lines: &str| parse("f", text(handler, "d", lines).as_bytes()).unwrap();
    let bad = |handler: &str, name: &str, lines: &str| errors(&text(handler, name, lines));
    for handler in ["dev_disk_perf", "dev_modisk_perf", "dev_tape_perf"] {
        good(handler, "size 4M\nstrict_security 0");
        assert_eq!(bad(handler, "d", "size 4M\nsize_mb 4"), ["2:8: DEVICE d: both size and size_mb are given"]);
        let address = ["2:8: DEVICE 2:0:1:0: \"2:0:1:0\" is the address of a SCSI device of this machine"];
        assert_eq!(bad(handler, "2:0:1:0", ""), address);
    }
    assert_eq!(
        bad("dev_modisk_perf", "m", "size 5k"),
        ["2:8: DEVICE m: size 5120 is not a multiple of the block size 2048, or it is 0"]
    );
    good("dev_tape_perf", "size 1000\nblocksize 0\nearly_warning 999");
    assert_eq!(
        bad("dev_tape_perf", "t", "size_mb 1\nearly_warning 1M"),
        ["2:8: DEVICE t: early_warning 1048576 is not less than the size of the tape, 1048576"]
    );
}

#[test]
fn a_secret_is_never_repeated() {
    let text = in_target("IncomingUser \"joe short\"\nOutgoingUser \"joe 123456789012 x\"");
    let message = parse("f", text.as_bytes()).unwrap_err().to_string();
    assert!(message.contains("IncomingUser: \"joe ***\" is not valid"), "{message}");
    assert!(!message.contains("short") && !message.contains("123456789012"), "{message}");
}

#[test]
fn warnings_do_not_stop() {
    let text = format!(
        "threads 8\n{DISK}TARGET_DRIVER copy_manager {{\n}}\nTARGET_DRIVER iscsi {{\nTARGET IQN.2026-01.example:a_b {{\n\
         GROUP g {{\nLUN 1 disk1\n}}\nGROUP h {{\nINITIATOR *\n}}\nGROUP i {{\nINITIATOR *\n}}\n}}\n}}\n"
    );
    assert_eq!(
        warnings(&text),
        [
            "1:1: : threads \"8\" has no effect",
            "7:15: TARGET_DRIVER copy_manager: the copy manager is not in this version",
            "9:15: TARGET_DRIVER iscsi: the driver is not enabled; nobody can connect",
            "10:8: TARGET IQN.2026-01.example:a_b: the name \"iqn.2026-01.example:a_b\" has an underscore",
            "10:8: TARGET IQN.2026-01.example:a_b: the target is not enabled; nobody can log in",
            "11:7: TARGET IQN.2026-01.example:a_b, GROUP g: no initiator is in this group",
            "11:7: TARGET IQN.2026-01.example:a_b, GROUP g: there is no LUN 0",
            "18:11: TARGET IQN.2026-01.example:a_b, GROUP i: the initiator \"*\" is in GROUP h too",
        ]
    );
}

#[test]
fn identifiers_that_two_devices_have() {
    let device = |name: &str, lines: &str| format!("DEVICE {name} {{\n{lines}\n}}\n");
    let text = format!(
        "HANDLER vdisk_nullio {{\n{}{}{}}}\nHANDLER dev_tape_perf {{\n{}}}\n",
        device("a", "naa_id 0x5000C50012345678\nusn x"),
        device("b", "naa_id 5000c50012345678\nt10_dev_id t\neui64_id 0x0200000000000001"),
        device("c", "eui64_id 0x0200000000000001\nt10_dev_id t\nprod_id p"),
        device("d", "usn x\nprod_id p"),
    );
    assert_eq!(
        warnings(&text),
        [
            "6:8: DEVICE b: naa_id \"0x5000c50012345678\" is also that of DEVICE a in line 2",
            "11:8: DEVICE c: eui64_id \"0x0200000000000001\" is also that of DEVICE b in line 6",
            "11:8: DEVICE c: t10_dev_id \"t\" is also that of DEVICE b in line 6",
            "18:8: DEVICE d: usn \"x\" is also that of DEVICE a in line 2",
        ]
    );
}

#[test]
fn accounts_that_cannot_work_or_keep_nobody_out() {
    let account = |name: &str, secret: &str| format!("\"{name} {secret}\"");
    let (one, two) = ("1-secret-1234", "2-secret-1234");
    let object = "TARGET iqn.2026-01.example:t";
    let wrong = in_target(&format!(
        "LUN 0 disk1\nIncomingUser {}\nIncomingUser {}\nOutgoingUser {}",
        account("joe", one),
        account("joe", two),
        account("storage", one)
    ));
    assert_eq!(
        errors(&wrong),
        [
            format!("8:8: {object}: IncomingUser joe has two secrets"),
            format!("8:8: {object}: IncomingUser joe and OutgoingUser storage have the same secret"),
        ]
    );
    let odd = in_target(&format!("LUN 0 disk1\nIncomingUser 'joe {one}'")).replacen(
        "enabled 1",
        &format!("enabled 1\nOutgoingUser {}", account("d", two)),
        1,
    );
    assert_eq!(
        warnings(&odd),
        [
            "6:15: TARGET_DRIVER iscsi: OutgoingUser d is without an IncomingUser: nobody is asked for a password"
                .to_owned(),
            format!("12:14: {object}: IncomingUser: the quote is a part of the user name 'joe"),
        ]
    );
    let open =
        in_target("LUN 0 disk1").replacen("enabled 1", &format!("enabled 1\nIncomingUser {}", account("d", one)), 1);
    assert_eq!(
        warnings(&open),
        ["6:15: TARGET_DRIVER iscsi: discovery asks for a password, TARGET iqn.2026-01.example:t does not"]
    );
    for text in [wrong, odd, open] {
        let (_, findings, _) = scst_config::read("f", text.as_bytes());
        assert!(findings.iter().all(|d| !d.to_string().contains("secret-1234")));
    }
}

#[test]
fn patterns_without_effect() {
    let object = "TARGET iqn.2026-01.example:t";
    let text = in_target(
        "LUN 0 disk1\nallowed_portal 10.*\nallowed_portal !10.1.0.1\nallowed_portal 10.1.0\nallowed_portal 10.1.0.1\n\
         GROUP g {\nINITIATOR 10.0.0.1\nINITIATOR host1\nINITIATOR iqn\nINITIATOR iqn.x:a\nINITIATOR !iqn.x:*\nLUN 0 disk1\n}",
    );
    assert_eq!(
        warnings(&text),
        [
            format!("8:8: {object}: allowed_portal \"10.1.0.1\" has no effect: \"!10.1.0.1\" keeps it out"),
            format!("13:16: {object}: allowed_portal: no portal has an address like \"10.1.0\""),
            format!("15:7: {object}, GROUP g: INITIATOR \"iqn.x:a\" has no effect: \"!iqn.x:*\" keeps it out"),
            format!("16:11: {object}, GROUP g: no initiator has a name like \"10.0.0.1\""),
            format!("17:11: {object}, GROUP g: no initiator has a name like \"host1\""),
            format!("18:11: {object}, GROUP g: no initiator has a name like \"iqn\""),
        ]
    );
}

#[test]
fn lengths_that_are_rounded() {
    let text = |lines: &str| format!("HANDLER vdisk_nullio {{\nDEVICE a {{\n{lines}\n}}\n}}\n");
    assert_eq!(
        warnings(&text("opt_trans_len 5000\nblocksize 4096")),
        ["2:8: DEVICE a: opt_trans_len 5000 is not a multiple of the block size 4096"]
    );
    assert_eq!(warnings(&text("opt_trans_len 1024")), Vec::<String>::new());
    assert_eq!(warnings(&text("opt_trans_len 0")), Vec::<String>::new());
}

#[test]
fn a_full_file() {
    let text = r#"
# The example of the documentation.
setup_id 0x77
HANDLER vdisk_fileio {
    DEVICE disk1 { filename "/data/disk 1.img"
        blocksize 4096
    }
    DEVICE disk2
    {
        filename /data/a\#b ; nv_cache 1
    }
}
"#;
    assert_eq!(errors(text), ["10:29: DEVICE disk2: filename: one word too many after the value"]);
    let text = text.replace(" ; ", "\n");
    let text = format!(
        "{text}TARGET_DRIVER iscsi {{ enabled 1\n TARGET iqn.2026-01.example:T {{\n IncomingUser joe 12charsecret\n IncomingUser1 x\n}}\n}}"
    );
    // Numbered duplicates are the tree's way, not the file's.
    assert_eq!(errors(&text).len(), 1);
    let text =
        text.replace("IncomingUser1 x", "IncomingUser \"ann 12charsecret\"\nLUN 0 disk1 { read_only 1 }\nLUN 1 disk2");
    let configuration: Configuration = parse("f", text.as_bytes()).unwrap().configuration;
    assert_eq!(configuration.globals.number("setup_id"), Some(0x77));
    assert_eq!(configuration.devices["disk1"].attributes.text("filename"), Some("/data/disk 1.img"));
    assert_eq!(configuration.devices["disk2"].attributes.text("filename"), Some("/data/a#b"));
    let target = &configuration.drivers[&DriverKind::Iscsi].targets["iqn.2026-01.example:t"];
    assert_eq!(target.attributes.values("IncomingUser"), ["joe 12charsecret", "ann 12charsecret"]);
    assert!(target.luns[&0].read_only && !target.luns[&1].read_only);
}

#[test]
fn a_hostile_file_costs_little() {
    let invalid = parse("f", "x\n".repeat(200_000).as_bytes()).unwrap_err();
    assert_eq!((invalid.errors, invalid.diagnostics.len()), (200_000, 50));
    let huge = vec![b' '; (16 << 20) + 1];
    assert_eq!(
        parse("f", &huge).unwrap_err().diagnostics[0].message,
        "the file has 16777217 bytes, more than 16777216"
    );
}

#[test]
fn a_difference_shows_no_secret() {
    let before = parse("f", in_target("LUN 0 disk1").as_bytes()).unwrap().configuration;
    let after = parse("f", in_target("LUN 0 disk1\nIncomingUser \"joe 123456789012\"").as_bytes()).unwrap();
    let changes = scst_config::difference(&before, &after.configuration);
    assert_eq!(changes[0].to_string(), "target iqn.2026-01.example:t: IncomingUser is now \"joe ***\"");
    assert!(!format!("{changes:?}").contains("123456789012"));
}
