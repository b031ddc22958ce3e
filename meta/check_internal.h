/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the check share; check.c opens with the order of things. One thread. */
#ifndef NVFS_META_CHECK_INTERNAL_H
#define NVFS_META_CHECK_INTERNAL_H

#include "meta/check.h"
#include "meta/db.h"
#include "meta/label.h"
#include "meta/metafs.h"
#include "meta/records.h"
#include "meta/space.h"

/* A node of a tree, with what its counters should be. */
struct check_node {
	uint32_t tree, id, parent, subvol, tenant;
	uint8_t state;
	bool named; /* a subvolume's live node */
	bool untidy; /* what hides nothing is still to go: it became the first of its tree, or goes itself */
	uint64_t first_ino;
	uint64_t last_ino; /* the highest that it has a record of */
	struct counters_rec stored, counted;
	int64_t referenced_left; /* referenced, if of inodes being reaped only what they still map counts */
	uint16_t view;
	char name[NAME_BYTES_MAX + 1]; /* of a snapshot */
};

struct check_subvol {
	uint32_t id, tree, node, tenant;
	uint16_t flags;
	bool indexed; /* its name leads to it */
	uint64_t size_blocks, inodes_max;
	char name[NAME_BYTES_MAX + 1];
};

struct check_tenant {
	uint32_t id;
	bool indexed;
	char name[NAME_BYTES_MAX + 1];
};

struct check_tree {
	uint32_t id;
	uint64_t next_ino;
};

#define CHECK_ARRAY(type)   \
	struct {            \
		type *v;    \
		size_t n, max; \
	}

enum check_inode_flags {
	CHECK_ORPHAN = 1 << 0,
	CHECK_REAPING = 1 << 1,
	CHECK_HAS_SIZE = 1 << 2,
	CHECK_INLINE = 1 << 3,
	CHECK_HAS_CUTS = 1 << 4,
	CHECK_REACHED = 1 << 5, /* the way up from this directory leads to the root */
};

/* An inode as one node sees it. 56 bytes: there may be millions. */
struct check_inode {
	uint64_t ino;
	uint64_t parent;
	uint64_t size_blocks; /* S.blocks */
	uint64_t mapped;      /* blocks that its visible map records map */
	uint32_t nlink;
	uint32_t refs;        /* entries that lead to it */
	uint32_t subdirs;
	uint16_t mode;
	uint8_t flags;
	uint32_t from;        /* the node that wrote its record */
};

/* A node, and its ancestors from the newest on. */
struct check_view {
	struct check *check;
	struct check_node *node;
	uint32_t *chain;
	unsigned nchain;
	CHECK_ARRAY(struct check_inode) inodes; /* by number */
};

/* One of the two file tables of a member. */
struct check_slot {
	int error;           /* 0, -ENOENT: a new pool's; -EBADMSG or -EIO, and why says more */
	uint64_t generation; /* where error is 0 */
	char why[200];
};

struct check {
	struct check_options options;
	struct check_result result;
	struct device *devices[LABEL_DEVICES_MAX]; /* by index */
	struct label labels[LABEL_DEVICES_MAX];
	struct label_found copies[LABEL_DEVICES_MAX]; /* of the labels */
	struct check_slot slots[LABEL_DEVICES_MAX][2]; /* as found */
	struct check_slot slots_now[LABEL_DEVICES_MAX][2];
	unsigned ndevices;
	struct metafs *metafs;
	struct db *db;
	struct space *holders; /* of each block, counted */
	struct pool_rec pool;
	bool has_pool;
	struct db_batch *fixes;
	uint64_t fixed_round, found_round;
	bool own_progress; /* the pass itself says how far it is */
	bool incomplete; /* something could not be read: what is counted is too little */
	uint64_t *seen;  /* hashes of the lines that were printed */
	size_t nseen, seen_max;

	CHECK_ARRAY(struct check_node) nodes;     /* by tree, id */
	CHECK_ARRAY(struct check_subvol) subvols; /* by id */
	CHECK_ARRAY(struct check_tenant) tenants; /* by id */
	CHECK_ARRAY(struct check_tree) trees;     /* by id */
};

/* ---- check.c ---- */

/* NULL without memory. */
struct check *check_new(const struct check_options *options);
/* Closes what was opened, but not the devices. NULL is fine. */
void check_free(struct check *c);
/* metafs and RocksDB, after check_labels(). 0 or -errno, reported. */
int check_open_metadata(struct check *c);

/*
 * Report a problem. fixable: the caller can repair it. True when it shall, by adding to c->fixes.
 */
