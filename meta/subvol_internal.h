/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_SUBVOL_INTERNAL_H
#define NVFS_META_SUBVOL_INTERNAL_H

#include <stdatomic.h>

#include "meta/gather.h"
#include "meta/inode.h"
#include "meta/pool_internal.h"
#include "meta/subvol.h"

struct data;
struct file;
struct known;
struct lookups;
struct reaper;
struct pool_tenant;
struct shared;

/* An open subvolume. Fields without a note: reactor thread only. */
struct subvol {
	struct pool *pool;              /* constant */
	struct reactor *reactor;        /* constant */
	unsigned reactor_index;         /* constant: hint for the allocator */
	struct shared *shared;          /* constant: with the other subvolumes of the reactor */
	bool read_only;                 /* constant */
	bool view;                      /* constant: open beside its subvolume, and by no name */
	uint16_t view_number;
	struct subvol_rec rec;          /* limits change by a message to the reactor */
	uint32_t id;                    /* constant */
	uint32_t tree, node;            /* tree is constant; a snapshot changes node */
	uint32_t *ancestors;            /* node first, then parents; ancestor_count >= 1 */
	unsigned ancestor_count;
	uint64_t epoch;                 /* grows with each batch that was written: tells a fetched input that it is old */
	struct op *quiet;               /* its inputs grew old too often: no other op may write until it ran */
	struct op_queue quiet_waiters;
	bool gated;                     /* what would change something waits at its start: a snapshot is about to be made */
	struct op_queue gate_waiters;
	unsigned inputs_running;        /* on workers: they refer to this struct */
	uint64_t first_ino;             /* numbers from here on have no version in an ancestor; a snapshot raises it */
	struct db_batch *batch;         /* for change.c: one handler builds at a time */
	struct gather_list list;        /* the same */
	struct gather *gather;          /* changes that are on their way to RocksDB */
	struct pool_tenant *tenant;     /* constant */
	uint64_t next_ino, ino_limit;   /* numbers taken from the tree in ranges */

	_Atomic uint64_t limit_blocks, limit_inodes; /* of rec, for other threads */
	_Atomic int64_t used_blocks, used_inodes; /* written on the reactor, read anywhere */
	_Atomic int64_t held_blocks; /* of used: given back, but RocksDB does not know yet (file.c) */
	int64_t own_blocks, own_inodes; /* what of the tenant's use is the live node's, pending included */

	/* inode.c */
	struct inode **inode_buckets;
	size_t inode_bucket_count, inode_count;
	_Atomic uint64_t cached_inodes; /* inode_count for other threads */
	struct lookups *lookups;
	bool keep_lookups, numbers_used; /* for the end */
	_Atomic uint64_t known_inodes;  /* what lookups counts */
	struct timespec now;
	uint64_t now_at_ns;

	struct known *known;            /* names */

	/* orphan.c */
	struct reaper *reaper;

	struct data *data;              /* data_internal.h: chunk maps, dirty files, write-back */
	_Atomic uint64_t dirty_blocks;  /* slots that this subvolume holds; written on the reactor, read anywhere */

	struct {
		_Atomic uint64_t reads, writes, read_bytes, written_bytes, namespace_ops, fsyncs, checksum_errors;
	} stats;

	struct throttle throttle;       /* any thread */

	struct subvol *open_next, *bucket_next; /* pool->admin_lock */
};

/*
 * Write a batch of this subvolume: 0, META_WAIT when RocksDB stalls (nothing written; op is run again), -ENOSPC (metadata room; not for
 * batches that free, allow_full), -EROFS (read-only, or the pool failed), -EIO. Takes part in the next commit.
 */
int subvol_write(struct op *op, struct db_batch *batch, bool allow_full);

/*
 * What RocksDB, or what is gathered for it, has of the subvolume has changed (subvol_wrote), or a file has become dirty: the timer
 * has something to do. Without that a mounted subvolume wakes nobody. Reactor thread.
 */
void writeback_changed(struct subvol *sv);

static inline void subvol_wrote(struct subvol *sv)
{
	sv->epoch++;
	writeback_changed(sv);
}

/* Move the counters of this node with the batch; a delta of zeros adds nothing to it. */
void counters_put(struct db *db, struct db_batch *batch, uint32_t tree, uint32_t node, const struct counters_delta *delta);

/* What subvol_write() asks before it writes: the same answers. */
int subvol_may_write(struct op *op, bool allow_full);

/*
 * Freezing: the gate is closed, and all that was accepted before is in RocksDB when this returns 0. META_WAIT; -EIO and the like when something
 * cannot be written back: the gate stays closed until subvol_thaw(). *next_ino: no inode number from there on has been used.
 */
int subvol_freeze(struct op *op, uint64_t *next_ino);
void subvol_thaw(struct subvol *sv);

/*
 * While it is frozen: RocksDB has a batch that made `node`, a child of the live node, the new live one. ancestors: the new list, malloc'ed, with
 * one more than before; taken over.
 */
void subvol_switch(struct subvol *sv, uint32_t node, uint64_t first_ino, uint32_t *ancestors);

/*
 * The two halves of a subvol_charge() that gives back, for a change that RocksDB does not have yet: the subvolume may use
 * the room at once, since its own batches come later; the tenant's and the pool's others only when RocksDB has the change, because
 * theirs may be durable first. Reactor thread.
 */
void subvol_give(struct subvol *sv, int64_t blocks, int64_t inodes);
void subvol_give_own(struct subvol *sv, int64_t blocks, int64_t inodes);

/*
 * Have the subvolume's reactor call fn with an op, again after each META_WAIT, and wait for its result. By any other thread; by the
 * reactor's own only outside of its iterations.
 */
int subvol_call(struct subvol *sv, int (*fn)(struct op *op, void *arg), void *arg);

/* Reactor thread. */
void subvol_set_limits(struct subvol *sv, uint64_t size_blocks, uint64_t inodes_max);

/* snapshot_info() under pool->admin_lock. */
struct snapshot_info;
struct snapshot_name;
int snapshot_find(struct pool *pool, const struct snapshot_name *name, struct snapshot_info *out);

/* pool->admin_lock is held. NULL when it is not open. */
struct subvol *subvol_find_open(struct pool *pool, const char *name);

/* The inode cache: inode.c. free leaves nothing behind, whatever is pinned. */
int inodes_init(struct subvol *sv);
void inodes_free(struct subvol *sv);

/* A new inode number. The tree's `F` record is put ahead of use, in a batch of its own. 0 or -errno, META_WAIT. */
int subvol_new_ino(struct op *op, uint64_t *ino);

/*
 * A charge was refused. META_WAIT as long as what files gave back until now is on its way into RocksDB, or a cut is being reaped;
 * then the refusal. Reactor thread.
 */
int data_room_wait(struct op *op, int refusal);

/*
 * The data side of an open subvolume (writeback.c). start makes sv->data; it is called on the reactor's thread (or before it runs)
 * when the subvolume is complete but has served nothing and has no inode in memory; it may read and sleep, and arms the
 * timer. takeup, restartable, comes next: it makes dirty again what an earlier worker left. stop is called there too, after data_sync_all() said 0, or when nothing more can be saved, as soon as
 * data_idle() is true (background work has ops of its own): it disarms, and drops what is still dirty. data_destroy() frees sv->data after the last
 * inode left memory, and may be called without a start.
 */
void data_destroy(struct subvol *sv);
int writeback_start(struct subvol *sv);
int writeback_takeup(struct op *op);
bool data_idle(const struct subvol *sv);
void writeback_stop(struct subvol *sv);

#endif
