# shellcheck shell=bash
# Process 1 of the guest: runs the scenarios of /run/vm/plan in turn and tells the host how each one ended.
#   plan            lines "NAME SECONDS", from the host
#   environment     assignments that the scenarios see, from the host
#   status/NAME     its exit status, for the host
exec </dev/console >/dev/console 2>&1
export HOME=/root USER=root LANG=C.UTF-8 TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
vm=/run/vm
set -a
# shellcheck source=/dev/null
. $vm/environment
set +a

grep -qsw vm /etc/hosts || echo "127.0.1.1 vm" >>/etc/hosts
if [ "${VM_NET:-}" = yes ]; then
    modprobe virtio_net
    busybox ip link set eth0 up && busybox ip addr add 10.0.2.15/24 dev eth0 && busybox ip route add default via 10.0.2.2
fi
modprobe -a iscsi_tcp sd_mod crc32c

while read -r name seconds; do
    dmesg --clear
    timeout --kill-after=5 "$seconds" bash "$vm/scenarios/$name.sh" </dev/null
    status=$?
    if [ $status != 0 ]; then
        [ $status = 124 ] && echo "time limit of $seconds s"
        dmesg | tail -20
        for log in /run/scstd.log /run/iscsid.log; do
            [ -s $log ] && echo "--- $log" && tail -30 $log
        done
    fi
    echo $status >"$vm/status/$name"
    # What a failed scenario leaves behind must not fail the next: the host gives the rest a fresh boot.
    [ $status = 0 ] || break
done <$vm/plan

# Not a shutdown: that would flush the caches of, and so wait for, disks whose target may be gone.
echo b >/proc/sysrq-trigger
sleep 60
