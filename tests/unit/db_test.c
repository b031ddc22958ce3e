/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "meta/db.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "io/cleanup.h"
#include "io/le.h"
#include "io/log.h"
#include "meta/db_internal.h"
#include "meta/metafs_internal.h"
#include "tests/unit/metafs_rig.h"

struct drig {
	struct rig rig;
	struct db *db;
	bool read_only;
	size_t write_buffer;
};

static int drig_open(struct drig *d, bool create)
{
	struct db_options options = { .create = create,
				      .read_only = d->read_only,
				      .write_buffer_bytes = d->write_buffer,
				      .block_cache_bytes = 8 * MIB };
	int err = rig_try_open(&d->rig, d->read_only);

	return err ? err : db_open(d->rig.mf, &options, &d->db);
}

static void drig_close(struct drig *d)
{
	db_close(d->db);
	d->db = NULL;
	rig_close(&d->rig);
}

static void drig_free(struct drig *d)
{
	drig_close(d);
	rig_free(&d->rig);
}

static void drig_make(struct drig *d, unsigned devices, uint64_t size)
{
	memset(d, 0, sizeof(*d));
	rig_make(&d->rig, devices, size, NULL);
	ck_assert_int_eq(drig_open(d, true), 0);
}

static void put(struct drig *d, enum db_cf cf, const char *key, const char *value)
{
	cleanup_db_batch struct db_batch *b = db_batch_new();

	db_batch_put(d->db, b, cf, key, strlen(key), value, strlen(value));
	ck_assert_int_eq(db_write(d->db, b, 0), 0);
}

static void expect(struct drig *d, enum db_cf cf, const char *key, const char *value)
{
	cleanup_db_value struct db_value v = { 0 };
	int err = db_get(d->db, cf, key, strlen(key), 0, &v);

	ck_assert_int_eq(err, value ? 0 : -ENOENT);
	if (!value)
		return;
	ck_assert_uint_eq(v.len, strlen(value));
	ck_assert_mem_eq(v.data, value, v.len);
}

/* ---- The interface ---- */

START_TEST(opens_and_keeps)
{
	struct drig d;

	drig_make(&d, 1, 64 * MIB);
	put(&d, DB_NS, "a", "1");
	put(&d, DB_MAP, "b", "2");
	put(&d, DB_SYS, "c", "3");
	expect(&d, DB_NS, "a", "1");
	expect(&d, DB_MAP, "a", NULL);
	ck_assert_int_eq(db_sync(d.db), 0);
	drig_close(&d);
	ck_assert_int_eq(drig_open(&d, true), -EEXIST);
	drig_close(&d);
	ck_assert_int_eq(drig_open(&d, false), 0);
	expect(&d, DB_NS, "a", "1");
	expect(&d, DB_MAP, "b", "2");
	expect(&d, DB_SYS, "c", "3");
	put(&d, DB_NS, "later", "4");
	ck_assert_int_eq(db_sync(d.db), 0);
	drig_close(&d);
	d.read_only = true;
	ck_assert_int_eq(drig_open(&d, false), 0);
	expect(&d, DB_NS, "a", "1");
	expect(&d, DB_NS, "later", "4");
	ck_assert_int_eq(db_sync(d.db), -EROFS);
	drig_free(&d);
}
END_TEST

START_TEST(missing)
{
	struct drig d;

	memset(&d, 0, sizeof(d));
	rig_make(&d.rig, 1, 64 * MIB, NULL);
	ck_assert_int_eq(drig_open(&d, false), -ENOENT);
	drig_free(&d);
}
END_TEST

START_TEST(batches)
{
	struct drig d;
	cleanup_db_batch struct db_batch *b = db_batch_new();

	drig_make(&d, 1, 64 * MIB);
	put(&d, DB_NS, "gone", "x");
	ck_assert_uint_eq(db_batch_count(b), 0);
	db_batch_put(d.db, b, DB_NS, "k1", 2, "v1", 2);
	db_batch_put(d.db, b, DB_MAP, "k2", 2, "v2", 2);
	db_batch_delete(d.db, b, DB_NS, "gone", 4);
	ck_assert_uint_eq(db_batch_count(b), 3);
	ck_assert_uint_gt(db_batch_bytes(b), 12);
	ck_assert_int_eq(db_write(d.db, b, DB_NO_SLOWDOWN), 0);
	expect(&d, DB_NS, "k1", "v1");
	expect(&d, DB_MAP, "k2", "v2");
	expect(&d, DB_NS, "gone", NULL);
	db_batch_clear(b);
	ck_assert_uint_eq(db_batch_count(b), 0);
	ck_assert_int_eq(db_batch_delete_range(d.db, b, DB_NS, "k", 1, "l", 1), 0);
	ck_assert_int_eq(db_write(d.db, b, 0), 0);
	expect(&d, DB_NS, "k1", NULL);
	drig_free(&d);
}
END_TEST

