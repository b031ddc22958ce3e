#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What administrators may get wrong, alone and together: names and sizes that cannot be, eight who do opposite things at once, and
# clients that die in the middle. Each gets one clear line and the exit code of its kind, and nothing is left half done.
# shellcheck disable=SC2154 # MNT_*: mount_subvolume sets them
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

make_pool 256M
make_subvolume data --size 32M --inodes 100
mount_subvolume data
mkdir "$WORK/m"

# refused_with CODE PATTERN COMMAND...: one line, and that exit code (or one of them: 2|4).
refused_with() {
	local code=$1 status=0
	shift
	refused "$@"
	"${@:2}" >/dev/null 2>&1 || status=$?
	[[ $status =~ ^($code)$ ]] || { echo "status $status, not $code"; return 1; }
	fails grep -q $'\e' err
}

# What there is, as programs see it.
inventory() {
	nvfs subvolume list "$POOL" --json | grep -vE '"(created_ns|used_bytes|cached_inodes|requests|reads|read_bytes|namespace_ops)"'
	nvfs pool show "$POOL" --json | grep -E '"(reserved_bytes|subvolumes)"'
}

# nothing_changes COMMAND...
nothing_changes() {
	local before
	before=$(inventory)
	"$@"
	same "$(inventory)" "$before"
}

names_that_cannot_be() {
	nothing_changes each_bad_name
}
each_bad_name() {
	local name long
	long=$(printf 'x%.0s' {1..300})
	for name in a/b /a a@b @ a:b : '' "$long" "${long:0:256}" $'\xff\xfe' $'a\xc3\x28' -x --size .x . .. ' x' 'x ' $'a\nb' $'\e[2J' é \* %s%n; do
		# It is named, as far as a terminal can bear it, or that there is none.
		refused_with 2 'cannot be|no name|has no name|path|names a snapshot|no snapshot' nvfs subvolume create "$POOL:$name" --size 1M
		refused_with 2 'cannot be|no name|has no name|path|names a snapshot|no snapshot' nvfs subvolume show "$POOL:$name"
		refused_with 2 'cannot be|no name|has no name|path|names a snapshot|no snapshot' nvfs subvolume resize "$POOL:$name" --size 2M
		refused_with 2 'cannot be|no name|has no name|path|names a snapshot|no snapshot' nvfs subvolume delete --yes "$POOL:$name"
		refused_with 2 'cannot be|no name|has no name|path|names a snapshot|no snapshot' nvfs sync "$POOL:$name"
		refused_with 32 'cannot be|no name|has no name|path|names a snapshot|no snapshot' mount.nvfs "$POOL:$name" m
	done
}

