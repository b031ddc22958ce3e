#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Limits where blocks are shared: snapshots never count against the subvolume, and what they hold is charged to the block where it
# has to be; a subvolume with snapshots and a clone are exact like others (nvfs-exact); on a full pool what was promised works.
# EXACT_ONLY limits it to the cases of that name pattern.
# shellcheck disable=SC2154 # MNT_*: mount_subvolume sets them
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/mount/exact_lib.sh
. "$(dirname "$0")/exact_lib.sh"
command -v python3 >/dev/null || skip_suite "python3 is not installed"

# ---- Writing, counted

# write_seed FILE HOW SEED [BLOCKS [STEP]]: over the file from its start on, HOW is buffered, direct or mapped, until all its blocks (those
# of its size) are done or one is refused; prints how many are done, and by which errno the next one was refused.
cat >"$WORK/write.py" <<'END'
import errno, hashlib, mmap, os, sys
name, how, seed = sys.argv[1:4]
fd = os.open(name, os.O_RDWR | os.O_CREAT | (os.O_DIRECT if how == 'direct' else 0), 0o644)
blocks = int(sys.argv[4]) if len(sys.argv) > 4 else os.fstat(fd).st_size // 4096
step = int(sys.argv[5]) if len(sys.argv) > 5 else 64
def unit(b): # one for all, which compresses well, or of a seed "noise..." one for each
    return hashlib.shake_128(f'{seed}{b if seed.startswith("noise") else ""}'.encode()).digest(4096)
alike = unit(0)
def block(b):
    return b.to_bytes(8, 'big') + (unit(b) if seed.startswith('noise') else alike)[8:]
done, refused = 0, '-'
if how == 'mapped':
    if os.fstat(fd).st_size < blocks * 4096:
        os.ftruncate(fd, blocks * 4096)
    m = mmap.mmap(fd, blocks * 4096)
    for b in range(blocks):
        m[b * 4096:b * 4096 + 4096] = block(b)
    try:
        m.flush()
        os.fsync(fd)
        done = blocks
    except OSError as e:
        refused = errno.errorcode[e.errno]
else:
    buf = mmap.mmap(-1, step * 4096)
    while done < blocks:
        n = min(step, blocks - done)
        for i in range(n):
            buf[i * 4096:i * 4096 + 4096] = block(done + i)
        try:
            done += os.pwrite(fd, memoryview(buf)[:n * 4096], done * 4096) // 4096
        except OSError as e:
            if how == 'direct' and step > 1 and e.errno in (errno.ENOSPC, errno.EDQUOT):
                step = 1
                continue
            refused = errno.errorcode[e.errno]
            break
print(done, refused)
END
write_seed() { python3 "$WORK/write.py" "$@"; }

# blocks_of_seed FILE SEED: how many blocks have what write_seed wrote.
cat >"$WORK/count.py" <<'END'
import hashlib, sys
seed = sys.argv[2]
def unit(b):
    return hashlib.shake_128(f'{seed}{b if seed.startswith("noise") else ""}'.encode()).digest(4096)
alike = unit(0)
def content(b):
    return b.to_bytes(8, 'big') + (unit(b) if seed.startswith('noise') else alike)[8:]
with open(sys.argv[1], 'rb') as f:
    b = n = 0
    while block := f.read(4096):
        n += block == content(b)
        b += 1
print(n)
END
blocks_of_seed() { python3 "$WORK/count.py" "$@"; }

# ---- What is left

left() { df --output=avail -B4096 "$1" | tail -1 | tr -d ' '; }
pool_field() { nvfs pool show "$POOL" --json | sed -nE 's/^  "'"$1"'": ([0-9]+),?$/\1/p'; }
snapshot_field() { nvfs snapshot show "$POOL:$1" --json | sed -nE 's/^  "'"$2"'": ([0-9]+),?$/\1/p'; }

# seen SNAPSHOT COMMAND...: with it mounted on $WORK/snap.
seen() {
	local snapshot=$1
	shift
	mkdir -p "$WORK/snap"
	mount.nvfs "$POOL:$snapshot" "$WORK/snap"
	"$@" || { umount.fuse.nvfs "$WORK/snap"; return 1; }
	umount.fuse.nvfs "$WORK/snap"
}
snap_has() { same "$(blocks_of_seed "$WORK/snap/f" "$1")" "$2"; }

