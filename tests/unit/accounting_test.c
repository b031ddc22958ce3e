/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is charged, promised and given back, where it is hard: when one file's change is durable and another's is not, in the
 * middle of background work, and when all room is taken. After each, what fsck.nvfs says of a cut of the power.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/log.h"
#include "meta/data_internal.h"
#include "meta/lookups.h"
#include "meta/orphan.h"
#include "meta/tenant.h"
#include "tests/unit/cut_check.h"
#include "tests/unit/data_rig.h"
#include "tests/unit/unit.h"

#define MIB ((uint64_t)1 << 20)
#define BLOCK ((uint64_t)NVFS_BLOCK_SIZE)

static uint8_t block[MIB] __attribute__((aligned(4096)));

static void quiet(enum log_level level, const char *line, void *arg)
{
	(void)level, (void)line, (void)arg;
}

/* ---- What a cut of the power leaves ---- */

static void check_cut(struct rig *rig, const char *when)
{
	struct device *after;

	for (unsigned seed = 1; seed <= 3; seed++) {
		ck_assert_int_eq(sim_snapshot_cut(rig->dev[0], seed * 7919, &after), 0);
		cut_check(after, "%s", when);
		device_close(after);
	}
}

#define STATES_MAX 24

/* States after cuts at steps of the device that are chosen by `every`. */
static struct states {
	struct device *dev[STATES_MAX];
	_Atomic unsigned count;
	unsigned every;
} states;

/* On whatever thread did the I/O. */
static void keep_state(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	unsigned at;

	(void)op;
	(void)arg;
	if (step % states.every)
		return;
	at = atomic_fetch_add(&states.count, 1);
	if (at < STATES_MAX && sim_snapshot_cut(dev, step, &states.dev[at]))
		states.dev[at] = NULL;
}

static void states_begin(struct rig *rig, unsigned every)
{
	memset(&states, 0, sizeof(states));
	states.every = every;
	sim_set_step_hook(rig->dev[0], keep_state, NULL);
}

static void states_check(struct rig *rig, const char *when)
{
	sim_set_step_hook(rig->dev[0], NULL, NULL);
	ck_assert_uint_gt(atomic_load(&states.count), 0);
	for (unsigned i = 0; i < STATES_MAX; i++) {
		if (!states.dev[i])
			continue;
		cut_check(states.dev[i], "%s", when);
		device_close(states.dev[i]);
	}
}

static struct file *file_of(struct rig *rig, uint64_t ino)
{
	return inode_peek(rig->sv, ino)->file;
}

static int make_subvol(struct rig *rig, const char *name, uint64_t blocks, bool thin)
{
	const struct subvol_options so = { .size_bytes = blocks * BLOCK, .thin = thin };

	return subvol_create(rig->pool, name, &so, NULL, 0);
}

static void fill(struct rig *rig, uint64_t ino, uint64_t blocks)
{
	uint64_t at = 0;

	while (at < blocks) {
		uint64_t n = blocks - at < MIB / BLOCK ? blocks - at : MIB / BLOCK;

		ck_assert_int_eq(rig_write(rig, ino, at * BLOCK, block, n * BLOCK, 0), (ssize_t)(n * BLOCK));
		at += n;
	}
}

/* One block in each chunk. */
static void scatter(struct rig *rig, uint64_t ino, uint64_t chunks)
{
	for (uint64_t i = 0; i < chunks; i++) {
		ck_assert_int_eq(rig_write(rig, ino, i * CHUNK_BYTES, block, BLOCK, 0), (ssize_t)BLOCK);
		if (i % 1000 == 999)
			ck_assert_int_eq(rig_fsync(rig, ino), 0);
	}
	ck_assert_int_eq(rig_fsync(rig, ino), 0);
}

/* ---- Limits over a crash ---- */