snapshots_that_cannot_be() {
	nothing_changes each_bad_snapshot
}
each_bad_snapshot() {
	local name verb bad='cannot be|cannot name|no name|no snapshot|no UTF-8|path'
	for name in a/b a@b a:b '' "$(printf 'x%.0s' {1..300})" $'\xff\xfe' -x .x . .. ' x' $'a\nb' $'\e[2J' \* %s%n; do
		refused_with 2 "$bad" nvfs snapshot create "$POOL:data@$name"
		for verb in show 'delete --yes' 'rollback --yes'; do
			# shellcheck disable=SC2086 # words
			refused_with '2|4' "$bad" nvfs snapshot $verb "$POOL:data@$name"
		done
		refused_with '2|4' "$bad" nvfs clone "$POOL:data@$name" "$POOL:new"
		refused_with 2 "$bad" nvfs snapshot diff "$POOL:data@$name"
		refused_with 2 "$bad" nvfs du "$POOL:data@$name"
		refused_with '2|4' "$bad|no subvolume none" nvfs snapshot create --group "$POOL:none@good" "$POOL:data@$name"
		refused_with 32 "$bad" mount.nvfs "$POOL:data@$name" m
	done
	refused_with 2 "$bad" nvfs snapshot create "$POOL:data"
	refused_with 2 "$bad" nvfs snapshot create "$POOL"
	for verb in show 'delete --yes' 'rollback --yes'; do
		# shellcheck disable=SC2086
		refused_with 4 'no snapshot data@none; nvfs snapshot list' nvfs snapshot $verb "$POOL:data@none"
	done
	refused_with 4 'no snapshot data@none; nvfs snapshot list' nvfs clone "$POOL:data@none" "$POOL:new"
	refused_with 4 'no subvolume none; nvfs subvolume list' nvfs snapshot create "$POOL:none@s"
	refused_with 4 'no subvolume none; nvfs subvolume list' nvfs snapshot create --group "$POOL:data@s" "$POOL:none@s"
	refused_with 4 'no subvolume none; nvfs subvolume list' nvfs clone "$POOL:none" "$POOL:new"
	refused_with 7 'already' nvfs clone "$POOL:data" "$POOL:data"
	refused_with 2 'two pools; a clone' nvfs clone "$POOL:data" "$POOL-none:data"
	refused_with 2 'twice|different|more than once' nvfs snapshot create --group "$POOL:data@s" "$POOL:data@t"
	for name in a/b a:b '' "$(printf 'x%.0s' {1..300})" -x; do
		refused_with 2 "$bad" nvfs clone "$POOL:data" "$POOL:$name"
	done
}

tenants_that_cannot_be() {
	nothing_changes each_bad_tenant
	same "$(nvfs tenant list "$POOL" --json | grep -c '"name"')" 1
}
each_bad_tenant() {
	local name verb bad='cannot be the name of a tenant|names no tenant'
	for name in a/b a@b a:b '' "$(printf 'x%.0s' {1..300})" $'\xff\xfe' -x .x . .. ' x' $'a\nb' $'\e[2J' \* %s%n; do
		for verb in create show 'set --used 1M' 'delete --yes' 'delete --dry-run'; do
			# shellcheck disable=SC2086 # words
			refused_with '2|4' "$bad" nvfs tenant $verb "$POOL/$name"
		done
		refused_with 2 "$bad" nvfs subvolume create "$POOL:s" --size 1M --tenant="$name"
	done
	for verb in show 'set --used 1M' 'delete --yes' 'delete --dry-run'; do
		# shellcheck disable=SC2086
		refused_with 4 'no tenant none; nvfs tenant list' nvfs tenant $verb "$POOL/none"
	done
	refused_with 4 'no tenant none; nvfs tenant list' nvfs subvolume create "$POOL:s" --size 1M --tenant none
	refused_with 8 'default .* stays' nvfs tenant delete --yes "$POOL/default"
}

longest_name_is_fine() {
	local name
	name=$(printf 'x%.0s' {1..255})
	nvfs subvolume create "$POOL:$name" --size 1M
	nvfs subvolume show "$POOL:$name" --json | grep -q "\"name\": \"$name\""
	mount.nvfs "$POOL:$name" m
	umount.fuse.nvfs m
	nvfs subvolume delete --yes "$POOL:$name"
}

sizes_that_cannot_be() {
	nothing_changes each_bad_size
}
each_bad_size() {
	local size
	for size in 0 0K -1 -5M 0.5 1.5 2.0 1.5B 1e3 1e999 99999999999999999999 9223372036854775808 16E 8E '' ' ' 1X 1MM 1M1 0x10 1,5M inf nan +5M .5M; do
		refused_with 2 'is no size; write one like 10G' nvfs subvolume create "$POOL:s" --size "$size"
		refused_with 2 'is no size; write one like 10G' nvfs subvolume resize "$POOL:data" --size "$size"
	done
	for size in 0 -1 1.5 99999999999999999999 abc '' 1K; do
		refused_with 2 'inodes .* is no whole number' nvfs subvolume create "$POOL:s" --size 1M --inodes "$size"
		refused_with 2 'inodes .* is no whole number' nvfs subvolume resize "$POOL:data" --inodes "$size"
	done
	for size in 16385 9223372036854775807 9223372036854775808 18446744073709551615; do
		refused_with 2 'inodes' nvfs subvolume create "$POOL:s" --size 1M --inodes $size
		refused_with 2 'inodes' nvfs subvolume resize "$POOL:data" --inodes $size
	done
}

