#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What a program was told is durable is there after the daemon's two processes were killed at once: the memory that they
# shared is gone with them, so all that is left is what is on the device.
#
# Every 4 s the timer of a mount commits what is dirty, so a round is proof of something only when it ended within that
# time of its mount; one that took longer is done again. Most rounds end with a name that nobody made durable, and
# it must be gone: the kill did cost what was not committed.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

# umount(8) and mount(8) are to find the helpers in every test.
if [ -z "${NVFS_WITH_HELPERS-}" ]; then
	NVFS_WITH_HELPERS=1 with_mount_helpers "$0"
	exit
fi

POOL=t$$			# the prefix by which lib.sh knows the pools of the tests
COMMIT_CS=380			# hundredths of a second; the timer's 4 s, and some to spare for clocks
ROUNDS=10
BIG=$WORK/big			# three MiB and some bytes: several chunks, the last block in part
dd if=/dev/urandom of="$BIG" bs=1023 count=3079 status=none

uptime_cs() {
	local up
	read -r up _ </proc/uptime
	echo "${up/./}"
}

# ---- The pool of a round: $own, $own_file; subvolumes a and b, mounted on $a and $b

serve() {
	nvfsd -f "$own_file" >>"$WORK/nvfsd.log" 2>&1 &
	supervisor=$!
	in_time answers
	worker=$(nvfs pool show "$own" --json | sed -nE 's/.*"worker_pid": *([0-9]+).*/\1/p')
	[ -n "$worker" ]
}

answers() {
	nvfs pool show "$own" >/dev/null 2>&1 && return
	# Nobody else could make it true.
	kill -0 "$supervisor" || exit 1
	return 1
}

new_pool() {
	round=$((${round:-0} + 1))
	own=$POOL-$n-$round
	own_file=$WORK/$own.img
	a=$WORK/a-$n-$round b=$WORK/b-$n-$round
	mkdir "$a" "$b"
	mkfs.nvfs --quiet --name "$own" --size 128M "$own_file"
	serve
	nvfs subvolume create "$own:a" --size 32M >/dev/null
	nvfs subvolume create "$own:b" --size 32M >/dev/null
}

end_pool() {
	nvfs pool stop "$own"
	wait "$supervisor"
	fsck_finds_nothing "$own_file"
	rm "$own_file"
}

# The kernel closes the files of a killed process when the last request in its ring has ended.
let_go() { flock -n "$own_file" true; }

# Both at once: a stopped supervisor starts no other worker, and the worker, which would commit at its
# supervisor's end, is gone before that.
killed() {
	kill -STOP "$supervisor"
	kill -KILL "$worker"
	kill -KILL "$supervisor"
	wait "$supervisor" || :
	in_time let_go
}

terminated() {
	kill -TERM "$supervisor"
	wait "$supervisor"
}

stopped_by_force() {
	nvfs pool stop --force "$own"
	wait "$supervisor"
}

unmount_what_died() {
	local dir
	exec 8>&-
	for dir in "$a" "$b"; do
		# Nobody answers a stat(2) of it any more.
		if grep -qF " $dir " /proc/self/mountinfo; then umount "$dir"; fi
	done
}

# tree DIR: each name with what stat(2) and reading tell of it.
tree() {
	( cd "$1" && find . -printf '%p %y %m %n %s %T@ %l\n' | sort && find . -type f -print0 | sort -z | xargs -0r sha256sum )
}

# expect [DIR...]: what is there now is what must be there afterwards; whatever comes later need not.
expect() {
	local dir
	for dir in "${@:-$a}"; do
		tree "$dir" >"$WORK/expected-${dir##*/}"
	done
}

# Not made durable by anybody.
late() {
	echo late >"${1:-$a}/late"
}

# one_round END DO: DO works on fresh mounts and says what to expect; then END ends the daemon.
one_round() {
	local began took
	rm -f "$WORK"/expected-*
	new_pool
	began=$(uptime_cs)
	mount -t nvfs ${options:+-o "$options"} "$own:a" "$a"
	mount -t nvfs ${options:+-o "$options"} "$own:b" "$b"
	"$2"
	"$1"
	took=$(($(uptime_cs) - began))
	echo "ended $took cs after the first mount began"
	[ "$took" -lt "$COMMIT_CS" ] || in_the_timers_time=
	unmount_what_died
}

in_a_round() {
	local _
	for _ in $(seq "$ROUNDS"); do
		in_the_timers_time=yes
		one_round "$@"
		[ -n "$in_the_timers_time" ] && return
		rm "$own_file"
	done
	echo "no round in $ROUNDS ended before the timer"
	return 1
}

