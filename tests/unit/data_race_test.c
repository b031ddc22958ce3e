/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls that meet a write-back, a failure or damage of the same file at a chosen moment. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "meta/data_internal.h"
#include "meta/orphan.h"
#include "tests/unit/data_rig.h"
#include "tests/unit/unit.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define BLOCK ((uint64_t)NVFS_BLOCK_SIZE)

static void quiet(enum log_level level, const char *line, void *arg)
{
	unsigned *lines = arg;

	(void)line;
	if (lines && level <= LOG_LEVEL_ERROR)
		++*lines;
}

static void expect(struct rig *rig, uint64_t ino, uint64_t offset, const uint8_t *data, size_t len)
{
	uint8_t *got = malloc(len);

	ck_assert_int_eq(rig_read(rig, ino, offset, got, len), (ssize_t)len);
	ck_assert_mem_eq(got, data, len);
	free(got);
}

static struct file *file_of(struct rig *rig, uint64_t ino)
{
	return inode_peek(rig->sv, ino)->file;
}

/* ---- A cycle that makes a file inline ---- */

/* A small file is about to become inline when it grows behind its first block: the record must not say both. */
START_TEST(write_meets_the_way_to_inline)
{
	struct rig_call fsync = { 0 };
	struct rig rig;
	uint8_t *buf = aligned_alloc(4096, 8192), all[28 * KIB] = { 0 };
	const uint64_t at = _i & 1 ? 20 * KIB : 0; /* another block, or the one that is on its way */
	uint64_t ino;

	memset(buf, 0x21, 8192);
	rig_make(&rig, NULL);
	ino = rig_create(&rig, "a");
	ck_assert_int_eq(rig_write(&rig, ino, 0, "small", 5, 0), 5);
	memcpy(all, "small", 5);
	rig_start_fsync(&rig, &fsync, ino);
	ck_assert_ptr_nonnull(file_of(&rig, ino)->cycle);
	ck_assert_int_eq(rig_write(&rig, ino, at, buf, 8192, _i & 2 ? DATA_DIRECT : 0), 8192);
	memcpy(all + at, buf, 8192);
	expect(&rig, ino, 0, all, at + 8192);
	ck_assert_int_eq(rig_wait(&rig, &fsync), 0);
	expect(&rig, ino, 0, all, at + 8192);
	ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	expect(&rig, ino, 0, all, at + 8192);
	rig_check(&rig);
	ck_assert_uint_eq(rig_used(&rig), 1 + (at ? 3 : 2));
	rig_reopen(&rig);
	ino = rig_lookup(&rig, "a");
	expect(&rig, ino, 0, all, at + 8192);
	rig_check(&rig);
	rig_free(&rig);
	free(buf);
}
END_TEST

/* ---- Damage of inline data ---- */

/* As a fault below RocksDB would leave it: one bit of the data is another, its checksum is as it was. */
static void damage_inline(struct rig *rig, uint64_t ino)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	cleanup_db_value struct db_value value = { 0 };
	uint8_t key[KEY_SIZE_LEN], bytes[SIZE_REC_MAX];
	size_t len = key_size(key, rig->sv->tree, ino, rig->sv->node);

	ck_assert_int_eq(db_get(rig->pool->db, DB_NS, key, len, 0, &value), 0);
	memcpy(bytes, value.data, value.len);
	bytes[value.len - 1] ^= 4;
	db_batch_put(rig->pool->db, batch, DB_NS, key, len, bytes, value.len);
	ck_assert_int_eq(db_write(rig->pool->db, batch, 0), 0);
}

/* Whatever writes the record again, damaged data does not become good data. */
START_TEST(damaged_inline_data_stays_damaged)
{
	const struct timespec when = { .tv_sec = 1000 };
	struct rig rig;
	unsigned lines = 0;
	uint8_t buf[100], got[100];
	uint64_t ino;

	memset(buf, 0x33, sizeof(buf));
	rig_make(&rig, NULL);
	ino = rig_create(&rig, "a");
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, sizeof(buf), 0), sizeof(buf));
	ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	damage_inline(&rig, ino);
	rig_reopen(&rig);
	ino = rig_lookup(&rig, "a");
	log_set_sink(quiet, &lines);
	ck_assert_int_eq(rig_read(&rig, ino, 0, got, sizeof(got)), -EIO);
	ck_assert_uint_eq(lines, 1);
	ck_assert_int_eq(rig_write(&rig, ino, 5, buf, 1, 0), -EIO);
	switch (_i) {
	case 0:
		file_set_times(file_of(&rig, ino), &when, &when);
		break;
	case 1:
		ck_assert_int_eq(rig_truncate(&rig, ino, 80), 0);
		break;
	case 2:
		ck_assert_int_eq(rig_truncate(&rig, ino, 2 * MIB), 0);
		break;
	default:
		ck_assert_int_eq(rig_fallocate(&rig, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10, 10), 0);
	}
	ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	ck_assert_int_eq(rig_read(&rig, ino, 0, got, 50), -EIO);
	rig_reopen(&rig);
	ino = rig_lookup(&rig, "a");
	ck_assert_int_eq(rig_read(&rig, ino, 0, got, 50), -EIO);
	log_set_sink(NULL, NULL);
	/* What replaces all of it is good. */
	ck_assert_int_eq(rig_truncate(&rig, ino, 0), 0);
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, sizeof(buf), 0), sizeof(buf));
	rig_reopen(&rig);
	ino = rig_lookup(&rig, "a");
	expect(&rig, ino, 0, buf, sizeof(buf));
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* ---- Write-back that fails for somebody who waits for it ---- */

