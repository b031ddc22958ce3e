#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The nvfs command as people and scripts use it: confirmation, dry runs, waiting, events, top, completion, colours, settings.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

make_pool 384M

# on_terminal COMMAND: runs it with a terminal of 24 lines and 80 columns as its stdin, stdout and stderr, which goes to `out`; types
# what comes on stdin.
on_terminal() {
	need script stty
	TERM=${TERM_OF_TEST-xterm} script -qec "stty cols 80 rows 24 -echo; $1" /dev/null >out
}

make_scratch() {
	nvfs subvolume create "$POOL:$1" --size 64M >/dev/null
}

is_there() {
	nvfs subvolume show "$POOL:$1" >/dev/null 2>&1
}

scripts_have_to_say_yes() {
	make_scratch doomed
	refused 'nobody is there to be asked: give --yes, or --dry-run' nvfs subvolume delete "$POOL:doomed" </dev/null
	exits_with 2 nvfs subvolume delete "$POOL:doomed" </dev/null
	# Somebody's "yes" on a pipe is no person.
	fails nvfs subvolume delete "$POOL:doomed" 2>/dev/null < <(yes)
	is_there doomed
	nvfs subvolume delete "$POOL:doomed" --yes </dev/null | grep -q "^deleted $POOL:doomed"
	fails is_there doomed
}

dry_runs_change_nothing() {
	make_scratch kept
	nvfs subvolume delete "$POOL:kept" --dry-run >out
	same "$(cat out)" "would delete subvolume kept: 0 in 1 file"
	nvfs subvolume delete "$POOL:kept" --dry-run --json >out
	same "$(jq -c '.dry_run, .would_delete[0].kind, .would_delete[0].name' out | tr '\n' ' ')" 'true "subvolume" "kept" '
	is_there kept
	# Refused as the deletion itself is.
	mkdir -p kept
	mount.nvfs "$POOL:kept" kept
	exits_with 6 nvfs subvolume delete "$POOL:kept" --dry-run
	umount.fuse.nvfs kept
	exits_with 4 nvfs subvolume delete "$POOL:nosuch" --dry-run
	nvfs subvolume delete "$POOL:kept" --yes
}

persons_are_asked() {
	make_scratch asked
	fails on_terminal "nvfs subvolume delete $POOL:asked" <<<n
	grep -q 'would delete subvolume asked' out
	grep -q 'Go on? \[y/N\]' out
	grep -q 'nothing was done' out
	is_there asked
	fails on_terminal "nvfs subvolume delete $POOL:asked" <<<""
	is_there asked
	on_terminal "nvfs subvolume delete $POOL:asked" <<<y
	grep -q "deleted $POOL:asked" out
	fails is_there asked
	# What cannot be done is said before anybody is asked.
	fails on_terminal "nvfs subvolume delete $POOL:asked" <<<y
	fails grep -q 'Go on' out
}

free_bytes() {
	nvfs sync "$POOL"
	nvfs pool show "$POOL" --json | jq .free_bytes
}

waiting_ends_when_the_space_is_back() {
	local before
	need python3
	before=$(free_bytes)
	make_scratch big
	mkdir -p big
	mount.nvfs "$POOL:big" big
	# A record for each block: that takes its time.
	python3 -c '
import os
f = os.open("big/f", os.O_RDWR | os.O_CREAT)
for i in range(12000):
	os.pwrite(f, b"x" * 4096, i << 18)'
	umount.fuse.nvfs big
	[ "$(free_bytes)" -lt $((before - 40000000)) ]
	nvfs subvolume delete "$POOL:big" --yes --wait >out
	grep -q 'its space is back' out
	same "$(nvfs pool show "$POOL" --json | jq '.sweeps, .sweeping_bytes' | tr '\n' ' ')" "0 0 "
	same "$(free_bytes)" "$before"
}

events_of() {
	nvfs events "$POOL" --json | jq -r "select(.subvolume == \"$1\").kind" | tr '\n' ' '
}