# With the numbers: what there is, what is promised, what would work.
more_than_the_pool_has() {
	nothing_changes each_too_large
	# What it says would work does.
	local most
	refused '; [0-9.]+ [KM]iB or a thin subvolume would work' nvfs subvolume create "$POOL:s" --size 1T
	most=$(sed -nE 's/.*; ([0-9.]+) ([KM])iB or a thin .*/\1\2/p' err)
	nvfs subvolume create "$POOL:s" --size "$most"
	refused_with 5 ' 0 KiB or a thin subvolume' nvfs subvolume create "$POOL:s2" --size 1M
	refused_with 5 ' 0 KiB or a thin subvolume' nvfs subvolume resize "$POOL:data" --size 33M
	# A thin one is promised what the ratio allows, and no more.
	refused 'cannot be promised: subvolumes have .* [KM]iB would work' nvfs subvolume create "$POOL:thin" --size 1T --thin
	most=$(sed -nE 's/.*; ([0-9.]+) ([KM])iB would work.*/\1\2/p' err)
	nvfs subvolume create "$POOL:thin" --size "$most" --thin
	refused_with 5 'cannot be promised: subvolumes have .*; 0 KiB would work' nvfs subvolume create "$POOL:s2" --size 1M --thin
	nvfs subvolume delete --yes "$POOL:thin"
	nvfs subvolume delete --yes "$POOL:s"
}
each_too_large() {
	local size
	for size in 300M 1T 7E 9223372036854775807; do
		refused_with 5 "cannot be reserved: of the pool's 228 MiB, 32 MiB are reserved, .* would work" \
			nvfs subvolume create "$POOL:s" --size $size
		[ "$size" = 300M ] || refused_with 5 "cannot be promised: subvolumes have 32 MiB of the .* would work" \
			nvfs subvolume create "$POOL:s" --size $size --thin
		refused_with 5 "cannot be reserved: of the pool's 228 MiB, 32 MiB are reserved, .* would work" \
			nvfs subvolume resize "$POOL:data" --size $size
	done
}

what_is_not_there_and_what_is_in_use() {
	nothing_changes each_wrong_object
	mount.nvfs "$POOL:none" m 2>err && return 1
	same "$(grep -c . err)" 1
}
each_wrong_object() {
	refused_with 4 'there is no subvolume none; nvfs subvolume list' nvfs subvolume show "$POOL:none"
	refused_with 4 'there is no subvolume none; nvfs subvolume list' nvfs subvolume delete --yes "$POOL:none"
	refused_with 4 'there is no subvolume none; nvfs subvolume list' nvfs subvolume resize "$POOL:none" --size 1M
	refused_with 6 'mounted: unmount it first' nvfs subvolume delete --yes "$POOL:data"
	refused_with 7 'already; take another' nvfs subvolume create "$POOL:data" --size 1M
	refused_with 3 'nobody serves' nvfs subvolume delete --yes "$POOL-none:data"
	refused_with 2 'usage' nvfs subvolume delete --yes
	refused_with 2 'usage' nvfs subvolume delete --yes "$POOL:data" "$POOL:none"
	refused_with 2 'names no subvolume' nvfs subvolume delete --yes "$POOL"
	refused_with 2 'say what to change' nvfs subvolume resize "$POOL:data"
	refused_with 2 'say how large' nvfs subvolume create "$POOL:s"
}

# ---- At once

