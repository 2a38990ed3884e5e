# shellcheck shell=bash
# kill -9 of scstd under a verified load: the initiator recovers, no write that was acknowledged is lost.
. /run/vm/lib.sh
iqn=iqn.2024-01.test:crash

file=$(disk_file crash 128M)
start_scstd < <(one_disk_config $iqn "$file")
start_iscsid
discover >/dev/null
login $iqn
disk=$(disk_of $iqn 0)

# A flush after every 64 writes; the fixed seed lets the second fio below know what the first one wrote.
job="--name=load --size=64m --bs=16k --rw=randwrite --randseed=7 --verify=crc32c --verify_fatal=1 --verify_state_save=0"
# shellcheck disable=SC2086
fio $job --filename="$disk" --direct=1 --ioengine=libaio --iodepth=16 --rate_iops=300 --fsync=64 --do_verify=1 \
    --eta=never --output=/run/fio.log &
load=$!

writes_done() { local stat; read -ra stat <"/sys/block/${disk##*/}/stat"; [ "${stat[4]}" -ge "$1" ]; }
for after in 500 1500 2500; do
    wait_for 60 writes_done $after || fail "the load does not get on"
    kill_scstd
    gone $load && fail "the load ended too early"
    step "killed after at least $after writes"
    launch_scstd
done
wait $load || { cat /run/fio.log; fail "fio"; }
step "the initiator has recovered and read back all it wrote"
logout $iqn
stop_scstd

step "the backing file holds all of it"
# shellcheck disable=SC2086
fio $job --filename="$file" --verify_only --eta=never --output=/run/fio.log || { cat /run/fio.log; fail "the file lacks data"; }