events_say_what_happened() {
	make_scratch told
	nvfs subvolume resize "$POOL:told" --size 16M
	mkdir -p told
	mount.nvfs "$POOL:told" told
	fails dd if=/dev/zero of=told/f bs=1M count=32 status=none
	fails dd if=/dev/zero of=told/g bs=1M count=32 status=none
	umount.fuse.nvfs told
	nvfs subvolume delete "$POOL:told" --yes --wait
	# The full one is said once, however often it was.
	# shellcheck disable=SC2046
	set -- $(events_of told)
	same "$1 $2 $3 $4 $5" "subvolume-created subvolume-resized subvolume-mounted quota-reached subvolume-unmounted"
	# The sweeper may be faster than the answer to who deleted it.
	same "$(printf '%s\n' "${@:6}" | sort | tr '\n' ' ')" "subvolume-deleted sweep-begun sweep-ended "
	nvfs events "$POOL" | grep -qE '^[0-9-]{10} [0-9:]{8}  warning  quota-reached +told: its size of 16M is used up'
	last=$(nvfs events "$POOL" --json | jq .number | tail -1)
	same "$(nvfs events "$POOL" --since "$last")" ""
	nvfs subvolume create "$POOL:after" --size 8M >/dev/null
	same "$(nvfs events "$POOL" --since "$last" --json | jq -r '.kind, .severity, .text' | tr '\n' '|')" \
		"subvolume-created|info|created with 8M by user 0|"
	nvfs subvolume delete "$POOL:after" --yes
}

says() {
	grep -q "$1" followed
}

events_are_followed_and_nobody_waits_for_who_follows() {
	local follower
	: >followed
	nvfs events "$POOL" --follow --json >followed &
	follower=$!
	make_scratch seen
	in_time says '"subvolume-created".*"subvolume":"seen"'
	kill -STOP "$follower"
	for i in 32 33 34 35; do nvfs subvolume resize "$POOL:seen" --size ${i}M >/dev/null; done
	kill -KILL "$follower"
	wait "$follower" || true
	nvfs subvolume delete "$POOL:seen" --yes
	# A pool that is stopped ends those who follow it, with a line.
	nvfs events "$POOL-none" --follow 2>err || same $? 3
}

top_shows_who_works() {
	local writer
	make_scratch busy
	make_scratch idle
	mkdir -p busy idle
	mount.nvfs "$POOL:busy" busy
	mount.nvfs "$POOL:idle" idle
	head -c 1M /dev/zero >busy/f
	while :; do dd if=/dev/zero of=busy/f bs=4k count=64 oflag=direct conv=notrunc status=none || break; done &
	writer=$!
	nvfs top "$POOL" --once --json >json
	nvfs top "$POOL" --once >table
	nvfs top "$POOL" --once --tenants --interval 0.5 --json >tenants
	on_terminal "nvfs top $POOL --interval 0.3" < <(sleep 1; printf 'n'; sleep 0.5; printf 'T'; sleep 0.5; printf q)
	mv out screen
	kill "$writer"
	wait "$writer" || true # its last dd may go on for a moment
	in_time umount.fuse.nvfs busy 2>/dev/null
	umount.fuse.nvfs idle
	cat table tenants json
	# What is busy stands first.
	same "$(sed -n 2p table | awk '{ print $1 }')" "$POOL:busy"
	same "$(sed -n 3p table | awk '{ print $1, $2, $3 }')" "$POOL:idle 0 0"
	jq -e '.subvolumes[] | select(.subvolume == "busy") | .write.per_s > 0 and .written_bytes_per_s > 0 and .write.mean_us > 0 and
		.write.p99_us > 0' json
	jq -e '.tenants | length == 1 and .[0].tenant == "default" and .[0].subvolumes == 2 and .[0].write.per_s > 0' tenants
	grep -q 'q quit' screen
	grep -q "$POOL/default" screen
	# No line is longer than the screen is wide.
	fails grep -qE '^.{80}' <(sed 's/\x1b\[[0-9;]*[A-Za-z]//g; s/\r//' screen)
	nvfs subvolume delete "$POOL:busy" --yes
	nvfs subvolume delete "$POOL:idle" --yes
}

