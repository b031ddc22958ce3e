#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What bad input gets: one line that says what is wrong, a non-zero exit, and nothing changed.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"

make_pool 512M
make_subvolume data --size 64M
mount_subvolume data
MNT_data=${MNT_data:?}

mkfs_refuses_a_foreign_filesystem() {
	truncate -s 64M ext4.img
	mkfs.ext4 -q ext4.img
	unchanged ext4.img refused 'ext4' mkfs.nvfs --name foreign ext4.img
	truncate -s 512M ext4.img
	# Told to overwrite it, but not like this.
	unchanged ext4.img refused 'dirty' mkfs.nvfs --name foreign --force --dirty 100G ext4.img
	unchanged ext4.img refused 'inodes' mkfs.nvfs --name foreign --force --inodes 99999999999 ext4.img
	mkfs.nvfs --name foreign --force ext4.img
	# The label is whatever its owner wrote, and goes to a terminal.
	mkfs.ext4 -q -F -L $'\e[2J' ext4.img
	refused 'labelled "\\x1b\[2J"' mkfs.nvfs --name foreign ext4.img
}

mkfs_refuses_a_pool_in_use() {
	refused 'in use|served|busy' mkfs.nvfs --name again --force "$POOL_FILE"
	echo x >"$MNT_data/still-works"
	nvfs sync "$POOL:data"
}

mkfs_refuses_another_pool() {
	mkfs.nvfs --name first --size 512M first.img
	unchanged first.img refused 'nvfs|first' mkfs.nvfs --name second first.img
	rm first.img
}

mkfs_refuses_too_small_a_file() {
	refused 'tiny.img has 1M.*at least 64M' mkfs.nvfs --name tiny --size 1M tiny.img
	[ ! -e tiny.img ]
	refused 'no room.*smaller --size' mkfs.nvfs --name tiny --size 1000T tiny.img
	truncate -s 1M tiny2.img
	refused 'tiny2.img has 1M.*at least 64M' mkfs.nvfs --name tiny tiny2.img
}

mkfs_refuses_bad_names_and_sizes() {
	refused 'name' mkfs.nvfs --name 'a/b' --size 512M bad.img
	refused 'name' mkfs.nvfs --name "$(printf 'x%.0s' {1..80})" --size 512M bad.img
	refused 'size' mkfs.nvfs --name bad --size 12elephants bad.img
	[ ! -e bad.img ]
}

unknown_options_are_named() {
	refused '--fast is no option; "mkfs.nvfs --help"' mkfs.nvfs --fast x.img
	refused '--size needs a value; "mkfs.nvfs --help"' mkfs.nvfs x.img --size
	refused '-Z is no option; "mkfs.nvfs --help"' mkfs.nvfs --size=64M -Zq x.img
	refused '-Z is no option; "fsck.nvfs --help"' fsck.nvfs -nZ "$POOL_FILE"
	refused '--force=1 is no option; "nvfs --help"' nvfs pool stop --force=1 "$POOL"
	exits_with 16 fsck.nvfs --fast "$POOL_FILE"
	exits_with 2 nvfs pool list --fast
}

exit_codes_are_those_of_the_manuals() {
	exits_with 3 nvfs subvolume show "$POOL-none:data"
	exits_with 4 nvfs subvolume show "$POOL:nosuch"
	exits_with 4 nvfs pool start "$WORK/missing.img"
	exits_with 5 nvfs subvolume create "$POOL:huge" --size 100G
	exits_with 6 nvfs subvolume delete "$POOL:data" --yes
	exits_with 7 nvfs subvolume create "$POOL:data" --size 64M
	# Whoever owns no tenant hears nothing else.
	exits_with 8 setpriv --reuid 65534 --regid 65534 --clear-groups "$(command -v nvfs)" pool show "$POOL"
	mkdir -p m
	exits_with 1 mount.nvfs -o nosuchoption "$POOL:data" m
	exits_with 32 mount.nvfs "$POOL:nosuch" m
	exits_with 1 umount.fuse.nvfs
	exits_with 32 umount.fuse.nvfs "$WORK/m"
	# shellcheck disable=SC2016
	exits_with 2 unshare --mount --propagation private sh -ec '
		mount --bind /dev/fuse /dev/fuse
		mount -o remount,bind,nodev /dev/fuse
		exec mount.nvfs "$1:data" m' sh "$POOL"
	grep -q '/dev/fuse' out
}