/* Earlier versions ended a session with a range deletion: a log that has one can be recovered. */
START_TEST(old_range_deletions)
{
	rocksdb_writebatch_t *b = rocksdb_writebatch_create();
	char *message = NULL;
	struct drig d;

	drig_make(&d, 1, 64 * MIB);
	for (unsigned i = 0; i < 100; i++) {
		char key[16];

		snprintf(key, sizeof(key), "R000s%02u", i);
		put(&d, DB_SYS, key, "reply");
	}
	rocksdb_writebatch_delete_range_cf(b, db_handle(d.db, DB_SYS), "R000s10", 7, "R000s90", 7);
	rocksdb_write(d.db->rocks, d.db->write, b, &message);
	rocksdb_writebatch_destroy(b);
	ck_assert_ptr_null(message);
	ck_assert_int_eq(db_sync(d.db), 0);
	drig_close(&d);
	ck_assert_int_eq(drig_open(&d, false), 0);
	expect(&d, DB_SYS, "R000s09", "reply");
	expect(&d, DB_SYS, "R000s10", NULL);
	expect(&d, DB_SYS, "R000s50", NULL);
	expect(&d, DB_SYS, "R000s90", "reply");
	drig_free(&d);
}
END_TEST

static void put_many(struct drig *d, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		char key[16], value[400];

		snprintf(key, sizeof(key), "key%06u", i);
		memset(value, 'v', sizeof(value));
		snprintf(value + 385, 12, "%06u", i);
		put(d, DB_NS, key, value);
	}
}

START_TEST(cached_only)
{
	struct drig d;
	cleanup_db_value struct db_value v = { 0 };

	drig_make(&d, 1, 64 * MIB);
	put_many(&d, 2000);
	/* In the memtable. */
	ck_assert_int_eq(db_get(d.db, DB_NS, "key001999", 9, DB_CACHED_ONLY, &v), 0);
	db_value_release(&v);
	ck_assert_int_eq(db_flush(d.db), 0);
	/* Nothing is left to a compaction after the open, which would warm the cache. */
	ck_assert_int_eq(db_compact(d.db), 0);
	ck_assert_int_eq(db_sync(d.db), 0);
	drig_close(&d);
	ck_assert_int_eq(drig_open(&d, false), 0);
	ck_assert_int_eq(db_get(d.db, DB_NS, "key000100", 9, DB_CACHED_ONLY, &v), -EAGAIN);
	ck_assert_ptr_null(v.pin);
	ck_assert_int_eq(db_get(d.db, DB_NS, "key000100", 9, 0, &v), 0);
	ck_assert_uint_eq(v.len, 391);
	db_value_release(&v);
	ck_assert_int_eq(db_get(d.db, DB_NS, "nothing", 7, 0, &v), -ENOENT);
	ck_assert_int_eq(db_get(d.db, DB_NS, "key000100", 9, DB_CACHED_ONLY, &v), 0);
	db_value_release(&v);
	drig_free(&d);
}
END_TEST

static unsigned count(struct db_iter *iter)
{
	unsigned n = 0;

	for (db_iter_first(iter); db_iter_valid(iter); db_iter_next(iter))
		n++;
	ck_assert_int_eq(db_iter_error(iter), 0);
	return n;
}

/*
 * A level's tables follow on each other: a walk in memory only that comes to the end of one, when the next one's first block is
 * not in memory, has to say so. RocksDB 7.8 forgets it at that place unless it is told that there are no range deletions.
 */
