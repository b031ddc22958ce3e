#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# nvfs snapshot diff and nvfs du: what they say of mounted and busy volumes, in which form, and who gets it.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

make_pool 1G
export POOL
mnt=$WORK/mnt
mkdir "$mnt"
MOUNTS+=("$mnt")

# with_volume NAME COMMAND...: on a fresh subvolume, mounted on $at.
with_volume() {
	export at=$mnt vol=$1
	nvfs subvolume create "$POOL:$vol" --size 128M --thin >/dev/null
	mount.nvfs "$POOL:$vol" "$at"
	shift
	"$@"
	! mountpoint -q "$at" || umount.fuse.nvfs "$at"
}

take() { nvfs snapshot create "$POOL:$vol@$1" >/dev/null; }
random() { dd if=/dev/urandom bs="$1" count="$2" status=none; }
# bytes NAME KEY
bytes() { nvfs du "$POOL:$vol" --json | jq -r ".usage[] | select(.snapshot == $1).$2"; }

each_change_is_one_line() {
	mkdir -p "$at/dir/sub" "$at/moved"
	random 4k 3 >"$at/f"
	echo small >"$at/small"
	touch "$at/gone" "$at/dir/mode" "$at/dir/attr"
	for i in $(seq 50); do echo "$i" >"$at/moved/$i"; done
	take one
	[ -z "$(nvfs snapshot diff "$POOL:$vol@one")" ]
	echo x | dd of="$at/f" bs=1 seek=5000 conv=notrunc status=none
	echo more >>"$at/small"
	rm "$at/gone"
	chmod 600 "$at/dir/mode"
	setfattr -n user.a -v b "$at/dir/attr"
	mv "$at/moved" "$at/dir/sub/here"
	ln "$at/f" "$at/dir/hard"
	ln -s f "$at/soft"
	touch -d 2020-01-01 "$at/dir/sub/here/7"
	nvfs snapshot diff "$POOL:$vol@one" >out
	cat >expected <<-END
		M  /
		M  /dir/
		A  /dir/attr  (xattrs)
		+  /dir/hard  (link)
		A  /dir/mode  (mode)
		M  /dir/sub/
		R  /moved/ -> /dir/sub/here/
		A  /dir/sub/here/7  (times)
		M  /f
		-  /gone
		M  /small
		+  /soft
	END
	diff -u expected out
	# The other way round, and by JSON.
	nvfs snapshot diff "$POOL:$vol" "$POOL:$vol@one" | grep -qxF 'R  /dir/sub/here/ -> /moved/'
	nvfs snapshot diff "$POOL:$vol@one" --json | jq -c 'select(.path == "/f") | [.change, .type, .what]' >out
	same "$(cat out)" '["modified","file",["data","times"]]'
	take two
	nvfs snapshot diff "$POOL:$vol@one" "$POOL:$vol@two" | diff -u expected -
}
TEST_NAME=each_change_is_one_line run_test with_volume a each_change_is_one_line

