#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Snapshots and clones through the nvfs command and mount(8): moments of busy volumes, groups, rollback, refusals.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

make_pool 1G
export POOL
mnt=$WORK/mnt
snap=$WORK/snap
mkdir "$mnt" "$snap"
MOUNTS+=("$mnt" "$snap")

# with_volume NAME COMMAND...: on a fresh subvolume, mounted on $at; all that was made from it goes with it.
with_volume() {
	local vol=$1
	shift
	export at=$mnt vol
	nvfs subvolume create "$POOL:$vol" --size 128M >/dev/null
	mount.nvfs "$POOL:$vol" "$at"
	"$@"
	! mountpoint -q "$snap" || umount.fuse.nvfs "$snap"
	! mountpoint -q "$at" || umount.fuse.nvfs "$at"
	[ -z "${keep-}" ] || return 0
	! nvfs subvolume show "$POOL:$vol" >/dev/null 2>&1 || nvfs subvolume delete --yes --wait "$POOL:$vol"
	nvfs snapshot list "$POOL:$vol" --json 2>/dev/null | sed -n 's/^ *"snapshot": "\(.*\)",$/\1/p' | tac | while read -r s; do
		nvfs snapshot delete --yes --wait "$POOL:$vol@$s"
	done
}

take() { nvfs snapshot create "$POOL:$vol@$1"; }

# see NAME: the snapshot, on $snap.
see() {
	mountpoint -q "$snap" && umount.fuse.nvfs "$snap"
	mount.nvfs "$POOL:$vol@$1" "$snap"
}

# What is in a tree: names, kinds, owners, links, times, sizes, contents, attributes.
tree_of() {
	(
		cd "$1"
		find . -printf '%p %y %m %U:%G %n %s %l %T@\n' | sort
		find . -type f -print0 | sort -z | xargs -0r sha256sum
		find . -print0 | sort -z | xargs -0r getfattr -h -d -m - 2>/dev/null
	)
}

contents_stay_what_they_were() {
	mkdir -p "$at/d/e"
	dd if=/dev/urandom of="$at/big" bs=1M count=9 status=none
	echo small >"$at/d/small"
	ln "$at/big" "$at/d/hard"
	ln -s ../big "$at/d/soft"
	setfattr -n user.colour -v blue "$at/d/small"
	setfattr -n user.tree -v oak "$at/d"
	truncate -s 20M "$at/sparse"
	echo end | dd of="$at/sparse" bs=1 seek=15000000 conv=notrunc status=none
	mkfifo "$at/fifo"
	chmod 4711 "$at/d/small"
	chown 1234:2345 "$at/d/e"
	tree_of "$at" >before
	take one
	dd if=/dev/urandom of="$at/big" bs=1M count=3 conv=notrunc status=none
	truncate -s 0 "$at/sparse"
	rm -r "$at/d/e" "$at/fifo"
	setfattr -n user.colour -v red "$at/d/small"
	setfattr -x user.tree "$at/d"
	mv "$at/d/soft" "$at/elsewhere"
	echo more >"$at/new"
	tree_of "$at" >after
	see one
	tree_of "$snap" >there
	diff before there
	[ "$(stat -c %b "$snap/sparse")" -lt 100 ]
	same "$(stat -c %i "$snap/big")" "$(stat -c %i "$snap/d/hard")"
	# A snapshot changes nothing, and never anything in it.
	tree_of "$at" | diff after -
	fails touch "$snap/no" 2>err
	grep -q 'Read-only' err
	fails mount -o remount,rw "$snap"
	[[ $(findmnt -n -o OPTIONS --target "$snap") == ro,* ]]
	same "$(df --output=size -B1M "$snap" | tail -1 | tr -d ' ')" 128
}
TEST_NAME=contents_stay_what_they_were run_test with_volume a contents_stay_what_they_were

permissions_are_those_of_the_files() {
	command -v setpriv >/dev/null || { echo "setpriv is not installed"; exit 77; }
	mkdir "$at/mine" "$at/secret"
	echo hers >"$at/mine/f"
	echo no >"$at/secret/f"
	chown -R 4321:4321 "$at/mine"
	chmod 700 "$at/mine" "$at/secret"
	take one
	chmod -R 777 "$at/secret" "$at/mine"
	see one
	chmod 755 "$WORK"
	same "$(setpriv --reuid 4321 --regid 4321 --clear-groups cat "$snap/mine/f")" hers
	fails setpriv --reuid 4321 --regid 4321 --clear-groups cat "$snap/secret/f"
	fails setpriv --reuid 4321 --regid 4321 --clear-groups touch "$snap/mine/f"
}
TEST_NAME=permissions_are_those_of_the_files run_test with_volume b permissions_are_those_of_the_files