mkfs_refuses_what_is_not_there() {
	: >nothing.img
	refused 'it is empty.*at least 64M' mkfs.nvfs --name none nothing.img
	rm nothing.img
	refused 'mkdir -p' mkfs.nvfs --name none --size 128M no/where.img
	echo x >plain-file
	refused 'Not a directory' mkfs.nvfs --name none plain-file/x
	refused 'such|exist|--size' mkfs.nvfs --name none /nowhere/none.img
	refused 'regular file' mkfs.nvfs --name none "$WORK"
}

mount_refuses_an_unknown_subvolume() {
	mkdir -p m
	refused 'nosuch' mount.nvfs "$POOL:nosuch" m
	fails mountpoint -q m
}

mount_refuses_an_unknown_pool() {
	mkdir -p m
	refused 'nosuchpool' mount.nvfs nosuchpool:data m
}

mount_refuses_a_second_time() {
	mkdir -p m
	refused 'mounted' mount.nvfs "$POOL:data" m
	fails mountpoint -q m
}

mount_refuses_a_bad_directory() {
	nvfs subvolume create "$POOL:other" --size 16M
	refused 'such|exist|missing' mount.nvfs "$POOL:other" "$WORK/missing"
	echo >plain
	refused 'directory' mount.nvfs "$POOL:other" "$PWD/plain"
	nvfs subvolume delete "$POOL:other" --yes
}

mount_refuses_a_foreign_file() {
	mkdir -p m
	truncate -s 64M zeros.img
	unchanged zeros.img refused 'nvfs|label' mount.nvfs "$PWD/zeros.img" m
}