# On a terminal that can, and nowhere else.
bars_are_for_terminals() {
	make_scratch long
	on_terminal "nvfs du $POOL"
	grep -q $'\rcounting ' out
	TERM_OF_TEST=dumb on_terminal "nvfs du $POOL"
	fails grep -qE $'\e|counting' out
	nvfs du "$POOL" >out 2>&1
	fails grep -q counting out
	on_terminal "nvfs subvolume delete $POOL:long --yes --wait 2>err"
	fails grep -qE 'giving back' out err
}

# Which is said before and after, since nothing else is left of the subvolume.
snapshots_of_the_deleted_stay() {
	make_scratch past
	nvfs subvolume delete "$POOL:past" --dry-run >out
	same "$(cat out)" "would delete subvolume past: 0 in 1 file"
	nvfs snapshot create "$POOL:past@one" >/dev/null
	nvfs subvolume delete "$POOL:past" --dry-run >out
	same "$(cat out)" "would delete subvolume past: 0 in 1 file; its snapshot stays"
	nvfs snapshot create "$POOL:past@two" >/dev/null
	same "$(nvfs subvolume delete "$POOL:past" --dry-run --json | jq '.would_delete[0].snapshots_kept')" 2
	same "$(nvfs subvolume delete "$POOL:past" --yes)" "deleted $POOL:past; its space comes back in the background; its 2 snapshots stay"
	# Those of an earlier one of that name are not its own.
	make_scratch past
	same "$(nvfs subvolume delete "$POOL:past" --dry-run)" "would delete subvolume past: 0 in 1 file"
	same "$(nvfs snapshot list "$POOL:past" --json | jq -c '[.[] | .snapshot, .subvolume_deleted]')" '["one",true,"two",true]'
	mkdir -p past
	mount.nvfs "$POOL:past@one" past
	umount.fuse.nvfs past
	nvfs clone "$POOL:past@two" "$POOL:present" >/dev/null
	same "$(nvfs snapshot delete "$POOL:past@one" --yes --wait)" "deleted $POOL:past@one; its space is back"
	nvfs snapshot delete "$POOL:past@two" --yes
	same "$(nvfs subvolume delete "$POOL:past" --yes --wait --json | jq .snapshots_kept)" 0
	nvfs subvolume delete "$POOL:present" --yes
}

top_works_without_a_terminal_that_can() {
	TERM_OF_TEST=dumb on_terminal "nvfs top $POOL --once"
	fails grep -q $'\e' out
	grep -q '^SUBVOLUME' out
	exits_with 2 nvfs top --interval never
	exits_with 3 nvfs top "$POOL-none" --once
}

# As bash calls it at a Tab after the line.
completed() {
	# shellcheck disable=SC2016
	COMP_WORDBREAKS=' ><=;|&(:@' bash -c '
		eval "$(nvfs completion bash)"
		COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=(nvfs)
		_nvfs
		printf "%s " "${COMPREPLY[@]}"' bash "$1"
}

bash_completes_what_there_is() {
	make_scratch alpha
	make_scratch alps
	same "$(completed 'nvfs subvolume sh')" "show "
	same "$(completed "nvfs subvolume show $POOL")" "$POOL: "
	# What stands in front of the last of : and @ stays.
	same "$(completed "nvfs subvolume show $POOL:al")" "alpha alps "
	same "$(completed "nvfs subvolume show $POOL:alph")" "alpha "
	same "$(completed "nvfs subvolume show $POOL:nothing")" " "
	nvfs snapshot create "$POOL:alpha@one" >/dev/null
	same "$(completed "nvfs snapshot show $POOL:alpha@o")" "one "
	same "$(completed "nvfs snapshot create $POOL:alph")" "alpha@ "
	same "$(completed "nvfs subvolume create $POOL:al")" " "
	same "$(completed "nvfs subvolume create $POOL:x --compression=")" "off lz4 "
	nvfs tenant create "$POOL/red" >/dev/null
	nvfs tenant create "$POOL/rose" >/dev/null
	same "$(completed "nvfs tenant show $POOL/r")" "$POOL/red $POOL/rose "
	same "$(completed "nvfs tenant create $POOL/r")" " "
	same "$(completed "nvfs subvolume create $POOL:x --tenant r")" "red rose "
	same "$(completed "nvfs subvolume create $POOL:x --tenant=ro")" "rose "
	nvfs tenant delete "$POOL/red" --yes
	nvfs tenant delete "$POOL/rose" --yes
	nvfs snapshot delete "$POOL:alpha@one" --yes --wait
	nvfs subvolume delete "$POOL:alpha" --yes
	nvfs subvolume delete "$POOL:alps" --yes
	# Where it is installed, it is the same.
	nvfs completion bash | cmp - "$NVFS_PREFIX/share/bash-completion/completions/nvfs"
}

