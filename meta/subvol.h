/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_SUBVOL_H
#define NVFS_META_SUBVOL_H

#include <stdbool.h>
#include <stdint.h>

#include "meta/op.h"
#include "meta/pool.h"
#include "meta/records.h"

/*
 * Subvolumes: administration (create, list, resize, delete) and the open ones,
 * each of which belongs to one reactor.
 */

struct subvol;

/* Longest name in bytes; names are [A-Za-z0-9._-], not starting with . or -. */
#define SUBVOL_NAME_MAX 255

struct subvol_options {
	const char *tenant;     /* whose it is (-ENOENT); NULL: `default`, or the only one that the user of tenant_act_as() owns */
	uint64_t size_bytes;    /* rounded up to blocks; 0: as the tenant has it, which is required then */
	uint64_t inodes_max;    /* at most pool_stats.inodes_max (else -EINVAL); 0: the tenant's, or one for each 16 KiB of size, at least 1024, or that */
	bool thin, reserved;    /* neither: the tenant's, or reserved */
	uint8_t compression;    /* 0 off, 1 lz4 */
	bool compression_given; /* off was said: else 0 is the tenant's */
	uint32_t root_uid, root_gid, root_mode; /* of the root directory; mode 0 = 0755 */
};

struct subvol_info {
	struct subvol_rec rec;  /* name, limits, flags, ids; its name leads into the next field: not to be copied */
	char name[SUBVOL_NAME_MAX + 1];
	char tenant[SUBVOL_NAME_MAX + 1]; /* name */
	uint32_t id;
	uint64_t used_blocks, used_inodes;
	bool open;
};

enum subvol_rate {
	SUBVOL_READ_IOPS = 1 << 0,
	SUBVOL_WRITE_IOPS = 1 << 1,
	SUBVOL_READ_BYTES = 1 << 2,
	SUBVOL_WRITE_BYTES = 1 << 3,
};

/*
 * Administration: not on a reactor thread; they may sleep, are serialised by the pool and durable when they return.
 * Refusals put a sentence with the numbers and what would work into why (why_len bytes, may be NULL). For a thread that acts for
 * somebody (tenant_act_as()) the subvolumes of other tenants are not there. The tenant's limits on subvolumes and their sizes are -EDQUOT.
 */
int subvol_create(struct pool *pool, const char *name, const struct subvol_options *opts, char *why, size_t why_len);
int subvol_delete(struct pool *pool, const char *name, char *why, size_t why_len);
/*
 * Limits of operations and bytes a second, those in `fields` (enum subvol_rate). At once for an open one, for requests too that wait
 * already. 0, -ENOENT, -EINVAL beyond RATE_MAX.
 */
int subvol_set_rates(struct pool *pool, const char *name, const struct rates *rates, unsigned fields, char *why, size_t why_len);
/* size_bytes or inodes_max 0 = leave; -EINVAL as above. Works on an open subvolume (its reactor applies it) and a closed one. */
int subvol_resize(struct pool *pool, const char *name, uint64_t size_bytes, uint64_t inodes_max, char *why, size_t why_len);
int subvol_info(struct pool *pool, const char *name, struct subvol_info *out);
/* Calls fn for each in order of names until it returns non-zero, which is returned. */
int subvol_each(struct pool *pool, int (*fn)(const struct subvol_info *info, void *arg), void *arg);

/* Deleted subvolumes whose records and blocks are still being taken apart, in the background. Any thread. */
unsigned subvol_sweeps_left(struct pool *pool);

/* Why that does not get on, -errno: the pool failed, which only an open ends; or the last try failed, and there will be others. 0: it does. Any thread. */
int subvol_sweep_error(struct pool *pool);

/*
 * Open a subvolume, or VOL@SNAP, read-only, for use on one of the pool's reactors (the least busy). -EBUSY when it is open, -ENOENT. Not on a
 * reactor thread. Orphans of an earlier life are reaped in the background.
 */
int subvol_open(struct pool *pool, const char *name, bool read_only, struct subvol **out);

/* Write back, commit, drop caches, close. No op is under way. Not on a reactor thread. 0 or the error of the write-back. */
int subvol_close(struct subvol *sv);

struct reactor *subvol_reactor(const struct subvol *sv);
struct pool *subvol_pool(const struct subvol *sv);
const char *subvol_name(const struct subvol *sv);
uint32_t subvol_id(const struct subvol *sv);
const char *subvol_tenant(const struct subvol *sv); /* its name */

/* Counters that any thread may read (relaxed atomics). */
struct subvol_stats {
	uint64_t size_blocks, used_blocks, inodes_max, used_inodes;
	uint64_t reads, writes, read_bytes, written_bytes, namespace_ops, fsyncs;
	uint64_t dirty_blocks, checksum_errors, cached_inodes, known_inodes; /* known to the kernel */
	struct throttle_stats throttled; /* level 0: for its own limits, 1: for its tenant's */
};
void subvol_stats(struct subvol *sv, struct subvol_stats *out);

/* What df and df -i show of it. Any thread. */
struct subvol_df {
	uint64_t blocks, free_blocks; /* its size and the rest */
	uint64_t available_blocks;    /* the same, but a thin one, which is no snapshot, has no more than the pool has left */
	uint64_t inodes, free_inodes;
};
void subvol_df(struct subvol *sv, struct subvol_df *out);

/* The throttles that its requests are subject to: its own and its tenant's. Good while it is open. */
void subvol_throttles(struct subvol *sv, struct throttles *out);

/* For whom its reactor works when it works for it: the party of its sources. */
const void *subvol_party(const struct subvol *sv);

/* ---- Charges: reactor thread ---- */

/*
 * What a change costs. What a snapshot holds is shared with the live node until it is changed: then the subvolume has as many blocks as
 * before, and the tenant, and the pool if it is thin, have another one.
 */
struct charge {
	int64_t blocks, inodes;         /* against the subvolume: what is visible in it */
	int64_t own_blocks, own_inodes; /* against the tenant and the pool: what records of the live node are charged for */
};

/*
 * Take from the limits (subvolume, tenant, pool): 0, -ENOSPC or -EDQUOT and nothing taken. What is negative is given back;
 * nothing but that never fails. What was taken is "pending" until a batch carries it in its counters.
 */
int subvol_charge(struct subvol *sv, const struct charge *charge);

/* Own blocks and inodes that must not be refused: what removes something may have to copy a record, too. */
void subvol_charge_own(struct subvol *sv, int64_t blocks, int64_t inodes);

/*
 * The same for an op: a refusal waits (META_WAIT) while orphans are being reaped, whose space may be what is missing.
 */
int subvol_charge_op(struct op *op, const struct charge *charge);

/*
 * The other half: add to batch the merge operand that moves the counters of the subvolume's node by this much. Once per
 * batch; deltas of the committed state, so that the sum of all batches is what fsck recomputes.
 */
struct counters_delta {
	int64_t born, referenced, meta, inodes;
	int64_t meta_born, inodes_born; /* what of meta and inodes is charged to records of the own node */
	int64_t unwritten;
};
void subvol_put_counters(struct subvol *sv, struct db_batch *batch, const struct counters_delta *delta);

#endif