subvolume_refuses_nonsense() {
	refused 'already; take another' nvfs subvolume create "$POOL:data" --size 1M
	refused 'size|room|space|GiB|MiB' nvfs subvolume create "$POOL:huge" --size 100G
	refused 'name' nvfs subvolume create "$POOL:$(printf 'x%.0s' {1..300})" --size 1M
	refused 'inodes are more than' nvfs subvolume create "$POOL:many" --size 4K --inodes 9223372036854775807
	refused 'inodes are more than' nvfs subvolume resize "$POOL:data" --inodes 9223372036854775807
	refused "nosuch; nvfs subvolume list $POOL" nvfs subvolume resize "$POOL:nosuch" --size 1M
	refused 'nosuch' nvfs subvolume delete "$POOL:nosuch" --yes
	refused 'mounted' nvfs subvolume delete "$POOL:data" --yes
	same "$(nvfs subvolume list "$POOL" --json | grep -o '"name": *"[^"]*"' | wc -l)" 1
}

resize_refuses_less_than_used() {
	dd if=/dev/zero of="$MNT_data/fill" bs=1M count=20 status=none
	nvfs sync "$POOL:data"
	refused 'use' nvfs subvolume resize "$POOL:data" --size 8M
	same "$(df --output=size -B1M "$MNT_data" | tail -1 | tr -d ' ')" 64
	nvfs subvolume resize "$POOL:data" --size 32M
	same "$(df --output=size -B1M "$MNT_data" | tail -1 | tr -d ' ')" 32
	nvfs subvolume resize "$POOL:data" --size 64M
	rm "$MNT_data/fill"
}

full_subvolume_says_so_at_write() {
	nvfs subvolume create "$POOL:small" --size 8M
	mkdir -p small
	mount.nvfs "$POOL:small" small
	local status=0
	dd if=/dev/zero of=small/f bs=64k count=1000 status=none 2>err || status=$?
	[ $status -ne 0 ]
	grep -qi 'No space left' err
	# Full to the last block, overwriting works, deleting works, and the room is back.
	dd if=/dev/urandom of=small/f bs=64k count=16 conv=notrunc,fsync status=none
	rm small/f
	dd if=/dev/zero of=small/g bs=1M count=7 conv=fsync status=none
	umount.fuse.nvfs small
	nvfs subvolume delete "$POOL:small" --yes
}

full_inode_table_says_so() {
	nvfs subvolume create "$POOL:few" --size 8M --inodes 64
	mkdir -p few
	mount.nvfs "$POOL:few" few
	local n=0
	while touch "few/f$n" 2>err; do
		n=$((n + 1))
		[ $n -lt 200 ] || return 1
	done
	grep -qiE 'No space left' err
	[ $n -ge 60 ] && [ $n -le 64 ]
	rm few/f0
	touch few/again
	umount.fuse.nvfs few
	nvfs subvolume delete "$POOL:few" --yes
}

fsck_says_what_does_not_fit() {
	mkfs.nvfs --quiet --name one --size 128M one.img
	mkfs.nvfs --quiet --name two --size 128M two.img
	cp --sparse=always one.img copy.img
	fails fsck.nvfs -n one.img two.img >out 2>&1
	grep -q 'another pool' out
	fails fsck.nvfs -n one.img copy.img >out 2>&1
	grep -q 'same member' out
	refused 'are the same' fsck.nvfs -n one.img "$PWD/one.img"
	refused 'neither' fsck.nvfs -n /dev/null
	rm one.img two.img copy.img
}

fsck_refuses_a_pool_in_use() {
	local status=0
	fsck.nvfs -n "$POOL_FILE" >out 2>&1 || status=$?
	cat out
	same $status 8
}

# Its lock is that of the file, and who comes by the loop device has another one; so the other way round.
the_same_pool_by_a_loop_device_is_refused() {
	local loop
	need losetup
	loop=$(losetup -f --show "$POOL_FILE") || { echo "no loop device"; exit 77; }
	refused 'behind it.*in use' mkfs.nvfs --name again --force "$loop" &&
		refused 'behind it.*in use' fsck.nvfs -n "$loop" &&
		refused 'loop device' fsck.nvfs -n "$POOL_FILE" || { losetup -d "$loop"; return 1; }
	losetup -d "$loop"
}

pool_start_refuses_what_is_not_there() {
	: >empty.img
	refused 'missing.img' nvfs pool start "$POOL_FILE" "$WORK/missing.img"
	refused 'empty' nvfs pool start "$WORK/empty.img" "$POOL_FILE"
}

options_of_other_commands_are_refused() {
	refused '--thin means nothing' nvfs subvolume resize "$POOL:data" --size 64M --thin
	refused '--compression means nothing' nvfs subvolume resize "$POOL:data" --size 64M --compression lz4
	refused '--force means nothing' nvfs subvolume delete "$POOL:data" --yes --force
	refused '--size means nothing' nvfs pool list --size 1G
	refused '--json means nothing' nvfs debug dump "$POOL_FILE" --json
	refused 'nosuch' nvfs pool list --nosuch
	refused 'nosuch' mkfs.nvfs --nosuch x.img
	refused 'nosuch' fsck.nvfs --nosuch x.img
	refused 'exclude' fsck.nvfs -n -y x.img
	refused 'no device' fsck.nvfs
	refused 'usage' mount.nvfs -Z a b
	mount.nvfs -h | grep -q '^usage: mount -t nvfs'
	umount.fuse.nvfs -h | grep -q '^usage: umount.fuse.nvfs'
}

# It would have meant the whole pool.
names_that_cannot_be_are_refused() {
	local status=0
	refused 'cannot be the name' nvfs sync "$POOL:"$'\xff'
	refused 'cannot be the name' nvfs subvolume create "$POOL:a b" --size 1M
	refused 'cannot be the name' mount.nvfs "$POOL:"$'\e[2J' "$WORK"
	fails grep -q $'\e' err
	nvfs sync "$POOL:"$'\xff' 2>/dev/null || status=$?
	same $status 2
}

answers_are_json_when_asked_for() {
	nvfs sync "$POOL" --json | grep -q '"ok": true'
	nvfs pool start "$POOL_FILE" --json >out
	grep -q '"started": false' out
	grep -q "\"pool\": \"$POOL\"" out
	nvfs pool show "$POOL" --json | grep -qE '"inodes": [0-9]+'
	nvfs sync "$POOL" >out
	[ ! -s out ]
}

options_of_a_new_subvolume_arrive() {
	# More than could be reserved.
	nvfs subvolume create "$POOL:told" --size 600M --thin --compression lz4
	nvfs subvolume create "$POOL:untold" --size 16M
	nvfs subvolume show "$POOL:told" --json >out
	nvfs subvolume show "$POOL:untold" --json >out2
	cat out out2
	grep -q '"size_bytes": 629145600,' out
	grep -q '"thin": true,' out
	grep -q '"compression": "lz4",' out
	grep -q '"thin": false,' out2
	grep -q '"compression": "off",' out2
	nvfs subvolume delete "$POOL:told" --yes
	nvfs subvolume delete "$POOL:untold" --yes
}

# A file without a slash is no name of a pool.
files_of_this_directory_are_found() {
	mkfs.nvfs --quiet --name here --size 128M here.img
	nvfs debug dump here.img label | grep -q 'label of device 0 of 1'
	refused 'as in ./here.img' nvfs pool start here.img
	mkfs.nvfs --name two --size 128M a.img b.img | grep -qF 'nvfs pool start ./a.img ./b.img'
	nvfs debug dump b.img label | grep -q 'label of device 1 of 2'
	rm here.img a.img b.img
}

# Which of two copies is the right one only a person knows.
copies_of_members_are_not_guessed_at() {
	mkdir pair
	mkfs.nvfs --quiet --name "$POOL-pair" --size 128M pair/a.img pair/b.img
	cp --sparse=always pair/b.img pair/0.img
	cp --sparse=always pair/b.img pair/c.img
	refused 'the same member.*name all' nvfs pool start pair/a.img
	mkdir -p m
	refused 'the same member.*name all' mount.nvfs "$PWD/pair/a.img:x" m
	refused 'the same member' nvfs debug dump pair/a.img label
	# Not of what was named.
	rm pair/0.img pair/c.img
	cp --sparse=always pair/a.img pair/0.img
	nvfs debug dump pair/a.img label | grep -q 'pair/a.img label A'
	nvfs debug dump pair/a.img label >out
	fails grep -q 'pair/0.img' out
	cp --sparse=always pair/b.img pair/c.img
	nvfs pool start pair/a.img pair/b.img
	nvfs pool stop "$POOL-pair"
	fsck.nvfs -n pair/a.img pair/b.img
	rm -r pair
}

# Who may not ask hears so, and not that there is nothing.
pools_that_may_not_be_asked_are_named() {
	local status=0 sock mode
	sock=$(grep -oE -m 1 "/[^ ]*/$POOL\.sock" /proc/net/unix)
	mode=$(stat -c %a "$sock")
	chmod 600 "$sock"
	setpriv --reuid 65534 --regid 65534 --clear-groups "$(command -v nvfs)" pool list >out 2>err || status=$?
	chmod "$mode" "$sock"
	cat out err
	same $status 1
	grep -q "$POOL: Permission denied" err
}

# As its main group or as another one; who is not in it gets one refusal, whatever is asked.
control_group_may_use_the_socket() {
	local pool=$POOL-group cli
	cli=$(command -v nvfs)
	mkfs.nvfs --quiet --name "$pool" --size 128M group.img
	printf 'devices = %s\noptions = control_group=61007\n' "$PWD/group.img" >group.conf
	nvfsd --config group.conf
	setpriv --reuid 61008 --regid 61007 --clear-groups "$cli" subvolume create "$pool:one" --size 8M
	setpriv --reuid 61008 --regid 61008 --groups 61007 "$cli" subvolume delete "$pool:one" --yes
	refused 'only root, the control_group of nvfs.conf and the owners of tenants may ask' \
		setpriv --reuid 61008 --regid 61008 --clear-groups "$cli" pool show "$pool"
	refused 'only root, the control_group' setpriv --reuid 61008 --regid 61007 --clear-groups "$cli" pool show "$POOL"
	setpriv --reuid 61008 --regid 61007 --clear-groups "$cli" pool stop "$pool"
	rm group.img group.conf
}

half_an_answer_is_an_error() {
	[ -c /dev/full ] || { echo "no /dev/full"; exit 77; }
	fails nvfs pool list >/dev/full
	fails nvfs subvolume list --json >/dev/full
}

second_daemon_is_refused() {
	fails nvfsd -f "$POOL_FILE" >out 2>&1
	cat out
	grep -qiE 'in use|served|already|busy' out
	echo x >"$MNT_data/still-works"
}

# One after the other, on a pool like its own.
commands_that_quickstart_suggests_work() {
	local pool=$POOL-guide subvolume=work tenant= size= claim= limit= commands line
	eval "$(grep -xE 'tenant=[a-z]+|size=[0-9]+[GM] claim=[0-9]+[GM] limit=[0-9]+[GM]' "$NVFS_SRCDIR/packaging/quickstart")"
	truncate -s "$size" guide.img
	mkfs.nvfs --quiet --name "$pool" guide.img
	nvfs pool start ./guide.img
	nvfs tenant create "$pool/$tenant" --used "$limit"
	nvfs subvolume create "$pool:$subvolume" --size "$claim" --tenant "$tenant"
	commands=$(sed -nE 's/^[A-Z][^:]*: +(nvfs .*)/\1/p' "$NVFS_SRCDIR/packaging/quickstart")
	same "$(grep -c . <<<"$commands")" 4
	while read -r line; do
		eval "$line"
	done <<<"$commands"
	nvfs pool stop "$pool"
	rm guide.img
}

for t in mkfs_refuses_a_foreign_filesystem mkfs_refuses_a_pool_in_use mkfs_refuses_another_pool \
	mkfs_refuses_too_small_a_file mkfs_refuses_bad_names_and_sizes unknown_options_are_named \
	exit_codes_are_those_of_the_manuals options_of_a_new_subvolume_arrive control_group_may_use_the_socket \
	mkfs_refuses_what_is_not_there mount_refuses_an_unknown_subvolume \
	mount_refuses_an_unknown_pool mount_refuses_a_second_time mount_refuses_a_bad_directory \
	mount_refuses_a_foreign_file subvolume_refuses_nonsense resize_refuses_less_than_used \
	full_subvolume_says_so_at_write full_inode_table_says_so fsck_says_what_does_not_fit fsck_refuses_a_pool_in_use \
	the_same_pool_by_a_loop_device_is_refused pool_start_refuses_what_is_not_there half_an_answer_is_an_error \
	options_of_other_commands_are_refused names_that_cannot_be_are_refused answers_are_json_when_asked_for \
	files_of_this_directory_are_found copies_of_members_are_not_guessed_at pools_that_may_not_be_asked_are_named \
	second_daemon_is_refused commands_that_quickstart_suggests_work; do
	run_test $t
done

# Damage, on a pool that nobody serves.
unmount_subvolume data
stop_pool >/dev/null

copy_damaged() {
	cp --sparse=always "$POOL_FILE" damaged.img
	printf '\377\377\377\377\377\377\377\377' |
		dd of=damaged.img bs=1 seek="$1" conv=notrunc status=none
}

damaged_label_falls_back_to_its_copy() {
	copy_damaged 64
	exits_with 4 fsck.nvfs -n damaged.img
	grep -q 'label A is damaged' out
	exits_with 1 fsck.nvfs -y damaged.img
	exits_with 0 fsck.nvfs -n --data damaged.img
	rm damaged.img
}

fsck_shows_how_far_it_is_on_a_terminal() {
	local bar='inodes +\[[# ]{40}\] +[0-9]+%'
	# Where nobody has said what the terminal can do, nothing is drawn.
	local -x TERM=xterm
	need script
	script -qec "fsck.nvfs -n '$POOL_FILE'" typescript </dev/null >drawn
	cat -v drawn
	grep -qE "$bar" drawn
	# Gone before the line that stays.
	grep -qE $'\e\\[K'"$POOL: .* no errors" drawn
	script -qec "fsck.nvfs -n '$POOL_FILE' 2>err" typescript </dev/null >drawn
	fails grep -qE '%|\[' drawn err
	fsck.nvfs -n "$POOL_FILE" >out 2>&1
	same "$(wc -l <out)" 1
	fails grep -qE '%|\[' out
}

fsck_at_boot_checks_nothing() {
	local option
	copy_damaged 64
	for option in -a -p '-a -y'; do
		# shellcheck disable=SC2086
		unchanged damaged.img exits_with 0 fsck.nvfs $option damaged.img
		[ ! -s out ]
	done
	exits_with 4 fsck.nvfs -f -n damaged.img
	rm damaged.img
}

both_labels_damaged_is_refused() {
	cp --sparse=always "$POOL_FILE" damaged.img
	local bytes
	bytes=$(stat -c %s damaged.img)
	dd if=/dev/zero of=damaged.img bs=1M count=1 conv=notrunc status=none
	dd if=/dev/zero of=damaged.img bs=1M seek=$((bytes / 1048576 - 1)) count=1 conv=notrunc status=none
	fails nvfsd -f "$PWD/damaged.img" >out 2>&1
	cat out
	grep -qiE 'label|no part of' out
	rm damaged.img
}

truncated_pool_is_refused() {
	cp --sparse=always "$POOL_FILE" short.img
	truncate -s 300M short.img
	unchanged short.img exits_with 1 nvfsd -f "$PWD/short.img"
	grep -q 'cut off.*from a copy' out
	unchanged short.img refused 'cut off.*from a copy' mount.nvfs "$PWD/short.img:data" "$WORK"
	rm short.img
}

# label_field OFFSET VALUE: makes newer.img one of another format.
label_field() {
	python3 - newer.img "$@" <<-'END'
		import os, struct, sys
		def crc32c(data):
		    crc = 0xffffffff
		    for byte in data:
		        crc ^= byte
		        for _ in range(8):
		            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
		    return crc ^ 0xffffffff
		with open(sys.argv[1], 'r+b') as f:
		    for at in (0, os.path.getsize(sys.argv[1]) - 65536):
		        f.seek(at)
		        label = bytearray(f.read(4096))
		        assert label[:8] == b'NVFSLBL1' and struct.unpack_from('<H', label, 16) == (1,)
		        crc, = struct.unpack_from('<I', label, 8)
		        label[8:12] = bytes(4)
		        assert crc32c(label) == crc
		        struct.pack_into('<H', label, int(sys.argv[2]), int(sys.argv[3]))
		        struct.pack_into('<I', label, 8, crc32c(label))
		        f.seek(at)
		        f.write(label)
	END
}

newer_format_is_refused() {
	need python3
	cp --sparse=always "$POOL_FILE" newer.img
	label_field 16 2
	unchanged newer.img refused 'newer nvfs; update' mount.nvfs "$PWD/newer.img:data" "$WORK"
	unchanged newer.img refused 'newer nvfs; update' nvfs pool start "$PWD/newer.img"
	unchanged newer.img refused 'format 2.0 is newer.*install' nvfsd -f "$PWD/newer.img"
	unchanged newer.img refused 'a newer nvfs; --force' mkfs.nvfs --name other newer.img
	unchanged newer.img exits_with 8 fsck.nvfs -y newer.img
	grep -q 'made by a newer version' out
	nvfs debug udev newer.img | grep -qx 'ID_FS_TYPE=nvfs'
	rm newer.img
}

# stopped_pool_with_a_file POOL FILE: 256 KiB of noise in /f of its subvolume `data`, and in `whole`.
stopped_pool_with_a_file() {
	mkdir -p filled
	mkfs.nvfs --quiet --name "$1" --size 128M "$2"
	nvfs pool start "./$2"
	nvfs subvolume create "$1:data" --size 32M
	mount.nvfs "$1:data" filled
	dd if=/dev/urandom of=filled/f bs=64k count=4 status=none
	cp filled/f whole
	umount.fuse.nvfs filled
	nvfs pool stop "$1"
}

# A newer minor version, and a feature that may be read without being known: everything can be read, nothing is written.
newer_minor_format_is_read_only() {
	local pool=$POOL-minor field
	need python3
	mkdir -p newer
	for field in "18 9" "32 1"; do
		stopped_pool_with_a_file "$pool" newer.img
		# shellcheck disable=SC2086 # two words
		label_field $field
		unchanged newer.img read_only_visit
		exits_with 0 fsck.nvfs -n --data newer.img
		rm newer.img whole
	done
}

read_only_visit() {
	nvfs pool start ./newer.img
	mount.nvfs "$pool:data" newer 2>err
	cat err
	grep -q 'can only be read by this one: mounted read-only; update nvfs' err
	cmp newer/f whole
	sync newer/f
	sync -f newer
	refused 'Read-only file system' touch newer/f
	refused 'read-only|can only be read' nvfs subvolume create "$pool:other" --size 1M
	refused 'read-only' mount.nvfs -o remount,rw "$pool:data" newer
	umount.fuse.nvfs newer
	nvfs pool stop "$pool"
}

damaged_pool_is_not_taken_for_empty() {
	local bytes
	bytes=$(stat -c %s "$POOL_FILE")
	nvfs debug udev "$POOL_FILE" >whole
	grep -qx 'ID_FS_TYPE=nvfs' whole
	grep -qx "ID_FS_LABEL=$POOL" whole
	copy_damaged 64
	printf '\377\377\377\377' | dd of=damaged.img bs=1 seek=$((bytes - 65536 + 64)) conv=notrunc status=none
	same "$(nvfs debug udev damaged.img | tr '\n' ' ')" "ID_FS_TYPE=nvfs ID_FS_USAGE=filesystem "
	cp --sparse=always "$POOL_FILE" short.img
	truncate -s 300M short.img
	nvfs debug udev short.img | cmp - whole
	truncate -s 64M none.img
	fails nvfs debug udev none.img >out
	[ ! -s out ]
	rm damaged.img short.img none.img
}

# One bit of a block of data: an error to its reader, a line that says where, a count; and the rest of the file is there.
damaged_data_is_an_io_error() {
	local rot=$POOL-rot address byte where
	mkdir -p rotten
	stopped_pool_with_a_file "$rot" rot.img
	nvfs debug dump ./rot.img inode /f >out
	address=$(sed -nE 's/.*\[0\+64 @0:([0-9]+) .*/\1/p' out)
	[ -n "$address" ] || { cat out; return 1; }
	byte=$(((address + 3) * 4096 + 100))
	printf "\\$(printf %o $(($(od -An -tu1 -j $byte -N 1 rot.img) ^ 16)))" |
		dd of=rot.img bs=1 seek=$byte conv=notrunc status=none
	exits_with 4 fsck.nvfs -n --data rot.img
	grep -q 'subvolume data: inode 2 (/f) offset 12288: wrong checksum' out
	nvfsd -f "$PWD/rot.img" >rot.log 2>&1 &
	while ! nvfs pool show "$rot" >/dev/null 2>&1; do kill -0 $! && sleep 0.1; done
	mount.nvfs "$rot:data" rotten
	fails cat rotten/f >/dev/null 2>err
	grep -q 'Input/output error' err
	cmp -n 12288 rotten/f whole
	dd if=rotten/f bs=4096 skip=4 iflag=direct status=none | cmp - <(tail -c +16385 whole)
	where="pool $rot, subvolume data, inode 2, offset 12288: the checksum does not match on $PWD/rot.img, block $((address + 3))"
	grep -qF "$where" rot.log || { cat rot.log; return 1; }
	nvfs events "$rot" --json >out
	grep -F '"kind":"checksum-error","severity":"error","subvolume":"data"' out | grep -qF '"inode":2,"offset":12288,' ||
		{ cat out; return 1; }
	nvfs pool show "$rot" --json | grep -qE '"checksum_errors": [1-9]'
	nvfs subvolume show "$rot:data" --json | grep -qE '"checksum_errors": [1-9]'
	# What is written anew is whole again.
	dd if=whole of=rotten/f bs=4096 skip=3 seek=3 count=1 conv=notrunc status=none
	cmp rotten/f whole
	umount.fuse.nvfs rotten
	nvfs pool stop "$rot"
	exits_with 0 fsck.nvfs -n --data rot.img
	rm rot.img whole
}

for t in fsck_shows_how_far_it_is_on_a_terminal fsck_at_boot_checks_nothing damaged_label_falls_back_to_its_copy \
	both_labels_damaged_is_refused truncated_pool_is_refused newer_format_is_refused newer_minor_format_is_read_only \
	damaged_pool_is_not_taken_for_empty \
	damaged_data_is_an_io_error; do
	run_test $t
done
check_pool
finish
