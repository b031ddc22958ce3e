#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The random-operation model tests on mounted subvolumes, with remounts and dropped caches in between.
# MODEL_SCALE multiplies the operations (1: the 200 thousand on data of each CI run); MODEL_SEED repeats a run.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"
scale=${MODEL_SCALE:-1}
seed=${MODEL_SEED:-$((RANDOM * 32768 + RANDOM))}
model=$NVFS_BUILDDIR/tests/model
TEST_TIMEOUT=$((600 * scale))
user=61003
echo "# seed $seed"

# remount_script NAME OPTIONS: a command that takes the mount away and brings it back.
remount_script() {
	cat >"$WORK/remount-$1" <<-END
		#!/bin/sh
		cd / && umount '$WORK/mnt-$1' && mount.nvfs '$POOL:$1' '$WORK/mnt-$1' ${2:+-o $2} </dev/null
	END
	chmod 755 "$WORK/remount-$1"
}

# run_model TEST SUBVOLUME PROGRAM OPERATIONS ARGUMENT...; seed, remounts and dropped caches are added. The pool is checked
# afterwards.
run_model() {
	local name=$1 sub=$2 program=$3 ops=$(($4 * scale)) mnt=MNT_$2
	shift 4
	mount_subvolume "$sub" "${options[$sub]}"
	LAST_TEST=$name TEST_NAME=$name run_test "$model/$program" "${!mnt}" --ops $ops --seed "$seed" \
		--remount "$WORK/remount-$sub" --remount-every $((ops / 8 + 1)) --drop-every 3000 "$@"
	LAST_TEST=$name fsck_between "$sub" "${options[$sub]}"
	unmount_subvolume "$sub"
}

# The same without privileges, so without the remounts.
run_model_as_user() {
	local name=$1 program=$2 ops=$(($3 * scale))
	shift 3
	mount_subvolume plain
	# shellcheck disable=SC2154	# mount_subvolume sets it
	install -d -m 755 -o $user -g $user "$MNT_plain/user"
	TEST_NAME=$name run_test setpriv --reuid $user --regid $user --clear-groups \
		"$model/$program" "$MNT_plain/user" --ops $ops --seed "$seed" "$@"
	unmount_subvolume plain
}

declare -A options=([plain]="" [lz4]="" [writeback]=writeback)
make_pool 2G
make_subvolume plain --size 300M
make_subvolume lz4 --size 300M --compression lz4
make_subvolume writeback --size 300M
for s in plain lz4 writeback; do
	remount_script $s "${options[$s]}"
done
chmod 755 "$WORK"

run_model data plain nvfs-fsx 80000
run_model data_far_away plain nvfs-fsx 30000 --base 4096T --files 2
run_model data_in_big_files plain nvfs-fsx 20000 --size 8M --max-len 1M
run_model data_compressed lz4 nvfs-fsx 40000
run_model data_with_writeback_cache writeback nvfs-fsx 20000
run_model_as_user data_of_a_user nvfs-fsx 10000
run_model names plain nvfs-tree 40000
run_model names_in_small_trees plain nvfs-tree 20000 --nodes 100
run_model names_with_writeback_cache writeback nvfs-tree 10000
run_model_as_user names_of_a_user nvfs-tree 10000
check_pool
finish
