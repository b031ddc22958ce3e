#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every operation on a mounted subvolume (nvfs-ops), as root and as an ordinary user: against what it must do, and against
# what ext4 and XFS on loop do. OPS_ONLY limits it to the cases of that name pattern.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"
user=61003
only=${OPS_ONLY:+--only $OPS_ONLY}
ops=$NVFS_BUILDDIR/tests/mount/nvfs-ops
[ -x "$ops" ] || die "$ops is not built"

# cases PREFIX ARGUMENT...: each line of nvfs-ops becomes a result, its name with the prefix.
cases() {
	local prefix=$1 out=$WORK/cases.out bad
	shift
	# In the background: a signal to the suite is not to wait for it.
	set -m
	# shellcheck disable=SC2086
	timeout -k 10 600 "$ops" "$@" $only >"$out" 2>&1 </dev/null &
	RUNNING=$!
	set +m
	wait "$RUNNING"
	local status=$?
	RUNNING=
	sed -E "s/^(ok|not ok|skip) /&$prefix:/" "$out"
	bad=$(grep -c '^not ok ' "$out")
	if ! grep -q '^# .* passed' "$out"; then
		echo "not ok $prefix:nvfs-ops ended early with status $status"
		bad=$((bad + 1))
	fi
	FAILED=$((FAILED + bad))
}

# reference TYPE: an empty filesystem of that type on loop in $WORK/TYPE; fails when there can be none.
reference() {
	command -v "mkfs.$1" >/dev/null || { why="mkfs.$1 is not installed"; return 1; }
	truncate -s 1G "$WORK/$1.img" && mkfs."$1" -q "$WORK/$1.img" >/dev/null || { why="mkfs.$1 failed"; return 1; }
	mkdir -p "$WORK/$1"
	mount -o loop "$WORK/$1.img" "$WORK/$1" 2>"$WORK/loop.err" || { why=$(head -1 "$WORK/loop.err"); return 1; }
	MOUNTS+=("$WORK/$1")
	user_dir "$WORK/$1"
}

user_dir() {
	install -d -m 755 -o $user -g $user "$1/user"
	install -d -m 755 "$1/root"
}

# A sparse backup of a file that its writer has still open: zeros where the kernel holds the data would be a loss.
what_is_not_written_back_yet_is_no_hole() {
	need tar perl
	perl -e 'open(my $f, ">", $ARGV[0]) or die; syswrite($f, "data" x 250000); sleep 60' "$MNT_ops/root/held" &
	local holder=$! i
	for ((i = 0; i < 600; i++)); do
		[ "$(stat -c %s "$MNT_ops/root/held" 2>/dev/null)" = 1000000 ] && break
		sleep 0.05
	done
	same "$(stat -c %s "$MNT_ops/root/held")" 1000000
	tar -C "$MNT_ops/root" -cSf held.tar held
	kill "$holder"
	wait "$holder" || true
	mkdir unpacked
	tar -C unpacked -xf held.tar
	cmp "$MNT_ops/root/held" unpacked/held
	rm "$MNT_ops/root/held"
}

