# shellcheck shell=bash
# A mounted disk grows: the backing file is extended, scstd told to look, the initiator rescans.
. /run/vm/lib.sh
iqn=iqn.2024-01.test:resize

file=$(disk_file resize 128M)
start_scstd < <(one_disk_config $iqn "$file")
start_iscsid
discover >/dev/null
login $iqn
disk=$(disk_of $iqn 0)
mkfs.ext4 -q -F "$disk"
mount "$disk" /mnt
dd if=/dev/urandom of=/mnt/f bs=1M count=16 status=none
sum=$(md5sum </mnt/f)

step "128 MiB -> 256 MiB"
truncate -s 256M "$file"
kill -HUP "$scstd"
grown() { iscsiadm -m session --rescan >/dev/null && [ "$(blockdev --getsize64 "$disk")" = $((256 << 20)) ]; }
wait_for 20 grown || fail "the initiator still sees $(blockdev --getsize64 "$disk") bytes"
resize2fs "$disk" >/dev/null 2>&1
[ "$(df --output=size -BM /mnt | tail -1 | tr -dc 0-9)" -gt 200 ] || fail "the file system did not grow"
step "the new part holds data"
fio_verify /mnt/g 64k:8:128m
[ "$(md5sum </mnt/f)" = "$sum" ] || fail "old data changed"
umount /mnt
check_ext4 "$disk"
logout $iqn
stop_scstd
