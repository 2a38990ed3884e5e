# shellcheck shell=bash
# RFC 7143 12.1.3, CHAP: one-way and mutual, with every algorithm that open-iscsi offers, for discovery and for login.
. /run/vm/lib.sh
iqn=iqn.2024-01.test:chap

file=$(disk_file chap 64M)
start_scstd <<EOF
HANDLER vdisk_fileio {
    DEVICE disk {
        filename $file
    }
}
TARGET_DRIVER iscsi {
    enabled 1
    IncomingUser "finder finder-secret-1"
    TARGET $iqn {
        enabled 1
        IncomingUser "user user-secret-12"
        OutgoingUser "disk disk-secret-12"
        LUN 0 disk
    }
}
EOF
start_iscsid

# discovery_auth SECRET: what the next discovery says of itself.
discovery_auth() {
    sed -i '/^discovery.sendtargets.auth/d' /etc/iscsi/iscsid.conf
    printf '%s\n' "discovery.sendtargets.auth.authmethod = CHAP" "discovery.sendtargets.auth.username = finder" \
        "discovery.sendtargets.auth.password = $1" >>/etc/iscsi/iscsid.conf
}
step "discovery without and with a wrong secret"
refused discover
discovery_auth finder-secret-2
refused discover
step "discovery"
discovery_auth finder-secret-1
[ "$(discover)" = "$PORTAL,1 $iqn" ] || fail "discovery: $(discover)"

step "login without CHAP"
refused login $iqn
set_node $iqn node.session.auth.authmethod CHAP node.session.auth.username user node.session.auth.password user-secret-12
for algorithm in MD5 SHA1 SHA256 SHA3-256; do
    set_node $iqn node.session.auth.chap_algs $algorithm
    step "one-way, $algorithm"
    login $iqn
    disk=$(disk_of $iqn 0)
    write_random "$disk"
    logout $iqn
    step "mutual, $algorithm"
    set_node $iqn node.session.auth.username_in disk node.session.auth.password_in disk-secret-12
    login $iqn
    read_from "$(disk_of $iqn 0)" >/dev/null
    logout $iqn
    set_node $iqn node.session.auth.username_in "" node.session.auth.password_in ""
done

step "wrong secrets and names"
set_node $iqn node.session.initial_login_retry_max 1
set_node $iqn node.session.auth.password user-secret-13
refused login $iqn
set_node $iqn node.session.auth.username other node.session.auth.password user-secret-12
refused login $iqn
step "a target that does not know its own secret"
set_node $iqn node.session.auth.username user node.session.auth.username_in disk node.session.auth.password_in disk-secret-13
refused login $iqn
no_session $iqn || fail "there is a session after all"
stop_scstd
sed -i '/^discovery.sendtargets.auth/d' /etc/iscsi/iscsid.conf
