# shellcheck shell=bash
# Sourced by the scenarios: small helpers. A scenario that reaches its end has passed; `fail` and any unexpected error
# end it with another status.

set -euo pipefail
trap 'step "failed at ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND" >&2' ERR
set -E

PORTAL=${PORTAL:-127.0.0.1:3260}
SCRATCH=/run/scratch
CONF=/run/scst.conf

# step TEXT: what follows, and when (seconds since the guest booted).
step() { local up _; read -r up _ </proc/uptime; echo "[$up] ${0##*/}: $*"; }
fail() { trap - ERR; step "FAIL: $*"; exit 1; }

# wait_for SECONDS COMMAND...: polls until COMMAND succeeds.
wait_for() {
    local end=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

# refused COMMAND...: COMMAND must fail.
refused() {
    if "$@" >/run/refused.log 2>&1; then fail "this should have been refused: $*"; fi
}

# ---------------------------------------------------------------- target --

listening() { grep -q ":$(printf %04X "${PORTAL##*:}") 0*:0000 0A " /proc/net/tcp; }

# start_scstd <CONFIG: starts the daemon with the configuration on standard input.
start_scstd() { cat >$CONF; launch_scstd; }

launch_scstd() {
    [ -e /run/scstd ] || cp /run/vm/scstd /run/scstd
    /run/scstd --config $CONF --state-dir /run/scst-state --iscsi-portal "$PORTAL" >>/run/scstd.log 2>&1 &
    scstd=$!
    wait_for 60 listening || fail "scstd does not listen on $PORTAL"
}

kill_scstd() { kill -9 "$scstd"; wait "$scstd" || true; }

# stop_scstd: it must stop in order and in time.
stop_scstd() {
    kill "$scstd"
    wait_for 20 gone "$scstd" || fail "scstd does not stop"
    wait "$scstd" || fail "scstd's exit status is $?"
}
gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.*zombie' "/proc/$1/status"; }

# disk_file NAME SIZE: a sparse backing file; prints its path.
disk_file() { rm -f "$SCRATCH/$1"; truncate -s "$2" "$SCRATCH/$1"; echo "$SCRATCH/$1"; }

# one_disk_config IQN FILE [TARGET ATTRIBUTES]: one target, LUN 0 is the file.
one_disk_config() {
    cat <<EOF
HANDLER vdisk_fileio {
    DEVICE disk {
        filename $2
    }
}
TARGET_DRIVER iscsi {
    enabled 1
    TARGET $1 {
        enabled 1
        ${3:-}
        LUN 0 disk
    }
}
EOF
}

# ------------------------------------------------------------- initiator --

# Without systemd it needs its lock directory and an initiator name; iscsiadm reaches it over an abstract socket.
start_iscsid() {
    mkdir -p /run/lock/iscsi
    echo "InitiatorName=iqn.2024-01.test:initiator" >/etc/iscsi/initiatorname.iscsi
    iscsid_runs || setsid iscsid -f </dev/null >/run/iscsid.log 2>&1 &
    wait_for 20 iscsid_runs || fail "no iscsid"
}
iscsid_runs() { grep -q ISCSIADM_ABSTRACT_NAMESPACE /proc/net/unix; }

node() { iscsiadm -m node -p "$PORTAL" "$@"; }

discover() { iscsiadm -m discovery -t sendtargets -p "$PORTAL" "$@"; }

# set_node IQN NAME VALUE...: changes settings of a node record.
set_node() {
    local iqn=$1; shift
    while [ $# -gt 0 ]; do node -T "$iqn" -o update -n "$1" -v "$2"; shift 2; done
}

login() { node -T "$1" --login "${@:2}" >/dev/null; }

logout() {
    node -T "$1" --logout "${@:2}" >/dev/null
    wait_for 10 no_session "$1" || fail "the session to $1 is still there"
}
no_session() { ! grep -qsx "$1" /sys/class/iscsi_session/*/targetname; }

# disk_of IQN LUN [INITIATOR]: waits for the disk and prints its device. (There is no udev to wait for.)
disk_of() {
    local device
    for _ in $(seq 200); do
        device=$(find_disk "$@") && { echo "$device"; return 0; }
        sleep 0.1
    done
    step "no disk for $*" >&2
    return 1
}

find_disk() {
    local session device
    for session in /sys/class/iscsi_session/session*; do
        [ "$(<"$session/targetname")" = "$1" ] || continue
        [ -z "${3:-}" ] || [ "$(<"$session/initiatorname")" = "$3" ] || continue
        for device in "$session"/device/target*/*:*:*:"$2"/block/sd*; do
            # Open only once it has its capacity, that is when sd has finished with it.
            if [ -e "$device/queue" ] && [ "$(<"$device/size")" != 0 ] && [ -b "/dev/${device##*/}" ]; then
                echo "/dev/${device##*/}"
                return 0
            fi
        done
    done
    return 1
}

# ------------------------------------------------------------------- load --

# fio_verify FILE JOB...: each JOB is BLOCKSIZE:DEPTH:TOTAL; random writes, then all is read back and compared. The jobs
# follow one another over the same range with data of their own, so that stale blocks are found.
fio_verify() {
    local file=$1 job bs depth total n=0; shift
    {
        printf '%s\n' "[global]" "filename=$file" ioengine=libaio direct=1 rw=randwrite verify=crc32c do_verify=1 \
            verify_fatal=1 verify_state_save=0 group_reporting
        for job in "$@"; do
            IFS=: read -r bs depth total <<<"$job"
            n=$((n + 1))
            printf '%s\n' "[bs=$bs-depth=$depth]" stonewall "bs=$bs" "iodepth=$depth" "size=$total" "randseed=$n"
        done
    } >/run/fio.job
    if ! fio --eta=never --output=/run/fio.log /run/fio.job || [ "$(grep -c ': err= 0' /run/fio.log)" != $# ]; then
        cat /run/fio.log
        fail "fio"
    fi
}

# read_from DEVICE: a digest of its first MiB, past all caches.
read_from() { dd if="$1" bs=64k count=16 iflag=direct status=none | md5sum; }

# write_random DEVICE: the first MiB, past all caches.
write_random() {
    dd if=/dev/urandom bs=64k count=16 iflag=fullblock status=none |
        dd of="$1" bs=64k oflag=direct iflag=fullblock conv=notrunc status=none
}

# check_ext4 DEVICE: what is on the disk, not in the cache, is a clean file system.
check_ext4() {
    blockdev --flushbufs "$1"
    e2fsck -fn "$1" >/run/fsck.log 2>&1 || { cat /run/fsck.log; fail "e2fsck"; }
}
