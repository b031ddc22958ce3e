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
		cd / && umount.fuse.nvfs '$WORK/mnt-$1' && mount.nvfs '$POOL:$1' '$WORK/mnt-$1' ${2:+-o $2} </dev/null
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

# Several processes on one file, and several trees at the same time, while others commit.
crowd() {
	local mnt=$1 pids=() i bad=0
	mkdir -p "$mnt/crowd"
	for i in 1 2 3; do
		"$model/nvfs-tree" "$mnt/crowd" --ops $((5000 * scale)) --nodes 300 --seed $((seed + i)) >"tree.$i" 2>&1 &
		pids+=($!)
	done
	"$model/nvfs-crowd" "$mnt/crowd" --ops $((5000 * scale)) --seed "$seed" --drop-every 1000 &
	pids+=($!)
	for i in $(seq 10); do
		nvfs sync "$POOL" || bad=1
		sleep 0.5
	done
	for i in "${pids[@]}"; do
		wait "$i" || bad=1
	done
	cat tree.?
	return $bad
}

run_crowd() {
	local sub=$1 mnt=MNT_$1
	mount_subvolume "$sub" "${options[$sub]}"
	LAST_TEST=crowd_$sub TEST_NAME=crowd_$sub run_test crowd "${!mnt}"
	LAST_TEST=crowd_$sub fsck_between "$sub" "${options[$sub]}"
	unmount_subvolume "$sub"
}

declare -A options=([plain]="" [lz4]="" [writeback]=writeback [parallel]=parallel_dio)
make_pool 2G
make_subvolume plain --size 300M
make_subvolume lz4 --size 300M --compression lz4
make_subvolume writeback --size 300M
make_subvolume parallel --size 300M
for s in plain lz4 writeback parallel; do
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
for s in plain lz4 parallel writeback; do
	run_crowd $s
done
run_model data_with_parallel_dio parallel nvfs-fsx 10000
mount_subvolume lz4
# shellcheck disable=SC2154	# mount_subvolume sets it
run_test leave_text "$MNT_lz4/text"
check_pool
run_test text_is_compressed /text lz4
finish
