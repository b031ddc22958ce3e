/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/crc.h"
#include "meta/metafs_table.h"
#include "tests/unit/metafs_rig.h"

#define SHORT_TAIL (64u << 10)

/* ---- Table and blocks ---- */

static struct metafs_extent some_extents[3] = { { 1000, 10, 0 }, { 2000, 1, 0 }, { 3000, 7, 0 } };

static struct metafs_table some_table(const struct label *label, struct metafs_range *range,
				      struct metafs_table_file *file)
{
	struct metafs_table t = { .generation = (5ull << 40) | 7, .next_file_id = 100,
				  .wal_seq_next = 5ull << 40, .start = 5, .members_stale = 2 };

	*range = (struct metafs_range){ 0, 0, 6 };
	some_extents[0].block = label_zone_block(label, 0);
	some_extents[1].block = label_zone_block(label, 1);
	some_extents[2].block = label_zone_block(label, 2);
	file[0] = (struct metafs_table_file){ .id = 1, .size = 4097, .kind = METAFS_PLAIN,
					      .mtime_ns = -5, .extents = 1,
					      .extent = &some_extents[0], .name = "CURRENT",
					      .name_len = 7 };
	file[1] = (struct metafs_table_file){ .id = 2, .kind = METAFS_WAL, .log_number = 9,
					      .extents = 1, .extent = &some_extents[1],
					      .name = "000009.log", .name_len = 10 };
	file[2] = (struct metafs_table_file){ .id = 99, .kind = METAFS_LOG, .log_number = 4,
					      .size = 5000, .blocks = 2, .frozen = true,
					      .extents = 1, .extent = &some_extents[2],
					      .name = "MANIFEST-000004", .name_len = 15 };
	memcpy(t.pool_uuid, label->pool_uuid, 16);
	t.ranges = 1;
	t.range = range;
	t.files = 3;
	t.file = file;
	return t;
}

struct table_rig {
	struct rig rig;
	struct metafs_range range;
	struct metafs_table_file file[3];
	struct metafs_table table;
	uint8_t buf[8192];
	size_t len;
};

static void table_rig_make(struct table_rig *t)
{
	rig_make(&t->rig, 1, 64 * MIB, NULL);
	t->table = some_table(&t->rig.labels[0], &t->range, t->file);
	ck_assert_int_eq(metafs_table_encode(&t->table, t->buf, sizeof(t->buf), &t->len), 0);
}

START_TEST(table_round_trip)
{
	struct table_rig t;
	struct metafs_table out;
	char why[100];
	uint8_t again[8192];
	size_t len;

	table_rig_make(&t);
	ck_assert_int_eq(metafs_table_decode(t.buf, t.len, &out), 0);
	ck_assert_msg(!metafs_table_validate(&out, t.rig.labels, why, sizeof(why)), "%s", why);
	ck_assert_uint_eq(out.generation, t.table.generation);
	ck_assert_uint_eq(out.members_stale, 2);
	ck_assert_uint_eq(out.files, 3);
	ck_assert_str_eq(out.file[1].name, "000009.log");
	ck_assert_int_eq(out.file[0].mtime_ns, -5);
	ck_assert(out.file[2].frozen);
	ck_assert_int_eq(metafs_table_encode(&out, again, sizeof(again), &len), 0);
	ck_assert_uint_eq(len, t.len);
	ck_assert_mem_eq(again, t.buf, len);
	ck_assert_int_eq(metafs_table_encode(&out, again, 4095, &len), -ENOSPC);
	metafs_table_free(&out);
	rig_free(&t.rig);
}
END_TEST

START_TEST(table_damage)
{
	struct table_rig t;
	struct metafs_table out;

	table_rig_make(&t);
	for (size_t byte = 0; byte < t.len; byte++) {
		t.buf[byte] ^= 1u << byte % 8;
		ck_assert_int_ne(metafs_table_decode(t.buf, t.len, &out), 0);
		t.buf[byte] ^= 1u << byte % 8;
	}
	for (size_t len = 0; len < t.len; len++)
		ck_assert_int_ne(metafs_table_decode(t.buf, len, &out), 0);
	rig_free(&t.rig);
}
END_TEST

