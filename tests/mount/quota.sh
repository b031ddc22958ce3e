#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A subvolume's limits are exact, are answered by the call that goes beyond them, and never stand in the way of overwriting
# and deleting.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

make_pool 1G
size=$((32 << 20))
export size

# Bytes that df says are left, and used.
left() { df --output=avail -B1 "$at" | tail -1 | tr -d ' '; }
used() { df --output=used -B1 "$at" | tail -1 | tr -d ' '; }
inodes_left() { df --output=iavail "$at" | tail -1 | tr -d ' '; }

# fill FILE [dd arguments]: writes until it is refused; fails when it is not, or for another reason.
fill() {
	local file=$1 status=0
	shift
	dd if=/dev/zero of="$file" bs=4096 count=$((2 * size / 4096)) status=none "$@" 2>fill.err || status=$?
	[ $status -ne 0 ] && grep -q 'No space left' fill.err || { cat fill.err; return 1; }
}

# Every test starts with a subvolume that holds two empty files: keep, so that the directory has a block all the time, and f.
limited() {
	nvfs subvolume create "$POOL:limited" --size $size --inodes 200 >/dev/null
	at=$WORK/limited
	mkdir -p "$at"
	mount.nvfs "$POOL:limited" "$at"
	: >"$at/keep"
	: >"$at/f"
	"$@"
	sync -f "$at"
	find "$at" -mindepth 1 -delete
	gone_in_time used 8192
	umount "$at"
	nvfs subvolume delete "$POOL:limited" --yes
}

# gone_in_time FUNCTION MOST: space that an unlinked file held may come back a little later.
gone_in_time() {
	local i
	for i in $(seq 600); do
		[ "$("$1")" -le "$2" ] && return
		sleep 0.1
	done
	echo "$1 is still $("$1")"
	return 1
}

# back_in_time FUNCTION VALUE: the same, to the last block.
back_in_time() {
	local i
	for i in $(seq 600); do
		[ "$("$1")" = "$2" ] && return
		sleep 0.1
	done
	same "$("$1")" "$2"
}

written_to_the_last_block() {
	local before
	before=$(left)
	fill "$at/f"
	same "$(left)" 0
	same "$(stat -c %s "$at/f")" "$before"
	fsync_all
	same "$(left)" 0
	fails dd if=/dev/zero of="$at/f" bs=4096 count=1 oflag=append conv=notrunc status=none
	same "$(stat -c %s "$at/f")" "$before"
}

