# shellcheck shell=bash
# The main road: discovery, login, a file system, verified load, a clean end.
. /run/vm/lib.sh
iqn=iqn.2024-01.test:ext4

start_scstd < <(one_disk_config $iqn "$(disk_file ext4 256M)")
start_iscsid
step "discovery"
[ "$(discover)" = "$PORTAL,1 $iqn" ] || fail "discovery: $(discover)"
step "login"
login $iqn
disk=$(disk_of $iqn 0)
[ "$(blockdev --getsize64 "$disk")" = $((256 << 20)) ] || fail "size"
step "mkfs.ext4 $disk"
mkfs.ext4 -q -F "$disk"
mount "$disk" /mnt
step "fio"
fio_verify /mnt/f 512:1:256k 512:32:1m 4k:1:2m 4k:8:8m 4k:32:8m 64k:1:16m 64k:8:32m 1m:1:32m 1m:16:64m
sum=$(md5sum </mnt/f)
umount /mnt
check_ext4 "$disk"
step "a second session sees the same"
logout $iqn
login $iqn
disk=$(disk_of $iqn 0)
mount "$disk" /mnt
[ "$(md5sum </mnt/f)" = "$sum" ] || fail "the data changed"
umount /mnt
logout $iqn
stop_scstd
