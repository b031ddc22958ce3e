#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Limits of operations and bytes a second: who is beyond one waits, nobody else does, and nothing fails. The limit is one byte a
# second, so that what comes after a first MiB waits until the limit is taken away.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

make_pool 512M
make_subvolume limited --size 96M
make_subvolume free --size 64M
mount_subvolume limited
mount_subvolume free
# shellcheck disable=SC2154
limited=$MNT_limited free=$MNT_free

limit() { nvfs subvolume set "$POOL:limited" "$@" >/dev/null; }
lift() { limit --read-iops none --write-iops none --read-bps none --write-bps none; }

# stat NAME: a number from the statistics of the limited one.
stat_of() { nvfs subvolume show "$POOL:limited" --json | grep -oE "\"$1\": *[0-9]+" | grep -oE '[0-9]+$'; }
waiting() { [ "$(stat_of throttled_now)" = "$1" ]; }
any_waits() { [ "$(stat_of throttled_now)" -gt 0 ]; }

into_debt() {
	limit --write-bps 1
	dd if=/dev/zero of="$limited/debt" bs=1M count=1 oflag=direct status=none
}

limits_are_shown() {
	limit --read-iops 100 --write-bps 20M
	nvfs subvolume show "$POOL:limited" >shown
	cat shown
	grep -qx 'read iops    100/s' shown
	grep -qxE 'write bps    20M/s' shown
	fails grep -qE 'write iops|read bps' shown
	limit --read-iops none --write-iops 7
	nvfs subvolume show "$POOL:limited" >shown
	grep -qx 'write iops   7/s' shown
	grep -qxE 'write bps    20M/s' shown
	fails grep -q 'read iops' shown
	remount_subvolume limited
	nvfs subvolume show "$POOL:limited" | cmp - shown
	lift
	nvfs subvolume show "$POOL:limited" >shown
	fails grep -qE 'iops|bps' shown
}

bad_limits_are_refused() {
	refused 'say what to change' nvfs subvolume set "$POOL:limited"
	refused 'no whole number' nvfs subvolume set "$POOL:limited" --read-iops 0
	refused 'no whole number' nvfs subvolume set "$POOL:limited" --write-iops many
	refused 'no size' nvfs subvolume set "$POOL:limited" --write-bps fast
	refused 'at most' nvfs subvolume set "$POOL:limited" --read-iops 1125899906842625
	refused 'no subvolume' nvfs subvolume set "$POOL:nosuch" --read-iops 1
	nvfs subvolume show "$POOL:limited" >shown
	fails grep -qE 'iops|bps' shown
}

beyond_the_limit_it_waits() {
	into_debt
	head -c 300000 /dev/urandom >data
	cp data "$limited/waits" &
	pid=$!
	in_time any_waits
	# The other one, and what of this one is not limited, go on.
	dd if=/dev/zero of="$free/f" bs=64k count=100 conv=fsync status=none
	sync "$limited/debt"
	mkdir "$limited/d"
	cmp <(head -c 1M /dev/zero) <(dd if="$limited/debt" bs=1M iflag=direct status=none)
	any_waits
	kill -0 $pid
	lift
	wait $pid
	cmp data "$limited/waits"
	waiting 0
}

# Far more than a session holds, of small and of large requests: the other one's go through the same buffers.
many_wait_and_take_nothing() {
	local i pids=() size
	for size in 4k 1M; do
		into_debt
		pids=()
		for i in $(seq 40); do
			dd if=/dev/zero of="$limited/many$i" bs=$size count=1 oflag=direct status=none &
			pids+=($!)
		done
		in_time any_waits
		dd if=/dev/zero of="$free/g" bs=1M count=32 oflag=direct status=none
		rm "$free/g"
		[ "$(stat_of throttled_now)" -le 16 ]
		lift
		wait "${pids[@]}"
		same "$(find "$limited" -name 'many*' -size +0 | wc -l)" 40
		rm "$limited"/many*
	done
}

waits_are_counted() {
	local i before after
	before=$(stat_of throttled_ops)
	limit --write-iops 20
	for i in $(seq 8); do mkdir "$limited/count$i"; done
	lift
	after=$(stat_of throttled_ops)
	# The first two are the burst.
	[ $((after - before)) -ge 1 ] && [ $((after - before)) -le 8 ]
	[ "$(stat_of throttled_ns)" -gt 0 ]
	# By the limit, and for no other.
	nvfs subvolume show "$POOL:limited" --json | tr -d ' \n' >json
	grep -qE '"throttled_by":\{"subvolume":\{"read_iops":\{"ops":0,"ns":0\},"write_iops":\{"ops":[1-9][0-9]*,"ns":[1-9]' json
	grep -qE '"tenant":\{("[a-z_]*":\{"ops":0,"ns":0\},?){4}\}' json
	rmdir "$limited"/count*
}