fsync_all() { sync "$at"/* "$at"; }

direct_to_the_last_block() {
	local before
	before=$(left)
	fill "$at/f" oflag=direct
	same "$(left)" 0
	same "$(stat -c %s "$at/f")" "$before"
}

full_can_be_overwritten() {
	local i
	fill "$at/f"
	for i in 1 2 3; do
		head -c "$(stat -c %s "$at/f")" /dev/urandom >"$WORK/new"
		dd if="$WORK/new" of="$at/f" bs=64k conv=notrunc,fsync status=none
		cmp "$WORK/new" "$at/f"
	done
	dd if="$WORK/new" of="$at/f" bs=64k conv=notrunc oflag=direct status=none iflag=fullblock
	echo 3 >/proc/sys/vm/drop_caches
	cmp "$WORK/new" "$at/f"
}

full_can_be_deleted() {
	local before
	before=$(left)
	fill "$at/f"
	rm "$at/f"
	back_in_time left "$before"
	fill "$at/f"
	: >"$at/f"
	same "$(left)" "$before"
}

full_can_be_renamed_over() {
	fill "$at/f"
	: >"$at/empty"
	mv "$at/empty" "$at/f"
	same "$(stat -c %s "$at/f")" 0
	gone_in_time used $((size / 2))
}

holes_are_free() {
	local before
	before=$(left)
	truncate -s 1T "$at/f"
	same "$(left)" "$before"
	echo x | dd of="$at/f" bs=1 seek=500G conv=notrunc status=none
	[ $((before - $(left))) -le 4096 ]
	dd if=/dev/zero of="$at/g" bs=1M count=8 status=none
	fallocate -p -o 1M -l 4M "$at/g"
	sync "$at/g"
	[ $((before - $(left))) -le $(((4 << 20) + 8192)) ]
}

preallocation_is_charged() {
	local before
	before=$(left)
	fallocate -l 16M "$at/f"
	same $((before - $(left))) $((16 << 20))
	fails fallocate -l 64M "$at/g"
	same $((before - $(left))) $((16 << 20))
	# What was preallocated can be written, whoever fills the rest.
	fill "$at/h"
	same "$(left)" 0
	dd if=/dev/zero of="$at/f" bs=1M count=16 conv=notrunc,fsync status=none
	same "$(left)" 0
	fallocate -p -o 0 -l 16M "$at/f"
	same "$(left)" $((16 << 20))
}

unlinked_is_charged_while_open() {
	local before
	before=$(left)
	exec 9>"$at/f"
	head -c 8M /dev/urandom >&9
	rm "$at/f"
	[ $((before - $(left))) -ge $((8 << 20)) ]
	exec 9>&-
	gone_in_time used 8192
}

inodes_to_the_last_one() {
	local n before
	before=$(inodes_left)
	for ((n = 0; n < 300; n++)); do
		: 2>/dev/null >"$at/f$n" || break
	done
	same "$n" "$before"
	same "$(inodes_left)" 0
	fails mkdir "$at/d" 2>err
	grep -q 'No space left' err
	fails ln -s x "$at/l" 2>/dev/null
	# Another name for what is there needs none.
	ln "$at/f0" "$at/again"
	mv "$at/f1" "$at/moved"
	rm "$at/f2"
	mkdir "$at/d"
	rmdir "$at/d"
}

small_files_and_xattrs_are_charged() {
	local i before
	before=$(left)
	for i in $(seq 100); do
		echo "some text" >"$at/f$i"
	done
	[ "$(left)" -lt "$before" ]
	[ $((before - $(left))) -le $((101 * 4096)) ]
	sync -f "$at"
	[ $((before - $(left))) -le $((101 * 4096)) ]
	rm "$at"/f*
	back_in_time left "$before"
}

resized_while_full() {
	local before
	fill "$at/f"
	before=$(used)
	nvfs subvolume resize "$POOL:limited" --size $((2 * size)) >/dev/null
	dd if=/dev/zero of="$at/g" bs=1M count=16 conv=fsync status=none
	fails nvfs subvolume resize "$POOL:limited" --size $size 2>err
	cat err
	rm "$at/g"
	back_in_time used "$before"
	nvfs subvolume resize "$POOL:limited" --size $size >/dev/null
	same "$(left)" 0
}

counts_outlive_a_mount() {
	local before
	head -c 5000001 /dev/urandom >"$at/f"
	cp "$at/f" "$at/g"
	ln "$at/f" "$at/h"
	truncate -s 100M "$at/sparse"
	setfattr -n user.x -v "$(head -c 1000 /dev/zero | tr '\0' x)" "$at/f" || :
	fallocate -l 3M "$at/p"
	sync -f "$at"
	before=$(used)
	umount "$at"
	mount.nvfs "$POOL:limited" "$at"
	same "$(used)" "$before"
}

tail_of_a_partial_write_is_right() {
	local status=0 n before
	before=$(left)
	fill "$at/f"
	rm "$at/f"
	back_in_time left "$before"
	# One write call that is larger than what is left gets as far as there is room, and the size says how much.
	dd if=/dev/urandom of="$at/f" bs=64M count=1 iflag=fullblock status=none 2>/dev/null || status=$?
	[ $status -ne 0 ]
	n=$(stat -c %s "$at/f")
	same "$n" "$before"
	same "$(left)" 0
	sync "$at/f"
	echo 3 >/proc/sys/vm/drop_caches
	same "$(cat "$at/f" | wc -c)" "$n"
}

neighbours_do_not_share() {
	nvfs subvolume create "$POOL:neighbour" --size $size >/dev/null
	mkdir -p neighbour
	mount.nvfs "$POOL:neighbour" neighbour
	local before
	before=$(left)
	fill neighbour/f
	same "$(left)" "$before"
	fill "$at/f"
	rm -f neighbour/f
	umount neighbour
	nvfs subvolume delete "$POOL:neighbour" --yes
}

for t in written_to_the_last_block direct_to_the_last_block full_can_be_overwritten full_can_be_deleted \
	full_can_be_renamed_over holes_are_free preallocation_is_charged unlinked_is_charged_while_open \
	inodes_to_the_last_one small_files_and_xattrs_are_charged resized_while_full counts_outlive_a_mount \
	tail_of_a_partial_write_is_right neighbours_do_not_share; do
	TEST_NAME=$t run_test limited $t
	# What a failed test left.
	mountpoint -q "$WORK/limited" && umount "$WORK/limited"
	nvfs subvolume delete "$POOL:limited" --yes >/dev/null 2>&1
done
check_pool
finish
