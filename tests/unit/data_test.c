/* SPDX-License-Identifier: GPL-2.0-or-later */
/* File data against a copy in memory: every kind of change, with write-back and reopening in between. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#include "meta/data_internal.h"
#include "meta/subvol_internal.h"
#include "tests/unit/data_rig.h"
#include "tests/unit/unit.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define BLOCK ((uint64_t)NVFS_BLOCK_SIZE)
#define MODEL_BYTES (3 * MIB)

static void fill(uint8_t *buf, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed * 2654435761u + i * 40503u + (i >> 8) * 7 + (seed >> 3));
}

static void expect(struct rig *rig, uint64_t ino, uint64_t offset, const uint8_t *want, size_t len)
{
	uint8_t *got = malloc(len + 1);
	ssize_t n = rig_read(rig, ino, offset, got, len);

	ck_assert_int_eq(n, (ssize_t)len);
	for (size_t i = 0; i < len; i++)
		if (got[i] != want[i])
			ck_abort_msg("byte %llu is %02x and should be %02x", (unsigned long long)(offset + i), got[i],
				     want[i]);
	free(got);
}

START_TEST(writes_and_reads)
{
	struct rig rig;
	uint8_t buf[10000];
	uint64_t ino;

	rig_make(&rig, NULL);
	ino = rig_create(&rig, "a");
	fill(buf, sizeof(buf), 1);
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, sizeof(buf), 0), sizeof(buf));
	expect(&rig, ino, 0, buf, sizeof(buf));
	expect(&rig, ino, 5000, buf + 5000, 100);
	ck_assert_int_eq(rig_read(&rig, ino, sizeof(buf), buf, 10), 0);
	ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	expect(&rig, ino, 0, buf, sizeof(buf));
	ck_assert_uint_eq(rig_used(&rig), 1 + 3); /* the directory and three blocks */
	rig_reopen(&rig);
	ino = rig_lookup(&rig, "a");
	expect(&rig, ino, 0, buf, sizeof(buf));
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* What is copied is not written again: both map the same blocks, until one of them changes. */
START_TEST(copies_share_their_blocks)
{
	enum { BLOCKS = 2 * CHUNK_BLOCKS };
	struct rig rig;
	struct pool_stats before, after;
	const struct chunk *from, *to;
	uint8_t *buf = malloc(BLOCKS * BLOCK);
	uint64_t a, b;

	rig_make(&rig, NULL);
	a = rig_create(&rig, "a");
	b = rig_create(&rig, "b");
	fill(buf, BLOCKS * BLOCK, 1);
	ck_assert_int_eq(rig_write(&rig, a, 0, buf, BLOCKS * BLOCK, 0), (ssize_t)(BLOCKS * BLOCK));
	ck_assert_int_eq(rig_fsync(&rig, a), 0);
	pool_stats(rig.pool, &before);
	ck_assert_int_eq(rig_copy(&rig, a, 0, b, 0, BLOCKS * BLOCK), (ssize_t)(BLOCKS * BLOCK));
	ck_assert_int_eq(rig_fsync(&rig, b), 0);
	pool_stats(rig.pool, &after);
	ck_assert_uint_eq(after.free_blocks, before.free_blocks);
	ck_assert_uint_eq(rig_used(&rig), 1 + 2 * BLOCKS);
	for (unsigned no = 0; no < 2; no++) {
		from = chunk_peek(inode_peek(rig.sv, a)->file, no);
		to = chunk_peek(inode_peek(rig.sv, b)->file, no);
		ck_assert_mem_eq(to->map.at, from->map.at, sizeof(from->map.at));
	}
	ck_assert_int_eq(rig_write(&rig, b, 5 * BLOCK, "other", 5, 0), 5);
	ck_assert_int_eq(rig_fsync(&rig, b), 0);
	pool_stats(rig.pool, &after);
	ck_assert_uint_eq(after.free_blocks, before.free_blocks - 1);
	expect(&rig, a, 0, buf, BLOCKS * BLOCK);
	memcpy(buf + 5 * BLOCK, "other", 5);
	expect(&rig, b, 0, buf, BLOCKS * BLOCK);
	rig_check(&rig);
	rig_free(&rig);
	free(buf);
}
END_TEST