several_are_mounted_at_once() {
	local i
	for i in 1 2 3; do
		echo $i >"$at/f"
		take s$i
		mkdir -p "$WORK/s$i"
		mount.nvfs "$POOL:$vol@s$i" "$WORK/s$i"
	done
	echo now >"$at/f"
	same "$(cat "$WORK"/s[123]/f "$at/f" | tr '\n' ' ')" "1 2 3 now "
	exits_with 6 nvfs snapshot delete --yes "$POOL:$vol@s2"
	refused 's2.*mounted' nvfs snapshot delete --yes "$POOL:$vol@s2"
	refused 'mounted.*s2|s2.*mounted' mount.nvfs "$POOL:$vol@s2" "$snap"
	# The volume goes, its snapshots stay where they are.
	umount.fuse.nvfs "$at"
	same "$(cat "$WORK"/s[123]/f | tr '\n' ' ')" "1 2 3 "
	refused "still mounted:.*$vol@s1" nvfs pool stop "$POOL"
	for i in 1 2 3; do
		umount.fuse.nvfs "$WORK/s$i"
	done
}
TEST_NAME=several_are_mounted_at_once run_test with_volume c several_are_mounted_at_once

a_deleted_volume_leaves_its_snapshots() {
	echo kept >"$at/f"
	take one
	umount.fuse.nvfs "$at"
	nvfs subvolume delete --yes "$POOL:$vol"
	nvfs snapshot show "$POOL:$vol@one" | grep -q 'was deleted'
	same "$(nvfs snapshot list "$POOL:$vol" | wc -l)" 2
	see one
	same "$(cat "$snap/f")" kept
	umount.fuse.nvfs "$snap"
	# The name is free, and a snapshot of the other one is none of the new one's past.
	nvfs subvolume create "$POOL:$vol" --size 32M >/dev/null
	refused 'earlier subvolume' nvfs snapshot rollback --yes "$POOL:$vol@one"
	refused 'already' nvfs snapshot create "$POOL:$vol@one"
	nvfs clone "$POOL:$vol@one" "$POOL:back" --size 64M
	mount.nvfs "$POOL:back" "$snap"
	same "$(cat "$snap/f")" kept
	same "$(df --output=size -B1M "$snap" | tail -1 | tr -d ' ')" 64
	umount.fuse.nvfs "$snap"
	nvfs subvolume delete --yes "$POOL:back"
}
TEST_NAME=a_deleted_volume_leaves_its_snapshots run_test with_volume d a_deleted_volume_leaves_its_snapshots

rollback_goes_back_and_keeps_later_ones() {
	echo first >"$at/f"
	dd if=/dev/urandom of="$at/big" bs=1M count=4 status=none
	tree_of "$at" >before
	take one
	echo second >"$at/f"
	rm "$at/big"
	take two
	echo third >"$at/f"
	exits_with 6 nvfs snapshot rollback --yes "$POOL:$vol@one"
	refused 'mounted: unmount it first' nvfs snapshot rollback --yes "$POOL:$vol@one"
	umount.fuse.nvfs "$at"
	nvfs snapshot rollback --dry-run "$POOL:$vol@one" | grep -q 'would make'
	nvfs snapshot rollback --yes "$POOL:$vol@one"
	mount.nvfs "$POOL:$vol" "$at"
	tree_of "$at" | diff before -
	see two
	same "$(cat "$snap/f")" second
	umount.fuse.nvfs "$snap"
	umount.fuse.nvfs "$at"
	nvfs snapshot rollback --yes "$POOL:$vol@two"
	mount.nvfs "$POOL:$vol" "$at"
	same "$(cat "$at/f")" second
	nvfs snapshot delete --dry-run "$POOL:$vol@one" | grep -q "would delete snapshot $vol@one"
	same "$(nvfs snapshot list "$POOL:$vol" | wc -l)" 3
	keep=yes # for fsck
}
TEST_NAME=rollback_goes_back_and_keeps_later_ones run_test with_volume e rollback_goes_back_and_keeps_later_ones

