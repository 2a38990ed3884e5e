# shellcheck shell=bash
# LUN masking: two initiator names, each with LUNs of its own and one shared, which one of them may only read. A third
# name sees nothing.
. /run/vm/lib.sh
iqn=iqn.2024-01.test:masked
red=iqn.2024-01.test:red
blue=iqn.2024-01.test:blue

start_scstd <<EOF
HANDLER vdisk_fileio {
    DEVICE red {
        filename $(disk_file red 32M)
    }
    DEVICE blue {
        filename $(disk_file blue 48M)
    }
    DEVICE shared {
        filename $(disk_file shared 64M)
    }
}
TARGET_DRIVER iscsi {
    enabled 1
    TARGET $iqn {
        enabled 1
        GROUP red {
            LUN 0 red
            LUN 1 shared
            INITIATOR $red
        }
        GROUP blue {
            LUN 0 blue
            LUN 7 shared {
                read_only 1
            }
            INITIATOR iqn.*:BLU?
        }
    }
}
EOF
start_iscsid
for name in red blue; do
    iscsiadm -m iface -I $name -o new >/dev/null
    iscsiadm -m iface -I $name -o update -n iface.initiatorname -v "iqn.2024-01.test:$name" >/dev/null
    # With the portal group tag: without it the record would not be bound to the interface.
    iscsiadm -m node -T $iqn -p "$PORTAL,1" -I $name -o new >/dev/null
done

step "LUN sets"
login $iqn -I red
login $iqn -I blue
luns() { # INITIATOR: its "LUN:sectors", sorted
    local session device
    for session in /sys/class/iscsi_session/session*; do
        [ "$(<"$session/initiatorname")" = "$1" ] || continue
        for device in "$session"/device/target*/*:*:*:*/block/sd*; do
            local address=${device%/block/*}
            echo "${address##*:}:$(<"$device/size")"
        done
    done | sort | tr '\n' ' '
}
red_own=$(disk_of $iqn 0 $red) red_shared=$(disk_of $iqn 1 $red)
blue_own=$(disk_of $iqn 0 $blue) blue_shared=$(disk_of $iqn 7 $blue)
[ "$(luns $red)" = "0:65536 1:131072 " ] || fail "red has $(luns $red)"
[ "$(luns $blue)" = "0:98304 7:131072 " ] || fail "blue has $(luns $blue)"

step "read-only for blue, not for red"
[ "$(blockdev --getro "$red_shared")$(blockdev --getro "$blue_shared")" = 01 ] || fail "write protection"
blockdev --setrw "$blue_shared"
refused dd if=/dev/zero of="$blue_shared" bs=4k count=1 oflag=direct
write_random "$red_shared"
[ "$(read_from "$red_shared")" = "$(read_from "$blue_shared")" ] || fail "the shared LUN differs"
[ "$(read_from "$red_shared")" != "$(read_from "$red_own")" ] || fail "the shared LUN is red's own"
step "verified load of both at once"
fio_verify "$red_own:$blue_own" 4k:8:8m
cmp -s "$red_own" "$blue_own" && fail "the LUNs are one"

step "a third name"
iscsiadm -m node -T $iqn -p "$PORTAL" -o new >/dev/null
refused find_disk $iqn 0 iqn.2024-01.test:initiator
logout_all() { iscsiadm -m session -o show >/dev/null 2>&1 && iscsiadm -m node --logoutall=all >/dev/null; }
logout_all
wait_for 10 no_session $iqn || fail "a session is still there"
iscsiadm -m node -T $iqn -o delete
stop_scstd