colours_are_for_terminals() {
	on_terminal "nvfs pool list"
	grep -q $'\e\[1mPOOL' out
	NO_COLOR=1 on_terminal "nvfs pool list"
	fails grep -q $'\e' out
	TERM_OF_TEST=dumb on_terminal "nvfs pool list"
	fails grep -q $'\e' out
	on_terminal "nvfs pool list --color never"
	fails grep -q $'\e' out
	nvfs pool list >out
	fails grep -q $'\e' out
	nvfs pool list --color=always | grep -q $'\e\[1mPOOL'
	exits_with 2 nvfs pool list --color sometimes
}

help_fits_a_screen() {
	local group
	on_terminal "nvfs --help"
	[ "$(wc -l <out)" -lt 24 ]
	fails grep -qE '.{80}' <(tr -d '\r' <out)
	nvfs --help | sed -n 's/^  \([a-z]*\) .*/\1/p' >groups
	grep -qx pool groups
	while read -r group; do
		nvfs "$group" --help | grep -q '^usage: nvfs '"$group" || return 1
	done <groups
	nvfs subvolume delete --help | grep -q '^  nvfs subvolume delete tank:web --dry-run'
}

overcommit_is_kept_and_checked() {
	local percent data
	exits_with 2 nvfs pool set "$POOL"
	refused 'overcommit is 100 percent .* to 10000, not 99999999999' nvfs pool set "$POOL" --overcommit 99999999999
	refused '100 percent \(none\) to' nvfs pool set "$POOL" --overcommit 99
	data=$(nvfs pool show "$POOL" --json | jq .promise_limit_bytes)
	nvfs subvolume create "$POOL:thin" --thin --size $((data / 4096 * 4096 - 1048576)) >/dev/null
	refused "subvolumes are promised .* percent or more would work" nvfs pool set "$POOL" --overcommit 100
	exits_with 5 nvfs pool set "$POOL" --overcommit 100
	# The number that it names works.
	percent=$(sed -E 's/.*; ([0-9]+) percent or more.*/\1/' err)
	nvfs pool set "$POOL" --overcommit "$percent" >out
	grep -q "^overcommit *$percent %" out
	exits_with 5 nvfs pool set "$POOL" --overcommit $((percent - 1))
	exits_with 5 nvfs subvolume create "$POOL:more" --thin --size 64M
	nvfs subvolume delete "$POOL:thin" --yes
	nvfs pool set "$POOL" --overcommit 150 --json | jq -e '.overcommit_percent == 150'
	nvfs events "$POOL" --json | jq -r .text | grep -q 'overcommit was set to 150 percent'
}

# fills_the_pool SUBVOLUME: it is said once, when less than a twentieth of what can be written is left.
fills_the_pool() {
	local room
	kinds() { nvfs events "$POOL" --json | jq -r .kind | grep -c pool-nearly-full; }
	told() { sync -f wide && [ "$(kinds)" = 1 ]; }
	mkdir -p wide
	mount.nvfs "$POOL:$1" wide
	room=$(nvfs pool show "$POOL" --json | jq '.promise_limit_bytes / .overcommit_percent * 100 | floor')
	head -c $((room / 2)) /dev/zero >wide/half
	sync -f wide
	same "$(kinds)" 0
	fails dd if=/dev/zero of=wide/rest bs=1M count=512 status=none
	in_time told
	nvfs events "$POOL" | grep -q 'pool-nearly-full  *[0-4] % of the room for data is free'
	umount.fuse.nvfs wide
}

a_full_pool_is_told() {
	nvfs subvolume create "$POOL:wide" --thin --size 320M >/dev/null
	fills_the_pool wide
	# The pool was full, not the subvolume.
	nvfs events "$POOL" | grep -q 'wide: the pool has no room left for thin subvolumes'
	nvfs subvolume delete "$POOL:wide" --yes --wait
}

