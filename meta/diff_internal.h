/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of a diff share; diff.c opens with the order of things. One thread. */
#ifndef NVFS_META_DIFF_INTERNAL_H
#define NVFS_META_DIFF_INTERNAL_H

#include "meta/diff.h"
#include "meta/grow.h"
#include "meta/moment.h"

/* The two views: from, to. As bits: DIFF_IN(FROM). */
enum { FROM, TO, VIEWS };
#define DIFF_IN(view) (1u << (view))

enum diff_inode_flags {
	DIFF_LOADED = 1 << 0,  /* its record was looked at in both views */
	DIFF_NAMES = 1 << 1,   /* a name of it came or went */
	DIFF_HOLDER = 1 << 2,  /* a directory, perhaps, whose entries are wanted */
	DIFF_SCANNED = 1 << 3, /* they were looked at */
	DIFF_LACKING = 1 << 4, /* names of it are in other directories */
	DIFF_LATE = 1 << 5,    /* came when entries had been looked at */
};

/* An inode that changed, or that is on the way to one. 64 bytes. */
struct diff_inode {
	uint64_t ino;
	uint64_t parent[VIEWS];
	uint32_t nlink[VIEWS];
	uint32_t found[VIEWS];  /* names */
	uint32_t name[VIEWS];   /* of a directory: index + 1 of its name */
	uint16_t mode;
	uint8_t in;    /* views that have it */
	uint8_t what;  /* enum diff_what */
	uint8_t flags; /* enum diff_inode_flags */
};

struct diff_name {
	uint64_t ino, dir;
	uint32_t at;  /* its bytes in the table */
	uint8_t len;
	uint8_t in;
};

struct diff_table {
	struct diff_inode *inodes;
	uint32_t *slots; /* index + 1, by the inode's number */
	size_t count, room, nslots;
	struct diff_name *names;
	size_t nnames, names_room;
	char *bytes;
	size_t nbytes, bytes_room;
};

/* Pointers are good until the next one is added. NULL when it is not there, or without memory. */
struct diff_inode *diff_inode_find(const struct diff_table *t, uint64_t ino);
struct diff_inode *diff_inode_get(struct diff_table *t, uint64_t ino);
int diff_name_add(struct diff_table *t, uint64_t ino, uint64_t dir, const char *name, size_t len, unsigned in);
void diff_table_free(struct diff_table *t);

/* ---- diff_scan.c ---- */

/* What a view sees of a record. */
struct diff_seen {
	uint32_t node;  /* that wrote it; 0: it sees none */
	uint8_t *value; /* NULL where both see the same and nobody wanted it */
	size_t len, room;
};

/* Two views of one tree. */
struct diff_views {
	struct moment *m;
	uint32_t tree;
	uint32_t *lineage[VIEWS];
	unsigned generations[VIEWS];
};

struct diff_scan;

/* key: with a node at its end. 0 to go on. */
typedef int (*diff_scan_fn)(void *arg, const uint8_t *key, size_t key_len, const struct diff_seen seen[VIEWS]);

/* Zero it, with views, cf and what is called. */
struct diff_scan {
	const struct diff_views *views;
	enum db_cf cf;
	diff_scan_fn fn;
	/* Whether to call fn for a key of which both see the same version; NULL: never. */
	bool (*want_same)(void *arg, const uint8_t *key, size_t key_len);
	void *arg;
	uint64_t done, total; /* of the progress, before this scan and of all; total 0: it tells nothing */

	struct moment_scan scan;
	struct diff_seen seen[VIEWS];
	uint8_t key[KEY_MAX];
	size_t key_len;
};

/* All keys with this prefix, which begins with the tree. May be called again with another. */
int diff_scan_run(struct diff_scan *s, const uint8_t *prefix, size_t prefix_len);
/* One record, by its key without node: s->seen. */
int diff_scan_get(struct diff_scan *s, const uint8_t *key, size_t len);
void diff_scan_end(struct diff_scan *s);

/* ---- diff_paths.c ---- */

/* What to tell of the inodes and names in the table. */
int diff_tell(struct diff_table *t, int (*fn)(void *arg, const struct diff_change *change), void *arg);

#endif
