/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_MOMENT_H
#define NVFS_META_MOMENT_H

#include "meta/admin.h"
#include "meta/nodes.h"
#include "meta/progress.h"
#include "meta/snapshot.h"

/*
 * All of a pool's records at one moment, for what looks at many of them: differences of snapshots, sums of what is used. Nothing waits
 * for it after moment_take(), and deletions that come later do not show. Not on a reactor thread.
 */

struct moment {
	struct pool *pool;
	struct db_snapshot *at;
	struct nodes nodes;
	struct progress progress;
	unsigned steps;
	uint64_t done, total; /* the last that moment_step() was given */
	uint64_t work_began_ns, told_ns;
};

/*
 * What is dirty in these subvolumes (count of them) is written back first, and writers wait for a moment, so that all they were answered is
 * in it and nothing else; with `all`, what others have is written back as far as it can be. 0, -ENOENT, -ENOMEM, or why it cannot be
 * written back. *out is to be released in any case.
 */
int moment_take(struct pool *pool, const char *const *subvols, unsigned count, bool all, struct moment *out, const struct refusal *ref);
void moment_release(struct moment *m);

/* The node of VOL@SNAP, or (snapshot NULL) the live one of VOL, as of the moment. 0, -ENOENT, -EIO. */
int moment_find(struct moment *m, const struct snapshot_name *name, struct node_entry **out, const struct refusal *ref);

/* A node and its ancestors, malloc'ed. 0, -ENOMEM, -EBADMSG. */
int moment_lineage(struct moment *m, const struct node_entry *node, uint32_t **out, unsigned *count);

/* At the begin of a part of the work: tells progress now. */
int moment_begin(struct moment *m, uint64_t done, uint64_t total);

/* Once for each record that is looked at: tells progress, and leaves the processors and devices to others now and then. total 0: as before. */
int moment_step(struct moment *m, uint64_t done, uint64_t total);

/*
 * An iterator over keys with a prefix, which does not hold files of the database for longer than a few seconds. Zero it, with moment, cf
 * and prefix; it stands on the first key after moment_scan_first(). key and value are good until the next step.
 */
struct moment_scan {
	struct moment *m;
	enum db_cf cf;
	uint8_t prefix[KEY_NS_PREFIX_LEN];
	size_t prefix_len;
	struct db_iter *iter;
	unsigned steps;
	const uint8_t *key;
	const void *value;
	size_t key_len, value_len;
};

/* 1: it stands on a key; 0: at the end; -errno. */
int moment_scan_first(struct moment_scan *s);
int moment_scan_next(struct moment_scan *s);
/* To the first key that is not less; it must begin with the prefix. */
int moment_scan_seek(struct moment_scan *s, const void *key, size_t len);
void moment_scan_end(struct moment_scan *s);

#endif