START_TEST(small_files_are_inline)
{
	struct rig rig;
	uint8_t buf[5000];
	uint64_t ino;

	rig_make(&rig, NULL);
	ino = rig_create(&rig, "a");
	fill(buf, sizeof(buf), 2);
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, 100, 0), 100);
	ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	ck_assert_int_eq(rig_write(&rig, ino, 100, buf + 100, 400, 0), 400);
	expect(&rig, ino, 0, buf, 500);
	rig_reopen(&rig);
	ino = rig_lookup(&rig, "a");
	expect(&rig, ino, 0, buf, 500);
	ck_assert_uint_eq(rig_used(&rig), 2);
	rig_check(&rig);
	ck_assert_int_eq(rig_write(&rig, ino, 500, buf + 500, 4500, 0), 4500);
	rig_reopen(&rig);
	ino = rig_lookup(&rig, "a");
	expect(&rig, ino, 0, buf, 5000);
	ck_assert_uint_eq(rig_used(&rig), 3);
	ck_assert_int_eq(rig_truncate(&rig, ino, 0), 0);
	ck_assert_uint_eq(rig_used(&rig), 1);
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, 300, 0), 300);
	rig_check(&rig);
	ck_assert_int_eq(rig_truncate(&rig, ino, 10), 0);
	ck_assert_int_eq(rig_truncate(&rig, ino, 300), 0);
	memset(buf + 10, 0, 290);
	expect(&rig, ino, 0, buf, 300);
	rig_check(&rig);
	ck_assert_int_eq(rig_truncate(&rig, ino, 100 * KIB), 0);
	expect(&rig, ino, 0, buf, 300);
	rig_check(&rig);
	ck_assert_int_eq(rig_fallocate(&rig, ino, 0, 0, 8192), 0);
	ck_assert_uint_eq(rig_used(&rig), 3);
	rig_check(&rig);
	expect(&rig, ino, 0, buf, 300);
	rig_free(&rig);
}
END_TEST

/* ---- The model ---- */

struct model {
	struct rig rig;
	uint64_t ino[2];
	uint8_t *data[2];
	uint64_t size[2];
	uint8_t *buf;
	unsigned seed;
};

static unsigned rnd(struct model *m, unsigned n)
{
	m->seed = m->seed * 1103515245u + 12345u;
	return (m->seed >> 8) % n;
}

static uint64_t some_offset(struct model *m)
{
	uint64_t offset = rnd(m, 3) ? rnd(m, MODEL_BYTES) : rnd(m, 16 * KIB);

	return rnd(m, 2) ? offset : offset / BLOCK * BLOCK;
}

static uint64_t some_len(struct model *m, uint64_t offset)
{
	uint64_t len = rnd(m, 4) == 0 ? rnd(m, 600 * KIB) + 1 : rnd(m, 20 * KIB) + 1;

	if (rnd(m, 2))
		len = (len + BLOCK - 1) / BLOCK * BLOCK;
	return offset + len > MODEL_BYTES ? MODEL_BYTES - offset : len;
}

static void model_write(struct model *m, unsigned f)
{
	static const unsigned kinds[] = { 0, 0, 0, DATA_DIRECT, DATA_DIRECT, DATA_DSYNC, DATA_SYNC | DATA_DIRECT };
	uint64_t offset = some_offset(m), len = some_len(m, offset);

	if (!len)
		return;
	fill(m->buf, len, m->seed);
	if (rnd(m, 3) == 0)
		memset(m->buf, (int)rnd(m, 256), len);
	ck_assert_int_eq(rig_write(&m->rig, m->ino[f], offset, m->buf, len, kinds[rnd(m, 7)]), (ssize_t)len);
	memcpy(m->data[f] + offset, m->buf, len);
	if (m->size[f] < offset + len)
		m->size[f] = offset + len;
}

