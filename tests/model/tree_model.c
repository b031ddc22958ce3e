/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "tree_model.h"

#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tree tree;

/* Any byte but zero and the slash; not a name of dots. */
static void random_name(char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		do
			name[i] = (char)(1 + model_below(255));
		while (name[i] == '/');
	if (name[0] == '.')
		name[0] = ',';
	name[len] = 0;
}

static size_t name_length(int i)
{
	if (i % 10 == 0)
		return TREE_NAME_MAX;
	if (i % 10 == 1)
		return 100 + model_below(155);
	return 3 + model_below(20);
}

void tree_make_names(void)
{
	for (int i = 0; i < TREE_NAMES; i++) {
		if (i % 3 == 2)
			random_name(tree.names[i], name_length(i));
		else
			snprintf(tree.names[i], sizeof(tree.names[i]), "name-%d%s", i, i % 2 ? ".txt" : "");
		if (i % 10 == 0) {
			memset(tree.names[i], 'a' + i / 10 % 26, TREE_NAME_MAX);
			snprintf(tree.names[i] + 200, 56, "%055d", i);
		}
	}
	for (int i = 0; i < TREE_XATTRS; i++) {
		int n = snprintf(tree.xattrs[i], sizeof(tree.xattrs[i]), "%s.x%d", tree.root && i % 3 == 2 ? "trusted" : "user", i);

		if (i % 4 == 3) {
			memset(tree.xattrs[i] + n, 'y', TREE_NAME_MAX - (size_t)n);
			tree.xattrs[i][TREE_NAME_MAX - (i == 7)] = 0;
		}
	}
}

static void list_node(struct node *n)
{
	if (tree.count == tree.room) {
		tree.room = tree.room ? 2 * tree.room : 256;
		tree.all = realloc(tree.all, tree.room * sizeof(*tree.all));
		if (!tree.all)
			model_fail("no memory");
	}
	n->all_index = tree.count;
	tree.all[tree.count++] = n;
}

static void unlist_node(struct node *n)
{
	if (n->all_index == SIZE_MAX)
		return;
	tree.all[n->all_index] = tree.all[--tree.count];
	tree.all[n->all_index]->all_index = n->all_index;
	n->all_index = SIZE_MAX;
}

struct node *tree_new_node(struct node *dir, mode_t mode)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		model_fail("no memory");
	n->mode = mode;
	n->uid = tree.uid;
	n->gid = dir && (dir->mode & S_ISGID) ? dir->gid : tree.gid;
	if (dir && (dir->mode & S_ISGID) && S_ISDIR(mode))
		n->mode |= S_ISGID;
	n->name = -1;
	n->all_index = SIZE_MAX;
	if (S_ISDIR(mode))
		n->nlink = 2;
	return n;
}

void tree_free_node(struct node *n)
{
	for (unsigned i = 0; i < tree.orphan_count; i++)
		if (tree.orphans[i].node == n)
			return;
	unlist_node(n);
	free(n->entries);
	free(n);
}

struct entry *tree_find(struct node *dir, int name)
{
	for (size_t i = 0; i < dir->entry_count; i++)
		if (dir->entries[i].name == name)
			return &dir->entries[i];
	return NULL;
}

void tree_put(struct node *dir, struct entry *e, struct node *n)
{
	e->node = n;
	if (S_ISDIR(n->mode)) {
		/* Whether the change of ".." is one of the content is the filesystem's choice. */
		if (n->parent != dir)
			n->mtime_known = false;
		n->parent = dir;
		n->name = e->name;
	}
}

void tree_add(struct node *dir, int name, struct node *n)
{
	if (dir->entry_count == dir->entry_room) {
		dir->entry_room = dir->entry_room ? 2 * dir->entry_room : 8;
		dir->entries = realloc(dir->entries, dir->entry_room * sizeof(*dir->entries));
		if (!dir->entries)
			model_fail("no memory");
	}
	dir->entries[dir->entry_count].name = name;
	tree_put(dir, &dir->entries[dir->entry_count++], n);
	if (S_ISDIR(n->mode))
		dir->nlink++;
	else
		n->nlink++;
	if (n->all_index == SIZE_MAX)
		list_node(n);
	dir->mtime_known = false;
}

struct node *tree_remove(struct node *dir, int name)
{
	struct entry *e = tree_find(dir, name);
	struct node *n = e->node;

	*e = dir->entries[--dir->entry_count];
	if (S_ISDIR(n->mode)) {
		dir->nlink--;
		unlist_node(n);
	} else if (--n->nlink == 0) {
		unlist_node(n);
	}
	dir->mtime_known = false;
	return n;
}

bool tree_is_above(const struct node *a, const struct node *b)
{
	for (; b; b = b->parent)
		if (a == b)
			return true;
	return false;
}

unsigned tree_depth(const struct node *dir)
{
	unsigned depth = 0;

	for (; dir->parent; dir = dir->parent)
		depth++;
	return depth;
}

unsigned tree_height(const struct node *dir)
{
	unsigned height = 0;

	for (size_t i = 0; i < dir->entry_count; i++)
		if (S_ISDIR(dir->entries[i].node->mode)) {
			unsigned h = 1 + tree_height(dir->entries[i].node);

			height = h > height ? h : height;
		}
	return height;
}

unsigned tree_subdirs(const struct node *dir)
{
	unsigned n = 0;

	for (size_t i = 0; i < dir->entry_count; i++)
		n += S_ISDIR(dir->entries[i].node->mode);
	return n;
}

static size_t dir_path(char *buf, const struct node *dir)
{
	size_t n;

	if (dir->name < 0)
		return (size_t)snprintf(buf, TREE_PATH_MAX, "%s", tree.dir);
	n = dir_path(buf, dir->parent);
	return n + (size_t)snprintf(buf + n, TREE_PATH_MAX - n, "/%s", tree.names[dir->name]);
}

const char *tree_path(const struct node *dir, int name)
{
	static char paths[4][TREE_PATH_MAX];
	static unsigned next;
	char *buf = paths[next++ % 4];
	size_t n = dir_path(buf, dir);

	if (name >= 0)
		snprintf(buf + n, TREE_PATH_MAX - n, "/%s", tree.names[name]);
	return buf;
}

const char *tree_show(int name)
{
	static char shown[4][48];
	static unsigned next;
	char *buf = shown[next++ % 4];
	size_t n;

	if (name < 0)
		return "(root)";
	n = (size_t)snprintf(buf, 48, "<%d:", name);
	for (const char *p = tree.names[name]; *p && n < 30; p++)
		buf[n++] = *p > ' ' && *p < 127 ? *p : '?';
	snprintf(buf + n, 48 - n, "%s>", strlen(tree.names[name]) > 24 ? "..." : "");
	return buf;
}

void tree_bytes(uint8_t *buf, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)((seed + 1) * (i / 7 + 3) + i * 31 + (seed >> 8));
}

void tree_target(char *buf, size_t len, uint64_t seed)
{
	tree_bytes((uint8_t *)buf, len, seed);
	for (size_t i = 0; i < len; i++)
		if (!buf[i] || (i == 0 && buf[i] == '/'))
			buf[i] = 't';
	buf[len] = 0;
}
