//! Very many logical units.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use scst_testkit::{Command, Initiator, LoginConfig};

use crate::stage::{HOST, TARGET, start, target_config};

/// LUNs of one session.
const LUNS: u32 = 4096;
/// Commands sent before their answers are taken.
const BATCH: u32 = 256;

#[test]
fn a_session_with_4096_luns_sees_each() {
    let (mut devices, mut luns) = (String::new(), String::new());
    for n in 0..LUNS {
        writeln!(devices, "DEVICE null{n} {{\nsize {}\n}}", (n + 1) * 4096).unwrap();
        writeln!(luns, "LUN {n} null{n}").unwrap();
    }
    let config = format!("HANDLER vdisk_nullio {{\n{devices}}}\n") + &target_config(&luns);
    let mut daemon = start(&config, "auto", &[]);
    let mut host = Initiator::connect(daemon.portal(), LoginConfig::normal(HOST, TARGET)).unwrap();
    assert_eq!(host.report_luns().unwrap(), (0..LUNS).collect::<Vec<_>>());
    let mut identifiers = BTreeSet::new();
    for first in (0..LUNS).step_by(BATCH as usize) {
        let mut tags = BTreeMap::new();
        for lun in first..first + BATCH {
            for page in [None, Some(0x83)] {
                tags.insert(host.submit(Command::inquiry(lun, page)).unwrap(), (lun, page));
            }
        }
        while !tags.is_empty() {
            let outcome = host.wait_any().unwrap();
            let (lun, page) = tags.remove(&outcome.itt).unwrap();
            assert!(outcome.is_good(), "LUN {lun} page {page:?}: {outcome:?}");
            assert_eq!(outcome.data_in[0], 0, "LUN {lun} is a connected disk");
            match page {
                // The product identification is the name of the device (SPC-6 6.7.2).
                None => {
                    let product = String::from_utf8(outcome.data_in[16..32].to_vec()).unwrap();
                    assert_eq!(product.trim_end(), format!("null{lun}"));
                }
                Some(_) => assert!(identifiers.insert(outcome.data_in), "LUN {lun} is the same disk as another"),
            }
        }
    }
    assert_eq!(identifiers.len(), LUNS as usize);
    for lun in [0, 255, 256, 4095] {
        host.clear_unit_attentions(lun).unwrap();
        assert_eq!(host.capacity(lun).unwrap().blocks, u64::from(lun + 1) * 8);
    }
    assert_eq!(host.execute(Command::new(LUNS, vec![0; 6])).unwrap().kcq(), Some((5, 0x25, 0)));
    host.logout_and_wait().unwrap();
    assert_eq!(daemon.stop().unwrap().code(), Some(0));
}
