/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef TESTS_MODEL_TREE_MODEL_H
#define TESTS_MODEL_TREE_MODEL_H
/*
 * A filesystem's names in memory: what nvfs-tree believes is there. Nothing here touches a real file.
 *
 * Names come from a fixed pool (made from the seed), so that they meet again; they are held as index into it. Contents
 * and xattr values are held as seed and length. What the filesystem chooses itself (inode number, mtime of now) is
 * learnt when first seen and must stay so.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define TREE_NAMES 300
#define TREE_XATTRS 12
#define TREE_NAME_MAX 255
#define TREE_PATH_MAX 4096
#define TREE_DEPTH_MAX 12

struct node;

struct entry {
	int name;
	struct node *node;
};

struct xattr {
	int name;
	uint64_t seed;
	size_t len;
};

struct node {
	mode_t mode;
	uid_t uid;
	gid_t gid;
	unsigned nlink;
	dev_t rdev;
	uint64_t seed; /* of a file's content or a symlink's target */
	size_t len;
	bool ino_known, mtime_known;
	ino_t ino;
	struct timespec mtime;
	struct xattr xattrs[TREE_XATTRS];
	unsigned xattr_count;
	/* directories */
	struct node *parent;
	int name; /* in the parent; -1 for the root */
	struct entry *entries;
	size_t entry_count, entry_room;
	size_t all_index; /* place in tree.all */
};

/* An unlinked file that is still open. */
struct orphan {
	int fd;
	struct node *node;
};

#define TREE_ORPHANS 64

extern struct tree {
	char dir[1024]; /* where the root is */
	char names[TREE_NAMES][TREE_NAME_MAX + 1];
	char xattrs[TREE_XATTRS][TREE_NAME_MAX + 1];
	bool root; /* privileged */
	uid_t uid;
	gid_t gid;
	struct node *top;
	struct node **all; /* every node with a name, the root first */
	size_t count, room;
	struct orphan orphans[TREE_ORPHANS];
	unsigned orphan_count;
} tree;

void tree_make_names(void);
struct node *tree_new_node(struct node *dir, mode_t mode);
/* Frees what has neither a name nor a descriptor. */
void tree_free_node(struct node *n);

struct entry *tree_find(struct node *dir, int name);
void tree_add(struct node *dir, int name, struct node *n);
/* Takes the name away; the node stays, with one link less. */
struct node *tree_remove(struct node *dir, int name);
/* Puts N under an existing name, without link counts other than a directory's parents. */
void tree_put(struct node *dir, struct entry *e, struct node *n);
/* True if A is B or above it. */
bool tree_is_above(const struct node *a, const struct node *b);
unsigned tree_depth(const struct node *dir);
unsigned tree_height(const struct node *dir);
unsigned tree_subdirs(const struct node *dir);

/* Path of NAME in DIR (name -1: of DIR itself); one of a few static buffers. */
const char *tree_path(const struct node *dir, int name);
/* A printable form of a pool name. */
const char *tree_show(int name);

/* Bytes of a content; of a symlink's target (never zero, never a slash first). */
void tree_bytes(uint8_t *buf, size_t len, uint64_t seed);
void tree_target(char *buf, size_t len, uint64_t seed);

/* ---- tree_check.c: the model against the filesystem; model_fail on a difference ---- */

void tree_check_entry(struct node *dir, const struct entry *e);
void tree_check_dir(struct node *dir);
void tree_check_orphan(const struct orphan *o);
void tree_check_all(void);

#endif
