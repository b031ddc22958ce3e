/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_ADMIN_H
#define NVFS_META_ADMIN_H

#include "meta/subvol_internal.h"

/*
 * What the administration of subvolumes, snapshots and tenants has in common. The pool's admin_lock is held; nothing here runs on a
 * reactor.
 */

/* Where the sentence of a refusal goes; why may be NULL. */
struct refusal {
	char *why;
	size_t len;
};

/* Both put a sentence there and return error; admin_failed() has one of its own for each kind. */
int admin_refuse(const struct refusal *ref, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int admin_failed(const struct refusal *ref, int error);

#define ADMIN_SIZE_TEXT 32

/* Blocks for people: exact when it is a whole number of a unit, else with two digits. Returns buf, ADMIN_SIZE_TEXT bytes. */
const char *admin_size(uint64_t blocks, char *buf);

uint64_t admin_blocks(uint64_t bytes);
int64_t admin_now_ns(struct rec_time *rec);

/*
 * Room in the pool for what becomes loose and for a claim, both or nothing. It is taken as the last thing before the batch is written, when
 * nothing else can refuse the request: writers of thin subvolumes would meanwhile be refused what is given back then. pool_count_promised() gives
 * back.
 */
bool admin_take(struct pool *pool, int64_t loose, int64_t claim);

/* -ENOSPC, with the numbers, after that. */
int admin_refuse_claim(struct pool *pool, int64_t blocks, const struct refusal *ref);

/* Sizes of all subvolumes, in blocks, by their records: 0 or -errno. */
int admin_promised(struct pool *pool, uint64_t *blocks);

/* What these may become by thin ones, at this overcommit ratio. */
uint64_t admin_promise_limit(const struct pool *pool, uint32_t percent);

/* Takes nothing: whether a subvolume could be promised so much more now; a thin one's counts against the overcommit ratio. 0 or -ENOSPC. */
int admin_check_room(struct pool *pool, bool reserved, uint64_t blocks, const struct refusal *ref);

/* Have open thin subvolumes put what they gave back: of files, and by gathered changes. Whether there is any. */
bool admin_put_given_back(struct pool *pool);

/* -EINVAL when the pool was made for fewer inodes. */
int admin_check_inodes(const struct pool *pool, uint64_t inodes, const struct refusal *ref);
uint64_t admin_default_inodes(const struct pool *pool, uint64_t blocks);

/* A name for a new subvolume: 0, -EINVAL, -EEXIST, -EIO. */
int admin_check_name(struct pool *pool, const char *name, const struct refusal *ref);
void admin_put_name(struct db *db, struct db_batch *batch, const char *name, uint32_t id);

struct found {
	uint32_t id;
	struct subvol_rec rec;
	char name[SUBVOL_NAME_MAX + 1];
	struct counters_rec counters;
	struct subvol *open; /* or NULL */
};

/* A subvolume by its name: 0, -ENOENT (also for one that the calling thread must not see: tenant_act_as()), -EIO. */
int admin_find(struct pool *pool, const char *name, struct found *out, const struct refusal *ref);

#endif