# one_administrator NUMBER: does this and that to two names; writes down what was said wrong.
one_administrator() {
	local i name status err=$WORK/admin.$1 kinds='0|4|5|6|7' dir=$WORK/at.$1
	mkdir -p "$dir"
	for ((i = 0; i < 40; i++)); do
		name=$POOL:shared$((RANDOM % 2)) status=0 kinds='0|4|5|6|7' snapshot=s$((RANDOM % 2))
		case $((RANDOM % 13)) in
		0) nvfs subvolume create "$name" --size $((RANDOM % 50 + 1))M ;;
		1) nvfs subvolume create "$name" --size 8M --thin ;;
		2) nvfs subvolume delete --yes "$name" ;;
		3) nvfs subvolume resize "$name" --size $((RANDOM % 50 + 1))M --inodes $((RANDOM % 100 + 1)) ;;
		4) nvfs subvolume show "$name" ;;
		5) kinds='0|32'; mount.nvfs "$name" "$dir" ;;
		6) nvfs snapshot create "$name@$snapshot" ;;
		7) nvfs snapshot create --group "$POOL:shared0@$snapshot" "$POOL:shared1@$snapshot" ;;
		8) nvfs snapshot delete --yes "$name@$snapshot" ;;
		9) nvfs snapshot rollback --yes "$name@$snapshot" ;;
		10) nvfs clone "$name@$snapshot" "$POOL:shared$((RANDOM % 2))" ;;
		11) nvfs clone "$name" "$POOL:shared$((RANDOM % 2))" --thin ;;
		12) nvfs subvolume create "$name" --size 8M --tenant team ;;
		esac >/dev/null 2>"$err" || status=$?
		if mountpoint -q "$dir" && [[ $(findmnt -n -o OPTIONS --mountpoint "$dir") != ro,* ]]; then
			echo "$1" >"$dir/file$1" || :
			dd if=/dev/zero of="$dir/large$1" bs=64k count=$((RANDOM % 100)) status=none 2>/dev/null || :
			umount.fuse.nvfs "$dir" || return 1
		fi
		[[ $status =~ ^($kinds)$ ]] || { echo "status $status: $(cat "$err")"; return 1; }
		# A snapshot that was made may have a warning.
		[ "$(grep -c -v '^nvfs: warning: ' "$err")" -eq $((status != 0)) ] || { echo "status $status, $(cat "$err")"; return 1; }
	done
}

eight_at_once() {
	local i pids=() name bad=0
	nvfs tenant create "$POOL/team" --provisioned 20M --subvolumes 1 >/dev/null
	for i in 1 2 3 4 5 6 7 8; do
		one_administrator $i >"$WORK/said.$i" 2>&1 &
		pids+=($!)
	done
	for i in 1 2 3 4 5 6 7 8; do
		wait "${pids[i - 1]}" || { bad=1; cat "$WORK/said.$i"; }
	done
	[ $bad = 0 ]
	for name in shared0 shared1; do
		if nvfs subvolume show "$POOL:$name" >/dev/null 2>&1; then in_time nvfs subvolume delete --yes "$POOL:$name"; fi
	done
	nvfs snapshot list "$POOL" --json >"$WORK/snapshots"
	paste -d@ <(sed -n 's/^ *"subvolume": "\(.*\)",$/\1/p' "$WORK/snapshots") \
		<(sed -n 's/^ *"snapshot": "\(.*\)",$/\1/p' "$WORK/snapshots") |
		while read -r name; do nvfs snapshot delete --yes "$POOL:$name"; done
	in_time nvfs tenant delete --yes "$POOL/team" 2>/dev/null
	# No claim was lost or counted twice.
	same "$(nvfs pool show "$POOL" --json | grep -E '"(reserved_bytes|subvolumes)"' | tr -d ' \n')" \
		"\"reserved_bytes\":$((32 << 20)),\"subvolumes\":1,"
}