# What overlayfs asks of the filesystem of its upper layer: whiteouts (RENAME_WHITEOUT, devices 0:0), a tmpfile, d_type, and its
# own attributes, trusted.overlay.*, for directories that are opaque or were renamed.
overlayfs_keeps_its_upper_layer_here() {
	local up=$MNT_ops/root/overlay layers below seen f
	need getfattr
	trap 'cd "$WORK"; umount -q -l over || :; umount -q -l below || :' EXIT
	mkdir -p over below
	mount -t tmpfs none below
	mkdir -p below/lower/{replaced,renamed} below/{upper,work} "$up"/{upper,work}
	# Without nvfs, whether there is such a filesystem at all.
	below=lowerdir=$PWD/below/lower
	mount -t overlay none over -o "$below,upperdir=$PWD/below/upper,workdir=$PWD/below/work,redirect_dir=on,index=off" 2>err ||
		{ head -1 err; exit 77; }
	umount over
	for f in changed gone moved replaced/old renamed/kept; do
		echo "$f" >"below/lower/$f"
	done
	layers=$below,upperdir=$up/upper,workdir=$up/work,redirect_dir=on,index=off
	mount -t overlay none over -o "$layers"
	echo more >>over/changed
	chmod 640 over/changed
	rm over/gone
	mv over/moved over/elsewhere
	rm -r over/replaced
	mkdir over/replaced
	echo new >over/replaced/new
	mv over/renamed over/named
	seen="f changed,d named,f named/kept,d replaced,f replaced/new,f elsewhere"
	seen=$(tr , '\n' <<<"$seen" | sort)
	same "$(find over -mindepth 1 -printf '%y %P\n' | sort)" "$seen"
	umount over
	remount_subvolume ops
	for f in gone moved renamed; do
		same "$(stat -c '%F %t:%T' "$up/upper/$f")" 'character special file 0:0'
	done
	same "$(getfattr -h -n trusted.overlay.opaque --only-values "$up/upper/replaced")" y
	same "$(getfattr -h -n trusted.overlay.redirect --only-values "$up/upper/named")" renamed
	same "$(cat "$up/upper/elsewhere")" moved
	mount -t overlay none over -o "$layers"
	same "$(find over -mindepth 1 -printf '%y %P\n' | sort)" "$seen"
	same "$(cat over/changed over/named/kept over/replaced/new over/elsewhere)" "$(printf '%s\n' changed more renamed/kept new moved)"
	same "$(stat -c %a over/changed)" 640
	umount over
	rm -r "$up"
}

make_pool 3G
make_subvolume ops --size 2G
mount_subvolume ops
# shellcheck disable=SC2154	# mount_subvolume sets it
user_dir "$MNT_ops"
chmod 755 "$WORK"

cases root "$MNT_ops/root"
cases user "$MNT_ops/user" --as $user:$user
# With the kernel's write-back cache a file has no holes (it does not tell the server what it holds).
remount_subvolume ops writeback
cases writeback "$MNT_ops/root" --mounted-with writeback --skip seek_hole_data --skip seek_after_punch --skip many_holes
run_test what_is_not_written_back_yet_is_no_hole
remount_subvolume ops parallel_dio
cases parallel_dio "$MNT_ops/root" --mounted-with parallel_dio --only 'direct*' --only 'setid*' --only 'mmap*' --only 'open*' \
	--only 'append*' --only 'handle*'
remount_subvolume ops writeback,parallel_dio
cases writeback,parallel_dio "$MNT_ops/root" --mounted-with writeback,parallel_dio --only 'direct*' --only 'setid*' \
	--only 'mmap*' --only 'open*' --only 'append*' --only 'handle*' --only '*blocks*' --only '*write*' --only 'trunc*' \
	--only 'punch*' --only 'times*' --only 'tmpfile*' --skip seek_hole_data --skip seek_after_punch --skip many_holes
remount_subvolume ops
make_subvolume lz4 --size 300M --compression lz4
mount_subvolume lz4
# shellcheck disable=SC2154	# mount_subvolume sets it
cases lz4 "$MNT_lz4" --compressible --only 'unlink*' --only 'punch*' --only 'trunc*' --only 'copy*' --only 'zero*' --only 'mmap*' --only '*write*'
run_test leave_text "$MNT_lz4/text"
unmount_subvolume lz4
run_test overlayfs_keeps_its_upper_layer_here
for type in ext4 xfs; do
	if ! reference $type; then
		skip_test "compared_with_$type" "$why"
		continue
	fi
	cases "root=$type" --compare "$MNT_ops/root" "$WORK/$type/root"
	cases "user=$type" --compare "$MNT_ops/user" "$WORK/$type/user" --as $user:$user
done
check_pool
run_test text_is_compressed /text lz4
finish