# with_volume SIZE [OPTION...] -- COMMAND...: on a subvolume v of its own, mounted on $WORK/v. Its snapshots and it go afterwards.
with_volume() {
	local size=$1 options=() snapshot at=$WORK/v
	shift
	while [ "$1" != -- ]; do options+=("$1"); shift; done
	shift
	export at
	mkdir -p "$at"
	nvfs subvolume create "$POOL:v" --size "$size" "${options[@]}" >/dev/null
	mount.nvfs "$POOL:v" "$at"
	"$@"
	[ -z "${HELD_KEEP-}" ] || return 0
	umount.fuse.nvfs "$at"
	nvfs subvolume delete --yes --wait "$POOL:v"
	nvfs snapshot list "$POOL" --json | sed -n 's/^ *"snapshot": "\(.*\)",$/\1/p' | while read -r snapshot; do
		nvfs snapshot delete --yes --wait "$POOL:v@$snapshot"
	done
	# All of it is back.
	in_time nothing_is_held
	same "$(pool_field reserved_bytes)" 0
	same "$(pool_field snapshot_bytes)" 0
}
nothing_is_held() { [ "$(pool_field used_bytes)" = 0 ] && [ "$(pool_field sweeps)" = 0 ]; }

# 32 MiB: 8191 blocks of f, and one of the root.
snapshots_do_not_count() {
	local i how
	same "$(write_seed "$at/f" buffered 1 9000)" "8191 ENOSPC"
	same "$(left "$at")" 0
	nvfs snapshot create "$POOL:v@s1" >/dev/null
	same "$(left "$at")" 0
	i=1
	for how in buffered direct mapped; do
		i=$((i + 1))
		same "$(write_seed "$at/f" $how $i)" "8191 -"
		same "$(left "$at")" 0
		nvfs snapshot create "$POOL:v@s$i" >/dev/null
		same "$(left "$at")" 0
		fails dd if=/dev/zero of="$at/f" bs=1 count=1 conv=notrunc oflag=append status=none 2>/dev/null
	done
	for i in 1 2 3 4; do
		same "$(snapshot_field "v@s$i" used_bytes)" $((32 << 20))
		seen "v@s$i" snap_has $i 8191
	done
	same "$(blocks_of_seed "$at/f" 4)" 8191
	# Its own are given back, those of the snapshots stay.
	rm "$at/f"
	in_time gives_back 8191
	same "$(write_seed "$at/f" direct 9 9000)" "8191 ENOSPC"
	seen v@s4 snap_has 4 8191
}
gives_back() { [ "$(left "$at")" -ge "$1" ]; }

# What is refused says how much it would take and how much there is, and changes nothing.
what_would_break_a_promise_is_refused() {
	local before
	same "$(write_seed "$at/f" buffered 1 30000)" "20479 ENOSPC"
	nvfs snapshot create "$POOL:v@s1" >/dev/null
	same "$(write_seed "$at/f" buffered 2)" "20479 -"
	before=$(nvfs pool show "$POOL" --json | grep -E '"(promised|snapshot|reserved)')
	refused 'no snapshot: [0-9.]+ [KM]iB of subvolume v would be held beside its claim, and the pool has room for [0-9.]+ [KM]iB' \
		nvfs snapshot create "$POOL:v@s2"
	exits_with 5 nvfs snapshot create "$POOL:v@s2"
	exits_with 5 nvfs subvolume create "$POOL:w" --size 100M
	exits_with 4 nvfs snapshot show "$POOL:v@s2"
	same "$(nvfs pool show "$POOL" --json | grep -E '"(promised|snapshot|reserved)')" "$before"
	# All is promised now: the rest goes to another, which fills it.
	fill_the_rest
	same "$(write_seed "$at/f" buffered 3)" "20479 -"
	sync "$at/f"
	same "$(write_seed "$at/f" direct 4)" "20479 -"
	same "$(write_seed "$at/f" mapped 5)" "20479 -"
	same "$(write_seed "$WORK/w/f" mapped 6)" "$(($(stat -c %s "$WORK/w/f") / 4096)) -"
	seen v@s1 snap_has 1 20479
	same "$(left "$at")" 0
	# Deleting needs nothing.
	rm "$at/f"
	in_time gives_back 20479
	same "$(write_seed "$at/f" buffered 7 30000)" "20479 ENOSPC"
	seen v@s1 snap_has 1 20479
	exits_with 5 nvfs snapshot create "$POOL:v@s2"
	nvfs snapshot delete --yes --wait "$POOL:v@s1"
	nvfs snapshot create "$POOL:v@s2" >/dev/null
	same "$(write_seed "$at/f" buffered 8)" "20479 -"
	seen v@s2 snap_has 7 20479
	umount.fuse.nvfs "$WORK/w"
	nvfs subvolume delete --yes --wait "$POOL:w"
}