/* With a right CRC: whatever decodes must be sound to use, under the sanitizers. */
START_TEST(table_hostile)
{
	struct table_rig t;
	uint64_t seed = 1;
	uint8_t buf[8192];
	unsigned accepted = 0;

	table_rig_make(&t);
	for (unsigned round = 0; round < 20000; round++) {
		struct metafs_table out;
		char why[100];

		memcpy(buf, t.buf, sizeof(buf));
		for (unsigned n = 1 + rig_random(&seed) % 3; n; n--) {
			size_t at = 16 + rig_random(&seed) % (t.len - 16);

			buf[at] = (uint8_t)(rig_random(&seed) % 3 ? rig_random(&seed) : 0xff);
		}
		put_le32(buf + 8, 0);
		put_le32(buf + 8, crc32c(0, buf, t.len));
		if (metafs_table_decode(buf, t.len, &out))
			continue;
		metafs_table_validate(&out, t.rig.labels, why, sizeof(why));
		accepted++;
		metafs_table_free(&out);
	}
	ck_assert_uint_gt(accepted, 0);
	rig_free(&t.rig);
}
END_TEST

static int validate_changed(struct table_rig *t)
{
	struct metafs_table out;
	char why[100];
	int err;

	ck_assert_int_eq(metafs_table_encode(&t->table, t->buf, sizeof(t->buf), &t->len), 0);
	err = metafs_table_decode(t->buf, t->len, &out);
	if (err)
		return err;
	err = metafs_table_validate(&out, t->rig.labels, why, sizeof(why));
	metafs_table_free(&out);
	return err;
}

START_TEST(table_impossible)
{
	struct table_rig t;
	struct metafs_table_file saved;

	table_rig_make(&t);
	ck_assert_int_eq(validate_changed(&t), 0);
#define REFUSED(f, change)                                           \
	do {                                                         \
		saved = t.file[f];                                   \
		change;                                              \
		ck_assert_int_eq(validate_changed(&t), -EBADMSG);    \
		t.file[f] = saved;                                   \
	} while (0)
	REFUSED(0, t.file[0].extent = &some_extents[1]);      /* two files on one block */
	REFUSED(1, t.file[1].name = "CURRENT\0xx");
	REFUSED(1, t.file[1].id = 99);
	REFUSED(1, t.file[1].id = 100);
	REFUSED(1, t.file[1].log_number = 0);
	REFUSED(0, t.file[0].size = 10 * 4096 + 1);
	REFUSED(2, t.file[2].blocks = 8);
	REFUSED(2, t.file[2].size = 2 * 4040 + 1);
	REFUSED(1, t.file[1].size = 1);
	REFUSED(0, (t.file[0].name = "a/b/c/d", t.file[0].name_len = 7));
	REFUSED(0, (t.file[0].name = "\x1b[2J", t.file[0].name_len = 4));
	REFUSED(0, (t.file[0].name = "a\nb", t.file[0].name_len = 3));
	REFUSED(0, (t.file[0].name = "\x9b" "2J", t.file[0].name_len = 3));
#undef REFUSED
	t.range.count = 1;
	ck_assert_int_eq(validate_changed(&t), -EBADMSG);
	t.range.count = 1 << 20;
	ck_assert_int_eq(validate_changed(&t), -EBADMSG);
	rig_free(&t.rig);
}
END_TEST

START_TEST(log_blocks)
{
	struct metafs_log_block b = { .file_id = 7, .log_number = 9, .sequence = 1ull << 41,
				      .flushed = 5, .index = 3, .used = 100, .pool = "poolxyz" };
	uint8_t buf[METAFS_LOG_BLOCK_BYTES];
	struct metafs_log_block out;

	memset(buf, 0x5a, sizeof(buf));
	metafs_log_block_encode(&b, buf);
	ck_assert_int_eq(metafs_log_block_decode(buf, &out), 0);
	ck_assert_mem_eq(&b, &out, sizeof(b));
	ck_assert_uint_eq(buf[56 + 99], 0x5a);
	ck_assert_uint_eq(buf[56 + 100], 0);
	for (unsigned i = 0; i < sizeof(buf); i++) {
		buf[i] ^= 4;
		ck_assert_int_ne(metafs_log_block_decode(buf, &out), 0);
		buf[i] ^= 4;
	}
	b.used = METAFS_LOG_PAYLOAD;
	metafs_log_block_encode(&b, buf);
	ck_assert_int_eq(metafs_log_block_decode(buf, &out), 0);
}
END_TEST

