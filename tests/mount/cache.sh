#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the kernel has cached is not asked for again: counted by the requests that reach the pool.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

make_pool 512M
make_subvolume cache --size 200M
mount_subvolume cache
# shellcheck disable=SC2154	# mount_subvolume sets it
at=$MNT_cache

# Read requests that reached the subvolume so far.
reads() {
	nvfs subvolume show "$POOL:cache" --json | grep -oE '"reads": *[0-9]+' | grep -oE '[0-9]+$'
}

# All requests of the mount so far.
requests() {
	nvfs pool show "$POOL" --json | grep -oE '"requests": *[0-9]+' | grep -oE '[0-9]+$'
}

read_bytes() {
	nvfs subvolume show "$POOL:cache" --json | grep -oE '"read_bytes": *[0-9]+' | grep -oE '[0-9]+$'
}

# no_reads COMMAND...: what it reads, megabytes, must be cached. The kernel may take back single pages at any time (DAMON does),
# and reads each of them again with its neighbours: that much is not the cache of a file.
no_reads() {
	local before after
	before=$(read_bytes)
	"$@" >/dev/null
	after=$(read_bytes)
	[ -n "$before" ] && [ $((after - before)) -le $((512 << 10)) ] ||
		{ echo "$* read $((after - before)) bytes from the pool"; return 1; }
}

drop_caches() {
	sync -f "$at" && echo 3 >/proc/sys/vm/drop_caches
}

read_around_the_cache() {
	dd if="$1" of=/dev/null bs=64k iflag=direct status=none
}

random_file() {
	dd if=/dev/urandom of="$1" bs=1M count="$2" status=none
}

reads_are_counted() {
	local before
	random_file "$at/counted" 4
	before=$(reads)
	read_around_the_cache "$at/counted"
	[ "$(reads)" -gt "$before" ] || { echo "still $before reads after an uncached file was read"; return 1; }
}

what_was_written_is_cached() {
	random_file "$at/written" 8
	no_reads cat "$at/written"
}

stat_after_write_keeps_the_cache() {
	random_file "$at/stat" 8
	stat "$at/stat" >/dev/null
	no_reads cat "$at/stat"
	printf hello | dd of="$at/stat" bs=1 seek=100000 conv=notrunc status=none
	sleep 1.5
	stat "$at/stat" >/dev/null
	no_reads cat "$at/stat"
	same "$(dd if="$at/stat" bs=1 skip=100000 count=5 status=none)" hello
	# Also when the change came some time ago and was written back since.
	sync "$at/stat"
	sleep 5
	stat "$at/stat" >/dev/null
	no_reads cat "$at/stat"
}

appends_keep_the_cache() {
	local i
	random_file "$at/append" 4
	for i in $(seq 50); do
		echo "line $i" >>"$at/append"
		stat "$at/append" >/dev/null
	done
	no_reads head -c 4M "$at/append"
}

close_and_open_keep_the_cache() {
	random_file "$at/open" 8
	drop_caches
	cat "$at/open" >/dev/null
	no_reads cat "$at/open"
	no_reads cmp "$at/open" "$at/open"
	no_reads dd if="$at/open" of=/dev/null bs=4k skip=100 status=none
}

attributes_keep_the_cache() {
	random_file "$at/attr" 8
	cat "$at/attr" >/dev/null
	chmod 600 "$at/attr"
	touch -d yesterday "$at/attr"
	mv "$at/attr" "$at/attr2"
	ln "$at/attr2" "$at/attr3"
	no_reads cat "$at/attr3"
}

direct_write_drops_what_it_replaces() {
	random_file "$at/direct" 4
	cat "$at/direct" >/dev/null
	random_file new 1
	dd if=new of="$at/direct" bs=1M seek=1 conv=notrunc oflag=direct status=none
	cmp -i 1048576:0 -n 1048576 "$at/direct" new
}

stat_is_answered_by_the_kernel() {
	local before after
	random_file "$at/s" 1
	stat "$at/s" >/dev/null
	before=$(requests)
	find "$at/s" "$at/s" "$at/s" "$at/s" "$at/s" "$at/s" "$at/s" "$at/s" -printf '%s\n' >/dev/null
	for _ in $(seq 200); do
		[ -f "$at/s" ] && [ -s "$at/s" ]
	done
	after=$(requests)
	echo "$((after - before)) requests"
	[ $((after - before)) -lt 20 ]
}

missing_names_are_remembered() {
	local before after
	[ ! -e "$at/none" ]
	before=$(requests)
	for _ in $(seq 200); do
		[ ! -e "$at/none" ]
	done
	after=$(requests)
	echo "$((after - before)) requests"
	[ $((after - before)) -lt 20 ]
	echo x >"$at/none"
	[ -e "$at/none" ]
}

opening_asks_nobody() {
	local before after
	random_file "$at/o" 1
	cat "$at/o" >/dev/null
	before=$(requests)
	for _ in $(seq 200); do
		cat "$at/o" >/dev/null
	done
	after=$(requests)
	echo "$((after - before)) requests"
	[ $((after - before)) -lt 20 ]
}

# An old access time, then a read that reaches the pool; prints whether the time moved. The kernel itself does not expect a
# direct read to change it, so it has to be asked.
read_after_a_day() {
	random_file "$at/atime" 1
	touch -a -d '2 days ago' "$at/atime"
	local before
	before=$(stat --cached=never -c %X "$at/atime")
	read_around_the_cache "$at/atime"
	if [ "$(stat --cached=never -c %X "$at/atime")" != "$before" ]; then echo moved; else echo stays; fi
}

relatime_counts_reads_that_reach_the_pool() {
	remount_subvolume cache relatime
	same "$(read_after_a_day)" moved
	# Once it is newer than the last change it stays for a day.
	local before
	before=$(stat --cached=never -c %.9X "$at/atime")
	read_around_the_cache "$at/atime"
	same "$(stat --cached=never -c %.9X "$at/atime")" "$before"
}

noatime_counts_none() {
	remount_subvolume cache noatime
	same "$(read_after_a_day)" stays
	touch -a -d '3 days ago' "$at/atime"
	[ "$(stat --cached=never -c %X "$at/atime")" -lt "$(date -d '2 days ago' +%s)" ]
}

read_only_is_read_only() {
	echo x >"$at/ro"
	remount_subvolume cache ro
	same "$(cat "$at/ro")" x
	fails touch "$at/ro" 2>err
	grep -q 'Read-only' err
	remount_subvolume cache
	touch "$at/ro"
}

# Somebody else on the machine may have dropped the caches in between: then once more.
in_peace() {
	local _
	for _ in 1 2; do
		# In the background, because bash ignores set -e in what stands before &&.
		(set -e; "$@") &
		wait $! && return
	done
	"$@"
}

for t in reads_are_counted what_was_written_is_cached stat_after_write_keeps_the_cache appends_keep_the_cache \
	close_and_open_keep_the_cache attributes_keep_the_cache direct_write_drops_what_it_replaces \
	stat_is_answered_by_the_kernel missing_names_are_remembered opening_asks_nobody \
	relatime_counts_reads_that_reach_the_pool noatime_counts_none read_only_is_read_only; do
	TEST_NAME=$t run_test in_peace $t
done
check_pool
finish
