/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meta/gather.h"
#include "meta/snapshot.h"
#include "meta/subvol_internal.h"
#include "meta/sweep.h"
#include "meta/tenant.h"
#include "tests/unit/cut_check.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define BLOCK NVFS_BLOCK_SIZE
#define ROOT INO_ROOT

static struct meta_fixture fx;
static uint8_t data[2 * MIB], back[2 * MIB];

static void setup(void)
{
	fixture_make(&fx, 512 * MIB, 64 * MIB, NULL);
}

static void teardown(void)
{
	fixture_end(&fx);
}

/* ---- Calls ---- */

static uint64_t make(const char *name, size_t bytes, int seed)
{
	struct inode_attr attr;

	ck_assert_int_eq(fx_create(&fx, ROOT, name, S_IFREG | 0644, &attr), 0);
	for (size_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)(i / BLOCK * 7 + i + (size_t)seed);
	if (bytes)
		ck_assert_int_eq(fx_write(&fx, attr.ino, 0, data, bytes, 0), (int64_t)bytes);
	return attr.ino;
}

static void overwrite(const char *name, uint64_t offset, size_t bytes, int seed, int expected)
{
	struct inode_attr attr;

	ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &attr), 0);
	for (size_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)((offset + i) / BLOCK * 7 + offset + i + (size_t)seed);
	ck_assert_int_eq(fx_write(&fx, attr.ino, offset, data, bytes, 0), expected ? expected : (int64_t)bytes);
}

static void holds(const char *name, uint64_t offset, size_t bytes, int seed)
{
	struct inode_attr attr;

	ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &attr), 0);
	ck_assert_int_eq(fx_read(&fx, attr.ino, offset, back, bytes, 0), (int64_t)bytes);
	for (size_t i = 0; i < bytes; i++)
		ck_assert_msg(back[i] == (uint8_t)((offset + i) / BLOCK * 7 + offset + i + (size_t)seed), "%s at %zu", name,
			      offset + i);
}

static uint64_t lookup(const char *name)
{
	struct inode_attr attr;

	ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &attr), 0);
	return attr.ino;
}

static void is_missing(const char *name)
{
	struct inode_attr attr;

	ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &attr), -ENOENT);
}

static int64_t tenant_use(void)
{
	return atomic_load(&tenant_find(fx.pool, NVFS_TENANT_DEFAULT)->used_blocks);
}

static uint64_t used(void)
{
	struct subvol_stats stats;

	subvol_stats(fx.sv, &stats);
	return stats.used_blocks;
}

static void settled(void)
{
	for (unsigned i = 0; i < 6000; i++) {
		pool_commit_wait(fx.pool);
		while (fx.sv && reactor_run_once(fx.reactor, 0) > 0)
			;
		if (!subvol_sweeps_left(fx.pool))
			return;
		usleep(10000);
	}
	ck_abort_msg("the sweep does not end");
}

/* ---- Tests ---- */

static void snapshot_of(bool open)
{
	make("f", 20 * BLOCK + 100, 1);
	make("small", 300, 2);
	make("gone", 4 * BLOCK, 3);
	if (!open)
		fx_use(&fx, NULL);
	ck_assert_msg(fx_snapshot(&fx, "sv", "s1") == 0, "%s", fx.why);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s1"), -EEXIST);
	if (!open)
		fx_use(&fx, "sv");
	overwrite("f", 5 * BLOCK, 2 * BLOCK, 50, 0);
	overwrite("small", 10, 20, 60, 0);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "gone"), 0);
	make("new", BLOCK, 9);
	holds("f", 0, 5 * BLOCK, 1);
	holds("f", 5 * BLOCK, 2 * BLOCK, 50);
	holds("f", 7 * BLOCK, 13 * BLOCK + 100, 1);
	holds("small", 0, 10, 2);
	holds("small", 10, 20, 60);
	is_missing("gone");
	fx_use(&fx, "sv@s1");
	holds("f", 0, 20 * BLOCK + 100, 1);
	holds("small", 0, 300, 2);
	holds("gone", 0, 4 * BLOCK, 3);
	is_missing("new");
	overwrite("f", 0, BLOCK, 1, -EROFS);
	fx_use(&fx, "sv");
	holds("f", 5 * BLOCK, 2 * BLOCK, 50);
	is_missing("gone");
}

