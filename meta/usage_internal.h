/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_USAGE_INTERNAL_H
#define NVFS_META_USAGE_INTERNAL_H

#include "meta/grow.h"
#include "meta/moment.h"
#include "meta/usage.h"

/*
 * A node of the tree at hand. The sums are differences while records are looked at: what a record has is added at its node, and taken
 * away where a version below hides it; added up along the way from the root they are the nodes'.
 */
struct usage_node {
	uint32_t id;
	unsigned parent;        /* index, below the node's own; UINT_MAX: none */
	unsigned first, last;   /* of all nodes in the order of a walk down: its own place, and the last one below it */
	unsigned next;          /* while places are given: the one of its next child */
	unsigned named_below;   /* nodes at it and below that have a name, */
	uint64_t named_sum;     /* and the sum of their indexes */
	bool named;
	int64_t data, promised, footprint, stored;
	int64_t exclusive;      /* no difference */
};

/* A range of blocks that something maps. */
struct usage_piece {
	uint64_t address;
	uint32_t blocks;
	uint32_t owner; /* a version at hand, or a class */
	uint16_t vdev;
};

/* Blocks as bits: which were seen, and which by several files. */
struct usage_bits {
	uint64_t **pages[LABEL_DEVICES_MAX];
	size_t npages[LABEL_DEVICES_MAX];
};

struct usage_tree {
	struct moment *m;
	uint32_t id;
	struct usage_node *nodes; /* by id */
	unsigned count;
	uint64_t inos;            /* no inode number is above */
	int64_t held, leaving;
};

/* Count a tree whose nodes have their id, parent and named. done, total: of the progress; it adds 2 * inos. */
int usage_tree_count(struct usage_tree *t, uint64_t done, uint64_t total);

/* ---- usage_bits.c ---- */

/* Note that a file maps these blocks. 0, -ENOMEM, -EBADMSG for what no device has. */
int usage_bits_mark(struct usage_bits *b, const struct pool *pool, uint16_t vdev, uint64_t address, uint64_t blocks);
/* Whether several files do, and for how many blocks from there that is the same. */
bool usage_bits_several(const struct usage_bits *b, uint16_t vdev, uint64_t address, uint64_t blocks, uint64_t *same);
void usage_bits_free(struct usage_bits *b);

/* Calls fn for each range in which the same pieces lie, with their owners. Sorts the pieces. 0, -ENOMEM, or what fn returned. */
typedef int (*usage_range_fn)(void *arg, uint16_t vdev, uint64_t address, uint64_t blocks, const uint32_t *owners, unsigned count);
int usage_ranges(struct usage_piece *pieces, size_t count, usage_range_fn fn, void *arg);

#endif