# The last word on a limit is what the mount shows, whoever had it.
resized_by_eight() {
	local i pids=() size
	for i in 1 2 3 4 5 6 7 8; do
		for size in 32 $((32 + i)) $((40 - i)) 33; do
			nvfs subvolume resize "$POOL:data" --size ${size}M --inodes $((100 + size)) >/dev/null || exit
		done &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i"
	done
	size=$(nvfs subvolume show "$POOL:data" --json | sed -nE 's/.*"size_bytes": ([0-9]+).*/\1/p')
	same "$size" $((33 << 20))
	same "$(df --output=size,itotal -B1M "$MNT_data" | tail -1 | tr -s ' ')" " 33 133"
	nvfs pool show "$POOL" --json | grep -q "\"reserved_bytes\": $size,"
	nvfs subvolume resize "$POOL:data" --size 32M --inodes 100
}

# ---- Who dies in the middle

# say TEXT...: to the control socket in these pieces, then gone without a look at the answer.
say() {
	python3 - "$(socket_of)" "$@" <<-'END'
		import socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.connect(sys.argv[1])
		for text in sys.argv[2:]:
		    try:
		        s.send(text.encode('utf-8', 'surrogateescape').replace(b'\\n', b'\n'))
		    except BrokenPipeError: # the daemon had enough
		        break
	END
}
socket_of() { grep -oE -m 1 "/[^ ]*/$POOL\.sock" /proc/net/unix; }

half_a_request_does_nothing() {
	need python3
	nothing_changes each_half
}
each_half() {
	local whole='{"op":"subvolume.create","name":"half","size_bytes":1048576}' n
	for n in 1 10 30 50 60; do
		say "${whole:0:n}"
		say "${whole:0:n}" "${whole:0:n}"
	done
	say "$whole"
	say "$whole " '  '
	say '{"op":"subvolume.delete","name":"data"' '\n'
	say '[]\n' "$whole"'\n'
	say "${whole/half/half\\u0000b}\n"
	say "${whole/half/$'\xff'}\n"
	# All have been read and answered.
	nvfs pool show "$POOL" >/dev/null
	in_time no_half
}
no_half() { fails nvfs subvolume show "$POOL:half" >/dev/null 2>&1; }

# Sent as a whole, it is done as a whole, whether anybody waits or not.
whole_requests_are_done() {
	need python3
	say '{"op":"subvolume.create","name":"unheard","size_bytes":1048576}\n'
	in_time nvfs subvolume show "$POOL:unheard" >/dev/null 2>&1
	say '{"op":"subvolume.resize","name":"unheard","size_bytes":2097152}\n{"op":"subvolume.delete","name":"unheard"}\n{"op":"subv'
	in_time unheard_is_gone
	nvfs pool show "$POOL" --json | grep -q "\"reserved_bytes\": $((32 << 20)),"
}
unheard_is_gone() { fails nvfs subvolume show "$POOL:unheard" >/dev/null 2>&1; }

# killed_soon COMMAND...: at some moment of its work, or not at all.
killed_soon() {
	{ timeout -s KILL "0.0$((RANDOM % 30 + 1))" "$@" || :; } >/dev/null 2>&1
}

killed_ones_leave_nothing_half_done() {
	local i
	for i in $(seq 25); do
		killed_soon nvfs subvolume create "$POOL:mortal" --size 1M
		killed_soon nvfs subvolume resize "$POOL:mortal" --size $((RANDOM % 4 + 1))M
		killed_soon nvfs subvolume delete --yes "$POOL:mortal"
	done
	exits_with 0 nvfs subvolume create "$POOL:mortal" --size 1M || grep -q already out
	nvfs subvolume resize "$POOL:mortal" --size 4M
	nvfs pool show "$POOL" --json | grep -q "\"reserved_bytes\": $((36 << 20)),"
	nvfs subvolume delete --yes "$POOL:mortal"
	nvfs pool show "$POOL" --json | grep -q "\"reserved_bytes\": $((32 << 20)),"
}

