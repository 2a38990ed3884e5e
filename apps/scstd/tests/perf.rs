//! Devices without data, in the daemon: an initiator finds their types, moves data and tape, and never sees what was in
//! a buffer before.

use scst_testkit::initiator::Residual;
use scst_testkit::process::ScstdOptions;
use scst_testkit::scsi::cdb::{self, RwFlags};
use scst_testkit::{Command, Initiator, LoginConfig, Scstd};

const TARGET: &str = "iqn.2026-01.example:target";
const HOST: &str = "iqn.2026-01.example:host";

const DEVICES: &str = "
HANDLER vdisk_nullio {
    DEVICE null
}
HANDLER dev_disk_perf {
    DEVICE disk
    DEVICE loose { strict_security 0
    }
}
HANDLER dev_modisk_perf {
    DEVICE mo
}
HANDLER dev_tape_perf {
    DEVICE tape { size 1G
    }
}
";
const NULL: u32 = 0;
const DISK: u32 = 1;
const LOOSE: u32 = 2;
const MO: u32 = 3;
const TAPE: u32 = 4;

fn start(reactors: &str) -> Scstd {
    let target = "LUN 0 null\nLUN 1 disk\nLUN 2 loose\nLUN 3 mo\nLUN 4 tape";
    let driver = format!("TARGET_DRIVER iscsi {{\nenabled 1\nTARGET {TARGET} {{\nenabled 1\n{target}\n}}\n}}\n");
    let mut options = ScstdOptions::new(env!("CARGO_BIN_EXE_scstd"), &format!("{DEVICES}{driver}")).unwrap();
    options.arguments.extend(["--reactors", reactors].map(str::to_owned));
    Scstd::start_with(options).unwrap()
}

fn login(target: &Scstd, name: &str) -> Initiator {
    let mut host = Initiator::connect(target.portal(), LoginConfig::normal(name, TARGET)).unwrap();
    for lun in host.report_luns().unwrap() {
        host.clear_unit_attentions(lun).unwrap();
    }
    host
}

/// A six-byte CDB of a tape.
fn six(opcode: u8, bits: u8, length: u32) -> Vec<u8> {
    let [_, a, b, c] = length.to_be_bytes();
    vec![opcode, bits, a, b, c, 0]
}

const FIXED: u8 = 1;
const REWIND: [u8; 6] = [0x01, 0, 0, 0, 0, 0];

/// READ POSITION: the flags, and the number of the next block or filemark.
fn position(host: &mut Initiator) -> (u8, u32) {
    let data = host.run(Command::read(TAPE, vec![0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0], 20)).unwrap().data_in;
    (data[0], u32::from_be_bytes(data[4..8].try_into().unwrap()))
}

fn set_block_length(host: &mut Initiator, length: u32) {
    let [_, a, b, c] = length.to_be_bytes();
    let list = [0, 0, 0x10, 8, 0, 0, 0, 0, 0, a, b, c];
    host.run(Command::write(TAPE, cdb::mode_select6(true, false, 12), list)).unwrap();
}

#[test]
fn types_and_capacities() {
    let daemon = start("2");
    let mut host = login(&daemon, HOST);
    for (lun, first) in [(DISK, [0x00, 0x00]), (MO, [0x07, 0x80]), (TAPE, [0x01, 0x80])] {
        let inquiry = host.run(Command::inquiry(lun, None)).unwrap().data_in;
        assert_eq!((&inquiry[..2], &inquiry[8..16]), (&first[..], &b"SCST_PRF"[..]), "LUN {lun}");
    }
    let size = |host: &mut Initiator, lun| host.capacity(lun).map(|c| (c.blocks, c.block_size)).unwrap();
    assert_eq!(size(&mut host, DISK), (2 << 20, 512));
    assert_eq!(size(&mut host, MO), (512 << 10, 2048));
    host.run(Command::write_blocks(MO, 7, 2048, [1; 8192])).unwrap();
    assert_eq!(host.run(Command::read(MO, cdb::read12(7, 4, RwFlags::NONE), 8192)).unwrap().data_in, [0; 8192]);
    let past = host.execute(Command::read_blocks(DISK, 2 << 20, 1, 512)).unwrap();
    assert_eq!(past.kcq(), Some((5, 0x21, 0)));
}

