#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A tenant's limits are exact, over all its subvolumes, snapshots and clones: EDQUOT at the very block and inode, by whatever way they
# are filled (nvfs-exact), and never in the way of overwriting and deleting. EXACT_ONLY limits it to the cases of that name pattern.
# shellcheck disable=SC2154 # MNT_*: mount_subvolume sets them
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/mount/exact_lib.sh
. "$(dirname "$0")/exact_lib.sh"
command -v python3 >/dev/null || skip_suite "python3 is not installed"

# ask JSON: the answer to a request, on one line; fails when it is refused.
cat >"$WORK/ask.py" <<'END'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.send(sys.argv[2].encode() + b'\n')
line = s.makefile().readline()
print(line, end='')
sys.exit(not json.loads(line)['ok'])
END
ask() { python3 "$WORK/ask.py" "$(grep -oE -m 1 "/[^ ]*/$POOL\.sock" /proc/net/unix)" "$1"; }
make_tenant() { ask '{"op":"tenant.create","name":"'"$1"'","limits":'"$2"'}' >/dev/null; }
limit() { ask '{"op":"tenant.set","name":"'"$1"'","limits":'"$2"'}'; }
# use_of TENANT FIELD
use_of() { ask '{"op":"tenant.show","name":"'"$1"'"}' | sed -E 's/.*"use": ?\{([^}]*)\}.*/\1/; s/.*"'"$2"'": ?([0-9]+).*/\1/'; }
blocks_used() { echo $(($(use_of "$1" used_bytes) / 4096)); }
uses() { [ "$(blocks_used "$1")" = "$2" ] || { echo "$1 uses $(blocks_used "$1") blocks, not $2"; return 1; }; }

# new_volume NAME TENANT SIZE [MORE KEYS]: mounted on $WORK/NAME.
new_volume() {
	ask '{"op":"subvolume.create","name":"'"$1"'","tenant":"'"$2"'","size_bytes":'"$(numfmt --from=iec "$3")${4-}}" >/dev/null
	mkdir -p "$WORK/$1"
	mount.nvfs "$POOL:$1" "$WORK/$1"
}
# end_volume NAME: with its snapshots.
end_volume() {
	local snapshot
	umount.fuse.nvfs "$WORK/$1"
	nvfs subvolume delete --yes --wait "$POOL:$1"
	nvfs snapshot list "$POOL" --json | sed -n 's/^ *"snapshot": "\(.*\)",$/\1/p' | while read -r snapshot; do
		! nvfs snapshot show "$POOL:$1@$snapshot" >/dev/null 2>&1 || nvfs snapshot delete --yes --wait "$POOL:$1@$snapshot"
	done
}

# blocks HOW FILE FIRST COUNT [STEP]: writes whole blocks; prints how many were, and by which errno the next was refused.
cat >"$WORK/blocks.py" <<'END'
import errno, mmap, os, sys
how, name, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
step = int(sys.argv[5]) if len(sys.argv) > 5 else 64
fd = os.open(name, os.O_RDWR | os.O_CREAT | (os.O_DIRECT if how == 'direct' else 0), 0o644)
buf = mmap.mmap(-1, step * 4096)
done, refused = 0, '-'
while done < count:
    n = min(step, count - done)
    buf[0:n * 4096] = os.urandom(n * 4096)
    try:
        if how == 'promise':
            os.posix_fallocate(fd, (first + done) * 4096, n * 4096)
            done += n
        else:
            done += os.pwrite(fd, memoryview(buf)[:n * 4096], (first + done) * 4096) // 4096
    except OSError as e:
        if how != 'buffered' and step > 1 and e.errno in (errno.ENOSPC, errno.EDQUOT):
            step = 1
            continue
        refused = errno.errorcode[e.errno]
        break
print(done, refused)
END
blocks() { python3 "$WORK/blocks.py" "$@"; }