START_TEST(a_closed_subvolume)
{
	snapshot_of(false);
}
END_TEST

START_TEST(an_open_subvolume)
{
	snapshot_of(true);
}
END_TEST

/* A small file that a snapshot holds is changed, and removed before that was written. */
START_TEST(removed_before_it_is_copied)
{
	int64_t start;

	make("small", 300, 2);
	make("other", 300, 2);
	make("stays", 0, 0);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "other"), 0);
	start = tenant_use();
	overwrite("small", 10, 20, 60, 0);
	ck_assert_int_eq(tenant_use() - start, 1);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "small"), 0);
	fixture_settle(&fx, 1000);
	ck_assert_int_eq(tenant_use() - start, 0);
	fx_use(&fx, "sv");
	ck_assert_int_eq(tenant_use() - start, 0);
}
END_TEST

/*
 * What is left of an inode in a node without a name stays hidden for who removed it, although its `I` there went because all have versions of
 * their own.
 */
START_TEST(removed_stays_removed)
{
	struct inode_attr attr = { .mode = 0600 };

	make("f", 4 * BLOCK, 1);
	make("g", BLOCK, 1);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	ck_assert_int_eq(fx_clone(&fx, "sv", "s", "k", false), 0);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "f"), 0);
	fx_use(&fx, "k");
	ck_assert_int_eq(fx_setattr(&fx, lookup("f"), ATTR_MODE, &attr, &attr), 0);
	fx_use(&fx, NULL);
	ck_assert_int_eq(fx_drop(&fx, "sv", "s"), 0);
	settled();
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "t"), 0);
	ck_assert_int_eq(fx_drop(&fx, "sv", "t"), 0);
	settled();
	fixture_close(&fx);
	fixture_check(fx.dev);
	ck_assert_int_eq(fixture_open(&fx), 0);
	fx_use(&fx, "k");
	holds("f", 0, 4 * BLOCK, 1);
	fx_use(&fx, "sv");
	is_missing("f");
}
END_TEST

/* The second snapshot's record has become the owner of what it inherited, after the open subvolume had read it. */
START_TEST(flags_go_before_it_moves)
{
	int64_t start = tenant_use();

	make("f", 20 * BLOCK, 1);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s1"), 0);
	overwrite("f", 0, BLOCK, 9, 0);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s2"), 0);
	holds("f", BLOCK, 19 * BLOCK, 1);
	ck_assert_int_eq(fx_drop(&fx, "sv", "s1"), 0);
	settled();
	ck_assert_int_eq(fx_drop(&fx, "sv", "s2"), 0);
	settled();
	overwrite("f", 5 * BLOCK, 2 * BLOCK, 50, 0);
	ck_assert_int_eq(tenant_use() - start, 21);
	fx_use(&fx, "sv");
	ck_assert_int_eq(tenant_use() - start, 21);
}
END_TEST

/* The same when it is removed after that. */
START_TEST(removed_later)
{
	struct inode_attr attr = { .mode = 0600 };

	make("f", 4 * BLOCK, 1);
	make("g", BLOCK, 1);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	ck_assert_int_eq(fx_clone(&fx, "sv", "s", "k", false), 0);
	ck_assert_int_eq(fx_setattr(&fx, lookup("f"), ATTR_MODE, &attr, &attr), 0);
	fx_use(&fx, "k");
	ck_assert_int_eq(fx_setattr(&fx, lookup("f"), ATTR_MODE, &attr, &attr), 0);
	fx_use(&fx, NULL);
	ck_assert_int_eq(fx_drop(&fx, "sv", "s"), 0);
	settled();
	fx_use(&fx, "sv");
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "f"), 0);
	fx_use(&fx, "k");
	holds("f", 0, 4 * BLOCK, 1);
}
END_TEST