START_TEST(copy_ends_when_its_source_cannot_be_written)
{
	struct sim_faults faults = { .fail_write_ppm = 1000000 };
	struct rig_call copy = { 0 };
	struct rig rig;
	uint8_t buf[16 * KIB];
	uint64_t from, to;

	memset(buf, 0x44, sizeof(buf));
	rig_make(&rig, NULL);
	from = rig_create(&rig, "from");
	to = rig_create(&rig, "to");
	ck_assert_int_eq(rig_write(&rig, from, 0, buf, sizeof(buf), 0), sizeof(buf));
	log_set_sink(quiet, NULL);
	sim_set_faults(rig.dev[0], &faults);
	rig_start_copy(&rig, &copy, from, 0, to, 0, sizeof(buf));
	rig_wait(&rig, &copy);
	sim_set_faults(rig.dev[0], NULL);
	log_set_sink(NULL, NULL);
	ck_assert_int_eq(copy.result, -EIO);
	ck_assert_int_eq(rig_copy(&rig, from, 0, to, 0, sizeof(buf)), sizeof(buf));
	expect(&rig, to, 0, buf, sizeof(buf));
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* The reaper of a file whose last change cannot be put gives up, and does not keep the reactor busy. */
START_TEST(reaper_ends_when_nothing_can_be_put)
{
	struct sim_faults faults = { .fail_write_ppm = 1000000, .fail_flush_ppm = 1000000 };
	struct rig rig;
	uint8_t buf[16 * KIB];
	uint64_t ino, other;

	memset(buf, 0x55, sizeof(buf));
	rig_make(&rig, NULL);
	other = rig_create(&rig, "other");
	ino = rig_create(&rig, "a");
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, sizeof(buf), 0), sizeof(buf));
	ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	ck_assert_int_eq(rig_fallocate(&rig, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, BLOCK), 0);
	rig_unlink(&rig, "a");
	log_set_sink(quiet, NULL);
	sim_set_faults(rig.dev[0], &faults);
	ck_assert_int_lt(rig_fsync(&rig, other), 0); /* the pool takes no more writes */
	rig_forget(&rig, ino);
	while (reaper_busy(rig.sv))
		reactor_run_once(rig.reactor, 1000000);
	rig_close(&rig);
	log_set_sink(NULL, NULL);
	sim_set_faults(rig.dev[0], NULL);
	rig_free(&rig);
}
END_TEST

/* ---- Every kind of change while cycles are under way ---- */

#define STORM_BYTES (600 * KIB)
#define STORM_SYNCS 3

struct storm {
	struct rig rig;
	struct rig_call syncs[STORM_SYNCS];
	uint64_t ino[2], size[2];
	uint8_t *data[2], *buf;
	unsigned seed;
	bool faults; /* the device may fail: what answers an error has changed nothing */
};

static unsigned rnd(struct storm *s, unsigned n)
{
	s->seed = s->seed * 1103515245u + 12345u;
	return (s->seed >> 8) % n;
}

/* Small files and their first blocks, the border of two chunks, and anything. */
static void storm_range(struct storm *s, uint64_t *offset, uint64_t *len)
{
	switch (rnd(s, 4)) {
	case 0:
		*offset = rnd(s, 3000);
		*len = rnd(s, 2000) + 1;
		break;
	case 1:
		*offset = rnd(s, 40 * KIB);
		*len = rnd(s, 12 * KIB) + 1;
		break;
	case 2:
		*offset = CHUNK_BYTES - rnd(s, 30 * KIB);
		*len = rnd(s, 60 * KIB) + 1;
		break;
	default:
		*offset = rnd(s, STORM_BYTES / 2);
		*len = rnd(s, STORM_BYTES / 2) + 1;
	}
	if (rnd(s, 2)) {
		*offset = *offset / BLOCK * BLOCK;
		*len = (*len + BLOCK - 1) / BLOCK * BLOCK;
	}
}