/// The buffers of this reactor have been through another disk before.
#[test]
fn a_read_shows_zeros_and_not_what_others_have_sent() {
    const SENT: u8 = 0xa5;
    let daemon = start("1");
    let mut victim = login(&daemon, "iqn.2026-01.example:victim");
    let mut curious = login(&daemon, HOST);
    for bytes in [4096, 65536] {
        let fill = |victim: &mut Initiator| {
            victim.run(Command::write_blocks(NULL, 0, 512, vec![SENT; bytes])).unwrap();
        };
        let read = |lun| Command::read_blocks(lun, 0, bytes as u32 / 512, 512);
        fill(&mut victim);
        assert!(curious.run(read(LOOSE)).unwrap().data_in == vec![SENT; bytes], "the buffer is the same one");
        fill(&mut victim);
        assert!(curious.run(read(DISK)).unwrap().data_in == vec![0; bytes]);
        // The same for a block of a tape.
        curious.run(Command::write(TAPE, six(0x0a, 0, bytes as u32), vec![SENT; bytes])).unwrap();
        curious.run(Command::new(TAPE, REWIND.to_vec())).unwrap();
        fill(&mut victim);
        let block = curious.run(Command::read(TAPE, six(0x08, 0, bytes as u32), bytes as u32)).unwrap().data_in;
        assert!(block == vec![0; bytes]);
        curious.run(Command::new(TAPE, REWIND.to_vec())).unwrap();
    }
}

#[test]
fn a_tape_with_blocks_of_one_length() {
    let daemon = start("2");
    let mut host = login(&daemon, HOST);
    set_block_length(&mut host, 1024);
    host.run(Command::write(TAPE, six(0x0a, FIXED, 200), vec![7; 200 << 10])).unwrap();
    host.run(Command::new(TAPE, six(0x10, 0, 1))).unwrap();
    host.run(Command::write(TAPE, six(0x0a, FIXED, 3), vec![7; 3072])).unwrap();
    assert_eq!(position(&mut host), (0, 204));
    host.run(Command::new(TAPE, REWIND.to_vec())).unwrap();
    assert_eq!(position(&mut host), (0x80, 0), "BOP");

    host.run(Command::read(TAPE, six(0x08, FIXED, 198), 198 << 10)).unwrap();
    // Two blocks and the filemark: both blocks arrive, then the sense data.
    let mark = host.execute(Command::read(TAPE, six(0x08, FIXED, 5), 5120)).unwrap();
    assert_eq!((mark.kcq(), mark.sense_data[2], mark.sense().unwrap().information), (Some((0, 0, 1)), 0x80, Some(3)));
    assert_eq!((mark.data_in.as_slice(), mark.residual), (&[0; 2048][..], Residual::Underflow(3072)));
    assert_eq!(position(&mut host), (0, 201));
    host.run(Command::new(TAPE, six(0x11, 3, 0))).unwrap();
    let blank = host.execute(Command::read(TAPE, six(0x08, FIXED, 1), 1024)).unwrap();
    assert_eq!((blank.kcq(), blank.data_in.len()), (Some((8, 0, 5)), 0));
    assert_eq!(position(&mut host), (0, 204));
    // Back over the filemark, and forward over it.
    host.run(Command::new(TAPE, six(0x11, 1, 0xff_ffff))).unwrap();
    assert_eq!(position(&mut host), (0, 200));
    let over = host.execute(Command::new(TAPE, six(0x11, 0, 2))).unwrap();
    assert_eq!((over.kcq(), over.sense().unwrap().information), (Some((0, 0, 1)), Some(2)));
    host.run(Command::new(TAPE, vec![0x2b, 0, 0, 0, 0, 0, 150, 0, 0, 0])).unwrap();
    assert_eq!(position(&mut host), (0, 150));
}