static void model_truncate(struct model *m, unsigned f)
{
	uint64_t size = some_offset(m);

	ck_assert_int_eq(rig_truncate(&m->rig, m->ino[f], size), 0);
	if (size < m->size[f])
		memset(m->data[f] + size, 0, m->size[f] - size);
	m->size[f] = size;
}

static void model_fallocate(struct model *m, unsigned f)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
	int mode = modes[rnd(m, 6)];
	uint64_t offset = some_offset(m), len = some_len(m, offset), end = offset + len;

	if (!len)
		return;
	ck_assert_int_eq(rig_fallocate(&m->rig, m->ino[f], mode, offset, len), 0);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && offset < m->size[f])
		memset(m->data[f] + offset, 0, (end < m->size[f] ? end : m->size[f]) - offset);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && m->size[f] < end)
		m->size[f] = end;
}

static void model_copy(struct model *m, unsigned f)
{
	unsigned from = rnd(m, 2);
	uint64_t in = some_offset(m) / BLOCK * BLOCK, out = some_offset(m) / BLOCK * BLOCK, len = some_len(m, out);
	ssize_t n;

	if (from == f && in < out + len && out < in + len)
		return;
	n = rig_copy(&m->rig, m->ino[from], in, m->ino[f], out, len);
	if (n == -EOPNOTSUPP)
		return;
	ck_assert_int_ge(n, 0);
	ck_assert_int_le(n, (ssize_t)len);
	memmove(m->data[f] + out, m->data[from] + in, (size_t)n);
	if (n && m->size[f] < out + (uint64_t)n)
		m->size[f] = out + (uint64_t)n;
}

/* What is said to be a hole reads as zeros; what is not zero is said to be data. */
static void model_seek(struct model *m, unsigned f)
{
	uint64_t at = some_offset(m);
	int64_t data = rig_seek(&m->rig, m->ino[f], at, SEEK_DATA), hole = rig_seek(&m->rig, m->ino[f], at, SEEK_HOLE);

	if (at >= m->size[f]) {
		ck_assert_int_eq(data, -ENXIO);
		ck_assert_int_eq(hole, -ENXIO);
		return;
	}
	ck_assert_int_ge(hole, (int64_t)at);
	ck_assert_int_le(hole, (int64_t)m->size[f]);
	ck_assert(data == -ENXIO || (data >= (int64_t)at && data < (int64_t)m->size[f]));
	ck_assert(data == (int64_t)at || hole == (int64_t)at);
	for (uint64_t i = at; i < (data < 0 ? m->size[f] : (uint64_t)data); i++)
		if (m->data[f][i])
			ck_abort_msg("byte %llu is in a hole", (unsigned long long)i);
}

static void model_compare(struct model *m)
{
	for (unsigned f = 0; f < 2; f++) {
		struct inode_attr attr;

		rig_attr(&m->rig, m->ino[f], &attr);
		ck_assert_uint_eq(attr.size_bytes, m->size[f]);
		for (uint64_t at = 0; at < m->size[f]; at += MIB) {
			uint64_t len = m->size[f] - at < MIB ? m->size[f] - at : MIB;

			expect(&m->rig, m->ino[f], at, m->data[f] + at, len);
		}
	}
}

static void model_reopen(struct model *m)
{
	rig_reopen(&m->rig);
	m->ino[0] = rig_lookup(&m->rig, "a");
	m->ino[1] = rig_lookup(&m->rig, "b");
}

static void model_step(struct model *m)
{
	unsigned f = rnd(m, 2), what = rnd(m, 100);

	if (what < 55)
		model_write(m, f);
	else if (what < 62)
		model_truncate(m, f);
	else if (what < 74)
		model_fallocate(m, f);
	else if (what < 82)
		model_copy(m, f);
	else if (what < 87)
		model_seek(m, f);
	else if (what < 94)
		ck_assert_int_eq(rig_fsync(&m->rig, m->ino[f]), 0);
	else if (what < 97)
		ck_assert_int_eq(rig_sync(&m->rig), 0);
	else if (what < 98)
		model_reopen(m);
	else
		rig_turn(&m->rig, rnd(m, 5));
}

