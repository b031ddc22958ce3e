#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Real programs on a mounted subvolume, each followed by a full check of the pool.
# PROGRAMS_SECONDS is how long each load runs (default 15), PROGRAMS_ONLY the tests to run (default all).
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"
seconds=${PROGRAMS_SECONDS:-15}
TEST_TIMEOUT=400

make_pool 4G
make_subvolume work --size 3G
mount_subvolume work suid,dev
# shellcheck disable=SC2154	# mount_subvolume sets it
at=$MNT_work

# Clone, rewrite, repack and check the project's own history.
git_keeps_a_repository() {
	need git
	export HOME=$WORK GIT_CONFIG_GLOBAL=$WORK/gitconfig
	git config --global safe.directory '*'
	git config --global user.name test
	git config --global user.email test@localhost
	local origin=$NVFS_SRCDIR
	if ! git -C "$origin" rev-parse --git-dir; then
		origin=$WORK/origin
		git init -q "$origin"
		cp -r "$NVFS_SRCDIR"/[a-z]* "$origin"
		git -C "$origin" add -A
		git -C "$origin" commit -q -m start
	fi
	git clone -q --no-hardlinks "$origin" "$at/repository"
	cd "$at/repository"
	local i
	for i in $(seq 40); do
		echo "$i" >>notes
		git add notes
		git commit -q -m "note $i"
	done
	git checkout -q -b side HEAD~20
	git mv notes remarks
	git commit -q -m 'rename'
	git gc -q --aggressive --prune=now
	git fsck --full --strict
	git checkout -q -
	same "$(git status --porcelain)" ""
	same "$(wc -l <notes)" 40
}

# Two writers and a reader, with the shared memory file of the write-ahead log.
sqlite_keeps_its_transactions() {
	need sqlite3
	mkdir "$at/sqlite"
	cd "$at/sqlite"
	sqlite3 a.db 'PRAGMA journal_mode = WAL; CREATE TABLE t (w INTEGER, n INTEGER, x BLOB)'
	local w n
	for w in 1 2; do
		for n in $(seq 300); do
			echo "INSERT INTO t VALUES ($w, $n, randomblob(3000));"
		done | sqlite3 -cmd '.timeout 60000' a.db &
	done
	for n in $(seq 20); do
		sqlite3 -cmd '.timeout 60000' a.db 'SELECT count(*) FROM t' >>counts
	done
	wait
	sort -n -c counts
	same "$(sqlite3 a.db 'PRAGMA integrity_check; SELECT count(*), sum(n) FROM t')" "$(
		printf 'ok\n600|90300')"
	sqlite3 a.db 'PRAGMA journal_mode = DELETE; DELETE FROM t WHERE n % 2; VACUUM'
	same "$(sqlite3 a.db 'PRAGMA integrity_check; SELECT count(*) FROM t')" "$(printf 'ok\n300')"
}

# initdb and pgbench; the database is killed in the middle of it and recovers what it committed.
postgres_survives_its_own_crash() {
	local bin as data=$at/postgres sock=$WORK/pg
	bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
	[ -x "$bin/initdb" ] || { echo "PostgreSQL is not installed"; exit 77; }
	as="runuser -u postgres --"
	install -d -o postgres "$data" "$sock"
	chmod 755 "$WORK" "$at"
	cd /
	$as "$bin/initdb" -D "$data" >/dev/null
	printf '%s\n' "unix_socket_directories = '$sock'" "listen_addresses = ''" \
		'shared_buffers = 32MB' >>"$data/postgresql.conf"
	local start="$as $bin/pg_ctl -w -t 60 -D $data -l $sock/log start"
	# shellcheck disable=SC2064
	trap "$as $bin/pg_ctl -D $data -m immediate stop >/dev/null 2>&1 || :" EXIT
	$start
	$as "$bin/createdb" -h "$sock" bench
	$as "$bin/pgbench" -h "$sock" -q -i -s 3 bench
	$as "$bin/pgbench" -h "$sock" -T "$seconds" -c 4 -j 2 bench >"$sock/first" 2>&1 &
	local load=$!
	sleep $((seconds / 2))
	kill -QUIT "$(head -1 "$data/postmaster.pid")"
	wait $load || :
	local i
	for i in $(seq 100); do
		[ -e "$data/postmaster.pid" ] && kill -0 "$(head -1 "$data/postmaster.pid")" || break
		sleep 0.1
	done
	$start
	$as "$bin/pgbench" -h "$sock" -n -T $((seconds / 3 + 1)) -c 4 -j 2 bench
	# Every transaction adds the same amount to one row of each of the three tables.
	same "$($as "$bin/psql" -h "$sock" -At bench -c '
		SELECT (SELECT sum(abalance) FROM pgbench_accounts) =
			(SELECT sum(bbalance) FROM pgbench_branches),
		(SELECT sum(tbalance) FROM pgbench_tellers) =
			(SELECT sum(delta) FROM pgbench_history)')" "t|t"
	$as "$bin/psql" -h "$sock" -q bench -c 'CREATE EXTENSION amcheck' -c "
		SELECT bt_index_check(indexrelid, true) FROM pg_index
		JOIN pg_class ON pg_class.oid = indexrelid WHERE relname LIKE 'pgbench%'" >/dev/null
	$as "$bin/pg_ctl" -w -D "$data" -m fast stop
	$as "$bin/pg_checksums" -D "$data" --enable >/dev/null
	$as "$bin/pg_checksums" -D "$data" --check
}

