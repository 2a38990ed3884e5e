# shellcheck shell=bash
# 4,096 LUNs, each a device of its own, scanned in one session.
. /run/vm/lib.sh
iqn=iqn.2024-01.test:many
count=4096

# One process for the whole text: a loop of processes would take longer than the scan.
start_scstd < <(awk -v n=$count -v iqn=$iqn 'BEGIN {
    print "HANDLER vdisk_nullio {"
    for (i = 0; i < n; i++) print "    DEVICE null" i " {\n        size 1048576\n        read_zero 1\n    }"
    print "}\nTARGET_DRIVER iscsi {\n    enabled 1\n    TARGET " iqn " {\n        enabled 1"
    for (i = 0; i < n; i++) print "        LUN " i " null" i
    print "    }\n}"
}')
start_iscsid
node -T $iqn -o new >/dev/null
step "login and scan"
login $iqn
devices() { find /sys/class/scsi_device -mindepth 1 -maxdepth 1 | wc -l; }
all_there() { [ "$(devices)" -ge $count ]; }
wait_for 600 all_there || fail "only $(devices) devices"
[ "$(devices)" = $count ] || fail "$(devices) devices"
step "$(devices) devices"
# Linux shows flat space addressing (SAM-5 4.7.7.3) as it stands in the LUN field: 0x4000 + LUN.
last=$(disk_of $iqn $((0x4000 + count - 1)))
[ "$(blockdev --getsize64 "$last")" = 1048576 ] || fail "size of the last LUN"
[ "$(read_from "$last")" = "$(head -c 1M /dev/zero | md5sum)" ] || fail "the last LUN does not read as zeroes"
step "logout"
logout $iqn
stop_scstd
