#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Pools on block devices (loop devices here), one and several: who may have them, where the data lies, what mkfs.nvfs must not
# overwrite, what a device that fails does, and discards.

# What is mounted here, over the directory of POOL.conf too, is nobody else's and ends with the suite.
[ "$(id -u)" -ne 0 ] || [ -n "${DEVICES_APART-}" ] || DEVICES_APART=1 exec unshare --mount --propagation private "$0" "$@"
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

# What a test left that failed. Its daemon is gone with it: mountpoint(1) takes such a mount for none.
unmount_left() { umount -l "$WORK/mnt" 2>/dev/null; }

# A device that is swapped to cannot be detached. The others go when the last who uses them does, and then what lies under
# them can be unmounted.
cleanup_devices() {
	[ -s "$WORK/swapped" ] && swapoff "$(cat "$WORK/swapped")" 2>/dev/null
	unmount_left
	detach_loops
	cleanup_all
}
trap cleanup_devices EXIT

for p in losetup blkid wipefs lsblk; do
	command -v $p >/dev/null || skip_suite "$p is not installed"
done
truncate -s 1M "$WORK/probe.img"
probe=$(losetup -f --show "$WORK/probe.img" 2>"$WORK/probe.err") ||
	skip_suite "no loop device: $(head -1 "$WORK/probe.err")"
[ -b "$probe" ] || skip_suite "$probe is not in /dev"
losetup -d "$probe"
# The pools' names begin with it and a -: what a failed test left served is ended with the suite.
POOL=d$$

# loop VARIABLE FILE SIZE [OPTION]: a loop device over a new sparse file.
loop() {
	local made="" _
	truncate -s "$3" "$2"
	# Another process may take the free one first.
	for _ in 1 2 3 4 5; do
		made=$(losetup -f --show ${4-} "$2") && break
	done
	[ -b "$made" ]
	printf -v "$1" %s "$made"
}

# It is free when the last who has it open lets go: udev may be looking at it.
is_detached() { [ ! -e "/sys/block/${1#/dev/}/loop/backing_file" ]; }
detach() {
	losetup -d "$1"
	in_time is_detached "$1"
}

serves_or_ended() { nvfs pool show "$1" >/dev/null 2>&1 || ! kill -0 "$2" 2>/dev/null; }

# serve NAME DEVICE...: in the foreground, its process $server, its log NAME.log.
serve() {
	local name=$1
	shift
	nvfsd -f "$@" >"$name.log" 2>&1 &
	server=$!
	in_time serves_or_ended "$name" $server
	nvfs pool show "$name" >/dev/null || { cat "$name.log"; return 1; }
}

# mount_data SOURCE: its subvolume data, on $WORK/mnt.
mount_data() {
	mkdir -p "$WORK/mnt"
	timeout 60 mount.nvfs "$1:data" "$WORK/mnt"
}

# random_file FILE MIB: durable when this returns.
random_file() { dd if=/dev/urandom of="$1" bs=1M count="$2" conv=fsync status=none; }

sum_of() { sha256sum <"$1"; }

number_of() { nvfs pool show "$1" --json | sed -nE "s/.*\"$2\": *([0-9]+).*/\1/p"; }

# ---- One device

one_device_is_a_pool() {
	local pool=$POOL-one device sum worker
	loop device one.img 128M
	mkfs.nvfs --quiet --name "$pool" "$device"
	serve "$pool" "$device"
	nvfs subvolume create "$pool:data" --size 64M >/dev/null
	nvfs pool show "$pool" --json | grep -qF "\"$device\""
	# The device itself, not the file behind it.
	worker=$(number_of "$pool" worker_pid)
	same "$(find "/proc/$worker/fd" -lname "$device" | wc -l)" 1
	same "$(find "/proc/$worker/fd" -lname "$PWD/one.img" | wc -l)" 0
	mount_data "$pool"
	random_file mnt/f 40
	sum=$(sum_of mnt/f)
	unmount_dir "$WORK/mnt"
	nvfs pool stop "$pool"
	wait $server
	fsck_finds_nothing "$device"
	# By the device, as fstab may say it.
	mount_data "$device"
	same "$(sum_of mnt/f)" "$sum"
	unmount_dir "$WORK/mnt"
	nvfs pool stop "$pool"
	detach "$device"
}

