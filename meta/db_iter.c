/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/db_internal.h"

/* RocksDB keeps pointers to the bounds, so they live here. */
struct db_iter {
	rocksdb_iterator_t *rep;
	rocksdb_readoptions_t *options;
	char *lower, *upper;
};

/* An empty bound is a bound: RocksDB takes it as such when the pointer is there. */
static int bound_copy(char **to, const void *bound, size_t len)
{
	if (!bound)
		return 0;
	*to = malloc(len + 1);
	if (!*to)
		return -ENOMEM;
	memcpy(*to, bound, len);
	return 0;
}

struct db_snapshot *db_snapshot_new(struct db *db)
{
	return (struct db_snapshot *)rocksdb_create_snapshot(db->rocks);
}

void db_snapshot_free(struct db *db, struct db_snapshot *snapshot)
{
	if (snapshot)
		rocksdb_release_snapshot(db->rocks, (const rocksdb_snapshot_t *)snapshot);
}

struct db_iter *db_iter_new(struct db *db, enum db_cf cf, const void *lower, size_t lower_len, const void *upper,
			    size_t upper_len, unsigned flags)
{
	return db_iter_new_at(db, NULL, cf, lower, lower_len, upper, upper_len, flags);
}

struct db_iter *db_iter_new_at(struct db *db, const struct db_snapshot *at, enum db_cf cf, const void *lower, size_t lower_len,
			       const void *upper, size_t upper_len, unsigned flags)
{
	struct db_iter *iter = calloc(1, sizeof(*iter));

	if (!iter || bound_copy(&iter->lower, lower, lower_len) ||
	    bound_copy(&iter->upper, upper, upper_len)) {
		db_iter_free(iter);
		return NULL;
	}
	iter->options = rocksdb_readoptions_create();
	rocksdb_readoptions_set_read_tier(iter->options, flags & DB_CACHED_ONLY ? 1 : 0);
	rocksdb_readoptions_set_fill_cache(iter->options, !(flags & DB_PASSING));
	if (at)
		rocksdb_readoptions_set_snapshot(iter->options, (const rocksdb_snapshot_t *)at);
	/*
	 * There are none. With them RocksDB 7.8 puts a mark between the tables of a level, and what keeps the table behind it from being
	 * read (not in memory, a device's error) is forgotten: the rest of the level would seem not to be there.
	 */
	rocksdb_readoptions_set_ignore_range_deletions(iter->options, 1);
	if (iter->lower)
		rocksdb_readoptions_set_iterate_lower_bound(iter->options, iter->lower, lower_len);
	if (iter->upper)
		rocksdb_readoptions_set_iterate_upper_bound(iter->options, iter->upper, upper_len);
	iter->rep = rocksdb_create_iterator_cf(db->rocks, iter->options, db_handle(db, cf));
	return iter;
}

void db_iter_free(struct db_iter *iter)
{
	if (!iter)
		return;
	if (iter->rep)
		rocksdb_iter_destroy(iter->rep);
	if (iter->options)
		rocksdb_readoptions_destroy(iter->options);
	free(iter->lower);
	free(iter->upper);
	free(iter);
}

void db_iter_first(struct db_iter *iter)
{
	rocksdb_iter_seek_to_first(iter->rep);
}

void db_iter_last(struct db_iter *iter)
{
	rocksdb_iter_seek_to_last(iter->rep);
}

void db_iter_seek(struct db_iter *iter, const void *key, size_t key_len)
{
	rocksdb_iter_seek(iter->rep, key, key_len);
}

void db_iter_seek_prev(struct db_iter *iter, const void *key, size_t key_len)
{
	rocksdb_iter_seek_for_prev(iter->rep, key, key_len);
}

void db_iter_next(struct db_iter *iter)
{
	rocksdb_iter_next(iter->rep);
}

void db_iter_prev(struct db_iter *iter)
{
	rocksdb_iter_prev(iter->rep);
}

bool db_iter_valid(const struct db_iter *iter)
{
	return rocksdb_iter_valid(iter->rep);
}

int db_iter_error(const struct db_iter *iter)
{
	char *message = NULL;

	rocksdb_iter_get_error(iter->rep, &message);
	return db_error(message);
}

const void *db_iter_key(const struct db_iter *iter, size_t *len)
{
	return rocksdb_iter_key(iter->rep, len);
}

const void *db_iter_value(const struct db_iter *iter, size_t *len)
{
	return rocksdb_iter_value(iter->rep, len);
}
