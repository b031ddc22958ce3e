#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Limits are exact to the block and to the inode, in whatever way a subvolume is filled (nvfs-exact), by one writer and by ten,
# while it is resized, and after the daemon was killed. EXACT_ONLY limits it to the cases of that name pattern.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"
only=${EXACT_ONLY:+--only $EXACT_ONLY}
exact=$NVFS_BUILDDIR/tests/mount/nvfs-exact
[ -x "$exact" ] || die "$exact is not built"

# cases PREFIX DIR BLOCKS INODES [ARGUMENT...]: each line of nvfs-exact becomes a result, its name with the prefix.
cases() {
	local prefix=$1 dir=$2 blocks=$3 inodes=$4 out=$WORK/cases.out bad status
	shift 4
	# In the background: a signal to the suite is not to wait for it.
	set -m
	# shellcheck disable=SC2086
	timeout -k 10 600 "$exact" "$dir" --blocks "$blocks" --inodes "$inodes" "$@" $only >"$out" 2>&1 </dev/null &
	RUNNING=$!
	set +m
	wait "$RUNNING"
	status=$?
	RUNNING=
	sed -E "s/^(ok|not ok|skip) /&$prefix:/" "$out"
	bad=$(grep -c '^not ok ' "$out")
	if ! grep -q '^# .* passed' "$out"; then
		echo "not ok $prefix:nvfs-exact ended early with status $status"
		bad=$((bad + 1))
	fi
	FAILED=$((FAILED + bad))
}

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
check_pool
finish