a_read_limit_is_for_reads() {
	dd if=/dev/urandom of="$limited/r" bs=1M count=2 oflag=direct status=none
	limit --read-bps 1
	dd if="$limited/r" of=/dev/null bs=1M count=1 iflag=direct status=none
	dd if="$limited/r" of=/dev/null bs=4k skip=256 count=1 iflag=direct status=none &
	in_time waiting 1
	dd if=/dev/zero of="$limited/w" bs=1M count=4 conv=fsync status=none
	waiting 1
	lift
	wait $!
}

# What one subvolume of a tenant uses up, the other lacks; another tenant's does not.
a_tenant_shares_its_limits() {
	local dir=$WORK/mnt-shared name
	nvfs tenant create "$POOL/team"
	for name in one two; do
		nvfs subvolume create "$POOL:$name" --tenant team --size 16M --thin >/dev/null
		mkdir -p "$dir-$name"
		mount.nvfs "$POOL:$name" "$dir-$name"
	done
	nvfs tenant set "$POOL/team" --write-bps 1
	dd if=/dev/zero of="$dir-one/debt" bs=1M count=1 oflag=direct status=none
	dd if=/dev/zero of="$dir-two/waits" bs=4k count=1 oflag=direct status=none &
	in_time waits_of two
	dd if=/dev/zero of="$free/h" bs=1M count=4 oflag=direct status=none
	waits_of two
	nvfs tenant set "$POOL/team" --write-bps none
	wait $!
	in_time waits_of two 0
	# What the tenant's limit held is in its counters and in the subvolume's.
	nvfs tenant show "$POOL/team" --json | tr -d ' \n' | grep -qE '"tenant":\{.*"write_bps":\{"ops":1,"ns":[1-9]'
	nvfs subvolume show "$POOL:two" --json | tr -d ' \n' | grep -qE '"tenant":\{.*"write_bps":\{"ops":1,"ns":[1-9]'
	nvfs tenant set "$POOL/team" --write-bps 1G
	nvfs tenant show "$POOL/team" | grep -qE '^write bps +1G/s; 1 requests waited [0-9.]+ s for it$'
	nvfs tenant set "$POOL/team" --write-bps none
	for name in one two; do
		unmount_dir "$dir-$name"
		nvfs --yes subvolume delete "$POOL:$name"
	done
	rm "$free/h"
}
waits_of() { nvfs subvolume show "$POOL:$1" --json | grep -qE "\"throttled_now\": *${2-1}\b"; }

a_killed_writer_goes_at_once() {
	into_debt
	dd if=/dev/zero of="$limited/k" bs=4k count=1 status=none &
	in_time any_waits
	kill -KILL $!
	fails_by_signal=0
	wait $! || fails_by_signal=$?
	same $fails_by_signal 137
	in_time waiting 0
	lift
}

an_aborted_mount_ends() {
	local minor pid
	into_debt
	dd if=/dev/zero of="$limited/a" bs=4k count=1 oflag=direct status=none 2>/dev/null &
	pid=$!
	in_time any_waits
	minor=$(awk -v d="$limited" '$5 == d { split($3, n, ":"); print n[2] }' /proc/self/mountinfo)
	mkdir -p connections
	mount -t fusectl none connections
	echo 1 >"connections/$minor/abort"
	umount connections
	fails wait $pid
	umount "$limited"
	in_time closed
	lift
	mount_subvolume limited
	echo more >"$limited/b"
}
closed() { nvfs subvolume show "$POOL:limited" --json | grep -q '"mounted": *false'; }

the_pool_stops_while_they_wait() {
	into_debt
	dd if=/dev/zero of="$limited/s" bs=4k count=1 oflag=direct status=none 2>/dev/null &
	in_time any_waits
	echo kept >"$free/kept"
	nvfs pool stop --force "$POOL"
	fails wait $!
	umount "$limited"
	umount "$free"
	start_pool
	mount_subvolume free
	same "$(cat "$free/kept")" kept
	lift
	mount_subvolume limited
	fails test -s "$limited/s"
}

run_test limits_are_shown
run_test bad_limits_are_refused
run_test beyond_the_limit_it_waits
run_test many_wait_and_take_nothing
run_test waits_are_counted
run_test a_read_limit_is_for_reads
run_test a_tenant_shares_its_limits
run_test a_killed_writer_goes_at_once
run_test an_aborted_mount_ends
run_test the_pool_stops_while_they_wait
check_pool
finish
