/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_FILE_H
#define NVFS_META_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "meta/inode.h"
#include "meta/op.h"
#include "meta/records.h"
#include "meta/subvol.h"

/*
 * The data side of a regular file in memory: what namespace code needs of it.
 *
 * Two states of a file exist: the *current* one, which reads and stat see
 * (dirty blocks, size, times), and the *committed* one, which is what RocksDB
 * has: its `S` record and chunk records. A *cycle* (writeback.c) carries the first into the second:
 *
 *   1. moment T: the current size, times and set of dirty blocks are taken; they become immutable
 *      (a newer write makes a newer generation of the block in front of the old one).
 *   2. their data is written to newly allocated blocks and answered by the device.
 *   3. in one handler: the runs enter the chunk maps, and `S` with T and all changed chunk
 *      records enter RocksDB in one WriteBatch.
 *
 * A file has at most one cycle at a time. While it runs, what changes the map by itself (truncate, punch, zero,
 * copy_file_range, the completion of a direct write) waits for its end, so the put is the state of exactly T. Writes, and growth of the size by
 * them, go on. A cycle without dirty blocks does steps 1 and 3 at once.
 */

struct file;

/*
 * For inode_get() and inode_enter(): make the file part from the `S` record that node `node` wrote (rec NULL: none, an empty file with the inode's
 * mtime). NULL: no memory.
 */
struct file *file_new(struct inode *inode, const struct size_rec *rec, uint32_t node);

/* Only when file_clean(). */
void file_free(struct file *file);

/* No dirty data, no unput record, no cycle, no waiter: the inode can leave memory. */
bool file_clean(const struct file *file);

uint64_t file_size(const struct file *file);
uint64_t file_blocks(const struct file *file); /* charged blocks: mapped, dirty, inline */
void file_times(const struct file *file, struct timespec *mtime, struct timespec *ctime);

/*
 * Set times without changing data (NULL: leave). They are dirty like data: the file is pinned and a cycle carries them into RocksDB, at once
 * when the timer says so.
 */
void file_set_times(struct file *file, const struct timespec *mtime, const struct timespec *ctime);

/*
 * Run a cycle that covers everything accepted before the first call with this op (remembered in op->moment), and wait for its end: 0 when it is put, -errno of
 * the write-back, META_WAIT.
 */
int file_put_all(struct op *op, struct inode *inode);

/*
 * Drop the data of an unlinked inode, at most about 1,024 chunks a call, for the reaper: adds the deletions of chunk records and `S` and the space operands to
 * batch, the counters' change to delta; returns 1 when there is more, 0 when nothing is left, META_WAIT, -errno. Call file_dropped() when the batch was written:
 * it gives back what was pending of dirty data; the caller gives back what delta says (subvol_charge()).
 */
int file_drop(struct op *op, struct inode *inode, struct db_batch *batch, struct counters_delta *delta);
void file_dropped(struct inode *inode);

/* It is used again before a batch of file_drop() was written: there was none. */
void file_keep(struct inode *inode);

#endif
