/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_POOL_INTERNAL_H
#define NVFS_META_POOL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "io/workers.h"
#include "meta/commit.h"
#include "meta/db.h"
#include "meta/dirty.h"
#include "meta/event.h"
#include "meta/label.h"
#include "meta/metafs.h"
#include "meta/pool.h"
#include "meta/records.h"
#include "meta/space.h"

struct epoch_domain;
struct gather_store;
struct lookup_store;
struct discarder;
struct sweeper;
struct tree_numbers;
struct pool_tenant;
struct tenant_notes;
struct shared;

#define POOL_OPEN_BUCKETS 256u

/* What the parts of meta/ share of a pool. Each field names what protects it. */
struct pool {
	struct pool_options options;    /* constant */
	struct label label;             /* constant: of device 0, with the pool's fields */
	struct device **devices;        /* constant; by device index = vdev */
	unsigned device_count;
	struct metafs *metafs;          /* thread-safe */
	struct db *db;                  /* thread-safe */
	struct space *space;            /* thread-safe */
	struct dirty *dirty;            /* thread-safe: slots of all subvolumes */
	_Atomic uint32_t dirty_tenants; /* with dirty blocks */
	struct committer *committer;    /* thread-safe */
	struct workers *workers;        /* thread-safe */
	struct epoch_domain *epochs;    /* thread-safe: reads under way; slot = index of the reactor, the last one for others */
	struct gather_store *gather_store; /* thread-safe: memory of changes on their way to RocksDB */
	struct lookup_store *lookup_store; /* thread-safe: memory of the tables of lookup counts */
	struct sweeper *sweeper;        /* thread-safe: takes deleted subvolumes apart */
	struct events *events;          /* thread-safe */
	struct discarder *discarder;    /* thread-safe: tells devices what is free; NULL where none wants it */
	void *own_area;                 /* constant: what pool_open() mapped, or NULL */
	size_t own_area_bytes;
	_Atomic uint64_t sequence;
	_Atomic int failed;             /* the first fatal error, a negative errno (a flush or WAL sync failed): no more writes */
	_Atomic uint64_t checksum_errors, io_errors, commits;
	_Atomic uint64_t map_bytes;     /* chunk maps in memory */
	bool nearly_full, meta_nearly_full; /* commit thread: what was said */
	_Atomic bool meta_short;        /* a batch of file data found little room for metadata */

	pthread_mutex_t admin_lock;     /* serialises administration; protects the list and pool record */
	struct pool_rec rec;
	struct subvol *open_head;       /* open subvolumes, by subvol->open_next */
	struct subvol *open_buckets[POOL_OPEN_BUCKETS]; /* the same by name, by subvol->bucket_next */
	uint32_t next_session;          /* below rec.next_session: numbers up to there are taken, durably */
	unsigned *reactor_load;         /* open subvolumes of each reactor */
	_Atomic uint64_t takes;         /* by administration, that were granted: tests see that what is refused took nothing */
	_Atomic uint64_t nodes_visited; /* by requests about snapshots, loaded ones included: tests see how that grows */
	struct shared **shared;         /* of each reactor; made when it gets its first subvolume */
	_Atomic uint64_t reserved_blocks; /* claims of reserved subvolumes */
	_Atomic int64_t loose_blocks;   /* used by thin subvolumes, and by nodes that wait to be swept */
	_Atomic int64_t promised_blocks; /* both together, in one sum: what may not pass the pool's capacity */
	uint64_t data_blocks;           /* constant: of the data zones */
	uint64_t headroom_blocks;       /* constant: of rec, which others than administration do not read */
	_Atomic uint64_t cached_inodes; /* of all open subvolumes */
	_Atomic uint32_t open_count, subvol_count;

	pthread_mutex_t numbers_lock;   /* leaf; protects numbers: next inode number of each tree in use */
	struct tree_numbers *numbers;
	struct pool_tenant *_Atomic tenants; /* walked without a lock; changed under admin_lock and owners_lock: tenant.h */
	struct pool_tenant *tenants_gone; /* admin_lock: deleted ones, which somebody may still look at */
	struct tenant_notes *tenant_notes; /* thread-safe */
	pthread_mutex_t owners_lock;    /* leaf; protects who owns a tenant */
};

/*
 * Put the pool record, and what `with` has, in one batch (with NULL: the record alone), durable when this returns. admin_lock is
 * held. 0 or -errno.
 */
int pool_write_rec(struct pool *pool, const struct pool_rec *rec, struct db_batch *with);

/* Data space that claims and loose blocks may use together. */
uint64_t pool_capacity(const struct pool *pool);

/* Of metadata's share, what has to be free in eighths: more for what makes more of it grow afterwards. Changes of names go on to one. */
enum meta_room {
	META_ROOM_DATA = 1,     /* new blocks */
	META_ROOM_COPY = 2,     /* a block that a snapshot holds: a whole map of its chunk, and of what was accepted many at once */
	META_ROOM_SNAPSHOT = 3, /* what is written after it has maps of its own */
};

/*
 * Whether there is that much. pool_note_meta_room() looks, after a batch of file data; pool_may_grow() costs one load until that found little.
 * Any thread.
 */
void pool_note_meta_room(struct pool *pool);
bool pool_may_grow(struct pool *pool, enum meta_room need);

/*
 * Take loose blocks, or claim some (negative: give back, which never fails). False, and nothing is taken: there is no room. Of two at once, one
 * that fits is never refused for one that does not. Any thread.
 */
bool pool_take_loose(struct pool *pool, int64_t blocks);
bool pool_claim(struct pool *pool, int64_t blocks);
bool pool_take(struct pool *pool, int64_t loose, int64_t claim); /* both or nothing */

/* Whether so many more would fit now, beside the claims. Any thread. */
bool pool_has_loose(struct pool *pool, int64_t blocks);

/* What both are is so much more, or less, whatever the room is: in one step. Any thread. */
void pool_count_promised(struct pool *pool, int64_t loose, int64_t claimed);

#endif