at_the_very_block_over_several_subvolumes() {
	local free=5000
	make_tenant a '{"used_bytes":'$((free * 4096))'}'
	new_volume a1 a 16M
	new_volume a2 a 16M
	new_volume a3 a 16M ',"thin":true'
	uses a 0
	same "$(blocks buffered "$WORK/a1/f" 0 1000)" "1000 -"
	uses a 1001
	same "$(blocks direct "$WORK/a2/f" 0 1000)" "1000 -"
	same "$(blocks promise "$WORK/a3/f" 0 1000)" "1000 -"
	uses a 3003
	same "$(blocks buffered "$WORK/a1/f" 1000 4000)" "1997 EDQUOT"
	uses a 5000
	same "$(blocks direct "$WORK/a2/f" 1000 1)" "0 EDQUOT"
	same "$(blocks promise "$WORK/a3/f" 1000 1)" "0 EDQUOT"
	fails mkdir "$WORK/a3/d/e" 2>/dev/null
	# What is there can be written over; what is given back is anybody's.
	same "$(blocks buffered "$WORK/a1/f" 0 2997)" "2997 -"
	same "$(blocks direct "$WORK/a2/f" 0 1000)" "1000 -"
	same "$(blocks buffered "$WORK/a3/f" 0 1000)" "1000 -"
	sync "$WORK/a1/f" "$WORK/a3/f"
	uses a 5000
	truncate -s $((500 * 4096)) "$WORK/a2/f"
	sync "$WORK/a2/f"
	uses a 4500
	same "$(blocks buffered "$WORK/a3/f" 1000 4000 256)" "500 EDQUOT"
	uses a 5000
	# Another tenant does not notice.
	new_volume other default 16M
	same "$(blocks buffered "$WORK/other/f" 0 4000)" "4000 -"
	uses a 5000
	end_volume other
	limits_take_effect_at_once
	for v in a1 a2 a3; do
		rm "$WORK/$v/f"
		end_volume $v
	done
	in_time uses a 0
}

limits_take_effect_at_once() {
	local v
	limit a '{"used_bytes":'$((5001 * 4096))'}' >/dev/null
	same "$(blocks buffered "$WORK/a2/f" 500 5)" "1 EDQUOT"
	# Below what is used: allowed, said, and nothing grows; what is there is written over and deleted.
	limit a '{"used_bytes":'$((4000 * 4096))'}' | grep -q '"note"'
	uses a 5001
	same "$(blocks buffered "$WORK/a2/f" 501 5)" "0 EDQUOT"
	same "$(blocks direct "$WORK/a2/f" 0 501)" "501 -"
	truncate -s $((1500 * 4096)) "$WORK/a1/f"
	sync "$WORK/a1/f"
	uses a 3504
	same "$(blocks buffered "$WORK/a2/f" 501 1000)" "496 EDQUOT"
	uses a 4000
	limit a '{"used_bytes":0}' >/dev/null
	same "$(blocks buffered "$WORK/a2/f" 1000 1000)" "1000 -"
}

