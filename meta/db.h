/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pool's metadata store: RocksDB on metafs, behind the calls that the rest of meta/ needs.
 *
 * All functions may be called from any thread unless said otherwise. A batch and an iterator
 * belong to one thread at a time. Errors are logged here, once, except those that a caller
 * expects (-ENOENT, -EAGAIN).
 */
#ifndef NVFS_META_DB_H
#define NVFS_META_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;
struct db_batch;
struct db_iter;
struct metafs;

enum db_cf { DB_NS, DB_MAP, DB_SPACE, DB_SYS, DB_CF_COUNT };

enum db_flags {
	DB_CACHED_ONLY = 1u << 0, /* reads: memory only, never a device read; -EAGAIN instead */
	DB_NO_SLOWDOWN = 1u << 1, /* writes: -EAGAIN instead of waiting for a flush or compaction */
	DB_PASSING = 1u << 2,     /* iterators: what is read once is not kept in the block cache, where others need the room */
};

struct db_options {
	size_t block_cache_bytes;  /* 0: 64 MiB. Data, index and filter blocks together */
	size_t write_buffer_bytes; /* 0: by the size of metafs. Of each column family's memtable */
	bool read_only;            /* replays the WALs into memory and writes nothing */
	bool create;               /* a new database; -EEXIST when there is one */
};

struct db_stats {
	uint64_t memtable_bytes;
	uint64_t block_cache_bytes;  /* in use */
	uint64_t table_reader_bytes; /* outside the block cache */
	uint64_t wal_bytes;          /* blocks of all WALs, used or closed by a sync */
	uint64_t sst_bytes;
	uint64_t pending_compaction_bytes;
	uint64_t keys_estimate[DB_CF_COUNT];
	bool stopped;                /* writers wait (or get -EAGAIN) until a flush or compaction ends */
	bool failed;                 /* the last write failed, and not for a stall: no room, or an error of the devices */
};

/*
 * Open the database that lives in mf, which must stay open until db_close(). Recovery happens
 * here. 0, -EEXIST (create), -ENOENT (no database and not create), -EIO, -ENOSPC, -ENOMEM,
 * -EINVAL for a database that is damaged or not ours.
 */
int db_open(struct metafs *mf, const struct db_options *options, struct db **out);

/*
 * Wait for background work and close. What was written stays in the WALs; it is *not* synced
 * here. Iterators and pinned values must be gone. NULL is fine.
 */
void db_close(struct db *db);

/* ---- Values ---- */

/* A value that was read; data is valid until the release, which must come before db_close(). */
struct db_value {
	const void *data;
	size_t len;
	void *pin;
};

/* Idempotent; also for one that is all zeros. */
void db_value_release(struct db_value *value);

#define cleanup_db_value __attribute__((__cleanup__(db_value_release)))

/*
 * 0 and *out (zero it or release it before), -ENOENT, -EAGAIN (DB_CACHED_ONLY and it needs a
 * device read), -EIO. On an error *out is all zeros. No copy is made of what lies in the block cache. There is no call for several keys: RocksDB's
 * (7.8, batched MultiGet) reads from the device when it is asked for what is cached only, and where the first block that may have a key does not
 * and the next one is not cached it answers OK with an empty value.
 */
int db_get(struct db *db, enum db_cf cf, const void *key, size_t key_len, unsigned flags,
	   struct db_value *out);

/* ---- Writing ---- */

/* NULL when there is no memory. */
struct db_batch *db_batch_new(void);
void db_batch_free(struct db_batch *batch); /* NULL is fine */
static inline void db_batch_cleanup(struct db_batch **batch)
{
	db_batch_free(*batch);
}
#define cleanup_db_batch __attribute__((__cleanup__(db_batch_cleanup)))

/* Keys and values are copied. */
void db_batch_put(struct db *db, struct db_batch *batch, enum db_cf cf, const void *key,
		  size_t key_len, const void *value, size_t value_len);
void db_batch_delete(struct db *db, struct db_batch *batch, enum db_cf cf, const void *key,
		     size_t key_len);
void db_batch_merge(struct db *db, struct db_batch *batch, enum db_cf cf, const void *key,
		    size_t key_len, const void *operand, size_t operand_len);
/*
 * Delete each key that the database has from start (included) to end (not): reads them, so it may sleep. 0 or -errno (then some
 * may be in the batch). There are no range deletions: what iterators do with them loses keys, see db_iter_new().
 */
