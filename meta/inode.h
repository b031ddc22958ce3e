/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_INODE_H
#define NVFS_META_INODE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "meta/op.h"
#include "meta/records.h"

/*
 * The inodes of an open subvolume that are in memory. `rec` is always what
 * RocksDB has (namespace changes are written at once); what may be ahead of
 * RocksDB is the data of regular files, in `file` (file.h), which keeps its inode
 * pinned while it is dirty.
 */

struct file;

struct inode {
	uint64_t ino;
	struct subvol *sv;
	struct inode_rec rec;   /* target of a symlink: own allocation, freed with the inode */
	struct file *file;      /* regular files only: size, data, chunk maps; else NULL */
	uint32_t pins;          /* > 0: stays in memory */
	uint32_t node;          /* that wrote rec */
	bool orphan;            /* nlink 0: has an `O` record */
	bool deleted;           /* being reaped, or reaped: every use but the reaper's is -ENOENT */
	bool listed;            /* in the LRU list: not pinned */
	struct op_queue waiters;
	struct inode *lru_prev, *lru_next;
	struct inode *hash_next;
};

/* An inode by number: 0, -ENOENT (none, or reaped), -EIO, META_WAIT. Valid until the op's handler returns, longer when pinned. */
int inode_get(struct op *op, uint64_t ino, struct inode **out);

/* The same, also for an inode that is being reaped: the reaper's. */
int inode_get_dead(struct op *op, uint64_t ino, struct inode **out);

/* The one in memory, or NULL. */
struct inode *inode_peek(struct subvol *sv, uint64_t ino);

void inode_pin(struct inode *inode);
void inode_unpin(struct inode *inode);

/*
 * Enter a new inode into the cache, in the handler that writes its batch; if that fails, inode_remove() takes it out again. NULL
 * when memory is out.
 */
struct inode *inode_enter(struct subvol *sv, uint64_t ino, const struct inode_rec *rec);

/* It is gone for good: out of the cache now, or when the last pin goes. */
void inode_remove(struct inode *inode);

/* What stat(2) gives, dirty state included. */
struct inode_attr {
	uint64_t ino, size_bytes, blocks512;
	uint32_t mode, nlink, uid, gid, rdev;
	struct timespec atime, mtime, ctime, btime;
	uint64_t generation;
};
void inode_attr(const struct inode *inode, struct inode_attr *out);

/* The time of a change: CLOCK_REALTIME, read once per iteration of the reactor. */
struct timespec subvol_now(struct subvol *sv);

/*
 * What the kernel knows: nlookup of each inode, in the area that outlives the
 * worker. lookup_forget() to 0 of an orphan has it reaped in the background.
 */
void lookup_add(struct subvol *sv, uint64_t ino, uint64_t n);
void lookup_forget(struct subvol *sv, uint64_t ino, uint64_t n);
uint64_t lookup_count(struct subvol *sv, uint64_t ino);
/* The connection is gone: the kernel knows nothing any more. */
void lookup_forget_all(struct subvol *sv);

#endif
