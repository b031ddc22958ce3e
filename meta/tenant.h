/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tenants: owners of subvolumes with limits over all of them.
 *
 * Charges come from every reactor and are atomics. Everything else is administration: it holds the pool's admin_lock, puts the
 * record, commits, and only then changes what is in memory, field by field; who charges meanwhile sees the old limit or the new one.
 * A deleted tenant leaves the list and stays in memory until the pool is closed, because who walks the list has no lock.
 */
#ifndef NVFS_META_TENANT_H
#define NVFS_META_TENANT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "meta/records.h"

struct pool;
struct refusal;

/* struct tenant_limits, as reactors read it, without the rates; 0 = none. */
struct tenant_quota {
	_Atomic uint64_t used_blocks, provisioned_blocks, inodes, subvolumes, snapshots;
};

/* A tenant in memory. */
struct pool_tenant {
	struct pool *pool;                    /* constant, as are id and name */
	uint32_t id;
	char name[NAME_BYTES_MAX + 1];
	struct tenant_quota limits;           /* written under admin_lock, read anywhere */
	struct throttle throttle;             /* of the rates among limits */
	_Atomic uint64_t soft_blocks;         /* as limits */
	_Atomic uint32_t grace_s;
	_Atomic int64_t used_blocks, used_inodes;
	_Atomic uint32_t trying;              /* charges that took a part of what they need and may have to give it back */
	_Atomic uint32_t undone;              /* those that did; counts round */
	_Atomic uint64_t dirty_blocks;        /* slots that its subvolumes hold; room.c */
	_Atomic uint32_t dirty_subvols;       /* those that hold any */
	_Atomic int64_t soft_since_ns;        /* when use passed the soft limit; 0: it is not above */
	_Atomic bool grace_over;              /* growth was refused for that */
	_Atomic uint64_t provisioned_blocks;  /* sizes of its subvolumes; these three are written under admin_lock */
	_Atomic uint64_t subvolumes, snapshots;
	struct pool_tenant *_Atomic next;

	/* admin_lock */
	struct tenant_settings set;           /* the owners in it: pool->owners_lock, too */
	int64_t created_ns;
	int64_t stored_since_ns;              /* soft_since_ns as the record has it */
	bool grace_told;
	struct pool_tenant *gone_next;
};

/* Read the tenants, what each uses and has. At open, before anything is charged. 0 or -errno. */
int tenants_load(struct pool *pool);
void tenants_free(struct pool *pool);

/* When the pool's workers run: from now on what happens to soft limits is stored and logged. */
void tenants_start(struct pool *pool);

/* Store it now, for the last time: nothing is charged any more. Not on a reactor thread. */
void tenants_stop(struct pool *pool);

/* NULL when there is none. Any thread; what it gives is good while the pool is open. */
struct pool_tenant *tenant_find(struct pool *pool, uint32_t id);
struct pool_tenant *tenant_find_name(struct pool *pool, const char *name);

/*
 * 0, or -EDQUOT and nothing taken; with numbers below 0 never refused. NULL, whose tenant was deleted while its last nodes are being
 * swept: 0. Any thread.
 */
int tenant_charge(struct pool_tenant *tenant, int64_t blocks, int64_t inodes);

/* That, and with `loose` the blocks from the pool, too, beside its claims: 0, or -EDQUOT or -ENOSPC and nothing taken. */
int tenant_charge_for(struct pool_tenant *tenant, int64_t blocks, int64_t inodes, bool loose);

/* An inode more, and a claim of the pool's room: the same answers. */
int tenant_charge_claim(struct pool_tenant *tenant, int64_t inodes, int64_t claim);

/* The same as tenant_charge() whatever the limits are. */
void tenant_force(struct pool_tenant *tenant, int64_t blocks, int64_t inodes);

/* Take n, which may be negative, of a counter that may not pass limit (< 0: none). Any thread. */
bool counter_take(_Atomic int64_t *counter, int64_t n, int64_t limit);

/* ---- What administration of subvolumes and snapshots asks and tells: admin_lock is held ---- */

/* Whether it may have so many more subvolumes and blocks promised to them: 0, or -EDQUOT with the numbers. */
int tenant_may_provision(const struct pool_tenant *t, uint64_t subvolumes, uint64_t blocks, const struct refusal *ref);

/* Whether it may have n more snapshots: 0, or -EDQUOT with the numbers. */
int tenant_may_snapshot(const struct pool_tenant *t, uint64_t n, const struct refusal *ref);

/* What there is more, or less with numbers below 0. NULL as above. */
void tenant_count_subvolumes(struct pool_tenant *t, int64_t n, int64_t blocks);
void tenant_count_snapshots(struct pool_tenant *t, int64_t n);