/* What one file gave back is taken by another, and only that one is made durable. */
START_TEST(limit_holds_over_a_crash)
{
	struct rig_options options = { .size_bytes = 600 * BLOCK };
	struct rig rig;
	uint64_t a, b;

	rig_make(&rig, &options);
	a = rig_create(&rig, "a");
	b = rig_create(&rig, "b");
	fill(&rig, a, 500);
	ck_assert_int_eq(rig_sync(&rig), 0);
	if (_i == 0)
		ck_assert_int_eq(rig_truncate(&rig, a, 0), 0);
	else
		ck_assert_int_eq(rig_fallocate(&rig, a, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 500 * BLOCK), 0);
	ck_assert_uint_eq(rig_used(&rig), 1);
	fill(&rig, b, 500);
	ck_assert_int_eq(rig_fsync(&rig, b), 0);
	check_cut(&rig, "after the fsync");
	ck_assert_uint_eq(rig_used(&rig), 501);
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* A limit is lowered to what is used, and that is durable before what was given back is. */
START_TEST(lower_limit_holds_over_a_crash)
{
	struct rig rig;
	uint64_t a;

	rig_make(&rig, NULL);
	a = rig_create(&rig, "a");
	fill(&rig, a, 500);
	ck_assert_int_eq(rig_sync(&rig), 0);
	ck_assert_int_eq(rig_truncate(&rig, a, BLOCK), 0);
	ck_assert_int_eq(subvol_resize(rig.pool, "vol", BLOCK, 0, NULL, 0), -EBUSY);
	ck_assert_int_eq(subvol_resize(rig.pool, "vol", 2 * BLOCK, 0, NULL, 0), 0);
	check_cut(&rig, "after the resize");
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* The same for inodes: what was removed is not in the database yet. */
START_TEST(lower_inode_limit_holds_over_a_crash)
{
	struct rig rig;
	uint64_t ino[10];
	char name[16];

	rig_make(&rig, NULL);
	for (unsigned i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		ino[i] = rig_create(&rig, name);
	}
	ck_assert_int_eq(rig_sync(&rig), 0);
	for (unsigned i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		rig_unlink(&rig, name);
		rig_forget(&rig, ino[i]);
	}
	while (reaper_busy(rig.sv))
		reactor_run_once(rig.reactor, 1000000);
	ck_assert_int_eq(subvol_resize(rig.pool, "vol", 0, 1, NULL, 0), 0);
	check_cut(&rig, "after the resize");
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* Space that a thin subvolume gave back is promised to another, and that is durable first. */
START_TEST(claims_hold_over_a_crash)
{
	struct rig rig;
	struct pool_stats st;
	uint64_t a, left;

	rig_make(&rig, NULL);
	ck_assert_int_eq(subvol_close(rig.sv), 0);
	ck_assert_int_eq(subvol_delete(rig.pool, "vol", NULL, 0), 0);
	ck_assert_int_eq(make_subvol(&rig, "vol", 4000, true), 0);
	rig.sv = NULL;
	a = rig_create(&rig, "a");
	fill(&rig, a, 2000);
	ck_assert_int_eq(rig_sync(&rig), 0);
	ck_assert_int_eq(rig_truncate(&rig, a, 0), 0);
	pool_stats(rig.pool, &st);
	for (left = st.data_blocks; make_subvol(&rig, "claim", left, false); left -= 10)
		ck_assert_uint_gt(left, 10);
	check_cut(&rig, "after the claim");
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* ---- All room is taken ---- */

#define MANY 40

/* A full claim in a pool without more room is overwritten by many direct writes at a time. */
START_TEST(full_pool_takes_many_direct_writes)
{
	struct rig_options options = { .size_bytes = 72 * MIB, .dirty_bytes = 4 * MIB };
	struct rig_call calls[MANY] = { 0 };
	struct rig rig;
	uint64_t ino, end = 0;

	rig_make(&rig, &options);
	ino = rig_create(&rig, "a");
	for (uint64_t left = 40000; left; left -= left > 100 ? 100 : 1)
		if (!make_subvol(&rig, "rest", left, false))
			break;
	while (rig_write(&rig, ino, end, block, MIB, 0) == (ssize_t)MIB)
		end += MIB;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < MANY; i++)
			rig_start_write(&rig, &calls[i], ino, i * MIB, block, MIB, i == 20 ? 0 : DATA_DIRECT);
		for (unsigned i = 0; i < MANY; i++)
			ck_assert_int_eq(rig_wait(&rig, &calls[i]), (ssize_t)MIB);
	}
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* What a large truncation gave back can be used at once. */
START_TEST(full_subvolume_is_writable_after_a_truncation)
{
	struct rig_options options = { .device_bytes = 256 * MIB, .size_bytes = 3001 * BLOCK };
	struct rig rig;
	uint64_t a, b;

	rig_make(&rig, &options);
	a = rig_create(&rig, "a");
	b = rig_create(&rig, "b");
	scatter(&rig, a, 3000);
	rig_reopen(&rig);
	a = rig_lookup(&rig, "a");
	b = rig_lookup(&rig, "b");
	ck_assert_int_eq(rig_write(&rig, b, 0, block, 1, 0), -ENOSPC);
	ck_assert_int_eq(rig_truncate(&rig, a, 0), 0);
	ck_assert_ptr_nonnull(file_of(&rig, a)->cuts);
	ck_assert_int_eq(rig_write(&rig, b, 0, block, BLOCK, 0), (ssize_t)BLOCK);
	fill(&rig, b, 2900);
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* Who waits for room has no slots, or many of them could hold all; and no epoch, which keeps blocks from being reused. */
START_TEST(waiting_writers_hold_nothing)
{
	struct rig_options options = { .size_bytes = 600 * BLOCK };
	struct rig_call calls[8] = { 0 };
	struct rig rig;
	uint8_t *buf = calloc(1, MIB);
	uint64_t a, b;

	rig_make(&rig, &options);
	a = rig_create(&rig, "a");
	b = rig_create(&rig, "b");
	ck_assert_int_eq(rig_write(&rig, b, 0, buf, 8 * BLOCK, 0), 8 * BLOCK);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(rig_write(&rig, a, i * MIB, buf, MIB, 0), MIB);
	ck_assert_int_eq(rig_sync(&rig), 0);
	ck_assert_int_eq(rig_truncate(&rig, a, 0), 0); /* taken until it is put */
	for (unsigned i = 0; i < 8; i++)
		rig_start_write(&rig, &calls[i], b, i * BLOCK + 100, buf, 150 * BLOCK, 0);
	for (unsigned i = 0, turns = 0; i < 8; turns++) {
		ck_assert_uint_lt(turns, 1000000);
		for (unsigned j = 0; j < 8; j++)
			ck_assert(calls[j].done || !calls[j].op.io || !calls[j].op.queue ||
				  (!calls[j].op.io->nslots && !calls[j].op.io->in_epoch));
		i += calls[i].done;
		if (i < 8)
			rig_turn(&rig, 1);
	}
	for (unsigned i = 0; i < 8; i++)
		ck_assert_int_eq(calls[i].result, 150 * BLOCK);
	rig_check(&rig);
	rig_free(&rig);
	free(buf);
}
END_TEST

/* ---- Damaged inline data ---- */

#define INLINE_BYTES 100u

/* A small file, opened again with a wrong checksum in its record. */
static uint64_t damaged_inline(struct rig *rig)
{
	uint8_t key[KEY_SIZE_LEN], value[SIZE_REC_MAX], buf[INLINE_BYTES];
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	cleanup_db_value struct db_value old = { 0 };
	struct size_rec rec;
	uint64_t ino;
	size_t len;

	rig_make(rig, NULL);
	ino = rig_create(rig, "a");
	memset(buf, 7, sizeof(buf));
	ck_assert_int_eq(rig_write(rig, ino, 0, buf, sizeof(buf), 0), sizeof(buf));
	ck_assert_int_eq(rig_fsync(rig, ino), 0);
	len = key_size(key, rig->sv->tree, ino, rig->sv->node);
	ck_assert_int_eq(db_get(rig->pool->db, DB_NS, key, len, 0, &old), 0);
	ck_assert_int_eq(size_rec_decode(old.data, old.len, &rec), 0);
	ck_assert(rec.is_inline);
	rec.inline_crc ^= 1;
	db_batch_put(rig->pool->db, batch, DB_NS, key, len, value, size_rec_encode(&rec, value));
	ck_assert_int_eq(db_write(rig->pool->db, batch, 0), 0);
	db_value_release(&old);
	memset(&old, 0, sizeof(old));
	rig_reopen(rig);
	return rig_lookup(rig, "a");
}

/* What is in the way of reading it is gone, also for the next worker. */
static void inline_is_whole(struct rig *rig, uint64_t ino, const uint8_t *want, size_t len)
{
	uint8_t got[2 * NVFS_BLOCK_SIZE];

	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(rig_read(rig, ino, 0, got, sizeof(got)), (ssize_t)len);
		ck_assert_mem_eq(got, want, len);
		rig_check(rig);
		rig_reopen(rig);
		ino = rig_lookup(rig, "a");
	}
	rig_free(rig);
}

enum replacing { WRITE_BLOCK, WRITE_EXACTLY, WRITE_DIRECT, TRUNCATE, ZERO, PUNCH, COPY, REPLACINGS };

START_TEST(damaged_inline_can_be_replaced)
{
	static uint8_t buf[2 * NVFS_BLOCK_SIZE] __attribute__((aligned(4096)));
	struct rig rig;
	uint64_t ino = damaged_inline(&rig), other;
	size_t len = INLINE_BYTES;

	memset(buf, _i == ZERO || _i == PUNCH ? 0 : 9, sizeof(buf));
	log_set_sink(quiet, NULL);
	ck_assert_int_eq(rig_read(&rig, ino, 0, buf + NVFS_BLOCK_SIZE, 10), -EIO);
	switch (_i) {
	case WRITE_BLOCK:
	case WRITE_DIRECT:
		len = NVFS_BLOCK_SIZE;
		ck_assert_int_eq(rig_write(&rig, ino, 0, buf, len, _i == WRITE_DIRECT ? DATA_DIRECT : 0), (ssize_t)len);
		break;
	case WRITE_EXACTLY:
		ck_assert_int_eq(rig_write(&rig, ino, 0, buf, len, DATA_SYNC), (ssize_t)len);
		break;
	case TRUNCATE:
		len = 0;
		ck_assert_int_eq(rig_truncate(&rig, ino, 0), 0);
		break;
	case ZERO:
		ck_assert_int_eq(rig_fallocate(&rig, ino, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 0, BLOCK), 0);
		break;
	case PUNCH:
		ck_assert_int_eq(rig_fallocate(&rig, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BLOCK), 0);
		break;
	default:
		other = rig_create(&rig, "b");
		len = NVFS_BLOCK_SIZE;
		ck_assert_int_eq(rig_write(&rig, other, 0, buf, len, DATA_DIRECT), (ssize_t)len);
		ck_assert_int_eq(rig_copy(&rig, other, 0, ino, 0, len), (ssize_t)len);
	}
	log_set_sink(NULL, NULL);
	inline_is_whole(&rig, ino, buf, len);
}
END_TEST

static void keep_line(enum log_level level, const char *line, void *arg)
{
	(void)level;
	snprintf(arg, 300, "%s", line);
}

START_TEST(damaged_inline_is_not_made_good)
{
	struct pool_stats stats;
	char line[300] = "";
	struct rig rig;
	uint64_t ino = damaged_inline(&rig);
	uint8_t buf[INLINE_BYTES] = { 0 };

	log_set_sink(quiet, NULL);
	ck_assert_int_eq(rig_write(&rig, ino, 1, buf, INLINE_BYTES, 0), -EIO);
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, INLINE_BYTES - 1, 0), -EIO);
	ck_assert_int_eq(rig_write(&rig, ino, BLOCK, buf, 10, 0), -EIO);
	ck_assert_int_eq(rig_fallocate(&rig, ino, 0, 0, 2 * BLOCK), -EIO);
	ck_assert_int_eq(rig_fallocate(&rig, ino, FALLOC_FL_ZERO_RANGE, 10, BLOCK), -EIO);
	ck_assert_int_eq(rig_truncate(&rig, ino, 50), 0);
	ck_assert_int_eq(rig_read(&rig, ino, 0, buf, 10), -EIO);
	rig_reopen(&rig);
	ino = rig_lookup(&rig, "a");
	log_set_sink(keep_line, line);
	ck_assert_int_eq(rig_read(&rig, ino, 0, buf, 10), -EIO);
	log_set_sink(NULL, NULL);
	ck_assert_msg(strstr(line, ", offset 0: the checksum of its inline data does not match") != NULL, "%s", line);
	pool_stats(rig.pool, &stats);
	ck_assert_uint_eq(stats.checksum_errors, 1);
	rig_free(&rig);
}
END_TEST

/* ---- Cuts ---- */

/* A truncation by a cut, and the file is removed before the cut was put. */
START_TEST(removed_with_a_cut)
{
	struct rig_options options = { .device_bytes = 256 * MIB };
	struct rig rig;
	uint64_t a;

	rig_make(&rig, &options);
	a = rig_create(&rig, "a");
	scatter(&rig, a, 3000);
	rig_reopen(&rig);
	a = rig_lookup(&rig, "a");
	states_begin(&rig, 1);
	if (_i)
		ck_assert_int_eq(rig_truncate(&rig, a, 0), 0);
	rig_unlink(&rig, "a");
	rig_forget(&rig, a);
	while (reaper_busy(rig.sv)) {
		reactor_run_once(rig.reactor, 1000000);
		pool_commit_wait(rig.pool);
	}
	states_check(&rig, "while it was reaped");
	rig_check(&rig);
	ck_assert_uint_eq(rig_used(&rig), 0);
	rig_free(&rig);
}
END_TEST

static void cutter_settle(struct rig *rig)
{
	while (cutter_busy(rig->sv->data))
		reactor_run_once(rig->reactor, 1000000);
}

static int set_mtime(struct op *op, void *arg)
{
	const struct inode_attr in = { .mtime.tv_sec = 1 };
	struct inode_attr out;

	return attr_set(op, *(uint64_t *)arg, ATTR_MTIME, &in, &out);
}

/* New times for a file whose cuts could not be read yet: they are not forgotten. */
START_TEST(times_leave_cuts_alone)
{
	struct rig_options options = { .device_bytes = 256 * MIB };
	struct sim_faults faults = { .fail_read_ppm = 1000000 };
	struct rig_call sync = { 0 };
	struct rig rig, cut;
	uint8_t got[BLOCK], zeros[BLOCK] = { 0 };
	char name[16];
	uint64_t a;

	memset(block, 7, sizeof(block));
	rig_make(&rig, &options);
	for (unsigned i = 0; i < 500; i++) { /* the cut and the inode shall not be in one block of a table */
		snprintf(name, sizeof(name), "f%u", i);
		rig_create(&rig, name);
	}
	a = rig_create(&rig, "a");
	scatter(&rig, a, 3000);
	rig_reopen(&rig);
	a = rig_lookup(&rig, "a");
	ck_assert_int_eq(rig_truncate(&rig, a, 0), 0);
	ck_assert_ptr_nonnull(file_of(&rig, a)->cuts);
	ck_assert_int_eq(rig_truncate(&rig, a, 3000 * CHUNK_BYTES), 0);
	/* The cut is durable, and its reaper, which the reactor runs, has done nothing yet. */
	rig_start_fsync(&rig, &sync, a);
	while (!file_of(&rig, a)->cuts->put)
		rig_turn(&rig, 1);
	ck_assert_int_eq(pool_commit_wait(rig.pool), 0);
	rig_cut(&rig, &cut, 1);
	ck_assert_int_eq(rig_wait(&rig, &sync), 0);
	ck_assert_int_eq(rig_open(&cut), 0);
	ck_assert_int_eq(subvol_open(cut.pool, "vol", false, &cut.sv), 0);
	log_set_sink(quiet, NULL);
	sim_set_faults(cut.dev[0], &faults);
	cutter_settle(&cut);
	sim_set_faults(cut.dev[0], NULL);
	ck_assert_int_eq(subvol_call(cut.sv, set_mtime, &a), 0);
	ck_assert(!file_of(&cut, a)->cuts_known);
	ck_assert_int_eq(rig_fsync(&cut, a), 0);
	rig_reopen(&cut);
	a = rig_lookup(&cut, "a");
	ck_assert_int_eq(rig_read(&cut, a, 2900 * CHUNK_BYTES, got, BLOCK), (ssize_t)BLOCK);
	ck_assert_mem_eq(got, zeros, BLOCK);
	cutter_settle(&cut);
	rig_check(&cut);
	rig_free(&cut);
	rig_free(&rig);
}
END_TEST

/* What a file of one block in each chunk is after a cut of the power: all of the range is as before, or all of it is zeros. */
static void check_whole(struct rig *rig, unsigned n, uint64_t chunks, uint64_t from, uint64_t to)
{
	uint8_t got[BLOCK], old[BLOCK];
	uint64_t a, kept = 0, zeroed = 0, partial[2] = { from / CHUNK_BYTES, to / CHUNK_BYTES };

	memset(old, 5, sizeof(old));
	a = rig_lookup(rig, "a");
	for (uint64_t i = 0; i < chunks; i++) {
		ck_assert_int_eq(rig_read(rig, a, i * CHUNK_BYTES, got, BLOCK), (ssize_t)BLOCK);
		if (i < partial[0] || i > partial[1]) {
			ck_assert_mem_eq(got, old, BLOCK);
			continue;
		}
		/* The range begins and ends in a block. */
		ck_assert_int_eq(got[0], i == partial[0] ? 5 : got[BLOCK / 2 - 1]);
		ck_assert_int_eq(got[BLOCK - 1], i == partial[1] ? 5 : got[BLOCK / 2]);
		kept += got[i == partial[1] ? 0 : BLOCK - 1] == 5;
		zeroed += got[i == partial[1] ? 0 : BLOCK - 1] == 0;
	}
	ck_assert_msg(!kept || !zeroed, "state %u: %llu chunks as they were, %llu zeroed", n, (unsigned long long)kept,
		      (unsigned long long)zeroed);
	ck_assert_uint_eq(kept + zeroed, partial[1] - partial[0] + 1);
	rig_check(rig);
}

/* Punching and zeroing of more chunks than one handler reads, with a timer that puts what there is in between. */
START_TEST(large_range_is_cleared_as_a_whole)
{
	struct rig_options options = { .device_bytes = 512 * MIB, .size_bytes = 320 * MIB, .commit_ms = 1 };
	const uint64_t chunks = 1250, from = 10 * CHUNK_BYTES + BLOCK / 2, to = 1240 * CHUNK_BYTES + BLOCK / 2;
	const int mode = (_i ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE) | FALLOC_FL_KEEP_SIZE;
	struct rig_call clear = { 0 };
	struct rig rig, cut;
	uint64_t a;

	memset(block, 5, sizeof(block));
	rig_make(&rig, &options);
	a = rig_create(&rig, "a");
	scatter(&rig, a, chunks);
	rig_reopen(&rig);
	a = rig_lookup(&rig, "a");
	states_begin(&rig, 1);
	rig_start_fallocate(&rig, &clear, a, mode, from, to - from);
	while (!clear.done || file_of(&rig, a)->cuts) {
		reactor_run_once(rig.reactor, 1000000);
		pool_commit_wait(rig.pool);
	}
	ck_assert_int_eq(clear.result, 0);
	ck_assert_int_eq(rig_sync(&rig), 0);
	sim_set_step_hook(rig.dev[0], NULL, NULL);
	ck_assert_uint_gt(atomic_load(&states.count), 1);
	for (unsigned i = 0; i < STATES_MAX; i++) {
		if (!states.dev[i])
			continue;
		cut_check(states.dev[i], "while the range was cleared");
		cut = (struct rig){ .options = options, .devices = 1, .dev[0] = states.dev[i] };
		ck_assert_int_eq(rig_open(&cut), 0);
		check_whole(&cut, i, chunks, from, to);
		rig_free(&cut);
	}
	check_whole(&rig, STATES_MAX, chunks, from, to);
	if (_i)
		ck_assert_uint_ge(rig_used(&rig), 1230 * CHUNK_BLOCKS);
	else
		ck_assert_uint_eq(rig_used(&rig), 1 + chunks - 1229);
	rig_free(&rig);
}
END_TEST

#define ZEROED UINT64_C(5000)

/* Zeroing what is allocated needs nothing: nobody else gets the blocks meanwhile. */
START_TEST(zeroing_keeps_its_blocks)
{
	struct rig_options options = { .device_bytes = 2048 * MIB, .size_bytes = ZEROED * CHUNK_BYTES + BLOCK, .commit_ms = 1 };
	struct rig_call zero = { 0 };
	struct rig rig;
	uint64_t a, b;

	memset(block, 5, sizeof(block));
	rig_make(&rig, &options);
	a = rig_create(&rig, "a");
	b = rig_create(&rig, "b");
	ck_assert_int_eq(rig_fallocate(&rig, a, 0, 0, ZEROED * CHUNK_BYTES), 0);
	for (uint64_t i = 0; i < ZEROED; i += _i ? 1 : 300)
		ck_assert_int_eq(rig_write(&rig, a, i * CHUNK_BYTES, block, 4 * BLOCK, 0), 4 * (ssize_t)BLOCK);
	rig_reopen(&rig);
	a = rig_lookup(&rig, "a");
	b = rig_lookup(&rig, "b");
	ck_assert_int_eq(rig_write(&rig, a, 700 * CHUNK_BYTES, block, BLOCK, 0), BLOCK);
	rig_start_fallocate(&rig, &zero, a, FALLOC_FL_ZERO_RANGE, 0, ZEROED * CHUNK_BYTES);
	while (!zero.done) {
		reactor_run_once(rig.reactor, 1000000);
		ck_assert_int_eq(rig_write(&rig, b, 0, block, 1, 0), -ENOSPC);
	}
	ck_assert_int_eq(zero.result, 0);
	ck_assert_int_eq(rig_write(&rig, b, 0, block, 1, 0), -ENOSPC);
	ck_assert_uint_eq(rig_used(&rig), ZEROED * CHUNK_BLOCKS + 1);
	ck_assert_int_eq(rig_read(&rig, a, 700 * CHUNK_BYTES, block, MIB), MIB);
	for (unsigned i = 0; i < MIB; i++)
		ck_assert_int_eq(block[i], 0);
	rig_fsync(&rig, a);
	cutter_settle(&rig);
	check_cut(&rig, "after the zeroing");
	rig_check(&rig);
	ck_assert_uint_eq(rig_used(&rig), ZEROED * CHUNK_BLOCKS + 1);
	rig_free(&rig);
}
END_TEST

static unsigned cuts_of(const struct file *f)
{
	unsigned n = 0;

	for (const struct cut *cut = f->cuts; cut; cut = cut->next)
		n += !cut->done;
	return n;
}

/* The same range again and again: the last cut is enough. */
START_TEST(cuts_do_not_pile_up)
{
	struct rig_options options = { .device_bytes = 256 * MIB };
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	struct rig rig;
	uint64_t a;

	rig_make(&rig, &options);
	a = rig_create(&rig, "a");
	scatter(&rig, a, 3000);
	rig_reopen(&rig);
	a = rig_lookup(&rig, "a");
	ck_assert_int_eq(rig_fallocate(&rig, a, punch, 1700 * CHUNK_BYTES, 1200 * CHUNK_BYTES), 0);
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(rig_fallocate(&rig, a, punch, CHUNK_BYTES, 1500 * CHUNK_BYTES), 0);
	ck_assert_uint_eq(cuts_of(file_of(&rig, a)), 2);
	ck_assert_int_eq(rig_fsync(&rig, a), 0);
	check_cut(&rig, "with cuts");
	for (unsigned i = 0; i < 5; i++)
		ck_assert_int_eq(rig_fallocate(&rig, a, punch, 0, 2999 * CHUNK_BYTES), 0);
	ck_assert_uint_le(cuts_of(file_of(&rig, a)), 1);
	ck_assert_int_eq(rig_fsync(&rig, a), 0);
	check_cut(&rig, "with one cut");
	cutter_settle(&rig);
	rig_check(&rig);
	ck_assert_uint_eq(rig_used(&rig), 2);
	rig_free(&rig);
}
END_TEST

/* ---- A file of many chunks against a model ---- */

#define WIDE 2600u

struct wide {
	struct rig rig;
	uint64_t ino;
	unsigned seed, size; /* of the file, in chunks */
	uint8_t first[WIDE]; /* what the first block of each chunk has */
};

static unsigned rnd(struct wide *w, unsigned n)
{
	w->seed = w->seed * 1103515245u + 12345u;
	return (w->seed >> 8) % n;
}

static void wide_verify(struct wide *w, struct rig *rig, uint64_t ino)
{
	struct inode_attr attr;
	uint8_t got[BLOCK];

	rig_attr(rig, ino, &attr);
	ck_assert_uint_eq(attr.size_bytes, w->size * CHUNK_BYTES);
	for (unsigned i = 0; i < w->size; i++) {
		ck_assert_int_eq(rig_read(rig, ino, i * CHUNK_BYTES, got, BLOCK), (ssize_t)BLOCK);
		if (got[0] != w->first[i] || memcmp(got, got + 1, BLOCK - 1))
			ck_abort_msg("chunk %u: %u, not %u", i, got[0], w->first[i]);
	}
}

static void wide_write(struct wide *w, unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n && i < WIDE; i++) {
		memset(block, (int)(1 + rnd(w, 255)), BLOCK);
		w->first[i] = block[0];
		ck_assert_int_eq(rig_write(&w->rig, w->ino, i * CHUNK_BYTES, block, BLOCK, rnd(w, 4) ? 0 : DATA_DIRECT), BLOCK);
		if (w->size <= i) {
			ck_assert_int_eq(rig_truncate(&w->rig, w->ino, (i + 1) * CHUNK_BYTES), 0);
			w->size = i + 1;
		}
	}
}