/* NVFS_TEST_FACTOR makes the runs longer, NVFS_TEST_SEED other ones. */
static unsigned environment(const char *name, unsigned otherwise)
{
	const char *value = getenv(name);

	return value ? (unsigned)strtoul(value, NULL, 0) : otherwise;
}

static void model_run(const struct rig_options *options, unsigned seed, unsigned steps)
{
	struct model m = { .seed = seed + environment("NVFS_TEST_SEED", 0) * 1000003u };

	steps *= environment("NVFS_TEST_FACTOR", 1);
	rig_make(&m.rig, options);
	m.ino[0] = rig_create(&m.rig, "a");
	m.ino[1] = rig_create(&m.rig, "b");
	m.buf = malloc(MODEL_BYTES);
	for (int f = 0; f < 2; f++)
		m.data[f] = calloc(1, MODEL_BYTES);
	for (unsigned i = 0; i < steps; i++) {
		model_step(&m);
		if (i % 16 == 15)
			model_compare(&m);
		if (i % 64 == 63)
			rig_check(&m.rig);
	}
	model_compare(&m);
	rig_check(&m.rig);
	rig_unlink(&m.rig, "a");
	rig_forget(&m.rig, m.ino[0]);
	rig_unlink(&m.rig, "b");
	rig_forget(&m.rig, m.ino[1]);
	rig_reopen(&m.rig);
	ck_assert_uint_eq(rig_used(&m.rig), 0);
	rig_check(&m.rig);
	rig_free(&m.rig);
	free(m.data[0]);
	free(m.data[1]);
	free(m.buf);
}

START_TEST(model_plain)
{
	model_run(NULL, (unsigned)_i * 77 + 1, 400);
}
END_TEST

START_TEST(model_small_cap)
{
	struct rig_options options = { .dirty_bytes = 3 * MIB, .map_cache_bytes = 1, .devices = 2 };

	model_run(&options, (unsigned)_i * 77 + 2, 300);
}
END_TEST

START_TEST(model_compressed)
{
	struct rig_options options = { .compress = true };

	model_run(&options, (unsigned)_i * 77 + 3, 300);
}
END_TEST

START_TEST(model_with_timer)
{
	struct rig_options options = { .commit_ms = 3 };

	model_run(&options, (unsigned)_i * 77 + 4, 300);
}
END_TEST

/* ---- Many at a time ---- */

#define CROWD 24
#define CROWD_BLOCKS 300u

struct crowd {
	struct rig rig;
	uint64_t ino;
	struct rig_call calls[CROWD];
	uint8_t *buf[CROWD];
	unsigned seed, writes;
};

static unsigned crowd_rnd(struct crowd *w, unsigned n)
{
	w->seed = w->seed * 1103515245u + 12345u;
	return (w->seed >> 8) % n;
}

/* Every block says which one it is, and which write it is of: all of it or nothing. */
static void crowd_check_blocks(const uint8_t *buf, uint64_t first, uint64_t blocks)
{
	for (uint64_t b = 0; b < blocks; b++) {
		uint64_t words[512];

		memcpy(words, buf + b * BLOCK, BLOCK);
		for (unsigned i = 0; i < 512; i++)
			if (words[i] != words[0] || (words[0] && words[0] >> 32 != first + b + 1))
				ck_abort_msg("block %llu is of no write: %llx", (unsigned long long)(first + b),
					     (unsigned long long)words[i]);
	}
}

static void crowd_start(struct crowd *w, unsigned i)
{
	static const unsigned kinds[] = { 0, 0, DATA_DIRECT, DATA_DIRECT, DATA_DIRECT, DATA_DIRECT | DATA_DSYNC };
	struct rig_call *c = &w->calls[i];
	uint64_t first = crowd_rnd(w, CROWD_BLOCKS - 24), blocks = crowd_rnd(w, 3) ? 1 : crowd_rnd(w, 24) + 1;

	memset(c, 0, sizeof(*c));
	if (!crowd_rnd(w, 4)) {
		rig_start_read(&w->rig, c, w->ino, first * BLOCK, w->buf[i], blocks * BLOCK);
		return;
	}
	w->writes++;
	for (uint64_t b = 0; b < blocks; b++)
		for (unsigned word = 0; word < 512; word++) {
			uint64_t value = (first + b + 1) << 32 | w->writes;

			memcpy(w->buf[i] + b * BLOCK + word * 8, &value, 8);
		}
	rig_start_write(&w->rig, c, w->ino, first * BLOCK, w->buf[i], blocks * BLOCK, kinds[crowd_rnd(w, 6)]);
}

