/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The allocator of data blocks: one for the pool, for all threads. space.c opens with its
 * invariants.
 *
 * A block has two counts. *current* is what the records in memory map: allocation makes it 1,
 * space_hold() and space_drop() change it when a record in memory gains or loses a run. *durable*
 * is the most that any record that a power cut can leave behind maps: space_ops_emit() raises it
 * before a batch is written, space_ops_committed() lowers it when the batch is durable. A block is
 * handed out when both are 0 and every read begun earlier has ended.
 *
 * What a write-back does:
 *
 *	space_alloc()                                   current = 1
 *	write the data; on completion put the run into the map in memory
 *	space_drop() what the run replaced there
 *	space_ops_add() +1 for new runs, -1 for the committed value's runs that go; into one batch
 *	space_ops_put() into the batch, then write the batch to RocksDB
 *	... after the commit: space_ops_committed()
 *
 * Errors: a range that is not wholly inside zones of data is -EINVAL, and nothing has changed. It may go over the
 * edge of a zone: blocks of two allocations that happen to lie next to each other look like one run to their owner.
 */
#ifndef NVFS_META_SPACE_H
#define NVFS_META_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;
struct db_batch;
struct space;
struct space_ops;

#define SPACE_STREAMS_MAX 64

/* A run of blocks of a vdev. */
struct extent {
	uint64_t block;
	uint32_t blocks;
	uint16_t vdev;
};

struct space_vdev {
	uint64_t zones_block; /* where zone 0 begins */
	uint32_t zone_blocks; /* a power of two, 64..65536 */
	uint32_t zone_count;
};

/* Zones that are not for data. */
struct space_zones {
	uint16_t vdev;
	uint32_t first;
	uint32_t count;
};

/*
 * The readers, as in io/epoch.h: tag() names this moment and never goes down; passed() says whether
 * every read that was under way then has ended, and stays true. Called from any thread with
 * locks held: they must not call back.
 */
struct space_epochs {
	uint64_t (*tag)(void *arg);
	bool (*passed)(void *arg, uint64_t tag);
	void *arg;
};

struct space_config {
	uint16_t nvdevs;
	const struct space_vdev *vdevs;
	uint32_t nreserved;
	const struct space_zones *reserved; /* of metafs; may not overlap */
	unsigned streams;                   /* allocation streams: 1..SPACE_STREAMS_MAX, one or more a reactor */
	uint32_t discard_min_blocks;        /* shorter freed runs are not offered for discard; 0: none are */
	const struct space_epochs *epochs;  /* copied; NULL: no reads need waiting for (mkfs, fsck) */
};

/* 0 and *out, the caller's; -EINVAL for a geometry that makes no sense, -ENOMEM. All blocks are free. */
int space_create(const struct space_config *config, struct space **out);
void space_destroy(struct space *space);

/*
 * Take over one key and value of the `space` column family: both counts of these blocks. Before
 * anything is allocated, one thread. -EBADMSG for a malformed entry or one outside the data zones.
 * Holders below 0 count as held (never reused) and add to stats.damaged. The caller commits before it
 * allocates when RocksDB recovered batches that may not be durable.
 */
int space_load_entry(struct space *space, const void *key, size_t key_len, const void *value,
		     size_t value_len);

/* All of the `space` column family. -EBADMSG for a malformed entry, or an error of the iterator. */
int space_load(struct space *space, struct db *db);

enum space_flags {
	SPACE_RESERVE = 1u << 0, /* write-back of what was accepted: may take the reserve */
};

/*
 * Allocate between min and want blocks in one run (1 <= min <= want), as near to want as the pool
 * has it, and make them current. stream < config.streams: each fills zones of its own, round
 * the devices by pieces of 1 MiB; a stream may be used by several threads. -EAGAIN: not now, but
 * blocks wait for a commit or for reads to end (space_stats.waiting): commit all dirty records and try
 * again. -ENOSPC: that would not help, or no run has min blocks. Any thread.
 */