inodes_over_several_subvolumes() {
	local n=0
	make_tenant i '{"inodes":50}'
	new_volume i1 i 4M
	new_volume i2 i 4M
	same "$(use_of i inodes)" 2
	while mknod "$WORK/i$((n % 2 + 1))/f$n" p 2>err; do n=$((n + 1)); done
	same $n 48
	grep -q 'quota' err
	same "$(use_of i inodes)" 50
	ln "$WORK/i1/f0" "$WORK/i1/again"
	fails ask '{"op":"subvolume.create","name":"i3","tenant":"i","size_bytes":4096}' | grep -q '"EDQUOT".* 50 inodes'
	rm "$WORK/i1/again" "$WORK/i1/f0"
	in_time mkdir "$WORK/i2/d"
	fails mkdir "$WORK/i1/d" 2>/dev/null
	rm -r "$WORK"/i1/* "$WORK"/i2/*
	end_volume i1
	end_volume i2
	in_time nobody_has_inodes
}
nobody_has_inodes() { [ "$(use_of i inodes)" = 0 ]; }

# One in each of three subvolumes of every kind, at once; and others that look at the numbers.
ten_at_once_over_three_subvolumes() {
	local i pids=() most=6000 used kinds=(buffered direct promise)
	make_tenant t '{"used_bytes":'$((most * 4096))'}'
	for i in 1 2 3; do new_volume t$i t 32M; done
	# Each root has its block before it is all used up.
	for i in 0 1 2 3 4 5 6 7 8; do : >"$WORK/t$((i % 3 + 1))/f$i"; done
	for i in 0 1 2 3 4 5 6 7 8; do
		blocks "${kinds[i / 3]}" "$WORK/t$((i % 3 + 1))/f$i" 0 8000 $((i % 4 * 30 + 1)) >"$WORK/said.$i" &
		pids+=($!)
	done
	until uses t $most >/dev/null; do
		used=$(blocks_used t)
		[ "$used" -le $most ] || { echo "$used of $most"; return 1; }
		kill -0 "${pids[@]}" 2>/dev/null || break
	done
	for i in "${pids[@]}"; do wait "$i"; done
	cat "$WORK"/said.?
	same "$(cat "$WORK"/said.? | grep -c EDQUOT)" 9
	uses t $most
	same "$(awk '{ sum += $1 } END { print sum + 3 }' "$WORK"/said.?)" $most
	for i in 1 2 3; do nvfs sync "$POOL:t$i"; done
	uses t $most
	same "$(find "$WORK"/t[123] -type f -printf '%b\n' | awk '{ sum += $1 / 8 } END { print sum + 3 }')" $most
	for i in 1 2 3; do end_volume t$i; done
}

# A snapshot takes nothing; writing over what it holds takes just that, and no more than there is.
snapshots_are_charged_for_what_was_overwritten() {
	make_tenant s '{"used_bytes":'$((6000 * 4096))'}'
	new_volume s1 s 16M
	same "$(blocks buffered "$WORK/s1/f" 0 4000)" "4000 -"
	uses s 4001
	nvfs snapshot create "$POOL:s1@one" >/dev/null
	uses s 4001
	same "$(blocks buffered "$WORK/s1/f" 100 500)" "500 -"
	uses s 4501
	same "$(blocks direct "$WORK/s1/f" 300 500)" "500 -"
	uses s 4701
	sync "$WORK/s1/f"
	uses s 4701
	# The same again is free; the rest goes as far as there is room.
	same "$(blocks buffered "$WORK/s1/f" 100 700 33)" "700 -"
	uses s 4701
	same "$(blocks buffered "$WORK/s1/f" 0 4000 256)" "1999 EDQUOT"
	uses s 6000
	same "$(blocks direct "$WORK/s1/f" 1999 1)" "0 EDQUOT"
	same "$(blocks buffered "$WORK/s1/f" 0 1999)" "1999 -"
	same "$(df --output=used -B4096 "$WORK/s1" | tail -1 | tr -d ' ')" 4001
	# Giving back what the snapshot holds gives the tenant nothing, and needs nothing.
	fallocate -p -o $((3000 * 4096)) -l $((500 * 4096)) "$WORK/s1/f"
	sync "$WORK/s1/f"
	uses s 6000
	fallocate -p -o 0 -l $((10 * 4096)) "$WORK/s1/f"
	sync "$WORK/s1/f"
	uses s 5990
	echo x >"$WORK/s1/small"
	# A block of its own, and the directory, whose record is the snapshot's too.
	uses s 5992
	rm "$WORK/s1/f"
	in_time uses s 4003
	nvfs snapshot delete --yes --wait "$POOL:s1@one"
	in_time uses s 2
	end_volume s1
	in_time uses s 0
}

# The same of a clone: it begins with nothing of its own.
clones_are_charged_for_what_they_write() {
	make_tenant c '{"used_bytes":'$((3000 * 4096))'}'
	new_volume c1 c 16M
	same "$(blocks buffered "$WORK/c1/f" 0 2000)" "2000 -"
	nvfs clone "$POOL:c1" "$POOL:c2" >/dev/null
	mkdir -p "$WORK/c2"
	mount.nvfs "$POOL:c2" "$WORK/c2"
	uses c 2001
	same "$(df --output=used -B4096 "$WORK/c2" | tail -1 | tr -d ' ')" 2001
	same "$(blocks buffered "$WORK/c2/f" 0 600)" "600 -"
	uses c 2601
	same "$(blocks direct "$WORK/c1/f" 0 300)" "300 -"
	uses c 2901
	same "$(blocks buffered "$WORK/c1/f" 0 1000)" "399 EDQUOT"
	uses c 3000
	same "$(blocks buffered "$WORK/c2/f" 0 600)" "600 -"
	cmp -n $((1000 * 4096)) -i $((1000 * 4096)) "$WORK/c1/f" "$WORK/c2/f"
	# Shared within a file, a block is charged in each place.
	rm "$WORK/c2/f"
	in_time uses c 2400
	cp --reflink=never "$WORK/c1/f" "$WORK/c1/g" 2>err && return 1
	grep -q quota err
	uses c 3000
	end_volume c1
	end_volume c2
	in_time uses c 0
}

make_pool 512M
for t in at_the_very_block_over_several_subvolumes inodes_over_several_subvolumes ten_at_once_over_three_subvolumes \
	snapshots_are_charged_for_what_was_overwritten clones_are_charged_for_what_they_write; do
	run_test $t
done
make_tenant e '{"used_bytes":'$((16 << 20))',"inodes":1000}'
new_volume e e 40M ',"inodes":1500'
# Each way of nvfs-exact, where the tenant's limit is the lower one.
cases tenant "$WORK/e" 4096 1000 --beyond 6144,500 --skip by_bytes --skip '*alike*'
run_test umount.fuse.nvfs "$WORK/e"
check_pool
finish
