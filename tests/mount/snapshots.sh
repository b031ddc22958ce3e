#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Snapshots and clones through the nvfs command and mount(8): moments of busy volumes, groups, rollback, refusals.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

make_pool 4G
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
	! nvfs subvolume show "$POOL:$vol" >/dev/null 2>&1 || nvfs subvolume delete --yes "$POOL:$vol"
	nvfs snapshot list "$POOL:$vol" --json 2>/dev/null | sed -n 's/^ *"snapshot": "\(.*\)",$/\1/p' | while read -r s; do
		nvfs snapshot delete --yes "$POOL:$vol@$s"
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
	fails mount.nvfs "$(findmnt -n -o SOURCE --target "$snap")" "$snap" -o remount,rw 2>err
	grep -q 'nobody changes' err
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
	refused 'at most 1500 snapshots, and these are 1501' nvfs snapshot create --group $(seq -f "$POOL:v%.0f@one" 1501)
	refused 'names of these 300 snapshots need .* bytes' nvfs snapshot create --group $(seq -f "$POOL:v%.0f@${long:0:240}" 300)
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

# mapped FILE FLAG: stores a number into each page of a file of 96 MiB, without msync(2), makes FLAG, and keeps the mapping.
mapped() {
	truncate -s 96M "$1"
	exec python3 -c '
import mmap, sys, time
f = open(sys.argv[1], "r+b")
m = mmap.mmap(f.fileno(), 96 << 20)
for i in range(0, 96 << 20, 4096):
    m[i:i+8] = b"%08d" % (i >> 12)
open(sys.argv[2], "w").write("x")
time.sleep(600)' "$@"
}
# How many of its pages have their number.
count_mapped() {
	python3 -c '
import sys
d = open(sys.argv[1], "rb").read()
print(sum(d[i:i+8] == b"%08d" % (i >> 12) for i in range(0, 96 << 20, 4096)))' "$1"
}

pages_of_mmap_are_in_it() {
	need python3
	local pid
	rm -f stored
	(mapped "$at/m" "$PWD/stored") &
	pid=$!
	in_time test -s stored
	nvfs snapshot create "$POOL:$vol@one" 2>err
	same "$(cat err)" ""
	see one
	same "$(count_mapped "$snap/m")" 24576
	# Nobody who stays has it open.
	umount.fuse.nvfs "$snap"
	nvfs clone "$POOL:$vol" "$POOL:$vol-clone"
	kill $pid
	wait $pid || :
	umount.fuse.nvfs "$at"
	nvfs subvolume delete --yes "$POOL:$vol-clone"
}
TEST_NAME=pages_of_mmap_are_in_it run_test with_volume i pages_of_mmap_are_in_it

# The mount is in another namespace only, and hidden in this one.
pages_are_found_in_other_namespaces() {
	need python3
	local pid holder
	rm -f stored
	(mapped "$at/m" "$PWD/stored") &
	pid=$!
	in_time test -s stored
	unshare -m --propagation private sleep 600 &
	holder=$!
	# shellcheck disable=SC2016
	in_time sh -c '[ "$(readlink /proc/$1/ns/mnt)" != "$(readlink /proc/self/ns/mnt)" ]' in_time $holder
	umount -l "$at"
	nvfs snapshot create "$POOL:$vol@one" 2>err
	same "$(cat err)" ""
	mount -t tmpfs tmpfs "$WORK/mnt"
	kill $holder
	wait $holder || :
	# Nothing leads to it now but the mapping.
	nvfs snapshot create "$POOL:$vol@two" 2>err
	cat err
	grep -q "warning: .*mmap" err
	nvfs snapshot create --json "$POOL:$vol@three" 2>/dev/null | grep -q '"snapshot": "three"'
	umount "$WORK/mnt"
	see one
	same "$(count_mapped "$snap/m")" 24576
	kill $pid
	wait $pid || :
	in_time nvfs snapshot rollback --dry-run "$POOL:$vol@one"
}
TEST_NAME=pages_are_found_in_other_namespaces run_test with_volume j pages_are_found_in_other_namespaces