/* Two snapshots go, oldest first, while the subvolume is open: what it has in memory of the first one's records is its own in the end. */
START_TEST(records_move_twice)
{
	int64_t start = tenant_use();

	make("f", 20 * BLOCK, 1);
	make("small", 300, 2);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s1"), 0);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s2"), 0);
	holds("f", 0, 20 * BLOCK, 1);
	holds("small", 0, 300, 2);
	ck_assert_int_eq(fx_drop(&fx, "sv", "s1"), 0);
	settled();
	ck_assert_int_eq(fx_drop(&fx, "sv", "s2"), 0);
	settled();
	ck_assert_int_eq(tenant_use() - start, 22);
	overwrite("small", 10, 20, 60, 0);
	overwrite("f", 5 * BLOCK, 2 * BLOCK, 50, 0);
	ck_assert_int_eq(fx_link(&fx, lookup("f"), ROOT, "g"), 0);
	ck_assert_int_eq(tenant_use() - start, 22);
	fx_use(&fx, "sv");
	ck_assert_int_eq(tenant_use() - start, 22);
}
END_TEST

/* What a snapshot shares is charged once, whoever writes; the subvolume never has more than it shows. */
START_TEST(charges)
{
	int64_t start = tenant_use();
	uint64_t before;

	make("f", 100 * BLOCK, 1);
	make("i", 100, 1);
	before = used();
	ck_assert_int_eq(tenant_use() - start, 102); /* the directory, too */
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	ck_assert_uint_eq(used(), before);
	ck_assert_int_eq(tenant_use() - start, 102);
	overwrite("f", 10 * BLOCK + 5, 10 * BLOCK, 2, 0); /* eleven blocks */
	ck_assert_uint_eq(used(), before);
	ck_assert_int_eq(tenant_use() - start, 113);
	overwrite("f", 10 * BLOCK, 10 * BLOCK, 2, 0);
	ck_assert_int_eq(tenant_use() - start, 113);
	overwrite("i", 0, 50, 2, 0);
	ck_assert_uint_eq(used(), before);
	ck_assert_int_eq(tenant_use() - start, 114);
	fx_use(&fx, "sv");
	ck_assert_uint_eq(used(), before);
	ck_assert_int_eq(tenant_use() - start, 114);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "f"), 0);
	fx_use(&fx, "sv");
	ck_assert_uint_eq(used(), before - 100);
	/* The directory's record is the live node's now, and what it wrote of f is gone. */
	ck_assert_int_eq(tenant_use() - start, 104);
	fixture_close(&fx);
	ck_assert_int_eq(pool_open(&fx.dev, 1, &fx.options, &fx.pool), 0);
	ck_assert_int_eq(fixture_open(&fx), 0);
	ck_assert_int_eq(tenant_use() - start, 104);
}
END_TEST

START_TEST(clones_are_volumes)
{
	make("f", 64 * BLOCK, 1);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	overwrite("f", 0, BLOCK, 2, 0);
	ck_assert_msg(fx_clone(&fx, "sv", "s", "c1", false) == 0, "%s", fx.why);
	ck_assert_msg(fx_clone(&fx, "sv", NULL, "c2", false) == 0, "%s", fx.why);
	ck_assert_int_eq(fx_clone(&fx, "sv", NULL, "c2", false), -EEXIST);
	ck_assert_int_eq(fx_clone(&fx, "sv", "t", "c3", false), -ENOENT);
	overwrite("f", BLOCK, BLOCK, 3, 0);
	make("later", BLOCK, 3);
	fx_use(&fx, "c1");
	holds("f", 0, 64 * BLOCK, 1);
	overwrite("f", 2 * BLOCK, BLOCK, 4, 0);
	make("of-c1", BLOCK, 4);
	fx_use(&fx, "c2");
	holds("f", 0, BLOCK, 2);
	holds("f", BLOCK, 63 * BLOCK, 1);
	is_missing("later");
	is_missing("of-c1");
	make("of-c2", BLOCK, 5);
	ck_assert_int_eq(fx_snapshot(&fx, "c2", "deep"), 0);
	ck_assert_int_eq(fx_clone(&fx, "c2", "deep", "c3", false), 0);
	fx_use(&fx, "c3");
	holds("f", BLOCK, 63 * BLOCK, 1);
	holds("of-c2", 0, BLOCK, 5);
	fx_use(&fx, "sv");
	holds("f", 0, BLOCK, 2);
	holds("f", BLOCK, BLOCK, 3);
	holds("f", 2 * BLOCK, 62 * BLOCK, 1);
	is_missing("of-c1");
}
END_TEST