int db_batch_delete_range(struct db *db, struct db_batch *batch, enum db_cf cf, const void *start,
			  size_t start_len, const void *end, size_t end_len);
void db_batch_clear(struct db_batch *batch);
/* As it goes into the WAL. */
size_t db_batch_bytes(const struct db_batch *batch);
/* Number of operations in it. */
size_t db_batch_count(const struct db_batch *batch);

/*
 * Apply the batch, all of it or nothing, readable at once, durable after the next db_sync(). The batch is
 * left as it is. 0; -EAGAIN (DB_NO_SLOWDOWN): nothing was done, and the caller keeps back every
 * later batch of the same subvolume until this one went in; -ENOSPC: metafs is full; -EIO; -EROFS.
 */
int db_write(struct db *db, struct db_batch *batch, unsigned flags);

/*
 * Make durable every batch whose db_write() returned before this call, the data of the devices
 * first. At most two device flushes. -EIO is final: the pool must stop writing. Callers
 * at the same time share the work; meant for the commit thread.
 */
int db_sync(struct db *db);

/* Flush the devices ahead of a db_sync() that will come soon; metafs_flush_ahead(). */
int db_flush_ahead(struct db *db);

/*
 * Write the memtables out as tables and wait for it. For tests, measurements and a clean stop
 * that shall make the next open short.
 */
int db_flush(struct db *db);

/*
 * Somebody was refused because the share of metadata is full. Returns at once; in the background the memtables are written out,
 * whose deletions, and whose logs, may be what is missing, and tables that have something to give back are compacted. Any
 * thread, as often as it likes: little of it is done.
 */
void db_make_room(struct db *db);

/*
 * Compare each block of every table with its checksum. fn is called for each of the `all` tables, in the caller's thread; err is 0,
 * -EBADMSG or -EIO. 0 or -ENOMEM. Any thread.
 */
typedef void (*db_verified_fn)(void *arg, const char *name, unsigned done, unsigned all, int err);
int db_verify_tables(struct db *db, db_verified_fn fn, void *arg);

/* Compact every column family completely and wait. For tests and measurements. */
int db_compact(struct db *db);

/* ---- Moments: what the database has now, for iterators over all column families ---- */

struct db_snapshot;

/*
 * Old versions of what is changed meanwhile stay on the devices until it is freed: for minutes, not for days. NULL when there is no
 * memory. Freed before db_close(), after its iterators; NULL is fine.
 */
struct db_snapshot *db_snapshot_new(struct db *db);
void db_snapshot_free(struct db *db, struct db_snapshot *snapshot);

/* ---- Iterators: a consistent view of one column family as of their creation ---- */

/*
 * Keys from lower (included; NULL: the first) to upper (not included; NULL: no end), which are
 * copied. It stands nowhere until db_iter_first(), _last() or _seek(). NULL when there is no memory.
 */
struct db_iter *db_iter_new(struct db *db, enum db_cf cf, const void *lower, size_t lower_len,
			    const void *upper, size_t upper_len, unsigned flags);
/* The same as of a moment; at NULL: as of now. */
struct db_iter *db_iter_new_at(struct db *db, const struct db_snapshot *at, enum db_cf cf, const void *lower, size_t lower_len,
			       const void *upper, size_t upper_len, unsigned flags);
void db_iter_free(struct db_iter *iter); /* NULL is fine */
static inline void db_iter_cleanup(struct db_iter **iter)
{
	db_iter_free(*iter);
}
#define cleanup_db_iter __attribute__((__cleanup__(db_iter_cleanup)))

void db_iter_first(struct db_iter *iter);
void db_iter_last(struct db_iter *iter);
/* To the first key that is not less than key. */
void db_iter_seek(struct db_iter *iter, const void *key, size_t key_len);
/* To the last key that is not greater than key. */
void db_iter_seek_prev(struct db_iter *iter, const void *key, size_t key_len);
void db_iter_next(struct db_iter *iter);
void db_iter_prev(struct db_iter *iter);

/* False at the end, and after an error: ask db_iter_error() then. */
bool db_iter_valid(const struct db_iter *iter);
/* 0, -EAGAIN (DB_CACHED_ONLY), -EIO. */
int db_iter_error(const struct db_iter *iter);

/* Only while valid; good until the iterator moves. */
const void *db_iter_key(const struct db_iter *iter, size_t *len);
const void *db_iter_value(const struct db_iter *iter, size_t *len);

/* ---- State ---- */

void db_stats(struct db *db, struct db_stats *out);

#endif
