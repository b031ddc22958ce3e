#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# bench/run from end to end, as small as it goes: every side gets its figures, on both storages. What they are is no matter here.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"
TEST_TIMEOUT=600
for p in python3 fio; do
	command -v $p >/dev/null || skip_suite "$p is not installed"
done
[ -x "$NVFS_BUILDDIR/bench/nullfs" ] || die "bench/nullfs is not built"

# XFS gets a loop device with direct I/O, which not every machine has.
sides=(nvfs null)
has_xfs() {
	local loop file status=0
	command -v mkfs.xfs >/dev/null || { why="mkfs.xfs is not installed"; return 1; }
	why="no loop device with direct I/O on a tmpfs and on $WORK"
	mkdir "$WORK/tmpfs" && mount -t tmpfs none "$WORK/tmpfs" || return
	for file in "$WORK/probe" "$WORK/tmpfs/probe"; do
		truncate -s 1M "$file"
		loop=$(losetup --find --show --direct-io=on "$file" 2>/dev/null) || { status=1; break; }
		[ "$(cat "/sys/block/${loop#/dev/}/loop/dio")" = 1 ] || status=1
		losetup -d "$loop"
	done
	umount "$WORK/tmpfs"
	return $status
}
if has_xfs; then sides+=(xfs); else skip_test xfs_beside_it "$why"; fi

every_side_gets_its_figures() {
	local side wanted=()
	for side in "${sides[@]}"; do
		wanted+=(--side "$side")
	done
	python3 -B "$NVFS_SRCDIR/bench/run" --no-install --quick --build "$NVFS_BUILDDIR" --dir "$WORK" --out "$WORK/results" \
		--size 1 --seconds 1 --runs 1 --case fdatasync --case names --case idle "${wanted[@]}" \
		>said 2>&1 &
	echo $! >pid
	wait $! || { cat said; return 1; }
	fails grep -E '^failed: |^skipped: |FAILED' said
	[ -s results/table.md ]
	python3 - results "${sides[@]}" <<-'END'
		import json, sys, xml.dom.minidom
		out, *sides = sys.argv[1:]
		with open(f'{out}/results.json', encoding='utf-8') as f:
		    results = json.load(f)
		assert not results['failures'] and not results['skipped'], results
		figures = {(f['storage'], f['figure']): f['samples'] for f in results['figures']}
		for storage in 'memory', 'disk':
		    for figure in 'overwrite 4k + fdatasync', 'create x1', 'readdir x1', 'rename x4', 'unlink x4':
		        samples = figures[storage, figure]
		        assert sorted(samples) == sorted(sides), (storage, figure, samples)
		        assert all(len(s) == 1 and s[0] > 0 for s in samples.values()), (storage, figure, samples)
		assert list(figures['memory', 'resident idle']) == ['nvfs'], figures
		xml.dom.minidom.parse(f'{out}/ratios.svg')
	END
}

# Of its mounts, loop devices and daemons nothing stays.
nothing_is_left() {
	fails grep "$WORK/nvfs-bench" /proc/self/mountinfo
	fails grep -rl "$WORK/nvfs-bench" /sys/block/*/loop/backing_file 2>/dev/null
	same "$(find . -maxdepth 1 -name 'nvfs-bench*')" ""
	fails nvfs pool show "bench$(cat pid)"
}

run_test every_side_gets_its_figures
run_test nothing_is_left
finish
