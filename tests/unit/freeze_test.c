/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshots that meet calls under way at a chosen moment: before, at, and behind the closed gate. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#include "meta/data_internal.h"
#include "meta/orphan.h"
#include "meta/snapshot.h"
#include "meta/sweep.h"
#include "meta/tenant.h"
#include "tests/unit/cut_check.h"
#include "tests/unit/data_rig.h"
#include "tests/unit/unit.h"

#define MIB ((uint64_t)1 << 20)
#define BLOCK ((uint64_t)NVFS_BLOCK_SIZE)

static uint8_t data[CHUNK_BYTES], got[CHUNK_BYTES];

/* ---- Calls ---- */

static void snapshot(struct rig *rig, const char *name)
{
	const struct snapshot_name n = { "vol", name };
	char why[1024] = "";

	ck_assert_msg(snapshot_create(rig->pool, &n, 1, why, sizeof(why)) == 0, "%s", why);
}

static struct pool_tenant *owner(struct rig *rig)
{
	return tenant_find(rig->pool, NVFS_TENANT_DEFAULT);
}

static int64_t tenant_use(struct rig *rig)
{
	return atomic_load(&owner(rig)->used_blocks);
}

/* So many blocks more than it uses now. */
static void limit_tenant(struct rig *rig, int64_t more)
{
	const struct tenant_settings set = { .limits.used_blocks = (uint64_t)(tenant_use(rig) + more) };
	char why[1024] = "";

	ck_assert_msg(tenant_set(rig->pool, owner(rig)->name, &set, TENANT_USED, why, sizeof(why)) == 0, "%s", why);
}

/* Closed, checked, and open again: what the tenant uses is what the records say. */
static void check(struct rig *rig)
{
	int64_t use;

	ck_assert_int_eq(subvol_close(rig->sv), 0);
	rig->sv = NULL;
	use = tenant_use(rig);
	ck_assert_int_eq(rig_close(rig), 0);
	cut_check(rig->dev[0], "at the end");
	ck_assert_int_eq(rig_open(rig), 0);
	ck_assert_int_eq(tenant_use(rig), use);
}

static void write_sparse(struct rig *rig, uint64_t ino, unsigned chunks)
{
	for (unsigned i = 0; i < chunks; i++)
		ck_assert_int_eq(rig_write(rig, ino, i * (uint64_t)CHUNK_BYTES, data, BLOCK, 0), (ssize_t)BLOCK);
}

/* ---- fallocate ---- */

#define ORPHANS 3000u

/* A compressed file of one chunk that a snapshot holds, room for 20 blocks of the tenant's, and a reaper that has much to do. */
static uint64_t busy_reaper(struct rig *rig, bool gives_back)
{
	static uint64_t orphans[ORPHANS];
	uint64_t a;
	char name[32];

	memset(data, 5, sizeof(data));
	a = rig_create(rig, "a");
	ck_assert_int_eq(rig_write(rig, a, 0, data, sizeof(data), 0), (ssize_t)sizeof(data));
	ck_assert_int_eq(rig_fsync(rig, a), 0);
	for (unsigned i = 0; i < ORPHANS; i++) {
		snprintf(name, sizeof(name), "o%u", i);
		orphans[i] = rig_create(rig, name);
	}
	snapshot(rig, "s");
	if (gives_back) { /* the last one that is reaped */
		ck_assert_int_eq(rig_write(rig, orphans[ORPHANS - 1], 0, data, sizeof(data), 0), (ssize_t)sizeof(data));
		ck_assert_int_eq(rig_sync(rig), 0);
	}
	for (unsigned i = 0; i < ORPHANS; i++) {
		snprintf(name, sizeof(name), "o%u", i);
		rig_unlink(rig, name);
	}
	limit_tenant(rig, 20);
	for (unsigned i = 0; i < ORPHANS; i++)
		rig_forget(rig, orphans[i]);
	return a;
}

/*
 * What zeroes a part of a compressed extent needs the rest of it, too, and may have to wait for the reaper, which waits at the gate: it must not be
 * what the gate waits for.
 */