# after END DO: a round; then all that is expected is there when the pool is served again, and nothing but that.
after() {
	local dir compared=
	in_a_round "$@"
	fsck_finds_nothing "$own_file"
	serve
	for dir in "$a" "$b"; do
		[ -e "$WORK/expected-${dir##*/}" ] || continue
		mount -t nvfs "$own:${dir:${#WORK}+1:1}" "$dir"
		tree "$dir" >"$WORK/found"
		diff -u "$WORK/expected-${dir##*/}" "$WORK/found"
		umount "$dir"
		compared=yes
	done
	[ -n "$compared" ]
	end_pool
}

# ---- What programs call

fsyncs() {
	nvfs subvolume show "$own:a" --json | sed -nE 's/.*"fsyncs": *([0-9]+).*/\1/p'
}

fill() {
	mkdir "$1/dir"
	cp "$BIG" "$1/dir/file"
	dd if="$BIG" of="$1/dir/file" bs=700 count=3 seek=1000 conv=notrunc status=none
}

fsync_of_a_file() { after killed do_fsync; }
do_fsync() {
	fill "$a"
	expect
	sync "$a/dir/file"
	late
}

fsync_of_a_small_file() { after killed do_small; }
do_small() {
	echo of a few bytes >"$a/small"
	expect
	sync "$a/small"
	late
}

fdatasync_of_a_file() { after killed do_fdatasync; }
do_fdatasync() {
	fill "$a"
	sync "$a/dir/file"
	# Longer, shorter, and with a hole: none of it is only of interest for stat(2).
	cat "$BIG" >>"$a/dir/file"
	truncate -s 4000001 "$a/dir/file"
	truncate -s 5000001 "$a/dir/file"
	expect
	sync -d "$a/dir/file"
	late
}

# The whole subvolume, as the manual says: names of all kinds in any directory, and data.
fsync_of_a_directory() { after killed do_fsyncdir; }
do_fsyncdir() {
	fill "$a"
	echo removed >"$a/removed"
	echo old >"$a/replaced"
	sync "$a"
	mkdir "$a/other"
	ln "$a/dir/file" "$a/other/link"
	ln -s nowhere "$a/other/symlink"
	mkfifo -m 640 "$a/other/fifo"
	mv "$a/dir" "$a/other/moved"
	echo new >"$a/new"
	mv "$a/new" "$a/replaced"
	rm "$a/removed"
	chmod 1770 "$a/other"
	for i in $(seq 300); do : >"$a/other/name-$i"; done
	expect
	sync "$a/other/moved"
	late
}

# dd_with FLAGS: writes with them alone; the file and its size are there before.
dd_with() {
	cp "$BIG" "$a/file"
	sync "$a/file"
	dd if="$BIG" of="$a/file" bs=256K count=8 skip=1 conv=notrunc oflag="$1" status=none
	expect
	late
}

o_sync() { after killed do_o_sync; }
do_o_sync() { dd_with sync; }
o_dsync() { after killed do_o_dsync; }
do_o_dsync() { dd_with dsync; }
o_direct_and_o_sync() { after killed do_direct_sync; }
do_direct_sync() { dd_with direct,sync; }
o_direct_and_o_dsync() { after killed do_direct_dsync; }
do_direct_dsync() { dd_with direct,dsync; }

o_sync_of_a_new_file() { after killed do_new_o_sync; }
do_new_o_sync() {
	dd if="$BIG" of="$a/new" bs=700 count=10 oflag=sync status=none
	expect
	late
}

# After such a write the kernel sends no fsync of its own, as it does after the others: the flags of the write are all there is.
aio_with() {
	cp "$BIG" "$a/file"
	sync "$a/file"
	fio --name=aio --filename="$a/file" --ioengine=libaio --iodepth=4 --direct=1 --thread --sync="$1" --rw=randwrite --bs=16k \
		--size=2M --invalidate=0 --fallocate=none --end_fsync=0 --output="$WORK/fio.log" || { cat "$WORK/fio.log"; return 1; }
	expect
	late
}

aio_with_o_sync() {
	need fio
	after killed do_aio_sync
}
do_aio_sync() { aio_with sync; }

aio_with_o_dsync() {
	need fio
	after killed do_aio_dsync
}
do_aio_dsync() { aio_with dsync; }

rwf_dsync() {
	need python3
	after killed do_rwf_dsync
}
do_rwf_dsync() {
	: >"$a/file"
	python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
os.pwritev(fd, [b"x" * 70001], 4097, os.RWF_DSYNC)' "$a/file"
	expect
	late
}