START_TEST(cached_only_iterators)
{
	struct drig d;
	unsigned whole = 0;

	drig_make(&d, 1, 64 * MIB);
	put_many(&d, 4000);
	ck_assert_int_eq(db_flush(d.db), 0);
	ck_assert_int_eq(db_compact(d.db), 0);
	ck_assert_int_eq(db_sync(d.db), 0);
	drig_close(&d);
	ck_assert_int_eq(drig_open(&d, false), 0);
	for (unsigned i = 0; i + 4 < 4000; i++) {
		cleanup_db_value struct db_value v = { 0 };
		cleanup_db_iter struct db_iter *iter = NULL;
		char from[16], to[16];
		unsigned n = 0;
		int err;

		snprintf(from, sizeof(from), "key%06u", i);
		snprintf(to, sizeof(to), "key%06u", i + 4);
		ck_assert_int_eq(db_get(d.db, DB_NS, from, 9, 0, &v), 0);
		iter = db_iter_new(d.db, DB_NS, from, 9, to, 9, DB_CACHED_ONLY);
		for (db_iter_seek(iter, from, 9); db_iter_valid(iter); db_iter_next(iter))
			n++;
		err = db_iter_error(iter);
		ck_assert_msg(err == -EAGAIN || (err == 0 && n == 4), "from %u on: %u of 4, error %d", i, n, err);
		whole += !err;
	}
	ck_assert_uint_gt(whole, 1000);
	drig_free(&d);
}
END_TEST

START_TEST(iterators)
{
	struct drig d;
	struct db_iter *iter;
	const char *key;
	size_t len;

	drig_make(&d, 1, 64 * MIB);
	put_many(&d, 100);
	iter = db_iter_new(d.db, DB_NS, "key000010", 9, "key000020", 9, 0);
	put(&d, DB_NS, "key000015x", "after the iterator");
	ck_assert_uint_eq(count(iter), 10);
	db_iter_seek(iter, "key000015", 9);
	key = db_iter_key(iter, &len);
	ck_assert_uint_eq(len, 9);
	ck_assert_mem_eq(key, "key000015", 9);
	db_iter_seek_prev(iter, "key000015zz", 11);
	key = db_iter_key(iter, &len);
	ck_assert_mem_eq(key, "key000015", 9);
	db_iter_prev(iter);
	key = db_iter_key(iter, &len);
	ck_assert_mem_eq(key, "key000014", 9);
	db_iter_value(iter, &len);
	ck_assert_uint_eq(len, 391);
	db_iter_last(iter);
	key = db_iter_key(iter, &len);
	ck_assert_mem_eq(key, "key000019", 9);
	db_iter_next(iter);
	ck_assert(!db_iter_valid(iter));
	db_iter_free(iter);
	iter = db_iter_new(d.db, DB_NS, NULL, 0, NULL, 0, 0);
	ck_assert_uint_eq(count(iter), 101);
	db_iter_free(iter);
	ck_assert_int_eq(db_flush(d.db), 0);
	ck_assert_int_eq(db_sync(d.db), 0);
	drig_close(&d);
	ck_assert_int_eq(drig_open(&d, false), 0);
	iter = db_iter_new(d.db, DB_NS, NULL, 0, NULL, 0, DB_CACHED_ONLY);
	db_iter_first(iter);
	ck_assert(!db_iter_valid(iter));
	ck_assert_int_eq(db_iter_error(iter), -EAGAIN);
	db_iter_free(iter);
	drig_free(&d);
}
END_TEST

START_TEST(two_pools)
{
	struct drig a, b;

	drig_make(&a, 1, 64 * MIB);
	drig_make(&b, 2, 64 * MIB);
	put(&a, DB_NS, "who", "a");
	put(&b, DB_NS, "who", "b");
	expect(&a, DB_NS, "who", "a");
	expect(&b, DB_NS, "who", "b");
	drig_free(&a);
	expect(&b, DB_NS, "who", "b");
	drig_free(&b);
}
END_TEST

/* Each sync closes a block: the log must not outgrow its share however small the batches are. */
START_TEST(log_stays_bounded)
{
	struct drig d;
	struct db_stats stats;
	uint64_t most = 0;

	drig_make(&d, 1, 64 * MIB);
	for (unsigned i = 0; i < 3000; i++) {
		put(&d, DB_NS, "same", "key");
		ck_assert_int_eq(db_sync(d.db), 0);
		if (i % 50)
			continue;
		db_stats(d.db, &stats);
		most = stats.wal_bytes > most ? stats.wal_bytes : most;
		ck_assert(!stats.failed);
	}
	ck_assert_uint_ge(most, 100 << 10);
	ck_assert_uint_le(most, 6 * MIB);
	drig_free(&d);
}
END_TEST