fill_the_rest() {
	local most
	nvfs subvolume create "$POOL:w" --size 1T 2>err && return 1
	most=$(sed -nE 's/.*; ([0-9.]+) ([KM])iB or a thin .*/\1\2/p' err)
	nvfs subvolume create "$POOL:w" --size "$most" >/dev/null
	mkdir -p "$WORK/w"
	mount.nvfs "$POOL:w" "$WORK/w"
	[[ "$(write_seed "$WORK/w/f" buffered w 100000)" = *' ENOSPC' ]]
	same "$(left "$WORK/w")" 0
}

# What compressed to little, in the subvolume and in its snapshot, becomes noise on a pool that is full: it was promised all the same.
full_pool_with_lz4() {
	local how
	same "$(write_seed "$at/f" buffered 1 30000)" "20479 ENOSPC"
	nvfs snapshot create "$POOL:v@s1" >/dev/null
	fill_the_rest
	[ "$(pool_field unclaimed_bytes)" -lt 4096 ]
	same "$(write_seed "$WORK/w/f" direct noise-w)" "$(($(stat -c %s "$WORK/w/f") / 4096)) -"
	for how in buffered direct mapped; do
		same "$(write_seed "$at/f" $how 2)" "20479 -"
		same "$(write_seed "$at/f" $how noise-$how)" "20479 -"
		sync "$at/f"
		same "$(blocks_of_seed "$at/f" noise-$how)" 20479
	done
	same "$(left "$at")" 0
	seen v@s1 snap_has 1 20479
	# Deleting needs nothing, nor does what comes after.
	rm "$at/f"
	in_time gives_back 20479
	same "$(write_seed "$at/f" direct noise-after 30000)" "20479 ENOSPC"
	umount.fuse.nvfs "$WORK/w"
	nvfs snapshot delete --yes --wait "$POOL:v@s1"
	same "$(write_seed "$at/f" buffered noise-last)" "20479 -"
	sync "$at/f"
	same "$(blocks_of_seed "$at/f" noise-last)" 20479
	nvfs subvolume delete --yes --wait "$POOL:w"
}

# A thin one pays for each block that it writes over: until the pool has no more, and not one block less.
thin_overwrites_to_the_last_block_of_the_pool() {
	local room
	same "$(write_seed "$at/f" buffered 1 12000)" "12000 -"
	sync "$at/f"
	nvfs snapshot create "$POOL:v@s1" >/dev/null
	room=$(left "$at")
	# Overwriting half of the room first, in pieces, direct and buffered, takes just that.
	same "$(write_seed "$at/f" buffered 2 3000 7)" "3000 -"
	same "$(left "$at")" $((room - 3000))
	same "$(write_seed "$at/f" direct 3 3000)" "3000 -"
	same "$(left "$at")" $((room - 3000))
	nvfs subvolume create "$POOL:w" --size $(((room - 3000 - 5000) * 4096)) >/dev/null
	same "$(left "$at")" 5000
	same "$(write_seed "$at/f" buffered 4)" "8000 ENOSPC"
	same "$(left "$at")" 0
	sync "$at/f"
	same "$(left "$at")" 0
	same "$(blocks_of_seed "$at/f" 4)" 8000
	same "$(blocks_of_seed "$at/f" 1)" 4000
	# Through a mapping: those that are its own already are kept.
	same "$(write_seed "$at/f" mapped 5)" "0 ENOSPC"
	echo 3 >/proc/sys/vm/drop_caches
	same "$(blocks_of_seed "$at/f" 5)" 8000
	same "$(blocks_of_seed "$at/f" 1)" 4000
	same "$(write_seed "$at/f" direct 6)" "8000 ENOSPC"
	seen v@s1 snap_has 1 12000
	# A hole and a deletion cost nothing, even where the snapshot has something.
	fallocate -p -o $((11000 * 4096)) -l $((100 * 4096)) "$at/f"
	fallocate -p -o 0 -l $((10 * 4096)) "$at/f"
	sync "$at/f"
	same "$(left "$at")" 10
	rm "$at/f"
	in_time gives_back 8000
	nvfs subvolume delete --yes "$POOL:w"
	seen v@s1 snap_has 1 12000
}

# ---- Ten that write all the time

