/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gathered changes where it is narrow: RocksDB stalls, the pool fails, changes do not fit, the records have ancestors,
 * others take the room that a change gave back.
 */
#include "config.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meta/known.h"
#include "meta/shared.h"
#include "meta/subvol_internal.h"
#include "tests/unit/data_rig.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define ROOT INO_ROOT

/* ---- a RocksDB that stalls ---- */

static _Atomic int stalls;       /* how many of the writes that do not wait are refused */
static _Atomic unsigned written; /* batches that went in */

int __real_db_write(struct db *db, struct db_batch *batch, unsigned flags);
int __wrap_db_write(struct db *db, struct db_batch *batch, unsigned flags);

int __wrap_db_write(struct db *db, struct db_batch *batch, unsigned flags)
{
	if ((flags & DB_NO_SLOWDOWN) && stalls > 0) {
		stalls--;
		return -EAGAIN;
	}
	written++;
	return __real_db_write(db, batch, flags);
}

static const struct rig_options with_area = { .with_area = true };

static void make_names(struct rig *rig, unsigned from, unsigned to)
{
	char name[32];

	for (unsigned i = from; i < to; i++) {
		snprintf(name, sizeof(name), "file %u", i);
		ck_assert_uint_ne(rig_create(rig, name), 0);
	}
}

static void check_names(struct rig *rig, unsigned from, unsigned to)
{
	char name[32];

	for (unsigned i = from; i < to; i++) {
		snprintf(name, sizeof(name), "file %u", i);
		ck_assert_msg(rig_lookup(rig, name), "%s is not there", name);
	}
}