static int put_noise(struct drig *d, uint64_t n, uint64_t *seed)
{
	cleanup_db_batch struct db_batch *b = db_batch_new();
	uint8_t value[2000];

	for (size_t i = 0; i < sizeof(value); i += 8)
		put_le64(value + i, rig_random(seed));
	db_batch_put(d->db, b, DB_NS, &n, sizeof(n), value, sizeof(value));
	return db_write(d->db, b, 0);
}

/*
 * Somebody ignores that there is no room: writes fail with ENOSPC at some point, what was written
 * stays, and the database opens again and again.
 */
START_TEST(filled_to_the_brim)
{
	struct drig d;
	uint64_t seed = 9, n = 0, probe;
	int err = 0;

	drig_make(&d, 1, 64 * MIB);
	for (; n < 100000 && !err; n++)
		err = put_noise(&d, n, &seed);
	ck_assert_int_eq(err, -ENOSPC);
	probe = --n;
	ck_assert_uint_ge(n * 2000, 16 * MIB);
	ck_assert_int_eq(db_sync(d.db), 0);
	for (unsigned round = 0; round < 3; round++) {
		drig_close(&d);
		ck_assert_int_eq(drig_open(&d, false), 0);
		for (uint64_t i = 0; i < probe; i += 97) {
			cleanup_db_value struct db_value v = { 0 };

			ck_assert_int_eq(db_get(d.db, DB_NS, &i, sizeof(i), 0, &v), 0);
		}
	}
	drig_free(&d);
}
END_TEST

/* With a slow device the memtables fill: a reactor gets -EAGAIN, and nothing of its batch is done. */
START_TEST(no_slowdown)
{
	struct sim_faults slow = { .seed = 1, .latency_min_ns = 3000000, .latency_max_ns = 4000000 };
	struct drig d;
	char key[16], value[4000];
	unsigned i, again = 0;
	int err = 0;

	memset(&d, 0, sizeof(d));
	d.write_buffer = 64 << 10;
	rig_make(&d.rig, 1, 64 * MIB, NULL);
	ck_assert_int_eq(drig_open(&d, true), 0);
	sim_set_faults(d.rig.dev[0], &slow);
	memset(value, 'x', sizeof(value));
	for (i = 0; i < 2000 && !again; i++) {
		cleanup_db_batch struct db_batch *b = db_batch_new();

		snprintf(key, sizeof(key), "%06u", i);
		db_batch_put(d.db, b, DB_NS, key, 6, value, sizeof(value));
		err = db_write(d.db, b, DB_NO_SLOWDOWN);
		if (err != -EAGAIN) {
			ck_assert_int_eq(err, 0);
			continue;
		}
		expect(&d, DB_NS, key, NULL);
		ck_assert_int_eq(db_write(d.db, b, 0), 0);
		again++;
	}
	ck_assert_uint_eq(again, 1);
	sim_set_faults(d.rig.dev[0], NULL);
	drig_free(&d);
}
END_TEST

/* The log's tail is synced in the background before a writer has to wait for it. */
START_TEST(tail_is_drained)
{
	struct metafs_stats stats;
	struct drig d;

	memset(&d, 0, sizeof(d));
	rig_make(&d.rig, 1, 64 * MIB, NULL);
	d.rig.area_bytes = metafs_area_bytes(&d.rig.labels[0], 256 << 10);
	ck_assert_int_eq(posix_memalign(&d.rig.area, 4096, d.rig.area_bytes), 0);
	memset(d.rig.area, 0, d.rig.area_bytes);
	ck_assert_int_eq(drig_open(&d, true), 0);
	put_many(&d, 400); /* 160 KB, more than half */
	for (unsigned i = 0; i < 6000; i++) {
		metafs_stats(d.rig.mf, &stats);
		if (stats.tail_bytes < 128 << 10)
			break;
		usleep(10000);
	}
	ck_assert_uint_lt(stats.tail_bytes, 128 << 10);
	drig_free(&d);
}
END_TEST