START_TEST(who_waits_for_the_reaper_keeps_nothing)
{
	struct rig_options options = { .compress = true };
	struct rig_call zero = { 0 };
	struct rig rig;
	uint64_t a;

	rig_make(&rig, &options);
	a = busy_reaper(&rig, _i);
	rig_start_fallocate(&rig, &zero, a, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, 4 * BLOCK);
	for (unsigned i = 0; i < 20 && !zero.op.queue; i++)
		rig_turn(&rig, 1);
	ck_assert(!zero.done && reaper_busy(rig.sv));
	if (!_i)
		snapshot(&rig, "s2");
	ck_assert_int_eq(rig_wait(&rig, &zero), _i ? 0 : -EDQUOT);
	ck_assert_int_eq(rig_read(&rig, a, 0, got, sizeof(got)), (ssize_t)sizeof(got));
	if (_i)
		memset(data, 0, 4 * BLOCK);
	ck_assert_mem_eq(got, data, sizeof(data));
	check(&rig);
	rig_free(&rig);
}
END_TEST

/* A charge beyond what it keeps. */
static ssize_t charge_beyond(struct rig_call *c)
{
	struct file *f = inode_peek(c->op.sv, c->ino)->file;
	int r = file_take_ahead(&c->op, f, 1, 1);

	ck_assert_int_eq(r, 0);
	r = file_charge(&c->op, f, c->len, c->len);
	file_ahead_end(f);
	return r;
}

/* Who keeps something waits for nobody, whatever it lacks. */
START_TEST(who_keeps_something_does_not_wait)
{
	struct rig_call beyond = { .fn = charge_beyond, .len = 30 };
	struct rig rig;

	rig_make(&rig, NULL);
	beyond.ino = busy_reaper(&rig, true);
	ck_assert(reaper_busy(rig.sv));
	rig_start(&rig, &beyond);
	ck_assert(beyond.done);
	ck_assert_int_eq(beyond.result, -EDQUOT);
	check(&rig);
	rig_free(&rig);
}
END_TEST

#define SPARSE 1100u /* chunks: more than one step of the count, and of the promise */

/* A file of so many chunks with a block each, of which nothing is in memory. */
static uint64_t cold_file(struct rig *rig, unsigned chunks)
{
	const uint64_t ino = rig_create(rig, "a");

	memset(data, 5, sizeof(data));
	write_sparse(rig, ino, chunks);
	rig_reopen(rig);
	return rig_lookup(rig, "a");
}

static void be_slow(struct rig *rig, uint64_t ns)
{
	const struct sim_faults slow = { .latency_min_ns = ns, .latency_max_ns = ns };

	sim_set_faults(rig->dev[0], ns ? &slow : NULL);
}

/* It stands in the middle of its count, and waits for a record. */
static bool is_counting(const struct rig *rig, const struct rig_call *c)
{
	return c->op.moment && !c->op.keeps && rig->sv->inputs_running;
}

/*
 * A snapshot is made while what zeroing needs is counted: what was the file's own before is not any more. Either there is room for all, or
 * nothing happens.
 */
START_TEST(a_count_is_of_one_node)
{
	struct rig_options options = { .device_bytes = 2048 * MIB, .size_bytes = 600 * MIB };
	const uint64_t len = SPARSE * (uint64_t)CHUNK_BYTES;
	struct rig_call zero = { 0 };
	struct rig rig;
	uint64_t a;

	rig_make(&rig, &options);
	a = cold_file(&rig, SPARSE);
	limit_tenant(&rig, SPARSE * (int64_t)CHUNK_BLOCKS - (_i ? 0 : 500));
	be_slow(&rig, 3000000);
	rig_start_fallocate(&rig, &zero, a, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, len);
	while (!zero.done && !is_counting(&rig, &zero))
		reactor_run_once(rig.reactor, 1000000);
	ck_assert(!zero.done);
	snapshot(&rig, "s");
	ck_assert_int_eq(rig_wait(&rig, &zero), _i ? 0 : -EDQUOT);
	be_slow(&rig, 0);
	for (unsigned i = 0; i < SPARSE; i++) {
		ck_assert_int_eq(rig_read(&rig, a, i * (uint64_t)CHUNK_BYTES, got, BLOCK), (ssize_t)BLOCK);
		ck_assert_msg(got[0] == (_i ? 0 : 5), "chunk %u", i);
	}
	check(&rig);
	rig_free(&rig);
}
END_TEST

/*
 * A snapshot is asked for between the steps of an fallocate() that waits for a record each time, with nothing dirty: it has all of what was
 * promised, and what was taken for that is nobody else's.
 */
