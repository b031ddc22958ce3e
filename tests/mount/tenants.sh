#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tenants: limits over several mounted subvolumes are exact, change under writers, and an owner who is an ordinary user
# administers what is its own and sees nothing else.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

make_pool 1G
mib=$((1 << 20))
owner=61010 # nobody's number elsewhere
cli=$(command -v nvfs)

# What a tenant uses, as programs see it; in bytes.
used() { nvfs tenant show "$POOL/$1" --json | tr -d ' \n' | grep -oE '"use":\{"used_bytes":[0-9]+' | grep -oE '[0-9]+$'; }
as_owner() { setpriv --reuid $owner --regid $owner --clear-groups "$cli" "$@"; }

# volume NAME TENANT [OPTION...]: makes it and mounts it on ./NAME.
volume() {
	local name=$1 tenant=$2
	shift 2
	nvfs subvolume create "$POOL:$name" --tenant "$tenant" --size 100M "$@" >/dev/null
	mkdir -p "$name"
	mount.nvfs "$POOL:$name" "$name"
}

drop_volume() {
	umount "$1"
	nvfs subvolume delete "$POOL:$1" --yes
}

# Everything that a test made, whether it passed or not.
drop_all() {
	local name
	for name in v0 v1 v2 v3 v4; do
		mountpoint -q "$WORK/$name" && umount "$WORK/$name"
		nvfs snapshot list "$POOL:$name" --json 2>/dev/null | grep -oE '"snapshot": "[^"]*"' | cut -d'"' -f4 |
			while read -r snap; do nvfs snapshot delete "$POOL:$name@$snap" --yes; done
		nvfs subvolume delete "$POOL:$name" --yes
	done >/dev/null 2>&1
	nvfs tenant delete "$POOL/red" --yes >/dev/null 2>&1
	nvfs tenant delete "$POOL/blue" --yes >/dev/null 2>&1
}

# write_on FILE [dd arguments]: appends blocks until it is refused; fails when that is not for the tenant's limit.
write_on() {
	local file=$1
	shift
	! LC_ALL=C dd if=/dev/zero of="$file" bs=4096 count=100000 oflag=append conv=notrunc status=none "$@" 2>"$WORK/err.${file//\//_}" &&
		grep -q 'Disk quota exceeded' "$WORK/err.${file//\//_}"
}

blocks_of() {
	local total=0 file
	for file in "$@"; do
		total=$((total + $(stat -c %b "$file") * 512))
	done
	echo $total
}

# Used is never above the limit, whenever one looks.
never_above() {
	local now
	while [ -e writing ]; do
		now=$(used red) || return 1
		[ "$now" -le "$1" ] || { echo "$now bytes are used"; return 1; }
	done
}