static void wide_clear(struct wide *w, int mode)
{
	unsigned from = rnd(w, WIDE), n = rnd(w, 4) ? 1 + rnd(w, WIDE - from) : 1 + rnd(w, 20);
	unsigned end = from + n < WIDE ? from + n : WIDE;

	ck_assert_int_eq(rig_fallocate(&w->rig, w->ino, mode | FALLOC_FL_KEEP_SIZE, from * CHUNK_BYTES, (end - from) * CHUNK_BYTES), 0);
	memset(w->first + from, 0, end - from);
}

static void wide_truncate(struct wide *w)
{
	unsigned size = rnd(w, WIDE);

	ck_assert_int_eq(rig_truncate(&w->rig, w->ino, size * CHUNK_BYTES), 0);
	if (size < w->size)
		memset(w->first + size, 0, WIDE - size);
	w->size = size;
}

/* What was synced is what a cut leaves, however far the reaper is. */
static void wide_cut(struct wide *w)
{
	struct rig cut;
	uint64_t ino;

	ck_assert_int_eq(rig_fsync(&w->rig, w->ino), 0);
	rig_turn(&w->rig, rnd(w, 20));
	rig_cut(&w->rig, &cut, w->seed);
	cut_check(cut.dev[0], "after a sync");
	ck_assert_int_eq(rig_open(&cut), 0);
	ino = rig_lookup(&cut, "a");
	wide_verify(w, &cut, ino);
	if (rnd(w, 2)) {
		rig_check(&cut);
		cutter_settle(&cut);
		wide_verify(w, &cut, ino);
	}
	rig_check(&cut);
	rig_free(&cut);
}

