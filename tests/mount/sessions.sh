#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The sessions that README.md and the manual pages show: a block of text with lines "$ COMMAND", each followed by what it prints. They are
# run in order, those of a page on one machine that has nothing yet, and what they print is compared: all but UUIDs, times, numbers of
# processes. A block without such lines is no session.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

# Blocks of sessions, an empty line between two.
sessions_of() {
	case $1 in
	*.md) awk '/^    / { block = block substr($0, 5) "\n"; next } { flush() } END { flush() }
		function flush() { if (block ~ /(^|\n)\$ /) printf "%s\n", block; block = "" }' "$1" ;;
	*) awk '/^\.Bd -literal/ { inside = 1; next } /^\.Ed/ { flush(); inside = 0 } inside { block = block $0 "\n" }
		function flush() { if (block ~ /(^|\n)\$ /) printf "%s\n", block; block = "" }' "$1" |
		sed 's/\\e/\\/g; s/\\-/-/g; s/^\\&//' ;;
	esac
}

# What is not the same twice.
wildcards() {
	sed -E -e 's/[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}/UUID/g' \
		-e 's/[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}/TIME/g' \
		-e 's/(supervisor|worker) [0-9]+/\1 PID/g' \
		-e 's/("(supervisor|worker)_pid": ?)[0-9]+/\1PID/; s/("[a-z]+_ns": ?)[0-9]+/\1TIME/g'
}

# Lines that begin with "$ " are run, the others are what was expected; gives what there is instead.
replay() {
	local line
	while IFS= read -r line; do
		case $line in
		'$ '*)
			printf '%s\n' "$line"
			bash -c "${line#??}" </dev/null 2>&1
			;;
		'') echo ;;
		esac
	done
}

# In the namespace of with_mount_helpers, where the places that pages name are empty.
replay_page() {
	local dir
	for dir in /srv /mnt /var/lib; do
		mkdir -p "$WORK/machine$dir"
		mount --bind "$WORK/machine$dir" "$dir"
	done
	[ ! -d /run/systemd/system ] || mount -t tmpfs none /run/systemd
	mkdir -p /var/lib/nvfs
	cd /
	replay <"$1" >"$2"
	awk '$5 ~ "^/(srv|mnt)/" { print $5 }' /proc/self/mountinfo | sort -r | while read -r dir; do umount "$dir"; done
	nvfs pool stop tank >/dev/null 2>&1 || true
}
export -f replay replay_page

page_says_what_is_printed() {
	need mount
	rm -rf machine
	sessions_of "$NVFS_SRCDIR/$1" >page
	grep -q '^\$ ' page || { echo "no session in $1"; return 1; }
	nvfs pool list | grep -q '^tank ' && { echo "a pool tank is served on this machine"; exit 77; }
	with_mount_helpers bash -c 'replay_page "$@"' bash "$PWD/page" "$PWD/printed"
	diff -u --label "$1" --label printed <(wildcards <page) <(wildcards <printed)
}

for page in README.md docs/man/nvfs.8; do
	name=${page##*/}
	TEST_NAME=${name//[^A-Za-z0-9]/_}_says_what_is_printed run_test page_says_what_is_printed "$page"
done
finish