/* ---- Files ---- */

START_TEST(plain_files)
{
	static const size_t sizes[] = { 1, 4095, 4096, 4097, 512 << 10, (1 << 20) + 77, 3 << 20 };
	struct rig rig;
	char name[32];

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	for (unsigned i = 0; i < 7; i++) {
		struct metafs_file *f;

		snprintf(name, sizeof(name), "%06u.sst", i + 10);
		f = create(&rig, name);
		for (size_t done = 0, n; done < sizes[i]; done += n) {
			n = sizes[i] - done < 70001 ? sizes[i] - done : 70001;
			append_stream(f, n, done + i);
		}
		expect_stream(&rig, name, sizes[i], i);
		ck_assert_int_eq(metafs_file_sync(f), 0);
		expect_stream(&rig, name, sizes[i], i);
		/* A partial last block that was written is written again when the file grows. */
		append_stream(f, 100, sizes[i] + i);
		expect_stream(&rig, name, sizes[i] + 100, i);
		ck_assert_int_eq(metafs_file_sync(f), 0);
		metafs_file_close(f);
		expect_stream(&rig, name, sizes[i] + 100, i);
	}
	rig_close(&rig);
	rig_open(&rig);
	for (unsigned i = 0; i < 7; i++) {
		snprintf(name, sizeof(name), "%06u.sst", i + 10);
		expect_stream(&rig, name, sizes[i] + 100, i);
	}
	rig_free(&rig);
}
END_TEST

START_TEST(logs)
{
	struct rig rig;
	struct metafs_file *f, *reader;
	uint64_t seed = 3, size = 0;
	uint8_t buf[5000];

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	f = create(&rig, "000004.log");
	ck_assert_int_eq(metafs_file_open(rig.mf, "000004.log", &reader), 0);
	for (unsigned i = 0; i < 300; i++) {
		size_t n = rig_random(&seed) % (i % 10 ? 300 : 30000);
		uint64_t at;

		append_stream(f, n, size);
		size += n;
		if (rig_random(&seed) % 3 == 0)
			ck_assert_int_eq(metafs_file_sync(f), 0);
		/* Anywhere, in the tail and on the device. */
		at = rig_random(&seed) % (size + 1);
		n = rig_random(&seed) % sizeof(buf);
		n = n < size - at ? n : size - at;
		ck_assert_int_eq(metafs_read(reader, buf, n, at), (ssize_t)n);
		ck_assert(is_stream(buf, n, at));
	}
	ck_assert_int_eq(metafs_file_sync(f), 0);
	metafs_file_close(f);
	metafs_file_close(reader);
	for (unsigned i = 0; i < 3; i++) {
		rig_close(&rig);
		rig_open(&rig);
		expect_stream(&rig, "000004.log", size, 0);
	}
	ck_assert_uint_eq(metafs_start(rig.mf), 4);
	rig_free(&rig);
}
END_TEST

START_TEST(names)
{
	struct rig rig;
	struct metafs_file *f, *g;
	struct metafs_stat st;
	char long_name[300];

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	f = create(&rig, "tmp");
	append_stream(f, 10000, 1);
	ck_assert_int_eq(metafs_file_sync(f), 0);
	metafs_file_close(f);
	f = create(&rig, "CURRENT");
	append_stream(f, 20000, 2);
	ck_assert_int_eq(metafs_file_sync(f), 0);
	metafs_file_close(f);
	/* The replaced file stays readable by its handle. */
	ck_assert_int_eq(metafs_file_open(rig.mf, "CURRENT", &g), 0);
	ck_assert_int_eq(metafs_rename(rig.mf, "tmp", "CURRENT"), 0);
	expect_stream(&rig, "CURRENT", 10000, 1);
	expect_absent(&rig, "tmp");
	ck_assert_uint_eq(metafs_file_size(g), 20000);
	metafs_file_close(g);
	ck_assert_int_eq(metafs_sync_names(rig.mf), 0);
	ck_assert_int_eq(metafs_rename(rig.mf, "tmp", "x"), -ENOENT);
	ck_assert_int_eq(metafs_rename(rig.mf, "CURRENT", "000001.log"), -EINVAL);
	ck_assert_int_eq(metafs_unlink(rig.mf, "nothing"), -ENOENT);
	ck_assert_int_eq(metafs_stat(rig.mf, "CURRENT", &st), 0);
	ck_assert_uint_eq(st.size_bytes, 10000);
	memset(long_name, 'n', sizeof(long_name));
	long_name[256] = 0;
	ck_assert_int_eq(metafs_create(rig.mf, long_name, &f), -EINVAL);
	ck_assert_int_eq(metafs_create(rig.mf, "a\nb", &f), -EINVAL);
	long_name[255] = 0;
	ck_assert_int_eq(metafs_create(rig.mf, long_name, &f), 0);
	metafs_file_close(f);
	rig_close(&rig);
	rig_open(&rig);
	expect_stream(&rig, "CURRENT", 10000, 1);
	rig_close(&rig);
	ck_assert_int_eq(rig_try_open(&rig, true), 0);
	ck_assert_int_eq(metafs_create(rig.mf, "x", &f), -EROFS);
	ck_assert_int_eq(metafs_unlink(rig.mf, "CURRENT"), -EROFS);
	expect_stream(&rig, "CURRENT", 10000, 1);
	rig_free(&rig);
}
END_TEST