/* Answered names stay; what does not fit, a sync and a close wait for the end of it. */
START_TEST(a_stall_is_waited_out)
{
	struct rig rig;

	rig_make(&rig, NULL);
	make_names(&rig, 0, 10);
	stalls = 40;
	make_names(&rig, 10, 20);
	check_names(&rig, 0, 20);
	ck_assert_int_eq(stalls, 40);
	ck_assert_int_eq(rig_sync(&rig), 0);
	ck_assert_int_eq(stalls, 0);
	stalls = 40;
	make_names(&rig, 20, 700);
	ck_assert_int_eq(stalls, 0);
	make_names(&rig, 700, 720);
	stalls = 40;
	rig_reopen(&rig);
	ck_assert_int_eq(stalls, 0);
	check_names(&rig, 0, 720);
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

START_TEST(a_kill_in_a_stall)
{
	struct rig rig, next;
	unsigned before;

	rig_make(&rig, &with_area);
	make_names(&rig, 0, 10);
	ck_assert_int_eq(rig_sync(&rig), 0);
	stalls = 1000000;
	make_names(&rig, 10, 30);
	before = written;
	for (unsigned i = 0; i < 4; i++) { /* the timer tries */
		usleep(5000);
		rig_turn(&rig, 1);
	}
	ck_assert_uint_eq(written, before);
	ck_assert_int_lt(stalls, 1000000);
	rig_kill(&rig, &next);
	stalls = 0;
	ck_assert_int_eq(rig_open(&next), 0);
	check_names(&next, 0, 30);
	rig_check(&next);
	rig_free(&next);
	rig_free(&rig);
}
END_TEST

/* A sleeping reactor is woken by what it gathered: nothing else would for an hour. */
START_TEST(an_idle_reactor_writes_it)
{
	struct rig rig;
	unsigned before;

	rig_make(&rig, NULL);
	make_names(&rig, 0, 10);
	ck_assert_int_eq(rig_sync(&rig), 0);
	make_names(&rig, 10, 11);
	before = written;
	while (written == before)
		ck_assert_int_ge(reactor_run_once(rig.reactor, REACTOR_NEVER_NS), 0);
	rig_free(&rig);
}
END_TEST

/* ---- a worker that is killed while it takes up what another left ---- */

struct second_kill {
	struct rig *from, to;
	_Atomic uint64_t steps; /* RocksDB writes on threads of its own */
	uint64_t at;
	bool done;
};

static void kill_at_step(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	struct second_kill *k = arg;

	(void)dev, (void)op, (void)step;
	if (atomic_fetch_add(&k->steps, 1) != k->at)
		return;
	rig_kill(k->from, &k->to);
	k->done = true;
}

START_TEST(two_kills_in_a_row)
{
	struct rig rig, next;
	bool more = true;

	rig_make(&rig, &with_area);
	make_names(&rig, 0, 20);
	ck_assert_int_eq(rig_sync(&rig), 0);
	make_names(&rig, 20, 40);
	for (unsigned at = 0; more; at++) {
		struct second_kill k = { .from = &next, .at = at };

		rig_kill(&rig, &next);
		sim_set_step_hook(next.dev[0], kill_at_step, &k);
		ck_assert_int_eq(rig_open(&next), 0);
		sim_set_step_hook(next.dev[0], NULL, NULL);
		check_names(&next, 0, 40);
		rig_free(&next);
		more = k.done;
		if (!more)
			continue;
		ck_assert_int_eq(rig_open(&k.to), 0);
		check_names(&k.to, 0, 40);
		rig_check(&k.to);
		rig_free(&k.to);
	}
	rig_free(&rig);
}
END_TEST

/* ---- two subvolumes ---- */

/* Each has its own marker: what one wrote says nothing of the other. */
START_TEST(two_are_taken_up)
{
	const struct subvol_options so = { .size_bytes = 16 * MIB };
	struct subvol *first, *second;
	struct rig rig, next;
	uint32_t sessions[2];

	rig_make(&rig, &with_area);
	ck_assert_int_eq(subvol_create(rig.pool, "other", &so, NULL, 0), 0);
	ck_assert_int_eq(subvol_open(rig.pool, "other", false, &second), 0);
	first = rig.sv;
	sessions[0] = rig.session;
	ck_assert_int_eq(pool_session_new(rig.pool, &sessions[1]), 0);
	make_names(&rig, 0, 10);
	rig.sv = second;
	rig.session = sessions[1];
	make_names(&rig, 100, 110);
	ck_assert_int_eq(rig_sync(&rig), 0); /* a later sequence than the others have */
	make_names(&rig, 110, 115);
	rig.sv = first;
	rig.session = sessions[0];
	make_names(&rig, 10, 12);
	rig_kill(&rig, &next);
	ck_assert_int_eq(rig_open(&next), 0);
	check_names(&next, 0, 12);
	rig_check(&next);
	ck_assert_int_eq(subvol_close(next.sv), 0);
	ck_assert_int_eq(subvol_open(next.pool, "other", false, &next.sv), 0);
	check_names(&next, 100, 115);
	rig_free(&next);
	ck_assert_int_eq(subvol_close(second), 0);
	rig_free(&rig);
}
END_TEST

/* ---- limits ---- */

static struct meta_fixture fx;

static void setup(void)
{
	fixture_make(&fx, 256 * MIB, 64 * MIB, NULL);
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
}

static void teardown(void)
{
	stalls = 0;
	fixture_end(&fx);
}

static void make_files(const char *prefix, unsigned from, unsigned to, int (*fn)(unsigned i, const char *name))
{
	char name[32];

	for (unsigned i = from; i < to; i++) {
		snprintf(name, sizeof(name), "%s%u", prefix, i);
		ck_assert_int_eq(fn(i, name), 0);
	}
}

static int make_one(unsigned i, const char *name)
{
	(void)i;
	return fx_create(&fx, ROOT, name, S_IFREG | 0600, NULL);
}

static int unlink_one(unsigned i, const char *name)
{
	(void)i;
	return fx_unlink(&fx, ROOT, name);
}

static void used(uint64_t *blocks, uint64_t *inodes)
{
	struct subvol_stats st;

	subvol_stats(fx.sv, &st);
	*blocks = st.used_blocks;
	*inodes = st.used_inodes;
}

/* Values around what a segment holds, behind a group that waits. */
START_TEST(large_values)
{
	static uint8_t value[65536], back[65536];
	struct inode_attr attr;

	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG | 0600, &attr), 0);
	for (size_t size = 64800; size <= 65536; size += 8) {
		memset(value, (int)(size / 8), sizeof(value));
		ck_assert_int_eq(fx_setxattr(&fx, attr.ino, "user.x", value, size, 0), 0);
		ck_assert_int_eq(fx_getxattr(&fx, attr.ino, "user.x", back, sizeof(back)), (int64_t)size);
		ck_assert_int_eq(memcmp(value, back, size), 0);
		if (size % 24 == 0)
			ck_assert_int_eq(fx_removexattr(&fx, attr.ino, "user.x"), 0);
		ck_assert_int_eq(fx_getxattr(&fx, attr.ino, "user.x", back, sizeof(back)),
				 size % 24 ? (int64_t)size : -ENODATA);
	}
}
END_TEST

