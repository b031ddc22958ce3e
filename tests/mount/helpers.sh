#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# mount(8), umount(8) and fstab with the helpers under test in the place where they are looked for.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

make_pool 512M
make_subvolume data --size 64M
mkdir "$WORK/mnt"
export POOL POOL_FILE

options_of() { findmnt -n -o OPTIONS --target "$1"; }

type_and_defaults() {
	mount -t nvfs "$POOL:data" "$WORK/mnt"
	same "$(findmnt -n -o FSTYPE,SOURCE --target "$WORK/mnt" | tr -s ' ')" "fuse.nvfs $POOL:data"
	local options
	options=$(options_of "$WORK/mnt")
	[[ $options == *nosuid* && $options == *nodev* ]] || { echo "$options"; return 1; }
	local bdi
	bdi=/sys/class/bdi/$(mountpoint -d "$WORK/mnt")/read_ahead_kb
	[ ! -e "$bdi" ] || same "$(cat "$bdi")" 1024
	same "$(df --output=size -B1M "$WORK/mnt" | tail -1 | tr -d ' ')" 64
	umount "$WORK/mnt"
	fails mountpoint -q "$WORK/mnt"
}

file_as_source() {
	mount -t nvfs "$POOL_FILE:data" "$WORK/mnt"
	echo x >"$WORK/mnt/by-file"
	umount "$WORK/mnt"
	# The only subvolume needs no name.
	mount -t nvfs "$POOL_FILE" "$WORK/mnt"
	same "$(cat "$WORK/mnt/by-file")" x
	umount "$WORK/mnt"
}

options_are_passed_on() {
	mount -t nvfs -o ro,noexec "$POOL:data" "$WORK/mnt"
	fails touch "$WORK/mnt/no" 2>err
	grep -q 'Read-only' err
	[[ $(options_of "$WORK/mnt") == *noexec* ]]
	umount "$WORK/mnt"
	mount -t nvfs -o allow_suid,allow_dev,noatime "$POOL:data" "$WORK/mnt"
	[[ $(options_of "$WORK/mnt") != *nosuid* ]]
	mount -o remount,ro "$WORK/mnt"
	mount -o remount,rw "$WORK/mnt"
	[[ $(options_of "$WORK/mnt") != *nodev* ]]
	mknod "$WORK/mnt/null" c 1 3
	echo gone >"$WORK/mnt/null"
	rm "$WORK/mnt/null"
	umount "$WORK/mnt"
	fails mount -t nvfs -o nosuchoption=1 "$POOL:data" "$WORK/mnt" 2>err
	cat err
	grep -q nosuchoption err
	fails mountpoint -q "$WORK/mnt"
}

fstab_line_works_with_mount_all() {
	echo "$POOL:data $WORK/mnt nvfs defaults,nofail 0 0" >fstab
	mount -a -T "$PWD/fstab"
	mountpoint "$WORK/mnt"
	# A second time there is nothing to do.
	mount -a -T "$PWD/fstab"
	same "$(grep -c " $WORK/mnt " /proc/self/mountinfo)" 1
	umount "$WORK/mnt"
}

umount_commits() {
	mount -t nvfs "$POOL:data" "$WORK/mnt"
	dd if=/dev/urandom of="$WORK/mnt/big" bs=1M count=8 status=none
	local sum
	sum=$(sha256sum <"$WORK/mnt/big")
	umount "$WORK/mnt"
	mount -t nvfs "$POOL:data" "$WORK/mnt"
	same "$(sha256sum <"$WORK/mnt/big")" "$sum"
	umount "$WORK/mnt"
}

busy_mount_stays() {
	mount -t nvfs "$POOL:data" "$WORK/mnt"
	( cd "$WORK/mnt" && exec sleep 60 ) &
	local holder=$!
	sleep 0.3
	fails umount "$WORK/mnt" 2>err
	grep -qi busy err
	echo still >"$WORK/mnt/works"
	kill $holder
	wait $holder || :
	umount "$WORK/mnt"
}

remount_read_only_and_back() {
	mount -t nvfs "$POOL:data" "$WORK/mnt"
	mount -o remount,ro "$WORK/mnt"
	fails touch "$WORK/mnt/no"
	mount -o remount,rw "$WORK/mnt"
	touch "$WORK/mnt/yes"
	umount "$WORK/mnt"
}

bind_mounts_are_views_of_it() {
	mount -t nvfs "$POOL:data" "$WORK/mnt"
	mkdir -p "$WORK/mnt/sub" "$WORK/bind"
	mount --bind "$WORK/mnt/sub" "$WORK/bind"
	echo x >"$WORK/bind/f"
	same "$(cat "$WORK/mnt/sub/f")" x
	umount "$WORK/bind"
	same "$(cat "$WORK/mnt/sub/f")" x
	umount "$WORK/mnt"
}

for t in type_and_defaults file_as_source options_are_passed_on fstab_line_works_with_mount_all \
	umount_commits busy_mount_stays remount_read_only_and_back bind_mounts_are_views_of_it; do
	export -f "${t?}" options_of fails same
	# shellcheck disable=SC2016
	TEST_NAME=$t run_test with_mount_helpers bash -ec 'cd "$WORK"; "$1"' test "$t"
done
check_pool
finish
