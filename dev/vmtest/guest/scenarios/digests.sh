# shellcheck shell=bash
# RFC 7143 13.1: header and data digest are negotiated each on its own.
. /run/vm/lib.sh
iqn=iqn.2024-01.test:digests

start_scstd < <(one_disk_config $iqn "$(disk_file digests 64M)" "HeaderDigest CRC32C,None
        DataDigest CRC32C,None")
start_iscsid
discover >/dev/null
for header in None CRC32C; do
    for data in None CRC32C; do
        step "HeaderDigest $header, DataDigest $data"
        set_node $iqn node.conn[0].iscsi.HeaderDigest $header node.conn[0].iscsi.DataDigest $data
        login $iqn
        negotiated=$(cat /sys/class/iscsi_connection/connection*/header_digest)/$(cat /sys/class/iscsi_connection/connection*/data_digest)
        wanted=$header/$data
        wanted=${wanted//None/0}
        [ "$negotiated" = "${wanted//CRC32C/1}" ] || fail "negotiated $negotiated"
        fio_verify "$(disk_of $iqn 0)" 512:4:128k 4k:8:2m 256k:4:8m
        logout $iqn
    done
done
stop_scstd
