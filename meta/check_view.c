/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What one node sees: of each record the version of the nearest ancestor, itself included. Versions
 * of a record lie side by side, newest first, and an ancestor's id is less than its descendants', so
 * the first version whose node is in the chain is the visible one.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "meta/check_internal.h"
#include "meta/lineage.h"

int check_view_init(struct check *c, struct check_node *node, struct check_view *view)
{
	uint32_t id = node->id;
	size_t n = 0, max = 0;

	*view = (struct check_view){ .check = c, .node = node };
	while (id) {
		const struct check_node *at = check_node_find(c, node->tree, id);
		uint32_t *slot;

		if (!at || at->parent >= id) {
			c->incomplete = true; /* reported with the nodes */
			return -EBADMSG;
		}
		slot = check_array_add((void **)&view->chain, &n, &max, sizeof(*slot));
		if (!slot)
			return -ENOMEM;
		*slot = id;
		id = at->parent;
	}
	view->nchain = n;
	return 0;
}

void check_view_free(struct check_view *view)
{
	free(view->chain);
	free(view->inodes.v);
}

struct versions {
	struct check_view *view;
	check_view_fn fn;
	void *arg;
	enum rec_family family;
	uint8_t last[KEY_MAX]; /* the last key whose visible version was found, without its node */
	size_t last_len;
};

static int version_step(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
	struct versions *v = arg;
	uint32_t node;

	if (key_len < 5 || key_len > KEY_MAX)
		return 0;
	node = ~get_be32((const uint8_t *)key + key_len - 4);
	if (key_len - 4 == v->last_len && !memcmp(key, v->last, v->last_len))
		return 0;
	if (!lineage_has(v->view->chain, v->view->nchain, node))
		return 0;
	v->last_len = key_len - 4;
	memcpy(v->last, key, v->last_len);
	if (is_whiteout(value, len) && v->family == REC_FAMILY_NS &&
	    ((const uint8_t *)key)[KEY_NS_PREFIX_LEN - 1] != REC_INODE)
		return 0;
	return v->fn(v->arg, key, key_len, node, value, len);
}

int check_view_each(struct check_view *view, enum db_cf cf, const char *what, const void *prefix,
		    size_t prefix_len, check_view_fn fn, void *arg)
{
	struct versions v = { .view = view, .fn = fn, .arg = arg,
			      .family = cf == DB_NS ? REC_FAMILY_NS : REC_FAMILY_MAP };
	uint8_t tree[4];

	if (prefix)
		return check_each(view->check, cf, what, prefix, prefix_len, version_step, &v);
	put_be32(tree, view->node->tree);
	return check_each(view->check, cf, what, tree, sizeof(tree), version_step, &v);
}

static int inode_cmp(const void *key, const void *element)
{
	const uint64_t *ino = key;
	const struct check_inode *i = element;

	return (*ino > i->ino) - (*ino < i->ino);
}

struct check_inode *check_inode_find(const struct check_view *view, uint64_t ino)
{
	if (!view->inodes.n)
		return NULL;
	return bsearch(&ino, view->inodes.v, view->inodes.n, sizeof(*view->inodes.v), inode_cmp);
}

/* ---- paths ---- */

struct name_search {
	uint64_t ino;
	char name[NAME_BYTES_MAX + 1];
	bool found;
};

static int name_step(void *arg, const void *key, size_t key_len, uint32_t from, const void *value,
		     size_t len)
{
	struct name_search *s = arg;
	struct dirent_rec rec;

	(void)key, (void)key_len, (void)from;
	if (dirent_rec_decode(value, len, &rec) < 0 || rec.ino != s->ino)
		return 0;
	memcpy(s->name, rec.name, rec.name_len);
	s->name[rec.name_len] = 0;
	s->found = true;
	return 1;
}

/* The parent by the record of the inode, which need not be in view->inodes. */
static int inode_parent_step(void *arg, const void *key, size_t key_len, uint32_t from,
			     const void *value, size_t len)
{
	struct inode_rec rec;

	(void)key, (void)key_len, (void)from;
	if (inode_rec_decode(value, len, &rec) == 0)
		*(uint64_t *)arg = rec.parent;
	return 1;
}

static uint64_t parent_of(struct check_view *view, uint64_t ino)
{
	uint8_t prefix[KEY_MAX];
	uint64_t parent = 0;
	const size_t len = key_ns_prefix(prefix, view->node->tree, ino, REC_INODE);

	check_view_each(view, DB_NS, "paths", prefix, len, inode_parent_step, &parent);
	return parent;
}

static char *prepend(char *path, const char *name)
{
	const size_t need = strlen(name) + strlen(path) + 2;
	char *longer = malloc(need);

	if (longer)
		snprintf(longer, need, "%s%s%s", name, *path ? "/" : "", path);
	free(path);
	return longer;
}

char *check_path(struct check_view *view, uint64_t ino)
{
	char *path = strdup("");

	for (unsigned depth = 0; path && ino != INO_ROOT; depth++) {
		struct name_search s = { .ino = ino };
		const uint64_t parent = parent_of(view, ino);
		uint8_t prefix[KEY_MAX];

		if (parent && depth < 2048)
			check_view_each(view, DB_NS, "paths", prefix,
					key_ns_prefix(prefix, view->node->tree, parent, REC_DIRENT),
					name_step, &s);
		if (!s.found) {
			snprintf(s.name, sizeof(s.name), "(inode %" PRIu64 ")", ino);
			return prepend(path, s.name);
		}
		path = prepend(path, s.name);
		ino = parent;
	}
	return path ? prepend(path, "") : NULL;
}