# Held O_EXCL: by the kernel's word to each of them.
served_device_is_refused_to_others() {
	local pool=$POOL-held device
	loop device held.img 128M
	mkfs.nvfs --quiet --name "$pool" "$device"
	serve "$pool" "$device"
	nvfs subvolume create "$pool:data" --size 64M >/dev/null
	mount_data "$pool"
	random_file mnt/f 4
	refused "$device: it is in use.*release it first" mkfs.nvfs --name "$pool-2" "$device"
	refused "$device: it is in use.*release it first" mkfs.nvfs --name "$pool-2" --force "$device"
	refused "behind the loop device $device" mkfs.nvfs --name "$pool-2" --force held.img
	refused "$device: it is in use.*pool list" fsck.nvfs -n "$device"
	refused "$device: it is in use.*pool list" fsck.nvfs -y "$device"
	refused "$device is in use; stop its pool" nvfs debug dump "$device" label
	refused "$pool is served already" nvfsd -f "$device"
	fails mount -t ext4 "$device" "$WORK/mnt" 2>err
	cat err
	grep -qE 'already mounted|busy' err
	sync -f mnt
	unmount_dir "$WORK/mnt"
	nvfs pool stop "$pool"
	wait $server
	fsck_finds_nothing "$device"
	detach "$device"
}

# ---- Several

# blocks_on DEVICE N: how many blocks of data are on the pool's member N, counted from 0.
blocks_on() {
	nvfs debug dump "$1" map | grep -oE "[0-9]+\+[0-9]+ @$2:" | sed -E 's/^[0-9]+\+([0-9]+) .*/\1/' |
		awk '{ sum += $1 } END { print sum + 0 }'
}

three_devices_are_a_pool() {
	local pool=$POOL-three a b c i sum conf
	loop a three-a.img 96M
	loop b three-b.img 96M
	loop c three-c.img 96M
	mkfs.nvfs --quiet --name "$pool" "$a" "$b" "$c"
	refused 'nobody serves' mount_data "$pool"
	conf=$(grep -oE "/[^ ]*/$pool\.conf" err)
	mkdir -p "${conf%/*}"
	mount -t tmpfs none "${conf%/*}"
	echo "devices = $a $b $c" >"$conf"
	nvfs pool start "$pool"
	nvfs subvolume create "$pool:data" --size 180M >/dev/null
	mount_data "$pool"
	# More than one of them holds.
	random_file mnt/f 150
	sum=$(sum_of mnt/f)
	unmount_dir "$WORK/mnt"
	nvfs pool stop "$pool"
	for i in 0 1 2; do
		echo "device $i: $(blocks_on "$a" $i) blocks"
		[ "$(blocks_on "$a" $i)" -ge 10240 ]
	done
	fsck_finds_nothing "$a" "$b" "$c"
	fsck_finds_nothing "$c" "$a" "$b"
	# Which is which stands on them.
	echo "devices = $b $c $a" >"$conf"
	mount_data "$pool"
	same "$(sum_of mnt/f)" "$sum"
	unmount_dir "$WORK/mnt"
	nvfs pool stop "$pool"
	# One tells the others.
	mount_data "$c"
	same "$(nvfs pool show "$pool" --json | grep -cE "\"($a|$b|$c)\"")" 3
	same "$(sum_of mnt/f)" "$sum"
	unmount_dir "$WORK/mnt"
	nvfs pool stop "$pool"

	# Without the second.
	fails fsck.nvfs -n --data "$a" "$c" >out 2>&1
	grep -q "^pool $pool: member 2 of 3 is missing" out
	fails fsck.nvfs -y "$c" "$a" >out 2>&1
	grep -q "^pool $pool: member 2 of 3 is missing" out
	refused "pool $pool: device 2 of 3 is missing \(UUID " nvfs pool start "$c" "$a"
	echo "devices = $a $c" >"$conf"
	refused "pool $pool: device 2 of 3 is missing \(UUID " mount_data "$pool"
	detach "$b"
	refused "pool $pool has 3 devices.*device 2 of 3.*not found" nvfs pool start "$a"
	refused "pool $pool has 3 devices.*device 2 of 3.*not found" mount_data "$c"
	echo "devices = $a $b $c" >"$conf"
	refused "$b" mount_data "$pool"
	fails nvfs pool show "$pool" 2>/dev/null

	# Back at whatever name.
	b=$(losetup -f --show three-b.img)
	fsck_finds_nothing "$b" "$a" "$c"
	mount_data "$b"
	same "$(sum_of mnt/f)" "$sum"
	unmount_dir "$WORK/mnt"
	nvfs pool stop "$pool"
	umount "${conf%/*}"
	for i in "$a" "$b" "$c"; do detach "$i"; done
}

