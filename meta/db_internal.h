/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What db.c, db_options.c and db_iter.c share. */
#ifndef NVFS_META_DB_INTERNAL_H
#define NVFS_META_DB_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include <rocksdb/c.h>

#include "meta/db.h"
#include "meta/env.h"

/* Column families as RocksDB numbers them here: `default`, then enum db_cf. */
#define DB_CFS (DB_CF_COUNT + 1)

struct db_settings {
	rocksdb_options_t *base;        /* of the database, and of `default` */
	rocksdb_options_t *cf[DB_CFS];  /* cf[0] is base */
	rocksdb_cache_t *cache;
};

/* A thread that does one thing when it is asked to. */
struct db_worker {
	pthread_t thread;
	bool runs;
	void (*work)(struct db *db);
	struct db *db;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool wanted, stop; /* lock */
};

struct db {
	rocksdb_t *rocks;
	rocksdb_column_family_handle_t *handle[DB_CFS];
	struct db_settings settings;
	rocksdb_readoptions_t *read, *read_cached;
	rocksdb_writeoptions_t *write, *write_no_slowdown;
	struct metafs *mf;
	char path[NVFS_ENV_PATH_MAX];
	bool read_only;
	_Atomic int write_error; /* of the last write, -EAGAIN not counted */

	struct db_worker flusher; /* writes memtables out when the WALs are full, or the share is */
	struct db_worker syncer;  /* syncs the log when its tail grows, so that no writer waits for room */

	_Atomic uint64_t room_asked_ns; /* db_make_room() had the flusher woken */
	_Atomic bool room_wanted;
	uint64_t room_sequence, room_compacted_ns; /* the flusher's: when tables were last compacted for room */
};

extern const char *const db_cf_name[DB_CFS];

static inline rocksdb_column_family_handle_t *db_handle(const struct db *db, enum db_cf cf)
{
	return db->handle[cf + 1];
}

/* 0 or -errno; what was made before an error is freed by db_settings_free(). */
int db_settings_init(struct db_settings *s, const struct db_options *options, uint64_t share_bytes);
void db_settings_free(struct db_settings *s);

/* RocksDB's message as an errno; frees it. NULL is 0. */
int db_error(char *message);

#endif
