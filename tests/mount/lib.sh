# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What the mounted suites share. A suite is an executable script tests/mount/NAME.sh:
#
#	#!/bin/bash
#	. "$(dirname "$0")/lib.sh"
#	make_pool 512M			# $POOL, $POOL_FILE; nvfsd serves it
#	make_subvolume data --size 200M
#	mount_subvolume data		# mounted on $MNT_data
#	writes_are_read_back() { echo x >"$MNT_data/f"; [ "$(cat "$MNT_data/f")" = x ]; }
#	run_test writes_are_read_back
#	skip_test needs_a_tape "no tape drive"
#	check_pool			# unmounts all, stops, fsck.nvfs -n --data: a test of its own
#	finish				# the exit status
#
# Every test prints one line, "ok NAME", "not ok NAME" or "skip NAME REASON", and may print what
# it likes otherwise. A test is a function or a command; it passes when it ends with 0 within
# TEST_TIMEOUT seconds. It runs in a subshell, in its own process group, with `set -e`, in $WORK.
#
# Run by hand from a build tree: NVFS_PREFIX=/where/installed tests/mount/NAME.sh

NVFS_SRCDIR=${NVFS_SRCDIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
NVFS_BUILDDIR=${NVFS_BUILDDIR:-$NVFS_SRCDIR/build-tests}
NVFS_PREFIX=${NVFS_PREFIX:-$NVFS_BUILDDIR/inst}
PATH=$NVFS_PREFIX/sbin:$NVFS_PREFIX/bin:$NVFS_BUILDDIR:$PATH:/usr/sbin:/sbin
export NVFS_SRCDIR NVFS_BUILDDIR NVFS_PREFIX PATH
TEST_TIMEOUT=${TEST_TIMEOUT:-120}
SUITE=$(basename "$0" .sh)
FAILED=0
LAST_TEST=$SUITE
RUNNING=		# process groups of the test that runs, and of its clock

die() {
	echo "$SUITE: $*" >&2
	echo "not ok $SUITE"
	exit 1
}

# The whole suite cannot run here.
skip_suite() {
	echo "skip $SUITE $*"
	exit 0
}

[ "$(id -u)" -eq 0 ] || skip_suite "needs root"
[ -c /dev/fuse ] || skip_suite "no /dev/fuse"
for p in mkfs.nvfs mount.nvfs umount.fuse.nvfs fsck.nvfs nvfsd nvfs; do
	command -v "$p" >/dev/null || die "$p is not in $NVFS_PREFIX"
done


# $WORK goes away at the end; NVFS_TEST_DIR says where (a disk or a tmpfs with some GiB).
export WORK
WORK=$(mktemp -d "${NVFS_TEST_DIR:-/tmp}/nvfs-$SUITE.XXXXXX") || exit 1
POOLS=()		# name file
declare -A SERVERS	# name: pid of the supervisor
MOUNTS=()

is_mounted() { mountpoint -q "$1"; }

# Ends a mount whatever state its server is in.
force_unmount() {
	local dir=$1 minor
	is_mounted "$dir" || return 0
	timeout 60 umount "$dir" 2>/dev/null && return 0
	minor=$(awk -v d="$dir" '$5 == d { split($3, n, ":"); print n[2] }' /proc/self/mountinfo)
	echo 1 >"/sys/fs/fuse/connections/$minor/abort" 2>/dev/null
	umount -l "$dir" 2>/dev/null
	echo "# $dir did not unmount and was aborted" >&2
	return 1
}

# The pool's supervisor and worker, by the pool's own word.
pool_pids() {
	timeout 10 nvfs pool show "$1" --json 2>/dev/null |
		grep -oE '"(supervisor|worker)_pid": *[0-9]+' | grep -oE '[0-9]+$'
}

# Stops a pool, cleanly when it answers, else by its pids.
force_stop() {
	local pids pid
	[ -n "${SERVERS[$1]-}" ] || return 0
	pids="$(pool_pids "$1") ${SERVERS[$1]}"
	timeout 60 nvfs pool stop "$1" >/dev/null 2>&1 && return 0
	for pid in $pids; do
		kill -KILL "$pid" 2>/dev/null
	done
	return 1
}

# Daemons that a test started and left: they work in $WORK, or serve a pool named $POOL-SOMETHING.
end_leftovers() {
	local p
	for p in $(nvfs pool list 2>/dev/null | awk -v own="${POOL-}-" 'index($1, own) == 1 { print $1 }'); do
		timeout 60 nvfs pool stop --force "$p" >/dev/null 2>&1
	done
	for p in /proc/[0-9]*; do
		[[ "$(readlink "$p/cwd" 2>/dev/null)" == "$WORK"* ]] && kill -KILL "${p#/proc/}" 2>/dev/null
	done
}

# A loop device keeps its file when the test that made it is killed.
detach_loops() {
	local loop
	losetup -n -O NAME,BACK-FILE 2>/dev/null | awk -v work="$WORK/" 'index($2, work) == 1 { print $1 }' |
		while read -r loop; do losetup -d "$loop" 2>/dev/null; done
}

cleanup_all() {
	local i
	set +e
	cd /
	for i in $RUNNING; do
		kill -KILL -- "-$i" 2>/dev/null
	done
	end_leftovers
	for ((i = ${#MOUNTS[@]} - 1; i >= 0; i--)); do
		force_unmount "${MOUNTS[i]}"
	done
	# What a test mounted itself, the deepest first.
	awk -v work="$WORK/" 'index($5, work) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
		while read -r i; do force_unmount "$i"; done
	detach_loops
	for i in ${POOLS[@]+"${POOLS[@]}"}; do
		force_stop "${i%% *}"
	done
	rm -rf --one-file-system "$WORK"
}
trap cleanup_all EXIT
# A second signal, as timeout(1) sends one to its whole group, must not end what the first one began.
end_by_signal() {
	trap : INT TERM HUP
	exit "$1"
}
trap 'end_by_signal 130' INT
trap 'end_by_signal 143' TERM HUP

# make_pool [SIZE [mkfs.nvfs arguments]]: sets POOL and POOL_FILE (the newest pool's) and serves it.
make_pool() {
	local size=${1:-512M}
	shift $(($# > 0))
	POOL=t$$p${#POOLS[@]}
	POOL_FILE=$WORK/$POOL.img
	mkfs.nvfs --name "$POOL" --size "$size" "$@" "$POOL_FILE" >"$WORK/mkfs.log" 2>&1 ||
		{ cat "$WORK/mkfs.log"; die "mkfs.nvfs failed"; }
	POOLS+=("$POOL $POOL_FILE")
	start_pool
}

# Serves the pool made last (again, after stop_pool). In the foreground, as systemd does it: its log
# is $WORK/nvfsd.log, and its exit status counts.
start_pool() {
	local i
	nvfsd -f ${NVFSD_OPTIONS:+-o "$NVFSD_OPTIONS"} "$POOL_FILE" >>"$WORK/nvfsd.log" 2>&1 &
	SERVERS[$POOL]=$!
	for ((i = 0; i < 600; i++)); do
		nvfs pool show "$POOL" >/dev/null 2>&1 && return
		kill -0 "${SERVERS[$POOL]}" 2>/dev/null || break
		sleep 0.1
	done
	tail -20 "$WORK/nvfsd.log"
	die "nvfsd does not serve $POOL_FILE"
}

# stop_pool [POOL]: fails too when nvfsd did not end well.
stop_pool() {
	local name=${1:-$POOL}
	timeout 120 nvfs pool stop "$name" || return
	wait "${SERVERS[$name]}" && unset "SERVERS[$name]"
}

# make_subvolume NAME [--size 1G ...]
make_subvolume() {
	local name=$1
	shift
	nvfs subvolume create "$POOL:$name" "$@" >/dev/null || die "no subvolume $name"
}

# mount_subvolume NAME [OPTIONS [DIR]]: mounts it, sets MNT_NAME to the directory.
mount_subvolume() {
	local name=$1 options=${2-} dir=${3:-$WORK/mnt-$1}
	mkdir -p "$dir"
	timeout 60 mount.nvfs "$POOL:$name" "$dir" ${options:+-o "$options"} </dev/null ||
		die "cannot mount $name"
	[[ " ${MOUNTS[*]-} " == *" $dir "* ]] || MOUNTS+=("$dir")
	printf -v "MNT_${name//[^A-Za-z0-9_]/_}" %s "$dir"
}

# What umount(8) does once the helper is installed where it looks: commits, unmounts, and returns
# when the subvolume is closed.
unmount_dir() {
	timeout 120 umount.fuse.nvfs "$1"
}

# unmount_subvolume NAME [DIR]
unmount_subvolume() {
	unmount_dir "${2:-$WORK/mnt-$1}"
}

# A fresh page cache and daemon-side state of one mount.
remount_subvolume() {
	unmount_subvolume "$1" "${3-}" && mount_subvolume "$1" "${2-}" "${3-}"
}

# run_test FUNCTION|COMMAND [ARGUMENT...]
run_test() {
	local name=${TEST_NAME:-$1} log=$WORK/test.log pid watch status start=$SECONDS
	[ -z "${TEST_NAME-}" ] && LAST_TEST=$1
	set -m
	( set -e; cd "$WORK"; "$@" ) >"$log" 2>&1 </dev/null &
	pid=$!
	( sleep "$TEST_TIMEOUT"; kill -KILL -- "-$pid" ) >/dev/null 2>&1 &
	watch=$!
	RUNNING="$pid $watch"
	set +m
	wait "$pid" 2>/dev/null
	status=$?
	kill -KILL -- "-$watch" 2>/dev/null
	wait "$watch" 2>/dev/null
	RUNNING=
	if [ $status -eq 0 ]; then
		echo "ok $name"
	elif [ $status -eq 77 ]; then
		echo "skip $name $(tail -1 "$log")"
	else
		FAILED=$((FAILED + 1))
		sed 's/^/# /' "$log" | tail -40
		tail -n 10 "$WORK/nvfsd.log" 2>/dev/null | sed 's/^/# nvfsd: /'
		[ $((SECONDS - start)) -ge "$TEST_TIMEOUT" ] && echo "# stopped after $TEST_TIMEOUT s"
		echo "# status $status"
		# What it left running would keep the next ones from unmounting.
		kill -KILL -- "-$pid" 2>/dev/null
		echo "not ok $name"
	fi
	return 0
}

skip_test() {
	local name=$1
	shift
	echo "skip $name $*"
}

# need PROGRAM...: inside a test, skips it when one is missing.
need() {
	local p
	for p in "$@"; do
		command -v "$p" >/dev/null || { echo "$p is not installed"; exit 77; }
	done
}

# with_mount_helpers COMMAND...: runs a program in a mount namespace where mount(8) and umount(8) find the helpers
# under test, which they look for in /sbin and /usr/sbin only.
with_mount_helpers() {
	# shellcheck disable=SC2016
	unshare --mount --propagation private bash -ec '
		mkdir -p "$WORK/sbin" "$WORK/usr-sbin"
		mount --bind /usr/sbin "$WORK/usr-sbin"
		find "$WORK/usr-sbin/" -mindepth 1 -maxdepth 1 -printf "%f\0" |
			xargs -0 -I{} ln -sfn "$WORK/usr-sbin/{}" "$WORK/sbin/{}"
		for helper in mount.nvfs mount.fuse.nvfs umount.fuse.nvfs; do
			ln -sfn "$(command -v "$helper")" "$WORK/sbin/$helper"
		done
		mount --bind "$WORK/sbin" /usr/sbin
		exec "$@"' with_mount_helpers "$@"
}

# in_time COMMAND...: what another process does comes when it comes; fails only when it does not come at all.
in_time() {
	local _
	for _ in $(seq 3000); do
		"$@" && return
		sleep 0.02
	done
	echo "never came true: $*"
	return 1
}

# fails COMMAND...: passes when the command fails, and not by a signal or a time limit.
fails() {
	local status=0
	"$@" || status=$?
	[ $status -ne 0 ] && [ $status -lt 124 ] && return 0
	echo "should have failed (status $status): $*"
	return 1
}

# refused PATTERN COMMAND...: fails with one line on stderr that matches.
refused() {
	local pattern=$1 lines
	shift
	fails "$@" >out 2>err
	cat out err
	lines=$(grep -c . err)
	[ "$lines" -eq 1 ] || { echo "$lines lines instead of one"; return 1; }
	grep -qiE -- "$pattern" err || { echo "does not say: $pattern"; return 1; }
}

# unchanged FILE|DEVICE COMMAND...: the command leaves every byte of it as it is.
unchanged() {
	local file=$1 before
	shift
	before=$(sha256sum <"$file")
	"$@"
	same "$(sha256sum <"$file")" "$before"
}

# exits_with STATUS COMMAND...: its output is in `out`.
exits_with() {
	local wanted=$1 status=0
	shift
	"$@" >out 2>&1 || status=$?
	cat out
	same "$status" "$wanted"
}

# leave_text FILE, on a mounted subvolume; when its pool, the one made last, is stopped, text_is_compressed /FILE SUBVOLUME.
leave_text() {
	yes 'that says the same' | head -c 1M >"$1"
}
text_is_compressed() {
	nvfs debug dump "$POOL_FILE" inode "$@" >dump
	grep -q ' compressed (64 of 64 ' dump || { cat dump; return 1; }
}

# same ACTUAL EXPECTED
same() {
	[ "$1" = "$2" ] && return 0
	printf 'got:      %s\nexpected: %s\n' "$1" "$2"
	return 1
}

fsck_finds_nothing() {
	fsck.nvfs -n --data "$@"
}

# fsck_between NAME [OPTIONS]: unmounts the subvolume, stops the pool made last, checks it (a test
# of its own, named after the test before it), and mounts all again.
fsck_between() {
	unmount_subvolume "$1" && stop_pool >/dev/null || {
		FAILED=$((FAILED + 1))
		echo "not ok ${LAST_TEST}_lets_go"
		return
	}
	TEST_NAME="fsck_after_$LAST_TEST" run_test fsck_finds_nothing "$POOL_FILE"
	start_pool
	mount_subvolume "$1" "${2-}"
}

# Unmounts and stops all, and checks every pool: one test each.
check_pool() {
	local i bad=0
	for ((i = ${#MOUNTS[@]} - 1; i >= 0; i--)); do
		is_mounted "${MOUNTS[i]}" || continue
		case $(findmnt -n -o FSTYPE --mountpoint "${MOUNTS[i]}") in
		fuse.nvfs) unmount_dir "${MOUNTS[i]}" || bad=1 ;;
		*) umount "${MOUNTS[i]}" || bad=1 ;;
		esac
	done
	[ $bad = 0 ] || { FAILED=$((FAILED + 1)); echo "not ok unmount_everything"; }
	for i in ${POOLS[@]+"${POOLS[@]}"}; do
		if [ -n "${SERVERS[${i%% *}]-}" ] && ! stop_pool "${i%% *}"; then
			FAILED=$((FAILED + 1))
			tail -20 "$WORK/nvfsd.log"
			echo "not ok nvfsd_ends_well"
		fi
		TEST_NAME="fsck_finds_nothing" run_test fsck_finds_nothing "${i#* }"
	done
}

finish() {
	[ "$FAILED" -eq 0 ]
	exit
}