/* More deletions than a group, and a batch of the reaper, have. */
START_TEST(many_xattrs_are_reaped)
{
	const unsigned count = _i ? 700 : 1500;
	uint64_t blocks, inodes, blocks_now, inodes_now;
	struct inode_attr attr;
	char name[32];

	used(&blocks, &inodes);
	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG | 0600, &attr), 0);
	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "user.%u", i);
		ck_assert_int_eq(fx_setxattr(&fx, attr.ino, name, "value", 5, 0), 0);
	}
	make_files("b", 0, 40, make_one);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "a"), 0);
	make_files("b", 0, 40, unlink_one);
	fixture_settle(&fx, 2000);
	used(&blocks_now, &inodes_now);
	ck_assert_uint_eq(inodes_now, inodes);
	ck_assert_uint_eq(blocks_now, blocks);
}
END_TEST

/* ---- a pool that fails ---- */

/* With a group that waits: names stay readable, nothing new is taken, and the end comes. */
START_TEST(the_pool_fails_in_a_stall)
{
	uint64_t blocks, inodes, before;

	make_files("a", 0, 10, make_one);
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	used(&blocks, &before);
	stalls = 1000000;
	make_files("a", 10, 20, make_one);
	make_files("a", 0, 5, unlink_one);
	fx.pool->failed = -EIO;
	stalls = 0;
	ck_assert_int_eq(fx_create(&fx, ROOT, "more", S_IFREG, NULL), -EROFS);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "a15", NULL), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "a3", NULL), -ENOENT);
	ck_assert_int_eq(fx_fsync(&fx, ROOT), -EIO);
	fixture_settle(&fx, 50);
	ck_assert_int_ne(subvol_close(fx.sv), 0);
	fx.sv = NULL;
	pool_close(fx.pool);
	fx.pool = NULL;
	ck_assert_int_eq(fixture_open(&fx), 0);
	used(&blocks, &inodes);
	ck_assert_uint_eq(inodes, before);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "a15", NULL), -ENOENT);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "a3", NULL), 0);
}
END_TEST

/* ---- ancestors ---- */

static void check_place(const char *name, int wanted)
{
	uint8_t buf[16];
	struct inode_attr attr;

	ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &attr), wanted);
	if (!wanted) {
		ck_assert_int_eq(fx_getattr(&fx, attr.ino, &attr), 0);
		ck_assert_int_eq(fx_getxattr(&fx, attr.ino, "user.none", buf, sizeof(buf)), -ENODATA);
	}
}

struct tally {
	unsigned count;
};

static void tally_reset(void *arg)
{
	((struct tally *)arg)->count = 0;
}

static bool tally_one(void *arg, const char *name, size_t len, uint64_t ino, uint32_t mode, uint64_t cookie,
		      const struct inode_attr *attr)
{
	(void)len, (void)ino, (void)mode, (void)cookie, (void)attr;
	((struct tally *)arg)->count += name[0] != '.';
	return true;
}

