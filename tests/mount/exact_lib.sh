# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What the suites about exact limits share, after lib.sh: nvfs-exact, and a daemon that is killed. EXACT_ONLY limits nvfs-exact
# to the cases of that name pattern.
exact=$NVFS_BUILDDIR/tests/mount/nvfs-exact
[ -x "$exact" ] || die "$exact is not built"

# cases PREFIX DIR BLOCKS INODES [ARGUMENT...]: each line of nvfs-exact becomes a result, its name with the prefix.
cases() {
	local prefix=$1 dir=$2 blocks=$3 inodes=$4 out=$WORK/cases.out bad status
	shift 4
	# In the background: a signal to the suite is not to wait for it.
	set -m
	# shellcheck disable=SC2086
	timeout -k 10 600 "$exact" "$dir" --blocks "$blocks" --inodes "$inodes" "$@" \
		${EXACT_ONLY:+--only $EXACT_ONLY} >"$out" 2>&1 </dev/null &
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

blocks_below() { find "$1" -xdev -printf '%b\n' | awk '{ sum += $1 / 8 } END { print sum }'; }
state_of() { nvfs subvolume show "$POOL:$1" --json; }
field() { sed -nE 's/^  "'"$1"'": ([0-9]+),?$/\1/p'; }
used_of() { state_of "$1" | field used_bytes; }

# The numbers of one look at a subvolume: within its limits, and never below 0.
in_bounds() {
	local state size used inodes used_inodes
	state=$(state_of "$1")
	size=$(field size_bytes <<<"$state") used=$(field used_bytes <<<"$state")
	inodes=$(field inodes <<<"$state") used_inodes=$(field used_inodes <<<"$state")
	[ "$used" -ge 0 ] && [ "$used" -le "$size" ] && [ "$used_inodes" -gt 0 ] && [ "$used_inodes" -le "$inodes" ] && return
	echo "$used of $size bytes, $used_inodes of $inodes inodes"
	return 1
}

# ten_busy_ones DIR BLOCKS: in the background; ended by enough.
ten_busy_ones() {
	"$exact" "$1" --blocks "$2" --inodes 5000 --busy 2>"$WORK/busy.err" &
	busy=$!
}
enough() {
	kill "$busy"
	wait "$busy" || { cat "$WORK/busy.err"; return 1; }
}

# settled SUBVOLUME DIR: nothing more comes back in the background, and what is charged is what is there.
settled() {
	local before
	before=$(used_of "$1")
	sync -f "$2"
	nvfs sync "$POOL:$1"
	[ "$before" = "$(used_of "$1")" ] && [ $((before / 4096)) = "$(blocks_below "$2")" ]
}

# The daemon's two processes at once, as in durable.sh: what they shared is gone.
kill_pool() {
	local supervisor=${SERVERS[$POOL]} worker
	worker=$(nvfs pool show "$POOL" --json | sed -nE 's/.*"worker_pid": *([0-9]+).*/\1/p')
	kill -STOP "$supervisor"
	kill -KILL "$worker"
	kill -KILL "$supervisor"
	wait "$supervisor" 2>/dev/null
	in_time flock -n "$POOL_FILE" true
}