static void wide_step(struct wide *w)
{
	switch (rnd(w, 16)) {
	case 0:
	case 1:
		wide_clear(w, FALLOC_FL_PUNCH_HOLE);
		break;
	case 2:
		wide_clear(w, FALLOC_FL_ZERO_RANGE);
		break;
	case 3:
		wide_truncate(w);
		break;
	case 4:
		ck_assert_int_eq(rig_truncate(&w->rig, w->ino, WIDE * CHUNK_BYTES), 0);
		w->size = WIDE;
		break;
	case 5:
		wide_write(w, 0, WIDE);
		break;
	case 6:
		rig_reopen(&w->rig);
		w->ino = rig_lookup(&w->rig, "a");
		break;
	case 7:
		wide_cut(w);
		break;
	case 8:
		wide_verify(w, &w->rig, w->ino);
		break;
	case 9:
		cutter_settle(&w->rig);
		break;
	case 10:
		ck_assert_int_eq(rig_fsync(&w->rig, w->ino), 0);
		break;
	case 11:
		rig_turn(&w->rig, rnd(w, 10));
		break;
	default:
		wide_write(w, rnd(w, WIDE), 1 + rnd(w, 4));
		break;
	}
}

START_TEST(wide_file)
{
	struct rig_options options = { .device_bytes = 2048 * MIB, .size_bytes = 700 * MIB, .commit_ms = _i & 1 ? 2 : 0,
				       .compress = _i & 2, .map_cache_bytes = _i & 4 ? MIB : 0 };
	struct wide *w = calloc(1, sizeof(*w));

	w->seed = (unsigned)_i + (unsigned)strtoul(getenv("NVFS_TEST_SEED") ?: "0", NULL, 0) * 7907u;
	rig_make(&w->rig, &options);
	w->ino = rig_create(&w->rig, "a");
	wide_write(w, 0, WIDE);
	for (unsigned i = 0; i < 60; i++)
		wide_step(w);
	wide_verify(w, &w->rig, w->ino);
	cutter_settle(&w->rig);
	rig_check(&w->rig);
	rig_free(&w->rig);
	free(w);
}
END_TEST