static unsigned count_names(void)
{
	struct tally t;
	const struct names_emit emit = { .reset = tally_reset, .emit = tally_one, .arg = &t };

	ck_assert_int_eq(fx_readdir(&fx, ROOT, 0, &emit), 0);
	return t.count;
}

static int64_t forget_inodes(struct op *op, void *arg)
{
	(void)arg;
	inodes_free(op->sv);
	return inodes_init(op->sv);
}

/*
 * A younger node on top of what is there. What it removes must stay away although the older versions are there, however often it
 * is made and removed in one group. The gathered records are looked at, then those that RocksDB has.
 */
START_TEST(ancestors_are_hidden)
{
	static uint32_t few[2], many[12];
	uint32_t *const ancestors = fx.sv->ancestors, *const above = _i ? many : few;
	const unsigned count = _i ? 12 : 2;
	const uint32_t node = fx.sv->node;

	make_files("old", 0, 10, make_one);
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	ck_assert_int_eq(pool_session_new(fx.pool, &fx.session), 0);
	for (unsigned i = 0; i < count - 1; i++)
		above[i] = node + 2 * (count - i);
	above[count - 1] = node;
	run_op(&fx, forget_inodes, NULL);
	fx.sv->ancestors = above;
	fx.sv->ancestor_count = count;
	fx.sv->node = above[0];
	fx.sv->first_ino = fx.sv->next_ino;
	make_files("old", 0, 5, unlink_one);
	make_files("old", 1, 3, make_one);
	make_files("old", 2, 3, unlink_one);
	make_files("new", 0, 4, make_one);
	make_files("new", 1, 3, unlink_one);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "old6", ROOT, "old7", 0), 0);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "old8", ROOT, "new1", RENAME_NOREPLACE), 0);
	for (unsigned round = 0; round < 3; round++) {
		check_place("old0", -ENOENT);
		check_place("old1", 0);
		check_place("old2", -ENOENT);
		check_place("old4", -ENOENT);
		check_place("old5", 0);
		check_place("old6", -ENOENT);
		check_place("old7", 0);
		check_place("old8", -ENOENT);
		check_place("old9", 0);
		check_place("new0", 0);
		check_place("new1", 0);
		check_place("new2", -ENOENT);
		check_place("new3", 0);
		if (round == 1) {
			fixture_settle(&fx, 500);
			ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
		}
		ck_assert_uint_eq(count_names(), 7);
		run_op(&fx, forget_inodes, NULL);
		known_destroy(fx.sv->known);
		ck_assert_int_eq(known_create(fx.sv->shared->names, &fx.sv->known), 0);
	}
	/* Closed as the node that it is in the records; what is above belongs to none. */
	fx.sv->ancestors = ancestors;
	fx.sv->ancestor_count = 1;
	fx.sv->node = node;
	fixture_close(&fx);
	reactor_destroy(fx.reactor);
	device_close(fx.dev);
	setup();
}
END_TEST

/* ---- what was given back ---- */

static void cut_power(void)
{
	struct device *after;

	ck_assert_int_eq(sim_snapshot_cut(fx.dev, 5, &after), 0);
	stalls = 0;
	fixture_close(&fx);
	device_detach(fx.reactor, fx.dev);
	device_close(fx.dev);
	fx.dev = after;
	ck_assert_int_eq(fixture_open(&fx), 0);
}