ten_writers_stop_at_the_limit() {
	local limit=$((64 * mib)) i pids=() watcher
	nvfs tenant create "$POOL/red" --used $limit >/dev/null
	for i in 0 1 2 3 4; do
		volume v$i red
		: >v$i/buffered
		: >v$i/direct
	done
	: >writing
	never_above $limit &
	watcher=$!
	for i in 0 1 2 3 4; do
		write_on v$i/buffered &
		pids+=($!)
		write_on v$i/direct oflag=append,direct &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i"
	done
	rm writing
	wait $watcher
	same "$(used red)" $limit
	sync v0/* v1/* v2/* v3/* v4/*
	same "$(used red)" $limit
	# A directory with two names has a block.
	same "$(blocks_of v?/buffered v?/direct)" $((limit - 5 * 4096))
	# What is full can be written over; an inch more cannot; another tenant is not full.
	dd if=/dev/urandom of=v0/buffered bs=4096 count=$(($(stat -c %s v0/buffered) / 4096)) conv=notrunc,fsync status=none
	same "$(used red)" $limit
	write_on v1/buffered
	volume other default
	dd if=/dev/zero of=other/f bs=1M count=8 conv=fsync status=none
	drop_volume other
	# Room for one block, taken once.
	truncate -s -4096 v2/direct
	sync v2/direct
	same "$(used red)" $((limit - 4096))
	write_on v3/buffered
	same "$(used red)" $limit
}

# One that waits for more room gets it at once, and one that has too much stops at once.
limits_change_under_writers() {
	nvfs tenant create "$POOL/red" --used 8M >/dev/null
	volume v0 red
	write_on v0/f
	same "$(used red)" $((8 * mib))
	nvfs tenant set "$POOL/red" --used 9M >/dev/null
	write_on v0/f
	same "$(used red)" $((9 * mib))
	nvfs tenant set "$POOL/red" --used 4M >/dev/null 2>note
	grep -q 'tenant red has more than it may now: 9 MiB of 4 MiB used' note
	write_on v0/f
	same "$(used red)" $((9 * mib))
	dd if=/dev/zero of=v0/f bs=1M count=1 conv=notrunc,fsync status=none
	nvfs tenant set "$POOL/red" --used none >/dev/null
	dd if=/dev/zero of=v0/f bs=1M count=20 conv=fsync status=none
	nvfs tenant set "$POOL/red" --inodes 3 >/dev/null
	touch v0/a
	fails touch v0/b
	nvfs tenant set "$POOL/red" --inodes 4 >/dev/null
	touch v0/b
	fails touch v0/c
}

unlinked_and_snapshots_count() {
	local base
	nvfs tenant create "$POOL/red" --used 32M --snapshots 1 >/dev/null
	volume v0 red
	dd if=/dev/zero of=v0/f bs=1M count=16 conv=fsync status=none
	base=$(used red)
	nvfs snapshot create "$POOL:v0@s" >/dev/null
	refused 'has 1 snapshots and may have 1' nvfs snapshot create "$POOL:v0@t"
	same "$(used red)" "$base"
	# What the snapshot holds is held besides.
	dd if=/dev/urandom of=v0/f bs=1M count=8 conv=notrunc,fsync status=none
	in_time eval "[ \"\$(used red)\" -ge $((base + 8 * mib)) ]"
	same $(($(used red) / mib)) $(((base + 8 * mib) / mib))
	# Unlinked and open: still there.
	exec 7<>v0/g
	dd if=/dev/zero of=v0/g bs=1M count=4 conv=fsync,notrunc status=none
	rm v0/g
	sync -f v0
	[ "$(used red)" -ge $((base + 12 * mib)) ]
	fails dd if=/dev/zero of=v0/h bs=1M count=8 conv=fsync status=none
	rm -f v0/h
	exec 7<&-
	in_time eval "[ \"\$(used red)\" -lt $((base + 9 * mib)) ]"
	dd if=/dev/zero of=v0/h bs=1M count=6 conv=fsync status=none
}

# The daemon is started anew between these two.
soft_limit_is_enforced_after_its_grace() {
	nvfs tenant create "$POOL/red" --soft 4M --grace 1s >/dev/null
	volume v0 red
	dd if=/dev/zero of=v0/f bs=1M count=5 conv=fsync status=none
	in_time eval "nvfs events '$POOL' | grep -q 'tenant red: uses .* more than its soft limit of 4 MiB'"
	nvfs tenant set "$POOL/red" --grace 1h | grep -q 'above it; nothing grows from '
	nvfs tenant set "$POOL/red" --grace 1s >/dev/null
	in_time write_one_is_refused
	dd if=/dev/zero of=v0/f bs=1M count=5 conv=notrunc,fsync status=none
	umount v0
}
soft_limit_outlives_a_restart() {
	mount.nvfs "$POOL:v0" v0
	write_on v0/f
	nvfs tenant show "$POOL/red" | grep -q 'above it; nothing grows since '
	truncate -s 3M v0/f
	sync v0/f
	in_time eval "! nvfs tenant show '$POOL/red' | grep -q 'above it;'"
	dd if=/dev/zero of=v0/g bs=4096 count=1 conv=fsync status=none
}
write_one_is_refused() { ! dd if=/dev/zero of=v0/more bs=4096 count=1 oflag=append conv=notrunc,fsync status=none 2>/dev/null; }

owner_administers_its_own() {
	nvfs tenant create "$POOL/red" --provisioned 64M --subvolumes 2 --snapshots 1 --owner-uid $owner >/dev/null
	as_owner subvolume create "$POOL:v0" --size 8M >out
	grep -q '^tenant  *red$' out
	as_owner subvolume resize "$POOL:v0" --size 16M >/dev/null
	refused '65 MiB|cannot be promised' as_owner subvolume resize "$POOL:v0" --size 65M
	as_owner snapshot create "$POOL:v0@s" >/dev/null
	refused 'may have 1' as_owner snapshot create "$POOL:v0@t"
	as_owner clone "$POOL:v0@s" "$POOL:v1" >/dev/null
	refused 'has 2 subvolumes and may have 2' as_owner subvolume create "$POOL:v2" --size 1M
	as_owner snapshot rollback "$POOL:v0@s" --yes >/dev/null
	# Its root directory is the owner's.
	mkdir -p v0
	mount.nvfs "$POOL:v0" v0
	same "$(stat -c %u:%g v0)" $owner:$owner
	umount v0
	as_owner subvolume delete "$POOL:v1" --yes --wait >out
	same "$(cat out)" "deleted $POOL:v1; its space is back"
	as_owner snapshot delete "$POOL:v0@s" --yes
	as_owner subvolume delete "$POOL:v0" --yes
	same "$(as_owner subvolume list "$POOL" --json)" '[]'
	for what in "pool stop $POOL" "pool show $POOL" "pool set $POOL --overcommit 300" "tenant set $POOL/red --used none" \
		"tenant create $POOL/green" "tenant delete $POOL/red --yes" "sync $POOL"; do
		# shellcheck disable=SC2086
		refused 'only root and the control_group' as_owner $what
	done
}

another_tenant_is_invisible() {
	nvfs tenant create "$POOL/red" --owner-uid $owner >/dev/null
	nvfs tenant create "$POOL/blue" --owner-uid 61011 >/dev/null
	volume v0 red
	volume v1 blue
	volume v2 default
	nvfs snapshot create "$POOL:v1@secret" >/dev/null
	same "$(as_owner subvolume list "$POOL" --json | grep -c '"name"')" 1
	same "$(as_owner tenant list "$POOL" --json | grep -c '"name"')" 1
	same "$(as_owner snapshot list "$POOL" --json)" '[]'
	for what in "subvolume list $POOL" "tenant list $POOL" "snapshot list $POOL" "events $POOL" "top $POOL --once"; do
		# shellcheck disable=SC2086
		as_owner $what >out
		cat out
		fails grep -qE 'v1|v2|blue|default|secret' out
	done
	as_owner events "$POOL" | grep -q v0
	for what in "subvolume show" "subvolume delete --yes" "subvolume resize --size 1M" "snapshot list"; do
		# shellcheck disable=SC2086
		refused 'there is no subvolume v1' as_owner $what "$POOL:v1"
		# shellcheck disable=SC2086
		refused 'there is no subvolume v9' as_owner $what "$POOL:v9"
	done
	refused 'there is no snapshot v1@secret' as_owner snapshot delete --yes "$POOL:v1@secret"
	refused 'there is no snapshot v1@secret' as_owner clone "$POOL:v1@secret" "$POOL:v3"
	refused 'there is no subvolume v1' as_owner snapshot create "$POOL:v1@mine"
	refused 'there is no tenant blue' as_owner tenant show "$POOL/blue"
	refused 'there is no tenant blue' as_owner subvolume create "$POOL:v3" --tenant blue --size 1M
	# That a name is taken can be found out; whose it is cannot, nor what the pool has.
	refused 'the name v1 is taken; take another one' as_owner subvolume create "$POOL:v1" --size 1M
	refused 'the pool cannot promise 1 TiB more; take a smaller size, or ask its administrator' \
		as_owner subvolume create "$POOL:v3" --size 1T
	# Who owned it a moment ago, and anybody else.
	nvfs tenant set "$POOL/red" --owner-uid none >/dev/null
	refused 'only root, the control_group of nvfs.conf and the owners of tenants' as_owner subvolume list "$POOL"
	umount v0 v1 v2
}

# What a subvolume is that says nothing itself; what it says is so.
defaults_are_those_of_the_tenant() {
	local of='[.size_bytes, .inodes, .thin, .compression]'
	nvfs tenant create "$POOL/red" --default-size 8M --default-inodes 70 --default-claim thin --default-compression lz4 >out
	grep -qE '^new ones get +8M, 70 inodes, thin, compression lz4$' out
	same "$(nvfs subvolume create "$POOL:v0" --tenant red --json | jq -c "$of")" '[8388608,70,true,"lz4"]'
	mkdir -p v0
	mount.nvfs "$POOL:v0" v0
	same "$(df --output=size,itotal -B1 v0 | tail -1 | tr -s ' ')" ' 8388608 70'
	umount v0
	same "$(nvfs subvolume create "$POOL:v1" --tenant red --size 9M --inodes 90 --reserved --compression off --json | jq -c "$of")" \
		'[9437184,90,false,"off"]'
	nvfs tenant set "$POOL/red" --default-size none --default-inodes none --default-claim none --default-compression none >out
	fails grep -q 'new ones' out
	refused 'size' nvfs subvolume create "$POOL:v2" --tenant red
	same "$(nvfs subvolume create "$POOL:v2" --tenant red --size 16M --json | jq -c "$of")" '[16777216,1024,false,"off"]'
	# Sizes together; those of what is made by default, too.
	nvfs tenant set "$POOL/red" --provisioned 40M --default-size 8M >/dev/null
	refused '8 MiB more cannot be promised: the subvolumes of tenant red have 33 MiB of the 40 MiB that they may; 7 MiB would work' \
		nvfs subvolume create "$POOL:v3" --tenant red
	exits_with 5 nvfs subvolume resize "$POOL:v2" --size 24M
	nvfs subvolume resize "$POOL:v2" --size 23M >/dev/null
	same "$(nvfs tenant show "$POOL/red" --json | jq .use.provisioned_bytes)" $((40 << 20))
}

last_of() { ask_as_owner '{"op":"events"}' | jq .last; }
ask_as_owner() {
	python3 -c '
import os, socket, sys
os.setgroups([])
os.setresgid(*[int(sys.argv[3])] * 3)
os.setresuid(*[int(sys.argv[3])] * 3)
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\n")
print(s.makefile().readline(), end="")' "$(grep -oE -m 1 "/[^ ]*/$POOL\.sock" /proc/net/unix)" "$1" $owner
}