START_TEST(space_comes_back)
{
	struct rig rig;
	struct metafs_stats before, after;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	metafs_stats(rig.mf, &before);
	/* Several times the share: nothing is lost, and only what is durable is reused. */
	for (unsigned i = 0; i < 60; i++) {
		struct metafs_file *f = create(&rig, "000010.sst");

		metafs_file_expect(f, 5 << 20);
		append_stream(f, 3 << 20, i);
		if (i % 3 == 0)
			ck_assert_int_eq(metafs_file_sync(f), 0);
		metafs_file_close(f);
		expect_stream(&rig, "000010.sst", 3 << 20, i);
	}
	ck_assert_int_eq(metafs_unlink(rig.mf, "000010.sst"), 0);
	metafs_stats(rig.mf, &after);
	ck_assert_uint_eq(after.free_bytes + after.pending_bytes, before.free_bytes);
	rig_free(&rig);
}
END_TEST

START_TEST(full)
{
	struct rig rig;
	struct metafs_file *f, *log;
	static uint8_t buf[1 << 20];
	unsigned n = 0;
	char name[32];
	int err = 0;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	log = create(&rig, "000003.log");
	ck_assert_uint_ge(metafs_room(rig.mf), 6);
	for (; !err; n++) {
		snprintf(name, sizeof(name), "%06u.sst", n);
		f = create(&rig, name);
		err = metafs_append(f, buf, sizeof(buf));
		if (!err)
			ck_assert_int_eq(metafs_file_sync(f), 0);
		metafs_file_close(f);
	}
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_uint_ge(n, 20);
	ck_assert_uint_eq(metafs_room(rig.mf), 0);
	/* Not half a file: it is as it was, and deleting makes room at once. */
	ck_assert_int_eq(metafs_unlink(rig.mf, name), 0);
	ck_assert_int_eq(metafs_unlink(rig.mf, "000000.sst"), 0);
	ck_assert_int_eq(metafs_unlink(rig.mf, "000001.sst"), 0);
	f = create(&rig, "again");
	ck_assert_int_eq(metafs_append(f, buf, sizeof(buf)), 0);
	ck_assert_int_eq(metafs_file_sync(f), 0);
	metafs_file_close(f);
	append_stream(log, 100000, 0);
	ck_assert_int_eq(metafs_file_sync(log), 0);
	metafs_file_close(log);
	rig_close(&rig);
	rig_open(&rig);
	expect_stream(&rig, "000003.log", 100000, 0);
	rig_free(&rig);
}
END_TEST

START_TEST(table_full)
{
	struct rig rig;
	struct metafs_file *f;
	char name[300];
	unsigned n = 0;
	int err;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	for (;;) {
		memset(name, 'x', sizeof(name));
		name[snprintf(name, 20, "%06u", n)] = 'x';
		name[250] = 0;
		err = metafs_create(rig.mf, name, &f);
		if (err)
			break;
		metafs_file_close(f);
		n++;
	}
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_uint_ge(n, 100);
	ck_assert_int_eq(metafs_sync_names(rig.mf), 0);
	name[snprintf(name, 20, "%06u", 0)] = 'x';
	ck_assert_int_eq(metafs_unlink(rig.mf, name), 0);
	ck_assert_int_eq(metafs_create(rig.mf, "y", &f), 0);
	metafs_file_close(f);
	ck_assert_int_eq(metafs_sync_names(rig.mf), 0);
	rig_close(&rig);
	rig_open(&rig);
	expect_absent(&rig, name);
	rig_free(&rig);
}
END_TEST