/* What the pool does: grow while there is room, then only delete; never a failed database. */
START_TEST(full_and_deleted)
{
	struct drig d;
	struct db_stats stats;
	uint64_t seed = 5, n = 0, least = UINT64_MAX, lowest = UINT64_MAX, free_bytes;

	drig_make(&d, 1, 64 * MIB);
	for (unsigned round = 0; round < 3; round++) {
		uint64_t begun = n;

		while (metafs_room(d.rig.mf) && n < 40000) {
			ck_assert_int_eq(put_noise(&d, n++, &seed), 0);
			if (n % 16 == 0)
				ck_assert_int_eq(db_sync(d.db), 0);
		}
		ck_assert_uint_lt(n, 40000);
		least = n - begun < least ? n - begun : least;
		/* Deletes, and a few writes of what was accepted before. */
		for (uint64_t i = begun; i < n; i++) {
			cleanup_db_batch struct db_batch *b = db_batch_new();

			db_batch_delete(d.db, b, DB_NS, &i, sizeof(i));
			ck_assert_int_eq(db_write(d.db, b, 0), 0);
			free_bytes = metafs_free_bytes(d.rig.mf);
			lowest = free_bytes < lowest ? free_bytes : lowest;
			if (i % 16 == 0)
				ck_assert_int_eq(db_sync(d.db), 0);
		}
		ck_assert_int_eq(db_flush(d.db), 0);
		ck_assert_int_eq(db_compact(d.db), 0);
		db_stats(d.db, &stats);
		ck_assert(!stats.failed);
		ck_assert_uint_ge(metafs_room(d.rig.mf), 5);
	}
	if (getenv("NVFS_TEST_VERBOSE"))
		fprintf(stderr, "%" PRIu64 " records at least, free %" PRIu64 " at the lowest\n", least,
			lowest);
	/* Half of the share is usable by records at least. */
	ck_assert_msg(least * 2000 >= 12 * MIB, "only %" PRIu64 " records", least);
	drig_close(&d);
	ck_assert_int_eq(drig_open(&d, false), 0);
	drig_free(&d);
}
END_TEST

static void put_large(struct drig *d, uint64_t n, uint64_t *seed)
{
	cleanup_db_batch struct db_batch *b = db_batch_new();
	uint64_t value[2000];

	for (unsigned i = 0; i < 2000; i++)
		value[i] = rig_random(seed);
	db_batch_put(d->db, b, DB_NS, &n, sizeof(n), value, sizeof(value));
	ck_assert_int_eq(db_write(d->db, b, 0), 0);
	ck_assert_int_eq(db_sync(d->db), 0);
}

/*
 * Full, then all is deleted, which is so little to write that the memtable has room for it, and nobody writes any more: whoever
 * asks for room gets it all the same.
 */
START_TEST(room_is_made)
{
	uint64_t seed = 6, n = 0;
	struct drig d;

	drig_make(&d, 1, 64 * MIB);
	while (metafs_room(d.rig.mf) && n < 10000)
		put_large(&d, n++, &seed);
	ck_assert_uint_lt(n, 10000);
	for (uint64_t i = 0; i < n; i++) {
		cleanup_db_batch struct db_batch *b = db_batch_new();

		db_batch_delete(d.db, b, DB_NS, &i, sizeof(i));
		ck_assert_int_eq(db_write(d.db, b, 0), 0);
	}
	for (unsigned i = 0; i < 6000 && metafs_room(d.rig.mf) < 3; i++) {
		db_make_room(d.db);
		usleep(10000);
	}
	ck_assert_uint_ge(metafs_room(d.rig.mf), 3);
	drig_free(&d);
}
END_TEST

/* ---- Cuts ---- */

#define KEYS 48u
#define SHOTS_MAX 4096

/* A moment of the devices, and what had been promised then. */
struct shot {
	struct rig rig;
	uint64_t synced, written;
};

struct work {
	struct drig d;
	uint64_t seed, written, synced; /* lock: numbers of batches */
	pthread_mutex_t lock;
	struct shot *shots;             /* lock */
	unsigned n;                     /* lock */
	unsigned every;
	bool kill;
	uint64_t checked, deep;
};

/* What batch number n does to key k: 0 nothing, 1 put, 2 delete. */
static unsigned batch_op(uint64_t seed, uint64_t n, unsigned k)
{
	uint64_t state = seed ^ n << 16 ^ k;
	uint64_t r = rig_random(&state) % 16;

	return r < 3 ? 1 : r == 3 ? 2 : 0;
}

