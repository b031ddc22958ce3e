/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RocksDB by its C interface. A batch is in the log of metafs when db_write() returns, so making
 * it durable is metafs's business alone and never waits for RocksDB's locks: db_sync().
 */
#include "config.h"

#include "meta/db.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "io/reactor.h"
#include "meta/db_internal.h"
#include "meta/metafs.h"

#define READ_TIER_CACHE 1

struct db_batch {
	rocksdb_writebatch_t *rep;
};

/* ---- Errors ---- */

/* RocksDB's C interface gives errors as text only; these words are the same in all versions. */
static int error_number(const char *message)
{
	/* First: a flush without room makes later writes "incomplete" with this as the reason. */
	if (strstr(message, "No space left on device") || strstr(message, "Space limit reached"))
		return -ENOSPC;
	if (strstr(message, "Result incomplete"))
		return -EAGAIN;
	if (strstr(message, "read only mode"))
		return -EROFS;
	return -EIO;
}

int db_error(char *message)
{
	int err;

	if (!message)
		return 0;
	err = error_number(message);
	if (err != -EAGAIN)
		log_error("metadata store: %s", message);
	free(message);
	return err;
}

/* At open a message that is not about a device means that the database itself is wrong. */
static int open_error(char *message)
{
	bool damaged = message && (strstr(message, "Corruption") || strstr(message, "Invalid argument"));
	int err = db_error(message);

	return err == -EIO && damaged ? -EINVAL : err;
}

/* ---- Threads ---- */

static int flush_all(struct db *db)
{
	rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
	int err = 0;

	rocksdb_flushoptions_set_wait(options, 1);
	for (int i = 0; i < DB_CFS && !err; i++) {
		char *message = NULL;

		rocksdb_flush_cf(db->rocks, options, db->handle[i], &message);
		err = db_error(message);
	}
	rocksdb_flushoptions_destroy(options);
	return err;
}

#define ROOM_FLUSH_NS UINT64_C(1000000000)
#define ROOM_COMPACT_NS UINT64_C(10000000000)

/*
 * Deletions give their room back only when they are merged with the tables, and in a full share nobody writes what would make
 * RocksDB do that. So the files are marked for compaction, which costs no wait; not when nothing changed since they were.
 */
static void compact_for_room(struct db *db)
{
	const uint64_t now = monotonic_now_ns(), sequence = rocksdb_get_latest_sequence_number(db->rocks);

	if (sequence == db->room_sequence || (db->room_compacted_ns && now - db->room_compacted_ns < ROOM_COMPACT_NS))
		return;
	db->room_sequence = sequence;
	db->room_compacted_ns = now;
	for (int i = 0; i < DB_CFS; i++) {
		char *message = NULL;

		rocksdb_suggest_compact_range_cf(db->rocks, db->handle[i], NULL, 0, NULL, 0, &message);
		db_error(message);
	}
}

static void flusher_work(struct db *db)
{
	const bool room = atomic_exchange(&db->room_wanted, false);

	if (!flush_all(db) && room && metafs_room(db->mf) == 0)
		compact_for_room(db);
}

static void syncer_work(struct db *db)
{
	metafs_sync(db->mf);
}

static void *worker_main(void *arg)
{
	struct db_worker *w = arg;

	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		if (!w->wanted) {
			pthread_cond_wait(&w->wake, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		w->work(w->db);
		pthread_mutex_lock(&w->lock);
		w->wanted = false;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void worker_wake(struct db_worker *w)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&w->lock);

	if (w->wanted)
		return;
	w->wanted = true;
	pthread_cond_signal(&w->wake);
}

static void worker_init(struct db_worker *w, struct db *db, void (*work)(struct db *db))
{
	w->db = db;
	w->work = work;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, NULL);
}

static int worker_start(struct db_worker *w)
{
	int err = pthread_create(&w->thread, NULL, worker_main, w);

	w->runs = !err;
	return -err;
}

static void worker_end(struct db_worker *w)
{
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	if (w->runs)
		pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
}

/* ---- Open and close ---- */

static void make_read_options(struct db *db)
{
	db->read = rocksdb_readoptions_create();
	db->read_cached = rocksdb_readoptions_create();
	rocksdb_readoptions_set_read_tier(db->read_cached, READ_TIER_CACHE);
	db->write = rocksdb_writeoptions_create();
	db->write_no_slowdown = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_no_slowdown(db->write_no_slowdown, 1);
}

static int check_presence(struct db *db, const struct db_options *options)
{
	struct metafs_stat st;
	bool there = !metafs_stat(db->mf, "CURRENT", &st);

	if (there && options->create)
		return -EEXIST;
	return !there && !options->create ? -ENOENT : 0;
}