# Snapshots, clones, rollbacks, what looks at all there is, and tenants; one of the two subvolumes is mounted.
killed_soon_one_by_one() {
	local i both
	for i in $(seq 12); do
		killed_soon nvfs snapshot create --group "$POOL:mortal@g" "$POOL:other@g"
		# A request that arrived is done, or not yet.
		nvfs sync "$POOL" && nvfs tenant set "$POOL/few" --used 8M >/dev/null
		both=$(nvfs snapshot list "$POOL" --json | jq -c 'map(select(.snapshot == "g").subvolume)')
		[ "$both" = '[]' ] || same "$both" '["mortal","other"]'
		killed_soon nvfs snapshot diff "$POOL:mortal@first"
		killed_soon nvfs du "$POOL"
		killed_soon nvfs sync "$POOL"
		killed_soon nvfs clone "$POOL:mortal@first" "$POOL:copy"
		killed_soon nvfs snapshot rollback --yes "$POOL:other@first"
		killed_soon nvfs subvolume delete --yes --wait "$POOL:copy"
		killed_soon nvfs snapshot delete --yes --wait "$POOL:mortal@g"
		killed_soon nvfs snapshot delete --yes "$POOL:other@g"
		killed_soon nvfs tenant create "$POOL/brief" --used 1M
		killed_soon nvfs tenant set "$POOL/brief" --used 2M --soft 1M
		killed_soon nvfs tenant delete --yes "$POOL/brief"
		killed_soon nvfs events "$POOL" --follow
		killed_soon nvfs top "$POOL"
		# Nobody is left waiting, and each file is whole.
		timeout 20 dd if=/dev/urandom of=m/f bs=64k count=16 conv=fsync status=none
		nvfs snapshot delete --yes "$POOL:mortal@g" >/dev/null 2>&1 || :
		nvfs snapshot delete --yes "$POOL:other@g" >/dev/null 2>&1 || :
	done
}

killed_snapshots_leave_nothing_half_done() {
	local before
	need jq
	nvfs tenant create "$POOL/few" >/dev/null
	nvfs subvolume create "$POOL:mortal" --size 8M --tenant few >/dev/null
	nvfs subvolume create "$POOL:other" --size 8M --tenant few >/dev/null
	mount.nvfs "$POOL:mortal" m
	echo first >m/first
	nvfs snapshot create --group "$POOL:mortal@first" "$POOL:other@first" >/dev/null
	before=$(inventory | grep reserved_bytes)
	killed_soon_one_by_one
	nvfs subvolume delete --yes "$POOL:copy" >/dev/null 2>&1 || :
	nvfs tenant delete --yes "$POOL/brief" >/dev/null 2>&1 || :
	same "$(inventory | grep reserved_bytes)" "$before"
	umount.fuse.nvfs m
	# All of it still works.
	nvfs snapshot rollback --yes "$POOL:mortal@first"
	mount.nvfs "$POOL:mortal" m
	same "$(ls m)" first
	umount.fuse.nvfs m
	for before in subvolume:mortal subvolume:other snapshot:mortal@first snapshot:other@first; do
		nvfs "${before%%:*}" delete --yes --wait "$POOL:${before#*:}"
	done
	same "$(nvfs tenant show "$POOL/few" --json | jq -c '.use | [.used_bytes, .provisioned_bytes, .inodes, .subvolumes, .snapshots]')" '[0,0,0,0,0]'
	nvfs tenant delete --yes "$POOL/few"
}

# It is served or it is not, and says so; the other command makes it so.
killed_starts_and_stops() {
	local i pool=$POOL-short
	mkfs.nvfs --quiet --name "$pool" --size 96M short.img
	for i in $(seq 8); do
		killed_soon nvfs pool start ./short.img
		in_time nvfs pool start ./short.img >/dev/null 2>&1
		nvfs subvolume create "$pool:v$i" --size 1M >/dev/null
		killed_soon nvfs pool stop "$pool"
		in_time stops_or_is_stopped "$pool"
		fsck.nvfs -n short.img
	done
	nvfs pool start ./short.img
	same "$(nvfs subvolume list "$pool" --json | grep -c '"name"')" 8
	nvfs pool stop "$pool"
	rm short.img
}
stops_or_is_stopped() {
	local status=0
	nvfs pool stop "$1" >/dev/null 2>&1 || status=$?
	[ $status = 0 ] || [ $status = 3 ]
	fails nvfs pool show "$1" >/dev/null 2>&1
}