static size_t batch_value(uint64_t seed, uint64_t n, unsigned k, uint8_t *value)
{
	uint64_t state = seed ^ n << 20 ^ k;
	size_t len = 8 + rig_random(&state) % 700;

	for (size_t i = 0; i < len; i++)
		value[i] = (uint8_t)(n + i * k);
	put_le64(value, n);
	return len;
}

static enum db_cf key_cf(unsigned k)
{
	return k % 2 ? DB_NS : DB_MAP;
}

static void write_batch(struct work *w, uint64_t n)
{
	cleanup_db_batch struct db_batch *b = db_batch_new();
	uint8_t value[1024];
	uint8_t number[8];

	put_le64(number, n);
	db_batch_put(w->d.db, b, DB_SYS, "number", 6, number, 8);
	for (unsigned k = 0; k < KEYS; k++) {
		unsigned op = batch_op(w->seed, n, k);

		if (op == 1)
			db_batch_put(w->d.db, b, key_cf(k), &k, sizeof(k), value,
				     batch_value(w->seed, n, k, value));
		else if (op == 2)
			db_batch_delete(w->d.db, b, key_cf(k), &k, sizeof(k));
	}
	ck_assert_int_eq(db_write(w->d.db, b, 0), 0);
}

/* The database is the result of the batches 1..number, and nothing else. */
static void check_prefix(const struct work *w, struct db *db, uint64_t number)
{
	for (unsigned k = 0; k < KEYS; k++) {
		cleanup_db_value struct db_value v = { 0 };
		uint64_t last = number;
		uint8_t value[1024];
		size_t len;
		int err;

		while (last && !batch_op(w->seed, last, k))
			last--;
		err = db_get(db, key_cf(k), &k, sizeof(k), 0, &v);
		if (!last || batch_op(w->seed, last, k) == 2) {
			ck_assert_int_eq(err, -ENOENT);
			continue;
		}
		ck_assert_int_eq(err, 0);
		len = batch_value(w->seed, last, k, value);
		ck_assert_uint_eq(v.len, len);
		ck_assert_mem_eq(v.data, value, len);
	}
}

static void check_open(struct work *w, struct drig *d, uint64_t synced, uint64_t written)
{
	cleanup_db_value struct db_value v = { 0 };
	uint64_t number = 0;
	int err = drig_open(d, false);

	ck_assert_msg(!err, "cannot open: %s", strerror(-err));
	err = db_get(d->db, DB_SYS, "number", 6, 0, &v);
	if (!err)
		number = get_le64(v.data);
	ck_assert_msg(number >= synced && number <= written,
		      "batch %" PRIu64 ", %" PRIu64 " were synced and %" PRIu64 " written", number,
		      synced, written);
	check_prefix(w, d->db, number);
}

static void take_shot(struct work *w, uint64_t seed)
{
	struct shot *s;

	if (w->n == SHOTS_MAX)
		return;
	s = &w->shots[w->n++];
	s->synced = w->kill ? w->written : w->synced;
	s->written = w->written + 1;
	if (w->kill)
		rig_kill(&w->d.rig, &s->rig);
	else
		rig_cut(&w->d.rig, seed, &s->rig);
}

/* On any thread that does I/O; RocksDB is opened on the shots later, not from in here. */
static void shoot(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	struct work *w = arg;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&w->lock);

	(void)dev;
	(void)op;
	if (step % w->every == 0)
		take_shot(w, step + w->seed);
}

/* The recovery itself is cut, too. */
static void check_shot(struct work *w, struct shot *s, bool deep)
{
	struct work again = { .seed = w->seed, .every = 3, .kill = w->kill };

	again.d.rig = s->rig;
	again.written = s->written - 1;
	again.synced = s->synced;
	again.d.write_buffer = w->d.write_buffer;
	pthread_mutex_init(&again.lock, NULL);
	if (deep) {
		again.shots = calloc(SHOTS_MAX, sizeof(*again.shots));
		rig_hook(&again.d.rig, shoot, &again);
	}
	if (deep && w->kill) { /* only while one thread runs: RocksDB's would go on */
		ck_assert_int_eq(rig_try_open(&again.d.rig, false), 0);
		rig_hook(&again.d.rig, NULL, NULL);
		rig_close(&again.d.rig);
	}
	check_open(w, &again.d, s->synced, s->written);
	rig_hook(&again.d.rig, NULL, NULL);
	drig_free(&again.d);
	for (unsigned i = 0; i < again.n; i++, w->deep++)
		check_shot(w, &again.shots[i], false);
	free(again.shots);
	w->checked++;
}