msync_of_a_mapping() {
	need python3
	after killed do_msync
}
do_msync() {
	cp "$BIG" "$a/file"
	sync "$a/file"
	python3 -c 'import mmap, sys
with open(sys.argv[1], "r+b") as f:
	m = mmap.mmap(f.fileno(), 0)
	for i in range(100, len(m), 99999):
		m[i] = m[i] ^ 255
	m.flush()' "$a/file"
	expect
	late
}

writeback_and_fsync() { options=writeback after killed do_fsync; }

# It says nothing of names; a write's commit has those before it.
mount_with_sync() { options=sync after killed do_mount_sync; }
do_mount_sync() {
	mkdir "$a/dir"
	ln -s nowhere "$a/symlink"
	dd if="$BIG" of="$a/dir/file" bs=256K status=none
	expect
}

# ---- What administrators call

nvfs_sync_of_the_pool() { after killed do_nvfs_sync; }
do_nvfs_sync() {
	fill "$a"
	fill "$b"
	expect "$a" "$b"
	nvfs sync "$own"
	late "$a"
	late "$b"
}

nvfs_sync_of_a_subvolume() { after killed do_nvfs_sync_one; }
do_nvfs_sync_one() {
	fill "$a"
	fill "$b"
	expect "$b"
	nvfs sync "$own:b"
	late "$b"
}

umount_by_the_helper() { after killed do_umount; }
do_umount() {
	fill "$a"
	expect
	umount "$a"
}

# The daemon closes the subvolume when it can; then it is durable.
umount_without_the_helper() { after killed do_umount_i; }
do_umount_i() {
	fill "$a"
	expect
	umount -i "$a"
	in_time closed a
}
closed() {
	nvfs subvolume show "$own:$1" --json >"$WORK/show"
	grep -q '"mounted": *false' "$WORK/show" && grep -q '"leaving": *false' "$WORK/show"
}

# Nothing is closed then, so nothing but the helper's request can have it committed.
umount_while_another_namespace_has_it() { after ended_with_holder do_umount_held; }
do_umount_held() {
	unshare --mount --propagation private sleep 600 &
	holder=$!
	in_time holds sleep
	fill "$a"
	expect
	umount "$a"
	fails closed a
}
holds() { [ "$(cat "/proc/$holder/comm")" = "$1" ]; }
ended_with_holder() {
	killed
	kill "$holder"
	wait "$holder" || :
}

umount_of_a_busy_one_read_only() { after killed do_umount_r; }
do_umount_r() {
	fill "$a"
	exec 8<"$a"
	expect
	umount.fuse.nvfs "$a" -r 2>"$WORK/err"
	exec 8<&-
	grep -q 'busy, and read-only' "$WORK/err"
}

remount_read_only() { after killed do_remount; }
do_remount() {
	fill "$a"
	expect
	mount -o remount,ro "$a"
}

# With mounts in use and nothing synced.
sigterm() { after terminated do_dirty; }
pool_stop_by_force() { after stopped_by_force do_dirty; }
do_dirty() {
	fill "$a"
	fill "$b"
	exec 8>"$a/open"
	echo and an open file >&8
	late "$a"
	late "$b"
	expect "$a" "$b"
}

# ---- That it is they who do it

nothing_without_a_sync() { after killed do_nothing; }
do_nothing() {
	echo before >"$a/kept"
	sync "$a/kept"
	expect
	fill "$a"
	cat "$BIG" >>"$a/kept"
	late
}

fsyncs_are_counted() {
	new_pool
	mount -t nvfs "$own:a" "$a"
	fill "$a"
	same "$(fsyncs)" 0
	sync "$a/dir/file"
	same "$(fsyncs)" 1
	sync -d "$a/dir/file"
	same "$(fsyncs)" 2
	sync "$a/dir"
	same "$(fsyncs)" 3
	umount "$a"
	end_pool
}

n=0
for t in nothing_without_a_sync fsync_of_a_file fsync_of_a_small_file fdatasync_of_a_file fsync_of_a_directory \
	o_sync o_dsync o_direct_and_o_sync o_direct_and_o_dsync o_sync_of_a_new_file aio_with_o_sync aio_with_o_dsync \
	rwf_dsync msync_of_a_mapping \
	writeback_and_fsync mount_with_sync nvfs_sync_of_the_pool nvfs_sync_of_a_subvolume \
	umount_by_the_helper umount_without_the_helper umount_while_another_namespace_has_it umount_of_a_busy_one_read_only \
	remount_read_only sigterm pool_stop_by_force fsyncs_are_counted; do
	n=$((n + 1))
	run_test "$t"
done
finish