owner_follows_events_of_its_own() {
	local i last follower status=0 answer opening
	need python3 jq
	nvfs tenant create "$POOL/red" --owner-uid $owner >/dev/null
	nvfs tenant create "$POOL/blue" --owner-uid 61011 >/dev/null
	as_owner subvolume create "$POOL:v0" --size 1M >/dev/null
	answer=$(ask_as_owner '{"op":"events"}')
	last=$(jq .last <<<"$answer")
	opening=$(jq .opening <<<"$answer")
	for i in 2 3 4; do
		nvfs subvolume create "$POOL:v$i" --tenant blue --size 1M >/dev/null
	done
	same "$(last_of)" "$last"
	as_owner events "$POOL" --follow --json >followed 2>err &
	follower=$!
	in_time grep -q '"subvolume":"v0"' followed
	as_owner subvolume resize "$POOL:v0" --size 2M >/dev/null
	in_time grep -q resized followed
	as_owner subvolume resize "$POOL:v0" --size 3M >/dev/null
	in_time grep -q 'size is 3' followed
	same "$(ask_as_owner "{\"op\":\"events\",\"since\":$last,\"opening\":$opening}" | jq -r '.events[].text, .lost, .restarted')" \
		"its size is 2M now by user $owner
its size is 3M now by user $owner
0
false"
	fails grep -qE 'v2|v3|v4|blue' followed
	# They are not those that administrators have, of which there are a few dozen.
	[ "$(jq .number followed | sort -n | tail -1)" -gt 1000000 ]
	same "$(jq .number followed | sort -u | wc -l)" "$(wc -l <followed)"
	# Three of its own, and what is deleted while others have the name is its own still.
	as_owner snapshot create "$POOL:v0@s" >/dev/null
	as_owner subvolume delete "$POOL:v0" --yes --wait
	nvfs subvolume create "$POOL:v0" --tenant blue --size 1M >/dev/null
	as_owner snapshot delete "$POOL:v0@s" --yes --wait
	in_time grep -q '"snapshot-deleted"' followed
	in_time grep -q '"sweep-ended"' followed
	fails grep -q '"tenant":"[^r]' followed
	nvfs events "$POOL" --json | grep '"snapshot-deleted"' | grep -q '"tenant":"red"'
	# Ownership that is taken away ends it.
	nvfs tenant set "$POOL/red" --owner-uid none >/dev/null
	wait $follower || status=$?
	same $status 8
	grep -q 'you own no tenant any more' err
}