# some_snapshots NUMBER: so many requests for snapshots and clones of busy ones, and for their end.
some_snapshots() {
	local names=(a b c d) name
	for _ in $(seq "$1"); do
		name=${names[RANDOM % 4]}
		case $((RANDOM % 5)) in
		0 | 1) nvfs snapshot create "$POOL:busy@$name" ;;
		2 | 3) nvfs snapshot delete --yes "$POOL:busy@$name" ;;
		4) nvfs clone "$POOL:busy" "$POOL:clone-$name" --thin || nvfs subvolume delete --yes "$POOL:clone-$name" ;;
		esac >out 2>err || [ "$(grep -cE 'already|there is no|no snapshot: ' err)" = 1 ] || { cat err; return 1; }
		in_bounds busy
	done
}

snapshots_of_busy_ones() {
	ten_busy_ones "$MNT_busy" 12288
	some_snapshots 60
	enough
	in_time settled busy "$MNT_busy"
}

# Killed in the middle of all that: the records are whole, and the charges what a scan finds.
crash_round() {
	local switching
	ten_busy_ones "$MNT_busy" 12288
	( cd "$WORK" && some_snapshots 1000 >/dev/null 2>&1 ) &
	switching=$!
	sleep 1.$((RANDOM % 10)) # at any moment
	kill_pool
	kill "$busy" "$switching" 2>/dev/null
	wait "$busy" "$switching" 2>/dev/null
	umount "$MNT_busy" || umount -l "$MNT_busy"
	TEST_NAME=fsck_after_a_kill run_test fsck_finds_nothing "$POOL_FILE"
	start_pool
	mount_subvolume busy
	TEST_NAME=used_is_what_is_there run_test in_time settled busy "$MNT_busy"
}

# Subvolumes, clones and snapshots in any order: in the end nothing is held.
all_of_it_goes() {
	local kind name
	umount.fuse.nvfs "$MNT_busy"
	nvfs subvolume delete --yes "$POOL:busy"
	{ nvfs snapshot list "$POOL" --json | sed -n 's/^ *"snapshot": "\(.*\)",$/snapshot busy@\1/p'
		nvfs subvolume list "$POOL" --json | sed -n 's/^ *"name": "\(.*\)",$/subvolume \1/p'; } | shuf >left
	while read -r kind name; do
		nvfs "$kind" delete --yes "$POOL:$name"
	done <left
	in_time nothing_is_held
	same "$(pool_field reserved_bytes)" 0
	same "$(pool_field promised_bytes)" 0
}

# ---- Every way to fill

# A tree of files of all kinds, and a snapshot of it; then nothing is left of it but in the snapshot.
leave_a_snapshot() {
	local i
	mkdir -p "$1/d/e"
	for i in $(seq 60); do
		echo "$i" >"$1/d/small$i"
		head -c $((i * 3000)) /dev/urandom >"$1/file$i"
		ln -s "$i" "$1/d/e/l$i"
	done
	setfattr -n user.x -v "$(printf 'v%.0s' {1..3000})" "$1/file1"
	nvfs snapshot create "$POOL:$2@before" >/dev/null
	rm -r "${1:?}"/*
}

make_pool 256M
TEST_NAME=snapshots_do_not_count run_test with_volume 32M -- snapshots_do_not_count
make_pool 256M
TEST_NAME=what_would_break_a_promise_is_refused run_test with_volume 80M -- what_would_break_a_promise_is_refused
make_pool 256M
TEST_NAME=full_pool_with_lz4 run_test with_volume 80M --compression lz4 -- full_pool_with_lz4
make_pool 256M
TEST_NAME=thin_overwrites_to_the_last_block_of_the_pool \
	run_test with_volume 390M --thin -- thin_overwrites_to_the_last_block_of_the_pool
make_pool 384M
make_subvolume busy --size 48M --inodes 3000
mount_subvolume busy
run_test snapshots_of_busy_ones
for _ in 1 2; do
	crash_round
done
run_test all_of_it_goes
make_pool 256M
make_subvolume kept --size 16M --inodes 1000
mount_subvolume kept
run_test leave_a_snapshot "$MNT_kept" kept
cases after_a_snapshot "$MNT_kept" 4096 1000 --skip by_bytes --skip '*alike*'
run_test nvfs clone "$POOL:kept@before" "$POOL:clone" --size 16M --inodes 1000
mount_subvolume clone
rm -r "${MNT_clone:?}"/*
cases clone "$MNT_clone" 4096 1000 --skip by_bytes --skip '*alike*'
check_pool
finish
