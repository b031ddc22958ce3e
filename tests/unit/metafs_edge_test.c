/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rare orders of events in metafs: what fails half way, what two threads do at once, what a kill or a cut meets. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "meta/metafs_internal.h"
#include "tests/unit/metafs_rig.h"

#define CUTS 8

static void rig_area(struct rig *rig, size_t tail_bytes)
{
	rig->area_bytes = metafs_area_bytes(&rig->labels[0], tail_bytes);
	ck_assert_int_eq(posix_memalign(&rig->area, 4096, rig->area_bytes), 0);
	memset(rig->area, 0, rig->area_bytes);
}

/* What every cut now leaves of the file is at least the first `least` bytes of the stream. */
static void expect_after_cuts(const struct rig *rig, const char *name, size_t least, uint64_t from)
{
	for (unsigned seed = 0; seed < CUTS; seed++) {
		cleanup_free uint8_t *buf = NULL;
		struct rig cut;
		size_t len;

		rig_cut(rig, seed, &cut);
		rig_open(&cut);
		buf = content(&cut, name, &len);
		ck_assert_ptr_nonnull(buf);
		ck_assert_msg(len >= least, "%s: %zu bytes of %zu", name, len, least);
		ck_assert(is_stream(buf, len, from));
		rig_free(&cut);
	}
}

/* ---- A table that could not be written ---- */

/*
 * The log's blocks reached the device, the table with its new extents did not. Whoever asks next, and has nothing of his
 * own to write, must not hear that all is durable.
 */
START_TEST(table_still_due)
{
	struct metafs_file *f;
	struct rig rig;
	uint64_t slot_bytes;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	slot_bytes = rig.mf->slot_bytes;
	f = create(&rig, "000003.log");
	append_stream(f, 100000, 0);
	rig.mf->slot_bytes = 4096 - 1; /* no table fits */
	ck_assert_int_eq(metafs_sync(rig.mf), -ENOSPC);
	ck_assert_int_eq(metafs_sync(rig.mf), -ENOSPC);
	rig.mf->slot_bytes = slot_bytes;
	ck_assert_int_eq(metafs_sync(rig.mf), 0);
	expect_after_cuts(&rig, "000003.log", 100000, 0);
	metafs_file_close(f);
	rig_free(&rig);
}
END_TEST

/* A name that makes the table too large is refused at once: later nobody could be told. */
START_TEST(rename_into_full_table)
{
	char name[300], longer[300];
	struct metafs_file *f;
	struct rig rig;
	unsigned n = 0;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	do {
		snprintf(name, sizeof(name), "f%06u", n++);
		if (metafs_create(rig.mf, name, &f))
			break;
		metafs_file_close(f);
	} while (true);
	memset(longer, 'x', 254);
	longer[254] = 0;
	for (unsigned i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "f%06u", i);
		longer[0] = (char)('a' + i);
		if (metafs_rename(rig.mf, name, longer))
			break;
		ck_assert_uint_lt(i, 9);
	}
	ck_assert_int_eq(metafs_sync_names(rig.mf), 0);
	/* Shorter and equal ones always fit. */
	ck_assert_int_eq(metafs_rename(rig.mf, "f000020", "F000020"), 0);
	ck_assert_int_eq(metafs_rename(rig.mf, "f000021", "F"), 0);
	ck_assert_int_eq(metafs_sync_names(rig.mf), 0);
	rig_free(&rig);
}
END_TEST

/* ---- A file that grows after its sync ---- */

struct synced {
	struct rig *rig;
	size_t least;
};

static void still_synced(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	const struct synced *s = arg;

	(void)dev;
	(void)op;
	(void)step;
	expect_after_cuts(s->rig, "growing", s->least, 0);
}

/* Neither another file's table nor its own growth takes the synced bytes away. */
START_TEST(synced_tail_stays)
{
	static const size_t sizes[] = { 1, 5000, 8191, 8192, 600001 };

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct metafs_file *f, *g;
		struct rig rig;
		struct synced s = { &rig, sizes[i] };

		rig_make(&rig, 1, 64 * MIB, NULL);
		rig_open(&rig);
		f = create(&rig, "growing");
		append_stream(f, sizes[i], 0);
		ck_assert_int_eq(metafs_file_sync(f), 0);
		rig_hook(&rig, still_synced, &s);
		append_stream(f, 100, sizes[i]);
		expect_stream(&rig, "growing", sizes[i] + 100, 0);
		g = create(&rig, "other");
		append_stream(g, 100, 0);
		ck_assert_int_eq(metafs_file_sync(g), 0);
		expect_after_cuts(&rig, "growing", sizes[i], 0);
		append_stream(f, 5000, sizes[i] + 100);
		ck_assert_int_eq(metafs_file_sync(f), 0);
		rig_hook(&rig, NULL, NULL);
		expect_after_cuts(&rig, "growing", sizes[i] + 5100, 0);
		metafs_file_close(f);
		metafs_file_close(g);
		rig_free(&rig);
	}
}
END_TEST

