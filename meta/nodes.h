/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_NODES_H
#define NVFS_META_NODES_H

#include <stdbool.h>
#include <stddef.h>

#include "meta/db.h"
#include "meta/records.h"

/*
 * All nodes of a pool: the trees of subvolumes, snapshots and clones. For administration, which looks at all of them each time: there are
 * thousands at most. May sleep.
 */

struct node_entry {
	uint32_t tree, id;
	struct node_rec rec;  /* its name is the field below */
	char *name;           /* malloc'ed, NUL-terminated; of a snapshot, else "" */
	unsigned children;
	unsigned depth;       /* ancestors */
};

struct nodes {
	struct node_entry *v; /* by tree and id */
	size_t count, room;
};

/* *out is empty at first, and to be freed in any case. 0, -EBADMSG, -ENOMEM, -EIO. */
int nodes_load(struct db *db, struct nodes *out);
int nodes_load_at(struct db *db, const struct db_snapshot *at, struct nodes *out);
void nodes_free(struct nodes *nodes);

/* NULL when there is none. */
struct node_entry *nodes_find(const struct nodes *nodes, uint32_t tree, uint32_t id);

/* The only child, when children is 1. */
struct node_entry *nodes_child(const struct nodes *nodes, const struct node_entry *of);

/*
 * What a tenant is charged for: nothing of a node to be swept that has no children, because nothing of that can become anybody's.
 */
static inline bool node_counts(const struct node_entry *n)
{
	return n->rec.state != NODE_SWEEP || n->children;
}

#endif