/* ---- Whose eyes ---- */

/* A user and its groups. */
struct tenant_user {
	uid_t uid;
	const gid_t *gids;
	size_t gid_count;
};

/*
 * Administration that this thread asks for from now on is seen with the eyes of this user (the caller's; NULL: everything is seen): what
 * belongs to tenants that it does not own is as if it were not there, and no refusal has numbers of the pool.
 */
void tenant_act_as(const struct tenant_user *user);

/* Whether the calling thread acts for a user, and whether that user owns the tenant. */
bool tenant_is_scoped(void);
bool tenant_is_seen(struct pool *pool, uint32_t id);

/* The only tenant that the user of this thread owns; NULL when it owns none or several. */
struct pool_tenant *tenant_only_seen(struct pool *pool);

/*
 * Whether the user owns any tenant; or the one that has this name now and had it already at that time, in ns since 1970: what happened
 * before is of another one. Any thread; they never wait for administration.
 */
bool tenant_owns_any(struct pool *pool, const struct tenant_user *user);
bool tenant_is_owned(struct pool *pool, const char *name, int64_t at_ns, const struct tenant_user *user);

/* ---- Administration: not on a reactor thread; durable when they return; refusals put a sentence into why ---- */

#define TENANT_GRACE_DEFAULT_S (7u * 86400)

/* Fields of struct tenant_settings. */
enum tenant_field {
	TENANT_USED = 1 << 0, /* the limits in their order */
	TENANT_PROVISIONED = 1 << 1,
	TENANT_INODES = 1 << 2,
	TENANT_SUBVOLUMES = 1 << 3,
	TENANT_SNAPSHOTS = 1 << 4,
	TENANT_READ_IOPS = 1 << 5,
	TENANT_WRITE_IOPS = 1 << 6,
	TENANT_READ_BYTES = 1 << 7,
	TENANT_WRITE_BYTES = 1 << 8,
	TENANT_SOFT = 1 << 9,
	TENANT_GRACE = 1 << 10,
	TENANT_DEFAULT_SIZE = 1 << 11,
	TENANT_DEFAULT_INODES = 1 << 12,
	TENANT_DEFAULT_CLAIM = 1 << 13,
	TENANT_DEFAULT_COMPRESSION = 1 << 14,
	TENANT_UIDS = 1 << 15,
	TENANT_GIDS = 1 << 16,
};

struct tenant_info {
	uint32_t id;
	char name[NAME_BYTES_MAX + 1];
	struct tenant_settings set;
	uint64_t used_blocks, used_inodes, provisioned_blocks, subvolumes, snapshots;
	int64_t soft_since_ns, created_ns;
	struct throttle_stats throttled; /* since the pool was opened; level 0: for limits of its subvolumes, 1: for its own */
};

/*
 * 0; -EEXIST, and nothing is changed, whatever the limits; -EINVAL. A soft limit without a grace gets
 * TENANT_GRACE_DEFAULT_S; owners that are named twice are kept once.
 */
int tenant_create(struct pool *pool, const char *name, const struct tenant_settings *set, char *why, size_t why_len);

/*
 * Change the fields that are in `fields` (enum tenant_field). 0, and a sentence in why ("" otherwise) when a limit is below what is used or
 * promised now: nothing grows until that is below. -ENOENT, -EINVAL.
 */
int tenant_set(struct pool *pool, const char *name, const struct tenant_settings *set, unsigned fields, char *why, size_t why_len);

/* -ENOENT; -EBUSY while it has subvolumes or snapshots, -EPERM for the default one. dry_run: only the checks. */
int tenant_delete(struct pool *pool, const char *name, bool dry_run, char *why, size_t why_len);

/* 0 or -ENOENT. */
int tenant_info(struct pool *pool, const char *name, struct tenant_info *out);

/* Calls fn for each in order of names until it returns non-zero, which is returned. */
int tenant_each(struct pool *pool, int (*fn)(const struct tenant_info *info, void *arg), void *arg);

/* For tenant.c and tenant_admin.c. */
void tenant_record(const struct pool_tenant *t, struct tenant_rec *out);
void tenant_apply(struct pool_tenant *t, const struct tenant_settings *set);
struct pool_tenant *tenant_new(struct pool *pool, uint32_t id, const struct tenant_rec *rec); /* the caller's to free(), until tenant_add() */
void tenant_add(struct pool_tenant *t);
void tenant_remove(struct pool_tenant *t);
void tenants_save(struct pool *pool); /* admin_lock is held */
int64_t tenant_now_ns(void);

/* For tests: how far the clock of soft limits is ahead of the system's. */
extern _Atomic int64_t tenant_clock_ahead_ns;

#endif
