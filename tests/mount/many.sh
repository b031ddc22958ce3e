#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Two hundred subvolumes mounted at once: within the limits of the daemon, and what each of them costs there.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

MANY=200
IDLE_KIB=128	# of the worker, for each mounted subvolume
USED_KIB=2048
export MANY IDLE_KIB USED_KIB

# A limit that the daemon has to raise by itself.
ulimit -Sn 128
make_pool 2G --inodes 300000
for ((i = 0; i < MANY; i++)); do
	make_subvolume "v$i" --size 8M --thin
done
make_subvolume last --size 8M
worker=$(nvfs pool show "$POOL" --json | sed -nE 's/.*"worker_pid": *([0-9]+).*/\1/p')
export worker POOL

# Resident and not of a file: memory of its own, and what it uses of the area.
resident_kib() {
	awk '/^(RssAnon|RssShmem):/ { kib += $2 } END { print kib }' "/proc/$worker/status"
}

costs_at_most() {
	local each=$((($2 - $1) / MANY))
	echo "$each KiB for each mounted subvolume; at most $3"
	[ $each -le "$3" ]
}

# What RocksDB and the buffers of requests need at first use counts for all of them.
mount_subvolume last
# shellcheck disable=SC2154
seq 500 | (cd "$MNT_last" && xargs touch)
sync -f "$MNT_last"
before=$(resident_kib)
for ((i = 0; i < MANY; i++)); do
	mount_subvolume "v$i"
done
idle=$(resident_kib)
export before idle

all_are_mounted_and_listed() {
	local name
	same "$(nvfs subvolume list "$POOL" --json | grep -o '"mounted": *true' | grep -c .)" $((MANY + 1))
	for name in v0 v$((MANY - 1)); do
		echo "$name" >"$WORK/mnt-$name/file"
		same "$(cat "$WORK/mnt-$name/file")" "$name"
	done
}

idle_ones_cost_little() {
	costs_at_most "$before" "$idle" "$IDLE_KIB"
}

# Read as a program reads them, then written back and known to no cache of a program.
used_ones_cost_what_is_promised() {
	local i used
	mkdir source
	for ((i = 0; i < 200; i++)); do
		head -c $((i % 10 * 700)) /dev/zero >source/file-$i
	done
	tar -C source -cf source.tar .
	for ((i = 0; i < MANY; i++)); do
		tar -C "$WORK/mnt-v$i" -xf source.tar
		ls -l "$WORK/mnt-v$i" >/dev/null
	done
	nvfs sync "$POOL"
	used=$(resident_kib)
	costs_at_most "$before" "$used" "$USED_KIB"
	cmp source/file-19 "$WORK/mnt-v$((MANY / 2))/file-19"
}

run_test all_are_mounted_and_listed
run_test idle_ones_cost_little
run_test used_ones_cost_what_is_promised
check_pool
finish