START_TEST(rollback_goes_back)
{
	make("f", 10 * BLOCK, 1);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "a"), 0);
	overwrite("f", 0, BLOCK, 2, 0);
	make("g", BLOCK, 2);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "b"), 0);
	overwrite("f", 0, BLOCK, 3, 0);
	ck_assert_int_eq(fx_rollback(&fx, "sv", "a"), -EBUSY);
	fx_use(&fx, NULL);
	ck_assert_msg(fx_rollback(&fx, "sv", "a") == 0, "%s", fx.why);
	fx_use(&fx, "sv");
	holds("f", 0, 10 * BLOCK, 1);
	is_missing("g");
	fx_use(&fx, "sv@b");
	holds("f", 0, BLOCK, 2);
	holds("g", 0, BLOCK, 2);
	fx_use(&fx, NULL);
	ck_assert_int_eq(fx_rollback(&fx, "sv", "b"), 0);
	ck_assert_int_eq(fx_rollback(&fx, "sv", "b"), 0);
	fx_use(&fx, "sv");
	holds("f", 0, BLOCK, 2);
	settled();
}
END_TEST

static int count_one(const struct snapshot_info *info, void *arg)
{
	(void)info;
	++*(int *)arg;
	return 0;
}

START_TEST(groups_are_whole)
{
	const struct subvol_options opts = { .size_bytes = 16 * MIB };
	const struct snapshot_name both[] = { { "sv", "g" }, { "other", "g" } };
	const struct snapshot_name twice[] = { { "sv", "h" }, { "sv", "i" } };
	const struct snapshot_name missing[] = { { "sv", "h" }, { "none", "h" } };
	struct snapshot_info a, b;
	int n = 0;

	ck_assert_int_eq(subvol_create(fx.pool, "other", &opts, fx.why, sizeof(fx.why)), 0);
	make("f", BLOCK, 1);
	ck_assert_int_eq(snapshot_create(fx.pool, twice, 2, fx.why, sizeof(fx.why)), -EINVAL);
	ck_assert_int_eq(snapshot_create(fx.pool, missing, 2, fx.why, sizeof(fx.why)), -ENOENT);
	ck_assert_int_eq(snapshot_each(fx.pool, NULL, count_one, &n), 0);
	ck_assert_int_eq(n, 0);
	ck_assert_int_eq(snapshot_create(fx.pool, both, 2, fx.why, sizeof(fx.why)), 0);
	ck_assert_int_eq(snapshot_info(fx.pool, &both[0], &a), 0);
	ck_assert_int_eq(snapshot_info(fx.pool, &both[1], &b), 0);
	ck_assert_uint_ne(a.group, 0);
	ck_assert_uint_eq(a.group, b.group);
	ck_assert_int_eq(a.created_ns, b.created_ns);
	ck_assert_int_eq(snapshot_each(fx.pool, "sv", count_one, &n), 0);
	ck_assert_int_eq(n, 1);
}
END_TEST

/* A snapshot outlives its subvolume, whose name is free at once. */
START_TEST(snapshots_outlive)
{
	const struct subvol_options opts = { .size_bytes = 16 * MIB };
	struct snapshot_name n = { "sv", "s" };
	struct snapshot_info info;

	make("f", 64 * BLOCK, 1);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	fx_use(&fx, NULL);
	ck_assert_int_eq(subvol_delete(fx.pool, "sv", fx.why, sizeof(fx.why)), 0);
	ck_assert_int_eq(subvol_create(fx.pool, "sv", &opts, fx.why, sizeof(fx.why)), 0);
	settled();
	ck_assert_int_eq(snapshot_info(fx.pool, &n, &info), 0);
	ck_assert(info.deleted);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), -EEXIST);
	ck_assert_int_eq(fx_rollback(&fx, "sv", "s"), -ENOENT);
	ck_assert_int_eq(tenant_use(), 65);
	ck_assert_int_eq(fx_clone(&fx, "sv", "s", "c", false), 0);
	fx_use(&fx, "sv@s");
	ck_assert_int_eq(fx_drop(&fx, "sv", "s"), -EBUSY);
	holds("f", 0, 64 * BLOCK, 1);
	fx_use(&fx, "c");
	holds("f", 0, 64 * BLOCK, 1);
	fx_use(&fx, "sv");
	is_missing("f");
}
END_TEST

