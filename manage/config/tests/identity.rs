//! Writing and reading are inverse; a difference, applied, makes the new configuration.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use scst_config::difference::{Change, TargetChange};
use scst_config::rules::{self, Rule, Support, Table};
use scst_config::value::Kind;
use scst_config::{
    Attributes, Configuration, Device, Driver, DriverKind, Group, HandlerKind, Lun, Target, difference, parse,
};

/// A value in any form that the rule accepts.
fn value(rule: &Rule) -> BoxedStrategy<String> {
    let text = "[a-zA-Z0-9 #\\\\\"{}._äß-]{0,20}";
    match rule.kind {
        Kind::Flag => "[01]".boxed(),
        Kind::YesNo => prop_oneof![Just("yes".to_owned()), Just("No".to_owned())].boxed(),
        Kind::Number { min, max } => {
            (min..=max, any::<bool>()).prop_map(|(n, hex)| if hex { format!("{n:#x}") } else { n.to_string() }).boxed()
        }
        Kind::PowerOfTwo { .. } => (9..=16_u32).prop_map(|shift| (1_u64 << shift).to_string()).boxed(),
        Kind::Bytes => (1..1000_u64).prop_map(|n| format!("{n}G")).boxed(),
        Kind::Text(max) => text.prop_filter("too long", move |t| t.len() <= max).boxed(),
        Kind::Ascii(max) => "[a-z #\\\\\"{}.]{1,20}".prop_filter("too long", move |t: &String| t.len() <= max).boxed(),
        Kind::Path => text.prop_map(|t| format!("/{t}")).boxed(),
        Kind::OneOf(words) => proptest::sample::select(words).prop_map(str::to_owned).boxed(),
        Kind::ListOf(words) => proptest::sample::subsequence(words.to_vec(), 1..=words.len())
            .prop_shuffle()
            .prop_map(|w| w.join(","))
            .boxed(),
        Kind::Hex(lengths) => {
            let length = lengths[0];
            proptest::string::string_regex(&format!("0x[235][0-9A-F]{{{}}}", length - 1)).unwrap().boxed()
        }
        Kind::Mask => "[0-9a-f]{1,8}".boxed(),
        Kind::Account => "[a-z#\"]{1,8}  ?[a-zA-Z0-9#\\\\]{12,20}".boxed(),
        Kind::PortalPattern => "!?[0-9a-f.:*?]{1,15}".boxed(),
        Kind::Redirect => prop_oneof![Just("10.0.0.1 temp".to_owned()), Just("[::1]:3260 perm".to_owned())].boxed(),
    }
}

/// Attributes of a table that the file may set.
fn attributes(table: Table) -> impl Strategy<Value = Attributes> {
    let usable: Vec<&'static Rule> = rules::rows(table)
        .filter(|r| matches!(r.support, Support::Works | Support::NoEffect(_)))
        .filter(|r| {
            !matches!(r.name, "size_mb" | "size" | "nv_cache" | "rel_tgt_id" | "MaxBurstLength" | "FirstBurstLength")
        })
        .collect();
    let one = proptest::sample::select(usable).prop_flat_map(|r| vec(value(r), 1..3).prop_map(move |v| (r, v)));
    vec(one, 0..6).prop_map(move |rows| {
        let mut attributes = Attributes::new(table);
        for (rule, values) in rows {
            for value in values {
                let name = |account: &str| account.split(' ').next().map(str::to_owned);
                let account = rule.kind == Kind::Account;
                // One name with two secrets is an error.
                if account && attributes.values(rule.name).iter().any(|other| name(other) == name(&value)) {
                    continue;
                }
                attributes.set(rule.name, &value).unwrap();
            }
        }
        attributes
    })
}

const DEVICES: [&str; 4] = ["disk#1", "disk2", "null\\1", "null2"];

fn luns() -> impl Strategy<Value = BTreeMap<u32, Lun>> {
    let lun =
        (0..DEVICES.len(), any::<bool>()).prop_map(|(d, read_only)| Lun { device: DEVICES[d].to_owned(), read_only });
    btree_map(prop_oneof![0..4_u32, 0..16384_u32], lun, 0..5)
}

fn group(name: &'static str) -> impl Strategy<Value = Group> {
    let patterns = proptest::sample::subsequence(vec!["*", "!iqn.a:*", "iqn.x#10.0.0.?", "eui.?"], 0..4).prop_shuffle();
    (patterns, luns(), attributes(rules::GROUP)).prop_map(move |(patterns, luns, attributes)| {
        let mut group = Group::new(name);
        group.initiators = patterns.into_iter().map(str::to_owned).collect();
        Group { luns, attributes, ..group }
    })
}

fn target() -> impl Strategy<Value = Target> {
    let groups = (group("a"), group("b c"), group("d{")).prop_map(|(a, b, c)| {
        let names = ["a", "b-c", "d"];
        [a, b, c].into_iter().zip(names).map(|(g, n)| Group { name: n.to_owned(), ..g }).collect::<Vec<_>>()
    });
    let some = groups.prop_flat_map(|all| proptest::sample::subsequence(all, 0..=3).prop_shuffle());
    (attributes(rules::ISCSI_TARGET), luns(), some).prop_map(|(attributes, luns, groups)| Target {
        attributes,
        luns,
        groups,
    })
}