/* ---- Two logs that fill the ring ---- */

struct appender {
	struct metafs_file *file;
	int err;
};

static void *append_large(void *arg)
{
	struct appender *a = arg;
	cleanup_free uint8_t *buf = malloc(300000);

	for (unsigned i = 0; i < 16 && !a->err; i++) {
		stream_fill(buf, 300000, 300000ull * i);
		a->err = metafs_append(a->file, buf, 300000);
	}
	return NULL;
}

START_TEST(ring_contended)
{
	struct appender a[2] = { 0 };
	pthread_t thread[2];
	struct rig rig;

	rig_make(&rig, 1, 256 * MIB, NULL);
	rig_area(&rig, 64 << 10);
	rig_open(&rig);
	a[0].file = create(&rig, "000003.log");
	a[1].file = create(&rig, "MANIFEST-000002");
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, append_large, &a[i]), 0);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		ck_assert_int_eq(a[i].err, 0);
	}
	ck_assert_int_eq(metafs_sync(rig.mf), 0);
	for (unsigned i = 0; i < 2; i++)
		metafs_file_close(a[i].file);
	rig_close(&rig);
	rig_open(&rig);
	expect_stream(&rig, "000003.log", 16 * 300000, 0);
	rig_free(&rig);
}
END_TEST

/* ---- Killed while it opens, behind a power cut ---- */

static void kill_opening(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	struct rig *rig = arg, after;

	(void)dev;
	(void)op;
	(void)step;
	rig_kill(rig, &after);
	rig_open(&after);
	expect_stream(&after, "000010.log", 1000, 0);
	expect_absent(&after, "000012.log");
	rig_free(&after);
}

/* The block that ends the chain is lost, so that the newer log lies behind a hole. */
static void lose_block(struct rig *rig, const char *name, uint32_t index)
{
	struct mf_node *node = mf_node_find(rig->mf, name);
	uint8_t zeros[4096] __attribute__((aligned(4096))) = { 0 };
	struct metafs_extent at;

	ck_assert_ptr_nonnull(node);
	ck_assert_int_eq(mf_node_map(node, index, &at), 0);
	ck_assert_int_eq(device_write(rig->dev[at.vdev], zeros, 4096, at.block * 4096, IO_FUA), 0);
}

START_TEST(killed_while_freezing)
{
	struct metafs_file *f, *g;
	struct rig rig, after;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	f = create(&rig, "000010.log");
	append_stream(f, 1000, 0);
	g = create(&rig, "000012.log");
	ck_assert_int_eq(mf_node_grow(rig.mf, mf_node_find(rig.mf, "000012.log"), 8), 0);
	ck_assert_int_eq(metafs_sync_names(rig.mf), 0);
	/* One sync writes a block of each, no table; the cut loses the first one. */
	append_stream(f, 1000, 1000);
	append_stream(g, 1000, 2000);
	ck_assert_int_eq(metafs_sync(rig.mf), 0);
	lose_block(&rig, "000010.log", 1);
	rig_cut(&rig, 1, &after);
	rig_area(&after, 0);
	rig_hook(&after, kill_opening, &after);
	rig_open(&after);
	rig_hook(&after, NULL, NULL);
	rig_free(&after);
	metafs_file_close(f);
	metafs_file_close(g);
	rig_free(&rig);
}
END_TEST

/* ---- A clean stop ---- */

/* Killed or cut in the middle of it: what was synced is there, and after a kill all of it. */
static void end_sealing(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	const struct rig *rig = arg;
	struct rig after;

	(void)dev, (void)op, (void)step;
	expect_after_cuts(rig, "000010.log", 1000, 0);
	expect_after_cuts(rig, "MANIFEST-000011", 500, 5000);
	rig_kill(rig, &after);
	rig_open(&after);
	expect_stream(&after, "000010.log", 2000, 0);
	expect_stream(&after, "MANIFEST-000011", 500, 5000);
	rig_free(&after);
}

static struct metafs_extent last_block(struct rig *rig, const char *name)
{
	struct mf_node *node = mf_node_find(rig->mf, name);
	struct metafs_extent at;

	ck_assert_ptr_nonnull(node);
	ck_assert_int_eq(mf_node_map(node, node->blocks - 1, &at), 0);
	return at;
}