# A terminal gets nothing that could do something to it, programs get the bytes.
names_are_bytes() {
	take one
	touch "$at/$(printf 'esc\033[31m')" "$at/$(printf 'new\nline')" "$at/$(printf 'latin\351')" "$at/grün"
	nvfs snapshot diff "$POOL:$vol@one" >out
	cat >expected <<-'END'
		M  /
		+  /esc\x1b[31m
		+  /grün
		+  /latin\xe9
		+  /new\x0aline
	END
	diff -u expected out
	nvfs snapshot diff "$POOL:$vol@one" --json | jq -r 'select(.path_hex).path_hex' >out
	same "$(cat out)" "2f6c6174696ee9"
	nvfs snapshot diff "$POOL:$vol@one" --json | jq -e 'select(.path == "/new\nline").path_hex == null' >/dev/null
}
TEST_NAME=names_are_bytes run_test with_volume b names_are_bytes

# What was answered before is in the answer, whatever else is written meanwhile; each diff is of one moment.
a_diff_is_a_moment() {
	local i before
	take one
	(
		i=0
		while [ -e "$at" ] && [ ! -e "$WORK/stop" ]; do
			i=$((i + 1))
			echo "$i" >"$at/a$i" && echo "$i" >"$at/b$i"
		done
	) &
	for i in $(seq 10); do
		before=$(find "$at" -name 'a*' | wc -l)
		nvfs snapshot diff "$POOL:$vol@one" >out
		[ "$(grep -c '^+  /a' out)" -ge "$before" ]
		# b of a number is never there without its a, nor more than one a without its b.
		sed -n 's,^+  /b,,p' out | sort >b
		sed -n 's,^+  /a,,p' out | sort >a
		[ -z "$(comm -13 a b)" ]
		[ "$(comm -23 a b | wc -l)" -le 1 ]
	done
	touch "$WORK/stop"
	wait
}
TEST_NAME=a_diff_is_a_moment run_test with_volume c a_diff_is_a_moment

pages_of_mmap_count() {
	need python3
	random 4k 4 >"$at/f"
	take one
	python3 - "$at/f" "$POOL:$vol@one" >out <<-'END'
		import mmap, subprocess, sys
		with open(sys.argv[1], "r+b") as f:
		    m = mmap.mmap(f.fileno(), 0)
		    m[5000] ^= 1
		    print(subprocess.run(["nvfs", "snapshot", "diff", sys.argv[2]], capture_output=True, text=True, check=True).stdout)
	END
	grep -q '^M  /f' out
}
TEST_NAME=pages_of_mmap_count run_test with_volume d pages_of_mmap_count

du_says_who_holds_what() {
	random 1M 8 >"$at/f"
	take one
	random 1M 2 | dd of="$at/f" bs=1M seek=3 conv=notrunc status=none
	same "$(bytes null data_bytes)" 8388608
	same "$(bytes null exclusive_bytes)" 2097152
	same "$(bytes '"one"' exclusive_bytes)" 2097152
	same "$(bytes '"one"' shared_bytes)" 6291456
	same "$(bytes null referenced_bytes)" "$(nvfs subvolume show "$POOL:$vol" --json | jq .used_bytes)"
	nvfs du "$POOL:$vol@one" | awk 'NR == 2 { print $1, $2, $3, $4, $5 }' >out
	same "$(cat out)" "$POOL:$vol@one 8M 8M 2M 6M"
	# A whole pool adds up, and agrees with what the pool says.
	sync -f "$at/f"
	nvfs du "$POOL" --json >out
	same "$(jq '.pools[0] | .written_bytes - .saved_by_compression_bytes - .saved_by_sharing_bytes == .held_bytes - .leaving_bytes' out)" true
	same "$(jq '.pools[0] | .data_bytes - .free_bytes - .held_bytes' out)" 0
	same "$(jq '.pools[0].free_bytes' out)" "$(nvfs pool show "$POOL" --json | jq .free_bytes)"
	# Deleting the snapshot gives back what was exclusive to it.
	free=$(jq '.pools[0].free_bytes' out)
	nvfs snapshot delete "$POOL:$vol@one" --yes --wait >/dev/null
	in_time gives_back $((free + 2097152))
}
gives_back() { [ "$(nvfs pool show "$POOL" --json | jq .free_bytes)" = "$1" ]; }
export -f gives_back
TEST_NAME=du_says_who_holds_what run_test with_volume e du_says_who_holds_what

refusals_are_one_line() {
	local code=0
	take one
	nvfs snapshot diff "$POOL:$vol@nosuch" 2>err || code=$?
	same "$code" 4
	same "$(wc -l <err)" 1
	grep -q "there is no snapshot $vol@nosuch" err
	code=0
	nvfs subvolume create "$POOL:else" --size 1M --thin >/dev/null
	nvfs snapshot diff "$POOL:$vol@one" "$POOL:else" 2>err || code=$?
	same "$code" 1
	grep -q 'nothing in common' err
	code=0
	nvfs snapshot diff "$POOL:$vol" 2>err || code=$?
	same "$code" 2
	code=0
	nvfs du "$POOL:nosuch" 2>err || code=$?
	same "$code" 4
	# Half a conversation: who goes away ends the work, and hurts nobody.
	for i in 1 2 3 4 5 6; do
		printf '{"op":"du"}\n' | timeout 5 python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.stdin.buffer.read())' "$(grep -oE -m 1 "/[^ ]*/$POOL\.sock" /proc/net/unix)"
	done
	in_time nvfs du "$POOL" >/dev/null
}
TEST_NAME=refusals_are_one_line run_test with_volume f refusals_are_one_line

# An owner of a tenant gets what is its own, nothing of the pool, and does not learn what else there is.
owners_see_their_own() {
	local code=0
	need setpriv
	nvfs tenant create "$POOL/blue" --owner-uid 61011 >/dev/null
	nvfs subvolume create "$POOL:its" --size 8M --thin --tenant blue >/dev/null
	nvfs snapshot create "$POOL:its@one" >/dev/null
	take one
	as_owner du "$POOL" --json >out
	same "$(jq -c '[.usage[] | .subvolume + "@" + (.snapshot // "")], .pools' out | tr '\n' ' ')" '["its@one","its@"] [] '
	[ -z "$(as_owner snapshot diff "$POOL:its@one")" ]
	for what in "du $POOL:$vol" "snapshot diff $POOL:$vol@one" "snapshot diff $POOL:its@one $POOL:$vol"; do
		code=0
		# shellcheck disable=SC2086
		as_owner $what 2>err || code=$?
		same "$code" 4
		grep -q 'there is no ' err
	done
}
cli=$(command -v nvfs)
as_owner() { setpriv --reuid 61011 --regid 61011 --clear-groups "$cli" "$@"; }
TEST_NAME=owners_see_their_own run_test with_volume g owners_see_their_own

check_pool
finish