/* As long as a table that could win has the file, nobody else's bytes are in its blocks. */
static void intact_or_gone(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	struct rig after;

	(void)dev;
	(void)op;
	for (unsigned i = 0; i < 4; i++) {
		uint8_t *buf;
		size_t len;

		rig_cut(arg, 4 * step + i, &after);
		rig_open(&after);
		buf = content(&after, "000010.sst", &len);
		ck_assert(!buf || (len == MIB && is_stream(buf, len, 5)));
		free(buf);
		rig_free(&after);
	}
}

START_TEST(freed_blocks_wait)
{
	static uint8_t zeros[4096];
	struct metafs_file *f, *filler;
	struct metafs_stats stats;
	struct rig rig;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	f = create(&rig, "000010.sst");
	append_stream(f, MIB, 5);
	ck_assert_int_eq(metafs_file_sync(f), 0);
	metafs_file_close(f);
	filler = create(&rig, "filler");
	while (!metafs_append(filler, zeros, sizeof(zeros)))
		;
	ck_assert_int_eq(metafs_file_sync(filler), 0);
	metafs_file_close(filler);
	rig_hook(&rig, intact_or_gone, &rig);
	ck_assert_int_eq(metafs_unlink(rig.mf, "000010.sst"), 0);
	metafs_stats(rig.mf, &stats);
	ck_assert_uint_eq(stats.free_bytes, 0);
	f = create(&rig, "000011.sst");
	append_stream(f, MIB - 4096, 6);
	ck_assert_int_eq(metafs_file_sync(f), 0);
	rig_hook(&rig, NULL, NULL);
	metafs_file_close(f);
	expect_stream(&rig, "000011.sst", MIB - 4096, 6);
	rig_free(&rig);
}
END_TEST

/* ---- Chains made by hand ---- */

struct hand {
	struct rig rig;
	struct metafs_range range;
	struct metafs_extent extent[3];
	struct metafs_table_file file[3];
	struct metafs_table table;
	uint64_t limit; /* wal_seq_next */
};

/* Two WALs of ten blocks and a spare, in a table that says that 3 blocks are durable. */
static void hand_make(struct hand *h)
{
	static const char *const wal_names[] = { "000010.log", "000012.log", "spare-1" };

	memset(h, 0, sizeof(*h));
	rig_make(&h->rig, 1, 64 * MIB, NULL);
	h->limit = (5ull << 40) + 3;
	h->table = (struct metafs_table){ .generation = (5ull << 40) | 4, .start = 5,
					  .next_file_id = (5ull << 40) + 9,
					  .wal_seq_next = h->limit, .ranges = 1, .files = 3,
					  .range = &h->range, .file = h->file };
	h->range = (struct metafs_range){ 0, 0, 6 };
	memcpy(h->table.pool_uuid, h->rig.labels[0].pool_uuid, 16);
	for (unsigned i = 0; i < 3; i++) {
		h->extent[i] = (struct metafs_extent){
			label_zone_block(&h->rig.labels[0], i), 10, 0 };
		h->file[i] = (struct metafs_table_file){
			.id = (5ull << 40) + i, .kind = METAFS_WAL,
			.log_number = i == 2 ? 0 : 10 + 2 * i, .extents = 1,
			.extent = &h->extent[i], .name = wal_names[i], .name_len = strlen(wal_names[i]) };
	}
}

/* Block index of file: sequence limit + seq, 100 bytes of the stream from 100 * seq on. */
static void hand_block(struct hand *h, unsigned file, uint32_t index, int seq, int flushed)
{
	uint8_t buf[4096] __attribute__((aligned(4096)));
	struct metafs_log_block b = { .file_id = h->file[file].id,
				      .log_number = file == 2 ? 14 : h->file[file].log_number,
				      .sequence = h->limit + (uint64_t)seq,
				      .flushed = h->limit + (uint64_t)flushed,
				      .index = index, .used = 100 };

	memcpy(b.pool, h->table.pool_uuid, sizeof(b.pool));
	stream_fill(buf + 56, 100, (uint64_t)(300 + 100 * seq));
	metafs_log_block_encode(&b, buf);
	ck_assert_int_eq(device_write(h->rig.dev[0], buf, sizeof(buf),
				      (h->extent[file].block + index) * 4096, 0), 0);
}