owner_groups_and_clones_its_own_only() {
	nvfs tenant create "$POOL/red" --owner-uid $owner >/dev/null
	nvfs tenant create "$POOL/blue" --owner-uid 61011 >/dev/null
	as_owner subvolume create "$POOL:v0" --size 1M >/dev/null
	nvfs subvolume create "$POOL:v1" --tenant blue --size 1M >/dev/null
	nvfs snapshot create "$POOL:v1@s" >/dev/null
	refused 'there is no subvolume v1' as_owner snapshot create --group "$POOL:v0@g" "$POOL:v1@g"
	refused 'there is no subvolume v9' as_owner snapshot create --group "$POOL:v0@g" "$POOL:v9@g"
	same "$(as_owner snapshot list "$POOL" --json)" '[]'
	refused 'there is no subvolume v1' as_owner clone "$POOL:v1" "$POOL:v2"
	refused 'there is no subvolume v1' as_owner snapshot diff "$POOL:v1@s"
	refused 'there is no subvolume v1' as_owner du "$POOL:v1"
	refused 'there is no subvolume v1' as_owner snapshot rollback --dry-run "$POOL:v1@s"
	refused 'there is no subvolume v1' as_owner subvolume delete --dry-run "$POOL:v1"
	as_owner clone "$POOL:v0" "$POOL:v2" >/dev/null
	same "$(nvfs subvolume show "$POOL:v2" --json | grep -c '"tenant": "red"')" 1
	as_owner du "$POOL" >out
	fails grep -qE 'v1|stored, ' out
}

