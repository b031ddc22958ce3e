/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_POOL_H
#define NVFS_META_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/device.h"
#include "io/reactor.h"

/*
 * A pool: its devices, metafs and RocksDB on them, the allocator, the dirty
 * blocks, the commit thread, and the subvolumes that are open. One process
 * serves a pool at a time.
 */

struct pool;

/* What of the pool outlives a worker, in memory that the supervisor holds. Carved by pool_area_layout(). */
struct pool_area {
	void *base;
	size_t len_bytes;
};

struct pool_options {
	unsigned reactors;          /* threads that the caller made and runs; >= 1 */
	struct reactor **reactor;   /* array of them */
	size_t dirty_bytes;         /* cap of dirty data; 0 = 256 MiB */
	size_t cache_bytes;         /* block cache of RocksDB; 0 = 64 MiB */
	uint32_t inode_cache;       /* inodes kept in memory beyond the ones in use; 0 = 65,536 */
	size_t map_cache_bytes;     /* chunk maps kept in memory; 0 = 64 MiB */
	uint32_t commit_ms;         /* period of the timer; 0 = 4000 */
	bool read_only;
	struct pool_area area;      /* base NULL: the pool allocates its own (tests, fsck) */
};

/*
 * Bytes that pool_options.area needs for these options. More than 1 GiB, of which nearly all is never touched: the memory must be
 * sparse (a memfd, or MAP_NORESERVE), zeros at first, neither prefaulted nor locked.
 */
size_t pool_area_size(const struct pool_options *opts);

/*
 * Open the pool on these devices (in any order, all of them; -ENXIO with a log line that names the
 * missing ones), recover, and start the commit thread and the timer. The devices stay the
 * caller's and must outlive the pool. Not on a reactor thread, before the reactors run or while they do.
 * 0 or -errno; the reason was logged.
 */
int pool_open(struct device **devices, unsigned device_count, const struct pool_options *opts,
	      struct pool **out);

/* Commit everything and close. All subvolumes are closed. Not on a reactor thread; the reactors still run. 0 or the commit's error. */
int pool_close(struct pool *pool);

struct pool_stats {
	char name[64];
	uint8_t uuid[16];
	uint64_t data_blocks, free_blocks, reserved_blocks; /* data space; claims of reserved subvolumes */
	uint64_t unclaimed_blocks; /* what all thin subvolumes together, or a new claim, may still take */
	uint64_t headroom_blocks;  /* never promised: writes go there before what they replace is given back */
	uint64_t meta_bytes, meta_free_bytes;
	uint64_t inodes_max; /* what the room for metadata was made for, and the most that one subvolume may be given */
	uint64_t dirty_blocks, dirty_cap_blocks;
	uint64_t commits, checksum_errors, io_errors;
	uint32_t subvolumes, open_subvolumes;
	int failed;        /* 0, or -errno: it takes no more writes */
	int sweep_error;   /* why what was deleted is not taken apart: subvol_sweep_error() */
};

/* What happens in it (meta/event.h); until pool_close(). Any thread. */
struct events *pool_events(struct pool *pool);

/* Any thread. */
void pool_stats(struct pool *pool, struct pool_stats *out);
const char *pool_name(const struct pool *pool);

/* What was promised, and what holds space besides the subvolumes, by their records. */
struct pool_usage {
	uint64_t promised_blocks;      /* sizes of all subvolumes */
	uint64_t promise_limit_blocks; /* thin ones may not bring that above: overcommit_percent of what the pool can hold */
	uint32_t overcommit_percent;   /* 100: none */
	uint64_t snapshot_blocks;      /* charged to snapshots */
	uint64_t sweeping_blocks;      /* of what was deleted and is still being taken apart */
	uint32_t snapshots, sweeps;
};

/* 0 or -errno. Not on a reactor thread: it may sleep. */
int pool_usage(struct pool *pool, struct pool_usage *out);

#define POOL_OVERCOMMIT_MAX 10000u /* percent: beyond that it is a typing mistake */

/*
 * Of struct pool_usage, sweeps and sweeping_blocks of what the calling thread acts for (tenant_act_as()); nothing else of it is set. 0 or
 * -errno. Not on a reactor thread.
 */
int pool_sweeps(struct pool *pool, struct pool_usage *out);

/*
 * How much subvolumes may be promised together, in percent of what the pool can hold. -EINVAL, -ENOSPC when they are promised more already: why gets
 * the sentence. Durable when it returns. Not on a reactor thread.
 */
int pool_set_overcommit(struct pool *pool, uint32_t percent, char *why, size_t why_len);

/* Opened so, or of a newer minor format: everything in it can be read, nothing written. */
bool pool_read_only(const struct pool *pool);

/* The next number of the pool's sequence. Any thread. */
uint64_t pool_sequence(struct pool *pool);

/*
 * A session number that was never used, for struct op; durable when this returns. The results of a session that ended are
 * removed with the other call. Not on a reactor thread. 0 or -errno.
 */
int pool_session_new(struct pool *pool, uint32_t *session);
int pool_session_end(struct pool *pool, uint32_t session);

/*
 * Make everything durable that was put into RocksDB before this call: data flush, then WAL sync; concurrent calls share one. done is
 * called on the ticket's reactor (NULL: on the commit thread) with 0 or -errno; an error is final for the pool: from then on it takes no writes. Any thread.
 */
struct commit_ticket {
	void (*done)(struct commit_ticket *t, int error);
	struct reactor *reactor;
	struct reactor_msg msg; /* private from here */
	struct reactor_msg wake;
	struct commit_ticket *next;
	int error;
};
void pool_commit(struct pool *pool, struct commit_ticket *ticket);

/* The same for a caller that may sleep (administration, tests with running reactors). Not on a reactor thread. */
int pool_commit_wait(struct pool *pool);

#endif