static int open_rocks(struct db *db)
{
	const rocksdb_options_t *cf[DB_CFS];
	char *message = NULL;

	for (int i = 0; i < DB_CFS; i++)
		cf[i] = db->settings.cf[i];
	if (db->read_only)
		db->rocks = rocksdb_open_for_read_only_column_families(
			db->settings.base, db->path, DB_CFS, db_cf_name, cf, db->handle, 0, &message);
	else
		db->rocks = rocksdb_open_column_families(db->settings.base, db->path, DB_CFS,
							 db_cf_name, cf, db->handle, &message);
	return open_error(message);
}

static int open_all(struct db *db, const struct db_options *options)
{
	struct metafs_stats stats;
	int err = check_presence(db, options);

	if (err)
		return err;
	metafs_stats(db->mf, &stats);
	err = env_attach(db->mf, db->path);
	if (!err)
		err = db_settings_init(&db->settings, options, stats.share_bytes);
	if (err)
		return err;
	make_read_options(db);
	err = open_rocks(db);
	if (!err && !db->read_only)
		err = worker_start(&db->flusher);
	if (!err && !db->read_only)
		err = worker_start(&db->syncer);
	return err;
}

int db_open(struct metafs *mf, const struct db_options *options, struct db **out)
{
	struct db *db = calloc(1, sizeof(*db));
	int err;

	if (!db)
		return -ENOMEM;
	db->mf = mf;
	db->read_only = options->read_only;
	worker_init(&db->flusher, db, flusher_work);
	worker_init(&db->syncer, db, syncer_work);
	err = open_all(db, options);
	if (err) {
		db_close(db);
		return err;
	}
	*out = db;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	worker_end(&db->flusher);
	worker_end(&db->syncer);
	for (int i = 0; i < DB_CFS; i++)
		if (db->rocks && db->handle[i])
			rocksdb_column_family_handle_destroy(db->handle[i]);
	if (db->rocks)
		rocksdb_close(db->rocks);
	if (db->read) {
		rocksdb_readoptions_destroy(db->read);
		rocksdb_readoptions_destroy(db->read_cached);
		rocksdb_writeoptions_destroy(db->write);
		rocksdb_writeoptions_destroy(db->write_no_slowdown);
	}
	db_settings_free(&db->settings);
	if (db->path[0])
		env_detach(db->path);
	free(db);
}

/* ---- Values ---- */

static void value_set(struct db_value *value, rocksdb_pinnableslice_t *pin)
{
	value->pin = pin;
	value->data = rocksdb_pinnableslice_value(pin, &value->len);
}

void db_value_release(struct db_value *value)
{
	if (value->pin)
		rocksdb_pinnableslice_destroy(value->pin);
	memset(value, 0, sizeof(*value));
}

static const rocksdb_readoptions_t *read_options(const struct db *db, unsigned flags)
{
	return flags & DB_CACHED_ONLY ? db->read_cached : db->read;
}

int db_get(struct db *db, enum db_cf cf, const void *key, size_t key_len, unsigned flags,
	   struct db_value *out)
{
	char *message = NULL;
	rocksdb_pinnableslice_t *pin = rocksdb_get_pinned_cf(
		db->rocks, read_options(db, flags), db_handle(db, cf), key, key_len, &message);

	memset(out, 0, sizeof(*out));
	if (pin)
		value_set(out, pin);
	else
		return message ? db_error(message) : -ENOENT;
	return 0;
}

/* ---- Writing ---- */

struct db_batch *db_batch_new(void)
{
	struct db_batch *batch = malloc(sizeof(*batch));

	if (batch)
		batch->rep = rocksdb_writebatch_create();
	return batch;
}

void db_batch_free(struct db_batch *batch)
{
	if (!batch)
		return;
	rocksdb_writebatch_destroy(batch->rep);
	free(batch);
}

void db_batch_put(struct db *db, struct db_batch *batch, enum db_cf cf, const void *key,
		  size_t key_len, const void *value, size_t value_len)
{
	rocksdb_writebatch_put_cf(batch->rep, db_handle(db, cf), key, key_len, value, value_len);
}

void db_batch_delete(struct db *db, struct db_batch *batch, enum db_cf cf, const void *key,
		     size_t key_len)
{
	rocksdb_writebatch_delete_cf(batch->rep, db_handle(db, cf), key, key_len);
}

void db_batch_merge(struct db *db, struct db_batch *batch, enum db_cf cf, const void *key,
		    size_t key_len, const void *operand, size_t operand_len)
{
	rocksdb_writebatch_merge_cf(batch->rep, db_handle(db, cf), key, key_len, operand,
				    operand_len);
}

