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
	[ ! -e "$bdi" ] || same "$(cat "$bdi")" 4096
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
	( cd "$WORK/mnt" && exec sleep 600 ) &
	local holder=$!
	# shellcheck disable=SC2016
	in_time sh -c '[ "$(readlink "/proc/$1/cwd")" = "$WORK/mnt" ]' in_time $holder
	fails umount "$WORK/mnt" 2>err
	grep -qi busy err
	echo still >"$WORK/mnt/works"
	kill $holder
	wait $holder || :
	umount "$WORK/mnt"
}

busy_mount_becomes_read_only_when_asked_to() {
	local holder options
	mount -t nvfs -o noexec "$POOL:data" "$WORK/mnt"
	echo before >"$WORK/mnt/kept"
	( cd "$WORK/mnt" && exec sleep 60 ) &
	holder=$!
	sleep 0.3
	umount.fuse.nvfs "$WORK/mnt" -r 2>err || { kill $holder; return 1; }
	options=$(options_of "$WORK/mnt")
	kill $holder
	wait $holder || :
	grep -q 'busy, and read-only' err
	fails touch "$WORK/mnt/no"
	[[ $options == *nosuid* && $options == *nodev* && $options == *noexec* && $options == ro,* ]] ||
		{ echo "$options"; return 1; }
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

remount_changes_what_it_says() {
	mount -t nvfs -o allow_suid,allow_dev "$POOL:data" "$WORK/mnt"
	mount -o remount,nosuid "$WORK/mnt"
	[[ $(options_of "$WORK/mnt") == *nosuid* ]]
	[[ $(options_of "$WORK/mnt") != *nodev* ]]
	fails mount -o remount,noatime "$WORK/mnt" 2>err
	grep -q noatime err
	mount -f -o remount,ro "$WORK/mnt"
	touch "$WORK/mnt/not-read-only"
	umount "$WORK/mnt"
	# The daemon opened it read-only: there is no way to write.
	mount -t nvfs -o ro "$POOL:data" "$WORK/mnt"
	fails mount -o remount,rw "$WORK/mnt" 2>err
	grep -q read-only err
	umount "$WORK/mnt"
}

remount_leaves_other_filesystems_alone() {
	mkdir -p "$WORK/foreign"
	mount -t tmpfs none "$WORK/foreign"
	fails mount.nvfs "$POOL:data" "$WORK/foreign" -o remount,ro 2>err
	grep -q tmpfs err
	touch "$WORK/foreign/f"
	umount "$WORK/foreign"
}

options_that_would_promise_more_are_refused() {
	local option
	for option in dirsync strictatime mand; do
		fails mount -t nvfs -o $option "$POOL:data" "$WORK/mnt" 2>err
		grep -q "$option" err
	done
	mount -t nvfs -o sync,lazytime,nosymfollow,x-systemd.requires=x,_netdev,nofail,user "$POOL:data" "$WORK/mnt"
	umount "$WORK/mnt"
}

# Of an absolute path umount(8) looks no further than statfs(2) unless it is told to.
umount_runs_the_helper() {
	local helper=$WORK/sbin/umount.fuse.nvfs
	ln -sfn "$(readlink -f "$helper")" real-umount
	rm "$helper"
	printf '#!/bin/sh\necho ran >>"%s/helper-ran"\nexec "%s/real-umount" "$@"\n' "$PWD" "$PWD" >"$helper"
	chmod +x "$helper"
	mount -t nvfs "$POOL:data" "$WORK/mnt"
	umount "$WORK/mnt"
	same "$(cat helper-ran)" ran
	fails grep -q "$WORK/mnt" /run/mount/utab
}

umount_knows_what_had_no_name() {
	mount -t nvfs "$POOL_FILE" "$WORK/mnt"
	nvfs subvolume create "$POOL:second" --size 8M
	umount "$WORK/mnt" 2>err
	cat err
	[ ! -s err ]
	nvfs subvolume delete "$POOL:second" --yes
}

umount_works_from_elsewhere() {
	cd "$(dirname "$POOL_FILE")"
	mount -t nvfs "./$(basename "$POOL_FILE"):data" "$WORK/mnt"
	cd /
	umount "$WORK/mnt" 2>"$WORK/err"
	[ ! -s "$WORK/err" ]
}

# It cannot be closed then, and nobody has to wait for that.
umount_leaves_another_namespace_its_mount() {
	local holder
	mount -t nvfs "$POOL:data" "$WORK/mnt"
	unshare --mount --propagation private sleep 600 &
	holder=$!
	# shellcheck disable=SC2016
	in_time sh -c '[ "$(cat "/proc/$1/comm")" = sleep ]' in_time $holder
	timeout 60 umount "$WORK/mnt"
	kill $holder
	wait $holder || :
	fails mountpoint -q "$WORK/mnt"
}

umount_by_force_needs_no_answer() {
	local worker
	mount -t nvfs "$POOL:data" "$WORK/mnt"
	worker=$(nvfs pool show "$POOL" --json | sed -nE 's/.*"worker_pid": *([0-9]+).*/\1/p')
	kill -STOP "$worker"
	timeout 60 umount -f "$WORK/mnt" 2>err || { kill -CONT "$worker"; return 1; }
	kill -CONT "$worker"
	cat err
	grep -q 'not everything could be written' err
	fails mountpoint -q "$WORK/mnt"
}

mount_point_may_have_any_name() {
	local dir=$WORK/$'m\xff\xe4'
	mkdir "$dir"
	mount -t nvfs "$POOL:data" "$dir"
	echo x >"$dir/f"
	umount "$dir"
	rmdir "$dir"
	# It is shown, and does nothing to who looks.
	dir=$WORK/$'m\e[2J'
	mkdir "$dir"
	mount -t nvfs "$POOL:data" "$dir"
	{ nvfs subvolume list "$POOL"; nvfs subvolume show "$POOL:data"; nvfs pool show "$POOL"; } >out
	umount "$dir"
	rmdir "$dir"
	same "$(grep -cF 'm\x1b[2J' out)" 3
	fails grep -q $'\e' out
}

# A pool is found by its name; who named a file means that file.
another_pool_of_that_name_is_not_meant() {
	pool_of_its_own name
	mkdir -p other copy
	cp --sparse=always "$own_file" copy/pool.img
	mkfs.nvfs --quiet --name "$own" --size 128M other/pool.img
	nvfs pool start "$own_file"
	for f in other/pool.img copy/pool.img; do
		fails nvfs pool start "./$f" 2>err
		grep -q 'another pool with the name' err
		fails mount -t nvfs "$PWD/$f:a" "$WORK/mnt-a" 2>err
		grep -q 'another pool with the name' err
		fails mountpoint -q "$WORK/mnt-a"
	done
	ln -s "$own_file" link.img
	nvfs pool start ./link.img
	fails nvfs subvolume delete ./copy/pool.img:b --yes 2>err
	grep -q 'another pool with the name' err
	nvfs subvolume show "$own:b"
	mount -t nvfs "$PWD/link.img:a" "$WORK/mnt-a"
	# What is mounted can be unmounted, whatever its source is by now.
	ln -sfn other/pool.img link.img
	umount "$WORK/mnt-a" 2>err
	grep -q 'another pool with the name.*without a commit' err
	fails mountpoint -q "$WORK/mnt-a"
	while ! nvfs pool stop "$own" 2>err; do
		grep -q 'still mounted' err
		sleep 0.1
	done
	rm -r other copy link.img
}

# pool_of_its_own: $own, stopped, with the subvolumes a and b.
pool_of_its_own() {
	own=$POOL-$1
	own_file=$WORK/$own.img
	mkfs.nvfs --quiet --name "$own" --size 128M "$own_file"
	nvfs pool start "$own_file"
	nvfs subvolume create "$own:a" --size 8M >/dev/null
	nvfs subvolume create "$own:b" --size 8M >/dev/null
	nvfs pool stop "$own"
	mkdir -p "$WORK/mnt-a" "$WORK/mnt-b"
}

mounts_at_once_start_one_daemon() {
	local a b
	pool_of_its_own once
	mount -t nvfs "$own_file:a" "$WORK/mnt-a" &
	a=$!
	mount -t nvfs "$own_file:b" "$WORK/mnt-b" &
	b=$!
	wait $a
	wait $b
	umount "$WORK/mnt-a" "$WORK/mnt-b"
	nvfs pool stop "$own"
}

refused_mount_leaves_no_daemon() {
	pool_of_its_own refused
	fails mount -t nvfs "$own_file:nosuch" "$WORK/mnt-a" 2>err
	grep -q nosuch err
	fails mount -t nvfs "$own_file" "$WORK/mnt-a" 2>err
	fails nvfs pool show "$own"
	fsck.nvfs -n "$own_file"
	# One that was there already stays.
	nvfs pool start "$own_file"
	fails mount -t nvfs "$own_file:nosuch" "$WORK/mnt-a"
	nvfs pool stop "$own"
}

daemon_keeps_nothing_of_its_starter() {
	local said
	pool_of_its_own starter
	exec 9>lock
	flock -n 9
	said=$(mount -t nvfs "$own_file:a" "$WORK/mnt-a" 2>&1)
	same "$said" ""
	exec 9>&-
	flock -n lock true
	umount "$WORK/mnt-a"
	nvfs pool stop "$own"
}

dead_mount_says_what_to_do() {
	local worker
	pool_of_its_own dead
	mount -t nvfs "$own_file:a" "$WORK/mnt-a"
	worker=$(nvfs pool show "$own" --json | sed -nE 's/.*"worker_pid": *([0-9]+).*/\1/p')
	kill -KILL "$worker"
	while stat "$WORK/mnt-a" >/dev/null 2>&1; do sleep 0.1; done
	fails mount -t nvfs "$own_file:a" "$WORK/mnt-a" 2>err
	cat err
	grep -q 'unmount that first' err
	umount "$WORK/mnt-a"
	mount -t nvfs "$own_file:a" "$WORK/mnt-a"
	umount "$WORK/mnt-a"
	nvfs pool stop "$own"
}

# one_line FILE PATTERN: all that a program said, and what it has to say.
one_line() {
	cat "$1"
	same "$(grep -c . "$1")" 1
	grep -qE -- "$2" "$1"
}

# By its name a pool is started by what POOL.conf says, and the reason why not is nvfsd's.
pool_that_cannot_start_says_why_in_one_line() {
	local conf
	pool_of_its_own bad
	fails mount -t nvfs "$own:a" "$WORK/mnt-a" 2>err
	one_line err "nobody serves.*$own.conf.*name its device"
	fails nvfs subvolume show "$own:a" 2>err
	one_line err 'nvfs pool start DEVICE'
	fails nvfs subvolume show "$own_file:a" 2>err
	one_line err "nvfs pool start $own_file"
	conf=$(mount -t nvfs "$own:a" "$WORK/mnt-a" 2>&1 | grep -oE "/[^ ]*/$own\.conf")
	mkdir -p "${conf%/*}"
	mount -t tmpfs none "${conf%/*}"
	echo "devices = $WORK/none.img" >"$conf"
	fails mount -t nvfs "$own:a" "$WORK/mnt-a" 2>err
	one_line err "^mount.nvfs: $WORK/none.img, which is named in $conf cannot be opened: No such file"
	echo "device = $own_file" >"$conf"
	fails nvfs pool start "$own" 2>err
	one_line err "^nvfs: $conf:1: unknown key device"
	printf 'devices = %s\noptions = dirty=64M\n' "$own_file" >"$conf"
	fails mount -t nvfs "$own:a" "$WORK/mnt-a" 2>err
	one_line err 'dirty=67108864 is more than half.*leave it out'
	cp --sparse=always "$own_file" short.img
	truncate -s 100M short.img
	echo "devices = $WORK/short.img" >"$conf"
	fails mount -t nvfs "$own:a" "$WORK/mnt-a" 2>err
	one_line err 'short.img is smaller than its label says.*from a copy'
	rm short.img
	echo "devices = $own_file" >"$conf"
	mount -t nvfs "$own:a" "$WORK/mnt-a" 2>err
	same "$(cat err)" ""
	fails mount -t nvfs "$own:nosuch" "$WORK/mnt-b" 2>err
	one_line err "no subvolume nosuch; nvfs subvolume list $own"
	umount "$WORK/mnt-a"
	nvfs pool stop "$own"
	umount "${conf%/*}"
}

# A daemon in its caller's cgroup would die with the caller.
systemd_starts_the_daemon_where_it_runs() {
	local run
	[ -x /usr/bin/systemctl ] || { echo "systemctl is not installed"; exit 77; }
	run=$(grep -oE -m 1 "/[^ ]*/$POOL\.sock" /proc/net/unix)
	run=${run%/*}
	pool_of_its_own unit
	mkdir -p /run/systemd
	mount -t tmpfs none /run/systemd
	mkdir /run/systemd/system
	cat >systemctl <<-END
		#!/bin/bash
		echo "\$*" >>"$WORK/systemctl-ran"
		[ -e "$WORK/may-start" ] || exit 1
		[ "\$*" = "--quiet start nvfsd@$own.service" ] && exec "$(command -v nvfsd)" "$own"
	END
	chmod +x systemctl
	mount --bind systemctl /usr/bin/systemctl
	fails mount -t nvfs "$own_file:a" "$WORK/mnt-a" 2>err
	one_line err "journalctl -u nvfsd@$own.service"
	fails nvfs pool show "$own"
	same "$(cat systemctl-ran)" "--quiet start nvfsd@$own.service"
	# The unit knows the name alone: a file that lasts until the next boot says where the pool is.
	same "$(cat "$run/$own.conf")" "devices = $own_file"
	touch may-start
	mount -t nvfs "$own_file:a" "$WORK/mnt-a"
	umount "$WORK/mnt-a"
	nvfs pool stop "$own"
	rm "$run/$own.conf" may-start systemctl-ran
	umount /usr/bin/systemctl /run/systemd
}

# In directories of its own: the machine's udev, if it has one, sees nothing of it.
lsblk_knows_a_pool_by_the_udev_rule() {
	local loop said dir
	need udevadm losetup lsblk
	pool_of_its_own udev
	mkdir -p /etc/udev /run/udev /dev/block /dev/disk
	for dir in /etc/udev /run/udev /dev/block /dev/disk; do mount -t tmpfs none $dir; done
	mkdir /etc/udev/rules.d
	sed "s|\"/[^ \"]*/nvfs debug udev |\"$(command -v nvfs) debug udev |" "$NVFS_BUILDDIR/packaging/60-nvfs.rules" \
		>/etc/udev/rules.d/60-nvfs.rules
	loop=$(losetup -f --show "$own_file") || { echo "no loop device"; exit 77; }
	udevadm test --action=change "/sys/block/${loop#/dev/}" >out 2>&1 || :
	said=$(lsblk -d -n -o FSTYPE,LABEL,UUID "$loop" | tr -s ' ')
	losetup -d "$loop"
	grep -qx 'ID_FS_USAGE=filesystem' out || { tail -40 out; return 1; }
	same "$said" "nvfs $own $(nvfs debug dump "$own_file" label | sed -nE 's/^ *pool uuid *([0-9a-f-]+)$/\1/p' | head -1)"
}

for t in type_and_defaults file_as_source options_are_passed_on fstab_line_works_with_mount_all \
	umount_commits busy_mount_stays busy_mount_becomes_read_only_when_asked_to remount_read_only_and_back bind_mounts_are_views_of_it \
	remount_changes_what_it_says remount_leaves_other_filesystems_alone \
	options_that_would_promise_more_are_refused umount_runs_the_helper umount_knows_what_had_no_name \
	umount_works_from_elsewhere umount_leaves_another_namespace_its_mount umount_by_force_needs_no_answer \
	mount_point_may_have_any_name another_pool_of_that_name_is_not_meant mounts_at_once_start_one_daemon \
	refused_mount_leaves_no_daemon daemon_keeps_nothing_of_its_starter \
	dead_mount_says_what_to_do pool_that_cannot_start_says_why_in_one_line systemd_starts_the_daemon_where_it_runs \
	lsblk_knows_a_pool_by_the_udev_rule; do
	export -f "${t?}" options_of in_time one_line pool_of_its_own fails need same
	# shellcheck disable=SC2016
	TEST_NAME=$t run_test with_mount_helpers bash -ec 'cd "$WORK"; "$1"' test "$t"
done
check_pool
finish
