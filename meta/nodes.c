/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/nodes.h"
#include "meta/sysrec.h"

static int add(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct nodes *nodes = arg;
	struct node_entry *n;

	if (nodes->count == nodes->room) {
		const size_t room = nodes->room ? nodes->room * 2 : 64;
		struct node_entry *v = realloc(nodes->v, room * sizeof(*v));

		if (!v)
			return -ENOMEM;
		nodes->v = v;
		nodes->room = room;
	}
	n = &nodes->v[nodes->count];
	*n = (struct node_entry){ .tree = key->id, .id = key->node };
	if (node_rec_decode(value, len, &n->rec))
		return -EBADMSG;
	n->name = strndup(n->rec.name_len ? n->rec.name : "", n->rec.name_len);
	if (!n->name)
		return -ENOMEM;
	n->rec.name = n->name;
	nodes->count++;
	return 0;
}

int nodes_load(struct db *db, struct nodes *out)
{
	return nodes_load_at(db, NULL, out);
}

int nodes_load_at(struct db *db, const struct db_snapshot *at, struct nodes *out)
{
	int r = sysrec_each_at(db, at, REC_NODE, add, out);

	for (size_t i = 0; !r && i < out->count; i++) {
		struct node_entry *n = &out->v[i], *parent = nodes_find(out, n->tree, n->rec.parent);

		if (!parent)
			continue;
		parent->children++;
		n->depth = parent->depth + 1; /* older, so it came by before */
	}
	return r;
}

void nodes_free(struct nodes *nodes)
{
	for (size_t i = 0; i < nodes->count; i++)
		free(nodes->v[i].name);
	free(nodes->v);
	*nodes = (struct nodes){ 0 };
}

static int compare(const void *a, const void *b)
{
	const struct node_entry *x = a, *y = b;

	return x->tree != y->tree ? (x->tree > y->tree) - (x->tree < y->tree) : (x->id > y->id) - (x->id < y->id);
}

struct node_entry *nodes_find(const struct nodes *nodes, uint32_t tree, uint32_t id)
{
	const struct node_entry key = { .tree = tree, .id = id };

	return nodes->count ? bsearch(&key, nodes->v, nodes->count, sizeof(key), compare) : NULL;
}

struct node_entry *nodes_child(const struct nodes *nodes, const struct node_entry *of)
{
	for (size_t i = 0; i < nodes->count; i++)
		if (nodes->v[i].tree == of->tree && nodes->v[i].rec.parent == of->id)
			return &nodes->v[i];
	return NULL;
}
