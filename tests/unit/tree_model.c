/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the model that has the pool, its reactors and what runs in the background. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/log.h"
#include "meta/mkfs.h"
#include "meta/sweep.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/tree_internal.h"

#define MIB (UINT64_C(1) << 20)
#define REACTORS 2u

struct tree tree;
struct pool *tree_pool;
struct device *tree_dev;

struct tree_options tree_opts;
char tree_why[1024];
uint8_t *tree_buf;
static struct pool_options pool_options;
static struct reactor *reactors[REACTORS];
static unsigned short seed[3];

unsigned tree_pick(unsigned n)
{
	return n ? (unsigned)(nrand48(seed) % n) : 0;
}

/* A RocksDB that stalls: of the writes that do not wait a part is refused, in rows. */
int __real_db_write(struct db *db, struct db_batch *batch, unsigned flags);
int __wrap_db_write(struct db *db, struct db_batch *batch, unsigned flags);

int __wrap_db_write(struct db *db, struct db_batch *batch, unsigned flags)
{
	static _Atomic uint32_t number;
	const uint32_t n = atomic_fetch_add(&number, 1);

	if (tree_opts.stalls && flags & DB_NO_SLOWDOWN && (n / 3 * 2654435761u) >> 30 == 0)
		return -EAGAIN;
	return __real_db_write(db, batch, flags);
}

const char *tree_tenant_name(unsigned tenant)
{
	static const char *const names[] = { "default", "red", "blue" };

	_Static_assert(sizeof(names) / sizeof(*names) == TREE_TENANTS, "a name for each");
	return names[tenant];
}

/* ---- Background work ---- */

void tree_run_reactors(void)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	if (tree_opts.threads) {
		nanosleep(&pause, NULL);
		return;
	}
	for (unsigned i = 0; i < 20; i++)
		for (unsigned k = 0; k < REACTORS; k++)
			reactor_run_once(reactors[k], 50000);
}

static bool any_busy(void)
{
	for (unsigned i = 0; i < TREE_VOLUMES; i++)
		if (tree.volumes[i].sv && call(tree.volumes[i].sv, is_busy, (struct call){ 0 }))
			return true;
	return false;
}

void tree_settle(void)
{
	for (unsigned i = 0; i < 40000; i++) {
		if (!subvol_sweeps_left(tree_pool) && !any_busy())
			return;
		tree_run_reactors();
	}
	ck_abort_msg("seed %ld: the background work does not end: %u sweeps, %d", tree_opts.seed, subvol_sweeps_left(tree_pool), any_busy());
}

void tree_sync_others(const struct tree_node *v)
{
	tree_settle();
	for (unsigned i = 0; i < TREE_VOLUMES; i++)
		if (tree.volumes[i].sv && &tree.volumes[i] != v)
			ck_assert_int_eq(call(tree.volumes[i].sv, do_sync, (struct call){ 0 }), 0);
	tree_settle();
}

void tree_sync(void)
{
	tree_sync_others(NULL);
}

void tree_before_administration(void)
{
	if (!tree_opts.threads)
		tree_settle();
}

void tree_close(struct tree_node *v)
{
	if (!v->sv)
		return;
	tree_before_administration();
	ck_assert_int_eq(subvol_close(v->sv), 0);
	v->sv = NULL;
	for (unsigned f = 0; f < TREE_FILES; f++)
		if (v->files[f].gone)
			memset(&v->files[f], 0, sizeof(v->files[f]));
}

/* Without orphans of an earlier life, once it is settled. */
struct subvol *tree_open(struct tree_node *v)
{
	if (v->sv)
		return v->sv;
	tree_before_administration();
	ck_assert_int_eq(subvol_open(tree_pool, v->volume, false, &v->sv), 0);
	for (unsigned f = 0; f < TREE_FILES; f++)
		if (v->files[f].gone)
			memset(&v->files[f], 0, sizeof(v->files[f]));
	return v->sv;
}

/* ---- The pool ---- */

void tree_leave(void)
{
	for (unsigned i = 0; i < TREE_VOLUMES; i++)
		tree_close(&tree.volumes[i]);
	ck_assert_int_eq(pool_close(tree_pool), 0);
	tree_pool = NULL;
}

void tree_enter(struct device *dev)
{
	tree_dev = dev;
	ck_assert_int_eq(pool_open(&tree_dev, 1, &pool_options, &tree_pool), 0);
}

void tree_drop_device(struct device *dev)
{
	for (unsigned i = 0; i < REACTORS; i++)
		device_detach(reactors[i], dev);
	device_close(dev);
}