#[test]
fn a_tape_with_blocks_of_any_length() {
    let daemon = start("2");
    let mut host = login(&daemon, HOST);
    for length in [1_u32, 512, 300_000] {
        host.run(Command::write(TAPE, six(0x0a, 0, length), vec![7; length as usize])).unwrap();
    }
    host.run(Command::new(TAPE, REWIND.to_vec())).unwrap();
    let mut read = |bits, length: u32| {
        let done = host.execute(Command::read(TAPE, six(0x08, bits, length), length)).unwrap();
        let bits = done.sense_data.get(2).copied();
        (done.data_in.len(), bits, done.sense().and_then(|sense| sense.information), done.residual)
    };
    assert_eq!(read(0, 4096), (1, Some(0x20), Some(4095), Residual::Underflow(4095)));
    assert_eq!(read(2, 4096), (512, None, None, Residual::Underflow(3584)), "SILI");
    // Longer than was asked for: the residue is negative.
    assert_eq!(read(0, 100_000), (100_000, Some(0x20), Some(0xffff_ffff & (-200_000_i64) as u64), Residual::None));
    let wrong = host.execute(Command::read(TAPE, six(0x08, FIXED, 1), 512)).unwrap();
    assert_eq!(wrong.kcq(), Some((5, 0x24, 0)), "fixed without a block length");
}

#[test]
fn two_initiators_on_two_reactors_write_one_tape() {
    let daemon = start("2");
    let mut hosts = ["a", "b", "c", "d"].map(|name| login(&daemon, &format!("iqn.2026-01.example:{name}")));
    const EACH: usize = 50;
    let mut tags = Vec::new();
    for _ in 0..EACH {
        for host in &mut hosts {
            tags.push(host.submit(Command::write(TAPE, six(0x0a, 0, 700), [7; 700])).unwrap());
        }
        // No more in flight than fit into the window.
        for (host, tag) in hosts.iter_mut().zip(tags.drain(..)) {
            assert!(host.wait(tag).unwrap().is_good());
        }
    }
    assert_eq!(position(&mut hosts[0]), (0, 4 * EACH as u32));
    hosts[1].run(Command::new(TAPE, REWIND.to_vec())).unwrap();
    assert_eq!(position(&mut hosts[2]), (0x80, 0));
    for n in 0..4 * EACH {
        let block = hosts[n % 4].run(Command::read(TAPE, six(0x08, 0, 700), 700)).unwrap().data_in;
        assert_eq!(block, [0; 700]);
    }
    let end = hosts[3].execute(Command::read(TAPE, six(0x08, 0, 700), 700)).unwrap();
    assert_eq!(end.kcq(), Some((8, 0, 5)));
}

#[test]
fn an_ejected_tape_comes_back_for_everybody() {
    let daemon = start("2");
    let (mut a, mut b) = (login(&daemon, "iqn.2026-01.example:a"), login(&daemon, "iqn.2026-01.example:b"));
    let load_unload = |load: u8| Command::new(TAPE, vec![0x1b, 0, 0, 0, load, 0]);
    b.run(Command::new(TAPE, vec![0x1e, 0, 0, 0, 1, 0])).unwrap();
    assert_eq!(a.execute(load_unload(0)).unwrap().kcq(), Some((5, 0x53, 2)), "MEDIUM REMOVAL PREVENTED");
    b.run(Command::new(TAPE, vec![0x1e, 0, 0, 0, 0, 0])).unwrap();
    a.run(load_unload(0)).unwrap();
    assert_eq!(b.execute(Command::new(TAPE, cdb::test_unit_ready())).unwrap().kcq(), Some((2, 0x3a, 0)));
    a.run(load_unload(1)).unwrap();
    assert_eq!(b.execute(Command::new(TAPE, cdb::test_unit_ready())).unwrap().kcq(), Some((6, 0x28, 0)));
    b.run(Command::new(TAPE, cdb::test_unit_ready())).unwrap();
}
