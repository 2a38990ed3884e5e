//! Which READs are answered with the page cache itself.

use scst_core::buffer::Extent;
use scst_core::handler::{Execution, Outcome};

use super::rig::{Op, PAGES, Rig, file_disk, sixteen, ten};

fn zero_copy() -> Rig {
    let mut rig = file_disk(|c| c.zero_copy_read = true);
    (rig.io.pages, rig.takes_mapped) = (true, true);
    rig
}

fn execute(rig: &mut Rig, cdb: &[u8], bytes: Option<u32>) -> Execution {
    let command = rig.command(cdb, &[], bytes).unwrap();
    rig.execute(&command)
}

#[test]
fn a_large_read_is_answered_with_the_pages() {
    let mut rig = zero_copy();
    let pages = Extent { arena: PAGES, len: 32 << 10, offset: 100 * 512 };
    assert_eq!(execute(&mut rig, &ten(0x28, 0, 100, 64), None), Execution::Mapped(pages));
    assert_eq!(execute(&mut rig, &sixteen(0x88, 0, 100, 64), None), Execution::Mapped(pages));
    // The initiator has room for less than the CDB asks for.
    assert_eq!(execute(&mut rig, &ten(0x28, 0, 100, 128), Some(32 << 10)), Execution::Mapped(pages));
    assert_eq!(rig.ops(), []);
}

#[test]
fn what_is_not_cached_or_looked_at_is_read() {
    let read = |len| [Op::Read { offset: 0, len }];
    let mut rig = zero_copy();
    rig.io.pages = false;
    assert_eq!(execute(&mut rig, &ten(0x28, 0, 0, 64), None), Execution::Pending);
    assert_eq!(rig.ops(), read(32 << 10));
    (rig.io.pages, rig.takes_mapped) = (true, false);
    assert_eq!(execute(&mut rig, &ten(0x28, 0, 0, 64), None), Execution::Pending);
    assert_eq!(rig.ops(), read(32 << 10));
    let mut rig = file_disk(|_| {});
    (rig.io.pages, rig.takes_mapped) = (true, true);
    assert_eq!(execute(&mut rig, &ten(0x28, 0, 0, 64), None), Execution::Pending);
    assert_eq!(rig.ops(), read(32 << 10));
}

#[test]
fn everything_else_goes_its_way() {
    let mut rig = zero_copy();
    // FUA: what is cached goes to the medium first, and the data are read after that.
    assert_eq!(rig.run(&ten(0x28, 0x08, 0, 64), &[]), Outcome::good(32 << 10));
    assert_eq!(rig.ops(), [Op::Flush, Op::Read { offset: 0, len: 32 << 10 }]);
    assert_eq!(rig.run(&ten(0x2a, 0, 0, 64), &[1; 32 << 10]), Outcome::good(0));
    assert_eq!(rig.run(&ten(0x2f, 0x02, 0, 64), &[1; 32 << 10]), Outcome::good(0));
}

#[test]
fn the_page_cache_is_used_or_left_out_not_both() {
    let mut config = crate::VdiskConfig::file("d", "/nowhere");
    config.set("zero_copy_read", "1").unwrap();
    config.validate().unwrap();
    config.set("o_direct", "1").unwrap();
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "device d: zero_copy_read \"1\": contradicts o_direct; remove one of them: o_direct leaves the page cache out, \
         zero_copy_read sends what is in it"
    );
}