# ---- What mkfs.nvfs must not overwrite

# nothing_old_on DEVICE: whoever looks for what was there before finds nothing.
nothing_old_on() {
	same "$(wipefs -n "$1")" ""
	fails blkid -p "$1"
	same "$(blkid -p -o value -s TYPE -s PTTYPE "$1")" ""
	same "$(lsblk -d -n -o FSTYPE,PTTYPE "$1" | tr -d ' ')" ""
}

# refused_then_forced DEVICE PATTERN
refused_then_forced() {
	unchanged "$1" refused "$1: it holds $2.*--force overwrites it; nothing was changed" mkfs.nvfs --name "$POOL-new" "$1"
	mkfs.nvfs --quiet --name "$POOL-new" --force "$1"
	nothing_old_on "$1"
	fsck_finds_nothing "$1"
	unchanged "$1" refused "$1: it holds the pool $POOL-new of nvfs" mkfs.nvfs --name "$POOL-newer" "$1"
}

mkfs_asks_before_it_overwrites_ext4() {
	local device
	need mkfs.ext4
	loop device ext4.img 80M
	mkfs.ext4 -q -L precious "$device"
	refused_then_forced "$device" 'ext4 labelled "precious"'
	detach "$device"
}

# What lies where a new pool writes nothing has to be removed by itself.
mkfs_removes_signatures_that_it_does_not_write_over() {
	local device i
	loop device zfs.img 80M
	# Four of the marks that ZFS leaves in the third of its labels, half a MiB before the end.
	for i in 0 1 2 3; do
		printf '\x0c\xb1\xba\x00' | dd of="$device" bs=1024 seek=$((80 * 1024 - 384 + i)) conv=notrunc,fsync status=none
	done
	same "$(blkid -p -o value -s TYPE "$device")" zfs_member
	refused_then_forced "$device" zfs_member
	detach "$device"
}

mkfs_asks_before_it_overwrites_partitions() {
	local device
	need perl
	loop device mbr.img 80M
	# One partition of type 83 from sector 2048 on.
	perl -e 'print pack("x446 C4 C4 V V x48 v", 0, 0, 0, 0, 0x83, 0, 0, 0, 2048, 161792, 0xaa55)' |
		dd of="$device" conv=notrunc,fsync status=none
	same "$(blkid -p -o value -s PTTYPE "$device")" dos
	refused_then_forced "$device" dos
	detach "$device"
	loop device gpt.img 80M
	write_gpt "$device" 163840
	same "$(blkid -p -o value -s PTTYPE "$device")" gpt
	refused_then_forced "$device" gpt
	detach "$device"
	# Of a table whose first copy is gone the other one counts.
	loop device backup.img 80M
	write_gpt "$device" 163840
	dd if=/dev/zero of="$device" bs=512 seek=1 count=1 conv=notrunc,fsync status=none
	refused_then_forced "$device" gpt
	detach "$device"
}

# write_gpt DEVICE SECTORS: a table of one partition, and its other copy at the end.
write_gpt() {
	dd if=/dev/zero of="$1" bs=1M count=4 conv=notrunc,fsync status=none
	perl -e '
		my ($path, $sectors) = @ARGV;
		sub crc {
			my $crc = 0xffffffff;
			for my $byte (unpack("C*", shift)) {
				$crc ^= $byte;
				$crc = $crc & 1 ? ($crc >> 1) ^ 0xedb88320 : $crc >> 1 for 1 .. 8;
			}
			return $crc ^ 0xffffffff;
		}
		my $linux = pack("H*", "af3dc60f838472478e793d69d8477de4");
		my $entries = pack("a16 a16 Q< Q< Q< a72", $linux, "p" x 16, 2048, $sectors - 2048, 0, "") . "\0" x (127 * 128);
		sub header {
			my ($here, $other, $table) = @_;
			my @rest = ($here, $other, 34, $sectors - 34, "d" x 16, $table, 128, 128, crc($entries));
			my $format = "a8 V V V V Q< Q< Q< Q< a16 Q< V V V";
			my $crc = crc(pack($format, "EFI PART", 0x10000, 92, 0, 0, @rest));
			return pack($format, "EFI PART", 0x10000, 92, $crc, 0, @rest);
		}
		open(my $f, "+<", $path) or die "$path: $!";
		for ([0, pack("x446 C4 C4 V V x48 v", 0, 0, 2, 0, 0xee, 255, 255, 255, 1, $sectors - 1, 0xaa55)],
		     [1, header(1, $sectors - 1, 2)], [2, $entries],
		     [$sectors - 33, $entries], [$sectors - 1, header($sectors - 1, 1, $sectors - 33)]) {
			sysseek($f, 512 * $_->[0], 0) and syswrite($f, $_->[1]) or die "$path: $!";
		}' "$1" "$2"
	sync "$1"
}