/* Claims stay whole: what a snapshot of a reserved subvolume holds has to fit beside them. */
START_TEST(room_for_reserved)
{
	const struct subvol_options big = { .size_bytes = 200 * MIB };
	struct pool_stats stats;
	unsigned made = 0;
	char name[16];
	int r = 0;

	make("f", 256 * BLOCK, 1);
	pool_stats(fx.pool, &stats);
	r = subvol_create(fx.pool, "big", &big, fx.why, sizeof(fx.why));
	ck_assert_msg(!r, "%s", fx.why);
	for (unsigned i = 0; !r; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		r = fx_snapshot(&fx, "sv", name);
		made += !r;
		if (!r)
			for (unsigned b = 0; b < 256; b += 16)
				overwrite("f", b * BLOCK, 16 * BLOCK, (int)i, 0);
		ck_assert_uint_lt(i, 500);
	}
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_ptr_nonnull(strstr(fx.why, "beside its claim"));
	ck_assert_uint_gt(made, 10);
	/* All that is promised can be had. */
	make("fill", MIB, 1);
	holds("f", 0, BLOCK, (int)made - 1);
}
END_TEST

/* Nothing that was accepted before is missing, and nothing later is there. */
START_TEST(a_cut_leaves_all_or_nothing)
{
	make("f", 8 * BLOCK, 1);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	overwrite("f", 0, BLOCK, 2, 0);
	fixture_power_cut(&fx, 77);
	holds("f", BLOCK, 7 * BLOCK, 1);
	fx_use(&fx, "sv@s");
	holds("f", 0, 8 * BLOCK, 1);
	fx_use(&fx, "sv");
}
END_TEST

/* What two clones inherited from a deleted volume is free when both wrote over it. */
START_TEST(resting_nodes_are_looked_at)
{
	struct pool_stats before, st;

	make("f", 64 * BLOCK, 1);
	ck_assert_int_eq(fx_clone(&fx, "sv", NULL, "c1", false), 0);
	fx_use(&fx, "c1");
	pool_commit_wait(fx.pool);
	pool_stats(fx.pool, &before);
	overwrite("f", 0, 64 * BLOCK, 2, 0);
	fx_use(&fx, "sv");
	overwrite("f", 0, 64 * BLOCK, 3, 0);
	fx_use(&fx, "c1");
	sweeper_look_again(fx.pool->sweeper);
	for (unsigned i = 0; i < 3000; i++) {
		pool_commit_wait(fx.pool);
		reactor_run_once(fx.reactor, 200000);
		pool_stats(fx.pool, &st);
		if (st.free_blocks == before.free_blocks - 64)
			break;
	}
	ck_assert_uint_eq(st.free_blocks, before.free_blocks - 64);
	holds("f", 0, 64 * BLOCK, 2);
	fx_use(&fx, "sv");
	holds("f", 0, 64 * BLOCK, 3);
}
END_TEST

static unsigned count_keys(void)
{
	cleanup_db_iter struct db_iter *iter = db_iter_new(fx.pool->db, DB_NS, NULL, 0, NULL, 0, 0);
	unsigned n = 0;

	for (db_iter_first(iter); db_iter_valid(iter); db_iter_next(iter))
		n++;
	ck_assert_int_eq(db_iter_error(iter), 0);
	return n;
}

static int64_t settle(struct op *op, void *arg)
{
	(void)arg;
	return gather_settle(op);
}

/* A name that no snapshot has leaves nothing behind, in an old directory either. */
START_TEST(whiteouts_hide_something)
{
	char name[16];
	unsigned before;

	make("old", BLOCK, 1);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	for (unsigned i = 0; i < 50; i++) {
		sprintf(name, "t%u", i);
		make(name, i % 2 ? BLOCK : 0, 1);
		ck_assert_int_eq(fx_setxattr(&fx, ROOT, "user.x", name, 3, 0), 0);
		ck_assert_int_eq(fx_removexattr(&fx, ROOT, "user.x"), 0);
		ck_assert_int_eq(fx_unlink(&fx, ROOT, name), 0);
		fixture_settle(&fx, 5);
		ck_assert_int_eq(run_op(&fx, settle, NULL), 0);
		if (!i)
			before = count_keys();
	}
	ck_assert_uint_eq(count_keys(), before);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "old"), 0);
	is_missing("old");
	fx_use(&fx, "sv");
	is_missing("old");
}
END_TEST