/* A limit that is durable before the deletions that made room for it. */
START_TEST(a_lower_limit_holds_after_a_cut)
{
	uint64_t blocks, inodes, most;
	char why[256];

	make_files("a", 0, 100, make_one);
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	make_files("a", 0, 90, unlink_one);
	for (unsigned i = 0; i < 3 || (inodes > 20 && i < 10000); i++) { /* the reaper */
		usleep(1500);
		reactor_run_once(fx.reactor, 0);
		used(&blocks, &inodes);
	}
	ck_assert_uint_le(inodes, 20);
	ck_assert_int_eq(subvol_resize(fx.pool, "sv", 0, 20, why, sizeof(why)), 0);
	cut_power();
	used(&blocks, &inodes);
	most = atomic_load(&fx.sv->limit_inodes);
	ck_assert_msg(inodes <= most, "%llu inodes, and the limit is %llu", (unsigned long long)inodes,
		      (unsigned long long)most);
}
END_TEST

static int make_large(unsigned i, const char *name)
{
	static const uint8_t value[12000];
	struct inode_attr attr;

	(void)i;
	ck_assert_int_eq(fx_create(&fx, ROOT, name, S_IFREG | 0600, &attr), 0);
	return fx_setxattr(&fx, attr.ino, "user.x", value, sizeof(value), 0);
}

static int make_small(unsigned i, const char *name)
{
	struct inode_attr attr;

	(void)i;
	ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &attr), 0);
	return fx_removexattr(&fx, attr.ino, "user.x");
}

/* A claim that is durable before the changes that made room for it; nobody else may have that room earlier. */
START_TEST(a_claim_holds_after_a_cut)
{
	const struct subvol_options thin = { .size_bytes = 16 * MIB, .inodes_max = 4096, .thin = true };
	struct subvol_options rest = { .inodes_max = 1024 };
	struct subvol *reserved = fx.sv;
	struct device *after;
	struct meta_fixture next;
	uint64_t promised;
	char why[256] = "";
	int r;

	ck_assert_int_eq(subvol_create(fx.pool, "thin", &thin, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_open(fx.pool, "thin", false, &fx.sv), 0);
	ck_assert_int_eq(pool_session_new(fx.pool, &fx.session), 0);
	make_files("a", 0, 30, make_large);
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	rest.size_bytes = (pool_capacity(fx.pool) - atomic_load(&fx.pool->reserved_blocks) -
			   (uint64_t)atomic_load(&fx.pool->loose_blocks) + 40) * NVFS_BLOCK_SIZE;
	stalls = 20;
	make_files("a", 0, 30, make_small);
	r = subvol_create(fx.pool, "rest", &rest, why, sizeof(why));
	ck_assert_msg(r == 0, "%s", why);
	ck_assert_int_eq(sim_snapshot_cut(fx.dev, 5, &after), 0);
	stalls = 0;
	ck_assert_int_eq(subvol_close(fx.sv), 0);
	fx.sv = reserved;
	fixture_check(after);
	fixture_attach(&next, after, NULL);
	promised = (uint64_t)atomic_load(&next.pool->loose_blocks) + atomic_load(&next.pool->reserved_blocks);
	ck_assert_uint_le(promised, pool_capacity(next.pool));
	fixture_end(&next);
}
END_TEST

static void with_pool(TCase *tcase)
{
	tcase_add_checked_fixture(tcase, setup, teardown);
}

int main(void)
{
	Suite *suite = suite_create("gather_edge");

	unit_add(suite, "stall", a_stall_is_waited_out, 1);
	unit_add(suite, "stall_kill", a_kill_in_a_stall, 1);
	unit_add(suite, "idle", an_idle_reactor_writes_it, 1);
	unit_add(suite, "kills", two_kills_in_a_row, 1);
	unit_add(suite, "two", two_are_taken_up, 1);
	with_pool(unit_add(suite, "large", large_values, 1));
	with_pool(unit_add(suite, "reaped", many_xattrs_are_reaped, 2));
	with_pool(unit_add(suite, "failed", the_pool_fails_in_a_stall, 1));
	with_pool(unit_add(suite, "ancestors", ancestors_are_hidden, 2));
	with_pool(unit_add(suite, "limit", a_lower_limit_holds_after_a_cut, 1));
	with_pool(unit_add(suite, "claim", a_claim_holds_after_a_cut, 1));
	return unit_run_suite(suite);
}