# All of it is one claim: what stays free can never be written.
a_pool_full_of_claims_is_told() {
	local limit
	limit=$(nvfs pool show "$POOL" --json | jq '.promise_limit_bytes / .overcommit_percent * 99 / 4096 | floor * 4096')
	nvfs subvolume create "$POOL:all" --size "$limit" >/dev/null
	fills_the_pool all
	nvfs subvolume delete "$POOL:all" --yes --wait
}

throttled_requests_are_counted() {
	local writer
	make_scratch slow
	nvfs subvolume set "$POOL:slow" --write-iops 50 >/dev/null
	mkdir -p slow
	mount.nvfs "$POOL:slow" slow
	while :; do dd if=/dev/zero of=slow/f bs=4k count=64 oflag=direct conv=notrunc status=none || break; done &
	writer=$!
	nvfs top "$POOL" --once --interval 2 --json >json
	kill "$writer"
	wait "$writer" || true
	in_time umount.fuse.nvfs slow 2>/dev/null
	cat json
	jq -e '.subvolumes[0] | .throttled_per_s > 0 and .write.p99_us > 1000 and .held_by == "write_iops"' json
	same "$(nvfs events "$POOL" --json | jq -r 'select(.subvolume == "slow" and .kind == "throttled").severity')" info
	nvfs subvolume delete "$POOL:slow" --yes
}

settings_outlive_the_daemon() {
	same "$(nvfs pool show "$POOL" --json | jq .overcommit_percent)" 150
}

# adds_up USED: by snapshots and thin ones.
adds_up() {
	same "$(nvfs pool show "$POOL" --json | jq ".data_bytes - .reserved_bytes - .unclaimed_bytes - .headroom_bytes")" "$1"
}

pools_say_what_is_promised() {
	local before
	make_scratch firm
	nvfs subvolume create "$POOL:loose" --size 32M --thin >/dev/null
	nvfs pool show "$POOL" --json >out
	same "$(jq -c '[.promised_bytes, .reserved_bytes, .used_bytes + .free_bytes == .data_bytes]' out)" "[100663296,67108864,true]"
	nvfs pool show "$POOL" >out
	grep -qE '^promised +96M, of which 64M reserved$' out
	grep -qE '^overcommit +150 %: up to ' out
	adds_up 0
	# What a snapshot holds, and what a thin one has, is taken from what is unreserved.
	mkdir -p firm loose
	mount.nvfs "$POOL:firm" firm
	mount.nvfs "$POOL:loose" loose
	head -c 10M /dev/urandom >firm/f
	head -c 3M /dev/urandom >loose/f
	umount.fuse.nvfs loose
	nvfs snapshot create "$POOL:firm@one" >/dev/null
	umount.fuse.nvfs firm
	# What a snapshot holds are blocks of data; a thin one is charged for its directory, too.
	adds_up $(((13 << 20) + 4096))
	before=$(nvfs pool show "$POOL" --json | jq .unclaimed_bytes)
	exits_with 5 nvfs subvolume create "$POOL:new" --size $((before + 4096))
	nvfs subvolume create "$POOL:new" --size "$before" >/dev/null
	same "$(nvfs pool show "$POOL" --json | jq .unclaimed_bytes)" 0
	nvfs subvolume delete "$POOL:new" --yes
	nvfs snapshot delete "$POOL:firm@one" --yes --wait
	nvfs subvolume delete "$POOL:firm" --yes
	nvfs subvolume delete "$POOL:loose" --yes
}

for t in scripts_have_to_say_yes dry_runs_change_nothing snapshots_of_the_deleted_stay bars_are_for_terminals persons_are_asked waiting_ends_when_the_space_is_back \
	events_say_what_happened events_are_followed_and_nobody_waits_for_who_follows top_shows_who_works \
	top_works_without_a_terminal_that_can bash_completes_what_there_is colours_are_for_terminals help_fits_a_screen \
	throttled_requests_are_counted a_full_pool_is_told overcommit_is_kept_and_checked; do
	run_test $t
done
stop_pool && start_pool
run_test settings_outlive_the_daemon
run_test pools_say_what_is_promised
run_test a_pool_full_of_claims_is_told
check_pool
finish