START_TEST(a_freeze_waits_for_the_last_step)
{
	struct rig_options options = { .device_bytes = 2048 * MIB, .size_bytes = 800 * MIB, .map_cache_bytes = 1, .cache_bytes = 48 << 10 };
	const unsigned chunks = 2200;
	const uint64_t len = chunks * (uint64_t)CHUNK_BYTES;
	struct rig_call promise = { 0 };
	struct snapshot_info info;
	struct inode_attr attr;
	struct rig rig;
	uint64_t a;

	rig_make(&rig, &options);
	cold_file(&rig, chunks);
	snapshot(&rig, "first"); /* what is read of an ancestor does not stay in memory */
	rig_reopen(&rig);
	a = rig_lookup(&rig, "a");
	be_slow(&rig, 300000);
	rig_start_fallocate(&rig, &promise, a, 0, 0, len);
	while (!promise.done && promise.op.stage != STAGE_STEPS)
		reactor_run_once(rig.reactor, 1000000);
	ck_assert(!promise.done);
	snapshot(&rig, "s");
	be_slow(&rig, 0);
	ck_assert_int_eq(rig_wait(&rig, &promise), 0);
	ck_assert_int_eq(snapshot_info(rig.pool, &(struct snapshot_name){ "vol", "s" }, &info), 0);
	ck_assert_uint_ge(info.used_blocks, chunks * CHUNK_BLOCKS);
	rig_attr(&rig, a, &attr);
	ck_assert_uint_eq(attr.size_bytes, len);
	check(&rig);
	rig_free(&rig);
}
END_TEST

/* ---- A sweep ---- */

static void swept(struct rig *rig, const char *snapshot)
{
	const struct snapshot_name n = { "vol", snapshot };
	char why[1024] = "";

	ck_assert_msg(snapshot_delete(rig->pool, &n, why, sizeof(why)) == 0, "%s", why);
	while (subvol_sweeps_left(rig->pool))
		reactor_run_once(rig->reactor, 1000000);
	while (reactor_run_once(rig->reactor, 0) > 0)
		;
}

/*
 * A direct write to what a snapshot holds fails after that was swept: its blocks are the live node's own by then, and what was taken for them
 * was given back.
 */
START_TEST(a_write_fails_behind_a_sweep)
{
	const struct sim_faults late = { .latency_min_ns = 3000000000u, .latency_max_ns = 3000000000u }, bad = { .fail_write_ppm = 1000000 };
	struct rig_call write = { 0 };
	struct rig rig;
	int64_t use;
	uint64_t a;

	rig_make(&rig, NULL);
	a = rig_create(&rig, "a");
	memset(data, 3, sizeof(data));
	ck_assert_int_eq(rig_write(&rig, a, 0, data, 8 * BLOCK, 0), (ssize_t)(8 * BLOCK));
	ck_assert_int_eq(rig_fsync(&rig, a), 0);
	use = tenant_use(&rig);
	snapshot(&rig, "s");
	sim_set_faults(rig.dev[0], &late);
	rig_start_write(&rig, &write, a, 2 * BLOCK, data, 2 * BLOCK, DATA_DIRECT);
	for (unsigned i = 0; i < 20 && write.op.stage != STAGE_WRITING; i++)
		rig_turn(&rig, 1);
	sim_set_faults(rig.dev[0], NULL);
	ck_assert_int_eq(tenant_use(&rig), use + 2);
	swept(&rig, "s");
	ck_assert(!write.done);
	ck_assert_int_eq(tenant_use(&rig), use);
	sim_set_faults(rig.dev[0], &bad);
	ck_assert_int_eq(rig_wait(&rig, &write), -EIO);
	sim_set_faults(rig.dev[0], NULL);
	ck_assert_int_eq(tenant_use(&rig), use);
	ck_assert_int_eq(rig_write(&rig, a, 20 * BLOCK, data, 4 * BLOCK, 0), (ssize_t)(4 * BLOCK));
	ck_assert_int_eq(tenant_use(&rig), use + 4);
	ck_assert_int_eq(rig_fsync(&rig, a), 0);
	ck_assert_int_eq(tenant_use(&rig), use + 4);
	check(&rig);
	rig_free(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("freeze");

	unit_add(suite, "who_waits_for_the_reaper_keeps_nothing", who_waits_for_the_reaper_keeps_nothing, 2);
	unit_add(suite, "who_keeps_something_does_not_wait", who_keeps_something_does_not_wait, 1);
	unit_add(suite, "a_count_is_of_one_node", a_count_is_of_one_node, 2);
	unit_add(suite, "a_freeze_waits_for_the_last_step", a_freeze_waits_for_the_last_step, 1);
	unit_add(suite, "a_write_fails_behind_a_sweep", a_write_fails_behind_a_sweep, 1);
	return unit_run_suite(suite);
}