static int hand_open(struct hand *h)
{
	cleanup_free uint8_t *buf = NULL;
	size_t len;

	ck_assert_int_eq(posix_memalign((void **)&buf, 4096, 8192), 0);
	ck_assert_int_eq(metafs_table_encode(&h->table, buf, 8192, &len), 0);
	ck_assert_int_eq(device_write(h->rig.dev[0], buf, 4096,
				      label_slot_offset(&h->rig.labels[0], 0), 0), 0);
	return rig_try_open(&h->rig, false);
}

static void hand_durable(struct hand *h)
{
	for (int i = 0; i < 3; i++)
		hand_block(h, 0, (uint32_t)i, i - 3, -4);
}

START_TEST(chain_over_two)
{
	struct hand h;

	hand_make(&h);
	hand_durable(&h);
	hand_block(&h, 0, 3, 0, -1);
	hand_block(&h, 1, 0, 1, -1);
	hand_block(&h, 1, 1, 2, -1);
	hand_block(&h, 2, 0, 3, 2);
	ck_assert_int_eq(hand_open(&h), 0);
	expect_stream(&h.rig, "000010.log", 400, 0);
	expect_stream(&h.rig, "000012.log", 200, 400);
	expect_stream(&h.rig, "000014.log", 100, 600); /* the spare was this log */
	expect_absent(&h.rig, "spare-1");
	rig_free(&h.rig);
}
END_TEST

/* Or a hostile table of many logs would be looked through once for each. */
START_TEST(chain_never_goes_back)
{
	struct hand h;

	hand_make(&h);
	h.table.files = 2; /* no spare, which might come in between */
	hand_durable(&h);
	hand_block(&h, 0, 3, 1, -1);
	hand_block(&h, 1, 0, 0, -1);
	ck_assert_int_eq(hand_open(&h), 0);
	expect_stream(&h.rig, "000010.log", 300, 0);
	expect_stream(&h.rig, "000012.log", 100, 300);
	rig_free(&h.rig);
}
END_TEST

START_TEST(chain_with_hole)
{
	struct hand h;

	hand_make(&h);
	hand_durable(&h);
	hand_block(&h, 0, 3, 0, -1);
	hand_block(&h, 1, 0, 2, -1); /* 1 is missing */
	hand_block(&h, 1, 1, 3, -1);
	ck_assert_int_eq(hand_open(&h), 0);
	expect_stream(&h.rig, "000010.log", 400, 0);
	expect_absent(&h.rig, "000012.log");
	expect_absent(&h.rig, "spare-1");
	/* Frozen: what lies behind never comes back. */
	rig_close(&h.rig);
	rig_open(&h.rig);
	expect_stream(&h.rig, "000010.log", 400, 0);
	expect_absent(&h.rig, "000012.log");
	rig_free(&h.rig);
}
END_TEST

START_TEST(chain_damaged)
{
	for (unsigned kind = 0; kind < 4; kind++) {
		struct hand h;

		hand_make(&h);
		if (kind != 0)
			hand_durable(&h);
		switch (kind) {
		case 0: /* the last durable block is not there */
			hand_block(&h, 0, 0, -3, -4);
			hand_block(&h, 0, 1, -2, -4);
			break;
		case 1: /* a gap inside of what is durable */
			hand_block(&h, 0, 1, -1, -4);
			break;
		case 2: /* block 1 is missing, and a later one knows that it was durable */
			hand_block(&h, 0, 3, 0, -1);
			hand_block(&h, 1, 0, 2, 1);
			break;
		default: /* all of the second file's beginning is missing */
			hand_block(&h, 1, 4, 5, 4);
			break;
		}
		ck_assert_int_eq(hand_open(&h), -EBADMSG);
		rig_free(&h.rig);
	}
}
END_TEST

/* Whole files below the checkpoint may be gone: RocksDB deletes the newest first. */
START_TEST(chain_after_deletions)
{
	struct hand h;

	hand_make(&h);
	h.file[0].frozen = true;
	h.file[0].blocks = 1;
	h.file[0].size = 100;
	hand_block(&h, 0, 0, -3, -4);
	hand_block(&h, 1, 0, 0, -1);
	ck_assert_int_eq(hand_open(&h), 0);
	expect_stream(&h.rig, "000010.log", 100, 0);
	expect_stream(&h.rig, "000012.log", 100, 300);
	rig_free(&h.rig);
}
END_TEST