/* A kill stops all threads at once: here by the locks that everything in the area changes under. */
static void shoot_killed(struct work *w)
{
	struct metafs *mf = w->d.rig.mf;

	pthread_mutex_lock(&mf->sync_lock);
	pthread_mutex_lock(&mf->lock);
	take_shot(w, 0);
	pthread_mutex_unlock(&mf->lock);
	pthread_mutex_unlock(&mf->sync_lock);
}

static void check_shots(struct work *w)
{
	unsigned n;

	pthread_mutex_lock(&w->lock);
	n = w->n;
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < n; i++)
		check_shot(w, &w->shots[i], i % 24 == 0);
}

static void run(unsigned devices, uint64_t seed, unsigned last, unsigned every, bool kill)
{
	struct work w = { .seed = seed * 1000003, .every = every, .kill = kill };
	uint64_t state = seed;

	pthread_mutex_init(&w.lock, NULL);
	w.shots = calloc(SHOTS_MAX, sizeof(*w.shots));
	w.d.write_buffer = 64 << 10;
	rig_make(&w.d.rig, devices, 64 * MIB, NULL);
	w.d.rig.area_bytes = metafs_area_bytes(&w.d.rig.labels[0], 128 << 10);
	ck_assert_int_eq(posix_memalign(&w.d.rig.area, 4096, w.d.rig.area_bytes), 0);
	memset(w.d.rig.area, 0, w.d.rig.area_bytes);
	ck_assert_int_eq(drig_open(&w.d, true), 0);
	ck_assert_int_eq(db_sync(w.d.db), 0);
	if (!kill)
		rig_hook(&w.d.rig, shoot, &w);
	for (unsigned i = 1; i <= last; i++) {
		write_batch(&w, i);
		pthread_mutex_lock(&w.lock);
		w.written = i;
		pthread_mutex_unlock(&w.lock);
		if (kill && i % every == 0)
			shoot_killed(&w);
		if (rig_random(&state) % 5)
			continue;
		ck_assert_int_eq(db_sync(w.d.db), 0);
		pthread_mutex_lock(&w.lock);
		w.synced = i;
		pthread_mutex_unlock(&w.lock);
	}
	rig_hook(&w.d.rig, NULL, NULL);
	drig_free(&w.d);
	check_shots(&w);
	ck_assert_uint_gt(w.checked, 20);
	ck_assert_uint_gt(w.deep, 0);
	free(w.shots);
}

START_TEST(cuts)
{
	run(1, 1 + (uint64_t)_i, 250, 3, false);
}
END_TEST

START_TEST(cuts_of_two)
{
	run(2, 50 + (uint64_t)_i, 120, 5, false);
}
END_TEST

START_TEST(kills)
{
	run(1, 100 + (uint64_t)_i, 250, 5, true);
}
END_TEST

/* NVFS_TEST_SEEDS: how many seeds the crash tests go through. */
int main(void)
{
	const char *env = getenv("NVFS_TEST_SEEDS");
	int seeds = env ? atoi(env) : 2;
	Suite *suite = suite_create("db");
	TCase *basic = tcase_create("basic"), *crash = tcase_create("crash");
	const TTest *const tests[] = { opens_and_keeps, missing, batches, old_range_deletions, cached_only, cached_only_iterators, iterators,
				       two_pools, log_stays_bounded, full_and_deleted, room_is_made,
				       filled_to_the_brim, no_slowdown, tail_is_drained };

	tcase_set_timeout(basic, UNIT_LIMIT_S);
	tcase_set_timeout(crash, 300);
	tcase_add_checked_fixture(basic, rig_set_up, NULL);
	tcase_add_checked_fixture(crash, rig_set_up, NULL);
	for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(basic, tests[i]);
	tcase_add_loop_test(crash, cuts, 0, seeds);
	tcase_add_loop_test(crash, cuts_of_two, 0, seeds);
	tcase_add_loop_test(crash, kills, 0, seeds);
	suite_add_tcase(suite, basic);
	suite_add_tcase(suite, crash);
	return unit_run_suite(suite);
}
