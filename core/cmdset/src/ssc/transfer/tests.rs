//! What a tape does, against what SSC-5 says of each command, and against a tape that remembers every object.

use super::*;
use crate::ssc::partition::{FILEMARK_BYTES, MAX_RUNS};
use proptest::prelude::*;
use scst_scsi::bytes::Writer;

/// Key, code, bits and residue.
fn told(sense: SenseData) -> (u8, u16, u8, Option<i64>) {
    (sense.key.0, sense.asc.0, sense.stream.bits(), sense.information.map(|i| i as i64))
}

const FILEMARK: u8 = 0x80;
const EOM: u8 = 0x40;
const ILI: u8 = 0x20;

/// Blocks of 512 and 1024, two files: 512 x 3, filemark, 1024 x 2, filemark.
fn recorded() -> Partition {
    let mut tape = Partition::new(1 << 30, 1 << 29);
    tape.write(true, 3, 512).unwrap();
    tape.write_filemarks(1).unwrap();
    tape.write(false, 1024, 512).unwrap();
    tape.write(false, 1024, 0).unwrap();
    tape.write_filemarks(1).unwrap();
    assert_eq!((tape.position(), tape.end_of_data()), (7, 7));
    tape
}

fn at(object: u32) -> Partition {
    let mut tape = recorded();
    tape.locate(object).unwrap();
    tape
}

#[test]
fn fixed_reads_end_at_what_does_not_fit() {
    let mut tape = at(0);
    assert_eq!(tape.read(true, false, 2, 512), Transferred { bytes: 1024, sense: None });
    let short = tape.read(true, false, 4, 512);
    assert_eq!((short.bytes, short.sense.map(told)), (512, Some((0, 0x0001, FILEMARK, Some(3)))));
    assert_eq!(tape.position(), 4, "after the filemark");
    let wrong = tape.read(true, false, 5, 512);
    assert_eq!((wrong.bytes, wrong.sense.map(told)), (0, Some((0, 0x0000, ILI, Some(5)))));
    assert_eq!(tape.position(), 5, "after the block");
    assert_eq!(tape.read(true, false, 1, 1024), Transferred { bytes: 1024, sense: None });
    tape.locate(7).unwrap();
    let blank = tape.read(true, false, 9, 512);
    assert_eq!((blank.bytes, blank.sense.map(told)), (0, Some((8, 0x0005, 0, Some(9)))));
    assert_eq!(tape.position(), 7);
}

#[test]
fn variable_reads_tell_the_difference() {
    let read = |sili, length, block| {
        let mut tape = at(4);
        let done = tape.read(false, sili, length, block);
        assert_eq!(tape.position(), 5);
        (done.bytes, done.sense.map(told))
    };
    assert_eq!(read(false, 1024, 0), (1024, None));
    assert_eq!(read(false, 4096, 0), (1024, Some((0, 0, ILI, Some(3072)))));
    assert_eq!(read(false, 1000, 0), (1000, Some((0, 0, ILI, Some(-24)))));
    assert_eq!(read(true, 4096, 512), (1024, None));
    assert_eq!(read(true, 1000, 0), (1000, None));
    assert_eq!(read(true, 1000, 512), (1000, Some((0, 0, ILI, Some(-24)))), "too long in a mode of one length");
    let mut tape = at(3);
    let mark = tape.read(false, true, 100, 0);
    assert_eq!((mark.bytes, mark.sense.map(told), tape.position()), (0, Some((0, 1, FILEMARK, Some(100))), 4));
    tape.locate(7).unwrap();
    assert_eq!(tape.read(false, true, 100, 0).sense.map(told), Some((8, 5, 0, Some(100))));
}

#[test]
fn a_length_of_zero_moves_nothing() {
    let mut tape = at(3);
    let before = tape.clone();
    assert_eq!(tape.read(false, false, 0, 0), Transferred { bytes: 0, sense: None });
    assert_eq!((tape.write(false, 0, 0), tape.write_filemarks(0)), (Ok(()), Ok(())));
    assert_eq!((tape.space(SpaceOver::Blocks, 0), tape), (Ok(()), before));
}

#[test]
fn a_write_is_the_new_end_of_data() {
    let mut tape = at(1);
    tape.write(false, 77, 0).unwrap();
    assert_eq!((tape.position(), tape.end_of_data()), (2, 2));
    tape.rewind();
    assert_eq!(tape.read(true, false, 1, 512).sense, None);
    assert_eq!(tape.read(false, false, 77, 0), Transferred { bytes: 77, sense: None });
    tape.locate(1).unwrap();
    tape.erase();
    assert_eq!((tape.position(), tape.end_of_data()), (1, 1));
}