/* Whether the reaper has written its first step of the inode. */
static bool is_reaping(uint64_t ino)
{
	cleanup_db_value struct db_value value = { 0 };
	struct orphan_rec rec;
	uint8_t key[KEY_MAX];
	const size_t len = key_orphan(key, fx.sv->tree, ino, fx.sv->node);

	return !db_get(fx.pool->db, DB_NS, key, len, 0, &value) && !orphan_rec_decode(value.data, value.len, &rec) &&
	       rec.state == ORPHAN_REAPING;
}

static void write_sparse(uint64_t ino, unsigned chunks)
{
	for (unsigned i = 0; i < chunks; i++)
		ck_assert_int_eq(fx_write(&fx, ino, i * (uint64_t)CHUNK_BYTES, data, BLOCK, 0), BLOCK);
}

/*
 * The power goes when a large file that was removed is half reaped. Then its snapshot is deleted: the sweep gives the subvolume what
 * the reaper had taken off already.
 */
START_TEST(half_reaped_gets_records_back)
{
	const uint64_t ino = make("f", 0, 0);
	struct device *after;

	write_sparse(ino, 2200);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	write_sparse(ino, 2200);
	ck_assert_int_eq(fx_fsync(&fx, ino), 0);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "f"), 0);
	while (!is_reaping(ino))
		reactor_run_once(fx.reactor, 1000000);
	ck_assert_int_eq(pool_commit_wait(fx.pool), 0);
	ck_assert_int_eq(sim_snapshot_cut(fx.dev, 1, &after), 0);
	fixture_close(&fx);
	device_detach(fx.reactor, fx.dev);
	device_close(fx.dev);
	fx.dev = after;
	ck_assert_int_eq(pool_open(&fx.dev, 1, &fx.options, &fx.pool), 0);
	ck_assert_int_eq(fx_drop(&fx, "sv", "s"), 0);
	settled();
	fx_use(&fx, "sv");
	fixture_settle(&fx, 5000);
	ck_assert_uint_eq(used(), 0);
	ck_assert_int_eq(tenant_use(), 0);
}
END_TEST

#define STATES 64u

/*
 * Blocks that fallocate promised and a snapshot has too are not what goes with a deleted subvolume: its counters are right at each moment of the
 * sweep.
 */
START_TEST(promises_of_others_stay)
{
	const uint64_t ino = make("f", 0, 0);
	struct device *state[STATES];
	char why[256] = "";
	unsigned n = 0;

	for (unsigned i = 0; i < 4000; i++)
		ck_assert_int_eq(fx_fallocate(&fx, ino, 0, i * (uint64_t)CHUNK_BYTES + BLOCK, BLOCK), 0);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	write_sparse(ino, 4000);
	fx_use(&fx, "sv@s"); /* while something is open the sweep has pauses */
	ck_assert_msg(!subvol_delete(fx.pool, "sv", why, sizeof(why)), "%s", why);
	for (; subvol_sweeps_left(fx.pool) && n < STATES; n++) {
		ck_assert_int_eq(pool_commit_wait(fx.pool), 0);
		ck_assert_int_eq(sim_snapshot_current(fx.dev, &state[n]), 0);
		usleep(2000);
	}
	for (unsigned i = 0; i < n; i++) {
		cut_check(state[i], "state %u", i);
		device_close(state[i]);
	}
	settled();
}
END_TEST

/* What is read below .snapshots is not taken apart, whoever came first: its views go, then the snapshot. */
START_TEST(a_view_keeps_its_snapshot)
{
	struct subvol *view;
	uint16_t number;

	make("f", 4 * BLOCK, 1);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "other"), 0);
	ck_assert_int_eq(snapshot_open_view(fx.sv, "s", &number, &view), 0);
	ck_assert_int_eq(fx_drop(&fx, "sv", "other"), 0);
	settled();
	ck_assert_int_eq(fx_drop(&fx, "sv", "s"), -EBUSY);
	ck_assert_ptr_nonnull(strstr(fx.why, "try again"));
	ck_assert_int_eq(subvol_close(view), 0);
	ck_assert_int_eq(fx_drop(&fx, "sv", "s"), 0);
	settled();
}
END_TEST