/* ---- The reaper ---- */

static void reaper_settle(struct rig *rig)
{
	while (reaper_busy(rig->sv))
		reactor_run_once(rig->reactor, 1000000);
}

/* While the reaper waits for the maps of an inode, somebody finds it by a handle, and writes. */
START_TEST(orphan_is_used_again)
{
	struct rig_options options = { .device_bytes = 256 * MIB };
	struct rig rig;
	uint8_t got[BLOCK];
	uint64_t a;

	memset(block, 8, sizeof(block));
	rig_make(&rig, &options);
	a = rig_create(&rig, "a");
	scatter(&rig, a, 3000);
	rig_reopen(&rig);
	a = rig_lookup(&rig, "a");
	rig_unlink(&rig, "a");
	rig_forget(&rig, a);
	while (!file_of(&rig, a)->drop)
		reactor_run_once(rig.reactor, 100000);
	ck_assert(!inode_peek(rig.sv, a)->deleted);
	lookup_add(rig.sv, a, 1);
	memset(block, 9, sizeof(block));
	ck_assert_int_eq(rig_write(&rig, a, 17 * CHUNK_BYTES, block, BLOCK, 0), (ssize_t)BLOCK);
	reaper_settle(&rig);
	ck_assert_int_eq(rig_read(&rig, a, 17 * CHUNK_BYTES, got, BLOCK), (ssize_t)BLOCK);
	ck_assert_mem_eq(got, block, BLOCK);
	if (_i)
		ck_assert_int_eq(rig_fsync(&rig, a), 0);
	ck_assert_uint_eq(rig_used(&rig), 3000);
	rig_forget(&rig, a);
	reaper_settle(&rig);
	ck_assert_uint_eq(rig_used(&rig), 0);
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* ---- Deleted subvolumes ---- */

START_TEST(sweep_is_clean_at_any_moment)
{
	struct rig rig;
	char name[16];

	rig_make(&rig, NULL);
	for (unsigned i = 0; i < 1500; i++) {
		uint64_t ino;

		snprintf(name, sizeof(name), "f%u", i);
		ino = rig_create(&rig, name);
		ck_assert_int_eq(rig_write(&rig, ino, 0, block, i & 1 ? 100 : BLOCK, 0), i & 1 ? 100 : (ssize_t)BLOCK);
	}
	ck_assert_int_eq(subvol_close(rig.sv), 0);
	rig.sv = NULL;
	states_begin(&rig, 1);
	ck_assert_int_eq(subvol_delete(rig.pool, "vol", NULL, 0), 0);
	do {
		usleep(500);
		pool_commit_wait(rig.pool);
	} while (subvol_sweeps_left(rig.pool));
	states_check(&rig, "while it was swept");
	rig_free(&rig);
}
END_TEST

/* ---- Failures ---- */

/* Where the data zones begin, which are behind those of metadata. */
static uint64_t data_zones_at(const struct rig *rig)
{
	const struct metafs_range *ranges;

	ck_assert_uint_eq(metafs_ranges(rig->pool->metafs, &ranges), 1);
	ck_assert_uint_eq(ranges[0].first, 0);
	return label_zone_block(&rig->pool->label, ranges[0].count) * NVFS_BLOCK_SIZE;
}

/* What could not be written back when the subvolume was closed is not charged to anybody any more. */
START_TEST(failed_close_gives_back_charges)
{
	struct sim_faults faults = { .bad_to_bytes = UINT64_MAX };
	struct rig rig;
	struct pool_tenant *t;
	int64_t loose;
	uint64_t ino;

	log_set_sink(quiet, NULL);
	rig_make(&rig, NULL);
	ck_assert_int_eq(subvol_close(rig.sv), 0);
	ck_assert_int_eq(subvol_delete(rig.pool, "vol", NULL, 0), 0);
	ck_assert_int_eq(make_subvol(&rig, "vol", 4000, true), 0);
	rig.sv = NULL;
	ino = rig_create(&rig, "a");
	fill(&rig, ino, 10);
	ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	t = rig.sv->tenant;
	while (subvol_sweeps_left(rig.pool))
		usleep(1000);
	loose = atomic_load(&rig.pool->loose_blocks);
	ck_assert_int_eq(atomic_load(&t->used_blocks), 11);
	fill(&rig, ino, 100);
	ck_assert_int_eq(atomic_load(&t->used_blocks), 101);
	faults.bad_from_bytes = data_zones_at(&rig);
	sim_set_faults(rig.dev[0], &faults);
	ck_assert_int_eq(subvol_close(rig.sv), -EIO);
	rig.sv = NULL;
	sim_set_faults(rig.dev[0], NULL);
	ck_assert_int_eq(atomic_load(&t->used_blocks), 11);
	ck_assert_int_eq(atomic_load(&rig.pool->loose_blocks), loose);
	ino = rig_lookup(&rig, "a");
	ck_assert_uint_eq(rig_used(&rig), 11);
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("accounting");

	unit_add(suite, "limit", limit_holds_over_a_crash, 2);
	unit_add(suite, "lower", lower_limit_holds_over_a_crash, 1);
	unit_add(suite, "lower_inodes", lower_inode_limit_holds_over_a_crash, 1);
	unit_add(suite, "claims", claims_hold_over_a_crash, 1);
	unit_add(suite, "direct", full_pool_takes_many_direct_writes, 1);
	unit_add(suite, "truncated", full_subvolume_is_writable_after_a_truncation, 1);
	unit_add(suite, "waiting", waiting_writers_hold_nothing, 1);
	unit_add(suite, "inline", damaged_inline_can_be_replaced, REPLACINGS);
	unit_add(suite, "inline_part", damaged_inline_is_not_made_good, 1);
	unit_add(suite, "removed", removed_with_a_cut, 2);
	unit_add(suite, "times", times_leave_cuts_alone, 1);
	unit_add(suite, "large", large_range_is_cleared_as_a_whole, 2);
	unit_add(suite, "zeroing", zeroing_keeps_its_blocks, 2);
	unit_add(suite, "pile", cuts_do_not_pile_up, 1);
	unit_add(suite, "wide", wide_file, 8);
	unit_add(suite, "orphan", orphan_is_used_again, 2);
	unit_add(suite, "sweep", sweep_is_clean_at_any_moment, 1);
	unit_add(suite, "close", failed_close_gives_back_charges, 1);
	return unit_run_suite(suite);
}