# A Debian is bootstrapped into the subvolume, and dpkg works inside.
debootstrap_and_dpkg_work() {
	need debootstrap
	local mirror root=$at/debian
	mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
		grep -oE 'https?://[^ ]+/debian/?( |$)' | head -1)
	[ -n "$mirror" ] || {
		echo "apt's sources name no Debian mirror"
		exit 77
	}
	debootstrap --variant=minbase bookworm "$root" "${mirror%% *}" >debootstrap.log 2>&1 || {
		tail -5 debootstrap.log
		grep -qE "(Failed getting release|Couldn't download)" debootstrap.log && {
			echo "no Debian mirror can be reached"
			exit 77
		}
		return 1
	}
	[ -u "$root/usr/bin/passwd" ]
	same "$(chroot "$root" dpkg --audit)" ""
	same "$(chroot "$root" dpkg --verify | grep -v ' c /etc/' || :)" ""
	chroot "$root" dpkg --purge --force-remove-essential tzdata >/dev/null
	cp /etc/resolv.conf "$root/etc/"
	cp /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/" 2>/dev/null || :
	rm -f "$root/etc/apt/apt.conf.d/"*{docker,packagekit,appstream}*
	chroot "$root" apt-get -q -y update
	chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get -q -y install hello
	same "$(chroot "$root" hello)" "Hello, world!"
	same "$(chroot "$root" dpkg --verify hello)" ""
	rm -rf --one-file-system "$root"
}

# Written data is verified by its own checksums, through every kind of I/O.
fio_verifies() {
	need fio
	local engine
	mkdir "$at/fio"
	for engine in "psync --direct=1" "libaio --direct=1 --iodepth=16" "psync --direct=0" \
		"mmap" "psync --direct=0 --fdatasync=16"; do
		echo "$engine"
		# shellcheck disable=SC2086
		fio --name=verify --directory="$at/fio" --size=48m --bsrange=4k-128k --rw=randwrite \
			--ioengine=$engine --verify=crc32c --verify_fatal=1 --do_verify=1 \
			--randseed="$RANDOM" --unlink=1 --minimal
	done
}

dbench_runs() {
	need dbench
	mkdir "$at/dbench"
	dbench -D "$at/dbench" -t "$seconds" 4 | tail -3
	rm -rf "$at/dbench"
}

# All of stress-ng's filesystem class, one after another, with its own verification. Left out is what works on other
# filesystems than the one it is given: bind-mount, binderfs, procfs.
stress_ng_runs() {
	need stress-ng
	mkdir "$at/stress"
	local stressor out status bad=
	declare -A size=([copy-file]="--copy-file-bytes 128m" [hdd]="--hdd-bytes 64m"
		[fallocate]="--fallocate-bytes 64m" [iomix]="--iomix-bytes 64m"
		[sync-file]="--sync-file-bytes 32m")
	for stressor in access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup \
		eventfd fallocate fanotify fcntl fiemap file-ioctl filename flock fpunch fsize \
		fstat getdent handle hdd inode-flags inotify io iomix ioprio lease link locka lockf lockofd mknod open \
		rename seek symlink sync-file touch utime verity xattr; do
		status=0
		# shellcheck disable=SC2086
		out=$(stress-ng --temp-path "$at/stress" --"$stressor" 2 --timeout 1s --verify \
			${size[$stressor]-} 2>&1) || status=$?
		case $status in
		0 | 4) ;;	# 4: not implemented by the machine
		*) bad+=" $stressor"; echo "$stressor ($status):"; echo "$out" | tail -8 ;;
		esac
	done
	rm -rf "$at/stress"
	same "$bad" ""
}

all="git_keeps_a_repository sqlite_keeps_its_transactions postgres_survives_its_own_crash
	debootstrap_and_dpkg_work fio_verifies dbench_runs stress_ng_runs"
for t in ${PROGRAMS_ONLY:-$all}; do
	run_test $t
	fsck_between work suid,dev
done
check_pool
finish
