/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_DIFF_H
#define NVFS_META_DIFF_H

#include "meta/progress.h"
#include "meta/snapshot.h"

/*
 * What changed from one snapshot to another, or to the volume as it is now: of any two of a family, whichever is older.
 *
 * An inode is the same file in both, whatever its names are. Its data changed when a block of it was written, whatever was written; that of
 * a directory when a name in it came or went. Times are mtime and btime: ctime changes with everything else, atime by looking.
 */

enum diff_kind {
	DIFF_CREATED,
	DIFF_DELETED,
	DIFF_RENAMED,    /* and, by `what`, changed besides */
	DIFF_MODIFIED,   /* data, and by `what` attributes, too */
	DIFF_ATTRIBUTES, /* nothing else */
};

enum diff_what {
	DIFF_DATA = 1 << 0,
	DIFF_MODE = 1 << 1,
	DIFF_OWNER = 1 << 2,
	DIFF_TIMES = 1 << 3,
	DIFF_XATTRS = 1 << 4, /* ACLs, too */
	DIFF_LINK = 1 << 5,   /* created or deleted: one name of a file that both have */
};

struct diff_change {
	enum diff_kind kind;
	unsigned what;       /* enum diff_what; of what was created or deleted none but DIFF_LINK */
	uint32_t mode;       /* of the later one; of what was deleted as it was */
	uint64_t ino;
	const char *path;    /* from the root directory, which is "/"; any bytes but 0; of what was deleted where it was */
	size_t path_len;
	const char *old_path; /* of what was renamed, else NULL */
	size_t old_path_len;
};

/*
 * Calls fn for each path, in the order of their bytes, until it returns non-zero, which is returned. It needs some 120 bytes of memory
 * and the name for each change, which it collects before the first call. Not on a reactor thread. -ENOENT, -EXDEV (not of one family),
 * -EBADMSG (damaged records), -ENOMEM, -EIO; what progress returned.
 */
int snapshot_diff(struct pool *pool, const struct snapshot_name *from, const struct snapshot_name *to, const struct progress *progress,
		  int (*fn)(void *arg, const struct diff_change *change), void *arg, char *why, size_t why_len);

#endif
