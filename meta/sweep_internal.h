/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the sweep share: sweep.c chooses nodes, sweep_pass.c decides what becomes of records, sweep_apply.c does it. */
#ifndef NVFS_META_SWEEP_INTERNAL_H
#define NVFS_META_SWEEP_INTERNAL_H

#include "meta/nodes.h"
#include "meta/subvol_internal.h"

#define SWEEP_BATCH 128u /* records in one step: what a reactor does in one go */

/* What becomes of the record that the node has of a key. */
enum sweep_action {
	SWEEP_LEAVE,
	SWEEP_DROP,
	SWEEP_MOVE, /* to the sole child */
	SWEEP_TRIM, /* to what children inherit of it */
};

/* Values lie in the step's memory, by offset: it may move. */
struct sweep_value {
	size_t at, len; /* len 0: there is none */
};

struct sweep_item {
	enum db_cf cf;
	enum sweep_action action;
	bool child_goes;           /* the child's version hides nothing any more */
	size_t key_len;
	uint8_t key[KEY_MAX];      /* with the node */
	struct sweep_value own, child, trimmed;
};

struct sweep_step {
	struct sweep_item items[SWEEP_BATCH + 1]; /* the end of an inode may add one */
	unsigned count;
	uint8_t *bytes;
	size_t used, room;
	uint64_t epoch;            /* of the open child when it was read */
};

static inline const void *sweep_bytes(const struct sweep_step *st, const struct sweep_value *v)
{
	return st->bytes + v->at;
}

/*
 * A node below the one that is swept, with nothing but nodes without names between: what it sees of that one is needed. A node with a name is
 * needed itself, and says what those below it see.
 */
struct sweep_below {
	uint32_t id;
	int above;                  /* the index of its parent, or -1: the node that is swept */
	bool nameless;              /* and has children: nobody but those below it sees what it has */
	bool dead;                  /* has a whiteout of the inode that was last asked for */
	bool has;                   /* has a version of the key that is looked at: */
	struct sweep_value value;
	bool open;                  /* scratch: some that are below see through it */
	bool covered;               /* scratch: a node above it hides from it what is above */
};

/* A node without a name, and where its pass stands. The sweeper's thread only. */
struct sweep {
	struct sweeper *sw;
	struct pool *pool;
	struct db_batch *batch;
	uint32_t tree, node;
	struct node_rec rec;        /* has the cursor; its name is empty */
	uint32_t *ancestors;        /* of the node, without it; falling */
	unsigned ancestor_count;
	struct sweep_below *below;  /* rising: a node comes after those above it; of a sole child nobody but itself */
	unsigned below_count;
	unsigned child_count;
	uint32_t child;             /* the sole one, or 0 */
	bool tidy;                  /* the node is gone, and the child the first of its tree: whiteouts of the child are of no use */
	bool partial;               /* the pass began in the middle: it cannot be the last */
	uint64_t seen;              /* records of the node that this pass came to */
	uint64_t changed;           /* steps that changed something */
	uint8_t at[KEY_MAX];        /* where the pass goes on; the cursor in the record is for the next start */
	size_t at_len;              /* 0: by the cursor */
	uint64_t ino;               /* in `ns`: the inode whose records are being looked at, */
	bool ino_seen;              /* the node or an ancestor has records of it, */
	bool ino_hidden;            /* and the sole child has a whiteout of it, of no use when they are gone */
	uint64_t dead_ino;          /* the inode that was last asked for */
	struct db_iter *dead_iter;  /* of one call of sweep_read() */
	struct sweep_step step;
};

bool sweep_stopping(const struct sweep *s);

/* NULL when the node is none of those that the sweep asks. */
struct sweep_below *sweep_find_below(const struct sweep *s, uint32_t node);

/*
 * Read on and decide, up to SWEEP_BATCH records to change: s->step. 1 when the pass is not over, 0 at its end, -errno. admin_lock is held.
 */
int sweep_read(struct sweep *s);

/* A node without children: one batch. 1 when there may be more, 0 at the end, -errno. */
int sweep_leaf_step(struct sweep *s);

/*
 * Do it: in one batch, with counters, holders, the cursor, what the tenant and the pool count, and the memory of the child when it is open. 0,
 * -EINTR, -errno. admin_lock is held.
 */
int sweep_apply(struct sweep *s);

/*
 * The open subvolume that writes the sole child, or NULL; admin_lock is held. One that only reads needs no care: each of its lookups is of one
 * moment, and it keeps nothing that depends on which node a record is of.
 */
struct subvol *sweep_open_child(const struct sweep *s);

/* A batch of the sweeper's own thread: never in RocksDB's queue of writers, where those behind would wait as well. */
int sweep_write(struct sweep *s);

void sweep_set_cursor(struct sweep *s, enum sweep_family family, uint64_t ino, uint64_t position);

#endif