# Opposite things to one tenant: it is never deleted with something in it, and nothing is made in one that is not there.
tenants_at_once() {
	local i round pids
	for round in $(seq 30); do
		pids=()
		for i in 1 2 3 4; do
			one_tenant_administrator $i >"$WORK/said.$i" 2>&1 &
			pids+=($!)
		done
		for i in 1 2 3 4; do
			wait "${pids[i - 1]}" || { cat "$WORK/said.$i"; return 1; }
		done
		tenant_is_whole || { echo "in round $round"; return 1; }
	done
	nvfs subvolume delete --yes "$POOL:inside" >/dev/null 2>&1 || :
	nvfs tenant delete --yes "$POOL/wanted" >/dev/null 2>&1 || :
	fails nvfs tenant show "$POOL/wanted" 2>/dev/null
	fails nvfs subvolume show "$POOL:inside" 2>/dev/null
}
one_tenant_administrator() {
	local status=0 err=$WORK/admin.$1 limit=$((RANDOM % 2 + 1))
	case $((RANDOM % 6)) in
	0) nvfs tenant create "$POOL/wanted" --subvolumes 1 ;;
	1) nvfs tenant delete --yes "$POOL/wanted" ;;
	2 | 3) nvfs subvolume create "$POOL:inside" --size 1M --tenant wanted ;;
	4) nvfs subvolume delete --yes "$POOL:inside" ;;
	5) nvfs tenant set "$POOL/wanted" --used ${limit}M --inodes ${limit}000 ;;
	esac >/dev/null 2>"$err" || status=$?
	[[ $status =~ ^(0|4|5|6|7)$ ]] || { echo "status $status: $(cat "$err")"; return 1; }
	[ "$(grep -c . "$err")" -le 1 ] || { cat "$err"; return 1; }
}
# It counts the subvolume that there is or not, and what one sets is set as a whole.
tenant_is_whole() {
	local there=0
	! nvfs subvolume show "$POOL:inside" >/dev/null 2>&1 || there=1
	if nvfs tenant show "$POOL/wanted" --json >shown 2>/dev/null; then
		cat shown
		jq -e ".use.subvolumes == $there and (.limits | .used_bytes == .inodes / 1000 * 1048576)" shown
	else
		[ $there = 0 ]
	fi
}

killed_mounts_let_go() {
	local i
	nvfs subvolume create "$POOL:mortal" --size 4M
	for i in $(seq 25); do
		killed_soon mount.nvfs "$POOL:mortal" m
		# Whoever was killed later than mount(2) left a mount.
		if mountpoint -q m; then
			echo "$i" >m/f
			in_time umount m 2>/dev/null
		fi
	done
	in_time mount.nvfs "$POOL:mortal" m 2>/dev/null
	echo x >m/f
	killed_soon umount.fuse.nvfs m
	if mountpoint -q m; then umount.fuse.nvfs m; fi
	in_time nvfs subvolume delete --yes "$POOL:mortal" 2>/dev/null
}

for t in names_that_cannot_be snapshots_that_cannot_be tenants_that_cannot_be longest_name_is_fine sizes_that_cannot_be more_than_the_pool_has what_is_not_there_and_what_is_in_use \
	eight_at_once tenants_at_once resized_by_eight half_a_request_does_nothing whole_requests_are_done \
	killed_ones_leave_nothing_half_done killed_snapshots_leave_nothing_half_done killed_starts_and_stops killed_mounts_let_go; do
	run_test $t
done
run_test cp /bin/true "$MNT_data/works"
check_pool
finish