/* ---- Room for metadata ---- */

/* Files with random xattrs: 0, or -ENOSPC of changes of names. */
static int fill_metadata(unsigned files)
{
	static unsigned made;
	struct inode_attr attr;
	char name[32];
	int r = 0;

	for (unsigned i = 0; i < files && !r; i++) {
		for (size_t b = 0; b < 16000; b++)
			data[b] = (uint8_t)random();
		snprintf(name, sizeof(name), "fill%u", made++);
		r = fx_create(&fx, ROOT, name, S_IFREG, &attr);
		if (!r)
			r = fx_setxattr(&fx, attr.ino, "user.fill", data, 16000, 0);
	}
	return r;
}

/* One block of a file, put at once. */
static int64_t write_block(uint64_t ino, uint64_t block)
{
	const int64_t r = fx_write(&fx, ino, block * BLOCK, data, BLOCK, 0);

	ck_assert_int_eq(fx_fsync(&fx, ino), 0);
	return r;
}

/*
 * What a snapshot holds costs a map for each chunk that is written, and may be far more than the share that mkfs left. Long before RocksDB
 * cannot go on there are no more snapshots, then no copies, then nothing new; what was accepted is put, and deleting works.
 */
START_TEST(metadata_runs_short)
{
	const uint64_t held = make("held", 2 * MIB, 1), own = make("own", BLOCK, 2);
	unsigned snapshots = 0, copied = 0, grown = 1;
	char name[32];
	int64_t r = 0;

	ck_assert_int_eq(fx_snapshot(&fx, "sv", "first"), 0);
	ck_assert_int_eq(write_block(own, 0), BLOCK);
	while (!r) {
		ck_assert_int_eq(fill_metadata(16), 0);
		ck_assert_int_eq(write_block(own, 0), BLOCK);
		snprintf(name, sizeof(name), "s%u", snapshots++);
		r = fx_snapshot(&fx, "sv", name);
	}
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_ptr_nonnull(strstr(fx.why, "room for metadata"));
	ck_assert_int_eq(fx_clone(&fx, "sv", "first", "k", true), -ENOSPC);
	while ((r = write_block(held, copied)) == BLOCK && ++copied < 2 * MIB / BLOCK)
		ck_assert_int_eq(fill_metadata(4), 0);
	ck_assert_int_eq(r, -ENOSPC);
	while ((r = write_block(own, grown)) == BLOCK && ++grown < 10000)
		fill_metadata(4);
	ck_assert_int_eq(r, -ENOSPC);
	fx_use(&fx, NULL);
	ck_assert_int_eq(fx_drop(&fx, "sv", "first"), 0);
	while (snapshots-- > 1) {
		snprintf(name, sizeof(name), "s%u", snapshots - 1);
		ck_assert_int_eq(fx_drop(&fx, "sv", name), 0);
	}
	settled();
	fixture_close(&fx);
	ck_assert_int_eq(fixture_open(&fx), 0);
	for (unsigned i = 0; i < 2000 && write_block(own, grown) != BLOCK; i++)
		usleep(50000);
	ck_assert_int_eq(write_block(own, grown), BLOCK);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		a_closed_subvolume, an_open_subvolume, removed_before_it_is_copied, removed_stays_removed, removed_later, flags_go_before_it_moves,
		charges, records_move_twice,
		clones_are_volumes, rollback_goes_back, groups_are_whole, snapshots_outlive, room_for_reserved,
		whiteouts_hide_something, resting_nodes_are_looked_at, a_cut_leaves_all_or_nothing, half_reaped_gets_records_back,
		promises_of_others_stay,
		a_view_keeps_its_snapshot, metadata_runs_short,
	};
	Suite *suite = suite_create("snapshot");
	TCase *tcase = tcase_create("snapshot");
	int failed;
	SRunner *runner;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 120);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