static bool storm_ok(const struct storm *s, ssize_t got, ssize_t want)
{
	if (!(s->faults && got == -EIO))
		ck_assert_int_eq(got, want);
	return got == want;
}

static void storm_zero(struct storm *s, unsigned f, uint64_t from, uint64_t to)
{
	if (to > s->size[f])
		to = s->size[f];
	if (from < to)
		memset(s->data[f] + from, 0, to - from);
}

static void storm_grow(struct storm *s, unsigned f, uint64_t to)
{
	if (s->size[f] < to)
		s->size[f] = to;
}

/* A direct write that goes by way of dirty blocks is accepted even when it is told that they could not be written. */
static bool storm_accepted(struct storm *s, unsigned f, uint64_t at, uint64_t len)
{
	uint8_t *got = malloc(len);
	bool all = rig_read(&s->rig, s->ino[f], at, got, len) == (ssize_t)len && !memcmp(got, s->buf, len);

	free(got);
	return all;
}

static void storm_write(struct storm *s, unsigned f, uint64_t at, uint64_t len)
{
	static const unsigned kinds[] = { 0, 0, DATA_DIRECT, DATA_DSYNC };
	unsigned flags = kinds[rnd(s, s->faults ? 3 : 4)];
	ssize_t n;

	for (uint64_t i = 0; i < len; i++)
		s->buf[i] = (uint8_t)(s->seed + (rnd(s, 3) ? 0 : i * 13) + (i >> 7));
	n = rig_write(&s->rig, s->ino[f], at, s->buf, len, flags);
	if (!storm_ok(s, n, (ssize_t)len) && !storm_accepted(s, f, at, len))
		return;
	memcpy(s->data[f] + at, s->buf, len);
	storm_grow(s, f, at + len);
}

static void storm_copy(struct storm *s, unsigned f, uint64_t at, uint64_t len)
{
	unsigned from = rnd(s, 2);
	uint64_t in = rnd(s, 100) * BLOCK;
	ssize_t n;

	at = at / BLOCK * BLOCK;
	if (at + len > STORM_BYTES || (from == f && in < at + len && at < in + len))
		return;
	n = rig_copy(&s->rig, s->ino[from], in, s->ino[f], at, len);
	if (n == -EOPNOTSUPP || (n == -EIO && s->faults))
		return;
	ck_assert_int_ge(n, 0);
	memcpy(s->data[f] + at, s->data[from] + in, (size_t)n);
	if (n)
		storm_grow(s, f, at + (uint64_t)n);
}

static void storm_change(struct storm *s)
{
	const int keep = FALLOC_FL_KEEP_SIZE;
	unsigned f = rnd(s, 2), what = rnd(s, 16);
	uint64_t at, len;

	storm_range(s, &at, &len);
	if (what < 7) {
		storm_write(s, f, at, len);
	} else if (what < 9) {
		uint64_t size = rnd(s, 3) ? at : 0;

		if (!storm_ok(s, rig_truncate(&s->rig, s->ino[f], size), 0))
			return;
		storm_zero(s, f, size, s->size[f]);
		s->size[f] = size;
	} else if (what < 11) {
		if (storm_ok(s, rig_fallocate(&s->rig, s->ino[f], FALLOC_FL_PUNCH_HOLE | keep, at, len), 0))
			storm_zero(s, f, at, at + len);
	} else if (what < 12) {
		if (storm_ok(s, rig_fallocate(&s->rig, s->ino[f], FALLOC_FL_ZERO_RANGE | keep, at, len), 0))
			storm_zero(s, f, at, at + len);
	} else if (what < 13) {
		if (storm_ok(s, rig_fallocate(&s->rig, s->ino[f], 0, at, len), 0))
			storm_grow(s, f, at + len);
	} else {
		storm_copy(s, f, at, len);
	}
}

/* A cycle without a commit: what fails is then the data, and not the log, which would be the end of the pool. */
static ssize_t put_only(struct rig_call *c)
{
	struct inode *inode;
	int r = inode_get(&c->op, c->ino, &inode);

	return r ? r : file_put_all(&c->op, inode);
}

