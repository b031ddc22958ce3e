/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_SNAPSHOT_H
#define NVFS_META_SNAPSHOT_H

#include "meta/subvol.h"

/*
 * Snapshots and clones. As the administration of subvolumes (subvol.h): not on a reactor thread; they may sleep, are serialised by
 * the pool and durable when they return; why gets the sentence of a refusal.
 *
 * A snapshot is named by its subvolume and its own name, together VOL@SNAP, which is unique in the pool. It outlives its subvolume.
 */

/* Snapshot names are made like those of subvolumes. */
#define SNAPSHOT_NAME_MAX 255
#define SNAPSHOT_PATH_MAX (SUBVOL_NAME_MAX + 1 + SNAPSHOT_NAME_MAX)

/*
 * The most ancestors of a subvolume: its snapshots, those of what it was cloned from up to there, and deleted ones that the sweep has not
 * come to or that others need. A lookup costs hardly more for them (architecture.md, section 9), but whoever opens a subvolume reads a record for each,
 * and administration goes over all that there are.
 */
#define SNAPSHOT_LINE_MAX 10000u

/* What is made at one moment stops all writers of it at once. */
#define SNAPSHOT_GROUP_MAX 1500u

struct snapshot_name {
	const char *subvol, *snapshot;
};

/*
 * Snapshots of different subvolumes at one moment, mounted or not: all or, after an error or a crash, none. What is dirty is written back
 * first; meanwhile those that change something wait. -EINVAL (two of a subvolume, more than SNAPSHOT_GROUP_MAX, no name), -ENOENT, -EEXIST, -EMLINK (SNAPSHOT_LINE_MAX), -ENOSPC (what a reserved subvolume holds would have
 * no room beside its claim), -EDQUOT, -EIO.
 */
int snapshot_create(struct pool *pool, const struct snapshot_name *names, unsigned count, char *why, size_t why_len);

/* -ENOENT; -EBUSY while it is mounted or has a view. What it alone holds comes back in the background. */
int snapshot_delete(struct pool *pool, const struct snapshot_name *name, char *why, size_t why_len);

/*
 * The subvolume becomes what the snapshot is; what it was is gone, later snapshots stay. -EBUSY while it is mounted, -ENOSPC when the snapshot
 * has more than the subvolume's limits now.
 */
int snapshot_rollback(struct pool *pool, const struct snapshot_name *name, char *why, size_t why_len);

struct clone_options {
	uint64_t size_bytes, inodes_max; /* 0: of the snapshot */
	bool thin, reserved;             /* neither: as its origin */
};

/*
 * A new subvolume with what the snapshot has, or (snapshot NULL) what the subvolume has now, which gives both an ancestor more: -EMLINK. Of the
 * same tenant.
 */
int snapshot_clone(struct pool *pool, const struct snapshot_name *from, const char *name, const struct clone_options *opts,
		   char *why, size_t why_len);

/*
 * Open a snapshot of an open subvolume for use beside it, on its reactor, read-only: a *view*. *number: the snapshot's, unique among those of its
 * subvolume that there are. Whoever deletes the snapshot closes its views first: while there is one, its records are there to be read.
 * Closed by subvol_close(), before its subvolume is. -ENOENT, -ENOMEM, -EIO. Not on a reactor thread.
 */
int snapshot_open_view(struct subvol *of, const char *snapshot, uint16_t *number, struct subvol **out);

struct snapshot_info {
	char subvol[SUBVOL_NAME_MAX + 1], name[SNAPSHOT_NAME_MAX + 1];
	uint32_t tree, node, subvol_id, tenant;
	char tenant_name[NAME_BYTES_MAX + 1]; /* "": it was deleted */
	uint32_t group;                /* snapshots that were made together have the same; 0: made alone */
	uint16_t view;
	int64_t created_ns;
	uint64_t size_blocks, inodes_max;             /* of the subvolume then */
	uint64_t used_blocks, used_inodes;            /* what is in it */
	uint64_t held_blocks;          /* what it is charged for: what it shares with no older snapshot */
	unsigned children;
	bool deleted;                  /* its subvolume was */
	bool open;
};

int snapshot_info(struct pool *pool, const struct snapshot_name *name, struct snapshot_info *out);
/* Calls fn for those of the names that there are, in their order, until it returns non-zero, which is returned. */
int snapshot_infos(struct pool *pool, const struct snapshot_name *names, unsigned count, int (*fn)(const struct snapshot_info *info, void *arg),
		   void *arg);
/* Calls fn for each snapshot, of a subvolume or (NULL) of all, oldest first in a subvolume, until it returns non-zero, which is returned. */
int snapshot_each(struct pool *pool, const char *subvol, int (*fn)(const struct snapshot_info *info, void *arg), void *arg);

#endif