/* The last block of a log is missed too, which without the seal nobody could. */
START_TEST(sealed_logs_end_where_they_end)
{
	static const char *const name[] = { "000010.log", "MANIFEST-000011" };
	uint8_t zeros[4096] __attribute__((aligned(4096))) = { 0 };
	struct metafs_file *f[2];
	struct metafs_extent at[2];
	struct rig rig, after;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_area(&rig, 0);
	rig_open(&rig);
	f[0] = create(&rig, name[0]);
	f[1] = create(&rig, name[1]);
	append_stream(f[0], 1000, 0);
	append_stream(f[1], 500, 5000);
	ck_assert_int_eq(metafs_file_sync(f[0]), 0);
	ck_assert_int_eq(metafs_file_sync(f[1]), 0);
	append_stream(f[0], 1000, 1000);
	for (unsigned i = 0; i < 2; i++) {
		at[i] = last_block(&rig, name[i]);
		metafs_file_close(f[i]);
	}
	rig_hook(&rig, end_sealing, &rig);
	ck_assert_int_eq(metafs_seal(rig.mf), 0);
	rig_hook(&rig, NULL, NULL);
	for (unsigned i = 0; i < 2; i++) {
		rig_cut(&rig, i, &after);
		rig_open(&after);
		expect_stream(&after, name[0], 2000, 0);
		expect_stream(&after, name[1], 500, 5000);
		rig_close(&after);
		ck_assert_int_eq(device_write(after.dev[0], zeros, 4096, at[i].block * 4096, IO_FUA), 0);
		rig_open(&after);
		ck_assert_int_eq(metafs_file_open(after.mf, name[i], &f[i]), -EIO);
		rig_free(&after);
	}
	/* The next worker finds it in the memory as well. */
	rig_close(&rig);
	rig_open(&rig);
	expect_stream(&rig, name[0], 2000, 0);
	rig_close(&rig);
	ck_assert_int_eq(rig_try_open(&rig, true), 0);
	ck_assert_int_eq(metafs_seal(rig.mf), -EROFS);
	rig_free(&rig);
}
END_TEST

START_TEST(prints)
{
	const struct metafs_log_block block = { .file_id = 7, .log_number = 9, .sequence = 1ull << 41, .flushed = 5, .index = 3,
						.used = 100 };
	struct metafs_range range = { .vdev = 1, .first = 2, .count = 3 };
	const struct metafs_extent extent = { .block = 70, .blocks = 8, .vdev = 1 };
	struct metafs_table_file file = { .id = 1ull << 40, .size = 4040, .kind = METAFS_WAL, .log_number = 12, .frozen = true,
					  .blocks = 1, .extents = 1, .extent = &extent, .name = "000012.log", .name_len = 10 };
	const struct metafs_table table = { .generation = (2ull << 40) + 5, .start = 2, .next_file_id = 16, .wal_seq_next = 17,
					    .members_stale = 1, .ranges = 1, .range = &range, .files = 1, .file = &file };
	char text[1000] = "";
	FILE *f = fmemopen(text, sizeof(text), "w");

	ck_assert_ptr_nonnull(f);
	metafs_log_block_print(f, &block);
	metafs_table_print(f, &table);
	fclose(f);
	ck_assert_str_eq(text,
			 "log block 3 of file 0x7, log number 9, sequence 0x20000000000, flushed 0x5, 100 bytes\n"
			 "metafs table, generation 2.5, start 2\n"
			 "  members out of date 0x1, next file 0x10, next WAL sequence 0x11\n"
			 "  zones 2+3 of vdev 1\n"
			 "  file 0x10000000000 000012.log: wal, frozen, 4040 bytes, log number 12, 1 blocks, at 1:70+8\n");
}
END_TEST

/* ---- Hostile tables ---- */

static void write_both_slots(struct rig *rig, const struct metafs_table *table)
{
	uint8_t buf[4096] __attribute__((aligned(4096)));
	size_t len;

	ck_assert_int_eq(metafs_table_encode(table, buf, sizeof(buf), &len), 0);
	for (unsigned slot = 0; slot < 2; slot++)
		ck_assert_int_eq(device_write(rig->dev[0], buf, sizeof(buf),
					      label_slot_offset(&rig->labels[0], slot), 0), 0);
}

/* Such a generation would win over all that come after it, and everything after this open would be lost. */
START_TEST(numbers_of_a_later_start)
{
	struct metafs_range range = { 0, 0, 6 };
	struct metafs_table table = { .start = 5, .ranges = 1, .range = &range };
	uint64_t *const number[] = { NULL, &table.generation, &table.next_file_id, &table.wal_seq_next };

	for (unsigned i = 0; i < 4; i++) {
		struct rig rig;

		rig_make(&rig, 1, 64 * MIB, NULL);
		memcpy(table.pool_uuid, rig.labels[0].pool_uuid, 16);
		table.generation = table.next_file_id = table.wal_seq_next = 5ull << 40 | 100;
		if (i)
			*number[i] = 6ull << 40;
		write_both_slots(&rig, &table);
		ck_assert_int_eq(rig_try_open(&rig, false), i ? -EBADMSG : 0);
		rig_free(&rig);
	}
}
END_TEST

int main(void)
{
	rig_set_up();
	return unit_run("metafs_edge", table_still_due, rename_into_full_table, synced_tail_stays, ring_contended,
			killed_while_freezing, sealed_logs_end_where_they_end, prints, numbers_of_a_later_start, NULL);
}
