/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A model of a pool with tenants, subvolumes, snapshots and clones: what each holds, and what each block and each inode's record is charged to.
 * It makes random steps in the pool and in memory, and says beforehand what will be refused, and with what.
 *
 * Whose a block is: each change gives it a new identity. Nodes that were one share identities, so what the tenant is charged for is the number
 * of different ones. While a node without a name stays between two children it may be more, until the sweep has looked again at what these wrote
 * over. It may always be more for what is compressed, where more than what was written becomes own.
 */
#ifndef NVFS_TESTS_UNIT_TREE_MODEL_H
#define NVFS_TESTS_UNIT_TREE_MODEL_H

#include "io/sim.h"
#include "meta/pool.h"
#include "meta/snapshot.h"
#include "meta/subvol.h"

#define TREE_TENANTS 3u
#define TREE_VOLUMES 6u
#define TREE_SNAPSHOTS 9u
#define TREE_FILES 7u
#define TREE_SLOTS 96u

enum tree_kind { TREE_PLAIN, TREE_WIDE, TREE_SMALL };

/* A block of a file; id 0: a hole. */
struct tree_slot {
	uint32_t id, content;
};

struct tree_file {
	uint32_t rec;              /* identity of its inode's record; 0: there is none */
	uint64_t ino;
	unsigned size;             /* slots; of a small file bytes */
	unsigned mode, xattr, links; /* xattr: bytes, 0 none; links: more names, in the directory */
	bool gone;                 /* has no name, and the kernel knows it */
	uint32_t small_id, content; /* of inline data; content: of the xattr, too */
	uint32_t xattr_content;
	struct tree_slot slots[TREE_SLOTS];
};

struct tree_node {
	bool there, reserved;
	unsigned tenant;
	uint32_t tree;             /* its family: what came of one subvolume */
	char volume[16], name[16]; /* name: of a snapshot */
	uint64_t size_blocks, inodes_max;
	uint32_t root_rec, dir_rec;
	uint64_t dir;
	struct tree_file files[TREE_FILES];
	struct subvol *sv;         /* of one that is open */
};

/* Limits of a tenant, 0: none. */
struct tree_tenant {
	uint64_t used, inodes, provisioned, subvolumes, snapshots;
	uint64_t soft;
	unsigned grace_days;       /* and half a day less */
	unsigned above_since;      /* the day when it passed the soft limit, from 1; 0: it is not above */
};

struct tree {
	struct tree_node volumes[TREE_VOLUMES], snapshots[TREE_SNAPSHOTS];
	struct tree_tenant tenants[TREE_TENANTS];
	uint64_t ballast;          /* blocks of an empty reserved subvolume of nobody's, which makes the pool small; 0: there is none */
	unsigned overcommit;       /* percent */
	unsigned today;            /* from 1 */
	unsigned names;
};

struct tree_options {
	long seed;
	bool threads;              /* reactors run on threads of their own */
	bool packs;                /* lz4 */
	bool limits;               /* small ones, often changed */
	bool stalls;               /* RocksDB refuses writes for a moment, now and then */
	bool thorough;             /* all is compared after each step */
};

extern struct tree tree;
extern struct pool *tree_pool;
extern struct device *tree_dev;

extern struct tree_options tree_opts;

void tree_begin(const struct tree_options *opts);
unsigned tree_pick(unsigned n);

/* One random change of data, names, limits or nodes. */
void tree_step(void);

/* At most one write or truncation of each file of one subvolume that is open, not all of them put. Its index, or -1. */
int tree_write_some(void);

/* The kinds of changes of the tree, and of limits. */
enum tree_change {
	TREE_SNAPSHOT, TREE_GROUP, TREE_CLONE, TREE_ROLLBACK, TREE_DELETE_SNAPSHOT, TREE_DELETE_VOLUME, TREE_LIMIT, TREE_RESIZE, TREE_CHANGES
};
void tree_change(enum tree_change what);

/* Background work has ended; with sync all is in RocksDB and durable. */
void tree_settle(void);
void tree_sync(void);

/* All that there is, against the model; counters; and (check) what fsck.nvfs says, and that the same is there when it is opened again. */
void tree_compare(bool check);

/* What is compared after each step: what is used, df, what tenants and the pool count; and some snapshot's contents. */
void tree_compare_step(void);
bool tree_file_is(struct subvol *sv, const struct tree_node *n, unsigned f);
struct subvol *tree_open(struct tree_node *n);

/* Close subvolumes and pool; open the pool of another device, which is what became of this one; close a device. Reactors do not have threads. */
void tree_leave(void);
void tree_enter(struct device *dev);
void tree_drop_device(struct device *dev);

/* Delete everything: nothing is held. */
void tree_delete_all(void);

/* That, then close, check. */
void tree_end(void);

/* Which limit refused how often since the program began; with all_kinds the test fails when one of them never did. */
void tree_print_refusals(bool all_kinds);

#endif
