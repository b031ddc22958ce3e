#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# PostgreSQL of three tenants on one pool. One tenant goes wild; the others lose nothing, and neither does it. Snapshots of running
# databases are cloned, started, checked and rolled back to. blue has its write-ahead log on a second subvolume, and calls no fsync: what
# it acknowledged is in a snapshot only when dirty data is, of both subvolumes at one moment.
# shellcheck source=tests/mount/lib.sh
. "$(dirname "$0")/lib.sh"
TEST_TIMEOUT=300
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1)
[ -x "$bin/initdb" ] || skip_suite "PostgreSQL is not installed"
command -v python3 >/dev/null || skip_suite "python3 is not installed"
mib=$((1 << 20))
declare -A most=([red]=$((700 * mib)) [blue]=$((700 * mib)) [wild]=$((160 * mib)))

make_pool 4G
chmod 755 "$WORK"
for name in red blue wild; do
	nvfs tenant create "$POOL/$name" --used ${most[$name]} --inodes 20000 >/dev/null || die "no tenant $name"
done
for name in red blue bluewal wild; do
	make_subvolume $name --tenant ${name%wal} --size 400M --thin
	mount_subvolume $name
done
# shellcheck disable=SC2154	# mount_subvolume sets them
log_dir=$MNT_bluewal wild_dir=$MNT_wild
# Its database and some hundred files have room.
nvfs tenant set "$POOL/wild" --inodes 2500 >/dev/null || die "no limit of inodes"

as() { (cd / && runuser -u postgres -- "$bin/$1" "${@:2}"); }
data_of() { echo "$WORK/mnt-$1/data"; }
sql() { as psql -h "$WORK/pg-$1" -XAtq -v ON_ERROR_STOP=1 bench "${@:2}"; }

start() {
	install -d -o postgres "$WORK/pg-$1"
	as pg_ctl -w -t 100 -D "$(data_of "$1")" -l "$WORK/pg-$1/log" -o "-k $WORK/pg-$1" start >/dev/null || {
		tail -20 "$WORK/pg-$1/log"
		return 1
	}
}
stop() { as pg_ctl -w -t 100 -D "$(data_of "$1")" -m "${2-fast}" stop >/dev/null; }

# A server stopped cleanly: each page of its files has its checksum.
stop_and_check_pages() {
	stop "$1"
	as pg_checksums --check -D "$(data_of "$1")" >pages
	grep -qE '^Bad checksums: +0$' pages || { cat pages; return 1; }
}

make_database() {
	local name=$1
	shift
	install -d -o postgres "$(data_of "$name")"
	as initdb -D "$(data_of "$name")" --no-locale -E UTF8 -A trust --data-checksums --wal-segsize=1 "$@" >/dev/null
	cat >>"$(data_of "$name")/postgresql.conf" <<-END
		listen_addresses = ''
		unix_socket_directories = '$WORK/pg-$name'
		shared_buffers = 16MB
		max_connections = 30
		min_wal_size = 2MB
		max_wal_size = 8MB
		${config-}
	END
	start "$name"
	as createdb -h "$WORK/pg-$name" bench
	as pgbench -h "$WORK/pg-$name" -q -i -s 2 bench 2>/dev/null
	sql "$name" -c 'CREATE EXTENSION amcheck' -c 'CREATE TABLE note (n int PRIMARY KEY, body text)' \
		-c 'ALTER TABLE note ALTER body SET STORAGE EXTERNAL'
	: >"$WORK/reported-$name"
}

# load NAME: transactions until there is a file `stop`, none of which may fail; how many were reported is in reported-NAME.
load() {
	local name=$1 out=$WORK/load-$1
	while [ ! -e stop ]; do
		batch "$name" >"$out" 2>&1 || { cat "$out"; return 1; }
		grep -q '^number of failed transactions: 0 (0.000%)$' "$out" || { cat "$out"; return 1; }
	done
}
batch() {
	local status=0
	as pgbench -h "$WORK/pg-$1" -n -c 4 -t 50 bench >"$WORK/batch-$1" 2>&1 || status=$?
	sed -n 's|^number of transactions actually processed: \([0-9]*\)/200$|\1|p' "$WORK/batch-$1" >>"$WORK/reported-$1"
	cat "$WORK/batch-$1"
	return $status
}
reported() { awk '{ n += $1 } END { print n + 0 }' "$WORK/reported-$1"; }
more_than() { [ "$(reported "$1")" -gt "$2" ]; }
history_of() { sql "$1" -c 'SELECT count(*) FROM pgbench_history'; }