clones_go_their_own_way() {
	echo origin >"$at/f"
	dd if=/dev/urandom of="$at/big" bs=1M count=5 status=none
	tree_of "$at" >before
	take one
	nvfs clone "$POOL:$vol@one" "$POOL:c1"
	nvfs clone "$POOL:$vol" "$POOL:c2" --thin
	same "$(nvfs snapshot list "$POOL:$vol" | wc -l)" 2
	mkdir -p "$WORK/c1" "$WORK/c2"
	mount.nvfs "$POOL:c1" "$WORK/c1"
	mount.nvfs "$POOL:c2" "$WORK/c2"
	tree_of "$WORK/c1" | diff before -
	tree_of "$WORK/c2" | diff before -
	echo one >"$WORK/c1/f"
	echo two >>"$WORK/c2/f"
	same "$(cat "$at/f" "$WORK/c1/f" "$WORK/c2/f" | tr '\n' ' ')" "origin one origin two "
	[ "$(sha256sum <"$at/big")" = "$(sha256sum <"$WORK/c1/big")" ]
	refused 'already|exists' nvfs clone "$POOL:$vol" "$POOL:c1"
	umount.fuse.nvfs "$WORK/c1"
	umount.fuse.nvfs "$WORK/c2"
	keep=yes # for fsck
}
TEST_NAME=clones_go_their_own_way run_test with_volume f clones_go_their_own_way

bad_input_gets_one_line() {
	local name long
	long=$(printf 'x%.0s' {1..300})
	for name in a/b a:b '' "$long" .hidden -x $'caf\xe9' 'a b'; do
		refused . nvfs snapshot create "$POOL:$vol@$name"
		refused . nvfs clone "$POOL:$vol" "$POOL:$name"
	done
	exits_with 2 nvfs snapshot create "$POOL:$vol@$long"
	exits_with 2 nvfs snapshot create "$POOL:$vol"
	exits_with 4 nvfs snapshot create "$POOL:nosuch@one"
	exits_with 4 nvfs snapshot show "$POOL:$vol@nosuch"
	exits_with 4 nvfs snapshot delete --yes "$POOL:$vol@nosuch"
	exits_with 4 nvfs snapshot rollback --yes "$POOL:$vol@nosuch"
	exits_with 4 nvfs snapshot list "$POOL:nosuch"
	exits_with 4 nvfs clone "$POOL:$vol@nosuch" "$POOL:new"
	exits_with 5 nvfs clone "$POOL:$vol" "$POOL:new" --size 900G
	exits_with 2 nvfs clone "$POOL:$vol" "$POOL:new" --size 0
	exits_with 2 nvfs clone "$POOL:$vol" "$POOL:new" --thin --reserved
	exits_with 2 nvfs clone "$POOL:$vol" "nowhere:new"
	exits_with 2 nvfs snapshot delete "$POOL:$vol@one"
	exits_with 2 nvfs snapshot create --group "$POOL:$vol@one" "$POOL:$vol@two"
	exits_with 2 nvfs snapshot create "$POOL:$vol@one" "$POOL:x@two"
	refused 'names a snapshot' nvfs subvolume show "$POOL:$vol@one"
	refused 'no snapshot' mount.nvfs "$POOL:$vol@one" "$snap"
	same "$(nvfs snapshot list "$POOL:$vol" | wc -l)" 1
	take one
	exits_with 7 nvfs snapshot create "$POOL:$vol@one"
	# A group is whole or not at all.
	nvfs subvolume create "$POOL:other" --size 16M >/dev/null
	exits_with 7 nvfs snapshot create --group "$POOL:other@one" "$POOL:$vol@one"
	exits_with 4 nvfs snapshot delete --yes "$POOL:other@one"
	nvfs subvolume delete --yes "$POOL:other"
	# Larger than the clone would be.
	dd if=/dev/zero of="$at/big" bs=1M count=20 status=none
	exits_with 5 nvfs clone "$POOL:$vol" "$POOL:new" --size 10M
	exits_with 4 nvfs subvolume show "$POOL:new"
}
TEST_NAME=bad_input_gets_one_line run_test with_volume g bad_input_gets_one_line

fstab_line_of_a_snapshot() {
	echo x >"$at/f"
	take one
	echo "$POOL:$vol@one $snap nvfs defaults 0 0" >fstab
	# shellcheck disable=SC2016
	with_mount_helpers bash -ec 'mount -a -T "$PWD/fstab"; mount -a -T "$PWD/fstab"; grep -c " $1 " /proc/self/mountinfo
		findmnt -n -o FSTYPE,SOURCE,OPTIONS --target "$1"; umount "$1"' fstab "$snap" >out
	cat out
	same "$(head -1 out)" 1
	grep -q "fuse.nvfs *$POOL:$vol@one *ro," out
	# umount(8) returned when it was closed.
	nvfs snapshot delete --dry-run "$POOL:$vol@one"
}
TEST_NAME=fstab_line_of_a_snapshot run_test with_volume h fstab_line_of_a_snapshot

check_pool
finish