int space_alloc(struct space *space, unsigned stream, uint32_t want, uint32_t min, unsigned flags,
		struct extent *out);

/* Only SPACE_RESERVE may make the free blocks fewer than this. */
void space_set_reserve(struct space *space, uint64_t blocks);

/*
 * One more, one less current holder for each block of the range. The blocks must have one; if any has
 * none, that is logged and -EUCLEAN and nothing changes. -ENOMEM from hold leaves nothing changed;
 * drop does not fail for memory: what it cannot keep track of stays held until the next mount. Any
 * thread.
 */
int space_hold(struct space *space, const struct extent *range);
int space_drop(struct space *space, const struct extent *range);

/*
 * Recovery: one more current holder, whatever the blocks' state (a dead worker's dirty record maps
 * them). Before anything is allocated.
 */
int space_claim(struct space *space, const struct extent *range);

/*
 * Give back what was allocated and was never in any record; nothing is being written there any
 * more. Reusable at once. Any thread.
 */
int space_release_unused(struct space *space, const struct extent *range);

/*
 * Make reusable what waited for reads that have ended. Allocation does it by itself when it runs low; a
 * timer should, so that discards go on. Any thread.
 */
void space_reap(struct space *space);

/* ---- batches ---- */

/* The changes of one batch. One thread at a time. NULL without memory. */
struct space_ops *space_ops_new(struct space *space);
void space_ops_free(struct space_ops *ops);
void space_ops_clear(struct space_ops *ops);
bool space_ops_empty(const struct space_ops *ops);

/*
 * Note that the batch adds delta holders (not 0) to a range. +1 and -1 on the same blocks cancel each
 * other. 0, -EINVAL, -ENOMEM (then the batch must not be written).
 */
int space_ops_add(struct space_ops *ops, const struct extent *range, int32_t delta);

/*
 * Hand one merge operand per zone to put (key and operand live for the call only), and raise the
 * durable counts by what the batch adds. Once per batch, before it is written. The ops
 * must then stay as they are until one of the next two. 0, -ENOMEM, or put's error: then nothing was raised
 * and the batch must not be written. Any thread.
 */
typedef int (*space_put_fn)(void *arg, const void *key, size_t key_len, const void *operand,
			    size_t operand_len);
int space_ops_emit(struct space_ops *ops, space_put_fn put, void *arg);

/* space_ops_emit() into a batch. */
int space_ops_put(struct space_ops *ops, struct db *db, struct db_batch *batch);

/*
 * The batch is durable: lower the durable counts by what it drops; blocks may become reusable. The ops
 * are empty afterwards. Batches of one record must come here in the order they were written. Any thread.
 */
void space_ops_committed(struct space_ops *ops);

/* RocksDB refused the batch, nothing of it was written: undo emit. The ops are empty afterwards. */
void space_ops_aborted(struct space_ops *ops);

/* ---- discard ---- */

/*
 * A run that was freed since it was last written, at least discard_min_blocks, or false. It cannot be
 * allocated until space_discard_done(), which the caller owes whether or not the discard worked.
 */
bool space_discard_take(struct space *space, struct extent *out);
void space_discard_done(struct space *space, const struct extent *range);

/* ---- numbers ---- */

struct space_stats {
	uint64_t total;   /* blocks of data zones */
	uint64_t free;    /* reusable now */
	uint64_t held;    /* current > 0 */
	uint64_t waiting; /* neither: for a commit, for reads, for a discard */
	uint64_t shared;  /* holders beyond the first, current */
	uint64_t reserve;
	uint64_t damaged; /* blocks loaded with holders below 0 */
	uint64_t memory_bytes;
};

/* A moment's numbers, each exact, O(1). Any thread. */
void space_get_stats(const struct space *space, struct space_stats *out);

/* The counts of one block, for fsck, tests and dumps. -EINVAL outside the data zones. */
int space_counts(struct space *space, uint16_t vdev, uint64_t block, uint32_t *current,
		 uint32_t *durable);

#endif