bool check_found(struct check *c, bool fixable, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Report something that is worth a line and no problem. */
void check_note(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void check_progress(struct check *c, const char *what, uint64_t done, uint64_t total);

/* Write the fixes if they have become many, or `all`. 0 or -errno. */
int check_write_fixes(struct check *c, bool all);

/* Room for one more in a CHECK_ARRAY; returns its new last element, zeroed, or NULL. */
void *check_array_add(void **v, size_t *n, size_t *max, size_t size);
#define CHECK_ADD(array) \
	check_array_add((void **)&(array).v, &(array).n, &(array).max, sizeof(*(array).v))

struct check_node *check_node_find(struct check *c, uint32_t tree, uint32_t id);
struct check_tree *check_tree_find(struct check *c, uint32_t tree);
struct check_subvol *check_subvol_find(struct check *c, uint32_t id);
struct check_tenant *check_tenant_find(struct check *c, uint32_t id);

/* "subvolume NAME" or "tree T node N", for messages; a static buffer. */
const char *check_node_name(struct check *c, uint32_t tree, uint32_t node);

/* Whether a sequence of the pool may have been given by now: not one of a start to come. */
bool check_sequence_given(const struct check *c, uint64_t sequence);

/* A whole entry that is malformed, as a problem. */
void check_malformed(struct check *c, enum rec_family family, const void *key, size_t key_len,
		     const void *value, size_t value_len);

/*
 * fn for every entry of a column family from key `from` (NULL: all) with this prefix. fn returns 0 to go on. 0, what fn
 * returned, or -EIO: then it was reported, and c->incomplete is set.
 */
typedef int (*check_fn)(void *arg, const void *key, size_t key_len, const void *value,
			size_t value_len);
int check_each(struct check *c, enum db_cf cf, const char *what, const void *prefix,
	       size_t prefix_len, check_fn fn, void *arg);

/* ---- check_devices.c ---- */

/*
 * Sort out the members by their labels, and check both copies; those of a pool that is not whole stay as they are. 0 or
 * -errno, reported.
 */
int check_labels(struct check *c, struct device **devices, unsigned count);
/*
 * Both slots of the file table on all devices. 0 or -errno, reported. When they shall be repaired, what was found is not yet reported:
 * opening the pool does it.
 */
int check_tables(struct check *c);
/* What check_tables() found; renew_first has new tables written, and those that are good then count as repaired. */
void check_tables_report(struct check *c, bool renew_first);

/* ---- check_sys.c ---- */

/* Load `sys` and check it. */
int check_sys(struct check *c);
/* The index of a subvolume's or tenant's name, as a fix. */
void check_put_name(struct check *c, uint8_t type, const char *name, uint32_t id);
/* After all records of `ns` and `map` were met: where each node's own numbers begin. */
void check_first_inodes(struct check *c);
/* After everything was counted: counters, limits, claims. */
void check_counters(struct check *c);

/* ---- check_owners.c ---- */

/* Once `sys` is loaded: whose each subvolume and node is, names and numbers that two have. 0 or -ENOMEM. */
int check_owners(struct check *c);

/* ---- check_view.c ---- */

/* 0, or -ENOMEM or -EBADMSG (reported). */
int check_view_init(struct check *c, struct check_node *node, struct check_view *view);
void check_view_free(struct check_view *view);

/* As check_each() for what the node sees: no whiteouts; from is the node that wrote the version. */
typedef int (*check_view_fn)(void *arg, const void *key, size_t key_len, uint32_t from,
			     const void *value, size_t value_len);
int check_view_each(struct check_view *view, enum db_cf cf, const char *what, const void *prefix,
		    size_t prefix_len, check_view_fn fn, void *arg);

struct check_inode *check_inode_find(const struct check_view *view, uint64_t ino);

/* The path of an inode, or as much of it as can be told; malloc'ed or NULL. */
char *check_path(struct check_view *view, uint64_t ino);

/* ---- check_ns.c, check_inodes.c ---- */

/* Every record by itself, and what it adds to its node's counters. */
int check_ns_records(struct check *c);
/* What a node sees: inodes, entries, links, orphans, cuts. */
int check_ns_view(struct check_view *view);
/* After the entries and the maps were counted. */
int check_inodes(struct check_view *view);

/* ---- check_map.c ---- */

int check_map_records(struct check *c);
int check_map_view(struct check_view *view);
/* Holders as counted against `space`. */
int check_space(struct check *c);

/* ---- check_data.c ---- */

int check_data(struct check *c);

#endif