static void make_reactors(void)
{
	const struct reactor_options ro = { .spin_max_us = 20 };

	for (unsigned i = 0; i < REACTORS; i++) {
		ck_assert_int_eq(reactor_create(&ro, &reactors[i]), 0);
		if (tree_opts.threads)
			ck_assert_int_eq(reactor_start_thread(reactors[i], "reactor"), 0);
	}
	pool_options = (struct pool_options){ .reactors = REACTORS, .reactor = reactors, .commit_ms = 50 };
}

static void end_reactors(void)
{
	for (unsigned i = 0; i < REACTORS; i++) {
		if (tree_opts.threads) {
			reactor_stop(reactors[i]);
			reactor_join(reactors[i]);
		}
		reactor_destroy(reactors[i]);
	}
}

static void make_first(void)
{
	struct tree_node *v = &tree.volumes[0];
	const struct subvol_options so = {
		.size_bytes = 16 * MIB,
		.compression = tree_opts.packs ? COMPRESSION_LZ4 : COMPRESSION_OFF,
	};
	struct subvol_info info;

	*v = (struct tree_node){ .there = true, .reserved = true, .volume = "v" };
	ck_assert_int_eq(subvol_create(tree_pool, v->volume, &so, tree_why, sizeof(tree_why)), 0);
	ck_assert_int_eq(subvol_info(tree_pool, v->volume, &info), 0);
	v->size_blocks = info.rec.size_blocks;
	v->inodes_max = info.rec.inodes_max;
	v->tree = info.rec.tree;
	ck_assert(tree_furnish(v));
}

static void make_tenants(void)
{
	const struct tenant_settings none = { 0 };

	atomic_store(&tenant_clock_ahead_ns, 0);
	for (unsigned t = 1; t < TREE_TENANTS; t++)
		ck_assert_int_eq(tenant_create(tree_pool, tree_tenant_name(t), &none, tree_why, sizeof(tree_why)), 0);
}

void tree_begin(const struct tree_options *opts)
{
	const struct pool_create_options po = { .name = "tree" };
	long number = opts->seed;

	if (!getenv("NVFS_TEST_LOG"))
		log_set_level(LOG_LEVEL_ERROR);
	printf("seed %ld%s%s%s%s\n", number, opts->threads ? ", threads" : "", opts->packs ? ", lz4" : "", opts->limits ? ", limits" : "",
	       opts->stalls ? ", stalls" : "");
	fflush(stdout);
	tree_opts = *opts;
	memset(seed, 0, sizeof(seed));
	memcpy(seed, &number, sizeof(seed));
	memset(&tree, 0, sizeof(tree));
	tree_next_id = 0;
	tree.today = 1;
	if (!tree_buf)
		tree_buf = aligned_alloc(BLOCK, TREE_SLOTS * BLOCK);
	ck_assert_ptr_nonnull(tree_buf);
	make_reactors();
	ck_assert_int_eq(device_sim_create(512 * MIB, NULL, &tree_dev), 0);
	ck_assert_int_eq(pool_create(&tree_dev, 1, &po, tree_why, sizeof(tree_why)), 0);
	tree_enter(tree_dev);
	tree.overcommit = tree_pool->rec.overcommit_percent;
	make_tenants();
	make_first();
	if (opts->limits)
		tree_limits_begin();
}

void tree_delete_all(void)
{
	struct pool_stats stats;
	bool any = true;

	while (any) {
		any = false;
		for (unsigned i = 0; i < TREE_SNAPSHOTS; i++)
			any |= tree.snapshots[i].there;
		for (unsigned i = 0; i < TREE_VOLUMES; i++)
			any |= tree.volumes[i].there;
		tree_change(tree_pick(2) ? TREE_DELETE_SNAPSHOT : TREE_DELETE_VOLUME);
	}
	tree_before_administration();
	if (tree.ballast)
		ck_assert_int_eq(subvol_delete(tree_pool, TREE_BALLAST, tree_why, sizeof(tree_why)), 0);
	tree.ballast = 0;
	tree_settle();
	ck_assert_int_eq(pool_commit_wait(tree_pool), 0);
	ck_assert_int_eq(pool_commit_wait(tree_pool), 0);
	tree_compare(false); /* of nothing */
	pool_stats(tree_pool, &stats);
	ck_assert_uint_eq(stats.subvolumes, 0);
	ck_assert_uint_eq(stats.free_blocks, stats.data_blocks);
	ck_assert_int_eq(atomic_load(&tree_pool->promised_blocks), 0);
	for (unsigned t = 0; t < TREE_TENANTS; t++)
		ck_assert_int_eq(atomic_load(&tenant_find_name(tree_pool, tree_tenant_name(t))->used_blocks), 0);
}

void tree_end(void)
{
	tree_delete_all();
	tree_leave();
	fixture_check(tree_dev);
	end_reactors();
	device_close(tree_dev);
}
