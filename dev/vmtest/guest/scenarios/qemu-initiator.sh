# shellcheck shell=bash
# /dev/vdb is a LUN behind QEMU's own initiator.
. /run/vm/lib.sh

[ "$(blockdev --getsize64 /dev/vdb)" = $((1 << 30)) ] || fail "size"
mkfs.ext4 -q -F /dev/vdb
mount /dev/vdb /mnt
fio_verify /mnt/f 4k:1:1m 4k:32:16m 1m:8:64m
sum=$(md5sum </mnt/f)
umount /mnt
check_ext4 /dev/vdb
mount /dev/vdb /mnt
[ "$(md5sum </mnt/f)" = "$sum" ] || fail "the data changed"
umount /mnt
