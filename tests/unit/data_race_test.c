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
	for (unsigned i = 0; i < 1000 && !copy.done; i++)
		rig_turn(&rig, 1);
	sim_set_faults(rig.dev[0], NULL);
	log_set_sink(NULL, NULL);
	ck_assert(copy.done);
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
	unsigned n = 0;

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
	for (n = 0; n < 2000 && reaper_busy(rig.sv); n++) {
		rig_turn(&rig, 1);
		usleep(100);
	}
	ck_assert(!reaper_busy(rig.sv));
	rig_close(&rig);
	log_set_sink(NULL, NULL);
	sim_set_faults(rig.dev[0], NULL);
	rig_free(&rig);
}
END_TEST

static void add(Suite *suite, const char *name, const TTest *test, int times)
{
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, test, 0, times);
	suite_add_tcase(suite, tcase);
}

int main(void)
{
	Suite *suite = suite_create("data_race");

	add(suite, "to_inline", write_meets_the_way_to_inline, 4);
	add(suite, "inline_damage", damaged_inline_data_stays_damaged, 4);
	add(suite, "copy_source", copy_ends_when_its_source_cannot_be_written, 1);
	add(suite, "reaper", reaper_ends_when_nothing_can_be_put, 1);
	return unit_run_suite(suite);
}