# take_notes NAME [SIZE]: rows 1, 2, 3, ... one by one until there is a file `stop` or one is refused; each that was acknowledged is a line of
# noted-NAME.
take_notes() {
	local i
	: >"$WORK/noted-$1"
	for ((i = 1; ; i++)); do
		[ ! -e stop ] || break
		echo "INSERT INTO note VALUES ($i, repeat(md5('$i'), ${2-30})) RETURNING n;"
	done | sql "$1" >"$WORK/noted-$1"
}
noted() { wc -l <"$WORK/noted-$1"; }
noted_more_than() { [ "$(noted "$1")" -gt "$2" ]; }

# notes_are NAME LEAST MOST [SIZE]: rows without a gap, whole, all that were acknowledged and none that was not yet asked for.
notes_are() {
	local count
	count=$(sql "$1" -c "SELECT count(*) FROM note WHERE body = repeat(md5(n::text), ${4-30})")
	echo "$1: $count notes, $2 to $3 expected"
	[ "$count" -ge "$2" ]
	[ "$count" -le "$3" ]
	same "$(sql "$1" -c 'SELECT count(*), coalesce(max(n), 0) FROM note')" "$count|$count"
}

# Every transaction of pgbench adds one amount to a row of each of three tables and leaves it in the fourth; every index has each row.
is_sound() {
	same "$(sql "$1" -c 'SELECT count(DISTINCT s), count(s) FROM (
		SELECT sum(abalance) s FROM pgbench_accounts UNION ALL SELECT sum(tbalance) FROM pgbench_tellers UNION ALL
		SELECT sum(bbalance) FROM pgbench_branches UNION ALL SELECT sum(delta) FROM pgbench_history) x')" "1|4"
	as pg_amcheck -h "$WORK/pg-$1" --heapallindexed bench
	sql "$1" -c "SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class c ON c.oid = indrelid
		WHERE relname LIKE 'pgbench%' OR relname = 'note'" >/dev/null
}

# stat_of SUBVOLUME NAME
stat_of() { nvfs subvolume show "$POOL:$1" --json | grep -oE "\"$2\": *[0-9]+" | grep -oE '[0-9]+$'; }
used_of() { nvfs tenant show "$POOL/$1" --json | tr -d ' \n' | grep -oE '"use":\{"used_bytes":[0-9]+' | grep -oE '[0-9]+$'; }
inodes_of() { nvfs tenant show "$POOL/$1" --json | tr -d ' \n' | grep -oE '"use":\{[^}]*"inodes":[0-9]+' | grep -oE '[0-9]+$'; }

# Nobody has more than its limit, whenever one looks.
never_above() {
	local name now
	while [ ! -e stop ]; do
		for name in red blue wild; do
			now=$(used_of $name)
			[ "$now" -le "${most[$name]}" ] || { echo "$name uses $now bytes"; return 1; }
		done
		now=$(inodes_of wild)
		[ "$now" -le 2500 ] || { echo "wild has $now inodes"; return 1; }
	done
}

all_of() {
	local pid bad=0
	for pid; do
		wait "$pid" || { echo "$pid failed"; bad=1; }
	done
	return $bad
}

three_tenants_have_databases() {
	make_database red
	install -d -o postgres "$log_dir/wal"
	config='fsync = off' make_database blue --waldir="$log_dir/wal"
	make_database wild
	same "$(readlink "$(data_of blue)/pg_wal")" "$log_dir/wal"
	for name in red blue wild; do
		same "$(sql $name -c 'SHOW data_checksums')" on
	done
}

