#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An attack on the control socket, by root, an owner of a tenant and a stranger: malformed, huge, slow and half requests, clients that never
# read or die in the middle, too many of them. Each gets one clear line; others are served meanwhile, and the daemon neither dies nor grows.
# attack.py has the clients. About half a minute.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

command -v python3 >/dev/null || skip_suite "python3 is not installed"
make_pool 256M
nvfs tenant create "$POOL/red" --provisioned 100M --owner-uid 61020 >/dev/null || die "no tenant"
nvfs tenant create "$POOL/blue" --owner-uid 61021,61022,61023,61024 >/dev/null || die "no tenant"
make_subvolume mine --size 8M --inodes 3000 --tenant red
make_subvolume yours --size 8M --tenant blue
mount_subvolume mine
mount_subvolume yours
chmod 0777 "$WORK"
chmod 0777 "$WORK/mnt-mine" "$WORK/mnt-yours"
nvfs snapshot create "$POOL:mine@s" >/dev/null || die "no snapshot"
for ((i = 0; i < 1500; i++)); do
	: >"$WORK/mnt-mine/some.$i"
done
socket=$(grep -oE -m 1 "/[^ ]*/$POOL\.sock" /proc/net/unix)

attack() { python3 "$NVFS_SRCDIR/tests/mount/attack.py" "$socket" "$WORK" "$1"; }

# What there is, as programs see it.
inventory() {
	nvfs subvolume list "$POOL" --json | grep -E '"(name|size_bytes|inodes|tenant)"'
	nvfs snapshot list "$POOL" --json | grep -E '"(subvolume|snapshot)"'
	nvfs tenant list "$POOL" --json | grep -E '"(name|provisioned_bytes)"'
}

before=$(inventory)
for t in wrong_requests_of_root wrong_requests_of_an_owner stranger_hears_one_line places_of_owners places_of_administrators \
	places_of_followers ownership_ends_a_diff descriptors_of_an_owner_that_linger descriptors_of_a_stranger_that_linger storm; do
	TEST_NAME=$t run_test attack $t
done
nothing_is_left_of_it() {
	nvfs subvolume resize "$POOL:yours" --size 8M >/dev/null
	same "$(inventory)" "$before"
}
run_test nothing_is_left_of_it
check_pool
finish
