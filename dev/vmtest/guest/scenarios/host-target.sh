# shellcheck shell=bash
# The target runs on the host at its own speed, so that the load is higher. SendTargets answers with an address of the
# host, hence the hand-made record.
. /run/vm/lib.sh
iqn=iqn.2024-01.test:host

start_iscsid
node -T $iqn -o new >/dev/null
login $iqn
disk=$(disk_of $iqn 0)
step "raw disk"
fio_verify "$disk" 4k:1:4m 4k:32:32m 16k:64:64m 1m:32:256m
step "ext4"
mkfs.ext4 -q -F "$disk"
mount -o discard "$disk" /mnt
fio_verify /mnt/f 4k:32:16m 128k:16:128m
rm /mnt/f
umount /mnt
check_ext4 "$disk"
logout $iqn
