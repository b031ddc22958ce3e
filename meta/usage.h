/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_USAGE_H
#define NVFS_META_USAGE_H

#include "meta/progress.h"
#include "meta/snapshot.h"

/*
 * Who holds how much of a pool's devices, counted from all chunk maps at one moment. In blocks.
 *
 * A block is *held* by the records that map it; a subvolume or snapshot *has* a block when what is visible in it maps it. So data of a
 * deleted node that others inherit is had by those. What nobody has any more is *leaving*: a sweep gives it back, at once when its last
 * node was deleted, or when it next looks at a deleted node whose children have written over it.
 *
 *	stored     blocks on the devices that it has, each once
 *	exclusive  those that nothing else has: what comes back when this one is deleted, and only this
 *
 * and of the written data, which is what is left of all data without what is only promised,
 *
 *	data - compression = what it would take without sharing; - sharing = stored
 */
struct usage {
	const char *subvol, *snapshot; /* snapshot NULL: the subvolume as it is now */
	bool deleted;                  /* the snapshot's subvolume was */
	const char *tenant;            /* "": unknown */
	int64_t created_ns;
	uint64_t referenced;           /* what is visible, as it is charged: data, promised, meta */
	uint64_t data, promised, meta; /* written; by fallocate only; directories, xattrs, what lies in inodes */
	uint64_t stored, exclusive;
	uint64_t saved_by_compression, saved_by_sharing; /* in it; what it shares with others comes besides */
};

struct usage_total {
	uint64_t data_blocks, free_blocks; /* of the pool, at the end of the count */
	uint64_t held;     /* by anything */
	uint64_t leaving;  /* of these, what nothing has any more */
	uint64_t data;     /* of all subvolumes and snapshots together */
	uint64_t saved_by_compression, saved_by_sharing; /* data - both = held - leaving */
};

/*
 * Calls fn for each subvolume and snapshot, the snapshots of one in the order of their making before it, until it returns non-zero, which
 * is returned. only: of that subvolume and its snapshots, or of that snapshot; NULL: all, and *total, which may be NULL. Dirty data of
 * open subvolumes is written back first. It needs two bits for each block that a family of subvolumes holds, and 24 bytes for each piece
 * that files share. Not on a reactor thread. -ENOENT, -EBADMSG (damaged records), -ENOMEM, -EIO; what progress returned.
 */
int usage_count(struct pool *pool, const struct snapshot_name *only, const struct progress *progress,
		int (*fn)(void *arg, const struct usage *usage), void *arg, struct usage_total *total, char *why, size_t why_len);

#endif
