# shellcheck shell=bash
# The same road with xfs, which flushes and uses FUA much more, and with both digests.
. /run/vm/lib.sh
iqn=iqn.2024-01.test:xfs

start_scstd < <(one_disk_config $iqn "$(disk_file xfs 512M)" "HeaderDigest CRC32C,None
        DataDigest CRC32C,None")
start_iscsid
discover >/dev/null
set_node $iqn node.conn[0].iscsi.HeaderDigest CRC32C node.conn[0].iscsi.DataDigest CRC32C
login $iqn
disk=$(disk_of $iqn 0)
step "mkfs.xfs $disk"
modprobe xfs
mkfs.xfs -q -f "$disk"
mount "$disk" /mnt
step "fio"
fio_verify /mnt/f 512:8:256k 4k:1:1m 4k:16:8m 64k:4:16m 1m:8:32m
sum=$(md5sum </mnt/f)
umount /mnt
blockdev --flushbufs "$disk"
xfs_repair -n "$disk" >/run/fsck.log 2>&1 || { cat /run/fsck.log; fail "xfs_repair"; }
mount "$disk" /mnt
[ "$(md5sum </mnt/f)" = "$sum" ] || fail "the data changed"
umount /mnt
logout $iqn
stop_scstd
