/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * metafs: the file store of RocksDB on the raw devices. This is what pool, mkfs and fsck see of
 * it; its files are in metafs_file.h. All functions may be called from any thread.
 */
#ifndef NVFS_META_METAFS_H
#define NVFS_META_METAFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "meta/label.h"
#include "meta/metafs_file.h"
#include "meta/metafs_format.h"

struct device;

struct metafs_range {
	uint16_t vdev;
	uint32_t first, count; /* zones */
};

struct metafs_options {
	/* By device index, label->device_count of them; NULL is a missing member. Stay the caller's. */
	struct device *const *devices;
	const struct label *labels; /* by device index too; of a missing one only the index counts */
	/*
	 * Memory that outlives this process, metafs_area_bytes() at least, page-aligned, zeros at
	 * first: unsynced tails and the current table. What a predecessor of the same pool and
	 * start left there is taken up. NULL: private memory.
	 */
	void *area;
	size_t area_bytes;
	bool read_only; /* writes nothing to the devices; the area is read only */
};

/* Bytes of an area with room for tail_bytes of unsynced log blocks (0: 8 MiB). */
size_t metafs_area_bytes(const struct label *label, size_t tail_bytes);

/*
 * Write the first table of a new pool, on every device, and flush. labels and share come from
 * label_layout(). 0 or -errno.
 */
int metafs_format(struct device *const *devices, const struct label *labels,
		  const struct label_share *share);

/*
 * Find the newest table, scan the logs, freeze their sizes, raise the start counter, and make
 * that durable on every member before anything else is written. The device locks are the
 * caller's: no I/O of an earlier process may be in flight. 0; -EBADMSG: no valid table, or a log is damaged (read_only
 * opens it with what lies before the damage); -ENXIO: too few members for a majority, or one missing that has blocks of
 * a log (not with read_only); -EIO; -ENOMEM; -EINVAL (area too small); -EOVERFLOW: 2^24 starts.
 */
int metafs_open(const struct metafs_options *options, struct metafs **out);

/*
 * All files are closed and nothing more will be written: sync, and put what each log holds into the table. Without that the end of
 * the newest log is where a valid block is missing, and damage to its last blocks looks like a power cut. Only
 * metafs_close() may follow. 0; -EROFS; -EIO: the logs stay as a crash leaves them.
 */
int metafs_seal(struct metafs *mf);

/*
 * Close; all files are. Tails that were not synced stay in the area and are lost with it:
 * sync before. NULL is fine.
 */
void metafs_close(struct metafs *mf);

/* This start's number: the upper 24 bits of the pool's sequence. Durable since metafs_open(). */
uint32_t metafs_start(struct metafs *mf);

/*
 * Names one use of the area: the same as long as each worker took over from the one before. Other parts of that memory are to be
 * believed only when they carry it.
 */
uint32_t metafs_area_life(struct metafs *mf);

/*
 * Raise it while the pool runs, before the lower part of the sequence passes 2^39, and make that
 * durable. 0 and *start, or -errno.
 */
int metafs_raise_start(struct metafs *mf, uint32_t *start);

/* The zones that belong to metafs; all others are data's. Constant. */
unsigned metafs_ranges(const struct metafs *mf, const struct metafs_range **out);

/*
 * How much of the share is free, in eighths, 0 to 7, what is kept for an open not counted. At 0
 * (less than an eighth) requests that grow metadata are refused; what is left is for deletes,
 * write-back, flushes and compactions.
 */
unsigned metafs_room(struct metafs *mf);

struct metafs_stats {
	uint64_t share_bytes, free_bytes;
	uint64_t pending_bytes;  /* freed, and waiting for a durable table */
	uint64_t files, wals;
	uint64_t wal_blocks;     /* of all WALs */
	uint64_t tail_bytes;     /* log blocks that are not yet on the device */
	uint64_t syncs, switches, flushes, flushes_skipped;
	uint64_t log_blocks_written, log_bytes_appended;
	bool taken_over;         /* tails of a predecessor were found in the area */
	int failed;              /* 0, or the error after which nothing is written any more */
};

void metafs_stats(struct metafs *mf, struct metafs_stats *out);

/*
 * Make durable what was appended to any log before the call, and every name and extent that goes with it, the data of the
 * devices first. 0; -EIO is final. Callers at the same time share the work.
 */
int metafs_sync(struct metafs *mf);

/*
 * Flush the devices ahead of a sync that is about to come: it does not flush them again unless something was written
 * meanwhile. Makes no metadata durable. 0, -EROFS; -EIO is final.
 */
int metafs_flush_ahead(struct metafs *mf);

/*
 * The same in two halves, for a caller that syncs a file in between: _end() does nothing when a
 * sync began after _begin() and has succeeded. Either also covers data without any metadata.
 */
uint64_t metafs_sync_begin(struct metafs *mf);
int metafs_sync_end(struct metafs *mf, uint64_t since);

/*
 * True when half of the area's room for unsynced log blocks is used: a sync now spares the writers
 * from waiting for one when it is full. Cheap.
 */
bool metafs_tail_high(struct metafs *mf);

/* True when the WALs hold so many blocks that RocksDB should write its memtables out. */
bool metafs_wal_full(struct metafs *mf);

/* For people: the table that is valid now. */
void metafs_print(FILE *out, struct metafs *mf);

#endif