#[test]
fn space_over_blocks_ends_at_filemarks() {
    let space = |from, count| {
        let mut tape = at(from);
        let told = tape.space(SpaceOver::Blocks, count).map_err(told);
        (tape.position(), told)
    };
    assert_eq!(space(0, 3), (3, Ok(())));
    assert_eq!(space(0, 5), (4, Err((0, 1, FILEMARK, Some(2)))));
    assert_eq!(space(4, 1), (5, Ok(())));
    assert_eq!(space(7, 2), (7, Err((8, 5, 0, Some(2)))));
    assert_eq!(space(6, -2), (4, Ok(())));
    assert_eq!(space(6, -4), (3, Err((0, 1, FILEMARK, Some(2)))), "before the filemark");
    assert_eq!(space(2, -5), (0, Err((0, 4, EOM, Some(3)))));
}

#[test]
fn space_over_filemarks() {
    let space = |from, count| {
        let mut tape = at(from);
        let told = tape.space(SpaceOver::Filemarks, count).map_err(told);
        (tape.position(), told)
    };
    assert_eq!(space(0, 1), (4, Ok(())));
    assert_eq!(space(1, 2), (7, Ok(())));
    assert_eq!(space(0, 3), (7, Err((8, 5, 0, Some(1)))));
    assert_eq!(space(7, -1), (6, Ok(())));
    assert_eq!(space(7, -2), (3, Ok(())));
    assert_eq!(space(5, -2), (0, Err((0, 4, EOM, Some(1)))));
    let mut tape = at(1);
    assert_eq!((tape.space(SpaceOver::ToEndOfData, -9), tape.position()), (Ok(()), 7));
}

#[test]
fn locate_goes_no_further_than_the_end_of_data() {
    let mut tape = at(7);
    assert_eq!(tape.locate(8).map_err(told), Err((8, 5, 0, None)));
    assert_eq!(tape.position(), 7);
    assert_eq!((tape.locate(0), tape.position()), (Ok(()), 0));
}

fn position(tape: &Partition) -> [u8; 20] {
    let mut out = [0xee; 20];
    tape.emit_position(&mut Writer::new(&mut out));
    out
}

