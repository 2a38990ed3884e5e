# shellcheck shell=bash
# 4,096 LUNs, each a device of its own, scanned in one session. The target runs on the host.
. /run/vm/lib.sh
iqn=iqn.2024-01.test:host
count=4096

start_iscsid
node -T $iqn -o new >/dev/null
step "login and scan"
login $iqn
devices() { find /sys/class/scsi_device -mindepth 1 -maxdepth 1 | wc -l; }
all_there() { [ "$(devices)" -ge $count ]; }
wait_for 600 all_there || fail "only $(devices) devices"
[ "$(devices)" = $count ] || fail "$(devices) devices"
step "$count devices"
# Linux shows flat space addressing (SAM-5 4.7.7.3) as it stands in the LUN field: 0x4000 + LUN.
last=$(disk_of $iqn $((0x4000 + count - 1)))
[ "$(blockdev --getsize64 "$last")" = 1048576 ] || fail "size of the last LUN"
[ "$(<"/sys/block/${last##*/}/device/model")" = "null$((count - 1))        " ] || fail "the last LUN is another device"
[ "$(read_from "$last")" = "$(head -c 1M /dev/zero | md5sum)" ] || fail "the last LUN does not read as zeroes"
# No logout: the kernel takes minutes to let go of so many disks. The guest ends, as initiators do.