int db_batch_delete_range(struct db *db, struct db_batch *batch, enum db_cf cf, const void *start,
			  size_t start_len, const void *end, size_t end_len)
{
	cleanup_db_iter struct db_iter *iter = db_iter_new(db, cf, start, start_len, end, end_len, 0);
	size_t len;

	if (!iter)
		return -ENOMEM;
	for (db_iter_seek(iter, start, start_len); db_iter_valid(iter); db_iter_next(iter)) {
		const void *key = db_iter_key(iter, &len);

		db_batch_delete(db, batch, cf, key, len);
	}
	return db_iter_error(iter);
}

void db_batch_clear(struct db_batch *batch)
{
	rocksdb_writebatch_clear(batch->rep);
}

size_t db_batch_bytes(const struct db_batch *batch)
{
	size_t len = 0;

	rocksdb_writebatch_data(batch->rep, &len);
	return len;
}

size_t db_batch_count(const struct db_batch *batch)
{
	return (size_t)rocksdb_writebatch_count(batch->rep);
}

int db_write(struct db *db, struct db_batch *batch, unsigned flags)
{
	char *message = NULL;
	int err;

	if (db->read_only)
		return -EROFS;
	rocksdb_write(db->rocks, flags & DB_NO_SLOWDOWN ? db->write_no_slowdown : db->write,
		      batch->rep, &message);
	if (metafs_tail_high(db->mf))
		worker_wake(&db->syncer);
	err = db_error(message);
	if (err != -EAGAIN)
		db->write_error = err;
	return err;
}

int db_sync(struct db *db)
{
	int err;

	if (db->read_only)
		return -EROFS;
	err = metafs_sync(db->mf);
	/* Each sync closes a block of the log, so the log may be full long before the memtables. */
	if (!err && metafs_wal_full(db->mf))
		worker_wake(&db->flusher);
	return err;
}

int db_flush_ahead(struct db *db)
{
	return metafs_flush_ahead(db->mf);
}

int db_flush(struct db *db)
{
	return db->read_only ? -EROFS : flush_all(db);
}

void db_make_room(struct db *db)
{
	const uint64_t now = monotonic_now_ns();
	uint64_t asked = atomic_load_explicit(&db->room_asked_ns, memory_order_relaxed);

	if (db->read_only || (asked && now - asked < ROOM_FLUSH_NS))
		return;
	if (!atomic_compare_exchange_strong(&db->room_asked_ns, &asked, now))
		return;
	atomic_store(&db->room_wanted, true);
	worker_wake(&db->flusher);
}

int db_compact(struct db *db)
{
	if (db->read_only)
		return -EROFS;
	for (int i = 0; i < DB_CFS; i++)
		rocksdb_compact_range_cf(db->rocks, db->handle[i], NULL, 0, NULL, 0);
	return 0;
}

/* ---- Checking ---- */

int db_verify_tables(struct db *db, db_verified_fn fn, void *arg)
{
	const rocksdb_livefiles_t *files = rocksdb_livefiles(db->rocks);
	const int n = rocksdb_livefiles_count(files);
	int err = 0;

	for (int i = 0; i < n; i++) {
		const char *name = rocksdb_livefiles_name(files, i);

		err = env_verify_table(db->path, name);
		if (err == -ENOMEM)
			break;
		/* A compaction has put its records into another one, which was checked when it was written. */
		fn(arg, name + (*name == '/'), i + 1, n, err == -ENOENT ? 0 : err);
	}
	rocksdb_livefiles_destroy(files);
	return err == -ENOMEM ? err : 0;
}

/* ---- State ---- */

static uint64_t property(const struct db *db, int cf, const char *name)
{
	uint64_t value = 0;

	if (rocksdb_property_int_cf(db->rocks, db->handle[cf], name, &value))
		return 0;
	return value;
}

void db_stats(struct db *db, struct db_stats *out)
{
	struct metafs_stats fs;

	memset(out, 0, sizeof(*out));
	metafs_stats(db->mf, &fs);
	out->wal_bytes = fs.wal_blocks * METAFS_LOG_BLOCK_BYTES;
	out->block_cache_bytes = rocksdb_cache_get_usage(db->settings.cache);
	for (int i = 0; i < DB_CFS; i++) {
		out->memtable_bytes += property(db, i, "rocksdb.size-all-mem-tables");
		out->table_reader_bytes += property(db, i, "rocksdb.estimate-table-readers-mem");
		out->sst_bytes += property(db, i, "rocksdb.total-sst-files-size");
		out->pending_compaction_bytes +=
			property(db, i, "rocksdb.estimate-pending-compaction-bytes");
		if (i)
			out->keys_estimate[i - 1] = property(db, i, "rocksdb.estimate-num-keys");
	}
	out->stopped = property(db, 0, "rocksdb.is-write-stopped");
	out->failed = fs.failed || db->write_error;
}