# Files until no inode is left; then the last of them go and come, over and over.
storm() {
	python3 -c '
import errno, os, sys
directory, stop, stormed = sys.argv[1:]
os.mkdir(directory)
made = kept = 0
while not os.path.exists(stop):
    try:
        while kept == 0 or made < kept + 200:
            os.close(os.open(f"{directory}/{made}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            made += 1
    except OSError as e:
        if e.errno != errno.EDQUOT:
            raise
        open(stormed, "w").write("refused")
    kept = kept or max(made - 200, 1)
    while made > kept:
        made -= 1
        os.unlink(f"{directory}/{made}")' "$wild_dir/storm" "$PWD/stop" "$PWD/stormed"
}

# A file that takes every block there is, and is then written over and over.
flood() {
	local file=$wild_dir/flood
	while [ ! -e stop ]; do
		LC_ALL=C dd if=/dev/zero of="$file" bs=64k oflag=append conv=notrunc status=none 2>err-flood && return 1
		grep -q 'Disk quota exceeded' err-flood || { cat err-flood; return 1; }
		: >flooded
		dd if=/dev/zero of="$file" bs=1M count=4 conv=notrunc,fsync status=none || return
	done
}

others_go_on_while_one_is_wild() {
	local name pids=() wild=() before
	rm -f stop flooded stormed
	for name in red blue; do
		batch $name
		load $name & pids+=($!)
	done
	never_above & pids+=($!)
	nvfs tenant set "$POOL/wild" --write-iops 4000 --write-bps 24M --read-iops 4000 >/dev/null
	storm & pids+=($!)
	# Its own database is refused something sooner or later, and may have to stop.
	(while batch wild; do :; done) >wild-batches 2>&1 & wild+=($!)
	(take_notes wild 1000 || :) >wild-notes 2>&1 & wild+=($!)
	in_time noted_more_than wild 20
	flood & pids+=($!)
	in_time test -e flooded
	in_time test -s stormed
	wait "${wild[@]}"
	# It has all that it may have and goes on; so do they.
	for name in red blue; do
		before=$(reported $name)
		in_time more_than $name $((before + 400))
	done
	touch stop
	all_of "${pids[@]}"
	grep -q 'Disk quota exceeded' "$WORK/pg-wild/log"
	[ "$(stat_of wild throttled_ops)" -gt 0 ]
	for name in red blue bluewal; do
		same "$(stat_of $name throttled_ops)" 0
	done
	for name in red blue; do
		same "$(history_of $name)" "$(reported $name)"
		is_sound $name
	done
}

a_full_one_recovers_all_it_acknowledged() {
	local last
	# Full, without its server: not a block more.
	stop wild immediate || :
	in_time test ! -e "$(data_of wild)/postmaster.pid"
	fails dd if=/dev/zero of="$wild_dir/more" bs=4096 count=$((most[wild] / 4096)) status=none
	same "$(used_of wild)" "${most[wild]}"
	nvfs tenant set "$POOL/wild" --used 400M --inodes 20000 --write-iops none --write-bps none --read-iops none >/dev/null
	start wild
	last=$(noted wild)
	notes_are wild "$last" $((last + 1)) 1000
	[ "$(history_of wild)" -ge "$(reported wild)" ]
	is_sound wild
	batch wild
	rm "$wild_dir/flood" "$wild_dir/more"
	rm -r "$wild_dir/storm"
	stop_and_check_pages wild
}

# busy NAME: makes it so until there is a file `stop`; $busy is what runs. Checkpoints change what recovery begins with.
busy() {
	load "$1" & busy=($!)
	sql "$1" -c 'TRUNCATE note'
	take_notes "$1" & busy+=($!)
	(while [ ! -e stop ]; do sql "$1" -c CHECKPOINT || exit; done) & busy+=($!)
	in_time noted_more_than "$1" 20
}

# copy NAME SNAPSHOT: the clone of a database, served as NAME-SNAPSHOT.
copy() {
	local new=$1-$2
	nvfs clone "$POOL:$1@$2" "$POOL:$new"
	mount_subvolume "$new"
	# That of the server that runs.
	rm "$(data_of "$new")/postmaster.pid"
	if [ "$1" = blue ]; then
		nvfs clone "$POOL:bluewal@$2" "$POOL:bluewal-$2"
		mount_subvolume "bluewal-$2"
		ln -sfn "$WORK/mnt-bluewal-$2/wal" "$(data_of "$new")/pg_wal"
	fi
	start "$new"
	grep -q 'database system was interrupted' "$WORK/pg-$new/log"
	fails grep -E 'PANIC|FATAL|invalid page' "$WORK/pg-$new/log"
}

drop_copy() {
	local volume
	for volume in "$1-$2" "${1}wal-$2"; do
		[ -d "$WORK/mnt-$volume" ] || continue
		umount.fuse.nvfs "$WORK/mnt-$volume"
		nvfs --yes subvolume delete "$POOL:$volume"
	done
}

snapshots_of_a_running_one_are_databases() {
	local name=$1 i before after done_before done_after there names
	rm -f stop
	busy "$name"
	for i in 1 2 3; do
		names=("$POOL:$name@s$i")
		[ "$name" != blue ] || names=(--group "$POOL:bluewal@s$i" "${names[@]}")
		in_time noted_more_than "$name" "$(noted "$name")"
		before[i]=$(noted "$name")
		done_before[i]=$(reported "$name")
		nvfs snapshot create "${names[@]}"
		after[i]=$(($(noted "$name") + 1))
		# Those that wait: one batch, at most.
		done_after[i]=$(($(reported "$name") + 200))
		in_time more_than "$name" "$(reported "$name")"
	done
	for i in 1 2 3; do
		copy "$name" s$i
		notes_are "$name-s$i" "${before[i]}" "${after[i]}"
		sql "$name-s$i" -c 'SELECT count(*) FROM note' >"$WORK/notes-$name-s$i"
		there=$(history_of "$name-s$i")
		echo "history: $there, ${done_before[i]} to ${done_after[i]} expected"
		[ "$there" -ge "${done_before[i]}" ]
		[ "$there" -le "${done_after[i]}" ]
		is_sound "$name-s$i"
		batch "$name-s$i"
		is_sound "$name-s$i"
		stop_and_check_pages "$name-s$i"
		drop_copy "$name" s$i
	done
	touch stop
	all_of "${busy[@]}"
	same "$(history_of "$name")" "$(reported "$name")"
	notes_are "$name" "$(noted "$name")" "$(noted "$name")"
	is_sound "$name"
}

tree_of() { (cd "$1" && find . -printf '%p %y %m %U:%G %n %s %T@\n' | sort && find . -type f -print0 | sort -z | xargs -0r sha256sum); }

# Whoever reads a snapshot sees the files that its clone begins with, however the database and the clone go on.
a_snapshot_stays_what_it_was() {
	mkdir -p see
	rm -f stop
	nvfs clone "$POOL:red@s2" "$POOL:red-look"
	mount_subvolume red-look
	tree_of "$WORK/mnt-red-look" >clone
	rm "$(data_of red-look)/postmaster.pid"
	start red-look
	batch red-look
	batch red
	mount.nvfs "$POOL:red@s2" see
	tree_of see | diff clone -
	grep -q ' \./data/postmaster.pid$' clone
	fails touch see/data/x 2>err
	grep -qi 'read-only' err
	umount.fuse.nvfs see
	stop_and_check_pages red-look
	drop_copy red look
}

# run_manual NUMBER NAME SNAPSHOT: that block of commands of the manual, for a database and the directories of this suite; mount(8) would
# look for our helpers elsewhere.
run_manual() {
	awk -v number="$1" '/^\.Sh/ { here = /BACKUP/ } here && /^\.Bd -literal/ { n++; inside = 1; next } /^\.Ed/ { inside = 0 }
		here && inside && n == number' "$NVFS_SRCDIR/docs/man/nvfs.8" | sed "s|\\\\-|-|g; s|tank:pg|$POOL:$2|g; s|@monday|@$3|g
		s|/srv/pg\\([ /]\\)|$WORK/mnt-$2\\1|g; s|/srv/pg\$|$WORK/mnt-$2|; s|/srv/|$WORK/srv/|g" >commands
	cat commands
	grep -q "nvfs snapshot .*$POOL:$2@$3" commands
	grep -q "pg_ctl .* start" commands
	PATH=$bin:$PATH PGHOST=$WORK/pg-$2 bash -ec "cd /
		mount() { mount.nvfs \"\$3\" \"\$4\"; }
		umount() { for dir; do umount.fuse.nvfs \"\$dir\"; done; }
		. '$PWD/commands'" </dev/null
}

the_manual_backs_up_a_running_one() {
	local name number=0
	for name in red blue; do
		number=$((number + 1))
		rm -f stop
		busy $name
		run_manual $number $name manual
		touch stop
		all_of "${busy[@]}"
		fails nvfs subvolume show "$POOL:$name-check"
	done
}

the_manual_rolls_back() {
	local before
	sql red -c 'CREATE TABLE later (n int)'
	run_manual 3 red s1
	same "$(sql red -c "SELECT to_regclass('later') IS NULL")" t
	before=$(cat notes-red-s1)
	notes_are red "$before" "$before"
	is_sound red
	batch red
	is_sound red
	stop_and_check_pages red
	stop_and_check_pages blue
}

# What a test that failed has left must not keep the pool from being checked.
end_servers() {
	local pid dir
	for pid in "$WORK"/mnt-*/data/postmaster.pid; do
		[ -e "$pid" ] && as pg_ctl -w -t 60 -D "$(dirname "$pid")" -m immediate stop
	done
	for dir in "$WORK"/mnt-*-*; do
		is_mounted "$dir" && unmount_dir "$dir"
	done
	is_mounted "$WORK/see" && unmount_dir "$WORK/see"
} >/dev/null 2>&1

run_test three_tenants_have_databases
run_test others_go_on_while_one_is_wild
run_test a_full_one_recovers_all_it_acknowledged
TEST_NAME=snapshots_of_a_running_one_are_databases run_test snapshots_of_a_running_one_are_databases red
TEST_NAME=group_snapshots_of_data_and_log_are_databases run_test snapshots_of_a_running_one_are_databases blue
run_test a_snapshot_stays_what_it_was
run_test the_manual_backs_up_a_running_one
run_test the_manual_rolls_back
end_servers
check_pool
finish