/* ---- Damage, devices, errors ---- */

static void flip_log_block(struct rig *rig, const char *name, uint64_t index)
{
	cleanup_free uint8_t *buf = NULL;
	struct metafs_log_block b;
	struct metafs_stat st;

	ck_assert_int_eq(metafs_stat(rig->mf, name, &st), 0);
	ck_assert_int_eq(posix_memalign((void **)&buf, 4096, 4096), 0);
	for (uint64_t at = 0; at < 64 * MIB; at += 4096) {
		ck_assert_int_eq(device_read(rig->dev[0], buf, 4096, at), 0);
		if (metafs_log_block_decode(buf, &b) || b.file_id != st.id || b.index != index)
			continue;
		sim_flip_bit(rig->dev[0], at + 100, 1);
		return;
	}
	ck_abort_msg("no such block");
}

/* A block that a later one says was durable is gone: no power cut does that. */
START_TEST(damaged_log)
{
	struct rig rig;
	struct metafs_file *f;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	f = create(&rig, "000003.log");
	for (unsigned i = 0; i < 10; i++) {
		append_stream(f, 1000, 1000 * i);
		ck_assert_int_eq(metafs_file_sync(f), 0);
	}
	flip_log_block(&rig, "000003.log", 4);
	metafs_file_close(f);
	rig_close(&rig);
	ck_assert_int_eq(rig_try_open(&rig, false), -EBADMSG);
	ck_assert_int_eq(rig_try_open(&rig, true), 0);
	expect_stream(&rig, "000003.log", 4000, 0);
	rig_close(&rig);
	ck_assert_int_eq(rig_try_open(&rig, false), -EBADMSG);
	rig_free(&rig);
}
END_TEST

/* A read error is not the end of a log. */
START_TEST(unreadable_log)
{
	struct sim_faults faults = { .seed = 1 };
	struct rig rig;
	struct metafs_file *f;
	unsigned errors = 0;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	f = create(&rig, "000003.log");
	append_stream(f, 100000, 0);
	ck_assert_int_eq(metafs_file_sync(f), 0);
	metafs_file_close(f);
	rig_close(&rig);
	for (faults.fail_read_at = 1; faults.fail_read_at < 12; faults.fail_read_at++) {
		sim_set_faults(rig.dev[0], &faults);
		if (rig_try_open(&rig, false)) {
			errors++;
			continue;
		}
		sim_set_faults(rig.dev[0], NULL);
		expect_stream(&rig, "000003.log", 100000, 0);
		rig_close(&rig);
	}
	ck_assert_uint_gt(errors, 0);
	rig_free(&rig);
}
END_TEST

START_TEST(missed_switch)
{
	struct sim_faults faults = { .seed = 1, .fail_write_ppm = 1000000 };
	struct rig rig, cut;
	struct metafs_file *f;

	rig_make(&rig, 3, 64 * MIB, NULL);
	rig_open(&rig);
	/* The third device takes nothing; all files lie on the first. */
	sim_set_faults(rig.dev[2], &faults);
	f = create(&rig, "000010.sst");
	append_stream(f, 50000, 5);
	ck_assert_int_eq(metafs_file_sync(f), 0);
	metafs_file_close(f);
	sim_set_faults(rig.dev[2], NULL);
	rig_cut(&rig, 1, &cut);
	rig_open(&cut);
	expect_stream(&cut, "000010.sst", 50000, 5);
	rig_close(&cut);
	/* It was brought up to date: with one of the others it is enough. */
	device_close(cut.dev[1]);
	cut.dev[1] = NULL;
	rig_open(&cut);
	expect_stream(&cut, "000010.sst", 50000, 5);
	rig_close(&cut);
	device_close(cut.dev[2]);
	cut.dev[2] = NULL;
	ck_assert_int_eq(rig_try_open(&cut, false), -ENXIO);
	ck_assert_int_eq(rig_try_open(&cut, true), 0);
	expect_stream(&cut, "000010.sst", 50000, 5);
	rig_free(&cut);
	rig_free(&rig);
}
END_TEST

