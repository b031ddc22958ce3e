#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Limits are exact to the block and to the inode, in whatever way a subvolume is filled (nvfs-exact), by one writer and by ten,
# while it is resized, and after the daemon was killed. EXACT_ONLY limits it to the cases of that name pattern.
# shellcheck disable=SC2154 # MNT_*: mount_subvolume sets them
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/mount/exact_lib.sh
. "$(dirname "$0")/exact_lib.sh"

# ---- While ten are at it

limits_of_busy_ones_move() {
	local size inodes refused=0 done=0
	ten_busy_ones "$MNT_large" 16384
	for _ in $(seq 60); do
		size=$((4096 * (RANDOM % 9000 + 200))) inodes=$((RANDOM % 400 + 20))
		in_bounds large
		if nvfs subvolume resize "$POOL:large" --size $size --inodes $inodes >out 2>err; then
			done=$((done + 1))
			same "$(df --output=size,itotal -B4096 "$MNT_large" | tail -1 | tr -s ' ')" " $((size / 4096)) $inodes"
		else
			refused=$((refused + 1))
			grep -qE '^nvfs: .*: [0-9.]+ [KMG]iB and [0-9]+ inodes are in use; that much is the smallest that would work$' err ||
				{ cat err; return 1; }
		fi
		in_bounds large
	done
	enough
	echo "$done resizes were done and $refused refused"
	[ $done -gt 3 ] && [ $refused -gt 3 ]
	same "$(($(df --output=used -B4096 "$MNT_large" | tail -1)))" $(($(blocks_below "$MNT_large")))
}

# To the block and the inode, on what the busy ones left.
resized_to_what_is_used() {
	local used inodes
	in_time settled large "$MNT_large"
	used=$(used_of large) inodes=$(state_of large | field used_inodes)
	nvfs subvolume resize "$POOL:large" --size "$used" --inodes "$inodes" >/dev/null
	same "$(df --output=avail -B1 "$MNT_large" | tail -1 | tr -d ' ')" 0
	same "$(df --output=iavail "$MNT_large" | tail -1 | tr -d ' ')" 0
	exits_with 6 nvfs subvolume resize "$POOL:large" --size $((used - 4096))
	exits_with 6 nvfs subvolume resize "$POOL:large" --inodes $((inodes - 1))
	refused 'No space left' mkdir "$MNT_large/more"
	same "$(used_of large)" "$used"
	nvfs subvolume resize "$POOL:large" --inodes $((inodes + 1)) --size $((used + 8192)) >/dev/null
	head -c 20000 /dev/zero >"$MNT_large/more" 2>err && return 1
	same "$(df --output=avail,iavail -B1 "$MNT_large" | tail -1 | tr -s ' ')" " 0 0"
	rm -r "${MNT_large:?}"/*
}

used_is_what_is_there() {
	in_time settled large "$MNT_large"
}

# Killed while ten write: what is charged afterwards is what a scan finds, to the block.
crash_round() {
	ten_busy_ones "$MNT_large" 16384
	in_time more_than_a_mib
	sleep 0.$((RANDOM % 10)) # at any moment
	kill_pool
	kill "$busy" 2>/dev/null
	wait "$busy" 2>/dev/null
	umount "$MNT_large" || umount -l "$MNT_large"
	TEST_NAME=fsck_after_a_kill run_test fsck_finds_nothing "$POOL_FILE"
	start_pool
	mount_subvolume large
	run_test used_is_what_is_there
}
more_than_a_mib() { [ "$(used_of large)" -gt $((1 << 20)) ]; }

make_pool 512M
make_subvolume small --size 256K --inodes 300
make_subvolume large --size 64M --inodes 5000
make_subvolume packed --size 16M --inodes 1000 --compression lz4
mount_subvolume small
cases small "$MNT_small" 64 300 --only by_bytes --only inodes_to_the_last_one --only '*alike*' --only tmpfile_counts
mount_subvolume large
cases large "$MNT_large" 16384 5000 --skip by_bytes
mount_subvolume packed
cases lz4 "$MNT_packed" 4096 1000 --only 'full*' --only over_holes_and_blocks --only 'map*' \
	--only by_mapping --only ten_writers_get_all_of_it
unmount_subvolume small
unmount_subvolume packed
run_test limits_of_busy_ones_move
run_test resized_to_what_is_used
nvfs subvolume resize "$POOL:large" --size 20M --inodes 4000 >/dev/null
cases resized "$MNT_large" 5120 4000 --only by_1m --only inodes_to_the_last_one --only ten_writers_get_all_of_it
for _ in 1 2 3; do
	crash_round
done
rm -r "${MNT_large:?}"/*
cases after_kills "$MNT_large" 5120 4000 --only by_1m --only inodes_to_the_last_one --only ten_writers_get_all_of_it
check_pool
finish