fn device() -> impl Strategy<Value = Device> {
    let behind = |handler: HandlerKind| {
        attributes(handler.table()).prop_map(move |mut a| {
            if !a.is_given("filename") {
                a.set("filename", "/x").unwrap();
            }
            Device { handler, attributes: a }
        })
    };
    let null =
        attributes(rules::VDISK_NULLIO).prop_map(|attributes| Device { handler: HandlerKind::VdiskNullio, attributes });
    let perf = [HandlerKind::DevDiskPerf, HandlerKind::DevModiskPerf, HandlerKind::DevTapePerf];
    let perf = proptest::sample::select(perf.to_vec()).prop_flat_map(|handler| {
        attributes(handler.table()).prop_map(move |mut attributes| {
            // A tape may be smaller than any early warning.
            attributes.unset("early_warning");
            Device { handler, attributes }
        })
    });
    prop_oneof![behind(HandlerKind::VdiskFileio), behind(HandlerKind::VdiskBlockio), null, perf]
}

fn configuration() -> impl Strategy<Value = Configuration> {
    let names = ["iqn.2026-01.example:a", "iqn.2026-01.example:b", "eui.0123456789abcdef"];
    let targets = btree_map(proptest::sample::select(names.to_vec()).prop_map(str::to_owned), target(), 0..3);
    let driver = (attributes(rules::ISCSI_DRIVER), targets)
        .prop_map(|(attributes, targets)| BTreeMap::from([(DriverKind::Iscsi, Driver { attributes, targets })]));
    (attributes(rules::GLOBAL), [device(), device(), device(), device()], driver).prop_map(
        |(globals, devices, drivers)| {
            let devices = DEVICES.iter().map(|d| (*d).to_owned()).zip(devices).collect();
            Configuration { globals, devices, drivers, device_groups: BTreeMap::new() }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_reads_back(configuration in configuration()) {
        let text = configuration.to_string();
        let parsed = parse("written", text.as_bytes()).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(&parsed.configuration, &configuration);
        prop_assert_eq!(parsed.configuration.to_string(), text);
    }

    #[test]
    fn a_difference_leads_to_the_new_one(old in configuration(), new in configuration()) {
        let mut applied = old.clone();
        for change in difference(&old, &new) {
            applied.apply(&change);
        }
        prop_assert_eq!(difference(&applied, &new), []);
        prop_assert_eq!(difference(&new, &new), []);
    }

    #[test]
    fn no_text_breaks_the_parser(text in "([A-Za-z0-9_/.:* \"\\\\#{}\n-]|HANDLER |DEVICE |TARGET |LUN |GROUP |\\{\n|\\}\n){0,60}") {
        let _ = parse("any", text.as_bytes());
    }

    #[test]
    fn no_bytes_break_the_parser(bytes in vec(any::<u8>(), 0..200)) {
        let _ = parse("any", &bytes);
    }
}

fn read(text: &str) -> Configuration {
    parse("f", text.as_bytes()).unwrap().configuration
}

const BEFORE: &str = "
HANDLER vdisk_nullio {
  DEVICE a
  DEVICE b
}
TARGET_DRIVER iscsi {
  enabled 1
  TARGET iqn.2026-01.example:one {
    enabled 1
    LUN 0 a
    LUN 1 b
    GROUP g {
      INITIATOR iqn.x
      LUN 0 b
    }
  }
  TARGET iqn.2026-01.example:two {
    enabled 1
    LUN 0 b
  }
}";

const AFTER: &str = "
HANDLER vdisk_nullio {
  DEVICE a { blocksize 4096 }
  DEVICE c { blocksize 512 }
}
TARGET_DRIVER iscsi {
  enabled 1
  TARGET iqn.2026-01.example:one {
    enabled 1
    NopInInterval 10
    LUN 0 c { read_only 1 }
    LUN 5 a
    GROUP h {
      INITIATOR *
    }
    GROUP g {
      INITIATOR iqn.y
      LUN 0 a
    }
  }
  TARGET iqn.2026-01.example:three { enabled 1 }
}";

#[test]
fn devices_come_first_and_go_last() {
    let changes = difference(&read(BEFORE), &read(AFTER));
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "device a is opened anew (changed: blocksize)",
            "new device c (vdisk_nullio)",
            "target iqn.2026-01.example:two is gone",
            "target iqn.2026-01.example:one: NopInInterval is now \"10\"",
            "target iqn.2026-01.example:one: LUN 1 is gone",
            "target iqn.2026-01.example:one: LUN 0 is now c (read-only)",
            "target iqn.2026-01.example:one: new LUN 5: a",
            "target iqn.2026-01.example:one: new group h",
            "target iqn.2026-01.example:one: group g: initiator iqn.x is out",
            "target iqn.2026-01.example:one: group g: initiator iqn.y is in",
            "target iqn.2026-01.example:one: group g: LUN 0 is now a",
            "target iqn.2026-01.example:one: groups are searched in the order h, g",
            "new target iqn.2026-01.example:three (0 LUNs, 0 groups)",
            "device b is closed",
        ]
    );
    assert!(matches!(&changes[11], Change::Target { change: TargetChange::OrderGroups { .. }, .. }));
}

#[test]
fn a_written_default_is_no_change() {
    let new = BEFORE.replace("DEVICE b", "DEVICE b { blocksize 0x200 }").replace("LUN 0 a", "LUN 0 a { read_only 0 }");
    assert_eq!(difference(&read(BEFORE), &read(&new)), []);
}

#[test]
fn the_driver_is_switched_on_last_and_off_first() {
    let off = BEFORE.replacen("enabled 1", "enabled 0", 1);
    let empty = Configuration::default();
    let on = difference(&empty, &read(BEFORE));
    assert_eq!(on.last().unwrap().to_string(), "driver iscsi: enabled is now \"1\"");
    let changes = difference(&read(BEFORE), &read(&off.replace("DEVICE b", "DEVICE b { read_only 1 }")));
    assert_eq!(changes[0].to_string(), "driver iscsi: enabled is now \"0\"");
}