START_TEST(no_majority)
{
	struct sim_faults faults = { .seed = 1, .fail_write_ppm = 1000000 };
	struct rig rig;
	struct metafs_file *f;

	rig_make(&rig, 3, 64 * MIB, NULL);
	rig_open(&rig);
	f = create(&rig, "000010.sst");
	append_stream(f, 50000, 5);
	sim_set_faults(rig.dev[1], &faults);
	sim_set_faults(rig.dev[2], &faults);
	ck_assert_int_eq(metafs_file_sync(f), -EIO);
	sim_set_faults(rig.dev[1], NULL);
	sim_set_faults(rig.dev[2], NULL);
	/* Final, even now that the devices are well again. */
	ck_assert_int_eq(metafs_file_sync(f), -EIO);
	ck_assert_int_eq(metafs_append(f, "x", 1), -EIO);
	metafs_file_close(f);
	rig_close(&rig);
	rig_open(&rig);
	rig_free(&rig);
}
END_TEST

START_TEST(raised_start)
{
	struct rig rig;
	struct metafs_file *f;
	uint32_t start;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig_open(&rig);
	f = create(&rig, "000003.log");
	append_stream(f, 1000, 0);
	ck_assert_int_eq(metafs_raise_start(rig.mf, &start), 0);
	ck_assert_uint_eq(start, 2);
	append_stream(f, 1000, 1000);
	ck_assert_int_eq(metafs_file_sync(f), 0);
	metafs_file_close(f);
	rig_close(&rig);
	rig_open(&rig);
	ck_assert_uint_eq(metafs_start(rig.mf), 3);
	expect_stream(&rig, "000003.log", 2000, 0);
	rig_free(&rig);
}
END_TEST

/* ---- Threads ---- */

struct shared {
	struct rig *rig;
	struct metafs_file *wal;
	_Atomic bool stop;
};

static void *syncer(void *arg)
{
	struct shared *s = arg;

	while (!s->stop)
		ck_assert_int_eq(metafs_file_sync(s->wal), 0);
	return NULL;
}

static void *compactor(void *arg)
{
	struct shared *s = arg;

	for (unsigned i = 0; i < 40; i++) {
		struct metafs_file *f = create(s->rig, "000100.sst");

		append_stream(f, 700000, i);
		ck_assert_int_eq(metafs_file_sync(f), 0);
		metafs_file_close(f);
		expect_stream(s->rig, "000100.sst", 700000, i);
	}
	return NULL;
}

START_TEST(threads)
{
	struct rig rig;
	struct shared s = { .rig = &rig };
	pthread_t sync[2], compact;
	uint64_t size = 0;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig.area_bytes = metafs_area_bytes(&rig.labels[0], SHORT_TAIL);
	ck_assert_int_eq(posix_memalign(&rig.area, 4096, rig.area_bytes), 0);
	memset(rig.area, 0, rig.area_bytes);
	rig_open(&rig);
	s.wal = create(&rig, "000003.log");
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&sync[i], NULL, syncer, &s);
	pthread_create(&compact, NULL, compactor, &s);
	for (unsigned i = 0; i < 500; i++) {
		append_stream(s.wal, 2000, size);
		size += 2000;
	}
	pthread_join(compact, NULL);
	s.stop = true;
	pthread_join(sync[0], NULL);
	pthread_join(sync[1], NULL);
	ck_assert_int_eq(metafs_sync(rig.mf), 0);
	metafs_file_close(s.wal);
	rig_close(&rig);
	rig_open(&rig);
	expect_stream(&rig, "000003.log", size, 0);
	rig_free(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("metafs");
	TCase *basic = tcase_create("basic");
	const TTest *const tests[] = { table_round_trip, table_damage, table_hostile,
				       table_impossible, log_blocks, plain_files, logs, names,
				       space_comes_back, full, table_full, damaged_log,
				       unreadable_log, missed_switch, no_majority,
				       raised_start, threads,
				       chain_over_two, chain_with_hole, chain_never_goes_back, chain_damaged,
				       chain_after_deletions, freed_blocks_wait };

	tcase_set_timeout(basic, UNIT_LIMIT_S);
	tcase_add_checked_fixture(basic, rig_set_up, NULL);
	for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(basic, tests[i]);
	suite_add_tcase(suite, basic);
	return unit_run_suite(suite);
}