static void storm_sync(struct storm *s)
{
	struct rig_call *c = &s->syncs[rnd(s, STORM_SYNCS)];

	if (c->fn && !c->done)
		return;
	if (c->fn)
		storm_ok(s, c->result, 0);
	memset(c, 0, sizeof(*c));
	c->fn = put_only;
	c->ino = s->ino[rnd(s, 2)];
	if (s->faults)
		rig_start(&s->rig, c);
	else
		rig_start_fsync(&s->rig, c, c->ino);
}

static void storm_settle(struct storm *s)
{
	for (unsigned i = 0; i < STORM_SYNCS; i++)
		if (s->syncs[i].fn)
			storm_ok(s, rig_wait(&s->rig, &s->syncs[i]), 0);
	memset(s->syncs, 0, sizeof(s->syncs));
}

static void storm_compare(struct storm *s)
{
	for (unsigned f = 0; f < 2; f++) {
		struct inode_attr attr;

		rig_attr(&s->rig, s->ino[f], &attr);
		ck_assert_uint_eq(attr.size_bytes, s->size[f]);
		expect(&s->rig, s->ino[f], 0, s->data[f], s->size[f]);
	}
}

static void storm_step(struct storm *s)
{
	if (rnd(s, 3))
		storm_change(s);
	if (!rnd(s, 2))
		storm_sync(s);
	rig_turn(&s->rig, rnd(s, 3));
	if (!rnd(s, 4))
		storm_compare(s);
}

static void storm_run(const struct rig_options *options, const struct sim_faults *faults, unsigned seed)
{
	static struct storm s;
	const char *factor = getenv("NVFS_TEST_FACTOR"), *other = getenv("NVFS_TEST_SEED");
	unsigned steps = 500 * (factor ? (unsigned)strtoul(factor, NULL, 0) : 1);

	memset(&s, 0, sizeof(s));
	s.seed = seed + (other ? (unsigned)strtoul(other, NULL, 0) : 0) * 1000003u;
	s.buf = aligned_alloc(4096, STORM_BYTES);
	s.faults = faults && faults->fail_write_ppm;
	rig_make(&s.rig, options);
	for (unsigned f = 0; f < 2; f++) {
		s.data[f] = calloc(1, STORM_BYTES * 2);
		s.ino[f] = rig_create(&s.rig, f ? "b" : "a");
	}
	for (unsigned i = 0; i < steps; i++) {
		if (!(i % 50) && faults)
			sim_set_faults(s.rig.dev[0], faults);
		storm_step(&s);
		if (i % 100 == 99) {
			storm_settle(&s);
			sim_set_faults(s.rig.dev[0], NULL);
			storm_compare(&s);
			if (s.faults && rig_sync(&s.rig)) /* they hit RocksDB's own files: that is the end of this pool */
				goto out;
			rig_check(&s.rig);
		}
		if (i % 300 == 299) {
			rig_reopen(&s.rig);
			s.ino[0] = rig_lookup(&s.rig, "a");
			s.ino[1] = rig_lookup(&s.rig, "b");
			storm_compare(&s);
		}
	}
	storm_settle(&s);
	sim_set_faults(s.rig.dev[0], NULL);
	if (!s.faults || !rig_sync(&s.rig))
		rig_check(&s.rig);
out:
	rig_free(&s.rig);
	free(s.data[0]);
	free(s.data[1]);
	free(s.buf);
}

START_TEST(storm)
{
	struct rig_options options = { .compress = _i & 1, .map_cache_bytes = _i & 2 ? 1 : 0, .dirty_bytes = _i & 2 ? 3 * MIB : 0 };
	struct sim_faults slow = { .latency_min_ns = 1000, .latency_max_ns = 200000, .seed = (uint64_t)_i };

	storm_run(&options, &slow, (unsigned)_i * 131 + 17);
}
END_TEST

START_TEST(storm_with_failing_writes)
{
	struct rig_options options = { .compress = _i & 1 };
	struct sim_faults faults = { .latency_min_ns = 1000, .latency_max_ns = 200000, .seed = (uint64_t)_i, .fail_write_ppm = 200000 };

	log_set_sink(quiet, NULL);
	storm_run(&options, &faults, (unsigned)_i * 131 + 19);
	log_set_sink(NULL, NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("data_race");

	unit_add(suite, "to_inline", write_meets_the_way_to_inline, 4);
	unit_add(suite, "inline_damage", damaged_inline_data_stays_damaged, 4);
	unit_add(suite, "copy_source", copy_ends_when_its_source_cannot_be_written, 1);
	unit_add(suite, "reaper", reaper_ends_when_nothing_can_be_put, 1);
	unit_add(suite, "storm", storm, 4);
	unit_add(suite, "storm_failing", storm_with_failing_writes, 4);
	return unit_run_suite(suite);
}