# A follower from before the daemon was stopped and started.
events_are_followed_over_a_restart() {
	in_time grep -q 'the connection to nvfsd ended; waiting until the pool is served again' "$WORK/followed.err"
	in_time grep -q 'nvfsd was started anew' "$WORK/followed.err"
	nvfs tenant create "$POOL/blue" >/dev/null
	in_time grep -q '"tenant-created".*"tenant":"blue"' "$WORK/followed.out"
	same "$(grep -c '"tenant-created".*"tenant":"blue"' "$WORK/followed.out")" 1
}

exit_codes_of_tenants() {
	nvfs tenant create "$POOL/red" --used 8M >/dev/null
	exits_with 7 nvfs tenant create "$POOL/red" --used 8M
	exits_with 4 nvfs tenant show "$POOL/none"
	exits_with 4 nvfs tenant delete "$POOL/none" --yes
	exits_with 2 nvfs tenant create "$POOL"
	exits_with 2 nvfs tenant create "$POOL/b c"
	exits_with 2 nvfs tenant create "$POOL/x" --grace 5x --soft 1M
	exits_with 2 nvfs tenant create "$POOL/x" --soft 8M --used 8M
	exits_with 2 nvfs tenant create "$POOL/x" --owner-uid no.such.user
	exits_with 2 nvfs tenant set "$POOL/red"
	volume v0 red
	exits_with 6 nvfs tenant delete "$POOL/red" --yes
	refused 'has 1 subvolumes and 0 snapshots: delete them first: v0' nvfs tenant delete "$POOL/red" --yes
	fails nvfs tenant delete "$POOL/default" --yes
	drop_volume v0
	nvfs tenant delete "$POOL/red" --dry-run | grep -q 'would delete tenant red'
	nvfs tenant delete "$POOL/red" --yes
	fails nvfs tenant show "$POOL/red"
}

for t in ten_writers_stop_at_the_limit limits_change_under_writers unlinked_and_snapshots_count defaults_are_those_of_the_tenant exit_codes_of_tenants; do
	run_test $t
	drop_all
done
run_test soft_limit_is_enforced_after_its_grace
mountpoint -q "$WORK/v0" && umount "$WORK/v0"
nvfs events "$POOL" --follow --json >"$WORK/followed.out" 2>"$WORK/followed.err" &
follower=$!
TEST_NAME=events_are_followed run_test in_time grep -q tenant-created "$WORK/followed.out"
stop_pool "$POOL"
start_pool "$POOL"
run_test soft_limit_outlives_a_restart
run_test events_are_followed_over_a_restart
kill $follower
drop_all
for t in owner_administers_its_own another_tenant_is_invisible owner_follows_events_of_its_own owner_groups_and_clones_its_own_only; do
	if command -v setpriv >/dev/null; then
		run_test $t
	else
		skip_test $t "setpriv is not installed"
	fi
	drop_all
done
check_pool
finish
