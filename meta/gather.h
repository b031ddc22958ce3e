/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gathered changes: what the namespace changes of a few milliseconds put into `ns` and `sys` waits here and goes
 * to RocksDB in one batch, each key once. gather.c says why nothing is lost.
 */
#ifndef NVFS_META_GATHER_H
#define NVFS_META_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meta/db.h"
#include "meta/op.h"

struct gather;       /* of a subvolume: its reactor's thread only */
struct gather_store; /* the memory of the pool: thread-safe */
struct counters_delta;
struct pool;

/* Bytes of sparse memory for a store; zeros at first. */
size_t gather_store_bytes(void);

/* base: page-aligned, gather_store_bytes(), stays the caller's. 0 or -ENOMEM. */
int gather_store_create(void *base, struct gather_store **out);
void gather_store_destroy(struct gather_store *store); /* NULL is fine */

/*
 * Write what an earlier worker left there. Before anything else reads the database; may sleep. 0, -EBADMSG
 * (the memory is damaged; said in the log), or what db_write() says.
 */
int gather_takeup(struct pool *pool);

int gather_create(struct subvol *sv, struct gather **out);

/* The live node is another one: what is gathered next says so. Nothing is gathered now. */
void gather_rebase(struct gather *g);

/* Before the end: drop what could not be written, because the pool failed. Reactor thread; NULL is fine. */
void gather_stop(struct gather *g);
void gather_destroy(struct gather *g);

/* ---- A change on its way in: a list of puts and deletes, as change.c makes it ---- */

struct gather_list {
	uint8_t *bytes;
	size_t len, room;
	unsigned ops;
	bool failed; /* no memory */
};

enum gather_op_flags {
	GATHER_DELETE = 1u << 0,
	GATHER_FRESH = 1u << 1, /* a put: RocksDB has no version of this key */
};

void gather_list_clear(struct gather_list *list);
void gather_list_free(struct gather_list *list);

/* value_len 0 and value NULL with GATHER_DELETE. No memory: list->failed. */
void gather_list_add(struct gather_list *list, enum db_cf cf, unsigned flags, const void *key, size_t key_len,
		     const void *value, size_t value_len);

/*
 * Make a deletion of each put of a whiteout that fn says is not needed: fn returns 1 (needed), 0, or what ends the walk and is returned, META_WAIT
 * or -errno.
 */
int gather_list_prune(struct gather_list *list, int (*fn)(void *arg, enum db_cf cf, const uint8_t *key, size_t key_len), void *arg);

/* Add the list to a batch. */
void gather_list_put(const struct gather_list *list, struct db *db, struct db_batch *batch);

/* ---- ---- */

/*
 * Take in a change: 0; -E2BIG when it has to be written directly (it is too large for a segment, or no segment is free); META_WAIT when RocksDB stalls;
 * -errno when the group before it cannot be written.
 */
int gather_accept(struct op *op, const struct gather_list *list, const struct counters_delta *delta);

/* A change that was just accepted or written gives this back: the subvolume has it now, others when RocksDB knows. */
struct charge;
void gather_give(struct gather *g, const struct charge *give);

/* The newest of what is gathered for this key: 1 with *value (valid until the handler returns), -ENOENT (deleted), 0 nothing. */
int gather_get(const struct gather *g, enum db_cf cf, const void *key, size_t key_len, struct db_value *value);

/* Write the group: 0, META_WAIT (RocksDB stalls), -EIO and the like, and then the pool has failed. */
int gather_settle(struct op *op);

/* The same, when something waits whose key has this prefix: before RocksDB is asked for a range. */
int gather_settle_range(struct op *op, enum db_cf cf, const uint8_t *prefix, size_t len);

#endif