#[test]
fn positions_byte_by_byte() {
    assert_eq!(position(&at(0)), [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(position(&at(5)), [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
    // More objects than the field can tell.
    let mut tape = Partition::new(u64::MAX, u64::MAX);
    for _ in 0..257 {
        tape.write(true, 0xff_ffff, 1).unwrap();
    }
    assert_eq!(position(&tape)[..8], [0x02, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn the_early_warning_comes_before_the_end() {
    let mut tape = Partition::new(10 * 512, 6 * 512);
    assert_eq!(tape.write(true, 5, 512), Ok(()));
    assert_eq!(tape.write(true, 1, 512).map_err(told), Err((0, 2, EOM, Some(0))), "all is written");
    assert_eq!(position(&tape)[0], 0x40);
    assert_eq!(tape.write(false, 512, 0).map_err(told), Err((0, 2, EOM, Some(0))));
    assert_eq!(tape.write(true, 5, 512).map_err(told), Err((0xd, 2, EOM, Some(2))), "three fitted");
    assert_eq!(tape.write(false, 512, 0).map_err(told), Err((0xd, 2, EOM, Some(512))));
    assert_eq!(tape.write_filemarks(2).map_err(told), Err((0xd, 2, EOM, Some(2))));
    assert_eq!((tape.position(), tape.end_of_data()), (10, 10));
    assert_eq!(tape.read(true, false, 1, 512).sense.map(told), Some((8, 5, EOM, Some(1))));
    // Reading does not warn.
    tape.rewind();
    assert_eq!(tape.read(true, false, 10, 512), Transferred { bytes: 5120, sense: None });
    tape.rewind();
    assert_eq!((position(&tape)[0], tape.write(true, 1, 512)), (0x80, Ok(())));
}

#[test]
fn a_filemark_takes_room() {
    let mut tape = Partition::new(3 * FILEMARK_BYTES, u64::MAX);
    assert_eq!(tape.write_filemarks(0xff_ffff).map_err(told), Err((0xd, 2, EOM, Some(0xff_fffc))));
    assert_eq!(tape.end_of_data(), 3);
}

#[test]
fn memory_has_an_end_too() {
    let mut tape = Partition::new(u64::MAX, u64::MAX);
    for n in 0..MAX_RUNS as u32 {
        tape.write(false, 1 + n % 2, 0).unwrap();
    }
    assert_eq!(tape.write(false, 1, 0).map_err(told), Err((0xd, 2, EOM, Some(1))));
    assert_eq!(tape.write(true, 5, 2), Ok(()), "the last run goes on");
    assert_eq!(tape.end_of_data(), MAX_RUNS as u64 + 5);
}

/// A tape that remembers every object: a length, or 0 for a filemark.
#[derive(Default)]
struct Model {
    objects: Vec<u32>,
    at: usize,
}

impl Model {
    fn write(&mut self, block: u32, count: usize) {
        self.objects.truncate(self.at);
        self.objects.resize(self.at + count, block);
        self.at += count;
    }

    /// One object, and whether it is a block.
    fn read(&mut self) -> Option<u32> {
        let object = self.objects.get(self.at).copied();
        self.at += usize::from(object.is_some());
        object
    }

    /// Spaces one by one; how many are left when it ends early.
    fn space(&mut self, marks: bool, count: i32) -> u32 {
        let mut left = count.unsigned_abs();
        while left > 0 {
            let step = if count > 0 { self.at } else { self.at.wrapping_sub(1) };
            let Some(&object) = self.objects.get(step) else { break };
            self.at = if count > 0 { self.at + 1 } else { self.at - 1 };
            match (object == 0, marks) {
                (true, false) => break,
                (false, true) => {}
                _ => left -= 1,
            }
        }
        left
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(u32, u32),
    Mark(u32),
    ReadFixed(u32, u32),
    ReadVariable(u32),
    Space(bool, i32),
    Locate(u32),
    Erase,
}

fn step() -> impl Strategy<Value = Step> {
    let block = || prop_oneof![Just(512u32), Just(1024), 1..5u32];
    prop_oneof![
        4 => (block(), 1..6u32).prop_map(|(block, count)| Step::Write(block, count)),
        2 => (1..4u32).prop_map(Step::Mark),
        3 => (block(), 1..9u32).prop_map(|(block, count)| Step::ReadFixed(block, count)),
        2 => block().prop_map(Step::ReadVariable),
        3 => (any::<bool>(), -9..9i32).prop_map(|(marks, count)| Step::Space(marks, count)),
        3 => (0..40u32).prop_map(Step::Locate),
        1 => Just(Step::Erase),
    ]
}

proptest! {
    #[test]
    fn runs_are_as_good_as_objects(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut tape, mut model) = (Partition::new(1 << 40, 1 << 39), Model::default());
        for step in steps {
            match step {
                Step::Write(block, count) => {
                    prop_assert_eq!(tape.write(true, count, block), Ok(()));
                    model.write(block, count as usize);
                }
                Step::Mark(count) => {
                    prop_assert_eq!(tape.write_filemarks(count), Ok(()));
                    model.write(0, count as usize);
                }
                Step::ReadFixed(block, count) => {
                    let mut good = 0;
                    while good < count && model.read() == Some(block) {
                        good += 1;
                    }
                    let done = tape.read(true, false, count, block);
                    prop_assert_eq!((done.bytes, done.sense.is_none()), (good * block, good == count));
                }
                Step::ReadVariable(length) => {
                    let block = model.read();
                    let done = tape.read(false, false, length, 0);
                    prop_assert_eq!(done.bytes, block.unwrap_or(0).min(length));
                    prop_assert_eq!(done.sense.is_none(), block == Some(length));
                }
                Step::Space(marks, count) => {
                    let left = model.space(marks, count);
                    let over = if marks { SpaceOver::Filemarks } else { SpaceOver::Blocks };
                    let told = tape.space(over, count).err().and_then(|sense| sense.information);
                    prop_assert_eq!(told, (left > 0).then_some(u64::from(left)));
                }
                Step::Locate(object) => {
                    model.at = model.objects.len().min(object as usize);
                    prop_assert_eq!(tape.locate(object).is_ok(), object as usize <= model.objects.len());
                }
                Step::Erase => {
                    tape.erase();
                    model.objects.truncate(model.at);
                }
            }
            prop_assert_eq!((tape.position(), tape.end_of_data()), (model.at as u64, model.objects.len() as u64));
        }
    }
}