mkfs_leaves_a_mounted_device() {
	local device sum
	need mkfs.ext4
	loop device mounted.img 80M
	mkfs.ext4 -q "$device"
	mkdir -p ext4
	mount "$device" ext4 || { echo "no ext4 in this kernel"; exit 77; }
	random_file ext4/f 8
	sum=$(sum_of ext4/f)
	refused "$device: it is in use: mounted.*nothing was changed" mkfs.nvfs --name "$POOL-new" "$device"
	refused "$device: it is in use: mounted.*nothing was changed" mkfs.nvfs --name "$POOL-new" --force "$device"
	# The other one is fine, and keeps out of it.
	truncate -s 80M other.img
	unchanged other.img refused "$device: it is in use" mkfs.nvfs --name "$POOL-new" --force other.img "$device"
	umount ext4
	e2fsck -fn "$device"
	mount "$device" ext4
	same "$(sum_of ext4/f)" "$sum"
	umount ext4
	detach "$device"
}

# The whole device is in use then. Not every kernel reads partition tables: it is told.
mkfs_leaves_the_device_of_a_mounted_partition() {
	local device name part
	need addpart delpart mkfs.ext4
	loop device parts.img 80M -P
	addpart "$device" 1 2048 159744 || { detach "$device"; echo "no partitions on loop devices here"; exit 77; }
	name=${device#/dev/}
	part=$WORK/part.dev
	# shellcheck disable=SC2046
	mknod "$part" b $(tr : ' ' <"/sys/block/$name/${name}p1/dev")
	mkfs.ext4 -q "$part"
	mkdir -p part
	mount "$part" part
	echo kept >part/f
	refused "$device: it is in use" mkfs.nvfs --name "$POOL-new" --force "$device"
	umount part
	e2fsck -fn "$part"
	delpart "$device" 1
	detach "$device"
}

mkfs_leaves_swap_in_use() {
	local device
	need mkswap swapon
	loop device swap.img 80M
	mkswap "$device" >/dev/null
	swapon "$device" 2>err || { detach "$device"; echo "no swapping here: $(head -1 err)"; exit 77; }
	echo "$device" >"$WORK/swapped"
	refused "$device: it is in use: mounted, swapped to" mkfs.nvfs --name "$POOL-new" --force "$device"
	swapoff "$device"
	rm "$WORK/swapped"
	refused_then_forced "$device" swap
	detach "$device"
}

# ---- Devices that fail

# The file behind the second of two is cut off: what it holds cannot be read any more.
failed_reads_are_told_and_stop_nothing() {
	local pool=$POOL-reads a b
	loop a reads-a.img 96M
	loop b reads-b.img 96M
	mkfs.nvfs --quiet --name "$pool" "$a" "$b"
	serve "$pool" "$a" "$b"
	nvfs subvolume create "$pool:data" --size 100M >/dev/null
	mount_data "$pool"
	random_file mnt/f 40
	unmount_dir "$WORK/mnt"
	mount_data "$pool"
	truncate -s 0 reads-b.img
	fails timeout 60 cat mnt/f >/dev/null 2>err
	cat err
	grep -q 'Input/output error' err
	grep -qE "pool $pool, subvolume data, inode [0-9]+, offset [0-9]+: a read failed on $b, block" "$pool.log"
	fails grep -q "failed on $a" "$pool.log"
	[ "$(number_of "$pool" io_errors)" -gt 0 ]
	timeout 60 ls -l mnt/f
	timeout 120 umount.fuse.nvfs "$WORK/mnt"
	timeout 60 nvfs pool stop "$pool"
	wait $server
	# Its label is gone with the rest.
	refused "$b.*Input/output error" nvfs pool start "$a" "$b"
	detach "$a"
	detach "$b"
}

# The file behind it finds no room: the device fails writes that it has no place for yet.
failed_writes_are_told_and_stop_nothing() {
	local pool=$POOL-writes device sum
	mkdir -p thin
	mount -t tmpfs -o size=48M none thin
	loop device thin/writes.img 192M
	mkfs.nvfs --quiet --name "$pool" "$device"
	serve "$pool" "$device"
	nvfs subvolume create "$pool:data" --size 120M >/dev/null
	mount_data "$pool"
	random_file mnt/kept 8
	sum=$(sum_of mnt/kept)
	fails timeout 60 dd if=/dev/urandom of=mnt/lost bs=1M count=100 conv=fsync 2>err
	cat err
	grep -q 'Input/output error' err
	grep -qE "pool $pool, subvolume data, inode [0-9]+, offset [0-9]+: a write failed on $device, block" "$pool.log"
	same "$(sum_of mnt/kept)" "$sum"
	refused 'not everything could be written.*umount -f' timeout 120 umount.fuse.nvfs "$WORK/mnt"
	timeout 120 umount.fuse.nvfs -f "$WORK/mnt"
	fails mountpoint -q "$WORK/mnt"
	refused "$pool: the last commit failed" timeout 60 nvfs pool stop "$pool"
	fails wait $server
	# What had been synced is there again with the device.
	mount -o remount,size=300M thin
	fsck_finds_nothing "$device"
	mount_data "$device"
	same "$(sum_of mnt/kept)" "$sum"
	random_file mnt/more 60
	unmount_dir "$WORK/mnt"
	nvfs pool stop "$pool"
	fsck_finds_nothing "$device"
	detach "$device"
	umount thin
}

# ---- Discards

takes_at_most() { [ "$(stat -c %b "$1")" -le "$2" ]; }

# Both are of one pool and hold half of each file: what the plain one keeps, it keeps at the time when the other one gave back.
freed_blocks_are_discarded_on_block_devices_alone() {
	local pool=$POOL-discard device plain=$WORK/discard-plain.img before kept sum
	loop device discard-loop.img 128M
	[ "$(cat "/sys/block/${device#/dev/}/queue/discard_max_bytes")" -gt 0 ] ||
		{ detach "$device"; echo "$device cannot discard here"; exit 77; }
	fallocate -l 128M "$plain"
	mkfs.nvfs --quiet --name "$pool" "$plain" "$device"
	serve "$pool" "$plain" "$device"
	nvfs subvolume create "$pool:data" --size 150M >/dev/null
	mount_data "$pool"
	random_file mnt/kept 16
	sum=$(sum_of mnt/kept)
	random_file mnt/gone 96
	# In blocks of 512 bytes.
	before=$(stat -c %b discard-loop.img)
	kept=$(stat -c %b "$plain")
	rm mnt/gone
	nvfs sync "$pool"
	in_time takes_at_most discard-loop.img $((before - 45 * 2048))
	same "$(stat -c %b "$plain")" "$kept"
	unmount_dir "$WORK/mnt"
	nvfs pool stop "$pool"
	wait $server
	fails grep discards "$pool.log"
	fsck_finds_nothing "$plain" "$device"
	serve "$pool" "$plain" "$device"
	mount_data "$pool"
	same "$(sum_of mnt/kept)" "$sum"
	unmount_dir "$WORK/mnt"
	nvfs pool stop "$pool"
	detach "$device"
}

for t in one_device_is_a_pool served_device_is_refused_to_others three_devices_are_a_pool \
	mkfs_asks_before_it_overwrites_ext4 mkfs_removes_signatures_that_it_does_not_write_over \
	mkfs_asks_before_it_overwrites_partitions mkfs_leaves_a_mounted_device \
	mkfs_leaves_the_device_of_a_mounted_partition mkfs_leaves_swap_in_use failed_reads_are_told_and_stop_nothing \
	failed_writes_are_told_and_stop_nothing freed_blocks_are_discarded_on_block_devices_alone; do
	run_test $t
	unmount_left
done
finish