# Appends numbers to two files by turns, each durable before the next, so that at any moment they differ by at most one.
by_turns() {
	python3 -c '
import os, sys
a, b = (os.open(p, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for p in sys.argv[1:3])
n = 0
while not os.path.exists(sys.argv[3]):
    n += 1
    for f in (a, b):
        if os.write(f, b"%07d\n" % n) != 8:
            sys.exit("short write")
        if n % 16 == 0:
            os.fsync(f)' "$@"
}
last_of() { tail -n 1 "$1" | sed 's/^0*//'; }
# in_step A B: two such files.
in_step() {
	local a b
	a=$(last_of "$1") b=$(last_of "$2")
	[ $((${a:-0} - ${b:-0})) -ge 0 ] && [ $((${a:-0} - ${b:-0})) -le 1 ] && [ "$(stat -c %s "$1")" = $((${a:-0} * 8)) ] &&
		[ "$(wc -l <"$1")" = "${a:-0}" ] && return
	echo "out of step: $a and $b"
	return 1
}

# Renames a file through names 0, 1, 2, ...: always exactly one of them is there.
renames() {
	local i=0
	mkdir "$1"
	echo x >"$1/0"
	while [ ! -e "$2" ]; do
		mv "$1/$i" "$1/$((i + 1))"
		i=$((i + 1))
	done
}

# Opens, unlinks and writes; and files without names: none of it is in a listing, all of it is gone after the snapshot is a clone.
unlinked() {
	python3 -c '
import os, sys, time
d, stop = sys.argv[1:3]
os.mkdir(d)
kept = []
while not os.path.exists(stop):
    f = os.open(d + "/gone", os.O_RDWR | os.O_CREAT, 0o600)
    os.unlink(d + "/gone")
    t = os.open(d, os.O_TMPFILE | os.O_RDWR, 0o600)
    for x in (f, t):
        os.write(x, b"x" * 70000)
        kept.append(x)
    if len(kept) > 40:
        for x in kept[:20]:
            os.close(x)
        kept = kept[20:]
    time.sleep(0.002)' "$@"
}

wait_for_all() {
	local pid bad=0
	for pid; do
		wait "$pid" || { echo "a writer failed: $pid"; bad=1; }
	done
	return $bad
}

a_snapshot_is_a_moment() {
	need python3 tar
	local pids=() i stop=$PWD/stop
	rm -f "$stop"
	by_turns "$at/a" "$at/b" "$stop" & pids+=($!)
	renames "$at/names" "$stop" & pids+=($!)
	unlinked "$at/none" "$stop" & pids+=($!)
	(while [ ! -e "$stop" ]; do tar -C /usr/share -cf - perl5 common-licenses base-files 2>/dev/null | head -c 3000000 >"$at/t.tar"; done) &
	pids+=($!)
	(while [ ! -e "$stop" ]; do dd if=/dev/zero of="$at/direct" bs=256k count=20 oflag=direct conv=notrunc status=none || exit 1; done) &
	pids+=($!)
	in_time test -s "$at/b"
	in_time test -e "$at/direct"
	for i in 1 2 3 4 5 6; do
		take m$i
		see m$i
		in_step "$snap/a" "$snap/b"
		same "$(find "$snap/names" -type f 2>/dev/null | wc -l)" 1
		same "$(find "$snap/none" -mindepth 1 ! -name gone | wc -l)" 0
		sha256sum "$snap"/[ab] "$snap"/direct >sum$i
		umount.fuse.nvfs "$snap"
	done
	touch "$stop"
	wait_for_all "${pids[@]}"
	# What was written since changed none of them.
	for i in 1 2 3 4 5 6; do
		see m$i
		sha256sum -c --quiet sum$i
		umount.fuse.nvfs "$snap"
	done
	nvfs clone "$POOL:$vol@m3" "$POOL:$vol-c"
	mount.nvfs "$POOL:$vol-c" "$snap"
	in_step "$snap/a" "$snap/b"
	echo on >"$snap/none/f"
	umount.fuse.nvfs "$snap"
}
TEST_NAME=a_snapshot_is_a_moment run_test with_volume k a_snapshot_is_a_moment

a_group_of_many() {
	local i vols=()
	for ((i = 1; i <= 120; i++)); do
		vols+=("$POOL:many-$i")
		nvfs subvolume create "$POOL:many-$i" --size 1M --thin >/dev/null
	done
	same "$(nvfs snapshot create --group "${vols[@]/%/@all}" | wc -l)" 120
	same "$(nvfs snapshot list "$POOL" --json | jq '[.[] | select(.snapshot == "all") | .group] | unique | length')" 1
	exits_with 7 nvfs snapshot create --group "${vols[@]/%/@all}"
	for ((i = 1; i <= 120; i++)); do
		nvfs snapshot delete --yes "$POOL:many-$i@all" >/dev/null
		nvfs subvolume delete --yes "$POOL:many-$i" >/dev/null
	done
}
TEST_NAME=a_group_of_many run_test with_volume r a_group_of_many

a_group_is_one_moment() {
	need python3
	local pid i stop=$PWD/stop
	rm -f "$stop"
	nvfs subvolume create "$POOL:$vol-2" --size 64M >/dev/null
	mkdir -p "$WORK/second" "$WORK/snap2"
	mount.nvfs "$POOL:$vol-2" "$WORK/second"
	by_turns "$at/f" "$WORK/second/f" "$stop" &
	pid=$!
	in_time test -s "$WORK/second/f"
	for i in 1 2 3 4 5 6 7 8; do
		nvfs snapshot create --group "$POOL:$vol@g$i" "$POOL:$vol-2@g$i"
	done
	touch "$stop"
	wait $pid
	for i in 1 2 3 4 5 6 7 8; do
		see g$i
		mount.nvfs "$POOL:$vol-2@g$i" "$WORK/snap2"
		in_step "$snap/f" "$WORK/snap2/f"
		umount.fuse.nvfs "$WORK/snap2"
	done
	# They know that they were made together.
	same "$(nvfs snapshot show "$POOL:$vol@g1" | grep ^group)" "$(nvfs snapshot show "$POOL:$vol-2@g1" | grep ^group)"
	umount.fuse.nvfs "$WORK/second"
}
TEST_NAME=a_group_is_one_moment run_test with_volume l a_group_is_one_moment

# remount_with OPTIONS
remount_with() {
	umount.fuse.nvfs "$at"
	mount.nvfs "$POOL:$vol" "$at" -o "$1"
}

snapshots_are_browsed() {
	need python3
	remount_with snapdir
	mkdir -p "$at/d/e" "$at/mine"
	dd if=/dev/urandom of="$at/d/big" bs=1M count=3 status=none
	echo one >"$at/f"
	ln "$at/f" "$at/d/hard"
	ln -s ../f "$at/d/soft"
	setfattr -n user.k -v v "$at/f"
	chown 4321 "$at/mine"
	echo hers >"$at/mine/f"
	chmod 700 "$at/mine"
	tree_of "$at" >one
	same "$(ls -A "$at/.snapshots" | wc -l)" 0
	fails ls "$at/.snapshots/one" 2>/dev/null
	take one
	# It is there at once, and not where everything is listed.
	same "$(ls "$at/.snapshots")" one
	same "$(ls -A "$at" | grep -c snapshots)" 0
	tree_of "$at/.snapshots/one" | diff one -
	echo two >"$at/f"
	rm -r "$at/d"
	take two
	same "$(ls "$at/.snapshots" | tr '\n' ' ')" "one two "
	same "$(cat "$at/.snapshots/one/f" "$at/.snapshots/two/f" | tr '\n' ' ')" "one two "
	tree_of "$at/.snapshots/one" | diff one -
	# Inodes of two views are not one.
	[ "$(stat -c %i "$at/f")" != "$(stat -c %i "$at/.snapshots/one/f")" ]
	[ "$(stat -c %i "$at/.snapshots/two/f")" != "$(stat -c %i "$at/.snapshots/one/f")" ]
	same "$(stat -c %i "$at/.snapshots/one/f")" "$(stat -c %i "$at/.snapshots/one/d/hard")"
	# What the kernel has in its cache is as good without it.
	echo 2 >/proc/sys/vm/drop_caches
	tree_of "$at/.snapshots/one" | diff one -
	command -v setpriv >/dev/null || return 0
	chmod 755 "$WORK"
	same "$(setpriv --reuid 4321 --regid 4321 --clear-groups cat "$at/.snapshots/one/mine/f")" hers
	fails setpriv --reuid 4322 --regid 4322 --clear-groups cat "$at/.snapshots/one/mine/f"
	cp -a "$at/.snapshots/one/d" "$at/back"
	[ "$(sha256sum <"$at/back/big")" = "$(sha256sum <"$at/.snapshots/one/d/big")" ]
	same "$(df --output=target "$at/.snapshots/one" | tail -1)" "$at"
}
TEST_NAME=snapshots_are_browsed run_test with_volume n snapshots_are_browsed

nothing_changes_in_a_browsed_one() {
	local s=$at/.snapshots/one
	remount_with snapdir
	mkdir "$at/d"
	echo one >"$at/f"
	take one
	tree_of "$s" >one
	for i in "touch $s/f" "touch $s/new" "mkdir $s/new" "rm $s/f" "rmdir $s/d" "mv $s/f $s/g" "ln $s/f $s/g" "chmod 0 $s/f" \
		"chown 1 $s/f" "setfattr -n user.x -v y $s/f" "truncate -s 0 $s/f" "fallocate -l 4096 $s/f" "mkdir $at/.snapshots/new" \
		"rmdir $at/.snapshots" "mv $at/.snapshots $at/x" "mv $at/f $at/.snapshots" "touch $at/.snapshots/x" "rmdir $s" "ln -s x $s/y" \
		"ln $s/f $at/g" "ln $at/f $s/g" "mv -n --no-copy $at/f $s/g"; do
		# shellcheck disable=SC2086
		fails $i 2>err
	done
	fails dd if=/dev/zero of="$s/f" bs=4096 count=1 conv=notrunc status=none
	fails dd if=/dev/zero of="$s/f" bs=4096 count=1 conv=notrunc,fsync oflag=direct status=none
	python3 -c '
import errno, os, sys
s, at = sys.argv[1:]
for f in (lambda: os.link(s + "/f", at + "/g"), lambda: os.rename(s + "/f", at + "/g"), lambda: os.rename(at + "/f", s + "/g")):
    try:
        f()
        sys.exit("it worked")
    except OSError as e:
        if e.errno != errno.EXDEV:
            sys.exit(str(e))' "$s" "$at"
	tree_of "$s" | diff one -
	umount.fuse.nvfs "$at"
	mount.nvfs "$POOL:$vol" "$at"
	fails ls "$at/.snapshots" 2>/dev/null
	see one
	tree_of "$snap" | diff one -
}
TEST_NAME=nothing_changes_in_a_browsed_one run_test with_volume o nothing_changes_in_a_browsed_one

# A file of that name, from before: it is hidden, and there again without the option.
the_name_is_taken() {
	mkdir "$at/.snapshots"
	echo own >"$at/.snapshots/f"
	take one
	remount_with snapdir
	for i in 1 2; do
		same "$(ls -lA "$at" | grep -c snapshots)" 0
		same "$(ls "$at/.snapshots")" one
	done
	same "$(cat "$at/.snapshots/one/.snapshots/f")" own
	same "$(ls -lA "$at/.snapshots/one" | grep -c snapshots)" 1
	umount.fuse.nvfs "$at"
	mount.nvfs "$POOL:$vol" "$at"
	same "$(cat "$at/.snapshots/f")" own
}
TEST_NAME=the_name_is_taken run_test with_volume q the_name_is_taken

a_browsed_one_is_deleted() {
	need python3
	local pid
	rm -f opened
	remount_with snapdir
	echo old >"$at/f"
	mkdir "$at/d"
	take one
	take two
	cat "$at/.snapshots/one/f" "$at/.snapshots/two/f" >/dev/null
	python3 -c '
import errno, os, sys, time
os.chdir(sys.argv[1] + "/.snapshots/one/d")
f = os.open("../f", os.O_RDONLY)
open(sys.argv[2], "w").write("x")
while True:
    try:
        os.stat("../f")
        time.sleep(0.02)
    except OSError as e:
        break
os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
try:
    os.fstat(f)
    os.listdir(".")
    sys.exit("it can be read")
except OSError as e:
    sys.exit(0 if e.errno in (errno.ESTALE, errno.ENOENT) else str(e))' "$at" "$PWD/opened" &
	pid=$!
	in_time test -s opened
	nvfs snapshot delete --yes "$POOL:$vol@one"
	same "$(ls "$at/.snapshots")" two
	fails cat "$at/.snapshots/one/f" 2>err
	grep -q 'No such file' err
	wait $pid
	# The next one of that name is another one.
	echo new >"$at/f"
	take one
	same "$(cat "$at/.snapshots/one/f" "$at/.snapshots/two/f" | tr '\n' ' ')" "new old "
	# While somebody walks through it.
	(while ls -R "$at/.snapshots/two" >/dev/null 2>&1; do :; done) &
	pid=$!
	nvfs snapshot delete --yes "$POOL:$vol@two"
	wait $pid
	same "$(ls "$at/.snapshots")" one
}
TEST_NAME=a_browsed_one_is_deleted run_test with_volume p a_browsed_one_is_deleted

# Once the command has returned, it is there whatever happens.
a_snapshot_survives_the_daemon() {
	local pid
	dd if=/dev/urandom of="$at/f" bs=1M count=3 status=none
	tree_of "$at" >"$WORK/tree"
	take one
	for pid in $(pool_pids "$POOL" | sort -rn); do
		kill -KILL "$pid"
	done
	in_time fails nvfs pool show "$POOL" >/dev/null 2>&1
	umount "$at" || umount -l "$at"
	keep=yes
}
TEST_NAME=a_snapshot_survives_the_daemon run_test with_volume m a_snapshot_survives_the_daemon
kill -KILL "${SERVERS[$POOL]}" 2>/dev/null
wait "${SERVERS[$POOL]}" 2>/dev/null
in_time flock -n "$POOL_FILE" true # its last I/O
start_pool
it_is_there() {
	vol=m
	see one
	tree_of "$snap" | diff "$WORK/tree" -
	umount.fuse.nvfs "$snap"
}
run_test it_is_there

check_pool
finish