static void crowd_ended(struct crowd *w, unsigned i)
{
	struct rig_call *c = &w->calls[i];

	ck_assert_int_ge(c->result, 0);
	if (c->from)
		ck_assert_int_eq(c->result, (ssize_t)c->len);
	else
		crowd_check_blocks(w->buf[i], c->offset / BLOCK, (uint64_t)c->result / BLOCK);
}

static void crowd_shape(struct crowd *w)
{
	uint64_t at = crowd_rnd(w, CROWD_BLOCKS) * BLOCK, len = (crowd_rnd(w, 50) + 1) * BLOCK;

	switch (crowd_rnd(w, 5)) {
	case 0:
		ck_assert_int_eq(rig_truncate(&w->rig, w->ino, at), 0);
		break;
	case 1:
		ck_assert_int_eq(rig_fallocate(&w->rig, w->ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len), 0);
		break;
	case 2:
		ck_assert_int_eq(rig_fallocate(&w->rig, w->ino, FALLOC_FL_ZERO_RANGE, at, len), 0);
		break;
	case 3:
		ck_assert_int_eq(rig_sync(&w->rig), 0);
		break;
	default:
		ck_assert_int_eq(rig_fsync(&w->rig, w->ino), 0);
	}
}

START_TEST(crowd_on_one_file)
{
	struct rig_options options = { .dirty_bytes = _i ? 3 * MIB : 0, .commit_ms = 5, .compress = _i == 2 };
	struct sim_faults slow = { .latency_min_ns = 1000, .latency_max_ns = 300000, .seed = (uint64_t)_i };
	struct crowd *w = calloc(1, sizeof(*w));
	unsigned steps = 600 * environment("NVFS_TEST_FACTOR", 1);

	w->seed = (unsigned)_i + 7 + environment("NVFS_TEST_SEED", 0) * 1000u;
	rig_make(&w->rig, &options);
	sim_set_faults(w->rig.dev[0], &slow);
	w->ino = rig_create(&w->rig, "a");
	for (unsigned i = 0; i < CROWD; i++) {
		w->buf[i] = aligned_alloc(BLOCK, 24 * BLOCK);
		crowd_start(w, i);
	}
	for (unsigned n = 0; n < steps; n++) {
		unsigned i = crowd_rnd(w, CROWD);

		if (!crowd_rnd(w, 20))
			crowd_shape(w);
		rig_turn(&w->rig, crowd_rnd(w, 3));
		if (!crowd_rnd(w, 8))
			rig_wait(&w->rig, &w->calls[i]);
		if (!w->calls[i].done)
			continue;
		crowd_ended(w, i);
		crowd_start(w, i);
	}
	for (unsigned i = 0; i < CROWD; i++) {
		rig_wait(&w->rig, &w->calls[i]);
		crowd_ended(w, i);
		free(w->buf[i]);
	}
	sim_set_faults(w->rig.dev[0], NULL);
	rig_check(&w->rig);
	rig_reopen(&w->rig);
	rig_check(&w->rig);
	rig_free(&w->rig);
	free(w);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("data");

	unit_add(suite, "writes_and_reads", writes_and_reads, 1);
	unit_add(suite, "sharing", copies_share_their_blocks, 1);
	unit_add(suite, "inline", small_files_are_inline, 1);
	unit_add(suite, "plain", model_plain, 3);
	unit_add(suite, "small_cap", model_small_cap, 2);
	unit_add(suite, "compressed", model_compressed, 2);
	unit_add(suite, "timer", model_with_timer, 2);
	unit_add(suite, "crowd", crowd_on_one_file, 3);
	return unit_run_suite(suite);
}
